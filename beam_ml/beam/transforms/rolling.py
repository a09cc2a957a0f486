"""`RollingFeatures`: blocks → blocks with aggregates over rolling windows.

Rows are cut by the shard of their key's hash, computed in a step of one key per shard, and put back beside the rows that
they belong to: a block leaves as it came, with more columns. Bounded input is computed when all of a shard is there. In an
unbounded one rows wait in state until the watermark has passed them: a timer releases them and decides nothing else, so
that one that fires late, or after a restart, changes no value.
"""

import dataclasses
import functools
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from apache_beam import DoFn, Flatten, GroupByKey, ParDo, PTransform
from apache_beam.coders import BytesCoder, VarIntCoder
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.typehints import with_input_types, with_output_types
from apache_beam.utils.timestamp import Timestamp

from beam_ml.beam.steps import Step
from beam_ml.beam.telemetry import count, measure, timed
from beam_ml.beam.transforms.windowing import TICK_US, to_global
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.rolling import decode_open, decode_piece, encode_open, encode_piece, is_open, tag_bytes
from beam_ml.core.spec import duration_s, to_us
from beam_ml.core.threads import one_thread
from beam_ml.errors import InvalidValue
from beam_ml.features.rolling import END, Rolling, State, empty, from_bytes, roll, rows_of, to_bytes
from beam_ml.features.rolling.blocks import OpenBlock, assembled, pieces_of
from beam_ml.features.rolling.layout import layout_of
from beam_ml.features.rolling.roll import Rolled
from beam_ml.features.rolling.rows import Rows, concatenated, no_rows
from beam_ml.features.rolling.stored import rows_from_bytes, rows_to_bytes
from beam_ml.formats.block import Block

__all__ = ["RollingFeatures"]

_Keyed = tuple[bytes, bytes]


@functools.lru_cache(maxsize=64)
def _spec_of(text: str) -> Rolling:
    return Rolling.model_validate_json(text)


@with_input_types(Block)
class _Cut(Step):
    """Sends a block where it waits, and what the windows need of its rows to their shards, each on an output of its own."""

    def __init__(self, spec: str) -> None:
        self._spec = spec

    def process(self, element: Block) -> Iterator[Any]:
        spec = _spec_of(self._spec)
        read = rows_of(spec, element, uuid.uuid4().hex)
        tag = tag_bytes(read.rows[0].tags[0])
        yield tag, encode_open(OpenBlock(element, read.good, read.rejected))
        for key, rows in enumerate(read.rows):
            for i, part in enumerate(rows.shards(spec.shards)):
                if len(part):
                    state = key * spec.shards + i
                    yield TaggedOutput(f"state_{state}", (b"%d" % state, rows_to_bytes(part)))


def _rows(spec: Rolling, state: int, several: Iterable[bytes]) -> Rows:
    """Return the rows of several pieces of one state."""
    key = state // spec.shards
    return concatenated([no_rows(layout_of(spec, key)), *(rows_from_bytes(spec, key, one) for one in several)])


