"""What streams really hold, and brokers that die: every row that was produced is learned from, rejected or late, once."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kafka_rows import newest, versions_rise
from services.kafka import Cluster

from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import Mode, train
from beam_ml.core.learner import Learner, scanned
from beam_ml.registry import Registry, read_round

PRODUCER = str(Path(__file__).with_name("producer.py"))

JOB = """
name = "load"
registry = "{registry}"
refresh = "{refresh}"

[source]
kind = "kafka"
brokers = "{brokers}"
topic = "{topic}"
idle_timeout = "5s"
{source}

[features]
numeric = ["id", "hash", "f2"]
time = "time"

[spec]
algorithm = "pca"

[models.one]
kind = "components"
n_components = 1
"""


def job_file(folder: Path, cluster: Cluster, topic: str, refresh: str = "2s", source: str = "") -> tuple[Path, str]:
    path, registry = folder / "load.toml", str(folder / "registry")
    path.write_text(
        JOB.format(registry=registry, brokers=cluster.bootstrap, topic=topic, refresh=refresh, source=source)
    )
    return path, registry


def load(cluster: Cluster, topic: str, seconds: float, **options: Any) -> "subprocess.Popen[str]":
    """Start the producer."""
    command = [sys.executable, PRODUCER, "--bootstrap", cluster.bootstrap, "--topic", topic, "--seconds", str(seconds)]
    for name, value in {"features": 3, "rows_per_second": 3_000, "rows_per_message": 20, **options}.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def produced(process: "subprocess.Popen[str]") -> dict[str, int]:
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    found: dict[str, int] = json.loads(output.splitlines()[-1])
    assert found.get("failed", 0) == 0, errors
    return found


def finish(path: Path) -> Learner:
    job = load_job(path)
    list(train(job, Registry(job.registry), Mode("once", close=True)))
    return newest(job.registry, "load")


def check_sums(learner: Learner, rows: int, ids: int, hashes: int) -> None:
    """Sums of ids, and of hashes of ids, over the rows learned from."""
    assert learner.pending == {}
    state = learner.state
    assert learner.progress.rows == rows
    assert float(state.weight) == rows
    for column, wanted in ((0, ids), (1, hashes)):
        mean = float(state.origin[column] + state.mean[column])
        assert mean * rows == pytest.approx(wanted, rel=1e-12)


def trained(path: Path, producer: "subprocess.Popen[str]") -> tuple[dict[str, int], Learner]:
    """Train while the producer produces; give what it has produced and the learner that has seen all of it."""
    trainer = follow(path)
    try:
        facts = produced(producer)
    finally:
        output = ended(trainer)
    assert trainer.returncode == 0, output
    return facts, finish(path)


def test_late_skewed_future_and_doubled_rows_add_up(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "untidy"
    kafka_cluster.create_topic(topic, partitions=3)
    source = "out_of_orderness = '500ms'\nallowed_lateness = '6s'\nmax_ahead = '1h'"
    path, _ = job_file(tmp_path, kafka_cluster, topic, source=source)
    untidy = {
        "disorder_seconds": 0.4, "late_share": 0.02, "late_seconds": 5, "future_share": 0.01, "duplicate_share": 0.03,
        "skew_seconds": -2, "seed": 7,
    }  # fmt: skip
    facts, learner = trained(path, load(kafka_cluster, topic, 15, **untidy))
    good = facts["sent_rows"] - facts["future_rows"]
    assert facts["duplicate_rows"] > 100
    assert learner.progress.scanned == facts["sent_rows"]
    assert learner.progress.rejected["event time too far ahead"] == facts["future_rows"] > 100
    beyond = learner.progress.rejected.get("late", 0)
    assert learner.progress.rows == good - beyond
    assert learner.progress.late > 0
    assert learner.progress.time_max is not None
    assert learner.progress.time_max < facts["ended_us"]  # no row of the future has moved the clock
    if not beyond:
        ids = facts["sent_sum_id"] - facts["future_sum_id"]
        check_sums(learner, good, ids, facts["sent_sum_hash"] - facts["future_sum_hash"])


def test_rows_beyond_the_bound_are_counted_rejects(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "too-late"
    kafka_cluster.create_topic(topic, partitions=1)
    path, _ = job_file(tmp_path, kafka_cluster, topic)
    facts, learner = trained(path, load(kafka_cluster, topic, 14, late_share=0.05, late_seconds=6, seed=3))
    late = learner.progress.rejected["late"]
    assert 0 < late <= facts["late_rows"]
    assert learner.progress.rows == facts["sent_rows"] - late
    assert learner.progress.scanned == facts["sent_rows"]


def test_poison_is_rejected_counted_and_written_down(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "poison"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster, topic)
    facts = produced(load(kafka_cluster, topic, 8, poison_share=0.01, rows_per_message=2, seed=11))
    learner = finish(path)
    assert facts["poison_messages"] > 50
    assert sum(learner.progress.rejected.values()) == facts["poison_messages"]
    check_sums(learner, facts["sent_rows"], facts["sent_sum_id"], facts["sent_sum_hash"])
    store = Registry(registry, create=False)
    records = [
        json.loads(line)
        for manifest in versions_rise(registry, "load")
        for file in manifest.rejects
        for line in read_round(store, "load", manifest.round_id, file).splitlines()
    ]
    assert len(records) == facts["poison_messages"]
    assert len({(r["partition"], r["position"]) for r in records}) == len(records)
    assert all(r["source"].endswith("/poison") and r["reason"] for r in records)


def follow(path: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pipelines.train", str(path), "--follow"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def caught_up(trainer: "subprocess.Popen[str]", registry: str, rows: int, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and trainer.poll() is None:
        store = Registry(registry, create=False) if Path(registry).exists() else None
        if store is not None and store.head_number("load") and scanned(newest(registry, "load")).rows >= rows:
            return
        time.sleep(0.5)


def ended(trainer: "subprocess.Popen[str]") -> str:
    if trainer.poll() is None:
        trainer.send_signal(signal.SIGTERM)
    return trainer.communicate(timeout=120)[0]


def test_the_broker_dies_in_mid_round(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "mortal"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster, topic)
    rng = random.Random(5)
    trainer = follow(path)
    producer = load(kafka_cluster, topic, 45, rows_per_second=2_000)
    try:
        for _ in range(5):
            time.sleep(rng.uniform(1.5, 4.0))
            kafka_cluster.nodes[0].kill()
            time.sleep(rng.uniform(0.0, 1.0))
            kafka_cluster.nodes[0].start()
        facts = produced(producer)
        caught_up(trainer, registry, facts["sent_rows"])
    finally:
        output = ended(trainer)
    assert trainer.returncode == 0, output
    learner = finish(path)
    assert learner.refresh >= 5
    check_sums(learner, facts["sent_rows"], facts["sent_sum_id"], facts["sent_sum_hash"])
    versions_rise(registry, "load")


def test_one_of_three_nodes_is_down_throughout(kafka_three: Cluster, tmp_path: Path) -> None:
    topic = "two-of-three"
    kafka_three.create_topic(topic, partitions=3, replication=3)
    kafka_three.nodes[1].kill()
    try:
        path, registry = job_file(tmp_path, kafka_three, topic)
        trainer = follow(path)
        try:
            facts = produced(load(kafka_three, topic, 12, rows_per_second=2_000))
            caught_up(trainer, registry, facts["sent_rows"])
        finally:
            output = ended(trainer)
        assert trainer.returncode == 0, output
        learner = finish(path)
    finally:
        kafka_three.nodes[1].start()
    assert learner.refresh >= 3
    check_sums(learner, facts["sent_rows"], facts["sent_sum_id"], facts["sent_sum_hash"])
