"""`Preparer`: raw rows of each round, from the source to the pipeline that learns them, and what is kept until the next."""

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from beam_ml.beam.job.job import Job
from beam_ml.beam.rounds.prepare.kept import PAYLOAD, Kept, decode_kept, encode_kept, nothing_kept
from beam_ml.beam.rounds.prepare.predictions import Scorer, deliver, put_predictions
from beam_ml.beam.rounds.prepare.reading import PreparedPlan, read_raw
from beam_ml.beam.rounds.prepare.slices import prepared_in_slices
from beam_ml.beam.rounds.prepare.step import Arrived, Prepared, arrived, prepare
from beam_ml.beam.rounds.source import RoundPlan, RoundSource
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.core.rejects import Reject
from beam_ml.errors import InvalidValue, SourceError
from beam_ml.formats.block import Block
from beam_ml.registry import Manifest, Registry

__all__ = ["BEYOND", "Preparer", "Turn", "carriers", "refuse_prepared", "refuse_unprepared"]

BEYOND = "beyond"
"""Key in a version's facts: places that a stream has read behind the first one that it has not, by topic and partition."""
_ROWS = 65_536
"""Rows of a block that is learned."""


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """A round of raw rows that has been prepared and not been published.

    Attributes:
        plan: over the prepared rows.
        blocks: which the round's pipeline is to find in memory.
        kept: if the round is published.
        facts: what the manifest says of it.
    """

    plan: PreparedPlan
    blocks: tuple[Block, ...]
    kept: Kept
    facts: dict[str, Any]


