"""Rows in order of event time → a topic, at N× real time: paced, sent within bounded memory, counted as acknowledged.

Letters: ``n`` rows, ``m`` messages.
"""

import dataclasses
import time as clocks
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from beam_ml.beam.kafka.connection import Connection, Option
from beam_ml.beam.kafka.producer import TopicWriter
from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.formats import messages
from beam_ml.formats.messages import Encoder

__all__ = ["Pace", "Replay", "Sent", "replay", "replay_to", "whole_messages"]

Rows = tuple[pa.RecordBatch, np.ndarray]
"""Rows as named columns, and their (n,) int64 event times, µs since the epoch, never falling."""

_CHUNK_ROWS = 4096
"""Rows encoded at once: few enough that encoding does not hold up the pace."""
_TICK_S = 0.1
"""Longest sleep, so that a request to stop is noticed soon."""
_TELL_S = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Replay:
    """How rows become messages.

    Attributes:
        rows_per_message: rows that share a message, the last message excepted; it goes out when its last row is due.
        speed: seconds of event time that pass in one second; None: as fast as the brokers take them.
        key: column whose value, as text, is a message's key; it needs messages of one row.
        spread: `key`: the key's hash chooses the partition; `round-robin`: partitions take turns.
        record_time: what messages are dated: `now`, or `event`: the last row's event time, to the next ms.
    """

    rows_per_message: int = 1
    speed: float | None = None
    key: str | None = None
    spread: Literal["key", "round-robin"] = "round-robin"
    record_time: Literal["now", "event"] = "now"

    def __post_init__(self) -> None:
        if self.rows_per_message < 1:
            message = f"rows_per_message must be >= 1; got {self.rows_per_message}."
            raise InvalidValue(message)
        if self.speed is not None and not 0 < self.speed < float("inf"):
            message = f"speed must be greater than 0, or 'max'; got {self.speed:g}."
            raise InvalidValue(message)
        if self.key is not None and self.rows_per_message != 1:
            message = (
                f"rows_per_message must be 1 where there is a key: a message has one; got {self.rows_per_message}."
            )
            raise InvalidValue(message)
        if self.key is None and self.spread == "key":
            message = "partitions by key need a key; got none."
            raise InvalidValue(message)


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """What has been sent so far.

    Attributes:
        rows, messages, bytes: acknowledged by the brokers.
        last_us: event time of the newest row handed over, µs since the epoch; None before the first.
        seconds: since the first row.
        behind_s: how much later than due the newest message was handed over.
        worst_behind_s: the largest of these.
        whole: whether all rows were sent, and nobody asked to stop.
    """

    rows: int = 0
    messages: int = 0
    bytes: int = 0
    last_us: int | None = None
    seconds: float = 0.0
    behind_s: float = 0.0
    worst_behind_s: float = 0.0
    whole: bool = False


class Pace:
    """When each event time is due: the first at once, the others as far behind it as the speed says.

    >>> Pace(2.0, first_us=10_000_000, begun_s=100.0).due_s(np.array([10_000_000, 13_000_000]))
    array([100. , 101.5])
    """

    def __init__(self, speed: float | None, first_us: int, begun_s: float) -> None:
        self._speed, self._first_us, self._begun_s = speed, first_us, begun_s

    def due_s(self, time_us: np.ndarray) -> np.ndarray:
        """Return the instants, s by the clock that `begun_s` was read from."""
        if self._speed is None:
            return np.full(len(time_us), self._begun_s)
        return self._begun_s + (time_us - self._first_us) / 1e6 / self._speed


