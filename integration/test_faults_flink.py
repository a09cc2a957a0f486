"""A stream on Flink whose stages fail and whose workers are killed: the engine restores it, and each row counts once."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from failing_stream import STAGES
from kafka_rows import job_file
from kafka_stream import SOURCE, check_all, head, producing, rows_of, trainer, wait
from services.flink import flink, worker_pool
from services.kafka import Cluster

from beam_ml.registry import Registry

PROGRAM = str(Path(__file__).with_name("failing_stream.py"))


@contextlib.contextmanager
def failing(path: Path, options: Sequence[str], folder: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    log = folder / "trainer-failing.log"
    with log.open("wb") as output:
        command = [sys.executable, PROGRAM, str(path), *options]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()


def test_each_stage_fails_once(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "stream-stages"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, refresh="2s", source=SOURCE)
    wanted = {stage for stage, *_ in STAGES}

    def planted() -> set[str]:
        return {line[8:] for line in log.read_text(errors="replace").splitlines() if line.startswith("PLANTED ")}

    with flink(tmp_path / "flink") as engine:
        with failing(path, engine.options(streaming=True, checkpointing_interval=1000), tmp_path) as (one, log):
            with producing(kafka_cluster.bootstrap, topic) as rows:
                wait(lambda: planted() == wanted, "a failure of every stage", tmp_path, 300)
                at = head(registry)
                wait(lambda: head(registry) >= at + 2, "versions after the last failure", tmp_path)
            wait(lambda: rows_of(registry) == rows.ids, "all rows", tmp_path)
            one.send_signal(signal.SIGTERM)
            assert one.wait(60) == 0
    learner = check_all(registry, rows.ids, rows.messages)
    manifests = [Registry(registry).manifest("kafka", number) for number in range(1, head(registry) + 1)]
    assert {m.run_id for m in manifests} == {manifests[0].run_id}
    refreshes = [one["number"] for m in manifests for one in m.refreshes]
    assert len(refreshes) > learner.refresh, "nothing was published again: no restart took the fold back"


def test_the_worker_is_killed(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "stream-workers"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, refresh="2s", source=SOURCE)
    rng = random.Random(9)
    with flink(tmp_path / "flink") as engine, worker_pool(tmp_path / "pool") as pool:
        options = engine.options(streaming=True, workers=pool, checkpointing_interval=1000)
        with trainer(path, options, tmp_path) as one:
            with producing(kafka_cluster.bootstrap, topic) as rows:
                for kill in range(3):
                    at = head(registry)
                    wait(lambda at=at: head(registry) >= at + 2, f"two versions before kill {kill}", tmp_path)
                    time.sleep(rng.uniform(0.0, 2.0))
                    victims = pool.workers()
                    assert victims
                    for pid in victims:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                at = head(registry)
                wait(lambda: head(registry) >= at + 2, "versions after the last kill", tmp_path)
            wait(lambda: rows_of(registry) == rows.ids, "all rows", tmp_path)
            one.send_signal(signal.SIGTERM)
            assert one.wait(60) == 0
    check_all(registry, rows.ids, rows.messages)
