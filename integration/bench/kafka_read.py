"""Reading Kafka: `ReadKafkaBlocks` in the in-process runner takes messages at 0.8 or more of a bare client loop's rate.

Messages of 1 row and of 100 rows of 30 float32. Both sides read the same topic of one partition from its beginning, each
time with a new consumer, with the same fetch and CRC settings: those that the library sets. The bare loop polls
kafka-python as it comes and only counts records and bytes; ours makes Arrow blocks of values, keys, offsets and timestamps
of them and hands them to a step that only counts. Seconds of both start when the pipeline, or the consumer, is made; so
ours hold Beam's start, too. The two take turns, and the medians count; by processor seconds the ratio is given as well.

As further figures, what follows the read in training, from JSON and Avro messages: decoding into columns alone, and a
whole round (decode, features, windows, PCA's accumulation, merge, fold, publish) with its rows compared with those produced.

The script starts a broker of its own (Java and Maven are needed), and fills the topics with ``integration/producer.py``.
Run: ``PYTHONPATH=integration python integration/bench/kafka_read.py [--messages 200000] [--repeats 3]``.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from apache_beam import DoFn, ParDo, PTransform
from apache_beam.pvalue import PCollection
from bench_support import last_line, machine, skipped_line
from kafka import KafkaConsumer
from kafka.structs import TopicPartition
from producer import avro_schema, names
from services.kafka import Cluster, kafka
from services.support import Unavailable

from beam_ml.beam import engine
from beam_ml.beam.job import Job
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.connection import Connection, consumer_options
from beam_ml.beam.kafka.read import OffsetRange, OffsetRanges, ReadKafkaBlocks, split
from beam_ml.beam.rounds import Mode, train
from beam_ml.beam.transforms.decode import Decode
from beam_ml.formats import Block
from beam_ml.registry import Registry

INTEGRATION = Path(__file__).parents[1]
CLAIM = "ReadKafkaBlocks in the in-process runner reads messages at 0.8 or more of a bare client loop's rate"
GOAL = 0.8
D = 30
HUNDRED = 100
seen: list[tuple[int, int]] = []
"""(messages or rows, bytes) of each block that came to the pipeline's end; the runner works in this process."""


class Count(DoFn):
    """Notes what comes, and lets it go."""

    def process(self, element: Block) -> None:
        seen.append((len(element), element.batch.nbytes))