def whole_messages(rows: Iterable[Rows], rows_per_message: int, chunk_rows: int = _CHUNK_ROWS) -> Iterator[Rows]:
    """Cut rows into chunks of whole messages; only the very last message may hold fewer rows.

    Args:
        rows: in order.
        rows_per_message: rows of one.
        chunk_rows: of one chunk, about.

    >>> times = np.arange(5)
    >>> rows = [(pa.record_batch({"x": times[:3]}), times[:3]), (pa.record_batch({"x": times[3:]}), times[3:])]
    >>> [len(time) for _, time in whole_messages(rows, 2, chunk_rows=2)]
    [2, 2, 1]
    """
    step = max(1, chunk_rows // rows_per_message) * rows_per_message
    held: list[pa.RecordBatch] = []
    held_times: list[np.ndarray] = []
    n = 0
    for batch, times in rows:
        held.append(batch)
        held_times.append(times)
        n += len(times)
        if n < step:
            continue
        joined, joined_times = pa.concat_batches(held), np.concatenate(held_times)
        stop = n // step * step
        for start in range(0, stop, step):
            yield joined.slice(start, step), joined_times[start : start + step]
        held, held_times, n = [joined.slice(stop)], [joined_times[stop:]], n - stop
    if n:
        yield pa.concat_batches(held), np.concatenate(held_times)


def _keys(batch: pa.RecordBatch, key: str | None) -> Sequence[bytes | None] | None:
    if key is None:
        return None
    if batch.schema.names.count(key) != 1:
        message = f"The key must be one column of the rows; got {key!r} of {batch.schema.names}."
        raise MissingColumn(message)
    found = batch.column(key)
    return found.cast(pa.string()).cast(pa.binary()).to_pylist()


def replay(
    rows: Iterable[Rows],
    writer: TopicWriter,
    how: Replay,
    encode: Encoder,
    partitions: Sequence[int],
    tell: Callable[[Sent], None] = lambda sent: None,
    stopping: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = clocks.monotonic,
    sleep: Callable[[float], None] = clocks.sleep,
) -> Sent:
    """Send rows as their times come; late ones at once, so that the schedule is caught up with as fast as can be.

    Args:
        rows: in order of event time, as blocks.
        writer: where messages go.
        how: messages, speed, partitions, record times.
        encode: rows and rows of one message → the messages' bytes.
        partitions: of the topic.
        tell: called about twice a second with what has been sent.
        stopping: asked between messages: True sends no more.
        clock: returns seconds.
        sleep: waits for seconds.

    Returns:
        What was sent, all of it acknowledged.

    Raises:
        SourceUnavailable, InvalidValue: see `TopicWriter.send`.
        MissingColumn: there is no such key.
    """
    begun, reported = clock(), clock()
    pace: Pace | None = None
    sent, number = Sent(), 0

    def so_far(whole: bool = False) -> Sent:
        counts = {"rows": writer.rows, "messages": writer.messages, "bytes": writer.bytes}
        return dataclasses.replace(sent, **counts, seconds=clock() - begun, whole=whole)

    for batch, times in whole_messages(rows, how.rows_per_message):
        if pace is None:
            # Reading the first rows does not count as the schedule's time.
            begun = reported = clock()
            pace = Pace(how.speed, int(times[0]), begun)
        values, keys = encode(batch, how.rows_per_message), _keys(batch, how.key)
        first = np.arange(0, len(times), how.rows_per_message)
        n_rows = np.diff(np.append(first, len(times)))
        latest = times[first + n_rows - 1]
        due = pace.due_s(latest)
        i = 0
        while i < len(values):
            writer.settle()
            now = clock()
            if now - reported >= _TELL_S:
                reported = now
                tell(so_far())
            if stopping():
                writer.flush()
                return so_far()
            if due[i] > now:
                sleep(min(float(due[i]) - now, _TICK_S))
                continue
            # A few at a time: a stop and the progress are seen to in between.
            ready = min(int(np.searchsorted(due, now, side="right")), i + 256)
            for j in range(i, ready):
                writer.send(
                    values[j],
                    None if keys is None else keys[j],
                    None if how.spread == "key" else partitions[number % len(partitions)],
                    None if how.record_time == "now" else -int(-latest[j] // 1000),
                    int(n_rows[j]),
                )
                number += 1
            behind = 0.0 if how.speed is None else max(0.0, clock() - float(due[ready - 1]))
            worst = max(sent.worst_behind_s, behind)
            sent = dataclasses.replace(sent, last_us=int(latest[ready - 1]), behind_s=behind, worst_behind_s=worst)
            i = ready
    writer.flush()
    return so_far(whole=True)


def replay_to(
    brokers: str,
    topic: str,
    options: Mapping[str, Option],
    rows: Iterable[Rows],
    how: Replay,
    format: str = "json",
    format_options: Mapping[str, Any] | None = None,
    tell: Callable[[Sent], None] = lambda sent: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Sent:
    """Send rows to a topic as their times come.

    Args:
        brokers: host:port, several by commas.
        topic: its name.
        options: of kafka-python; '$NAME' is read from the environment.
        rows: in order of event time.
        how: messages, speed, partitions, record times.
        format: of the messages.
        format_options: the format's.
        tell: called about twice a second.
        stopping: True sends no more.

    Returns:
        What was sent and acknowledged.

    Raises:
        NoInput: there is no such topic.
        SourceUnavailable: brokers do not answer in time, or refuse this user.
        InvalidValue: options that kafka-python or the format does not take, or a message too large.
        MissingColumn: there is no such key.
    """
    encode = messages.encoder(format, format_options)
    connection = Connection(brokers, options)
    with TopicWriter(connection, topic) as writer:
        return replay(rows, writer, how, encode, writer.partitions(), tell, stopping)
