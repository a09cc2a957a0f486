"""Learners that start from an anchor, over a real topic: a backlog in rounds, and live in a stream on Prism."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaProducer
from kafka_rows import START_US, newest, versions_rise
from kafka_stream import head, producing, rows_of, trainer, wait
from services.kafka import Cluster
from services.prism import Prism

from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import Mode, train
from beam_ml.registry import Registry

JOB = """
name = "kafka"
registry = "{registry}"
refresh = "5s"

[source]
kind = "kafka"
brokers = "{brokers}"
topic = "{topic}"
idle_timeout = "10s"
out_of_orderness = "2s"

[source.options.types]
{types}

[features]
{features}
label = "y"
time = "time"

[spec]
{spec}

[models.one]
kind = "classifier"
"""

FM = {
    "types": 'user = "int64"\nitem = "int64"\ny = "int64"\ntime = "int64"',
    "features": 'hashed = ["user", "item"]',
    "spec": 'algorithm = "fm"\nn_factors = 4',
}
ADAGRAD = {
    "types": 'id = "float64"\nx = "float64"\ny = "int64"\ntime = "int64"',
    "features": 'numeric = ["x"]',
    "spec": 'algorithm = "linear.adagrad"\nlearning_rates = [0.1, 0.2]\nhalve_at = []',
}


def job_file(folder: Path, cluster: Cluster, topic: str, given: dict[str, str]) -> tuple[Path, str]:
    registry, path = str(folder / "registry"), folder / "kafka.toml"
    path.write_text(JOB.format(registry=registry, brokers=cluster.bootstrap, topic=topic, **given))
    return path, registry


@pytest.mark.parametrize("order", ["together", "in_order"])
def test_a_backlog_of_many_windows(kafka_cluster: Cluster, tmp_path: Path, order: str) -> None:
    """40 windows; users like items of their own parity, which only the pairs tell."""
    topic, n = f"gradient-backlog-{order}", 40_000
    kafka_cluster.create_topic(topic, partitions=2)
    rng = np.random.default_rng(1)
    user, item = rng.integers(0, 40, n), rng.integers(0, 40, n)
    y = rng.random(n) < np.where((user + item) % 2 == 0, 0.9, 0.1)
    producer = KafkaProducer(bootstrap_servers=kafka_cluster.bootstrap, acks="all", linger_ms=20)
    for first in range(0, n, 100):
        some = [
            {"user": int(user[i]), "item": int(item[i]), "y": int(y[i]), "time": START_US + i * 5_000}
            for i in range(first, first + 100)
        ]
        producer.send(topic, "\n".join(map(json.dumps, some)).encode(), partition=first // 100 % 2)
    producer.flush()
    producer.close()
    path, registry = job_file(tmp_path, kafka_cluster, topic, FM)
    rounds = list(train(load_job(path, order=order), Registry(registry), Mode("once", close=True)))
    learner = newest(registry)
    assert learner.progress.rows == n
    assert learner.progress.rejected == {}
    assert sum(len(one.refreshes) for one in rounds) == 40
    if order == "together":
        assert len(rounds) > 4  # the first ones are short: each starts from what the one before has learned
    else:
        assert len(rounds) == 2  # all windows but the last one, which `close` folds
    last = [one for manifest in versions_rise(registry) for one in manifest.refreshes][-1]
    assert last["measured"]["one"]["auc"] > 0.8
    features = Registry(registry).manifest("kafka", 1).extra["features"]
    assert [term["buckets"] for term in features["hashed"]] == [4_096, 4_096]  # 40 values of each were seen


def test_a_stream_pulls_its_anchors_from_the_registry(
    kafka_cluster: Cluster, tmp_path: Path, prism_server: Prism
) -> None:
    topic = "gradient-stream"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster, topic, ADAGRAD)
    options = [*prism_server.options(streaming=True), "--shards=2", "--anchor-ttl=1"]
    with trainer(path, options, tmp_path) as one:
        with producing(kafka_cluster.bootstrap, topic) as rows:
            wait(lambda: head(registry) >= 5, "five versions while rows come", tmp_path)
        wait(lambda: rows_of(registry) == rows.ids, "all rows", tmp_path)
        one.send_signal(signal.SIGTERM)
        assert one.wait(60) == 0
    learner = newest(registry)
    assert learner.progress.rejected == {}
    assert learner.progress.late == 0
    manifests = versions_rise(registry)
    ages = [int(age) for one in manifests[-1].refreshes for age in one["behind"]]
    assert ages
    assert max(ages) <= 3 < len(manifests) - 1  # parts that started from nothing would be as old as all versions
