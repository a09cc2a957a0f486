"""Each service of the tests starts, is used for what it is there for, and ends; nothing of it survives its test run."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError
from services.flink import Flink, flink, worker_pool
from services.kafka import MECHANISMS, POM, Cluster
from services.prism import Prism
from services.support import Unavailable, kill, maven_jars, start

SECONDS = 120
"""How long a test waits at most for something that usually takes a few seconds."""


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def send(bootstrap: str, topic: str, values: range, **client: object) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), acks="all", **client)
    try:
        for sent in [producer.send(topic, value=b"%d" % i) for i in values]:
            sent.get(timeout=SECONDS)
    finally:
        producer.close()


def received(bootstrap: str, topic: str, partitions: int = 1, **client: object) -> list[int]:
    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), auto_offset_reset="earliest", **client)
    places = [TopicPartition(topic, i) for i in range(partitions)]
    got: list[int] = []
    ends: dict[TopicPartition, int] = {}

    def all_read() -> bool:
        nonlocal got
        with contextlib.suppress(KafkaConnectionError):  # a node that is down was asked: the next may be up
            ends.update(ends or consumer.end_offsets(places))
            got += [int(message.value) for some in consumer.poll(timeout_ms=200).values() for message in some]
            return all(consumer.position(place) >= ends[place] for place in places)
        return False

    try:
        consumer.assign(places)
        wait_for(all_read)
        return sorted(got)
    finally:
        consumer.close()


def test_kafka_keeps_its_data_and_port_when_killed(kafka_cluster: Cluster) -> None:
    topic, (node,) = kafka_cluster.create_topic("killed", partitions=3), kafka_cluster.nodes
    send(kafka_cluster.bootstrap, topic, range(1000))
    first = node.pid
    node.kill()
    assert not psutil.pid_exists(first)
    node.start()
    send(kafka_cluster.bootstrap, topic, range(1000, 1500))
    node.stop()
    node.start()
    assert received(kafka_cluster.bootstrap, topic, partitions=3) == list(range(1500))


def test_kafka_transactions_and_topic_settings(kafka_cluster: Cluster) -> None:
    topic = kafka_cluster.create_topic("transactions", cleanup_policy="compact", max_message_bytes=8 << 20)
    producer = KafkaProducer(bootstrap_servers=kafka_cluster.bootstrap, transactional_id="one")
    try:
        producer.init_transactions()
        for values, end in ((range(5), producer.commit_transaction), (range(5, 9), producer.abort_transaction)):
            producer.begin_transaction()
            for i in values:
                producer.send(topic, key=b"%d" % i, value=b"%d" % i)
            producer.flush()
            end()
    finally:
        producer.close()
    assert received(kafka_cluster.bootstrap, topic, isolation_level="read_committed") == list(range(5))
    assert received(kafka_cluster.bootstrap, topic, isolation_level="read_uncommitted") == list(range(9))
    with kafka_cluster.admin() as admin:
        assert topic in admin.list_topics()
        kafka_cluster.delete_topic(topic)
        wait_for(lambda: topic not in admin.list_topics())


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_kafka_asks_for_a_password(kafka_secured: Cluster, mechanism: str, caplog: pytest.LogCaptureFixture) -> None:
    topic = kafka_secured.create_topic(f"secret-{mechanism.lower()}")
    right = kafka_secured.login(mechanism)
    send(kafka_secured.secured, topic, range(10), **right)
    assert received(kafka_secured.secured, topic, **right) == list(range(10))
    log = kafka_secured.nodes[0].log
    refused = log.read_text().count("Failed authentication")
    with pytest.raises(
        KafkaError
    ):  # the client tries again until its time is up, and does not say why: the broker does
        KafkaConsumer(
            bootstrap_servers=kafka_secured.secured,
            bootstrap_timeout_ms=2000,
            **kafka_secured.login(mechanism, password="wrong"),
        )
    assert log.read_text().count("Failed authentication") > refused


def test_kafka_of_three_goes_on_without_one(kafka_three: Cluster) -> None:
    topic = kafka_three.create_topic("three", partitions=3, replication=3)
    send(kafka_three.bootstrap, topic, range(300))
    first, second, _ = kafka_three.nodes
    first.kill()
    send(kafka_three.bootstrap, topic, range(300, 400))
    first.start()
    kafka_three.wait_in_sync(topic)
    second.kill()
    send(kafka_three.bootstrap, topic, range(400, 500))
    assert received(kafka_three.bootstrap, topic, partitions=3) == list(range(500))


def python_path() -> dict[str, str]:
    """Let another process import what this one can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}


def sum_by_key(options: list[str], file: Path) -> dict[int, int]:
    """Run the pipeline of `sums.py`."""
    command = [sys.executable, "-m", "sums", str(file), *options]
    ran = subprocess.run(command, env=python_path(), capture_output=True, text=True, timeout=SECONDS)
    assert ran.returncode == 0, ran.stderr
    lines = [one.split() for part in file.parent.glob(f"{file.name}-*") for one in part.read_text().splitlines()]
    return {int(key): int(value) for key, value in lines}


