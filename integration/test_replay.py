"""Card transactions replayed into a real topic at a set speed-up: exactly once, in order, and trained while they flow."""

import contextlib
import itertools
import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from kafka import KafkaConsumer
from kafka.structs import TopicPartition
from services.kafka import Cluster

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job import Job
from beam_ml.beam.kafka.client import Connection, consumer, topic_state
from beam_ml.beam.kafka.topics import make_topic
from beam_ml.beam.rounds import Mode, train
from beam_ml.cli import replay
from beam_ml.cli.simulate import write_days
from beam_ml.core import clocks
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.identity import identities
from beam_ml.core.learner import Learner, scanned
from beam_ml.formats import parquet
from beam_ml.formats.messages import place
from beam_ml.registry import Registry

ROOT = Path(__file__).parents[1]
FRAUD = ROOT.parent / "shared" / "data" / "fraud" / "transactions.parquet"
DAY_US = 86_400_000_000
WEEK = ("2018-04-01", "2018-04-05", "2018-04-08")
"""Its parts: the second is sent when the first has been trained on."""
SPEED = 86_400 / 3


def records(cluster: Cluster, topic: str) -> dict[int, list[Any]]:
    """Return each partition's records, in order."""
    consumer = KafkaConsumer(bootstrap_servers=cluster.bootstrap, auto_offset_reset="none")
    partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning()
    found: dict[int, list[Any]] = {tp.partition: [] for tp in partitions}
    until = time.monotonic() + 60
    while any(consumer.position(tp) < ends[tp] for tp in partitions) and time.monotonic() < until:
        for tp, some in consumer.poll(timeout_ms=500).items():
            found[tp.partition] += some
    consumer.close()
    return found


def parsed(found: dict[int, list[Any]]) -> dict[int, list[dict[str, Any]]]:
    return {p: [json.loads(line) for r in some for line in r.value.splitlines()] for p, some in found.items()}


def command(cluster: Cluster, source: Path, topic: str, *more: str) -> str:
    arguments = [str(source), "--brokers", cluster.bootstrap, "--topic", topic, "--time", "TX_DATETIME", *more]
    result = CliRunner().invoke(replay.main, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pa.Table]:
    """Return a folder of two simulated days, and their rows."""
    folder = tmp_path_factory.mktemp("days")
    files = list(write_days(str(folder), 2, 500, 200))
    return folder, pa.concat_tables([pq.read_table(one) for one in files])


def test_every_row_is_there_once_in_order_in_its_keys_partition(
    kafka_cluster: Cluster, days: tuple[Path, pa.Table]
) -> None:
    folder, table = days
    kafka_cluster.create_topic("replay-key", partitions=3)
    said = command(kafka_cluster, folder, "replay-key", "--speed", "max", "--key", "CUSTOMER_ID")
    assert f"{table.num_rows:,} rows in {table.num_rows:,} messages acknowledged" in said
    found = records(kafka_cluster, "replay-key")
    rows = parsed(found)
    ids = [row["TRANSACTION_ID"] for some in rows.values() for row in some]
    assert sorted(ids) == table["TRANSACTION_ID"].to_pylist()
    partition_of: dict[int, int] = {}
    for p, some in rows.items():
        assert [row["TRANSACTION_ID"] for row in some] == sorted(row["TRANSACTION_ID"] for row in some)
        for row, record in zip(some, found[p], strict=True):
            assert record.key == str(row["CUSTOMER_ID"]).encode()
            assert partition_of.setdefault(row["CUSTOMER_ID"], p) == p
    assert set(partition_of.values()) == {0, 1, 2}