def _said(spec: Rolling, state: int, rolled: Rolled) -> Iterator[_Keyed]:
    """Yield what was computed, by block, and count it."""
    count("rolling_rows", len(rolled.rows))
    count("rolling_late", len(rolled.late))
    for tag, piece in pieces_of(state // spec.shards, rolled):
        yield tag_bytes(tag), encode_piece(piece)


@with_input_types(tuple[bytes, Iterable[bytes]])
@with_output_types(_Keyed)
class _RollAll(Step):
    """Computes all rows of a state at once."""

    def __init__(self, spec: str) -> None:
        self._spec = spec

    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[_Keyed]:
        spec, state = _spec_of(self._spec), int(element[0])
        with timed("rolling_us"), one_thread():
            rolled = roll(spec, empty(spec, state), _rows(spec, state, element[1]), END)
        yield from _said(spec, state, rolled)


@with_input_types(_Keyed)
@with_output_types(_Keyed)
class _Roll(DoFn):
    """Holds the rows of a state until the watermark has passed them by the lateness, then computes them in order.

    What came since the last release is only added to. The timer is set for the oldest row that waits, on a grid of
    `every`, and the step's output is held to it: a row leaves behind the watermark by the lateness and `every` at most.
    """

    CAME = BagStateSpec("came", BytesCoder())
    KEPT = ReadModifyWriteStateSpec("kept", BytesCoder())
    DUE = ReadModifyWriteStateSpec("due", VarIntCoder())
    RELEASE = TimerSpec("release", TimeDomain.WATERMARK)
    IS_CAME, IS_KEPT, IS_DUE = DoFn.StateParam(CAME), DoFn.StateParam(KEPT), DoFn.StateParam(DUE)
    TIMER = DoFn.TimerParam(RELEASE)

    def __init__(self, spec: str, every_us: int) -> None:
        self._spec, self._every_us = spec, every_us

    def setup(self) -> None:
        self._read: dict[int, tuple[bytes, State]] = {}

    def _due(self, time: int) -> int:
        """Return when a row is released, µs: the end of its cell of the grid, and the lateness."""
        return (time // self._every_us + 1) * self._every_us + _spec_of(self._spec).lateness_us

    def _set(self, time: int, due: Any, timer: Any) -> None:
        release = self._due(time)
        due.write(release)
        timer.set(Timestamp(micros=-(-release // TICK_US) * TICK_US))

    def process(
        self,
        element: _Keyed,
        came: Any = IS_CAME,
        due: Any = IS_DUE,
        timer: Any = TIMER,
    ) -> None:
        spec, state = _spec_of(self._spec), int(element[0])
        oldest = int(rows_from_bytes(spec, state // spec.shards, element[1]).time.min())
        came.add(element[1])
        waits = due.read()
        if waits is None or self._due(oldest) < waits:
            self._set(oldest, due, timer)

    @on_timer(RELEASE)
    def release(
        self,
        key: bytes = DoFn.KeyParam,
        now: Any = DoFn.TimestampParam,
        came: Any = IS_CAME,
        kept: Any = IS_KEPT,
        due: Any = IS_DUE,
        timer: Any = TIMER,
    ) -> Iterator[_Keyed]:
        spec, state = _spec_of(self._spec), int(key)
        with timed("rolling_us"), one_thread():
            # Whole cells only: a time of the timer that an engine rounds must not release part of one.
            before = (now.micros - spec.lateness_us) // self._every_us * self._every_us
            rolled = roll(spec, self._load(state, kept.read()), _rows(spec, state, came.read()), before)
        came.clear()
        data = to_bytes(spec, rolled.state)
        measure("state_bytes", len(data))
        kept.write(data)
        self._read[state] = data, rolled.state
        if len(rolled.state.waiting):
            self._set(int(rolled.state.waiting.time.min()), due, timer)
        else:
            due.clear()
        yield from _said(spec, state, rolled)

    def _load(self, state: int, data: bytes | None) -> State:
        """Return the state; one that this worker wrote itself is not read again."""
        spec = _spec_of(self._spec)
        if data is None:
            return empty(spec, state)
        known = self._read.get(state)
        return known[1] if known is not None and known[0] == data else from_bytes(spec, data)


def _block(spec: Rolling, parts: Iterable[bytes]) -> Block:
    """Return a block of which everything is there."""
    given = list(parts)
    (opened,) = (decode_open(one) for one in given if is_open(one))
    pieces = tuple(decode_piece(one) for one in given if not is_open(one))
    return assembled(spec, dataclasses.replace(opened, pieces=pieces))


@with_input_types(tuple[bytes, Iterable[bytes]])
@with_output_types(Block)
class _Assemble(Step):
    """Puts aggregates beside their rows, of blocks whose pieces are all there."""

    def __init__(self, spec: str) -> None:
        self._spec = spec

    def process(self, element: tuple[bytes, Iterable[bytes]]) -> Iterator[Block]:
        yield _block(_spec_of(self._spec), element[1])


@with_input_types(_Keyed)
@with_output_types(Block)
class _AssembleAsTheyCome(DoFn):
    """Collects a block and its pieces, one key per block, until the last one has come; then its state is cleared.

    It has no timer: a block is whole when all its rows are there.
    """

    PARTS = BagStateSpec("parts", BytesCoder())
    LEFT = ReadModifyWriteStateSpec("left", VarIntCoder())
    IS_PARTS, IS_LEFT = DoFn.StateParam(PARTS), DoFn.StateParam(LEFT)

    def __init__(self, spec: str) -> None:
        self._spec = spec

    def process(self, element: _Keyed, parts: Any = IS_PARTS, left: Any = IS_LEFT) -> Iterator[Block]:
        spec, data = _spec_of(self._spec), element[1]
        # Pieces that come before their block are owed: the count is below 0 until it comes, and rows are in whole numbers.
        rows = decode_open(data).missing(spec) if is_open(data) else -len(decode_piece(data).row)
        still = (left.read() or 0) + rows
        parts.add(data)
        whole = list(parts.read()) if still == 0 else []
        if whole and any(map(is_open, whole)):
            yield _block(spec, whole)
            parts.clear()
            left.clear()
        else:
            left.write(still)


class RollingFeatures(PTransform):
    """Blocks → blocks with the aggregates of a spec as further columns.

    Rows without a usable key or time are rejects of their block, and so are rows that come behind the lateness, for one of
    their keys: `Block.rejected` has them, with place and reason.

    In a bounded pipeline all rows of a shard are sorted and computed together, in memory: choose so many shards that one
    fits. In an unbounded one rows are late when they come behind the watermark by more than `spec.lateness`, and a block
    leaves when the watermark has passed its newest row by the lateness and `every`. Its oldest row then lies as far behind
    as the block is long, which after a pause of the source may be a whole backlog: `JoinLabels` behind it would refuse such
    a row as late, where it takes the same rows beside it.

    Args:
        spec: of the windows; shipped as JSON.
        every: seconds, or a text such as "1m", of event time whose rows are released together, in whole ms: a longer
            stretch costs latency and saves work. It changes no value.

    Raises:
        InvalidValue: `every` is not whole ms, or not positive.

    >>> import apache_beam as beam
    >>> import pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> spec = Rolling(time="ts", shards=2, aggregates=[{"key": "card", "of": "count", "windows": ["10s"]}])
    >>> pipeline = new_pipeline()
    >>> rows = pa.record_batch({"ts": [1e9, 1e9 + 4, 1e9 + 13], "card": ["a", "a", "a"]})
    >>> blocks = pipeline | beam.Create([Block(rows)]) | RollingFeatures(spec)
    >>> _ = blocks | beam.Map(lambda block: print(block.batch["count_by_card_10s"].to_pylist()))
    >>> _ = run(pipeline)
    [1, 2, 2]
    """

    def __init__(self, spec: Rolling, every: float | str = 60.0) -> None:
        super().__init__()
        try:
            seconds = duration_s(every)
            self._every_us = to_us(float(seconds))  # type: ignore[arg-type]
        except ValueError as error:
            message = f"RollingFeatures.every {str(error).rstrip('.')}; got {every!r}."
            raise InvalidValue(message) from None
        if self._every_us < TICK_US or self._every_us % TICK_US:
            message = f"RollingFeatures.every must be whole ms, the grain of engines' timers; got {every!r}."
            raise InvalidValue(message)
        self._spec, self._n_states = spec.to_json(), spec.n_states

    def expand(self, pcoll: PCollection) -> PCollection:
        """Cut the blocks by shard, compute each, and assemble the blocks again."""
        coders.install(pcoll.pipeline)
        names = [f"state_{state}" for state in range(self._n_states)]
        fn = _Cut(self._spec).with_output_types(_Keyed, **dict.fromkeys(names, _Keyed))
        cut = to_global(pcoll) | "Cut" >> ParDo(fn).with_outputs(*names, main="open")
        shards = [cut[name] for name in names]
        if pcoll.is_bounded:
            pieces = (
                shards | "Shards" >> Flatten() | "ByState" >> GroupByKey() | "RollAll" >> ParDo(_RollAll(self._spec))
            )
            together = (cut["open"], pieces) | "Together" >> Flatten() | "ByBlock" >> GroupByKey()
            return together | "Assemble" >> ParDo(_Assemble(self._spec))
        held = [
            shard | f"Roll{state}" >> ParDo(_Roll(self._spec, self._every_us)) for state, shard in enumerate(shards)
        ]
        together = (cut["open"], *held) | "Together" >> Flatten()
        return together | "Assemble" >> ParDo(_AssembleAsTheyCome(self._spec))
