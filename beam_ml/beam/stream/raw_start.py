"""Where a stream of raw rows begins: rows, reports and what is kept of them, everything taken from one version."""

import dataclasses
import json
from typing import Any

from beam_ml.beam.job.job import Job
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka.client import TopicState
from beam_ml.beam.kafka.positions import name_of
from beam_ml.beam.rounds.prepare.kept import BEGINNING, PAYLOAD, decode_kept
from beam_ml.beam.rounds.prepare.preparer import refuse_unprepared
from beam_ml.beam.stream.raw_state import beyond_of
from beam_ml.beam.stream.start import Start, pin
from beam_ml.core import learner as learners
from beam_ml.core.cursors import Cursors
from beam_ml.core.learner import Learner
from beam_ml.core.spec import canonical_json
from beam_ml.registry import Registry

__all__ = ["RawStart", "pin_raw", "unplaced"]


@dataclasses.dataclass(frozen=True, slots=True)
class RawStart:
    """The start of one submission of a stream of raw rows; plain values, which travel as JSON.

    Attributes:
        rows: where their topic is read from.
        reports: where that of their labels is; None: labels are in the rows.
        owed: end of the last window that the version holds open, µs.
    """

    rows: Start
    reports: Start | None = None
    owed: int = BEGINNING

    def to_json(self) -> str:
        """Return the JSON that ships with the pipeline."""
        given = [None if one is None else one.to_json() for one in (self.rows, self.reports)]
        return canonical_json({"rows": given[0], "reports": given[1], "owed": self.owed})

    @staticmethod
    def from_json(text: str) -> "RawStart":
        """Read the JSON of `to_json`."""
        given = json.loads(text)
        rows, reports = (None if given[name] is None else Start.from_json(given[name]) for name in ("rows", "reports"))
        assert rows is not None  # noqa: S101 `to_json` writes it
        return RawStart(rows, reports, given["owed"])


def unplaced(job: Job, registry: Registry, start: Start, learner: Learner) -> RawStart:
    """Return the start at a version, without places.

    Raises:
        InvalidValue: the version keeps no raw rows, or keeps them by other settings.
    """
    refuse_unprepared(job, registry, start.standing.version)
    if start.standing.version is not None:
        decode_kept(job, registry.read(job.name, start.standing.version, PAYLOAD))
    reports = None if job.labels is None else Start(start.standing)
    return RawStart(start, reports, max(learner.pending, default=BEGINNING))


def pin_raw(
    job: Job, registry: Registry, start: Start, learner: Learner, rows: TopicState, reports: TopicState | None
) -> RawStart:
    """Add where to read each partition of both topics.

    Args:
        job: the deployment.
        registry: where the version is.
        start: the version.
        learner: of that version.
        rows: their topic now.
        reports: theirs; None: labels are in the rows.

    Raises:
        RowsLost, SourceError: what is to be read next is gone, or is of another topic or cluster.
        InvalidValue: see `unplaced`.
    """
    begun, version = unplaced(job, registry, start, learner), start.standing.version
    facts: dict[str, Any] = {}
    told = Cursors()
    if version is not None:
        facts = registry.manifest(job.name, version).extra[PAYLOAD]
        told = decode_kept(job, registry.read(job.name, version, PAYLOAD)).reports

    def placed(source: KafkaSource, state: TopicState, cursors: Cursors) -> Start:
        name = name_of(source, state, cursors)
        reader = learners.new(job.algorithm(), job.algorithm_spec()).replace(cursors=cursors)
        return pin(start, reader, name, state, source.start, counted=beyond_of(facts, name))

    assert isinstance(job.source, KafkaSource)  # noqa: S101 checked when the pipeline is built
    found = dataclasses.replace(begun, rows=placed(job.source, rows, learner.cursors))
    if reports is None or job.labels is None:
        return found
    assert isinstance(job.labels.source, KafkaSource)  # noqa: S101 likewise
    return dataclasses.replace(found, reports=placed(job.labels.source, reports, told))
