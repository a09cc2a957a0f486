"""The brokers, as seen by a stream's reader: one consumer per process for all partitions that one split reads.

Beam recreates a stream's readers for almost every bundle, so what is costly outlives them in the client's pool: the
connections, and what has been fetched ahead. A reader passes its position, and the consumer seeks where its own differs.
"""

import contextlib
import functools
import json
import logging
import time
from collections.abc import Iterator, Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import Connection, TopicState
from beam_ml.beam.kafka.connection import refused, translate
from beam_ml.beam.kafka.poll import Polled, poll_partitions
from beam_ml.errors import SourceError

__all__ = ["known_topic", "look", "poll", "topic_ends"]

_BATCHES = 1 << 20
"""Producers' batches of one poll: all that has been fetched; the client's fetch size bounds their bytes."""
_ASK_MS = 1000
"""How long one look at the ends of the partitions may take."""
_LOOK_AGAIN_S = 30.0
"""Between two looks of a process for partitions that have come."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def _consumer(source: KafkaSource, at: Mapping[int, int]) -> Iterator[KafkaConsumer]:
    """Lend the consumer that has these partitions; a new one is at their positions."""
    connection = Connection.of(source)

    def make() -> KafkaConsumer:
        made = client.consumer(connection)
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
        As `poll_partitions`.

    Raises:
        SourceError: the brokers refuse, or what they hold cannot be read.
    """
    with _consumer(source, at) as lent:
        return poll_partitions(lent, source.topic, at, wait_s, _BATCHES)


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
