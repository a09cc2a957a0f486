"""`Shards`: accumulations of an unbounded input → one accumulation per shard and closed window.

One timer per shard, always at the smallest end that is held, and set again after each firing: a timer set at each element
would forget all windows but that of the last one. It fires in the last ms of the window, once no row of it can arrive;
what it sends has that time, so that the fold's timer, at the end itself, waits for every shard.

Each shard is a step of its own, of one key. While a bundle is in progress, Flink advances a step's time up to the earliest
timer that the previous bundle has set; of two keys in one step, that may be the other's, and what the first one's timer
sends is late.
"""

from collections.abc import Iterator
from typing import Any

from apache_beam import DoFn, Flatten, ParDo, PTransform
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import PCollection
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.typehints import with_input_types, with_output_types
from apache_beam.utils.timestamp import Timestamp

from beam_ml.beam.stream.state import Held, OpenWindows, due_at
from beam_ml.beam.telemetry import measure, timed
from beam_ml.beam.transforms.accumulate import Accumulations
from beam_ml.beam.transforms.merge import shard_of
from beam_ml.beam.transforms.windowing import TICK_US, many_in_or_out, to_global
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.references import STREAM_REFUSE_BYTES
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.spec import Spec
from beam_ml.core.windows import ROUND
from beam_ml.errors import InvalidValue

__all__ = ["Shards"]


@with_input_types(tuple[int, Accumulation])
@with_output_types(tuple[bytes, tuple[int, Accumulation]])
class _OfShard(DoFn):
    """Takes what belongs to one shard, under its key."""

    def __init__(self, shard: int, n_shards: int) -> None:
        self._shard, self._n_shards = shard, n_shards

    def process(self, element: tuple[int, Accumulation]) -> Iterator[tuple[bytes, tuple[int, Accumulation]]]:
        if shard_of(element[1], self._n_shards) == self._shard:
            yield b"%d" % self._shard, element


@with_input_types(tuple[bytes, tuple[int, Accumulation]])
@with_output_types(tuple[int, Accumulation])
class _Shards(DoFn):
    """Holds accumulations by window end until the watermark has passed it."""

    WINDOWS = ReadModifyWriteStateSpec("windows", BytesCoder())
    CLOSED = TimerSpec("shard_closed", TimeDomain.WATERMARK)
    HELD, TIMER = DoFn.StateParam(WINDOWS), DoFn.TimerParam(CLOSED)

    def __init__(self, spec: str, size_us: int, delay_us: int) -> None:
        self._spec_json, self._size_us, self._delay_us = spec, size_us, delay_us

    def setup(self) -> None:
        self._windows = OpenWindows(self._spec_json, STREAM_REFUSE_BYTES)

    def process(
        self,
        element: tuple[bytes, tuple[int, Accumulation]],
        timestamp: Any = DoFn.TimestampParam,
        windows: Any = HELD,
        timer: Any = TIMER,
    ) -> None:
        shard, (end, accumulation) = element
        held = self._windows.load(windows.read())
        # Rows of no window wait for the end of the one that they came in, so that none is sent on its own.
        due = due_at(timestamp.micros, self._size_us) if end == ROUND else end
        with timed("merge_us"):
            self._windows.add(shard, held, end, due + self._delay_us, accumulation)
        _keep(self._windows, held, windows, timer)

    @on_timer(CLOSED)
    def closed(
        self,
        shard: bytes = DoFn.KeyParam,
        now: Any = DoFn.TimestampParam,
        windows: Any = HELD,
        timer: Any = TIMER,
    ) -> Iterator[tuple[int, Accumulation]]:
        held = self._windows.load(windows.read())
        for end in [end for end, one in held.items() if one.due - TICK_US <= now.micros]:
            yield end, self._windows.drop(shard, held, end)
        _keep(self._windows, held, windows, timer)


def _keep(codec: OpenWindows, held: dict[int, Held], windows: Any, timer: Any) -> None:
    if not held:
        windows.clear()
        return
    data = codec.store(held)
    measure("state_bytes", len(data))
    windows.write(data)
    timer.set(Timestamp(micros=min(one.due for one in held.values()) - TICK_US))


class Shards(PTransform):
    """`Accumulations`, or (window end, Accumulation), unbounded → (window end, Accumulation): one per shard and window.

    A window that is closed sends what still comes for it at once. Rows of no window (rejects) are sent when the window
    that they came in closes, so that every place scanned arrives at the fold.

    Args:
        spec: what is learned; shipped as JSON.
        size_us: length of the windows, whole ms.
        n_shards: steps that share the work of merging.
        delay_us: how long after a window's end, by the watermark, all of it is there, whole ms.
    """

    def __init__(self, spec: Spec, size_us: int, n_shards: int = 1, delay_us: int = 0) -> None:
        super().__init__()
        if n_shards < 1:
            message = f"Shards.n_shards must be >= 1; got {n_shards}."
            raise InvalidValue(message)
        if size_us < TICK_US or size_us % TICK_US:
            message = f"refresh must be whole ms, the grain of engines' timers; got {size_us} µs."
            raise InvalidValue(message)
        self._n_shards, self._fn = n_shards, _Shards(spec.to_json(), size_us, delay_us)

    @many_in_or_out
    def expand(self, pcoll: PCollection | Accumulations) -> PCollection:
        """Hold each shard's accumulations by a step of its own, and flatten what they send."""
        accumulations = pcoll.accumulations if isinstance(pcoll, Accumulations) else pcoll
        coders.install(accumulations.pipeline)
        shared, held = to_global(accumulations), []
        for shard in range(self._n_shards):
            mine = shared | f"Of{shard}" >> ParDo(_OfShard(shard, self._n_shards))
            held.append(mine | f"Hold{shard}" >> ParDo(self._fn))
        return held[0] if len(held) == 1 else held | Flatten()
