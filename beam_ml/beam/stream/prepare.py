"""`PrepareRows`: raw rows and reports of an unbounded input → rows with their features, and rows to be learned.

It is what rounds do with raw rows (`rounds.prepare.step`), in a step of one key: the same function of the same state, asked
whenever the watermark has passed a cell of a grid in which something falls due. A timer releases rows and decides nothing
else: rows come out the same however they were bundled, and whenever it fires.

At the end of each window of the learner in which something was released, the step sends a mark of what it keeps then: the
version of that window holds it, and a start from the registry finds rows and learner as they were at that moment.
"""

import dataclasses
import functools
import json
import struct
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from apache_beam import Create, DoFn, Flatten, ParDo, PTransform
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import TimestampedValue
from apache_beam.typehints import with_input_types, with_output_types
from apache_beam.utils.timestamp import Timestamp

from beam_ml.beam.job.job import Job
from beam_ml.beam.rounds.prepare.dated import reports_dated, times_of
from beam_ml.beam.rounds.prepare.kept import PAYLOAD, Kept, decode_kept, nothing_kept, rule_of_known
from beam_ml.beam.rounds.prepare.preparer import carriers
from beam_ml.beam.rounds.prepare.step import arrived, prepare
from beam_ml.beam.stream.marks import Mark
from beam_ml.beam.stream.raw_start import RawStart
from beam_ml.beam.stream.raw_state import RawState, beyond_of
from beam_ml.beam.telemetry import count, measure, timed
from beam_ml.beam.transforms.windowing import TICK_US, many_in_or_out, to_global
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.codec import decode_block, encode_block
from beam_ml.beam.wire.elements import Later
from beam_ml.core.spec import to_us
from beam_ml.core.threads import one_thread
from beam_ml.errors import InvalidValue
from beam_ml.features.times import times_us
from beam_ml.formats.block import Block
from beam_ml.late_labels import KNOWN_AT
from beam_ml.registry import Registry

__all__ = ["PrepareRows", "PreparedRows", "delay_us", "every_us"]

_ROWS, _REPORTS, _BEGIN = 0, 1, 2
_NEVER = (1 << 63) - 1
_NOTE = struct.Struct(">qq")
_AT_ONCE = 64
"""Rows that lie x behind the clock on the wall are released in steps of x / 64: of a backlog, few releases catch up."""
_KEY = b"rows"
_KEYED = tuple[bytes, tuple[int, Block]]


class PreparedRows(NamedTuple):
    """The outputs of `PrepareRows`.

    Attributes:
        learned: PCollection of Block: rows to be learned, and blocks of none that have rejects.
        featured: PCollection of Block: rows as they are to be scored.
        marks: PCollection of (window end in µs, encoded `Mark`).
    """

    learned: PCollection
    featured: PCollection
    marks: PCollection


@functools.lru_cache(maxsize=16)
def job_of(text: str) -> Job:
    """Return the job of its JSON."""
    return Job.parse(json.loads(text))


