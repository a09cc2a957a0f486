"""A topic's columns of categories get their places by a look at it, once: before the first version, which then says so."""

import json
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka_rows import START_US, newest
from kafka_stream import head, trainer, wait
from services.kafka import Cluster
from services.prism import Prism

from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import Mode, train
from beam_ml.cli import main
from beam_ml.registry import Registry

JOB = """
name = "kafka"
registry = "{registry}"
refresh = "1d"
source = {{ kind = "kafka", brokers = "{brokers}", topic = "{topic}", start = "{start}" }}
features = {{ hashed = ["user", "item"], label = "y", time = "time" }}
spec = {{ algorithm = "linear.adagrad", sparse = true }}
models.one.kind = "classifier"
"""


def job_file(folder: Path, cluster: Cluster, topic: str, start: str = "earliest") -> tuple[Path, str]:
    registry, path = str(folder / "registry"), folder / "kafka.toml"
    path.write_text(JOB.format(registry=registry, brokers=cluster.bootstrap, topic=topic, start=start))
    return path, registry


def send(cluster: Cluster, topic: str, numbers: Iterable[int], users: int) -> None:
    """Send a row a message, all of one day, of so many users and three items, to two partitions."""
    producer = KafkaProducer(bootstrap_servers=cluster.bootstrap, acks="all", linger_ms=20)
    for i in numbers:
        row = {"user": f"u{i % users}", "item": i % 3, "y": i % 2, "time": START_US + i * 1000}
        producer.send(topic, json.dumps(row).encode(), partition=i % 2)
    producer.flush()
    producer.close()


def places(registry: str, number: int) -> list[int]:
    terms = Registry(registry).manifest("kafka", number).extra["features"]["hashed"]
    return [term["buckets"] for term in terms]


def groups(cluster: Cluster) -> list[str]:
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    try:
        return sorted(str(one) for one in admin.list_groups())
    finally:
        admin.close()


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_rounds_have_the_places_of_what_was_there_at_first(kafka_cluster: Cluster, tmp_path: Path, start: str) -> None:
    topic = kafka_cluster.create_topic(f"sizing-{start}", partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster, topic, start)
    send(kafka_cluster, topic, range(2_000), users=50)
    before = groups(kafka_cluster)
    shown = json.loads(CliRunner().invoke(main, ["train", "--check", str(path), "--json"]).stdout)
    assert shown["places"] == {"user": 4_096, "item": 1_024}
    assert shown["values_seen"] == {"user": 50, "item": 3}
    assert groups(kafka_cluster) == before
    first = CliRunner().invoke(main, ["train", str(path), "--once"])
    assert first.stdout.startswith("kafka: 5,120 features, ")
    assert places(registry, 1) == [4_096, 1_024]
    send(kafka_cluster, topic, range(2_000, 6_000), users=4_000)
    job = load_job(path)
    assert [one.progress.rows for one in train(job, Registry(registry), Mode("once", close=True))] == [4_000, 0]
    assert newest(registry).progress.rows == {"earliest": 6_000, "latest": 4_000}[start]
    assert places(registry, head(registry)) == [4_096, 1_024]


def test_a_topic_that_holds_little_leaves_the_default(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = kafka_cluster.create_topic("sizing-little", partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster, topic)
    send(kafka_cluster, topic, range(1_000), users=10)
    assert len(list(train(load_job(path), Registry(registry), Mode("once", close=True)))) == 2
    assert places(registry, 1) == [65_536, 65_536]


def test_a_stream_begins_with_a_version_that_holds_the_places(
    kafka_cluster: Cluster, tmp_path: Path, prism_server: Prism
) -> None:
    """It is ended before a window closes, and begins again when the topic looks different."""
    topic = kafka_cluster.create_topic("sizing-stream", partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster, topic)
    send(kafka_cluster, topic, range(2_000), users=50)
    options = prism_server.options(streaming=True)
    with trainer(path, options, tmp_path) as one:
        wait(lambda: head(registry) == 1, "the first version", tmp_path)
        one.send_signal(signal.SIGTERM)
        assert one.wait(60) == 0
    manifest = Registry(registry).manifest("kafka", 1)
    assert (manifest.progress["rows"], manifest.verdict.accepted, list(manifest.files)) == (0, False, ["learner"])
    assert places(registry, 1) == [4_096, 1_024]
    send(kafka_cluster, topic, range(2_000, 6_000), users=4_000)
    with trainer(path, [*options, "--close-windows"], tmp_path) as one:
        wait(lambda: any(b"as v1 has" in log.read_bytes() for log in tmp_path.glob("*.log")), "the size", tmp_path)
        one.send_signal(signal.SIGTERM)
        assert one.wait(120) == 0
    assert newest(registry).progress.rows == 6_000
    assert places(registry, head(registry)) == [4_096, 1_024]
    assert Registry(registry).manifest("kafka", head(registry)).verdict.accepted
