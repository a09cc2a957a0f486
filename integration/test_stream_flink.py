"""A stream on Flink, over a real topic: exact while rows come, restored from a checkpoint, and without one."""

import signal
from pathlib import Path

import pytest
from kafka_rows import job_file, newest, versions_rise
from kafka_stream import SOURCE, check_all, check_taken_over, head, lags, producing, rows_of, trainer, wait
from services.flink import flink
from services.kafka import Cluster

from beam_ml.registry import Registry


@pytest.mark.parametrize("parallelism", [1, 2])
def test_windows_are_folded_while_rows_come(kafka_cluster: Cluster, tmp_path: Path, parallelism: int) -> None:
    topic = f"stream-flink-{parallelism}"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, source=SOURCE)
    with flink(tmp_path / "flink") as engine:
        # that bundles end before checkpoints, the command sees to itself
        options = engine.options(parallelism, streaming=True, finish_bundle_before_checkpointing=None)
        shape = [f"--shards={parallelism}", f"--splits={parallelism}"]
        with trainer(path, [*options, *shape], tmp_path) as one:
            with producing(kafka_cluster.bootstrap, topic, 50, 100) as rows:
                wait(lambda: head(registry) >= 1, "a first version", tmp_path)
                before = head(registry)
                wait(lambda: head(registry) >= before + 4, "four more while rows come", tmp_path)
            wait(lambda: rows_of(registry) == rows.ids, "all rows", tmp_path)
            one.send_signal(signal.SIGTERM)
            assert one.wait(60) == 0
    check_all(registry, rows.ids, rows.messages)
    versions_rise(registry)
    print("lag, s:", [round(lag, 1) for lag in lags(registry, before)])


@pytest.mark.parametrize("checkpoint", ["kept", "lost"])
def test_all_processes_killed(kafka_cluster: Cluster, tmp_path: Path, checkpoint: str) -> None:
    """Restored from its checkpoint a stream publishes again what came after it; without one the registry goes on."""
    topic = f"stream-killed-{checkpoint}"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, refresh="3s", source=SOURCE)
    with producing(kafka_cluster.bootstrap, topic) as rows:
        with flink(tmp_path / "flink") as engine:
            with trainer(path, engine.options(streaming=True), tmp_path) as one:
                wait(lambda: head(registry) >= 2, "two versions", tmp_path)
                old = engine.newest_checkpoint()
                wait(
                    lambda: head(registry) >= 4 and engine.newest_checkpoint() not in (None, old),
                    "a checkpoint",
                    tmp_path,
                )
                saved = engine.newest_checkpoint()
                assert saved is not None
                kept = tmp_path / "kept"
                saved.rename(kept)  # the engine may not clean it up
                at = head(registry)
                wait(lambda: head(registry) >= at + 2, "versions after the checkpoint", tmp_path)
                one.kill()
                engine.kill()
        last = head(registry)
        if checkpoint == "kept":
            kept.rename(saved)
        with flink(tmp_path / "flink-again", savepoint=saved if checkpoint == "kept" else None) as engine:
            with trainer(path, engine.options(streaming=True), tmp_path) as one:
                wait(lambda: head(registry) >= last + 2, "versions after the restart", tmp_path)
                rows.finish()
                wait(lambda: rows_of(registry) == rows.ids, "all rows", tmp_path)
                one.send_signal(signal.SIGTERM)
                assert one.wait(60) == 0
    learner = check_all(registry, rows.ids, rows.messages)
    store = Registry(registry)
    after = store.manifest("kafka", last + 1)
    assert after.epoch == 2
    if checkpoint == "kept":
        assert after.parent is not None
        assert after.parent < last
        assert newest(registry).refresh < store.head_number("kafka")
    else:
        assert after.parent == last
        versions_rise(registry)
    assert learner.pending == {}


def test_sigterm_keeps_the_state_in_a_savepoint(kafka_cluster: Cluster, tmp_path: Path) -> None:
    """What was open goes on, as if nothing had been."""
    topic = "stream-savepoint"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, refresh="3s", source=SOURCE)
    with producing(kafka_cluster.bootstrap, topic) as rows:
        with flink(tmp_path / "flink") as engine:
            folder = (tmp_path / "savepoints").as_uri()
            ending = [f"--savepoint={folder}", f"--flink-rest=http://127.0.0.1:{engine.rest_port}"]
            with trainer(path, [*engine.options(streaming=True), *ending], tmp_path) as one:
                wait(lambda: head(registry) >= 3, "three versions", tmp_path)
                one.send_signal(signal.SIGTERM)
                assert one.wait(120) == 0
        (log,) = tmp_path.glob("trainer-*.log")
        (said,) = [line for line in log.read_text().splitlines() if line.startswith("The state is kept in ")]
        saved = Path(said.removeprefix("The state is kept in file:").rstrip("."))
        last = head(registry)
        with flink(tmp_path / "flink-again", savepoint=saved) as engine:
            with trainer(path, engine.options(streaming=True), tmp_path):
                wait(lambda: head(registry) >= last + 2, "versions after the restart", tmp_path)
                rows.finish()
                wait(lambda: rows_of(registry) == rows.ids, "all rows", tmp_path)
    check_all(registry, rows.ids, rows.messages)
    assert versions_rise(registry)[last].epoch == 2


def test_of_two_streams_of_one_name_the_one_begun_later_goes_on(kafka_cluster: Cluster, tmp_path: Path) -> None:
    """The older one's engine tries again as often as its restart strategy says, and then says why."""
    topic = "stream-flink-two"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, refresh="3s", source=SOURCE)
    attempts = {"restart-strategy.fixed-delay.attempts": 2}
    with producing(kafka_cluster.bootstrap, topic) as rows, flink(tmp_path / "a", **attempts) as a:
        with flink(tmp_path / "b") as b:
            check_taken_over(path, registry, a.options(streaming=True), b.options(streaming=True), rows, tmp_path)
