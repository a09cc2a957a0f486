"""Rolling features and late labels on engines that stream: what leaves is what one process computes of the same rows.

Rows and their reports come live over two topics; the rows get their windows, and wait for their labels, and go out as blocks
over two more. What goes out may come twice after a kill, and is then the same.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from apache_beam import Map
from raw_events import REPORT_TYPES, ROW_TYPES, Events, Out
from services.flink import flink, worker_pool
from services.kafka import Cluster
from services.prism import Prism

from beam_ml.beam.engine import new_pipeline, streaming_options
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.stream.source import ReadKafkaStream
from beam_ml.beam.kafka.write import WriteKafka
from beam_ml.beam.transforms.decode import Decode
from beam_ml.beam.transforms.join_labels import JoinLabels
from beam_ml.beam.transforms.rolling import RollingFeatures
from beam_ml.beam.wire.codec import decode_block, encode_block
from beam_ml.features.rolling import END, Rolling, roll_blocks
from beam_ml.formats.block import Block
from beam_ml.late_labels import LateLabels, State, join

# Beam's worker threads in this process have nobody to talk to once a pipeline is cancelled, and say so.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception in thread (read_|run_worker):pytest.PytestUnhandledThreadExceptionWarning"
)
SLACK_S = 2.0
US = {"column": "at", "unit": "us"}
ROLLING = Rolling.parse(
    {
        "time": US,
        "shards": 2,
        "aggregates": [
            {"name": "n", "key": "card", "of": "count", "windows": ["2s", "5s"]},
            {"name": "mean", "key": "card", "of": "mean", "value": "amount", "windows": ["2s", "5s"]},
            {"name": "since", "key": "card", "of": "time_since_last", "windows": ["5s"], "empty": -1.0},
        ],
    }
)
LABELS = LateLabels.parse(
    {
        "id": "tx",
        "time": US,
        "label": "fraud",
        "reported": {"column": "said", "unit": "us"},
        "maturity": "4s",
    }
)


def rows_of(message: bytes) -> list[dict[str, Any]]:
    return decode_block(message).to_dicts()


def message(block: Block) -> tuple[bytes | None, bytes]:
    return None, encode_block(block)


@contextlib.contextmanager
def running(cluster: Cluster, topics: tuple[str, ...], options: Sequence[str]) -> Iterator[Any]:
    """Run the pipeline until the block ends."""
    pipeline = new_pipeline(streaming_options(options))
    read = []
    for topic, types in zip(topics, (ROW_TYPES, REPORT_TYPES), strict=False):
        source = KafkaSource(
            kind="kafka", brokers=cluster.bootstrap, topic=topic, out_of_orderness=SLACK_S, idle_timeout=3.0
        )
        raw = pipeline | f"Read {topic}" >> ReadKafkaStream(source)
        read.append(raw | f"Decode {topic}" >> Decode("json", {"types": types}, [*types]))
    rows, reports = read
    made = (
        rows | RollingFeatures(ROLLING, every=1.0),
        ((rows, reports) | JoinLabels(LABELS, every=1.0, n_shards=2)).released,
    )
    for topic, blocks in zip(topics[2:], made, strict=True):
        messages = blocks | f"To {topic}" >> Map(message).with_output_types(tuple[bytes | None, bytes])
        _ = messages | f"Write {topic}" >> WriteKafka(Connection(cluster.bootstrap), topic)
    result = pipeline.run()
    try:
        yield result
    finally:
        with contextlib.suppress(Exception):
            result.cancel()


def computed(events: Events) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """Return the same rows with their windows, and with their labels, computed at once."""
    rows, reports = (Block(pa.RecordBatch.from_pylist(one)) for one in (events.rows, events.reports))
    rolled = roll_blocks(ROLLING, {}, [rows], before=END).blocks
    released = join(LABELS, State.empty(), [rows], [reports]).released
    return tuple({row["tx"]: row for block in made for row in block.to_dicts()} for made in (rolled, [released]))


def until(out: Out, rows: int, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while out.look() < rows:
        assert time.monotonic() < end, f"{rows} rows; got {len(out.rows)}"
        time.sleep(0.1)


def check(events: Events, outs: tuple[Out, Out]) -> None:
    events.finish()
    n = len(events.rows)
    for out, expected in zip(outs, computed(events), strict=True):
        until(out, n)
        differ = {tx: (row, expected[tx]) for tx, row in out.rows.items() if row != expected[tx]}
        assert not differ, f"{len(differ)} of {n} rows differ: {next(iter(differ.values()))}"
    assert len({row["n_5s"] for row in outs[0].rows.values()}) > 5
    assert {row["fraud"] for row in outs[1].rows.values()} == {0.0, 1.0}


def made(cluster: Cluster, name: str) -> tuple[tuple[str, ...], Events, tuple[Out, Out]]:
    """Return topics, what sends to the first two, and what reads the others."""
    names = (("tx", 2), ("said", 2), ("rolled", 1), ("labelled", 1))
    topics = tuple(cluster.create_topic(f"raw-{name}-{one}", n) for one, n in names)
    rolled, labelled = (Out(cluster.bootstrap, topic, rows_of) for topic in topics[2:])
    return topics, Events(cluster.bootstrap, (topics[0], topics[1]), 20.0), (rolled, labelled)


def test_on_flink_with_a_worker_killed(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topics, events, outs = made(kafka_cluster, "flink")
    with flink(tmp_path / "flink") as engine, worker_pool(tmp_path / "pool") as pool:
        options = engine.options(streaming=True, workers=pool, checkpointing_interval=1000)
        with running(kafka_cluster, topics, options):
            events.start()
            until(outs[1], 50)
            victims = pool.workers()
            assert victims
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            at = len(outs[1].rows)
            until(outs[1], at + 100)
            check(events, outs)
    print(f"{len(events.rows)} rows, {[out.again for out in outs]} of them twice")


def test_on_prism(kafka_cluster: Cluster, prism_server: Prism) -> None:
    topics, events, outs = made(kafka_cluster, "prism")
    with running(kafka_cluster, topics, prism_server.options(streaming=True)):
        events.start()
        until(outs[1], 50)
        check(events, outs)
    assert [out.again for out in outs] == [0, 0]