def lateness_us(job: Job) -> int:
    """Return how far behind the watermark rows are released, whole ms."""
    late = 0 if job.labels is None else job.labels.lateness_us
    return -(-late // TICK_US) * TICK_US


def delay_us(job: Job) -> int:
    """Return how long after a window's end, by the watermark, its rows are all there."""
    return lateness_us(job) + 2 * TICK_US


def every_us(job: Job, every: float | None) -> int:
    """Return the grid on which rows are released: a part of the learner's windows, whole ms.

    Args:
        job: whose `refresh` is a duration.
        every: seconds; None: one, where windows are whole seconds, else a window.

    Raises:
        InvalidValue: windows are no multiple of it.
    """
    size = job.windows().size_us or 0
    wanted = to_us(1.0 if every is None else every)
    if every is None and size % wanted:
        return size
    if wanted < TICK_US or wanted % TICK_US or size % wanted:
        message = f"release_every must be whole ms, and a part of job.refresh, {job.refresh} s; got {every} s."
        raise InvalidValue(message)
    return wanted


@with_input_types(Block)
@with_output_types(_KEYED)
class _Under(DoFn):
    """Brings blocks of one kind under the key."""

    def __init__(self, kind: int) -> None:
        self._kind = kind

    def process(self, element: Block) -> Iterator[tuple[bytes, tuple[int, Block]]]:
        yield _KEY, (self._kind, element)


@dataclasses.dataclass(slots=True)
class _Note:
    """What is read with every element.

    Attributes:
        timer: end of the cell whose release is due next, µs.
        began: 1 once the state was there.
    """

    timer: int = _NEVER
    began: int = 0


@with_input_types(_KEYED)
@with_output_types(Block, featured=Block, marks=tuple[int, bytes])
class _Prepare(DoFn):
    """Puts aside what comes, and prepares it when the timer fires."""

    CAME = BagStateSpec("came", BytesCoder())
    KEPT = ReadModifyWriteStateSpec("kept", coders.LaterCoder())
    NOTE = ReadModifyWriteStateSpec("note", BytesCoder())
    RELEASE = TimerSpec("prepared", TimeDomain.WATERMARK)
    STATES = DoFn.StateParam(CAME), DoFn.StateParam(KEPT), DoFn.StateParam(NOTE)
    TIMER = DoFn.TimerParam(RELEASE)

    def __init__(self, job: str, registry: str, start: str, every: int) -> None:
        self._job_json, self._where, self._start_json, self._every = job, registry, start, every

    def setup(self) -> None:
        self._job = job_of(self._job_json)
        self._start = RawStart.from_json(self._start_json)
        self._size, self._late = self._job.windows().size_us or 0, lateness_us(self._job)
        self._known: tuple[bytes, RawState] | None = None
        self._written: tuple[Later, RawState] | None = None

    def process(
        self,
        element: tuple[bytes, tuple[int, Block]],
        timestamp: Any = DoFn.TimestampParam,
        came: Any = STATES[0],
        kept: Any = STATES[1],
        note: Any = STATES[2],
        timer: Any = TIMER,
    ) -> None:
        _, (kind, block) = element
        stored = note.read()
        known = _Note() if stored is None else _Note(*_NOTE.unpack(stored))
        if not known.began:
            known.began = 1
            state = self._begin()
            kept.write(self._later(state))
            self._wake(known, timer, self._next(state, state.kept.until))
        if kind != _BEGIN:
            came.add(bytes([kind]) + encode_block(block))
            self._wake(known, timer, self._cell(self._oldest(kind, block, timestamp.micros)))
        note.write(_NOTE.pack(known.timer, known.began))

    @on_timer(RELEASE)
    def release(
        self,
        now: Any = DoFn.TimestampParam,
        came: Any = STATES[0],
        kept: Any = STATES[1],
        note: Any = STATES[2],
        timer: Any = TIMER,
    ) -> Iterator[Any]:
        # Whole cells only: a time of the timer that an engine rounds must not release part of one.
        until = (now.micros - self._late) // self._every * self._every
        state = self._load(kept.read())
        blocks: tuple[list[Block], list[Block]] = ([], [])
        for one in came.read():
            blocks[one[0]].append(decode_block(one[1:]))
        with timed("prepare_us"), one_thread():
            state, found = self._released(state, until, *blocks)
        came.clear()
        if state.owed >= until and until % self._size == 0:
            mark = Mark.of(self._job, state, self._start.rows, self._start.reports)
            found.append(TaggedOutput("marks", (until, mark.encode())))
        kept.write(self._later(state))
        known = _Note(_NEVER, 1)
        self._wake(known, timer, self._next(state, until))
        note.write(_NOTE.pack(known.timer, known.began))
        # In the cell itself, whatever the lateness: what has no window of its own is then counted with the cell's.
        at = Timestamp(micros=until - TICK_US)
        for output in found:
            if isinstance(output, TaggedOutput):
                yield TaggedOutput(output.tag, TimestampedValue(output.value, at))
            else:
                yield TimestampedValue(output, at)

    def _released(
        self, state: RawState, until: int, rows: list[Block], reports: list[Block]
    ) -> tuple[RawState, list[Any]]:
        """Prepare what lies before a time; return the state after it, and what leaves."""
        job, kept, now = self._job, state.kept, time.time_ns() // 1000
        for kind, of in ((_ROWS, rows), (_REPORTS, reports)):
            for block in of:
                if block.origin is not None and block.start < block.stop:
                    state = state.came(kind == _REPORTS, int(block.origin.partition), block.start, block.stop)
        reports = reports_dated(job, reports, now) if reports else []
        came = arrived(job, kept, rows, now)
        done = prepare(job, kept, came._replace(until=max(until, kept.until)), reports)
        for name, n in sorted(done.counts.items()):
            count(f"late labels: {name}", n)
        refused = carriers(done.rejected, job.features.columns())
        owed = state.owed
        if len(done.rows) or refused:
            owed = max(owed, -(-until // self._size) * self._size)
        found: list[Any] = [*([done.rows] if len(done.rows) else []), *refused]
        if job.predictions is not None:
            found += [TaggedOutput("featured", block) for block in done.featured if len(block)]
        after = dataclasses.replace(state, kept=done.kept, counts=state.counts + done.counts, owed=owed)
        return after, found

    def _oldest(self, kind: int, block: Block, timestamp: int) -> int:
        """Return when something of a block falls due, µs; rows dated far ahead are refused with those beside them."""
        source = self._job.source
        if kind == _ROWS:
            times = times_of(self._job, block)
        else:
            labels = self._job.labels
            assert labels is not None  # noqa: S101
            name, unit = labels.dated(True)
            source, times = labels.source, times_us(block.batch, name, "job.labels.reported", unit)
        us = times.us if times.unusable is None else times.us[~times.unusable]
        latest = timestamp + to_us(source.out_of_orderness) + to_us(source.max_ahead)
        return min(latest, int(us.min())) if us.size else latest

    def _cell(self, due: int) -> int:
        """Return the end of the cell in which something that falls due is released, at most the end of its window."""
        behind = (time.time_ns() // 1000 - due) // _AT_ONCE
        step = max(self._every, min(self._size, behind) // self._every * self._every)
        end = ((due + step - self._every) // self._every + 1) * self._every
        return min(end, (due // self._size + 1) * self._size)

    def _next(self, state: RawState, until: int) -> int:
        """Return the end of the cell to be released next; `_NEVER`: nothing waits."""
        kept, labels, found = state.kept, self._job.labels, []
        found += [int(times_of(self._job, block).us.min()) for block in kept.held]
        if labels is not None:
            rules = ((kept.known, rule_of_known(labels)), (kept.waiting, labels.rule))
            due = [one.due(rule) for one, rule in rules if one is not None]
            found += [at - labels.lateness_us - 1 for at in due if at is not None]
            if kept.early is not None:
                known = kept.early.batch.column(KNOWN_AT).cast(pa.int64()).to_numpy()
                found.append(int(np.maximum(known, times_of(self._job, kept.early).us + labels.maturity_us).min()))
        cell = self._cell(max(min(found), until)) if found else _NEVER
        end = (until // self._size + 1) * self._size
        return min(cell, end) if state.owed >= end else cell

    def _wake(self, known: _Note, timer: Any, cell: int) -> None:
        """Have the timer fire for a cell, unless it does for an earlier one."""
        if cell < known.timer:
            known.timer = cell
            timer.set(Timestamp(micros=cell + self._late))

    def _begin(self) -> RawState:
        """Begin with the pinned version: there is no state, or the engine has lost it."""
        start, job = self._start, self._job
        version = start.rows.standing.version
        if version is None:
            return RawState(nothing_kept(job), {}, {}, Counter(), start.owed)
        registry = Registry(self._where, create=False)
        kept: Kept = decode_kept(job, registry.read(job.name, version, PAYLOAD))
        facts = registry.manifest(job.name, version).extra[PAYLOAD]
        reports = {} if start.reports is None else beyond_of(facts, start.reports.source)
        return RawState(
            kept, beyond_of(facts, start.rows.source), reports, Counter(facts.get("labels", {})), start.owed
        )

    def _load(self, stored: Later | None) -> RawState:
        """Return the state; one that this worker wrote itself is not read again."""
        assert stored is not None  # noqa: S101 the first element has written it
        if self._written is not None and self._written[0] is stored:
            return self._written[1]
        data = stored.data
        if self._known is None or self._known[0] != data:
            self._known = (data, RawState.decode(self._job, data))
        return self._known[1]

    def _later(self, state: RawState) -> Later:
        """Return what encodes a state when the bundle ends, and is read from memory until then."""

        def make() -> bytes:
            if self._known is None or self._known[1] is not state:
                data = state.encode(self._job)
                measure("state_bytes", len(data))
                self._known = (data, state)
            return self._known[0]

        later = Later(make)
        self._written = (later, state)
        return later


class PrepareRows(PTransform):
    """Rows and, where labels come later, reports → `PreparedRows`: a tuple of one or two PCollections.

    Args:
        job: the deployment; shipped as JSON.
        registry: where the version lies that the stream begins with.
        start: what the stream begins with.
        every: µs of event time between releases, by `every_us`.
    """

    def __init__(self, job: Job, registry: str, start: RawStart, every: int) -> None:
        super().__init__()
        self._fn = _Prepare(job.to_json(), registry, start.to_json(), every)

    @many_in_or_out
    def expand(self, pcolls: tuple[PCollection, ...]) -> PreparedRows:
        """Bring both under one key, with an element that has what waits looked at though nothing comes."""
        rows, *reports = pcolls
        coders.install(rows.pipeline)
        begin = rows.pipeline | "Begin" >> Create([b""]) | "Nothing" >> ParDo(_Begin())
        keyed = [begin, to_global(rows, "GlobalRows") | "Rows" >> ParDo(_Under(_ROWS))]
        keyed += [to_global(one, "GlobalReports") | "Reports" >> ParDo(_Under(_REPORTS)) for one in reports]
        out = keyed | Flatten() | "Prepare" >> ParDo(self._fn).with_outputs("featured", "marks", main="learned")
        return PreparedRows(out.learned, out.featured, out.marks)


@with_input_types(bytes)
@with_output_types(_KEYED)
class _Begin(DoFn):
    def process(self, element: bytes) -> Iterator[tuple[bytes, tuple[int, Block]]]:
        yield _KEY, (_BEGIN, Block(pa.record_batch({})))
