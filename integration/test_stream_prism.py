"""A stream on Prism, over a real topic: exact while rows come, and exact after everything but the registry is gone."""

import signal
from pathlib import Path

from kafka_rows import job_file, versions_rise
from kafka_stream import SOURCE, check_all, check_taken_over, head, lags, producing, rows_of, trainer, wait
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


def test_of_two_trainers_the_one_begun_later_goes_on(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "stream-two"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, refresh="2s", source=SOURCE)
    with producing(kafka_cluster.bootstrap, topic) as rows, prism(tmp_path / "a") as a, prism(tmp_path / "b") as b:
        check_taken_over(path, registry, a.options(streaming=True), b.options(streaming=True), rows, tmp_path)


def test_sigterm_leaves_windows_open_or_closes_them(
    kafka_cluster: Cluster, tmp_path: Path, prism_server: Prism
) -> None:
    topic = "stream-close"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, source=SOURCE)
    with producing(kafka_cluster.bootstrap, topic) as rows:
        for more in ([], ["--close-windows"]):
            before = head(registry)
            with trainer(path, [*prism_server.options(streaming=True), *more], tmp_path) as one:
                wait(lambda b=before: head(registry) >= b + 1, "a version", tmp_path)
                if more:
                    rows.finish()
                one.send_signal(signal.SIGTERM)
                assert one.wait(90) == 0
            if not more:
                assert rows_of(registry) < rows.ids
    check_all(registry, rows.ids, rows.messages)
    versions_rise(registry)
