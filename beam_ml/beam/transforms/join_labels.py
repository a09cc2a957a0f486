"""`JoinLabels`: rows and the reports of their labels → rows with their label, when it is known.

One step per shard, of one key: while a bundle is in progress, Flink advances a step's time up to the earliest timer that
the previous bundle has set; of two keys in one step, that may be the other's. Beam's in-process runner in turn sends the
timers of all steps of one kind to one of them: there all shards are keys of one step.

Blocks are only put aside as they come; they are joined when the timer fires, so that what a bundle costs does not grow with
what is held.
"""

import dataclasses
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from apache_beam import DoFn, Flatten, ParDo, Pipeline, PTransform
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.typehints import with_input_types, with_output_types
from apache_beam.utils.timestamp import Timestamp

from beam_ml.beam.engine import is_local
from beam_ml.beam.steps import applied
from beam_ml.beam.telemetry import count, measure
from beam_ml.beam.transforms.rows import in_blocks
from beam_ml.beam.transforms.windowing import TICK_US, many_in_or_out, piped, to_global
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.codec import decode_block, encode_block
from beam_ml.core.rejects import Reject
from beam_ml.core.spec import to_us
from beam_ml.errors import EngineRefused, InvalidValue
from beam_ml.formats.block import Block
from beam_ml.late_labels import Joined, LateLabels, State, due_of, from_bytes, join, shards_of, to_bytes

__all__ = ["JoinLabels", "JoinedLabels"]

_ROWS, _REPORTS = 0, 1
_LEAST_ASIDE = 1 << 16
"""Rows and reports that are put aside before they are joined without a timer; or half as many as are held."""
_NO_TIMER = (1 << 63) - 1
_KEYED = tuple[bytes, tuple[int, Block]]
"""Shard, and rows or reports."""


class JoinedLabels(NamedTuple):
    """The outputs of `JoinLabels`.

    Attributes:
        released: PCollection of Block: rows with their label.
        rejected: PCollection of Reject.

    >>> import apache_beam as beam
    >>> from beam_ml.beam import new_pipeline, run
    >>> spec = LateLabels(id="tx", time="at", label="fraud", reported="at", maturity="1h")
    >>> at, pipeline = [np.datetime64("2026-01-01T10:00", "us")], new_pipeline()
    >>> rows = pipeline | "Rows" >> beam.Create([Block(pa.record_batch({"tx": [1], "at": at}))])
    >>> said = pa.record_batch({"tx": [2], "at": at, "fraud": [1]})
    >>> released, rejected = (rows, pipeline | beam.Create([Block(said)])) | JoinLabels(spec)
    >>> _ = rejected | beam.Map(lambda reject: print(reject.reason, reject.detail))
    >>> _ = run(pipeline)
    report without a row ('2',)
    """

    released: PCollection
    rejected: PCollection

    def __or__(self, transform: Any) -> Any:
        return piped(self, transform)


@with_input_types(Block)
class _Cut(DoFn):
    """Sends each shard its rows, under its key; what the block had rejected leaves at once."""

    def __init__(self, column: str, field: str, kind: int, n_shards: int) -> None:
        self._column, self._field, self._kind, self._n_shards = column, field, kind, n_shards

    def process(self, element: Block) -> Iterator[Any]:
        for reject in element.rejected:
            yield TaggedOutput("rejected", reject.of(element.origin))
        block = element.replace(rejected=())
        if self._n_shards == 1:
            yield TaggedOutput("0", (b"0", (self._kind, block)))
            return
        shard = shards_of(block.batch, self._column, self._field, self._n_shards)
        for number in np.unique(shard).tolist():
            at = np.flatnonzero(shard == number)
            place = None if block.position is None else block.position[at]
            mine = block.replace(batch=block.batch.take(pa.array(at)), position=place, position_end=None, recorded=None)
            yield TaggedOutput(str(number), (b"%d" % number, (self._kind, mine)))


@dataclasses.dataclass(slots=True)
class _Note:
    """What is known of a shard without decoding it.

    Attributes:
        aside: rows and reports that are put aside.
        held: those that are held.
        timer: when it fires, µs.
    """

    aside: int = 0
    held: int = 0
    timer: int = _NO_TIMER

    def to_bytes(self) -> bytes:
        return struct.pack(">qqq", self.aside, self.held, self.timer)

    @staticmethod
    def of(data: bytes | None) -> "_Note":
        return _Note(*struct.unpack(">qqq", data)) if data else _Note()


