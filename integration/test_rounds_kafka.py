"""Rounds over a real topic: exact rows however they cut it, windows left open between rounds, `--once`, `--follow`."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaConsumer
from kafka_rows import START_US, check_values, job_file, newest, produce, rows, versions_rise
from services.kafka import Cluster

from beam_ml.algorithms import find
from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import Mode, train
from beam_ml.beam.rounds import topic as kafka_rounds
from beam_ml.core import metrics
from beam_ml.core.algorithm import LawKind
from beam_ml.core.arrays import close
from beam_ml.core.intervals import size
from beam_ml.core.learner import Learner, scanned
from beam_ml.errors import RowsLost
from beam_ml.formats.messages import PLACES
from beam_ml.registry import Registry

CLOSE = Mode("once", close=True)


def run(path: Path, mode: Mode = CLOSE) -> list[object]:
    job = load_job(path)
    return list(train(job, Registry(job.registry), mode))


def same(a: Learner, b: Learner) -> None:
    """Find where two learners that should be one differ: what is exact is equal; a logistic step depends on its anchor."""
    exact = find(a.spec.algorithm).law(a.spec).kind is LawKind.EXACT
    if exact:
        assert close(a.state, b.state, rtol=1e-9)
    assert a.refresh == b.refresh
    assert a.progress.rows == b.progress.rows
    assert set(a.metrics) == set(b.metrics)
    for name, one in a.metrics.items():
        mine, other = metrics.compute(one), metrics.compute(b.metrics[name])
        assert mine == pytest.approx(other, rel=1e-6 if exact else 1e-2), name
    assert a.metrics_time == b.metrics_time
    assert sorted(a.sample.identity) == sorted(b.sample.identity)
    assert {o: r.tolist() for o, r in a.progress.covered.items()} == {
        o: r.tolist() for o, r in b.progress.covered.items()
    }


@pytest.mark.parametrize("algorithm", ["pca", "squared", "linear.newton"])
def test_however_rounds_cut_a_topic_the_learner_is_the_same(
    kafka_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    topic, n = f"cuts-{algorithm.replace('.', '-')}", 6_000
    kafka_cluster.create_topic(topic, partitions=3)
    times = START_US + np.arange(n) * 10_000  # a minute of event time: twelve windows of 5 s
    messages = produce(kafka_cluster.bootstrap, topic, rows(range(n), times), 3, rows_per_message=10)
    found = []
    monkeypatch.setattr(kafka_rounds, "_FIRST_MESSAGES", 50)
    for cut in (10_000_000, 3_000, 777):
        source = f"round_rows = {cut}\nout_of_orderness = '100ms'"
        path, registry = job_file(
            tmp_path, kafka_cluster.bootstrap, topic, name=f"cut-{cut}", algorithm=algorithm, source=source
        )
        rounds = run(path)
        assert len(rounds) > n // cut
        learner = newest(registry, f"cut-{cut}")
        assert learner.pending == {}
        assert learner.progress.late == 0
        assert sum(map(size, learner.progress.covered.values())) == messages * PLACES
        versions_rise(registry, f"cut-{cut}")
        found.append(learner)
    same(found[0], found[1])
    same(found[0], found[2])
    if algorithm == "pca":
        check_values(found[0], np.arange(n, dtype=np.float64))


def test_once_leaves_the_last_window_open_and_goes_on_where_it_was(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic, n = "goes-on", 4_000
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, source="group = 'lag'")
    times = START_US + np.arange(n) * 5_000
    everything = rows(range(n), times)
    produce(kafka_cluster.bootstrap, topic, everything[:1_500], 2)
    run(path, Mode("once"))
    first = newest(registry)
    assert first.progress.rows == 1_000
    assert scanned(first).rows == 1_500
    assert len(first.pending) == 1
    produce(kafka_cluster.bootstrap, topic, everything[1_500:], 2)
    assert run(path, Mode("once", close=True))
    check_values(newest(registry), np.arange(n, dtype=np.float64))
    assert run(path, Mode("once")) == []
    assert _committed(kafka_cluster, topic, "lag") == n


def _committed(cluster: Cluster, topic: str, group: str) -> int:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=cluster.bootstrap, group_id=group, enable_auto_commit=False)
    found = [consumer.committed(TopicPartition(topic, partition)) for partition in range(2)]
    consumer.close()
    return sum(one for one in found if one is not None)


def test_follow_refreshes_while_rows_come_and_ends_on_sigterm(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "follow"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, refresh="1s", source="idle_timeout = '2s'")
    command = [sys.executable, "-m", "pipelines.train", str(path), "--follow"]
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        ids = 0
        until = time.monotonic() + 12
        while time.monotonic() < until:
            now = int(time.time() * 1e6)
            produce(kafka_cluster.bootstrap, topic, rows(range(ids, ids + 200), [now] * 200), 2, rows_per_message=50)
            ids += 200
            time.sleep(0.2)
        wanted = time.monotonic() + 60
        while time.monotonic() < wanted and _scanned(registry) < ids:
            time.sleep(0.5)
    finally:
        trainer.send_signal(signal.SIGTERM)
        output, _ = trainer.communicate(timeout=60)
    assert trainer.returncode == 0, output.decode()
    learner = newest(registry)
    assert learner.refresh >= 5, output.decode()
    assert scanned(learner).rows == ids
    versions_rise(registry)
    run(path)
    check_values(newest(registry), np.arange(ids, dtype=np.float64))


def test_a_run_of_each_night_from_the_end_on(kafka_cluster: Cluster, tmp_path: Path) -> None:
    """The first run says where the topic ended; the partition that the topic gets later is read as a whole."""
    topic, n = "nights", 900
    kafka_cluster.create_topic(topic, partitions=1)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, source="start = 'latest'")
    everything = rows(range(n), START_US + np.arange(n) * 5_000)
    produce(kafka_cluster.bootstrap, topic, everything[:300], 1)
    assert len(run(path, Mode("once"))) == 1
    assert scanned(newest(registry)).scanned == 0
    assert run(path, Mode("once")) == []
    with kafka_cluster.admin() as admin:
        admin.create_partitions({topic: 2})
    produce(kafka_cluster.bootstrap, topic, everything[300:], 2)
    run(path)
    check_values(newest(registry), np.arange(300, n, dtype=np.float64))
    versions_rise(registry)


def test_a_topic_made_anew_is_refused_though_it_is_longer(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "recreated"
    kafka_cluster.create_topic(topic)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, source="on_gap = 'skip'")
    produce(kafka_cluster.bootstrap, topic, rows(range(50), START_US + np.arange(50) * 5_000), 1)
    run(path)
    kafka_cluster.delete_topic(topic)
    kafka_cluster.create_topic(topic)
    produce(kafka_cluster.bootstrap, topic, rows(range(100, 200), START_US + np.arange(100) * 5_000), 1)
    with pytest.raises(RowsLost, match=f"topic {topic} at .* it was deleted and recreated"):
        run(path)
    check_values(newest(registry), np.arange(50, dtype=np.float64))


def _scanned(registry: str) -> int:
    store = Registry(registry, create=False) if Path(registry).exists() else None
    return 0 if store is None or not store.head_number("kafka") else scanned(newest(registry)).rows


def test_each_version_is_announced(kafka_cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kafka_cluster.create_topic("told-rows", partitions=1)
    kafka_cluster.create_topic("told", partitions=1)
    produce(kafka_cluster.bootstrap, "told-rows", rows(range(300), START_US + np.arange(300) * 50_000), 1)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, "told-rows")
    text = path.read_text()
    path.write_text(f'{text}\n[announce]\nbrokers = "{kafka_cluster.bootstrap}"\ntopic = "told"\n')
    run(path)
    reader = KafkaConsumer(
        "told", bootstrap_servers=kafka_cluster.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=4000
    )
    told = [json.loads(one.value) for one in reader]
    reader.close()
    manifests = versions_rise(registry)
    assert [one["version"] for one in told] == [m.number for m in manifests]
    assert told[-1]["rows"] == 300
    assert set(told[-1]["metrics"]) == {"one"}
    path.write_text(f'{text}\n[announce]\nbrokers = "{kafka_cluster.bootstrap}"\ntopic = "nobody-made-it"\n')
    produce(kafka_cluster.bootstrap, "told-rows", rows(range(300, 400), START_US + np.arange(300, 400) * 50_000), 1)
    run(path, Mode("once"))
    assert scanned(newest(registry)).rows == 400
    assert "could not be announced" in caplog.text
