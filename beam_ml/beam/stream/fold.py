"""`StreamFold`: closed windows of an unbounded input, in order of time, into one learner; each firing is one version.

One key, one timer, always at the smallest end that is held. Three states: the learner, touched when windows are folded;
what has arrived for windows not folded yet; and a small record of how far the fold has advanced. A lost state starts
again at the pinned version; a restored state continues, and what had been published since is published again.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from apache_beam import DoFn, ParDo, PTransform
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.typehints import with_input_types, with_output_types
from apache_beam.utils.timestamp import Timestamp

from beam_ml.algorithms import finder
from beam_ml.artefact.records import decode_learner, encode_learner
from beam_ml.beam.job.job import Announce
from beam_ml.beam.kafka.positions import counted_of, cursor_after
from beam_ml.beam.rounds.announcing import announce_version
from beam_ml.beam.rounds.prepare.kept import PAYLOAD
from beam_ml.beam.stream.fold_job import FoldJob
from beam_ml.beam.stream.marks import Mark, accumulation_in, mark_at, together
from beam_ml.beam.stream.start import Start, initial_learner
from beam_ml.beam.stream.state import Held, OpenWindows, due_at
from beam_ml.beam.telemetry import count, measure, timed
from beam_ml.beam.transforms.windowing import under_one_key
from beam_ml.beam.versions.contents import facts_of, models_of, payloads_of, verdict_of
from beam_ml.beam.versions.crowding import places_facts
from beam_ml.beam.versions.keeping import Keeper
from beam_ml.beam.versions.life import folded, take_in, tidy
from beam_ml.beam.versions.lineage import Standing, publish_next
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.references import STREAM_REFUSE_BYTES, learner_of, plan_of, spec_of
from beam_ml.core import intervals
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation, empty
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import Cursors
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Refresh, derive_all, fold_open
from beam_ml.core.spec import canonical_json
from beam_ml.core.threads import one_thread
from beam_ml.core.windows import ROUND
from beam_ml.errors import CorruptArtefact, MergeRefused, VersionNotFound
from beam_ml.ledger import Rules
from beam_ml.registry import Registry

__all__ = ["FoldJob", "Reach", "StreamFold", "as_late"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Reach:
    """How far the fold has advanced: small, read with every element.

    Attributes:
        standing: the version that its learner is.
        folded_through: end of the last window folded, µs.
        covered: origin → places that the learner has scanned.
    """

    standing: Standing
    folded_through: int | None
    covered: Mapping[Origin, np.ndarray]

    def encode(self) -> bytes:
        """Return it as bytes."""
        covered = [[o.source, o.partition, ranges.tolist()] for o, ranges in sorted(self.covered.items())]
        values = {"standing": self.standing.to_dict(), "folded_through": self.folded_through}
        return canonical_json({**values, "covered": covered}).encode()

    @staticmethod
    def decode(data: bytes) -> "Reach":
        """Read the bytes of `encode`."""
        given = json.loads(data)
        covered = {
            Origin(source, partition): np.array(ranges, dtype=np.int64).reshape(-1, 2)
            for source, partition, ranges in given["covered"]
        }
        return Reach(Standing.from_dict(given["standing"]), given["folded_through"], covered)


def as_late(accumulation: Accumulation, taken: bool) -> Accumulation:
    """Mark rows that come after their window was folded: as late ones where they are taken, else as rejected.

    Args:
        accumulation: the rows.
        taken: whether they come within the allowed lateness.
    """
    if taken:
        parts = {
            number: dataclasses.replace(part, progress=dataclasses.replace(part.progress, late=part.progress.rows))
            for number, part in accumulation.parts.items()
        }
        return dataclasses.replace(accumulation, parts=parts)
    rest = accumulation.rest
    for part in accumulation.parts.values():
        # As with rows that are rejected anywhere else, their event times move nothing.
        rest = rest.merge(dataclasses.replace(part.progress.as_rejected("late"), latest={}))
    return dataclasses.replace(empty(accumulation.spec), rest=rest)


@with_input_types(tuple[bytes, tuple[int, Any]])
@with_output_types(int)
class _StreamFold(DoFn):
    """Folds, in order, the windows that its timer passes, and publishes.

    Where raw rows are prepared its input is bytes: marks, and accumulations (`together`).

    Its timer and that of the shards have different names: a runner that fuses both steps takes them for one otherwise.
    """

    LEARNER = ReadModifyWriteStateSpec("learner", BytesCoder())
    PENDING = ReadModifyWriteStateSpec("pending", BytesCoder())
    LEDGER = ReadModifyWriteStateSpec("ledger", BytesCoder())
    MARKS = ReadModifyWriteStateSpec("marks", BytesCoder())
    CLOSED = TimerSpec("fold_closed", TimeDomain.WATERMARK)
    STATE, OPEN = DoFn.StateParam(LEARNER), DoFn.StateParam(PENDING)
    STANDING, TIMER = DoFn.StateParam(LEDGER), DoFn.TimerParam(CLOSED)
    MARKED = DoFn.StateParam(MARKS)

    def __init__(self, job: FoldJob) -> None:
        self._job = job

    def setup(self) -> None:
        job = self._job
        self._algorithm, self._spec = spec_of(job.spec)
        self._plan = plan_of(self._algorithm, job.plan)
        self._start = Start.from_json(job.start)
        self._announce = Announce.parse(json.loads(job.announce)) if job.announce else None
        self._registry = Registry(job.registry)
        rules = Rules.parse(json.loads(job.ledger)) if job.ledger else None
        self._keeper = None if rules is None else Keeper(self._registry, job.name, self._algorithm, rules, job.size_us)
        self._windows = OpenWindows(job.spec, STREAM_REFUSE_BYTES)
        self._known: tuple[bytes, Learner, Mapping[str, Any] | None] | None = None
        self._ledger: tuple[bytes, Reach] | None = None

    def process(
        self,
        element: tuple[bytes, tuple[int, Accumulation | bytes]],
        timestamp: Any = DoFn.TimestampParam,
        learner: Any = STATE,
        pending: Any = OPEN,
        ledger: Any = STANDING,
        marks: Any = MARKED,
        timer: Any = TIMER,
    ) -> None:
        key, (end, given) = element
        accumulation = accumulation_in(given) if isinstance(given, bytes) else given
        if accumulation is None:
            assert isinstance(given, bytes)  # noqa: S101 a mark
            marked = self._windows.load(marks.read())
            marks.write(self._windows.store({**marked, end: Held(end, given[1:])}))
            return
        stored = ledger.read()
        if stored is None:
            stored = self._begin(key, learner, pending, ledger)
        known = self._read(stored)
        held = self._windows.load(pending.read())
        self._refuse_repeat(key, known, held, accumulation.progress)
        due = due_at(timestamp.micros - self._job.delay_us, self._job.size_us) if end == ROUND else end
        if end != ROUND and known.folded_through is not None and end <= known.folded_through:
            end, due, accumulation = self._late(end, accumulation, known.folded_through)
        with timed("merge_us"):
            self._windows.add(key, held, end, due, accumulation)
        self._keep(held, pending, timer)

    @on_timer(CLOSED)
    def closed(
        self,
        key: bytes = DoFn.KeyParam,
        now: Any = DoFn.TimestampParam,
        learner: Any = STATE,
        pending: Any = OPEN,
        ledger: Any = STANDING,
        marks: Any = MARKED,
        timer: Any = TIMER,
    ) -> Iterator[int]:
        known, held = self._read(ledger.read()), self._windows.load(pending.read())
        through = now.micros - self._job.delay_us
        if not any(one.due <= through for one in held.values()):
            self._keep(held, pending, timer)
            return
        before, models = self._learner(learner.read())
        if ROUND in held:
            before = take_in(self._algorithm, before, [(ROUND, self._windows.drop(key, held, ROUND))], by_time=True)
        opened = {end: self._windows.get(key, end, one) for end, one in held.items()}
        before = before.replace(pending=opened)
        after, refreshes, models = self._fold(before, through, models)
        for end in set(held) - set(after.pending):
            self._windows.drop(key, held, end)
        mark = None
        if self._job.prepares:
            mark, later = mark_at(self._windows.load(marks.read()), through, self._job.size_us)
            marks.write(self._windows.store(later))
        after = after.replace(cursors=self._read_on(after) if mark is None else after.cursors.merge(mark.read))
        made, known = self._publish(known, before, after, refreshes, models, mark)
        bare = after.replace(pending={})
        data = encode_learner(self._algorithm, bare)
        self._known = (data, bare, models)
        learner.write(data)
        ledger.write(known.encode())
        self._keep(held, pending, timer)
        yield made

    def _begin(self, key: bytes, learner: Any, pending: Any, ledger: Any) -> bytes:
        """Begin with the pinned version: there is no state, or the engine has lost it."""
        start, job = self._start, self._job
        stored_as = start.standing.learner_in(job.registry, job.name)
        if stored_as is None:
            first = learners.new(self._algorithm, self._spec)
        else:
            try:
                first = learner_of(stored_as, self._spec)
            except (VersionNotFound, CorruptArtefact) as error:
                message = f"{error} The stream was started from it: start it again, from the newest version."
                raise type(error)(message) from error
        first = initial_learner(start, first)
        held: dict[int, Held] = {}
        for end, accumulation in first.pending.items():
            if end == ROUND:
                what = f"{job.name} v{start.standing.version}"
                message = f"{what} holds rows of a round not folded yet: run it in rounds, with close."
                raise MergeRefused(message)
            self._windows.add(key, held, end, end, accumulation)
        pending.write(self._windows.store(held))
        bare = first.replace(pending={})
        data = encode_learner(self._algorithm, bare)
        self._known = (data, bare, None)
        learner.write(data)
        stored = Reach(start.standing, first.folded_through, bare.progress.covered).encode()
        ledger.write(stored)
        return stored

    def _read(self, stored: bytes) -> Reach:
        if self._ledger is None or self._ledger[0] != stored:
            self._ledger = (stored, Reach.decode(stored))
        return self._ledger[1]

    def _learner(self, data: bytes) -> tuple[Learner, Mapping[str, Any] | None]:
        if self._known is None or self._known[0] != data:
            self._known = (data, decode_learner(data, finder([self._algorithm])), None)
        return self._known[1:]

    def _keep(self, held: dict[int, Held], pending: Any, timer: Any) -> None:
        data = self._windows.store(held)
        measure("state_bytes", len(data))
        pending.write(data)
        if held:
            timer.set(Timestamp(micros=min(one.due for one in held.values()) + self._job.delay_us))

    def _refuse_repeat(self, key: bytes, known: Reach, held: dict[int, Held], progress: Progress) -> None:
        """Refuse places that have been counted already: the engine has given rows twice."""
        counted = [known.covered, *(self._windows.get(key, end, one).progress.covered for end, one in held.items())]
        for origin, ranges in progress.covered.items():
            for one in counted:
                both = intervals.intersection(ranges, one.get(origin, intervals.EMPTY))
                if len(both):
                    message = (
                        f"The stream must count each row once; the engine delivered {origin.source} {origin.partition} from "
                        f"place {int(both[0, 0])} to {int(both[0, 1])} again (start it without the engine's state: it "
                        "resumes from the registry)."
                    )
                    raise MergeRefused(message)
        if progress.repeated:
            message = f"The stream must count each row once; the engine delivered {progress.repeated:,} places twice."
            raise MergeRefused(message)

    def _late(self, end: int, accumulation: Accumulation, through: int) -> tuple[int, int, Accumulation]:
        """Return the earliest open window for rows whose own is folded, or no window when they come too late."""
        taken = end > through - self._job.lateness_us
        rows = accumulation.progress.rows
        if not taken:
            message = (
                "%d rows of the window that ended at %d arrived after everything up to %d had been folded, and are "
                "rejected as late."
            )
            _log.warning(message, rows, end, through)
        count("late" if taken else "rejected", rows)
        earliest = due_at(through, self._job.size_us)
        return (earliest if taken else ROUND), earliest, as_late(accumulation, taken)

    def _fold(
        self, learner: Learner, through: int, models: Mapping[str, Any] | None
    ) -> tuple[Learner, list[tuple[Refresh, float]], Mapping[str, Any]]:
        """Fold in order what ended at or before a time."""
        steps = fold_open(self._algorithm, learner, self._plan, through, models, published=True)
        learner, refreshes = folded(learner, steps)
        if refreshes:
            models = refreshes[-1][0].models
        if models is None:
            with one_thread():
                models = derive_all(self._algorithm, learner, self._plan.models)
        return learner, refreshes, models

    def _publish(
        self,
        known: Reach,
        before: Learner,
        learner: Learner,
        refreshes: list[tuple[Refresh, float]],
        models: Mapping[str, Any],
        mark: Mark | None,
    ) -> tuple[int, Reach]:
        job, start, features = self._job, self._start, json.loads(self._job.features)
        verdict = verdict_of([one for one, _ in refreshes], models, known.standing.verdict)
        facts = facts_of(learner, (one.to_dict() | {"seconds": seconds} for one, seconds in refreshes))
        facts |= {"features": features, "rejects_under": f"rejects/{start.standing.run_id}"}
        facts |= places_facts(job.name, features, learner)
        payloads = payloads_of(learner, models_of(learner, self._plan.models, models, features))
        if mark is not None:
            facts, payloads = {**facts, PAYLOAD: dict(mark.facts)}, {**payloads, PAYLOAD: mark.kept}
        # A state restored into a new submission is published as that one's.
        mine = dataclasses.replace(known.standing, run_id=start.standing.run_id, epoch=start.standing.epoch)
        kept = None if self._keeper is None else self._keeper.kept(mine.version, before, learner, refreshes)
        facts |= {} if kept is None else dict(kept.facts)
        made, mine = publish_next(self._registry, job.name, mine, payloads, verdict, facts, kept)
        if self._keeper is not None:
            self._keeper.published(made)
        announce_version(self._announce, made)
        tidy(self._registry, job.name, made.number, job.keep, job.grace_s)
        ends = [one.window_end for one, _ in refreshes if one.window_end is not None]
        if ends:
            measure("refresh_lag_ms", (time.time_ns() // 1000 - max(ends)) // 1000)
        ledger = Reach(mine, learner.folded_through, learner.progress.covered)
        return made.number, ledger

    def _read_on(self, learner: Learner) -> Cursors:
        """Note where a reader that does not know the places counted would resume: the first hole's message."""
        start = self._start
        if not start.source:
            return learner.cursors
        counted = counted_of(learners.scanned(learner).covered, start.source)
        cursor = cursor_after(start.begun, counted, start.topic or learner.cursors.topic(start.source).id)
        return learner.cursors.with_topic(start.source, cursor)


class StreamFold(PTransform):
    """(window end, Accumulation) of shards → the numbers of the versions published, one per firing.

    Args:
        job: what to learn and where to publish.
        marks: where raw rows are prepared, PCollection of (window end in µs, encoded `Mark`).
    """

    def __init__(self, job: FoldJob, marks: PCollection | None = None) -> None:
        super().__init__()
        self._fn, self._marks = _StreamFold(job), marks

    def expand(self, pcoll: PCollection) -> PCollection:
        """Bring all windows under one key, whose state is the learner."""
        coders.install(pcoll.pipeline)
        keyed = under_one_key(pcoll) if self._marks is None else together(pcoll, self._marks)
        return keyed | "Fold" >> ParDo(self._fn)
