"""A producer that is none: it notes what it is handed, and acknowledges it when the test says so."""

import dataclasses
from collections.abc import Callable
from typing import Any

from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from beam_ml.beam.kafka.connection import Connection
from beam_ml.beam.kafka.producer import TopicWriter, producers

NOBODY = Connection("nobody:1")
"""Where no broker is."""


@dataclasses.dataclass
class Future:
    """What kafka-python gives for a message; it is done when the test says so."""

    producer: "Producer"
    is_done: bool = False
    error: Exception | None = None
    silent: bool = False

    def get(self, timeout: float) -> None:
        if self.silent:
            raise KafkaTimeoutError
        self.producer.waited += 0 if self.is_done else 1
        self.is_done = True
        if self.error is not None:
            raise self.error


@dataclasses.dataclass
class Producer:
    """Notes what it is handed."""

    clock: Callable[[], float] = lambda: 0.0
    done_at_once: bool = True
    refuse_at: int | None = None
    error: Exception = dataclasses.field(default_factory=lambda: KafkaTimeoutError("no answer"))
    sent: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    futures: list[Future] = dataclasses.field(default_factory=list)
    at: list[float] = dataclasses.field(default_factory=list)
    waited: int = 0
    flushed: int = 0
    closed: bool = False

    def send(self, topic: str, **message: Any) -> Future:
        if len(message["value"] or b"") > 1_000:
            raise MessageSizeTooLargeError
        self.sent.append({"topic": topic, **message})
        self.at.append(self.clock())
        failing = self.refuse_at == len(self.futures)
        self.futures.append(Future(self, self.done_at_once or failing, self.error if failing else None))
        return self.futures[-1]

    def partitions_for(self, topic: str) -> set[int]:
        return {2, 0, 1}

    def flush(self, timeout: float) -> None:
        self.flushed += 1

    def close(self, timeout: float) -> None:
        self.closed = True


def writer(producer: Producer, topic: str = "topic", **settings: Any) -> TopicWriter:
    """Return a writer that finds this producer in the pool, as the one that wrote to the topic before it."""
    producers().release((NOBODY.to_json(), topic), producer)
    return TopicWriter(NOBODY, topic, **settings)
