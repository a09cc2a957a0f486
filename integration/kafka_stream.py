"""A topic that grows while a stream trains on it: distinct ids, rows of a message in several windows."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from kafka import KafkaProducer
from kafka_rows import check_values, newest

from beam_ml.core.intervals import size
from beam_ml.core.learner import Learner
from beam_ml.formats.messages import PLACES
from beam_ml.registry import Registry

ROOT = Path(__file__).parents[1]
SOURCE = "idle_timeout = '10s'\nout_of_orderness = '2s'"


class Producer(threading.Thread):
    """Writes messages at a rate; the rows of one are dated up to 1.9 s before it, so many of them span windows."""

    def __init__(self, brokers: str, topic: str, per_second: float, rows: int = 20, partitions: int = 2) -> None:
        super().__init__(daemon=True)
        self._given = (brokers, topic, per_second, rows, partitions)
        self._stopping = threading.Event()
        self.ids = self.messages = 0

    def run(self) -> None:
        brokers, topic, per_second, rows, partitions = self._given
        producer = KafkaProducer(bootstrap_servers=brokers, acks="all", linger_ms=5)
        begun = time.monotonic()
        while not self._stopping.wait(max(0.0, begun + self.messages / per_second - time.monotonic())):
            now = time.time_ns() // 1000
            values = [
                {"id": float(i), "x": float(np.sin(i)), "y": i % 2, "time": now - (i % 20) * 100_000}
                for i in range(self.ids, self.ids + rows)
            ]
            text = "\n".join(json.dumps(one) for one in values).encode()
            producer.send(topic, text, partition=self.messages % partitions, timestamp_ms=now // 1000)
            self.ids += rows
            self.messages += 1
        producer.flush()
        producer.close()

    def finish(self) -> None:
        self._stopping.set()
        self.join()


@contextlib.contextmanager
def producing(brokers: str, topic: str, per_second: float = 20.0, rows: int = 20) -> Iterator[Producer]:
    """Write until the block ends."""
    one = Producer(brokers, topic, per_second, rows)
    one.start()
    try:
        yield one
    finally:
        one.finish()


@contextlib.contextmanager
def trainer(path: Path, options: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python -m pipelines.stream``; killed at the end."""
    command = [sys.executable, "-m", "pipelines.stream", str(path), *options]
    log = (folder / f"trainer-{time.monotonic_ns()}.log").open("wb")
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=dict(os.environ))
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        log.close()


def wait(condition: Callable[[], bool], what: str, folder: Path, seconds: float = 240.0) -> None:
    """Wait until something is so; else, or as soon as rows are late, say what the trainers said."""
    until = time.monotonic() + seconds
    while not condition():
        late = [one for one in folder.glob("trainer-*.log") if b"rejected as late" in one.read_bytes()]
        if late or time.monotonic() > until:
            said = [one.read_text(errors="replace")[-3000:] for one in sorted(folder.glob("trainer-*.log"))]
            why = "rows came late" if late else f"not within {seconds:g} s"
            raise AssertionError("\n".join([f"{why}: {what}", *said]))
        time.sleep(0.3)


def head(registry: str | Path) -> int:
    return Registry(registry).head_number("kafka")


def rows_of(registry: str | Path) -> int:
    return newest(registry).progress.rows if head(registry) else 0


def check_all(registry: str | Path, ids: int, messages: int) -> Learner:
    """Every row counted once, every place covered once, nothing late, nothing rejected."""
    learner = newest(registry)
    check_values(learner, np.arange(ids, dtype=np.float64))
    assert learner.progress.late == 0
    assert learner.progress.rejected == {}
    assert learner.progress.repeated == 0
    assert sum(map(size, learner.progress.covered.values())) == messages * PLACES
    return learner


def lags(registry: str | Path, since: int = 0) -> list[float]:
    """Seconds from each window's end until its version was there, of the versions after one."""
    store = Registry(registry, create=False)
    found = []
    for number in range(since + 1, store.head_number("kafka") + 1):
        one = store.manifest("kafka", number)
        made = np.datetime64(one.created.rstrip("Z"), "us").astype(np.int64)
        found += [(int(made) - refresh["window_end"]) / 1e6 for refresh in one.refreshes]
    return found


def check_taken_over(
    path: Path, registry: str, older: Sequence[str], newer: Sequence[str], rows: Producer, folder: Path
) -> None:
    """Of two streams of one name the one begun later goes on, and the other ends and says why; every row counts once."""
    with trainer(path, older, folder) as old:
        wait(lambda: head(registry) >= 2, "two versions", folder)
        with trainer(path, newer, folder) as new:
            wait(lambda: old.poll() is not None, "the older one's end", folder)
            assert old.returncode == 1
            at = head(registry)
            wait(lambda: head(registry) >= at + 2, "the newer one's versions", folder)
            rows.finish()
            wait(lambda: rows_of(registry) == rows.ids, "all rows", folder)
            assert new.poll() is None
    first = sorted(folder.glob("trainer-*.log"))[0].read_text()
    assert "HeadMoved: kafka v" in first
    assert "was published by another trainer, of epoch 2, since this one, of epoch 1, began" in first
    check_all(registry, rows.ids, rows.messages)
    store = Registry(registry)
    epochs = [store.manifest("kafka", number).epoch for number in store.versions("kafka")]
    assert epochs == sorted(epochs)
    assert set(epochs) == {1, 2}