@with_input_types(_KEYED)
@with_output_types(Block, rejected=Reject)
class _Hold(DoFn):
    """Holds a shard's rows and reports, and joins them when a label may be known."""

    HELD = ReadModifyWriteStateSpec("held", BytesCoder())
    ASIDE = BagStateSpec("aside", BytesCoder())
    NOTE = ReadModifyWriteStateSpec("note", BytesCoder())
    RELEASE = TimerSpec("release", TimeDomain.WATERMARK)
    STATES = DoFn.StateParam(HELD), DoFn.StateParam(ASIDE), DoFn.StateParam(NOTE)
    TIMER = DoFn.TimerParam(RELEASE)

    def __init__(self, spec: str, every_us: int) -> None:
        self._spec_json, self._every_us = spec, every_us

    def setup(self) -> None:
        self._spec = LateLabels.parse(json.loads(self._spec_json))

    def process(
        self,
        element: tuple[bytes, tuple[int, Block]],
        timestamp: Any = DoFn.TimestampParam,
        held: Any = STATES[0],
        aside: Any = STATES[1],
        note: Any = STATES[2],
        timer: Any = TIMER,
    ) -> Iterator[Any]:
        key, (kind, block) = element
        known = _Note.of(note.read())
        aside.add(bytes([kind]) + encode_block(block))
        known.aside += len(block)
        due = due_of(self._spec, block, kind == _REPORTS)
        # Rows without a time are refused when the time of their block has come.
        self._wake(known, timer, timestamp.micros if due is None else due)
        if known.aside >= max(_LEAST_ASIDE, known.held // 2):
            joined = self._join(key, held, aside, known, None)
            yield from _sent(joined)
        note.write(known.to_bytes())

    @on_timer(RELEASE)
    def release(
        self,
        key: bytes = DoFn.KeyParam,
        now: Any = DoFn.TimestampParam,
        held: Any = STATES[0],
        aside: Any = STATES[1],
        note: Any = STATES[2],
        timer: Any = TIMER,
    ) -> Iterator[Any]:
        known = _Note.of(note.read())
        known.timer = _NO_TIMER
        joined = self._join(key, held, aside, known, now.micros)
        due = joined.state.due(self._spec)
        if due is not None:
            self._wake(known, timer, max(due, now.micros + 1))
        note.write(known.to_bytes())
        yield from _sent(joined)

    def _wake(self, known: _Note, timer: Any, due: int) -> None:
        """Have the timer fire at the next multiple of `every`, unless it fires earlier."""
        at = -(-due // self._every_us) * self._every_us
        if at < known.timer:
            known.timer = at
            timer.set(Timestamp(micros=at))

    def _join(self, key: bytes, held: Any, aside: Any, known: _Note, until: int | None) -> Joined:
        """Join what is held and put aside; without a watermark nothing is settled."""
        data, blocks = held.read(), ([], [])  # type: ignore[var-annotated]
        state = from_bytes(self._spec, data) if data else State.empty(int(key))
        for one in aside.read():
            blocks[one[0]].append(decode_block(one[1:]))
        joined = join(self._spec, state, *blocks, until=state.clock if until is None else until)
        aside.clear()
        data = to_bytes(self._spec, joined.state)
        held.write(data)
        measure("late_labels_state_bytes", len(data))
        known.aside, known.held = 0, len(joined.state.rows) + len(joined.state.reports)
        return joined


def _sent(joined: Joined) -> Iterator[Any]:
    for name, n in sorted(joined.counts.items()):
        count(f"late labels: {name}", n)
    for reject in joined.rejected:
        yield TaggedOutput("rejected", reject)
    if len(joined.released):
        yield joined.released


class JoinLabels(PTransform):
    """Rows and reports, a pair or a dict of PCollections → `JoinedLabels`: rows with their label, when it is known.

    Both are blocks, or rows that are dicts, `beam.Row`s or named tuples. A row leaves when the watermark, less `lateness`,
    has passed the time when its label was known, at the next multiple of `every`; its label, that time, its weight and
    what it corrects are columns (`beam_ml.late_labels`). What is released, and in which order per shard, does not depend
    on how rows and reports are bundled and ordered within `lateness`; only how it is cut into blocks does.

    Elements have event times: no row may be older than the element that it is in, but for `lateness`. Each shard holds
    what `LateLabels.most_rows` and `most_bytes` allow; a bounded pipeline holds all of its input at once.

    Args:
        spec: what is joined, and how long rows wait; shipped as JSON.
        every: seconds of event time between releases, whole ms.
        n_shards: steps that share the ids, by hash.

    >>> import apache_beam as beam
    >>> from beam_ml.beam import new_pipeline, run
    >>> spec = LateLabels(id="tx", time="at", label="fraud", reported="at", maturity="1h")
    >>> at = [np.datetime64("2026-01-01T10:00", "us"), np.datetime64("2026-01-01T10:20", "us")]
    >>> pipeline = new_pipeline()
    >>> rows = pipeline | "Rows" >> beam.Create([Block(pa.record_batch({"tx": [1, 2], "at": at}))])
    >>> said = pa.record_batch({"tx": [2], "at": [np.datetime64("2026-01-01T10:45", "us")], "fraud": [1]})
    >>> reports = pipeline | "Reports" >> beam.Create([Block(said)])
    >>> out = {"rows": rows, "reports": reports} | JoinLabels(spec, every=7200)
    >>> _ = out.released | beam.Map(lambda block: print(block.batch.select(["tx", "fraud"]).to_pydict()))
    >>> _ = run(pipeline)
    {'tx': [2, 1], 'fraud': [1.0, 0.0]}
    """

    def __init__(self, spec: LateLabels, every: float = 60.0, n_shards: int = 1) -> None:
        super().__init__()
        if n_shards < 1:
            message = f"JoinLabels.n_shards must be >= 1; got {n_shards}."
            raise InvalidValue(message)
        every_us = to_us(every)
        if every_us < TICK_US or every_us % TICK_US:
            message = f"JoinLabels.every must be whole ms, the grain of engines' timers; got {every} s."
            raise InvalidValue(message)
        self._spec, self._n_shards, self._fn = spec, n_shards, _Hold(spec.to_json(), every_us)

    @many_in_or_out
    def expand(self, pcolls: tuple[PCollection, PCollection] | Mapping[str, PCollection]) -> JoinedLabels:
        """Cut both by the ids' hash, and hold each shard in a step of its own."""
        rows, reports = _pair(pcolls)
        coders.install(rows.pipeline)
        _refuse_second(rows.pipeline)
        shards = [str(shard) for shard in range(self._n_shards)]
        cut = []
        for name, pcoll, column, kind in (
            ("Rows", rows, self._spec.id, _ROWS),
            ("Reports", reports, self._spec.report_id, _REPORTS),
        ):
            blocks = to_global(pcoll, f"Global{name}")
            blocks = blocks if blocks.element_type is Block else blocks | f"BlocksOf{name}" >> _Blocks()
            fn = _Cut(column, "LateLabels.id_of_report" if kind else "LateLabels.id", kind, self._n_shards)
            typed = fn.with_output_types(_KEYED, rejected=Reject, **dict.fromkeys(shards, _KEYED))
            cut.append(blocks | f"Cut{name}" >> ParDo(typed).with_outputs("rejected", *shards))
        steps = [shards] if is_local(rows.pipeline) else [[shard] for shard in shards]
        held = [
            [each[shard] for shard in mine for each in cut]
            | f"Both{mine[0]}" >> Flatten()
            | f"Hold{mine[0]}" >> ParDo(self._fn).with_outputs("rejected", main="released")
            for mine in steps
        ]
        released = [one.released for one in held] | "Released" >> Flatten()
        return JoinedLabels(released, [each.rejected for each in (*cut, *held)] | "Rejected" >> Flatten())


def _refuse_second(pipeline: Pipeline) -> None:
    """Refuse a second join on a runner that would send the timers of both to one of them.

    Raises:
        EngineRefused: see above.
    """
    if is_local(pipeline) and any(isinstance(getattr(one.transform, "fn", None), _Hold) for one in applied(pipeline)):
        message = (
            "A pipeline on Beam's in-process runner must have one JoinLabels, since that runner mixes up the timers of two; "
            "got a second: run them in two pipelines, or on --runner=PrismRunner or --runner=FlinkRunner."
        )
        raise EngineRefused(message)


class _Blocks(PTransform):
    """Rows → blocks, under a label of its own."""

    def expand(self, pcoll: PCollection) -> PCollection:
        return in_blocks(pcoll)


def _pair(pcolls: Any) -> tuple[PCollection, PCollection]:
    if isinstance(pcolls, Mapping) and set(pcolls) == {"rows", "reports"}:
        return pcolls["rows"], pcolls["reports"]
    if isinstance(pcolls, tuple) and len(pcolls) == 2:
        return pcolls[0], pcolls[1]
    got = sorted(pcolls) if isinstance(pcolls, Mapping) else type(pcolls).__name__
    message = f"JoinLabels takes a pair of PCollections, or a dict of 'rows' and 'reports'; got {got}."
    raise InvalidValue(message)
