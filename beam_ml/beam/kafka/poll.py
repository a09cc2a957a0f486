"""Polls of partitions, and one poll of one partition → one block of raw messages."""

import dataclasses
import functools
import logging
import time
from collections.abc import Mapping

import pyarrow as pa
from kafka import KafkaConsumer
from kafka.errors import KafkaError, LogTruncationError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.structs import TopicPartition

from beam_ml.beam.kafka.connection import refused, translate
from beam_ml.beam.kafka.records import Messages, Run
from beam_ml.core.batch import Origin
from beam_ml.errors import RowsLost
from beam_ml.formats.block import Block
from beam_ml.formats.messages import place

__all__ = ["Polled", "messages_block", "poll_partition", "poll_partitions", "standing"]

_BATCHES = 64
"""Batches unpacked at once of one partition."""
_FIRST_S, _SLICE_S = 0.002, 0.05
"""Shortest and longest wait before a poll is looked after: one that only meets markers and aborted messages moves on
without a word, and the library sleeps where an answer arrives just before it begins to wait for it."""

_log = logging.getLogger(__name__)

_TIMESTAMP = pa.timestamp("ms", tz="UTC")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Polled:
    """What one poll brought of one partition: the messages of the offsets [start, stop), which may hold none."""

    partition: int
    messages: Messages
    start: int
    stop: int


def poll_partitions(
    consumer: KafkaConsumer, topic: str, at: Mapping[int, int], wait_s: float, batches: int
) -> tuple[list[Polled], dict[int, int]]:
    """Poll once for what comes next in partitions of a topic.

    Args:
        consumer: of `client.consumer`; these partitions alone are assigned to it. Its positions are set where they differ.
        topic: its name.
        at: partition → first offset wanted.
        wait_s: s to wait for a first message; 0: only what has been fetched already.
        batches: producers' batches unpacked at most; each has about the size of its producer's setting, compressed or not.

    Returns:
        What came, by partition: a position may move past offsets that hold no message to be read (compacted away, markers,
        aborted transactions), and one that did not move is left out. And partition → the offset asked for, where the log
        does not hold it (any more). While brokers are silent nothing comes.

    Raises:
        RowsLost: a failed broker has cut off what was read.
        SourceRefused: the brokers refuse this user.
        UnreadableInput: a damaged batch, or a compression that is not installed.
    """
    partitions = {partition: TopicPartition(topic, partition) for partition in at}
    where = f"Topic {topic} at {','.join(consumer.config['bootstrap_servers'])}"
    try:
        for partition, tp in partitions.items():
            if standing(consumer, tp) != at[partition]:
                consumer.seek(tp, at[partition])
        polled = consumer.poll(timeout_ms=wait_s * 1000, max_records=batches)
    except OffsetOutOfRangeError as error:
        return [], {tp.partition: offset for tp, offset in error.args[0].items()}
    except LogTruncationError as error:
        message = (
            f"{where} must still hold what was read of it; a broker that failed has cut off messages of partitions "
            f"{sorted(tp.partition for tp in error.divergent_offsets)}."
        )
        raise RowsLost(message) from error
    except KafkaError as error:
        if error.retriable and not refused(error):
            _log.warning("%s: a poll failed and will be retried: %r", where, error)
            time.sleep(min(wait_s, _SLICE_S))  # it failed without waiting: the next one is not to follow at once
            return [], {}
        raise translate(error, f"{where}, offsets {dict(at)}") from error
    found = []
    # Positions may have moved without a message while other partitions have some at each poll.
    for partition, tp in sorted(partitions.items()):
        stop = standing(consumer, tp)
        if stop is not None and stop > at[partition]:
            found.append(Polled(partition, Messages(polled.get(tp, [])), at[partition], stop))
    return found, {}


def poll_partition(
    consumer: KafkaConsumer,
    tp: TopicPartition,
    start: int,
    stop: int | None = None,
    max_bytes: int = 8 << 20,
    timeout_s: float = 1.0,
) -> tuple[Messages, int]:
    """Read what comes next in one partition, in as many polls as it takes.

    Args:
        consumer: as for `poll_partitions`.
        tp: topic and partition.
        start: first offset wanted.
        stop: offset behind the last one wanted; None: no end.
        max_bytes: of keys and values after which no more is added; what one fetch brought is not cut.
        timeout_s: s to wait for anything; 0: only what has been fetched already.

    Returns:
        (messages, next): the messages of [start, next). `next` may move without a message; where it equals `start` nothing
        came in time.

    Raises:
        RowsLost: `start` is no longer, or not yet, in the log.
        SourceRefused, UnreadableInput: as `poll_partitions`.
    """
    deadline = time.monotonic() + timeout_s
    runs: list[Run] = []
    size, at, slice_s = 0, start, _FIRST_S
    while size < max_bytes and (stop is None or at < stop):
        wait_s = 0.0 if runs else max(0.0, min(slice_s, deadline - time.monotonic()))
        slice_s = min(2 * slice_s, _SLICE_S)
        found, gone = poll_partitions(consumer, tp.topic, {tp.partition: at}, wait_s, _BATCHES)
        if gone:
            raise _lost(consumer, tp, at)
        for one in found:
            runs += one.messages.runs
            size += sum(run.nbytes for run in one.messages.runs)
            at = one.stop
        if not found and (runs or at > start or time.monotonic() >= deadline):
            break
    messages = Messages(runs)
    if stop is not None and at > stop:
        return messages.before(stop), stop
    return messages, at


def standing(consumer: KafkaConsumer, tp: TopicPartition) -> int | None:
    """Return the offset that a consumer is going to read next; None: never set."""
    try:
        at = consumer.position(tp, timeout_ms=0)
    except NoOffsetForPartitionError:
        return None
    return None if at is None else int(at)


def _lost(consumer: KafkaConsumer, tp: TopicPartition, at: int) -> RowsLost:
    where = f"Partition {tp.partition} of topic {tp.topic} at {','.join(consumer.config['bootstrap_servers'])}"
    try:
        first = int(consumer.beginning_offsets([tp], timeout_ms=5000)[tp])
    except (KafkaError, KeyError):
        return RowsLost(f"{where} must hold offset {at}; it does not.")
    if first > at:
        return RowsLost(
            f"{where} must still hold offset {at}; it begins at {first}: retention has removed {first - at:,} "
            "messages unread."
        )
    return RowsLost(f"{where} must reach offset {at}; it ends before: was it recreated, or cut off by a failed broker?")


@functools.lru_cache(maxsize=256)
def _origin(source: str, partition: int) -> Origin:
    return Origin(source, str(partition))


def messages_block(
    source: str, partition: int, messages: Messages, start: int, stop: int, headers: bool = False
) -> Block:
    """Make a block of raw messages.

    Args:
        source: names the topic in the block's origin (`client.source_name`).
        partition: its number.
        messages: of [start, stop), in order.
        start: first offset that the block accounts for.
        stop: offset behind the last one.
        headers: whether to add the column `headers`.

    Returns:
        Columns `value` and `key` (binary, null where there is none) and `timestamp` (ms, UTC); each message's place.
    """
    offsets, times = messages.offsets, pa.array(messages.times).cast(_TIMESTAMP)
    arrays = {"value": messages.values(), "key": messages.keys(), "timestamp": times}
    if headers:
        arrays["headers"] = messages.headers()
    batch = pa.record_batch(arrays)
    return Block(
        batch, _origin(source, partition), place(offsets), place(offsets + 1), int(place(start)), int(place(stop))
    )
