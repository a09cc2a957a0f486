"""The brokers, as seen by a stream's reader: one consumer per process for all partitions that one split reads.

Beam recreates a stream's readers for almost every bundle, so what is costly outlives them in the client's pool: the
connections, and what has been fetched ahead. A reader passes its position, and the consumer seeks where its own differs.
"""

import contextlib
import dataclasses
import functools
import json
import logging
import time
from collections.abc import Iterator, Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import Connection, TopicState
from beam_ml.beam.kafka.connection import refused, translate
from beam_ml.beam.kafka.records import Messages, use
from beam_ml.errors import RowsLost, SourceError

__all__ = ["Polled", "known_topic", "look", "poll", "topic_ends"]

_BATCHES = 1 << 20
"""Producers' batches of one poll: all that has been fetched; the client's fetch size bounds their bytes."""
_ASK_MS = 1000
"""How long one look at the ends of the partitions may take."""
_LOOK_AGAIN_S = 30.0
"""Between two looks of a process for partitions that have come."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Polled:
    """One poll of one partition: the messages of the offsets [start, stop), which may hold none."""

    partition: int
    messages: Messages
    start: int
    stop: int


@contextlib.contextmanager
def _consumer(source: KafkaSource, at: Mapping[int, int]) -> Iterator[KafkaConsumer]:
    """Lend the consumer that has these partitions; a new one is at their positions."""
    connection = Connection.of(source)

    def make() -> KafkaConsumer:
        made = client.consumer(connection)
        use(made)
        where = {TopicPartition(source.topic, partition): offset for partition, offset in at.items()}
        made.assign(list(where))
        for one, offset in where.items():
            made.seek(one, offset)
        return made

    key = (connection.to_json(), "stream", source.topic, tuple(sorted(at)))
    with client.consumers().borrowed(key, make) as lent:
        yield lent


def look(source: KafkaSource, timeout_s: float | None = None) -> TopicState:
    """Ask where all partitions of the topic begin and end now.

    Args:
        source: settings.
        timeout_s: s to wait for an answer; None: as long as they say.

    Raises:
        SourceUnavailable, NoInput: the brokers or the topic cannot be reached.
    """
    with _consumer(source, {}) as lent:
        return client.topic_state(lent, source.topic, timeout_s)


def known_topic(source: KafkaSource, afresh: bool = False) -> TopicState:
    """Return the topic as this process saw it lately: its partitions, where they began and ended then.

    Args:
        source: settings.
        afresh: look again, and return that from now on.

    Raises:
        SourceUnavailable, NoInput: the brokers or the topic cannot be reached, and were not before.
    """
    if afresh:
        _known_topic.cache_clear()
    return _known_topic(source.to_json()).get(time.monotonic())


class _Known:
    """A topic as this process saw it last: what it has at first holds until a later look is answered."""

    def __init__(self, source: str) -> None:
        self._source = KafkaSource.parse(json.loads(source))
        self._looked = time.monotonic()
        self._state = look(self._source)

    def get(self, now_s: float) -> TopicState:
        if now_s - self._looked >= _LOOK_AGAIN_S:
            self._looked = now_s
            try:
                self._state = look(self._source, _ASK_MS / 1000)
            except SourceError as error:  # whether anybody answers is asked elsewhere
                _log.warning("%s: looking for new partitions failed: %s", self._source.where, error)
        return self._state


@functools.lru_cache(maxsize=64)
def _known_topic(source: str) -> _Known:
    return _Known(source)


def poll(source: KafkaSource, at: Mapping[int, int], wait_s: float) -> tuple[list[Polled], dict[int, int]]:
    """Poll the partitions of one split once.

    Args:
        source: settings.
        at: partition → its read position, of all of them.
        wait_s: how long to wait for a first message.

    Returns:
        What came; and partition → the offset asked for, where the log does not hold it (any more).

    Raises:
        SourceError: the brokers refuse, or what they hold cannot be read. While they are silent nothing comes.
        RowsLost: messages read before are no longer there.
    """
    with _consumer(source, at) as lent:
        where = {partition: TopicPartition(source.topic, partition) for partition in at}
        for partition, offset in at.items():
            if lent.position(where[partition], timeout_ms=0) != offset:
                lent.seek(where[partition], offset)
        try:
            polled = lent.poll(timeout_ms=wait_s * 1000, max_records=_BATCHES)
        except OffsetOutOfRangeError as error:
            return [], {one.partition: offset for one, offset in error.args[0].items()}
        except LogTruncationError as error:
            message = (
                f"The {source.where} must still hold what was read of it; a broker that failed has cut off messages of "
                f"partitions {sorted(one.partition for one in error.divergent_offsets)}."
            )
            raise RowsLost(message) from error
        except KafkaError as error:
            if error.retriable and not refused(error):
                _log.warning("%s: a poll failed and will be retried: %r", source.where, error)
                return [], {}
            raise translate(error, f"The {source.where}") from error
        found = []
        # Positions may have moved without a message, past markers and aborted ones, while others have some at each poll.
        for partition in sorted(at):
            stop = lent.position(where[partition], timeout_ms=0)
            if stop is not None and stop > at[partition]:
                found.append(Polled(partition, Messages(polled.get(where[partition], [])), at[partition], stop))
        return found, {}


def topic_ends(source: KafkaSource, at: Mapping[int, int]) -> dict[int, int] | None:
    """Ask where partitions end now, for messages that may be read; None: no answer just now.

    Args:
        source: settings.
        at: as for `poll`, whose consumer it uses.

    Raises:
        SourceUnavailable, NoInput: the brokers refuse, or the topic is gone.
    """
    with _consumer(source, at) as lent:
        try:
            ends = lent.end_offsets([TopicPartition(source.topic, p) for p in at], timeout_ms=_ASK_MS)
        except KeyError as error:  # how the library says that a partition has no leader
            _log.warning("%s: partition %s has no leader at the moment.", source.where, error)
            return None
        except KafkaError as error:
            if not error.retriable or refused(error):
                raise translate(error, f"The {source.where}") from error
            _log.warning("%s: the brokers do not answer at the moment: %r", source.where, error)
            return None
        return {one.partition: int(offset) for one, offset in ends.items()}
