"""Writes to a real Kafka: acknowledged before the bundle ends, or an error."""

import contextlib
import gc
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from apache_beam import Create, Map
from kafka import KafkaConsumer, TopicPartition
from services.kafka import Cluster, kafka

from beam_ml.beam import engine
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.producer import TopicWriter, producers
from beam_ml.beam.kafka.read import OffsetRange, read_range
from beam_ml.beam.kafka.write import WriteAnnouncements, WriteKafka, announce
from beam_ml.errors import InvalidValue, NoInput, SourceUnavailable
from beam_ml.formats.block import Block
from beam_ml.registry.manifest import Manifest, Verdict, write_manifest

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")


@pytest.fixture(autouse=True)
def _sockets() -> Iterator[None]:
    """Have the client library's sockets of failed connections, which it leaves unclosed, freed within the test."""
    yield
    gc.collect()


def topic_of(cluster: Cluster, partitions: int = 1, **config: object) -> str:
    return cluster.create_topic(f"write-{uuid.uuid4().hex[:12]}", partitions, **config)


def written(connection: Connection, topic: str) -> list[tuple[bytes | None, bytes | None, int]]:
    """Return what is in a topic: key, value, partition."""
    with contextlib.closing(client.consumer(connection)) as consumer:
        ends = client.topic_state(consumer, topic).ends
    return [
        (row["key"], row["value"], partition)
        for partition, end in ends.items()
        for block in read_range(connection, "s", OffsetRange(topic, partition, 0, end))
        for row in block.batch.to_pylist()
    ]


@pytest.fixture
def connection(kafka_cluster: Cluster) -> Connection:
    return Connection(kafka_cluster.bootstrap, timeout_s=15.0)


def message_of(number: int) -> tuple[bytes | None, bytes | None]:
    return (None if number % 5 == 0 else b"key %d" % (number % 7), b"value %d" % number)


def test_messages_of_a_pipeline(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster, partitions=3)
    pipeline = engine.new_pipeline()
    _ = pipeline | Create(range(1000)) | Map(message_of) | WriteKafka(connection, topic)
    pipeline.run().wait_until_finish()
    found = written(connection, topic)
    assert sorted(value for _, value, _ in found) == sorted(b"value %d" % i for i in range(1000))
    assert {(key, value) for key, value, _ in found} == {message_of(i) for i in range(1000)}
    for number in range(7):  # one partition a key
        assert len({partition for key, _, partition in found if key == b"key %d" % number}) == 1


def block_of(first: int) -> Block:
    number = list(range(first, first + 10))
    return Block(pa.record_batch({"id": number, "name": [f"n{i % 4}" for i in number]}))


def as_json(batch: pa.RecordBatch) -> pa.Array:
    """Encode each row as JSON."""
    return pa.array([json.dumps(row, sort_keys=True).encode() for row in batch.to_pylist()], type=pa.binary())


def test_blocks_of_a_pipeline(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster)
    pipeline = engine.new_pipeline()
    blocks = pipeline | Create([0, 10, 20]) | Map(block_of).with_output_types(Block)
    _ = blocks | WriteKafka(connection, topic, encode="test_kafka_write:as_json", key="name")
    pipeline.run().wait_until_finish()
    found = sorted((json.loads(value)["id"], key) for key, value, _ in written(connection, topic))
    assert found == [(i, b"n%d" % (i % 4)) for i in range(30)]


def manifest_of(number: int) -> Manifest:
    return Manifest(
        name="fraud",
        number=number,
        parent=number - 1 or None,
        created="2025-01-01T00:00:00+00:00",
        files={},
        progress={"rows": 100 * number},
        refreshes=({"measured": {"best": {"auc": 0.5}}}, {"measured": {"best": {"auc": 0.25 * number}}}),
        verdict=Verdict(accepted=number > 1, reasons=() if number > 1 else ("auc",)),
        last_accepted=number if number > 1 else None,
        champion="best",
        round_id="r",
        library="0",
    )


