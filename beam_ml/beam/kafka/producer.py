"""`TopicWriter`: messages to one topic, sent within bounded memory and counted as the brokers acknowledge them."""

import collections
import contextlib
import functools
import time
from types import TracebackType
from typing import Any, Self

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.connection import Connection, producer_options, said, translate
from beam_ml.beam.kafka.pool import Pool
from beam_ml.errors import BeamMLError, InvalidValue, NoInput, SourceRefused, SourceUnavailable

__all__ = ["TopicWriter", "producers"]

_WAITING_BYTES = 32 << 20
_LATE_S = 1.0
"""What the library gives up on comes back as an error in its own time; this much later nothing will."""
_CLOSE_S = 5.0


def _close(one: KafkaProducer) -> None:
    one.close(timeout=_CLOSE_S)


@functools.lru_cache(maxsize=1)
def producers() -> Pool:
    """Return this process's producers; each has one user at a time, so that a failure is its user's own."""
    return Pool(_close)


class TopicWriter:
    """Sends messages to a topic; `finish`, or leaving its `with` block, returns when all of them are acknowledged.

    Its producer is the process's own, kept for the next writer to that topic. After an error the producer is closed: use a
    new writer.

    Args:
        connection: how to reach the brokers; a message may take its `timeout_s` to be acknowledged.
        topic: where to; it must exist.
        waiting_bytes: sent and not acknowledged yet, at most: one more message waits for the oldest. The library itself
            would hold any number of them.

    Attributes:
        rows, messages, bytes: acknowledged so far.

    Raises:
        NoInput: there is no such topic.
        SourceUnavailable: the brokers do not answer.
        SourceRefused: they refuse this user.
    """

    def __init__(self, connection: Connection, topic: str, waiting_bytes: int = _WAITING_BYTES) -> None:
        self._connection, self._topic, self._limit = connection, topic, waiting_bytes
        self._where = f"Topic {topic} at {connection.brokers}"
        self._wait_s = float(producer_options(connection)["delivery_timeout_ms"]) / 1000 + _LATE_S
        self._waiting: collections.deque[tuple[Any, int, int]] = collections.deque()  # (future, rows, bytes)
        self._waiting_bytes = 0
        self.rows = self.messages = self.bytes = 0
        self._key = (connection.to_json(), topic)
        self._producer: Any = producers().acquire(self._key, self._make)

    def _make(self) -> KafkaProducer:
        asking = client.consumer(self._connection)  # a producer would only time out on a topic that is not there
        try:
            client.topic_state(asking, self._topic)
        finally:
            asking.close(autocommit=False)
        return client.producer(self._connection)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Wait until all is acknowledged; after an error close the producer instead."""
        if error is None:
            self.finish()
        else:
            self.abandon()

    def partitions(self) -> list[int]:
        """Return the topic's partitions.

        Raises:
            SourceUnavailable: the brokers do not answer.
        """
        try:
            return sorted(self._producer.partitions_for(self._topic))
        except KafkaError as error:
            raise self._failed(error) from error

    def send(
        self,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        rows: int = 1,
    ) -> None:
        """Send a message; messages of one key, or to one partition, stay in order.

        Args:
            value: its bytes; None deletes the key's messages in a compacted topic.
            key: or None.
            partition: or None: by the key's hash.
            timestamp_ms: or None: now.
            rows: that it holds, to be counted.

        Raises:
            InvalidValue: it has neither key nor value, or is larger than the client sends.
            SourceUnavailable: a message before it was not acknowledged in time, or refused.
        """
        if key is None and value is None:
            message = f"{self._where}: a message must have a key or a value; got neither."
            raise InvalidValue(message)
        size = len(key or b"") + len(value or b"")
        while self._waiting and self._waiting_bytes + size > self._limit:
            self._settle_oldest()
        try:
            future = self._producer.send(
                self._topic, value=value, key=key, partition=partition, timestamp_ms=timestamp_ms
            )
        except MessageSizeTooLargeError as error:
            self.abandon()
            message = (
                f"{self._where}: a message must not be larger than the client's max_request_size; got {size:,} bytes (send "
                f"fewer rows per message, or raise that option and the topic's max.message.bytes)."
            )
            raise InvalidValue(message) from error
        except (KafkaError, AssertionError, TypeError, ValueError) as error:
            raise self._failed(error) from error
        self._waiting.append((future, rows, size))
        self._waiting_bytes += size

    def settle(self) -> None:
        """Count what has been acknowledged by now, without waiting.

        Raises:
            SourceUnavailable: a message was refused.
        """
        while self._waiting and self._waiting[0][0].is_done:
            self._settle_oldest()

    def flush(self) -> None:
        """Wait until everything sent so far is acknowledged.

        Raises:
            SourceUnavailable: something was not, in time.
        """
        if not self._waiting:
            return
        until = time.monotonic() + self._wait_s
        # It only hurries them: it fails, too, where a batch larger than the topic takes was split, and its messages arrive.
        with contextlib.suppress(KafkaError):
            self._producer.flush(self._wait_s)
        while self._waiting:
            self._settle_oldest(max(0.0, until - time.monotonic()))

    def finish(self) -> int:
        """Wait until everything is acknowledged, and leave the producer to the next writer; return the messages' number.

        Raises:
            SourceUnavailable: something was not acknowledged in time.
        """
        if self._producer is not None:
            self.flush()
            producers().release(self._key, self._producer)
            self._producer = None
        return self.messages

    def abandon(self) -> None:
        """Close the producer; what was not yet acknowledged may or may not arrive."""
        if self._producer is not None:
            producers().drop(self._producer)
            self._producer = None

    def _settle_oldest(self, wait_s: float | None = None) -> None:
        future, rows, size = self._waiting[0]
        try:
            future.get(timeout=self._wait_s if wait_s is None else wait_s)
        except KafkaError as error:
            silent = KafkaTimeoutError(f"no answer within {self._wait_s:g} s")
            raise self._failed(error if future.is_done else silent) from error
        self._waiting.popleft()
        self._waiting_bytes -= size
        self.rows += rows
        self.messages += 1
        self.bytes += size

    def _failed(self, error: Exception) -> BeamMLError:
        self.abandon()
        where = (
            f"{self._where} (after {self.messages:,} messages of {self.rows:,} rows that it acknowledged; of the "
            f"{len(self._waiting):,} under way any may be there)"
        )
        known = translate(error, where)
        if isinstance(known, SourceRefused | NoInput):
            return known
        return SourceUnavailable(f"{where}: brokers must acknowledge messages in time; got {said(error)}.")
