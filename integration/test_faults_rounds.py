"""Rounds over Kafka: kill the trainer anywhere, fail its registry anywhere, start it twice: each row counts once."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka_rows import START_US, check_values, job_file, newest, produce, rows, versions_rise
from services.kafka import Cluster

from beam_ml.algorithms import find
from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import Mode, train
from beam_ml.beam.rounds import topic as kafka_rounds
from beam_ml.core.arrays import close
from beam_ml.core.intervals import size
from beam_ml.core.learner import scanned
from beam_ml.errors import BeamMLError
from beam_ml.formats.messages import PLACES
from beam_ml.registry import Registry
from beam_ml.registry import registry as registry_module
from tests.registry.faulty_store import FaultyStore

KILLS = int(os.environ.get("BEAM_ML_KILLS", "30"))
N = 9_000
TRAINER = str(Path(__file__).with_name("dying_trainer.py"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
"""Another process imports what this one can."""
ONCE = ["--once", "--close"]


def topic_of(cluster: Cluster, name: str, n: int = N, partitions: int = 3) -> np.ndarray:
    """Fill a topic with rows of distinct ids, in windows of 5 s; give the ids."""
    cluster.create_topic(name, partitions=partitions)
    times = START_US + np.arange(n) * 5_000
    produce(cluster.bootstrap, name, rows(range(n), times), partitions)
    return np.arange(n, dtype=np.float64)


def finish(path: Path) -> None:
    command = [sys.executable, "-m", "pipelines.train", str(path), *ONCE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_killed_at_random_instants(kafka_cluster: Cluster, tmp_path: Path) -> None:
    """A round's plan depends on the version before alone, so a killed run replays the same rounds."""
    seed = 20_261_121
    rng = random.Random(seed)
    ids = topic_of(kafka_cluster, "kills")
    source = "round_rows = 700\nout_of_orderness = '100ms'"
    undisturbed, lasted_s = {}, list[float]()
    for algorithm in ("pca", "linear.newton"):
        path, registry = job_file(
            tmp_path, kafka_cluster.bootstrap, "kills", name=f"calm-{algorithm}", algorithm=algorithm, source=source
        )
        begun = time.monotonic()
        finish(path)
        lasted_s.append(time.monotonic() - begun)
        undisturbed[algorithm] = newest(registry, f"calm-{algorithm}")
    check_values(undisturbed["pca"], ids)
    kills = runs = at_work = 0
    while kills < KILLS:
        algorithm = ("pca", "linear.newton")[runs % 2]
        name = f"run-{runs}"
        runs += 1
        path, registry = job_file(
            tmp_path, kafka_cluster.bootstrap, "kills", name=name, algorithm=algorithm, source=source
        )
        ended = False
        while not ended and kills < KILLS:
            before = _head(registry, name)
            if rng.random() < 0.5:  # at an operation of the registry: most of them belong to a publish
                when = rng.choice(["before", "after"])
                command = [sys.executable, TRAINER, str(rng.randrange(5, 90)), when, str(path), *ONCE]
                patience = 120.0
            else:
                command = [sys.executable, "-m", "pipelines.train", str(path), *ONCE]
                patience = rng.uniform(0.4, 1.0) * min(lasted_s)  # a busy machine takes longer to get to work
            process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(timeout=patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.returncode == -signal.SIGKILL:
                kills += 1
                at_work += _head(registry, name) != before
            else:
                assert process.returncode == 0
                ended = True
            if _head(registry, name):
                assert newest(registry, name).spec.algorithm == algorithm
        if not ended:
            finish(path)
        learner = newest(registry, name)
        assert learner.pending == {}
        assert learner.progress.rows == learner.progress.scanned == N
        assert sum(map(size, learner.progress.covered.values())) == N * PLACES
        if algorithm == "pca":
            check_values(learner, ids)
        versions_rise(registry, name)
        law = find(algorithm).law(learner.spec)
        assert close(learner.state, undisturbed[algorithm].state, rtol=law.rtol)
    assert at_work >= KILLS // 4, "too few kills struck a job at work to show anything"
    print(f"{kills} kills over {runs} runs (seed {seed}), {at_work} of them after at least one new version")


def _head(registry: str, name: str) -> int:
    return Registry(registry, create=False).head_number(name) if Path(registry).exists() else 0


def test_a_registry_that_fails_at_any_operation(
    kafka_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = topic_of(kafka_cluster, "failing", n=2_000, partitions=2)
    monkeypatch.setattr(kafka_rounds, "_FIRST_MESSAGES", 500)  # three rounds
    real, done, failing = registry_module.open_objects, 0, 0

    def hook(_: int, operation: str, path: str) -> None:
        nonlocal done
        done += 1
        if done == failing:
            message = "the disk is full"
            raise OSError(message)

    def wrapped(where: Any, **options: Any) -> Any:
        objects = real(where, **options)
        return dataclasses.replace(objects, store=FaultyStore(objects.store, before=hook))

    monkeypatch.setattr(registry_module, "open_objects", wrapped)

    def run(name: str) -> str:
        path, registry = job_file(tmp_path, kafka_cluster.bootstrap, "failing", name=name, source="round_rows = 1100")
        job = load_job(path)
        list(train(job, Registry(job.registry), Mode("once", close=True)))
        return registry

    registry = run("calm")
    operations, calm = done, newest(registry, "calm")
    check_values(calm, ids)
    assert operations > 20
    failed, said = 0, list[str]()
    for failing in range(1, operations + 1):
        done = 0
        try:
            run(f"at-{failing}")
        except BeamMLError as error:
            said.append(str(error))
            failed += 1
            done = operations  # the disk has room again
            run(f"at-{failing}")
        learner = newest(str(tmp_path / f"registry-at-{failing}"), f"at-{failing}")
        check_values(learner, ids)
        assert close(learner.state, calm.state, rtol=1e-9)
        versions_rise(str(tmp_path / f"registry-at-{failing}"), f"at-{failing}")
    assert failed > operations // 2
    assert all("the disk is full" in text for text in said)
    print(f"{operations} operations, {failed} of them ended the run when they failed")


def test_two_trainers_on_one_name(kafka_cluster: Cluster, tmp_path: Path) -> None:
    topic = "two"
    kafka_cluster.create_topic(topic, partitions=2)
    path, registry = job_file(tmp_path, kafka_cluster.bootstrap, topic, refresh="1s", source="idle_timeout = '2s'")
    command = [sys.executable, "-m", "pipelines.train", str(path), "--follow"]
    trainers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    n, until = 0, time.monotonic() + 60
    try:
        while time.monotonic() < until and all(one.poll() is None for one in trainers):
            now = int(time.time() * 1e6)
            produce(kafka_cluster.bootstrap, topic, rows(range(n, n + 100), [now] * 100), 2)
            n += 100
            time.sleep(0.1)
        ended = [one for one in trainers if one.poll() is not None]
        assert len(ended) == 1, "both went on"
        output = ended[0].communicate()[0].decode()
        assert ended[0].returncode == 1
        assert "HeadMoved" in output, output
        until = time.monotonic() + 60
        while time.monotonic() < until and scanned(newest(registry)).rows < n:
            time.sleep(0.5)
        alive = next(one for one in trainers if one.poll() is None)
    finally:
        for one in trainers:
            if one.poll() is None:
                one.terminate()
    output = alive.communicate(timeout=60)[0].decode()
    assert alive.returncode == 0, output
    finish(path)
    check_values(newest(registry), np.arange(n, dtype=np.float64))
    versions_rise(registry)
    runs = {json.dumps(m.run_id) for m in versions_rise(registry)}
    assert 1 <= len(runs) <= 3