def test_announcements(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster)
    announce(connection, topic, manifest_of(1))
    assert len(written(connection, topic)) == 1  # there when it returns
    pipeline = engine.new_pipeline()
    told = pipeline | Create([write_manifest(manifest_of(2))])
    _ = told | WriteAnnouncements(connection, topic)
    pipeline.run().wait_until_finish()
    found = [(key, json.loads(value)) for key, value, _ in written(connection, topic)]
    assert [key for key, _ in found] == [b"fraud", b"fraud"]
    assert [(one["name"], one["version"], one["path"], one["metrics"], one["rows"]) for _, one in found] == [
        ("fraud", 1, "fraud/v1/manifest.json", {"best": {"auc": 0.25}}, 100),
        ("fraud", 2, "fraud/v2/manifest.json", {"best": {"auc": 0.5}}, 200),
    ]
    assert [(one["accepted"], one["reasons"]) for _, one in found] == [(False, ["auc"]), (True, [])]


def test_one_producer_is_kept(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster)
    producers().clear()
    for number in range(3):
        out = TopicWriter(connection, topic)
        out.send(b"%d" % number, b"k")
        assert out.finish() == 1
        assert len(producers()) == 1
    assert [value for _, value, _ in written(connection, topic)] == [b"0", b"1", b"2"]


def test_what_cannot_be_delivered_raises(kafka_cluster: Cluster, connection: Connection) -> None:
    with pytest.raises(NoInput, match=r"Topic nowhere at .* must exist"):
        TopicWriter(connection, "nowhere")
    topic = topic_of(kafka_cluster, max_message_bytes=1000)
    out = TopicWriter(connection, topic)
    out.send(b"fits")
    out.send(b"x" * 5000)  # more than the topic takes
    with pytest.raises(SourceUnavailable, match=rf"Topic {topic} at .*after 1 messages .* of the 1 under way"):
        out.finish()
    out = TopicWriter(connection, topic)
    with pytest.raises(InvalidValue, match=r"max_request_size; got 9,437,184 bytes"):
        out.send(b"x" * (9 << 20))  # more than a request holds


def test_a_batch_that_is_larger_than_the_topic_takes_is_split(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster, max_message_bytes=2000)
    with TopicWriter(connection, topic) as out:
        for number in range(200):
            out.send(b"%0100d" % number)
    assert out.messages == 200
    assert sorted(int(value) for _, value, _ in written(connection, topic)) == list(range(200))


def test_a_pipeline_fails_with_its_writes(kafka_cluster: Cluster, connection: Connection) -> None:
    topic = topic_of(kafka_cluster, max_message_bytes=100)
    pipeline = engine.new_pipeline()
    _ = pipeline | Create([1]) | Map(lambda _: (None, b"x" * 1000)) | WriteKafka(connection, topic)
    with pytest.raises(Exception, match="of the 1 under way any may be there"):
        pipeline.run().wait_until_finish()
    assert written(connection, topic) == []


def test_a_broker_that_dies_and_comes_back(tmp_path: Path) -> None:
    with kafka(tmp_path) as cluster:
        topic = cluster.create_topic("w")
        patient = Connection(cluster.bootstrap, timeout_s=60.0)
        out = TopicWriter(patient, topic)
        for number in range(100):
            out.send(b"%d" % number)
        out.finish()
        cluster.nodes[0].kill()
        out = TopicWriter(patient, topic)
        for number in range(100, 200):
            out.send(b"%d" % number)
        cluster.nodes[0].start(wait=False)
        assert out.finish() == 100
        with contextlib.closing(KafkaConsumer(bootstrap_servers=cluster.bootstrap)) as consumer:
            tp = TopicPartition(topic, 0)
            consumer.assign([tp])
            consumer.seek(tp, 0)
            found: list[bytes] = []
            while len(found) < 200:
                found += [one.value for one in consumer.poll(1000).get(tp, [])]
            assert consumer.end_offsets([tp]) == {tp: 200}
        assert found == [b"%d" % i for i in range(200)]  # in order, none twice
        hasty = Connection(cluster.bootstrap, timeout_s=2.0)
        out = TopicWriter(hasty, topic)
        cluster.nodes[0].kill()
        with pytest.raises(SourceUnavailable, match="Topic w at"):
            out.send(b"lost")  # it has not met this topic's leader yet
        producers().clear()
