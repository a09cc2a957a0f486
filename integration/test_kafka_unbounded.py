"""The stream's source on a real broker, Prism and Flink. Every row has a number of its own; windows go by record time."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import had
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from services.flink import flink
from services.kafka import Cluster, kafka
from services.prism import Prism
from services.support import kill, start
from soak.stream_rig import Produced, closed_sums, lines, produce, source, wait_for

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.positions import LOST
from beam_ml.beam.kafka.stream import consumer as unbounded_consumer
from beam_ml.beam.kafka.stream.mark import MarkCoder, StreamMark
from beam_ml.beam.kafka.stream.reader import Part, StreamReader
from beam_ml.errors import NoInput, RowsLost, SourceUnavailable
from beam_ml.formats.messages import place

PARTITIONS = 2
WINDOW_S = 2.0

# kafka-python drops the socket of a broker that is gone without closing it
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")


@pytest.fixture(autouse=True)
def pooled() -> Iterator[None]:
    """Close what the process keeps open, so that no test sees another's."""
    yield
    client.consumers().clear()


@pytest.fixture
def topic(kafka_cluster: Cluster, request: pytest.FixtureRequest) -> str:
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return kafka_cluster.create_topic(f"{name}-{time.time_ns()}", partitions=PARTITIONS)


@contextlib.contextmanager
def streaming(given: KafkaSource, options: list[str], folder: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run an observed stream in a process of its own until the block ends."""
    told = {"source": given.to_dict(), "options": options, "folder": str(folder), "window_s": WINDOW_S, **more}
    command = [sys.executable, "-m", "soak.watch_stream", json.dumps(told)]
    log = folder.with_suffix(".log")
    process = start(command, log, {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)})
    try:
        yield process
        assert process.poll() is None, log.read_text()[-3000:]
    finally:
        kill(process)


def reader(given: KafkaSource, mark: StreamMark | None = None, read_s: float = 1.0, **more: Any) -> StreamReader:
    return StreamReader(Part(given, more.get("starts", {}), {}, 0, 1, read_s, read_s), mark)


def bundle(one: StreamReader) -> tuple[list[Any], StreamMark]:
    """Read one bundle."""
    blocks, more = [], one.start()
    while more:
        blocks.append(one.get_current())
        more = one.advance()
    return blocks, one.get_checkpoint_mark()


def send(bootstrap: str, topic: str, values: list[bytes], partition: int = 0, **options: Any) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), **options)
    if "transactional_id" in options:
        producer.init_transactions()
        producer.begin_transaction()
    for value in values:
        producer.send(topic, value, partition=partition)
    if "transactional_id" in options:
        producer.commit_transaction()
    producer.flush()
    producer.close()


def values(blocks: list[Any]) -> list[bytes]:
    return [value for block in blocks for value in block.batch.column("value").to_pylist()]


# --- on engines -------------------------------------------------------------------------------------------------------


def streamed(cluster: Cluster, topic: str, options: list[str], folder: Path, splits: int = 1, shards: int = 1) -> None:
    """Drain a backlog and go on with what comes; every row is in its window, windows close while rows still come."""
    made = Produced(WINDOW_S)
    old_ms = int(time.time() * 1000) - 120_000
    produce(cluster.bootstrap, topic, made, 600, None, 100, 0, PARTITIONS, old_ms, 100.0)
    with streaming(source(cluster.bootstrap, topic), options, folder, splits=splits, shards=shards):
        wait_for(folder, made.rows // 2, 90)
        assert lines(folder), "no window of the backlog was closed"
        began = time.time()
        more = (cluster.bootstrap, topic, made, 600, 50.0, 100, 0, PARTITIONS)
        thread = threading.Thread(target=produce, args=more)
        thread.start()
        thread.join()
        live = {line["end"] for line in lines(folder) if line["end"] > began * 1e6}
        assert len(live) >= 2, "windows were not closed while rows came"
        wait_for(folder, made.rows, 60)
    assert closed_sums(folder) == made.sums
    assert not any(line["late"] for line in lines(folder))


def test_prism_closes_windows_while_rows_come(kafka_cluster: Cluster, prism_server: Prism, topic: str, tmp_path: Path):
    streamed(kafka_cluster, topic, prism_server.options(streaming=True), tmp_path / "out")


@pytest.mark.parametrize(("parallelism", "splits"), [(1, 1), (2, 2)])
def test_flink_closes_windows_while_rows_come(
    kafka_cluster: Cluster, topic: str, tmp_path: Path, parallelism: int, splits: int
):
    with had(flink(tmp_path / "flink")) as server:
        options = server.options(parallelism=parallelism, streaming=True)
        streamed(kafka_cluster, topic, options, tmp_path / "out", splits, shards=2 * parallelism)


def test_a_silent_partition_holds_back_nothing_and_starts_and_seen_places_are_kept(
    kafka_cluster: Cluster, prism_server: Prism, topic: str, tmp_path: Path
):
    now_ms = int(time.time() * 1000)
    made = Produced(WINDOW_S)
    produce(kafka_cluster.bootstrap, topic, made, 60, None, 10, 0, 1, now_ms - 60_000, 100.0)
    made.sums = {}  # counted before: offsets 0 to 59
    produce(kafka_cluster.bootstrap, topic, made, 50, None, 10, 0, 1, now_ms - 50_000, 100.0)
    given, folder = source(kafka_cluster.bootstrap, topic), tmp_path / "out"
    before = {"starts": {0: 40}, "seen": {0: [[place(40), place(60)]]}}
    with streaming(given, prism_server.options(streaming=True), folder, **before):
        wait_for(folder, 500, 60)
    assert closed_sums(folder) == made.sums


def test_lost_messages_are_counted_as_they_flow(
    kafka_cluster: Cluster, prism_server: Prism, topic: str, tmp_path: Path
):
    produce(kafka_cluster.bootstrap, topic, Produced(WINDOW_S), 30, None, 10, 0, 1)
    forget(kafka_cluster, topic, 25)
    given, folder = source(kafka_cluster.bootstrap, topic, on_gap="skip"), tmp_path / "out"
    with streaming(given, prism_server.options(streaming=True), folder, starts={0: 5}):
        wait_for(folder, 50, 60)
    assert sum(line["sums"][0] for line in lines(folder)) == 50
    (lost,) = [json.loads(line) for line in (folder / "lost.jsonl").read_text().splitlines()]
    assert lost == {"rejected": {LOST: 20}, "places": place(20)}


# --- the reader on a broker -------------------------------------------------------------------------------------------


def forget(cluster: Cluster, topic: str, before: int) -> None:
    """Remove the messages of partition 0 before an offset."""
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    try:
        admin.delete_records({TopicPartition(topic, 0): before})
    finally:
        admin.close()


def test_readers_one_after_the_other_use_one_consumer_and_tile_the_log(kafka_cluster: Cluster, topic: str):
    given = source(kafka_cluster.bootstrap, topic)
    sent = [b"%d" % i for i in range(5000)]
    send(kafka_cluster.bootstrap, topic, sent)
    found, mark, coder = [], None, MarkCoder()
    for _ in range(40):
        one = reader(given, mark, read_s=0.05)
        if one.start():  # a bundle of one block: the rest waits, and the next reader must not miss it
            found.append(one.get_current())
        mark = coder.decode(coder.encode(one.get_checkpoint_mark()))
        if sum(map(len, found)) == 5000:
            break
    assert values(found) == sent
    assert [block.start for block in found[1:]] == [block.stop for block in found[:-1]]
    assert len(client.consumers()) == 2  # one for the partitions, one for the topic


def test_markers_and_open_transactions(kafka_cluster: Cluster, topic: str):
    given = source(kafka_cluster.bootstrap, topic, idle_timeout=0.5)
    send(kafka_cluster.bootstrap, topic, [b"a", b"b"], transactional_id=f"{topic}-1")
    producer = KafkaProducer(bootstrap_servers=kafka_cluster.bootstrap, transactional_id=f"{topic}-2")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"aborted", partition=0)
    producer.flush()
    blocks, mark = bundle(reader(given, read_s=0.7))
    assert values(blocks) == [b"a", b"b"]
    assert mark.offsets[0] == 3  # behind the marker, before the open transaction
    producer.abort_transaction()
    producer.close()
    send(kafka_cluster.bootstrap, topic, [b"c"])
    more, mark = bundle(reader(given, mark, read_s=0.7))
    assert values(more) == [b"c"]
    assert [b.stop for b in blocks + more][:-1] == [b.start for b in blocks + more][1:]
    time.sleep(0.6)
    _, mark = bundle(reader(given, mark, read_s=0.3))
    assert mark.clocks[0].at_end


def test_an_aborted_transaction_is_passed_while_another_partition_is_busy(kafka_cluster: Cluster, topic: str):
    producer = KafkaProducer(bootstrap_servers=kafka_cluster.bootstrap, transactional_id=f"{topic}-1")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"aborted", partition=1)
    producer.flush()
    producer.abort_transaction()
    producer.close()
    send(kafka_cluster.bootstrap, topic, [b"%d" % i + b"x" * 5000 for i in range(400)])
    given = source(kafka_cluster.bootstrap, topic, client={"max_partition_fetch_bytes": 100_000})
    at = {0: 0, 1: 0}
    for _ in range(10):  # partition 0 alone has more polls than that
        for one in unbounded_consumer.poll(given, at, 5.0)[0]:
            at[one.partition] = one.stop
    assert at[0] < 400
    assert at[1] == 2


def test_what_retention_removed_is_an_error_or_a_gap(kafka_cluster: Cluster, topic: str):
    send(kafka_cluster.bootstrap, topic, [b"%d" % i for i in range(10)])
    forget(kafka_cluster, topic, 6)
    with pytest.raises(RowsLost, match=rf"Partition 0 of topic {topic} .* offset 2, .* begins at 6: .* 4 messages"):
        bundle(reader(source(kafka_cluster.bootstrap, topic), starts={0: 2}))
    blocks, mark = bundle(reader(source(kafka_cluster.bootstrap, topic, on_gap="skip"), starts={0: 2}))
    assert values(blocks) == [b"%d" % i for i in range(6, 10)]
    assert (blocks[0].start, blocks[0].stop) == (place(2), place(6))
    forget(kafka_cluster, topic, 10)
    send(kafka_cluster.bootstrap, topic, [b"x"])
    more, _ = bundle(reader(source(kafka_cluster.bootstrap, topic, on_gap="skip"), mark))
    assert values(more) == [b"x"]
    with pytest.raises(RowsLost, match="ends at 11, before offset 99, which was already read"):
        bundle(reader(source(kafka_cluster.bootstrap, topic, on_gap="skip"), starts={0: 99}))


def test_an_empty_topic_a_missing_one_and_new_partitions(kafka_cluster: Cluster, topic: str):
    given = source(kafka_cluster.bootstrap, topic, start="latest", idle_timeout=0.2)
    blocks, mark = bundle(reader(given, read_s=0.5))
    assert (blocks, mark.offsets, mark.watermark) == ([], {0: 0, 1: 0}, None)
    with kafka_cluster.admin() as admin:
        admin.create_partitions({topic: 3})
    deadline = time.monotonic() + 20
    while len(unbounded_consumer.look(given).starts) < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
    send(kafka_cluster.bootstrap, topic, [b"new"], partition=2)
    unbounded_consumer._known_topic.cache_clear()  # as a new process
    blocks, mark = bundle(reader(given, mark, read_s=0.5))
    assert values(blocks) == [b"new"]
    assert sorted(mark.offsets) == [0, 1, 2]
    with pytest.raises(NoInput, match="nowhere"):
        bundle(reader(source(kafka_cluster.bootstrap, "nowhere")))


def test_the_lag_is_shown_in_the_group(kafka_cluster: Cluster, topic: str):
    send(kafka_cluster.bootstrap, topic, [b"a", b"b", b"c"])
    group = f"{topic}-lag"
    _, mark = bundle(reader(source(kafka_cluster.bootstrap, topic, group=group), read_s=0.5))
    mark.finalize_checkpoint()
    mark.finalize_checkpoint()
    consumer = KafkaConsumer(bootstrap_servers=kafka_cluster.bootstrap, group_id=group)
    try:
        assert consumer.committed(TopicPartition(topic, 0)) == 3
    finally:
        consumer.close()
    nowhere = dataclasses.replace(mark, source=source("127.0.0.1:1", topic, group=group, timeout=1.0))
    nowhere.finalize_checkpoint()  # only warns


def read_on(given: KafkaSource, mark: StreamMark, bundles: int) -> tuple[list[Any], StreamMark]:
    """Read bundles until something comes."""
    found: list[Any] = []
    while not found and bundles:
        found, mark = bundle(reader(given, mark))
        bundles -= 1
    return found, mark


def test_a_broker_that_comes_back_is_read_on_and_one_that_stays_away_is_an_error(tmp_path: Path):
    with kafka(tmp_path / "kafka") as cluster:
        topic = cluster.create_topic("t")
        given = source(cluster.bootstrap, topic, timeout=6.0)
        send(cluster.bootstrap, topic, [b"a"])
        blocks, mark = bundle(reader(given))
        cluster.nodes[0].kill()
        found, mark = bundle(reader(given, mark))
        assert found == []
        assert mark.silent_since is not None
        cluster.nodes[0].start()
        send(cluster.bootstrap, topic, [b"b"])
        found, mark = read_on(given, mark, 20)
        blocks += found
        assert values(blocks) == [b"a", b"b"]
        cluster.nodes[0].kill()
        with pytest.raises(SourceUnavailable, match=r"topic t at .* must answer within source.timeout = 6 s"):
            read_on(given, mark, 20)