def test_many_rows_a_message_take_turns_and_are_dated_now(kafka_cluster: Cluster, days: tuple[Path, pa.Table]) -> None:
    folder, table = days
    kafka_cluster.create_topic("replay-many", partitions=2)
    before = time.time() * 1000
    said = command(kafka_cluster, folder, "replay-many", "--speed", "max", "--rows-per-message", "50")
    messages = -(-table.num_rows // 50)
    assert f"{table.num_rows:,} rows in {messages:,} messages acknowledged" in said
    found = records(kafka_cluster, "replay-many")
    assert [len(found[0]), len(found[1])] == [-(-messages // 2), messages // 2]
    assert all(before - 1000 <= r.timestamp <= time.time() * 1000 + 1000 for some in found.values() for r in some)
    sizes = [len(r.value.splitlines()) for r in found[0]]
    assert sizes[:-1] == [50] * (len(sizes) - 1)
    ids = sorted(row["TRANSACTION_ID"] for some in parsed(found).values() for row in some)
    assert ids == table["TRANSACTION_ID"].to_pylist()


def test_event_record_times_need_a_topic_without_retention_by_time(
    kafka_cluster: Cluster, days: tuple[Path, pa.Table]
) -> None:
    folder, table = days
    kafka_cluster.create_topic("replay-event", retention_ms=-1)
    command(kafka_cluster, folder, "replay-event", "--speed", "max", "--record-time", "event")
    stamps = [record.timestamp for record in records(kafka_cluster, "replay-event")[0]]
    times = table["TX_DATETIME"].cast(pa.int64()).to_numpy()
    assert stamps == (-(-times // 1000)).tolist()


def test_an_unordered_file_is_sorted_on_the_way(
    kafka_cluster: Cluster, days: tuple[Path, pa.Table], tmp_path: Path
) -> None:
    _, table = days
    shuffled = table.take(pa.array(np.random.default_rng(3).permutation(table.num_rows)))
    parquet.write(str(tmp_path / "shuffled.parquet"), shuffled.to_batches())
    kafka_cluster.create_topic("replay-sorted")
    said = command(kafka_cluster, tmp_path / "shuffled.parquet", "replay-sorted", "--speed", "max")
    assert "brought into order within 1,000,000 rows" in said
    # Payments of one second have no order of their own.
    times = table["TX_DATETIME"].cast(pa.int64()).to_numpy()
    of = dict(zip(table["TRANSACTION_ID"].to_pylist(), times.tolist(), strict=True))
    sent = [of[row["TRANSACTION_ID"]] for row in parsed(records(kafka_cluster, "replay-sorted"))[0]]
    assert sent == sorted(times.tolist())


def test_a_topic_that_is_not_there_is_refused(kafka_cluster: Cluster, days: tuple[Path, pa.Table]) -> None:
    arguments = [str(days[0]), "--brokers", kafka_cluster.bootstrap, "--topic", "nowhere", "--time", "TX_DATETIME"]
    result = CliRunner().invoke(replay.main, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 1
    assert "NoInput" in result.output
    assert "nowhere" in result.output


def test_a_stop_counts_exactly_what_is_there(kafka_cluster: Cluster, days: tuple[Path, pa.Table]) -> None:
    folder, table = days
    kafka_cluster.create_topic("replay-stopped")
    # Two days in a hundred seconds: there is time to stop it.
    arguments = [sys.executable, "-m", "pipelines.replay", str(folder), "--brokers", kafka_cluster.bootstrap]
    arguments += ["--topic", "replay-stopped", "--time", "TX_DATETIME", "--speed", str(2 * 86_400 / 100)]
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + 60
        while not records(kafka_cluster, "replay-stopped")[0] and time.monotonic() < until:
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    counted = re.search(r"stopped: ([\d,]+) rows in ([\d,]+) messages acknowledged", said)
    assert counted is not None, said
    sent = [row["TRANSACTION_ID"] for row in parsed(records(kafka_cluster, "replay-stopped"))[0]]
    assert int(counted[1].replace(",", "")) == len(sent) > 0
    assert sent == table["TRANSACTION_ID"].to_pylist()[: len(sent)]


def learner_of(registry: Path, name: str) -> Learner:
    found = Registry(registry).latest(name)
    assert found is not None
    return decode_learner(found.data, find)


PCA = """
[spec]
algorithm = "pca"
half_life = "14d"

[models.plain]
kind = "components"
n_components = 3
"""


def jobs(folder: Path, topic: str) -> dict[str, Path]:
    """Write the shipped job for a topic of one's own, and the same with an algorithm whose law is EXACT."""
    shipped = (ROOT / "pipelines" / "jobs" / "fraud_kafka.toml").read_text()
    shipped = shipped.replace('topic = "transactions"', f'topic = "{topic}"')
    head = "\n".join(line for line in shipped.partition("[spec]")[0].splitlines() if not line.startswith("gate"))
    found = {"newton": folder / "newton.toml", "pca": folder / "pca.toml"}
    found["newton"].write_text(shipped)
    found["pca"].write_text(head + PCA)
    return found


@contextlib.contextmanager
def following(job: Path, name: str, *where: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a trainer beside the block; it is stopped as a person would."""
    log = job.with_suffix(".log")
    with log.open("w") as out:
        command = [sys.executable, "-m", "pipelines.train", str(job), *where, "--name", name, "--follow"]
        training = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield training
        training.send_signal(signal.SIGTERM)
        assert training.wait(timeout=60) == 0, log.read_text()
    finally:
        if training.poll() is None:
            training.kill()
            training.wait()
    closing = [sys.executable, "-m", "pipelines.train", str(job), *where, "--name", name, "--once", "--close"]
    subprocess.run(closing, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def seen(registry: Path, name: str) -> int:
    """Count the rows that have been scanned, those in open windows too."""
    return scanned(learner_of(registry, name)).scanned if Registry(registry).head_number(name) else 0


def cuts(registry: Path, name: str, n_rows: int) -> list[int]:
    """Return the rows at which the rounds over a topic of one partition ended: a message a row, so offsets are rows."""
    store = Registry(registry)
    manifests = [store.manifest(name, number) for number in store.versions(name)]
    read = [topic["offsets"] for one in manifests for topic in one.next.get("topics", {}).values()]
    return sorted({0, n_rows, *(int(one["0"]) for one in read)})


def drawn_as(topic: Origin, starts: list[int]) -> Callable[[int, Batch], np.ndarray]:
    """Return what names rows of numbered files as those of the topic that they stand for: samples then are the same rows."""

    def named(seed: int, batch: Batch) -> np.ndarray:
        assert batch.origin is not None
        assert batch.position is not None
        start = starts[int(Path(batch.origin.partition).stem)]
        return identities(seed, batch.replace(origin=topic, position=place(batch.position + start)))

    return named


def from_files(job_file: Path, files: Path, registry: Path, name: str) -> Learner:
    """Train the same job in rounds on files, one a round."""
    value = tomllib.loads(job_file.read_text())
    value |= {"name": name, "registry": str(registry), "source": {"path": str(files), "round_files": 1}}
    list(train(Job.parse(value), Registry(registry), Mode("once", close=True)))
    return learner_of(registry, name)


@pytest.mark.timeout(500)
def test_a_week_of_fraud_trained_while_it_flows_equals_the_files(
    kafka_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not FRAUD.exists():
        pytest.skip(f"there is no {FRAUD}")
    topic, registry = "fraud-week", tmp_path / "kafka"
    kafka_cluster.create_topic(topic)
    job_of = jobs(tmp_path, topic)
    where = ["--brokers", kafka_cluster.bootstrap, "--registry", str(registry)]
    with contextlib.ExitStack() as stack:
        training = [stack.enter_context(following(job, name, *where)) for name, job in job_of.items()]
        sent = 0
        for begin, end in itertools.pairwise(WEEK):
            said = command(kafka_cluster, FRAUD, topic, "--from", begin, "--until", end, "--speed", str(SPEED))
            counted = re.search(r"([\d,]+) rows in [\d,]+ messages acknowledged", said)
            assert counted is not None, said
            sent += int(counted[1].replace(",", ""))
            until = time.monotonic() + 180
            while any(seen(registry, name) < sent for name in job_of):
                assert time.monotonic() < until
                assert all(one.poll() is None for one in training)
                time.sleep(0.5)
    for name in job_of:
        assert len(Registry(registry).versions(name)) >= 3, "one in each part, and one that closes"

    begin_us, end_us = (int(np.datetime64(day, "us").astype(np.int64)) for day in (WEEK[0], WEEK[-1]))
    table = pq.read_table(FRAUD)
    times = table["TX_DATETIME"].cast(pa.int64()).to_numpy()
    week = table.filter(pa.array((times >= begin_us) & (times < end_us))).combine_chunks()
    for name, job in job_of.items():
        streamed = learner_of(registry, name)
        # The same rounds on files: cut elsewhere, Newton would have learned from other anchors.
        files = tmp_path / f"files-{name}"
        files.mkdir()
        bounds = cuts(registry, name, week.num_rows)
        # … and drawn by other names, with other rows to correct its folds by.
        named = drawn_as(next(iter(streamed.progress.covered)), bounds)
        monkeypatch.setattr(clocks, "identities", named)  # rows of files are drawn by the same
        for i, (start, stop) in enumerate(itertools.pairwise(bounds)):
            parquet.write(str(files / f"{i:04d}.parquet"), week.slice(start, stop - start).to_batches())
        filed = from_files(job, files, tmp_path / "files", name)
        assert streamed.progress.rows == filed.progress.rows == week.num_rows == sent
        assert streamed.progress.scanned == filed.progress.scanned == sent
        assert (streamed.progress.repeated, streamed.progress.late) == (0, 0)
        assert streamed.refresh == filed.refresh == 7
        assert streamed.progress.time_max == filed.progress.time_max
        assert streamed.spec == filed.spec
        # Their values are distinct enough to tell: amounts and times of 67,000 payments.
        assert close(streamed.state, filed.state, rtol=1e-9 if name == "pca" else 1e-6), name


def test_a_topic_is_made_where_there_is_none(kafka_cluster: Cluster) -> None:
    connection = Connection(kafka_cluster.bootstrap)
    assert make_topic(connection, "made-here", 3)
    assert not make_topic(connection, "made-here", 5)
    asking = consumer(connection)
    try:
        assert sorted(topic_state(asking, "made-here").ends) == [0, 1, 2]
    finally:
        asking.close()
