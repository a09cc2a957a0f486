"""A stream on Prism, over a real topic: exact while rows come, and exact after everything but the registry is gone."""

import signal
from pathlib import Path

from kafka_rows import job_file, versions_rise
from kafka_stream import SOURCE, check_all, head, lags, producing, rows_of, trainer, wait
from services.kafka import Cluster
from services.prism import Prism, prism


def test_windows_are_folded_while_rows_come(kafka_cluster: Cluster, tmp_path: Path, prism_server: Prism) -> None:
    topic = "stream-prism"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, source=SOURCE)
    with trainer(path, [*prism_server.options(streaming=True), "--shards=2"], tmp_path) as one:
        with producing(kafka_cluster.bootstrap, topic) as rows:
            wait(lambda: head(registry) >= 4, "four versions while rows come", tmp_path)
        wait(lambda: rows_of(registry) == rows.ids, "all rows", tmp_path)
        one.send_signal(signal.SIGTERM)
        assert one.wait(60) == 0
    check_all(registry, rows.ids, rows.messages)
    manifests = versions_rise(registry)
    assert {one.epoch for one in manifests} == {1}
    print("lag, s:", [round(lag, 1) for lag in lags(registry)])


def test_killed_with_its_engine_it_goes_on_from_the_registry(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "stream-prism-killed"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, refresh="2s", source=SOURCE)
    with producing(kafka_cluster.bootstrap, topic) as rows:
        for attempt in range(3):
            before = head(registry)
            with prism(tmp_path / f"prism-{attempt}") as engine:
                with trainer(path, engine.options(streaming=True), tmp_path) as one:
                    wait(lambda b=before: head(registry) >= b + 2, f"two versions at start {attempt}", tmp_path)
                    one.kill()
    with prism(tmp_path / "prism-last") as engine, trainer(path, engine.options(streaming=True), tmp_path):
        wait(lambda: rows_of(registry) == rows.ids, "all rows", tmp_path)
    check_all(registry, rows.ids, rows.messages)
    epochs = [one.epoch for one in versions_rise(registry)]
    assert epochs == sorted(epochs)
    assert set(epochs) == {1, 2, 3, 4}
