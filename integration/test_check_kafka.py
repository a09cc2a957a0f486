"""`beam-ml train --check` looks at the first messages of a real topic, and leaves no trace there."""

import json
import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from services.kafka import Cluster

from beam_ml.cli import main

JOB = """
name = "pay"
registry = "registry"
refresh = "1d"
models.m.kind = "classifier"
spec.algorithm = "linear.newton"
source = {{ kind = "kafka", brokers = "{brokers}", topic = "{topic}", group = "watched" }}

[features]
numeric = ["amount", {{ column = "ts", transform = "hour", unit = "s" }}]
label = {{ column = "status", positive = ["fraud"], negative = ["paid"] }}
time = "ts"
"""


def check(cluster: Cluster, topic: str, folder: Path, *words: str) -> Result:
    path = folder / "job.toml"
    path.write_text(JOB.format(brokers=cluster.bootstrap, topic=topic), encoding="utf-8")
    return CliRunner().invoke(main, ["train", "--check", str(path), *words])


def groups(cluster: Cluster) -> list[str]:
    admin = KafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    try:
        return sorted(str(one) for one in admin.list_groups())
    finally:
        admin.close()


def test_the_first_messages_show_what_the_job_would_use(
    kafka_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    topic = kafka_cluster.create_topic(f"check-{uuid.uuid4().hex[:12]}", 2)
    producer = KafkaProducer(bootstrap_servers=kafka_cluster.bootstrap.split(","))
    day = 86_400
    for i in range(400):
        status = "odd" if i == 8 else ("paid", "fraud")[i // 2 % 2]
        row = {"amount": i % 7 + 0.5, "status": status, "ts": 1_709_251_200 + i // 200 * day}
        producer.send(topic, json.dumps(row).encode(), partition=i % 2)
    producer.send(topic, b"{oops", partition=1)
    producer.close()
    before = groups(kafka_cluster)
    found = json.loads(check(kafka_cluster, topic, tmp_path, "--json").stdout)
    assert found["columns"] == {"amount": "double", "ts": "int64", "status": "string"}
    assert (found["rows_looked_at"], found["rows_learned"], found["windows"]) == (400, 399, 2)
    assert found["rejected"] == {"label is neither positive nor negative": 1, "malformed message": 1}
    first, second = found["first_rejects"]
    assert first == "0 offset 4: label is neither positive nor negative: odd"
    assert second.startswith("1 offset 200: malformed message: ")
    shown = check(kafka_cluster, topic, tmp_path)
    assert (shown.exit_code, "amount (double)" in shown.stdout) == (0, True)
    assert groups(kafka_cluster) == before
    assert not (tmp_path / "registry").exists()


def test_a_topic_without_messages_is_one_sentence(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = kafka_cluster.create_topic(f"check-{uuid.uuid4().hex[:12]}", 2)
    result = check(kafka_cluster, topic, tmp_path)
    where = f"topic {topic} at {kafka_cluster.bootstrap}"
    assert result.exit_code == 1
    assert result.stderr.strip().endswith(f"{where} must hold messages to be looked at; it is empty.")
    assert check(kafka_cluster, f"{topic}-none", tmp_path).exit_code == 1
