"""Bounded reads of a real Kafka: exact offsets, exact spans, and what happens where messages are gone or brokers die."""

import contextlib
import gc
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from apache_beam import DoFn, ParDo
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from services.kafka import PASSWORD, Cluster, kafka

from beam_ml.beam import engine
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.read import OffsetRange, OffsetRanges, ReadKafkaBlocks, read_range, split
from beam_ml.beam.wire import coders
from beam_ml.errors import InvalidValue, NoInput, RowsLost, SourceUnavailable
from beam_ml.formats.block import Block
from beam_ml.formats.messages import PLACES

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")


@pytest.fixture(autouse=True)
def _sockets() -> Iterator[None]:
    """Have the client library's sockets of failed connections, which it leaves unclosed, freed within the test."""
    yield
    gc.collect()


def topic_of(cluster: Cluster, partitions: int = 1, **config: object) -> str:
    return cluster.create_topic(f"read-{uuid.uuid4().hex[:12]}", partitions, **config)


@contextlib.contextmanager
def producing(cluster: Cluster, **options: object):
    producer = KafkaProducer(bootstrap_servers=cluster.bootstrap.split(","), **options)
    try:
        yield producer
        producer.flush()
    finally:
        producer.close(timeout=5)


def produce(cluster: Cluster, topic: str, numbers: range, partition: int = 0, size: int = 0, **options: object) -> None:
    with producing(cluster, **options) as producer:
        sent = [producer.send(topic, b"%d" % i + b"." * size, partition=partition) for i in numbers]
    for one in sent:
        one.get(10)


def read(connection: Connection, topic: str, start: int, stop: int, partition: int = 0, **options):
    return list(read_range(connection, "s", OffsetRange(topic, partition, start, stop), **options))