class Preparer:
    """Prepares the raw rows of one trainer's rounds.

    Args:
        job: the deployment.
        registry: where versions are: what was kept is read from the one that training resumes from.
        version: its number; None: training begins.
        reports: the source of reports; None: labels are in the rows.
        options: Beam options of the pipelines that read.

    Raises:
        InvalidValue: what was kept is of other settings.
        CorruptArtefact, VersionNotFound: it cannot be read.
    """

    def __init__(
        self, job: Job, registry: Registry, version: int | None, reports: RoundSource | None, options: Sequence[str]
    ) -> None:
        self._job, self._registry, self._reports, self._options = job, registry, reports, options
        self._scorer = None if job.predictions is None else Scorer(job, registry)
        if version is None:
            self.kept, self._facts = nothing_kept(job), dict[str, Any]()
            return
        refuse_unprepared(job, registry, version)
        manifest = registry.manifest(job.name, version)
        _refuse_beyond(job, manifest)
        self.kept = decode_kept(job, registry.read(job.name, version, PAYLOAD))
        self._facts = dict(manifest.extra[PAYLOAD])
        deliver(job, registry, manifest)

    def turn(self, plan: RoundPlan, learner: Learner, round_id: str) -> Turn:
        """Read what a plan says, and the reports up to the same time; prepare what lies before the clock.

        Args:
            plan: of the rows.
            learner: before the round.
            round_id: of this attempt.
        """
        job = self._job
        blocks = read_raw(plan, job.raw_columns, f"{round_id}/rows", self._options)
        came = arrived(job, self.kept, blocks, time.time_ns() // 1000)
        done, lost = self._prepared(learner, came, round_id)
        facts = {**self._told(done), **self._predicted(done, round_id)}
        rejected = carriers(done.rejected, job.features.columns())
        n_rejected = sum(map(len, done.rejected))
        made = PreparedPlan(plan, done.rows, n_rejected, lost)
        return Turn(made, (*_pieces(done.rows), *rejected), done.kept, facts)

    def _prepared(self, learner: Learner, came: Arrived, round_id: str) -> tuple[Prepared, Progress]:
        """Return what lies before the clock, and what of the reports is given up."""
        if self._reports is None:
            return prepare(self._job, self.kept, came, ()), Progress()
        key = f"{round_id}/reports"
        return prepared_in_slices(self._job, self._reports, learner, self.kept, came, key, self._options)

    def _told(self, done: Prepared) -> dict[str, Any]:
        """Return the counts so far of what became of reports and the rows that waited for them."""
        before: Counter[str] = Counter(self._facts.get("labels", {}))
        return {"waiting": done.kept.n_waiting, "labels": dict(sorted((before + done.counts).items()))}

    def _predicted(self, done: Prepared, round_id: str) -> dict[str, Any]:
        if self._scorer is None:
            return {}
        rows, scored, not_scored = self._scorer.score(done.featured)
        if rows is not None:
            put_predictions(self._job, self._registry, round_id, rows)
        before: Counter[str] = Counter(self._facts.get("predictions", {}))
        return {"predictions": dict(before + Counter({"scored": scored, "not scored": not_scored}))}

    def is_transient(self, error: SourceError) -> bool:
        """Return whether an error of the reports is worth another attempt at the round."""
        return self._reports is not None and self._reports.is_transient(error)

    def payloads(self, turn: Turn | None) -> dict[str, bytes]:
        """Return what is kept, as a file of the version.

        Args:
            turn: of the round that is published; None: no round, and nothing has changed.
        """
        return {PAYLOAD: encode_kept(self._job, self.kept if turn is None else turn.kept)}

    def facts(self, turn: Turn | None) -> dict[str, Any]:
        """Return what the manifest says of raw rows."""
        return {PAYLOAD: self._facts if turn is None else turn.facts}

    def published(self, turn: Turn | None, manifest: Manifest) -> None:
        """Take note that a version has been published, and deliver its predictions."""
        if turn is not None:
            self.kept, self._facts = turn.kept, turn.facts
        deliver(self._job, self._registry, manifest)


def refuse_prepared(job: Job, registry: Registry, version: int | None) -> None:
    """Refuse a job without raw rows that resumes from a version with them: the rows that wait would be lost.

    Raises:
        InvalidValue: the version keeps raw rows.
    """
    if version is not None and PAYLOAD in registry.manifest(job.name, version).extra:
        message = (
            f"job.rolling, job.labels or job.predictions must be given, as when version {version} of {job.name} was "
            "trained: it keeps rows that wait (another name starts afresh)."
        )
        raise InvalidValue(message)


def refuse_unprepared(job: Job, registry: Registry, version: int | None) -> None:
    """Refuse a job of raw rows that resumes from a version without them.

    Raises:
        InvalidValue: the version keeps none.
    """
    if version is not None and PAYLOAD not in registry.manifest(job.name, version).extra:
        message = (
            f"job.rolling, job.labels and job.predictions must be left out, as when version {version} of {job.name} was "
            "trained (another name starts afresh)."
        )
        raise InvalidValue(message)


def _refuse_beyond(job: Job, manifest: Manifest) -> None:
    """Refuse a version of a stream that had read part of a topic behind what it had not: rounds would read it twice."""
    if BEYOND in manifest.extra[PAYLOAD]:
        message = (
            f"version {manifest.number} of {job.name} must be continued by a stream, which had read messages behind some "
            "that it had not (run beam-ml stream until its next version)."
        )
        raise InvalidValue(message)


def _pieces(rows: Block) -> list[Block]:
    """Cut prepared rows into blocks."""
    found = []
    for at in range(0, len(rows), _ROWS):
        n = min(_ROWS, len(rows) - at)
        assert rows.position is not None  # noqa: S101 prepared rows are counted
        first = rows.start + at
        found.append(
            rows.replace(
                batch=rows.batch.slice(at, n), position=rows.position[at : at + n], start=first, stop=first + n
            )
        )
    return found


def carriers(rejected: Sequence[Reject], columns: Sequence[str]) -> list[Block]:
    """Return blocks without rows that take rejects to where they are counted and written, one per origin."""
    nothing = pa.record_batch({name: pa.nulls(0) for name in columns})
    origins = dict.fromkeys(one.origin for one in rejected)
    return [
        Block(nothing, origin, rejected=tuple(one for one in rejected if one.origin == origin)) for origin in origins
    ]
