"""Transactions and the reports of their labels, live over two topics; and what goes out over a third, by transaction."""

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

ROW_TYPES = {"tx": "int64", "card": "string", "amount": "float64", "at": "int64"}
REPORT_TYPES = {"tx": "int64", "said": "int64", "fraud": "int64"}


class Events(threading.Thread):
    """Sends transactions, some out of order, and reports of one in three of them a second or more later.

    Args:
        brokers: of the topics.
        topics: of transactions and of reports, two partitions each.
        per_second: transactions.
    """

    def __init__(self, brokers: str, topics: tuple[str, str], per_second: float = 40.0) -> None:
        super().__init__(daemon=True)
        self._given, self._stopping = (brokers, topics, per_second), threading.Event()
        self.rows: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []

    def run(self) -> None:
        brokers, topics, per_second = self._given
        rng, later = random.Random(4), list[tuple[float, int]]()
        producer = KafkaProducer(bootstrap_servers=brokers, acks="all", linger_ms=5)
        begun, n = time.monotonic(), 0
        while not (self._stopping.wait(max(0.0, begun + n / per_second - time.monotonic())) and not later):
            now = time.time()
            if not self._stopping.is_set():
                at = int((now - rng.uniform(0.0, 0.8)) * 1e6)
                row = {"tx": n, "card": f"c{rng.randrange(9)}", "amount": rng.uniform(1, 100), "at": at}
                self._send(producer, topics[0], row, now)
                self.rows.append(row)
                if rng.random() < 1 / 3:
                    later.append((now + rng.uniform(1.0, 3.0), n))
                n += 1
            for due, number in [one for one in later if one[0] <= now]:
                later.remove((due, number))
                report = {"tx": number, "said": int(due * 1e6), "fraud": number % 2}
                self._send(producer, topics[1], report, now)
                self.reports.append(report)
        producer.flush()
        producer.close()

    @staticmethod
    def _send(producer: Any, topic: str, value: dict[str, Any], now: float) -> None:
        partition = value["tx"] % 2
        producer.send(topic, json.dumps(value).encode(), partition=partition, timestamp_ms=int(now * 1000))

    def finish(self) -> None:
        self._stopping.set()
        self.join()


class Out:
    """What has come out of a topic so far, by transaction; what comes again must be what had come, but for some columns.

    Args:
        brokers: of the topic.
        topic: of one partition.
        decode: a message as rows.
        may_differ: columns that may.
    """

    def __init__(
        self,
        brokers: str,
        topic: str,
        decode: Callable[[bytes], list[dict[str, Any]]],
        may_differ: frozenset[str] = frozenset(),
    ) -> None:
        self._decode, self._may_differ = decode, may_differ
        self._consumer = KafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest")
        self._consumer.assign([TopicPartition(topic, 0)])
        self._consumer.seek_to_beginning()
        self.rows: dict[int, dict[str, Any]] = {}
        self.again = 0

    def look(self) -> int:
        """Return how many transactions have come."""
        for records in self._consumer.poll(300).values():
            for one in records:
                for row in self._decode(one.value):
                    known = self.rows.setdefault(row["tx"], row)
                    self.again += known is not row
                    assert self._compared(known) == self._compared(row)
        return len(self.rows)

    def _compared(self, row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if name not in self._may_differ}