def fill(cluster: Cluster, topic: str, format: str, messages: int, rows: int) -> dict[str, Any]:
    """Make a topic and fill it; give what the producer says."""
    cluster.create_topic(topic)
    rate = 1e9
    command = [
        sys.executable, str(INTEGRATION / "producer.py"), "--bootstrap", cluster.bootstrap, "--topic", topic,
        "--rows-per-second", str(rate), "--seconds", repr(messages * rows / rate), "--rows-per-message", str(rows),
        "--features", str(D), "--format", format,
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if facts["messages"] != facts["acknowledged"]:
        message = f"The brokers must acknowledge all {facts['messages']} messages; they did {facts['acknowledged']}."
        raise RuntimeError(message)
    return facts


def clock() -> np.ndarray:
    """Wall and processor seconds: on a machine that others use, the second are steadier."""
    return np.array([time.perf_counter(), time.process_time()])


def bare(connection: Connection, topic: str, messages: int) -> np.ndarray:
    """Poll with kafka-python alone until all messages have come; give the seconds, wall and processor."""
    began = clock()
    consumer = KafkaConsumer(**consumer_options(connection))
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    consumer.seek(partition, 0)
    n = size = 0
    while n < messages:
        for records in consumer.poll(timeout_ms=1000).values():
            n += len(records)
            size += sum(len(record.value) for record in records)
    seconds = clock() - began
    consumer.close()
    assert n == messages, (n, messages)
    assert size > 0
    return seconds


def piped(connection: Connection, topic: str, messages: int, then: PTransform | None = None) -> tuple[np.ndarray, int]:
    """Read through a pipeline; give the seconds, wall and processor, and the messages or rows that came to its end."""
    client.consumers().clear()
    seen.clear()
    began = clock()
    pipeline = engine.new_pipeline()
    pieces = split(OffsetRange(topic, 0, 0, messages), messages)
    blocks: PCollection = pipeline | OffsetRanges(pieces) | ReadKafkaBlocks(connection, f"kafka://bench/{topic}")
    if then is not None:
        blocks = blocks | then
    blocks | ParDo(Count())
    ran = engine.run(pipeline)
    seconds = clock() - began
    assert ran.runner == "FnApiRunner"
    return seconds, sum(n for n, _ in seen)


def read_ratio(connection: Connection, topic: str, messages: int, rows: int, repeats: int) -> dict[str, float]:
    """Time both ways in turn; print and give the medians and the ratio of the rates."""
    ours, peer = [], []
    for _ in range(repeats):
        peer.append(bare(connection, topic, messages))
        seconds, found = piped(connection, topic, messages)
        assert found == messages, (found, messages)
        ours.append(seconds)
    (a, a_cpu), (b, b_cpu) = np.median(ours, axis=0), np.median(peer, axis=0)
    print(
        f"read, {rows:3d} rows a message: ours {messages / a:>9,.0f} messages/s ({messages * rows / a:>11,.0f} rows/s), "
        f"bare loop {messages / b:>9,.0f} messages/s, ratio {b / a:.3f}; by processor seconds {b_cpu / a_cpu:.3f}",
        flush=True,
    )
    return {
        "ours_messages_s": float(messages / a),
        "bare_messages_s": float(messages / b),
        "ratio": float(b / a),
        "cpu_ratio": float(b_cpu / a_cpu),
    }


def options_of(format: str, rows: int) -> dict[str, Any]:
    """Return the options of a format that its decoder needs."""
    if format == "avro":
        return {"framing": "none", "schema_text": json.dumps(avro_schema(D, rows))}
    return {"types": dict.fromkeys(("label", "time"), "int64") | dict.fromkeys(names(D), "float64")}


def decode(format: str, rows: int) -> Decode:
    """Return the step that decodes what training reads."""
    return Decode(format, options_of(format, rows), [*names(D), "time"])


def through_round(cluster: Cluster, folder: Path, topic: str, format: str, per_message: int, rows: int) -> float:
    """Train one round on a whole topic; give its seconds, its rows being exactly those produced."""
    job = Job.parse(
        {
            "name": topic,
            "registry": str(folder / topic),
            "refresh": "5s",
            "source": {
                "kind": "kafka", "brokers": cluster.bootstrap, "topic": topic, "format": format,
                "options": options_of(format, per_message), "round_rows": 10 * rows,
            },
            "features": {"numeric": names(D), "time": "time"},
            "spec": {"algorithm": "pca"},
            "models": {"small": {"kind": "components", "n_components": 3}},
        }
    )  # fmt: skip
    began = time.perf_counter()
    done = list(train(job, Registry(job.registry), Mode("once", close=True)))
    seconds = time.perf_counter() - began
    found = sum(one.progress.rows for one in done)
    if found != rows:
        message = f"A round over {topic} must count the {rows:,} rows produced; it counted {found:,}."
        raise RuntimeError(message)
    return seconds


def say(name: str, seconds: float, rows: int) -> dict[str, float]:
    """Print and give a rate."""
    print(f"{name:38s} {rows / seconds:>11,.0f} rows/s ({seconds:.2f} s)", flush=True)
    return {"rows_s": rows / seconds, "seconds": seconds}


def measure(cluster: Cluster, folder: Path, options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return the ratios by rows of a message, the further figures, and all rows that were read."""
    connection = Connection(cluster.bootstrap)
    ratios: dict[str, Any] = {}
    further: dict[str, Any] = {}
    total = 0
    for rows, messages in ((1, options.messages), (HUNDRED, options.messages // 2)):
        topic = f"raw-{rows}"
        fill(cluster, topic, "raw", messages, rows)
        bare(connection, topic, messages)
        piped(connection, topic, messages)
        ratios[str(rows)] = read_ratio(connection, topic, messages, rows, options.repeats)
        total += messages * rows
    for format in ("json", "avro"):
        for rows in (1, HUNDRED):
            messages = options.messages // (4 if rows == 1 else 40 if format == "json" else 100)
            topic = f"{format}-{rows}"
            produced = fill(cluster, topic, format, messages, rows)["sent_rows"]
            piped(connection, topic, messages, decode(format, rows))
            (seconds, _), found = piped(connection, topic, messages, decode(format, rows))
            if found != produced:
                message = f"Decoding {topic} must give the {produced:,} rows produced; it gave {found:,}."
                raise RuntimeError(message)
            further[f"decode {format} {rows}"] = say(
                f"read and decode {format}, {rows} rows a message", float(seconds), found
            )
            seconds = through_round(cluster, folder, topic, format, rows, produced)
            further[f"round {format} {rows}"] = say(f"whole round, {format}, {rows} rows a message", seconds, produced)
            total += produced
    client.consumers().clear()
    return ratios, further, total


def main() -> None:
    """Run all and print one JSON line."""
    parser = argparse.ArgumentParser(description=CLAIM)
    parser.add_argument("--messages", type=int, default=200_000, help="of one row; of 100 rows half as many")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    print(machine())
    try:
        with tempfile.TemporaryDirectory() as scratch, kafka(Path(scratch) / "kafka") as cluster:
            ratios, further, rows = measure(cluster, Path(scratch), options)
    except Unavailable as why:
        print(f"skipped: {why}")
        print(skipped_line(CLAIM, str(why)))
        return
    worst = min(ratios, key=lambda of: ratios[of]["ratio"])
    print(
        last_line(
            CLAIM,
            ratios[worst]["ours_messages_s"],
            ratios[worst]["bare_messages_s"],
            ratios[worst]["ratio"],
            {"goal": GOAL, "reached": ratios[worst]["ratio"] >= GOAL, "rows_per_message": ratios},
            rows,
            time.perf_counter() - began,
            further=further,
        )
    )


if __name__ == "__main__":
    # Beam pickles what lives in __main__ by value; from here it is imported by name.
    import kafka_read

    kafka_read.main()
