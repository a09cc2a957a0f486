"""A stream under observation: messages of numbered rows in, one line a closed window out.

Each row is a number of its own, so that a loss and a duplicate cannot cancel: every line has its window's count of rows,
their sum, and the sum of their hashes. A line is written when the engine's watermark passes the window's end.
"""

import dataclasses
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import PCollection
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp
from kafka import KafkaProducer

from beam_ml.beam import engine
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka.stream.lost import SetLostAside
from beam_ml.beam.kafka.stream.source import ReadKafkaStream
from beam_ml.formats.block import Block
from beam_ml.formats.messages import seen_before

US = 1_000_000

HELD = ReadModifyWriteStateSpec("held", BytesCoder())
TIMER = TimerSpec("end", TimeDomain.WATERMARK)
_HELD, _TIMER = beam.DoFn.StateParam(HELD), beam.DoFn.TimerParam(TIMER)
_EMPTY = b"[{}, -1]"


def hashes(ids: np.ndarray) -> np.ndarray:
    """Return one well-mixed number per row, below 2³², so that sums of many stay exact."""
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(32)


def totals(ids: np.ndarray) -> list[int]:
    """Return count, sum and sum of hashes."""
    return [len(ids), int(ids.sum()), int(hashes(ids).sum())]


def added(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """Add totals."""
    return [x + y for x, y in zip(a, b, strict=True)]


class ByWindow(beam.DoFn):
    """Blocks → (key, (window end in µs, count, sum, sum of hashes)): what is of each window of record time."""

    def __init__(self, window_s: float, shards: int, padding: int) -> None:
        self._window_us, self._shards, self._padding = round(window_s * US), shards, padding

    def process(self, block: Block) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        stamps = block.batch.column("timestamp").cast("int64").to_numpy(zero_copy_only=False) * 1000
        ends = (stamps // self._window_us + 1) * self._window_us
        values = block.batch.column("value").to_pylist()
        seen = seen_before(block)
        rows: dict[int, list[np.ndarray]] = {}
        for i, (end, value) in enumerate(zip(ends.tolist(), values, strict=True)):
            place = int(block.position[i])
            if seen is not None and bool(np.any((seen[:, 0] <= place) & (place < seen[:, 1]))):
                continue
            ids = np.frombuffer(value, dtype=np.int64)
            rows.setdefault(end, []).append(ids[:: 1 + self._padding])
        for end, found in rows.items():
            ids = np.concatenate(found)
            yield int(hashes(ids[:1])[0]) % self._shards, (end, *totals(ids))


class CloseWindows(beam.DoFn):
    """Sums each window, and writes a line when its end has passed; what comes after that is a line of its own."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def process(
        self,
        element: tuple[int, tuple[int, int, int, int]],
        held: Any = _HELD,
        timer: Any = _TIMER,
    ) -> Iterator[Any]:
        windows, closed = json.loads(held.read() or _EMPTY)
        end, *sums = element[1]
        if end <= closed:
            self._write(element[0], end, sums, late=True)
        else:
            windows[str(end)] = added(windows.get(str(end), [0, 0, 0]), sums)
            timer.set(Timestamp(micros=min(map(int, windows))))
            held.write(json.dumps([windows, closed]).encode())
        yield from ()

    @on_timer(TIMER)
    def close(
        self,
        key: int = beam.DoFn.KeyParam,
        at: Any = beam.DoFn.TimestampParam,
        held: Any = _HELD,
        timer: Any = _TIMER,
    ) -> Iterator[Any]:
        windows, closed = json.loads(held.read() or _EMPTY)
        for end in sorted(map(int, windows)):
            if end <= at.micros:
                self._write(key, end, windows.pop(str(end)), late=False)
                closed = max(closed, end)
        if windows:
            timer.set(Timestamp(micros=min(map(int, windows))))
        held.write(json.dumps([windows, closed]).encode())
        yield from ()

    def _write(self, key: int, end: int, sums: list[int], late: bool) -> None:
        line = {"key": key, "end": end, "sums": sums, "late": late, "at": time.time()}
        with (Path(self._folder) / f"{key}.jsonl").open("a") as out:
            out.write(json.dumps(line) + "\n")


class CountLost(beam.DoFn):
    """Writes what retention has removed."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def process(self, progress: Any) -> Iterator[Any]:
        with (Path(self._folder) / "lost.jsonl").open("a") as out:
            out.write(json.dumps({"rejected": dict(progress.rejected), "places": progress.places}) + "\n")
        yield from ()


def watch(
    read: ReadKafkaStream, options: list[str], folder: Path, window_s: float, shards: int = 1, padding: int = 0
) -> PipelineResult:
    """Start a pipeline that writes closed windows under `folder`; the caller cancels it."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = engine.new_pipeline(options)
    found = pipeline | "Read" >> read | SetLostAside()
    keyed: PCollection = found.blocks | beam.ParDo(ByWindow(window_s, shards, padding)).with_output_types(
        tuple[int, tuple[int, int, int, int]]
    )
    keyed | beam.ParDo(CloseWindows(str(folder)))
    found.lost | beam.ParDo(CountLost(str(folder)))
    return pipeline.run()


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return what was written so far, in order of time."""
    found = [json.loads(line) for file in folder.glob("[0-9]*.jsonl") for line in file.read_text().splitlines()]
    return sorted(found, key=lambda line: line["at"])


def closed_sums(folder: Path) -> dict[int, list[int]]:
    """Return window end → totals, what came late included."""
    sums: dict[int, list[int]] = {}
    for line in lines(folder):
        sums[line["end"]] = added(sums.get(line["end"], [0, 0, 0]), line["sums"])
    return sums


def wait_for(folder: Path, rows: int, seconds: float) -> None:
    """Wait until so many rows are in closed windows; returns after `seconds` in any case."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and sum(line["sums"][0] for line in lines(folder)) < rows:
        time.sleep(0.2)


@dataclasses.dataclass
class Produced:
    """What was produced: window end → totals."""

    window_s: float
    rows: int = 0
    sums: dict[int, list[int]] = dataclasses.field(default_factory=dict)
    messages: int = 0


def produce(
    bootstrap: str,
    topic: str,
    into: Produced,
    messages: int,
    rate: float | None = None,
    rows: int = 100,
    padding: int = 0,
    partitions: int = 1,
    start_ms: int | None = None,
    step_ms: float = 0.0,
    stop: threading.Event | None = None,
) -> None:
    """Produce numbered rows, partition after partition in turn.

    Args:
        bootstrap: brokers.
        topic: its name.
        into: gets what was produced.
        messages: how many.
        rate: messages/s; None: as fast as it goes.
        rows: of one message.
        padding: further numbers of 8 bytes for each row.
        partitions: of the topic.
        start_ms: record time of the first message, ms; None: the clock, for all.
        step_ms: record time from message to message, ms.
        stop: ends it early when set.
    """
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), linger_ms=5, acks="all", batch_size=1 << 20)
    window_us = round(into.window_s * US)
    began = time.monotonic()
    for i in range(messages):
        if stop is not None and stop.is_set():
            break
        if rate is not None and (ahead := began + i / rate - time.monotonic()) > 0:
            time.sleep(ahead)
        ids = np.arange(into.rows, into.rows + rows, dtype=np.int64)
        value = np.zeros((rows, 1 + padding), dtype=np.int64)
        value[:, 0] = ids
        stamp = int(time.time() * 1000) if start_ms is None else int(start_ms + i * step_ms)
        producer.send(topic, value.tobytes(), partition=i % partitions, timestamp_ms=stamp)
        end = (stamp * 1000 // window_us + 1) * window_us
        into.sums[end] = added(into.sums.get(end, [0, 0, 0]), totals(ids))
        into.rows += rows
        into.messages += 1
    producer.flush()
    producer.close()


def source(bootstrap: str, topic: str, **settings: Any) -> KafkaSource:
    """Return settings with short waits."""
    return KafkaSource(
        **{"kind": "kafka", "brokers": bootstrap, "topic": topic, "idle_timeout": 10.0, "timeout": 20.0, **settings}
    )