SUMS = {key: sum(range(key, 1000, 7)) for key in range(7)}


def test_prism_by_its_program(prism_location: Path, tmp_path: Path) -> None:
    options = ["--runner=PrismRunner", f"--prism_location={prism_location}", "--environment_type=LOOPBACK"]
    assert sum_by_key(options, tmp_path / "sums") == SUMS


def test_flink_runs_a_bounded_pipeline(flink_server: Flink, tmp_path: Path) -> None:
    assert sum_by_key(flink_server.options(parallelism=2), tmp_path / "sums") == SUMS


class Counting:
    """The pipeline of `counting.py`, in a process of its own."""

    def __init__(self, file: Path, options: list[str]) -> None:
        self.file = file
        command = [sys.executable, "-m", "counting", str(file), *options]
        self.process = start(command, file.with_suffix(".log"), python_path())

    def counts(self) -> list[int]:
        return [int(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def wait(self, what: Callable[[], bool]) -> None:
        def or_ended() -> bool:
            assert self.process.poll() is None, self.file.with_suffix(".log").read_text()
            return what()

        wait_for(or_ended)


@pytest.fixture
def count(tmp_path: Path) -> Iterator[Callable[[list[str]], Counting]]:
    """Start the counting pipeline with given options, as often as one likes; what still runs is ended."""
    running: list[Counting] = []

    def run(options: list[str]) -> Counting:
        running.append(Counting(tmp_path / "counts", options))
        return running[-1]

    yield run
    for one in running:
        kill(one.process)


def test_prism_streams(prism_server: Prism, count: Callable[[list[str]], Counting]) -> None:
    counting = count(prism_server.options(streaming=True))
    counting.wait(lambda: len(counting.counts()) >= 5)
    assert counting.counts()[:5] == [1, 2, 3, 4, 5]


def count_in_checkpoint(server: Flink, counting: Counting) -> int:
    """Wait until a checkpoint must hold some count, and give that count."""
    counting.wait(lambda: bool(counting.counts()))
    held = counting.counts()[-1]
    for _ in range(2):  # the next one may have begun before
        last = server.newest_checkpoint()
        counting.wait(lambda last=last: server.newest_checkpoint() not in (None, last))
    return held


def test_flink_restores_a_checkpoint(
    flink_server: Flink, tmp_path: Path, count: Callable[[list[str]], Counting]
) -> None:
    assert flink_server.pid  # the service can be had: what follows starts its own, to kill them
    often = {"streaming": True, "checkpointing_interval": 1000}
    with flink(tmp_path / "flink") as first:
        counting = count(first.options(parallelism=2, **often))
        held = count_in_checkpoint(first, counting)
        assert [job["status"] for job in first.rest("/jobs")["jobs"]] == ["RUNNING"]
        first.kill()
        kill(counting.process)
    before = counting.counts()
    assert before == list(range(1, len(before) + 1))
    with flink(tmp_path / "flink", savepoint=first.newest_checkpoint()) as second:
        again = count(second.options(parallelism=2, **often))
        again.wait(lambda: len(again.counts()) > len(before))
    resumed = again.counts()[len(before)]
    assert held < resumed <= len(before) + 1


def test_flink_replaces_a_worker_that_was_killed(
    flink_server: Flink, tmp_path: Path, count: Callable[[list[str]], Counting]
) -> None:
    with worker_pool(tmp_path / "pool") as pool:
        counting = count(flink_server.options(streaming=True, workers=pool, checkpointing_interval=1000))
        held = count_in_checkpoint(flink_server, counting)
        (worker,) = pool.workers()
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: worker not in pool.workers())
        before = counting.counts()
        counting.wait(lambda: len(counting.counts()) > len(before) + 3)
        resumed = counting.counts()[len(before)]
        assert held < resumed <= len(before) + 1
        lasting = pool.workers()
        assert len(lasting) == 1
    wait_for(lambda: not any(psutil.pid_exists(one) for one in (*lasting, pool.pid)))


KILLED = """
import sys, time
from pathlib import Path
from services.flink import worker_pool
from services.kafka import kafka
from services.prism import prism
folder = Path(sys.argv[1])
with kafka(folder / "kafka") as cluster, prism(folder / "prism") as one, worker_pool(folder / "pool") as pool:
    print(cluster.nodes[0].pid, one.pid, pool.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_services_end_when_the_test_run_is_killed(kafka_cluster: Cluster, prism_location: Path, tmp_path: Path) -> None:
    assert kafka_cluster.nodes, prism_location  # both can be had
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, env=python_path(), stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert len(pids) == 3
        assert all(psutil.pid_exists(pid) for pid in pids)
        run.kill()
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))


def test_a_service_that_cannot_be_had_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match="kafka needs the command mvn"):
        maven_jars("kafka", POM)
    assert list(tmp_path.rglob("*.jar")) == []


def test_flink_answers_only_while_a_job_runs(flink_server: Flink) -> None:
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        flink_server.rest("/no-such-place")