def offsets(blocks) -> list[int]:
    return [int(place) // PLACES for block in blocks for place in block.position]


def values(blocks) -> list[bytes | None]:
    return [value for block in blocks for value in block.batch.column("value").to_pylist()]


def tiles(blocks, start: int, stop: int) -> bool:
    """Return whether spans follow each other without a gap, and every message lies in its block's."""
    bounds = [(block.start, block.stop) for block in blocks]
    whole = [start * PLACES, *(bound for _, bound in bounds)] == [*(bound for bound, _ in bounds), stop * PLACES]
    inside = all(((b.position >= b.start) & (b.position_end <= b.stop)).all() for b in blocks)
    return whole and inside and all((b.position_end - b.position == PLACES).all() for b in blocks)


def state(connection: Connection, topic: str):
    consumer = client.consumer(connection)
    try:
        return client.topic_state(consumer, topic)
    finally:
        consumer.close()


@pytest.fixture
def connection(kafka_cluster: Cluster) -> Connection:
    return Connection(kafka_cluster.bootstrap, timeout_s=15.0)


def test_every_range_gives_its_messages_once(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster)
    produce(kafka_cluster, topic, range(500))
    assert state(connection, topic).ends == {0: 500}
    for start, stop in [(0, 500), (0, 1), (499, 500), (17, 233), (233, 500)]:
        blocks = read(connection, topic, start, stop)
        assert offsets(blocks) == list(range(start, stop))
        assert values(blocks) == [b"%d" % i for i in range(start, stop)]
        assert tiles(blocks, start, stop)
    assert read(connection, topic, 7, 7) == []


class _Keep(DoFn):
    """Writes each block into a folder: workers may be other processes."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def process(self, element: Block) -> None:
        path = Path(self._folder) / uuid.uuid4().hex
        path.write_bytes(coders.BlockCoder().encode(element))


def test_split_and_parallel_equals_unsplit(kafka_cluster: Cluster, connection: Connection, tmp_path: Path) -> None:
    topic = topic_of(kafka_cluster, partitions=3)
    for partition in range(3):
        produce(kafka_cluster, topic, range(partition * 1000, partition * 1000 + 700 + partition), partition)
    ends = state(connection, topic).ends
    assert ends == {0: 700, 1: 701, 2: 702}
    whole = [OffsetRange(topic, partition, 0, end) for partition, end in ends.items()]
    pieces = [piece for one in whole for piece in split(one, 97)]
    assert len(pieces) == 24
    found = []
    for ranges in (whole, pieces):
        folder = tmp_path / str(len(ranges))
        folder.mkdir()
        pipeline = engine.new_pipeline()
        blocks = pipeline | OffsetRanges(ranges) | ReadKafkaBlocks(connection, "kafka://c/t")
        _ = blocks | "Keep" >> ParDo(_Keep(str(folder)))
        pipeline.run().wait_until_finish()
        kept = [coders.BlockCoder().decode(path.read_bytes()) for path in folder.iterdir()]
        for one in ranges:
            mine = [
                b for b in kept
                if b.origin.partition == str(one.partition) and one.start * PLACES <= b.start < one.stop * PLACES
            ]  # fmt: skip
            assert tiles(sorted(mine, key=lambda b: b.start), one.start, one.stop)
        found.append(
            sorted(
                (b.origin.source, b.origin.partition, int(place), value)
                for b in kept
                for place, value in zip(b.position, b.batch.column("value").to_pylist(), strict=True)
            )
        )
    assert found[0] == found[1]
    assert len(found[0]) == len({value for *_, value in found[0]}) == 2103


def test_consumers_are_kept_and_read_on(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster)
    produce(kafka_cluster, topic, range(100))
    client.consumers().clear()
    read(connection, topic, 0, 40)
    assert len(client.consumers()) == 1
    with client.borrowed(connection, topic, 0, 100) as first:
        assert len(client.consumers()) == 0
    blocks = read(connection, topic, 40, 100)
    assert values(blocks) == [b"%d" % i for i in range(40, 100)]
    with client.borrowed(connection, topic, 0, 100) as second:
        assert second is first
    client.consumers().clear()


def test_compacted_topic_spans_are_exact(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster, cleanup_policy="compact", segment_ms=200, min_cleanable_dirty_ratio=0.001)
    n = 400
    with producing(kafka_cluster, batch_size=400) as producer:
        for i in range(n):
            producer.send(topic, b"%d" % i, key=b"%d" % (i % 7), partition=0)
    deadline = time.monotonic() + 90
    while True:
        time.sleep(0.5)
        with producing(kafka_cluster) as producer:  # only closed segments are compacted
            producer.send(topic, b"end", key=b"end", partition=0).get(10)
        end = state(connection, topic).ends[0]
        kept = offsets(read(connection, topic, 0, end))
        if len([one for one in kept if one < n]) < n // 2:
            break
        assert time.monotonic() < deadline, "the broker has not compacted"
    holes = [i for i in range(end) if i not in set(kept)]
    assert holes
    whole = read(connection, topic, 0, end)
    assert tiles(whole, 0, end)
    at = dict(zip(offsets(whole), values(whole), strict=True))
    for offset, value in at.items():
        assert value in (b"%d" % offset, b"end")
    for stop in sorted({holes[0], holes[0] + 1, holes[-1], holes[-1] + 1, n - 3, end}):
        for start in sorted({0, holes[0], max(0, stop - 1)}):
            if start < stop:
                blocks = read(connection, topic, start, stop)
                assert tiles(blocks, start, stop), (start, stop)
                assert offsets(blocks) == [one for one in at if start <= one < stop]


def test_transactions(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster)
    expected: dict[int, bytes] = {}
    with producing(kafka_cluster, transactional_id=f"t-{topic}") as producer:
        producer.init_transactions()
        for batch in range(6):
            producer.begin_transaction()
            sent = [(producer.send(topic, b"%d" % (100 * batch + i), partition=0), 100 * batch + i) for i in range(5)]
            producer.flush()
            if batch % 2:
                producer.abort_transaction()
            else:
                producer.commit_transaction()
                expected |= {future.get(10).offset: b"%d" % number for future, number in sent}
    end = state(connection, topic).ends[0]
    assert end == 6 * 6  # five messages and a marker each
    dirty = Connection(connection.brokers, isolation="read_uncommitted", timeout_s=15.0)
    assert len(offsets(read(dirty, topic, 0, end))) == 30
    for start in range(0, end):
        for stop in {start + 1, min(end, start + 4), min(end, start + 11), end}:
            blocks = read(connection, topic, start, stop)
            assert tiles(blocks, start, stop), (start, stop)
            found = dict(zip(offsets(blocks), values(blocks), strict=True))
            assert found == {offset: value for offset, value in expected.items() if start <= offset < stop}
    # an open transaction holds back what lies behind it
    with producing(kafka_cluster, transactional_id=f"u-{topic}") as producer:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(topic, b"open", partition=0).get(10)
        produce(kafka_cluster, topic, range(1000, 1003))
        assert state(connection, topic).ends[0] == end
        assert state(dirty, topic).ends[0] == end + 4
        hasty = Connection(connection.brokers, timeout_s=1.0)
        with pytest.raises(SourceUnavailable, match=f"it ends at {end}, before an open transaction"):
            read(hasty, topic, 0, end + 4)
        producer.commit_transaction()
    assert values(read(connection, topic, end, end + 4)) == [b"open", b"1000", b"1001", b"1002"]


def remove_before(cluster: Cluster, topic: str, offset: int) -> None:
    with cluster.admin() as admin:
        admin.delete_records({TopicPartition(topic, 0): offset})


def test_retention_before_the_read(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster)
    produce(kafka_cluster, topic, range(50))
    remove_before(kafka_cluster, topic, 20)
    assert state(connection, topic).starts == {0: 20}
    with pytest.raises(
        RowsLost, match=rf"Partition 0 of topic {topic} at .* must still hold offset 5; it begins at 20"
    ):
        read(connection, topic, 5, 50)
    assert offsets(read(connection, topic, 20, 50)) == list(range(20, 50))


def test_retention_runs_over_a_read(kafka_cluster: Cluster) -> None:
    topic = topic_of(kafka_cluster)
    produce(kafka_cluster, topic, range(2000), size=2000, batch_size=10_000)
    small = Connection(kafka_cluster.bootstrap, {"max_partition_fetch_bytes": 20_000, "fetch_max_bytes": 20_000})
    reading = read_range(small, "s", OffsetRange(topic, 0, 0, 2000), max_bytes=1)
    first = next(reading)
    assert 0 < len(first) < 100
    remove_before(kafka_cluster, topic, 1500)
    rest = []
    with pytest.raises(RowsLost, match="it begins at 1500: retention has removed"):
        rest += list(reading)


def test_a_topic_made_anew_is_noticed(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster)
    produce(kafka_cluster, topic, range(5))
    with pytest.raises(RowsLost, match="must reach offset 30"):
        read(connection, topic, 30, 40)


def test_tombstones_empty_and_huge_messages(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster, max_message_bytes=8 << 20)
    huge = np.random.default_rng(1).bytes(5 << 20)
    sent = [(b"k", None), (b"k", b""), (b"", b"x"), (None, b""), (None, huge), (b"last", b"y")]
    with producing(kafka_cluster, max_request_size=8 << 20) as producer:
        for key, value in sent:
            producer.send(topic, value, key=key, partition=0, headers=[("a", b"1"), ("ä", b"")] if key else [])
    blocks = read(connection, topic, 0, 6, headers=True)
    assert tiles(blocks, 0, 6)
    rows = [row for block in blocks for row in block.batch.to_pylist()]
    assert [(row["key"], row["value"]) for row in rows] == sent
    marks = [{"key": "a", "value": b"1"}, {"key": "ä", "value": b""}]
    assert [row["headers"] for row in rows] == [marks if key else [] for key, _ in sent]
    assert "headers" not in read(connection, topic, 0, 2)[0].batch.schema.names


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_compression(kafka_cluster: Cluster, connection: Connection, codec: str) -> None:
    topic = topic_of(kafka_cluster)
    produce(kafka_cluster, topic, range(300), size=100, compression_type=codec, linger_ms=50)
    blocks = read(connection, topic, 10, 290)
    assert values(blocks) == [b"%d" % i + b"." * 100 for i in range(10, 290)]


@pytest.mark.parametrize("kind", ["CreateTime", "LogAppendTime"])
def test_times(kafka_cluster: Cluster, connection: Connection, kind: str) -> None:
    topic = topic_of(kafka_cluster, message_timestamp_type=kind, message_timestamp_before_max_ms=2**62, retention_ms=-1)
    then = [1_600_000_000_000 + 1000 * i for i in range(5)]
    with producing(kafka_cluster) as producer:
        for ms in then:
            producer.send(topic, b"x", timestamp_ms=ms, partition=0)
    before = time.time()
    block = read(connection, topic, 0, 5)[0]
    times = [one.timestamp() for one in block.batch.column("timestamp").to_pylist()]
    if kind == "CreateTime":
        assert times == [ms / 1000 for ms in then]
    else:
        assert all(abs(one - before) < 60 for one in times)
    consumer = client.consumer(connection)
    with contextlib.closing(consumer):
        client.topic_state(consumer, topic)
        if kind == "CreateTime":
            assert client.offsets_at(consumer, topic, then[2]) == {0: 2}
            assert client.offsets_at(consumer, topic, then[2] + 1) == {0: 3}
        assert client.offsets_at(consumer, topic, 2**52) == {0: None}


def test_empty_and_unknown_topics(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster, partitions=2)
    seen = state(connection, topic)
    assert seen.cluster
    assert seen.starts == seen.ends == {0: 0, 1: 0}
    unknown = f"unknown-{uuid.uuid4().hex}"
    with pytest.raises(NoInput, match=f"Topic {unknown} at {kafka_cluster.bootstrap}.* must exist"):
        state(connection, unknown)
    with pytest.raises(NoInput, match="must have a name that Kafka allows"):
        state(connection, "no name")
    hasty = Connection(connection.brokers, timeout_s=1.0)
    with pytest.raises(NoInput, match=f"Partition 0 of topic {unknown} .* nothing came for 1 s"):
        read(hasty, unknown, 0, 5)
    with kafka_cluster.admin() as admin:
        assert unknown not in str(admin.list_topics())


def test_new_partitions_are_seen(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster)
    consumer = client.consumer(connection)
    with contextlib.closing(consumer):
        assert set(client.topic_state(consumer, topic).ends) == {0}
        with kafka_cluster.admin() as admin:
            admin.create_partitions({topic: 3})
        deadline = time.monotonic() + 10
        while set(client.topic_state(consumer, topic).ends) != {0, 1, 2}:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_passwords(kafka_secured: Cluster, monkeypatch: pytest.MonkeyPatch, mechanism: str) -> None:
    topic = topic_of(kafka_secured)
    produce(kafka_secured, topic, range(20))
    options = kafka_secured.login(mechanism) | {"sasl_plain_password": "$KAFKA_PASSWORD"}
    connection = Connection(kafka_secured.secured, options, timeout_s=15.0)
    assert PASSWORD not in connection.to_json()
    with pytest.raises(InvalidValue, match="sasl_plain_password must name a variable"):
        state(connection, topic)
    monkeypatch.setenv("KAFKA_PASSWORD", "wrong-password-of-nobody")
    with pytest.raises(SourceUnavailable, match="must accept the user and password given") as refusal:
        state(connection, topic)
    assert "wrong-password-of-nobody" not in str(refusal.value)
    assert kafka_secured.secured in str(refusal.value)
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    assert values(read(connection, topic, 0, 20)) == [b"%d" % i for i in range(20)]
    client.consumers().clear()


def test_a_certificate_that_nobody_vouches_for(kafka_secured: Cluster) -> None:
    options = {name: value for name, value in kafka_secured.client.items() if name != "ssl_cafile"}
    with pytest.raises(SourceUnavailable, match="certificate verify failed"):
        state(Connection(kafka_secured.secured, options, timeout_s=2.0), "any")


def test_brokers_that_are_not_there() -> None:
    before = time.monotonic()
    with pytest.raises(SourceUnavailable, match=r"127\.0\.0\.1:9: brokers must answer"):
        client.consumer(Connection("127.0.0.1:9", timeout_s=1.0))
    assert time.monotonic() - before < 20


def test_lag_is_shown(kafka_cluster: Cluster, connection: Connection, caplog: pytest.LogCaptureFixture) -> None:
    topic, group = topic_of(kafka_cluster, partitions=2), f"g-{uuid.uuid4().hex[:8]}"
    for offsets_now in ({0: 5, 1: 7}, {0: 9, 1: 7}):
        client.commit_lag(connection, group, topic, offsets_now)
        with contextlib.closing(KafkaConsumer(bootstrap_servers=kafka_cluster.bootstrap, group_id=group)) as watcher:
            shown = {p: watcher.committed(TopicPartition(topic, p)) for p in (0, 1)}
        assert shown == offsets_now
    assert not [one for one in caplog.records if one.name == "beam_ml.beam.kafka.client"]
    client.commit_lag(Connection("127.0.0.1:9", timeout_s=0.5), group, topic, {0: 1})
    assert "its lag could not be shown" in caplog.text


def test_broker_killed_in_mid_read(tmp_path: Path) -> None:
    with kafka(tmp_path) as cluster:
        topic = cluster.create_topic("killed")
        n = 3000
        produce(cluster, topic, range(n), size=2000, batch_size=20_000)
        options = {"max_partition_fetch_bytes": 50_000, "fetch_max_bytes": 50_000}
        patient = Connection(cluster.bootstrap, options, timeout_s=60.0)
        reading = read_range(patient, "s", OffsetRange(topic, 0, 0, n), max_bytes=1)
        blocks = [next(reading) for _ in range(3)]
        cluster.nodes[0].kill()
        cluster.nodes[0].start(wait=False)
        blocks += reading
        assert offsets(blocks) == list(range(n))
        assert [int(value.split(b".")[0]) for value in values(blocks)] == list(range(n))
        assert tiles(blocks, 0, n)
        hasty = Connection(cluster.bootstrap, options, timeout_s=2.0)
        reading = read_range(hasty, "s", OffsetRange(topic, 0, 0, n), max_bytes=1)
        next(reading)
        cluster.nodes[0].kill()
        with pytest.raises(SourceUnavailable, match=r"Partition 0 of topic killed at .* nothing came for 2 s"):
            list(reading)
        client.consumers().clear()
