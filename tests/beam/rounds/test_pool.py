"""Rounds shared out to a pool of processes: the same result whoever does a part, and no row lost or doubled when one ends."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job import Job, load_job
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.rounds import Mode, driver, train
from beam_ml.beam.rounds.pool import arriving as arriving_module
from beam_ml.beam.rounds.pool import processes, sharing
from beam_ml.beam.rounds.pool.arriving import Arriving
from beam_ml.beam.rounds.pool.messages import receive
from beam_ml.beam.rounds.pool.processes import Pool, Process
from beam_ml.beam.rounds.pool.sharing import parts_of
from beam_ml.beam.rounds.topic_plan import KafkaPlan
from beam_ml.beam.wire.elements import Slice
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.threads import using
from beam_ml.errors import UnreadableInput
from beam_ml.formats.messages import PLACES
from beam_ml.registry import Registry
from beam_ml.testing.examples import outliers
from tests.lines import JOBS, learn_words

DAY_US = 86_400_000_000
DAYS, ROWS = 4, 500
CLOSE = Mode("once", close=True)
KMEANS = {"algorithm": "kmeans", "k_max": 8}
ADAGRAD = {"algorithm": "linear.adagrad", "learning_rates": [0.1, 0.5], "l1": 0.0, "l2": 0.0, "halve_at": []}


@pytest.fixture(scope="module")
def started() -> Iterator[Pool]:
    """A pool of two processes, started once for all tests here."""
    pool = Pool()
    pool.start(2)
    pool.wait(60)
    yield pool
    pool.end()


@pytest.fixture
def two(started: Pool, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """A pool that rounds of any size use at once; what an earlier test has ended is started again."""
    monkeypatch.setattr(sharing, "PART_VALUES", 1)
    monkeypatch.setattr(sharing, "START_AFTER_S", 0.0)
    monkeypatch.setattr(driver, "pool", started)
    started.start(2)
    assert started.wait(60)
    return started


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files of a day each; every hundredth row has no number, and is refused."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(1)
    for day in range(DAYS):
        x = rng.normal(size=(ROWS, 2))
        label = (x[:, 0] > 0).astype(float)
        x[::100, 0] = np.nan
        time_us = day * DAY_US + np.arange(ROWS)
        columns = {"a": x[:, 0], "b": x[:, 1], "y": label, "t": pa.array(time_us, pa.timestamp("us", tz="UTC"))}
        pq.write_table(pa.table(columns), folder / f"{day}.parquet", row_group_size=100, write_page_checksum=True)
    return folder


def job(folder: Path, data: Path, spec: Mapping[str, Any], **changes: Any) -> Job:
    kind = {"kmeans": {"kind": "clusters", "k": 2}, "linear.adagrad": {"kind": "variant"}}[spec["algorithm"]]
    whole = {
        "name": "test",
        "registry": str(folder / "registry"),
        "source": {"path": str(data)},
        "features": {"numeric": ["a", "b"], "label": "y", "time": "t"},
        "spec": dict(spec),
        "models": {"one": kind},
    }
    return Job.parse(whole | changes)


def learned(one: Job, threads: int = 2) -> bytes:
    """Train; return the bytes of the newest learner."""
    for _ in train(one, Registry(one.registry), CLOSE, threads=threads):
        pass
    found = Registry(one.registry).latest(one.name)
    assert found is not None
    return found.data


def read(data: bytes) -> Learner:
    return decode_learner(data, find)


def refused(one: Job) -> list[Any]:
    files = (Path(one.registry) / one.name / "rounds").rglob("*.jsonl")
    return sorted(json.loads(line)["position"] for file in files for line in file.read_text().splitlines())


@pytest.fixture
def alone() -> Pool:
    """A pool where no process can be started."""

    def refuse() -> Process:
        message = "no more processes"
        raise OSError(message)

    return Pool(refuse)


CASES = pytest.mark.parametrize(
    ("spec", "changes"), [(KMEANS, {}), (ADAGRAD, {"refresh": "1d"})], ids=["parts that merge", "windows in order"]
)


@CASES
def test_processes_and_threads_learn_the_same_to_the_bit(
    two: Pool,
    alone: Pool,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spec: Mapping[str, Any],
    changes: Mapping[str, Any],
) -> None:
    by_processes = job(tmp_path / "p", data, spec, **changes)
    found = learned(by_processes)
    monkeypatch.setattr(driver, "pool", alone)
    by_threads = job(tmp_path / "t", data, spec, **changes)
    assert learned(by_threads) == found
    assert "Rounds use threads: no process can be started beside this one (no more processes)." in caplog.text
    progress = read(found).progress
    assert (progress.rows, progress.scanned) == (DAYS * ROWS - DAYS * 5, DAYS * ROWS)
    assert refused(by_processes) == refused(by_threads) == sorted([*range(0, ROWS, 100)] * DAYS)


def test_windows_in_order_are_learned_as_by_one_thread(two: Pool, data: Path, tmp_path: Path) -> None:
    one, other = (job(tmp_path / where, data, ADAGRAD, refresh="1d") for where in "ab")
    assert learned(one, threads=2) == learned(other, threads=1)


def test_rows_out_of_the_order_of_time_are_learned_the_same(two: Pool, data: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    table = pa.concat_tables([pq.read_table(file) for file in sorted(data.iterdir())])
    order = np.random.default_rng(2).permutation(len(table))
    for i, rows in enumerate(np.array_split(order, 4)):
        pq.write_table(table.take(rows), mixed / f"{i}.parquet", row_group_size=100)
    one, other = (job(tmp_path / where, mixed, ADAGRAD, refresh="1d") for where in "ab")
    assert learned(one, threads=2) == learned(other, threads=1)


def test_processes_are_kept_across_rounds_and_trainers(two: Pool, data: Path, tmp_path: Path) -> None:
    before = two.pids
    rounds = list(
        train(
            one := job(tmp_path / "a", data, KMEANS, source={"path": str(data), "round_files": 2}),
            Registry(one.registry),
            threads=2,
        )
    )
    learned(job(tmp_path / "b", data, KMEANS))
    assert len(rounds) == 2
    assert two.pids == before


def test_processes_that_have_loaded_kernels_are_lent_first(
    started: Pool, two: Pool, data: Path, tmp_path: Path
) -> None:
    started.end()
    started.start(2)
    assert started.wait(60)
    with started.borrowed(1) as busy:
        learned(job(tmp_path, data, KMEANS))  # by the other one
    with started.borrowed(1) as lent:
        assert [one.warm for one in lent] == [True]
        assert lent != busy


@CASES
def test_a_process_killed_in_the_middle_leaves_its_part_to_others(
    two: Pool,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spec: Mapping[str, Any],
    changes: Mapping[str, Any],
) -> None:
    expected = learned(job(tmp_path / "whole", data, spec, **changes))
    real, killed = Process.ask, list[int]()

    def dying(process: Process, what: Mapping[str, Any]) -> Iterator[Any]:
        answers = real(process, what)
        yield next(answers)
        if killed:  # another has been
            yield from answers
            return
        killed.append(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process._socket.close()  # what it had sent before is not read
        yield from answers

    with monkeypatch.context() as patch:
        patch.setattr(Process, "ask", dying)
        assert learned(job(tmp_path / "killed", data, spec, **changes)) == expected
    assert killed
    assert "with signal 9. Its part is read again." in caplog.text
    assert learned(job(tmp_path / "after", data, spec, **changes)) == expected
    assert not set(two.pids) & set(killed)


def test_an_error_keeps_its_type_and_the_next_round_has_processes_again(two: Pool, data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for file in sorted(data.iterdir()):
        content = bytearray(file.read_bytes())
        if file.name == "3.parquet":  # a page of the last part
            content[200:400] = bytes(200)
        (bad / file.name).write_bytes(content)
    one = job(tmp_path / "a", bad, KMEANS)
    with pytest.raises(UnreadableInput, match=r"3\.parquet cannot be read as Parquet"):
        learned(one)
    assert Registry(one.registry).latest(one.name) is None
    assert not list((Path(one.registry) / one.name).rglob("*.jsonl"))
    assert read(learned(job(tmp_path / "b", data, KMEANS))).progress.scanned == DAYS * ROWS


def test_a_process_finds_an_algorithm_that_came_after_it(
    two: Pool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(outliers.__file__).read_text().replace(outliers.__name__, "came_later")
    (tmp_path / "came_later.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    spec = {"algorithm": "came_later:OUTLIERS"}
    whole = {"name": "test", "registry": str(tmp_path / "registry"), "source": {"path": str(data)}}
    one = Job.parse(whole | {"features": {"numeric": ["a", "b"]}, "spec": spec, "models": {}})
    seen = len(two.pids)
    [done] = train(one, Registry(one.registry), CLOSE, threads=2)
    assert (done.progress.scanned, len(two.pids)) == (DAYS * ROWS, seen)


def test_small_rounds_and_one_thread_start_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = job(tmp_path, data, KMEANS)
    plan = driver.opened(one.source, one, False, lambda: False).plan(
        driver.resume(one, Registry(one.registry))[1], 10**6
    )
    assert plan is not None
    with using(2):
        assert parts_of(one, plan, False) == []
        monkeypatch.setattr(sharing, "PART_VALUES", 1)
        assert len(parts_of(one, plan, False)) == 2
        again = job(tmp_path, data, ADAGRAD)  # what does not add up the same however rows are shared out stays whole
        assert parts_of(again, plan, False) == []
    with using(1):
        assert parts_of(one, plan, False) == []


@pytest.mark.parametrize("in_turn", [False, True])
def test_parts_read_what_the_plan_reads(data: Path, tmp_path: Path, in_turn: bool) -> None:
    one = job(tmp_path, data, KMEANS)
    plan = driver.opened(one.source, one, False, lambda: False).plan(
        driver.resume(one, Registry(one.registry))[1], 10**6
    )
    assert plan is not None
    for number in (3, 7):
        parts = plan.parts(number, in_turn)
        sizes = [part.size() for part in parts]
        assert len(parts) == number
        assert sum(sizes) == plan.size() == DAYS * ROWS
        assert max(sizes) - min(sizes) <= 200  # row groups of 100
        places = [
            (origin, place)
            for part in parts
            for origin, some in part.covered().items()
            for a, b in some
            for place in range(a, b)
        ]
        assert len(places) == len(set(places)) == DAYS * ROWS


def test_a_process_ends_with_its_parent_however_that_ends() -> None:
    ours, theirs = socket.socketpair()
    code = "import json,subprocess,sys,time; c=json.loads(sys.argv[1]); fd=int(c[3]); p=subprocess.Popen(c, stdin=subprocess.PIPE, pass_fds=[fd]); print(p.pid, flush=True); time.sleep(600)"
    command = [sys.executable, "-c", processes._PROGRAM, str(theirs.fileno()), json.dumps(sys.path)]
    with (
        ours,
        subprocess.Popen(
            [sys.executable, "-S", "-c", code, json.dumps(command)], stdout=subprocess.PIPE, pass_fds=[theirs.fileno()]
        ) as parent,
    ):
        theirs.close()
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        ours.settimeout(60)
        assert receive(ours)[0] == {"kind": "ready"}
        os.kill(pid, signal.SIGTERM)  # left to the trainer
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
        assert ours.recv(1) == b""


def test_a_process_that_ends_before_it_is_ready_is_not_started_again(caplog: pytest.LogCaptureFixture) -> None:
    class Ended(Process):
        def __init__(self) -> None:
            self.ready = self.lent = False

        @property
        def alive(self) -> bool:
            return False

        def end(self) -> None:
            pass

    made: list[Process] = []

    def make() -> Process:
        made.append(Ended())
        return made[-1]

    pool = Pool(make)
    pool.start(1)
    pool.start(1)
    assert len(made) == 1
    assert "one ended before it was ready" in caplog.text


def test_sockets_wait_whatever_the_program_has_set_and_are_closed_with_a_process_killed_while_idle() -> None:
    before, pool = socket.getdefaulttimeout(), Pool()
    socket.setdefaulttimeout(0.1)
    try:
        pool.start(1)
    finally:
        socket.setdefaulttimeout(before)
    [process] = pool._processes
    try:
        assert process._socket.gettimeout() is None
        status = Path(f"/proc/{process.pid}/fdinfo")
        assert not any(_flags(one) & os.O_NONBLOCK for one in status.iterdir() if _is_socket(one))
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        pool.start(0)
        assert process._socket.fileno() == -1
        assert process._process.stdin is not None
        assert process._process.stdin.closed
    finally:
        pool.end()


def _flags(fdinfo: Path) -> int:
    return int(fdinfo.read_text().split("flags:")[1].split()[0], 8)


def _is_socket(fdinfo: Path) -> bool:
    return os.readlink(fdinfo.parent.with_name("fd") / fdinfo.name).startswith("socket:")


@pytest.mark.parametrize(
    ("plan", "read"),
    [
        ({"ranges": [{"path": "in/a.csv", "start": 5, "stop": 90}]}, r"in/a\.csv from 5 to 90"),
        ({"ranges": [[2, 10, 30]], "name": "payments"}, r"partition payments/2 from 10 to 30"),
        (
            {"ranges": [{"path": f"{i}", "start": 0, "stop": i} for i in range(5)]},
            "0 from 0 to 0, 1 from 0 to 1, 2 from 0 to 2 and 2 more",
        ),
    ],
)
def test_an_error_that_is_not_ours_is_one_sentence_that_names_what_was_read(
    two: Pool, plan: dict[str, Any], read: str
) -> None:
    with two.borrowed(1) as lent, pytest.raises(RuntimeError) as raised:
        list(lent[0].ask({"path": sys.path, "plan": plan}))
    assert re.fullmatch(rf"A process that learned of {read} ended its part with KeyError: 'job'\.", str(raised.value))
    assert "Traceback" in raised.value.__notes__[0]


def test_warnings_of_a_process_are_logged_here(two: Pool, caplog: pytest.LogCaptureFixture) -> None:
    process = two._processes[0]
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(process, "_socket", ours)
        for head in ({"kind": "said", "logger": "beam_ml.x", "level": 30, "text": "large"}, {"kind": "done"}):
            processes.send(theirs, head)
        assert list(process.ask({})) == []
    assert [one.getMessage() for one in caplog.records if one.name == "beam_ml.x"] == ["large"]


def test_processes_are_started_once_rounds_have_taken_as_long_as_starting(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    def make() -> Process:
        tried.append(1)
        message = "no more"
        raise OSError(message)

    pool = Pool(make)
    monkeypatch.setattr(sharing, "PART_VALUES", 1)
    monkeypatch.setattr(driver, "pool", pool)
    learned(job(tmp_path / "a", data, KMEANS))
    assert not tried
    assert 0 < pool.shared_s < sharing.START_AFTER_S
    pool.shared_s = sharing.START_AFTER_S
    learned(job(tmp_path / "b", data, KMEANS))
    assert tried


def test_what_a_trainer_asks_of_a_process_survives_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    learn_words()
    files = sorted(JOBS.glob("*.toml"))
    assert files
    for file in files:
        one = load_job(file)
        assert Job.parse(json.loads(json.dumps(one.to_dict()))) == one


def test_parts_of_a_topic_read_what_its_plan_reads() -> None:
    source = KafkaSource(kind="kafka", brokers="b:1", topic="t")
    plan = KafkaPlan(
        source, "kafka://c/t", {0: (5, 105), 1: (0, 10), 3: (7, 97)}, {}, seen={3: [[PLACES * 8, PLACES * 9]]}
    )
    parts = plan.parts(3)
    assert [part.size() for part in parts] == [66, 74, 60]
    read = [(p, at) for part in parts for p, (start, stop) in part.ranges.items() for at in range(start, stop)]
    assert sorted(read) == [(p, at) for p, (start, stop) in plan.ranges.items() for at in range(start, stop)]
    again = [KafkaPlan.from_dict(source, json.loads(json.dumps(part.to_dict()))) for part in parts]
    assert [one.covered() for one in again] == [one.covered() for one in parts]
    assert sum(b - a for one in again for some in one.covered().values() for a, b in some) == PLACES * 199


def rows(n: int = 1) -> Slice:
    return Slice(Batch.dense(np.zeros((n, 1))))


def test_windows_are_handed_out_once_all_senders_are_past_them() -> None:
    arriving = Arriving(2, size_us=10, slack_us=0)
    for sender, end in ((0, 10), (0, 20), (0, 30), (1, 10)):
        arriving.add(sender, end, rows())
    arriving.add(1, 20, rows())
    found = arriving.take(-100)
    assert found is not None
    assert {end: len(slices) for end, slices in found.items()} == {10: 2}
    arriving.add(1, 30, rows())
    assert list(arriving.take(-100) or {}) == [20]
    for sender in (0, 1):
        arriving.finish(sender)
    assert arriving.take(-100) is None
    assert not arriving.broken
    assert sorted(arriving.rows()) == [10, 20, 30]


def test_a_row_that_comes_for_a_window_handed_out_breaks_the_guess() -> None:
    arriving = Arriving(1, size_us=10, slack_us=0)
    for end in (10, 20):
        arriving.add(0, end, rows())
    assert arriving.take(-100)
    arriving.add(0, 10, rows())
    assert arriving.broken
    assert arriving.take(-100) is None


def test_windows_begun_before_wait_until_they_are_whole() -> None:
    arriving = Arriving(1, size_us=10, slack_us=5)
    for end in (10, 20, 30):
        arriving.add(0, end, rows())
    asked = threading.Thread(target=lambda: found.append(arriving.take(20)))
    found: list[Any] = []
    asked.start()
    arriving.add(0, 40, rows())
    asked.join()
    assert sorted(found[0]) == [10, 20]


def test_senders_wait_while_the_trainer_learns_and_much_is_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving_module, "AHEAD_BYTES", 8)
    arriving = Arriving(1, size_us=10, slack_us=0)
    for end in (10, 20):
        arriving.add(0, end, rows(2))
    assert arriving.take(-100)  # the trainer learns from now on
    sending = threading.Thread(target=lambda: arriving.add(0, 30, rows()))
    sending.start()
    assert 30 not in arriving.rows()
    assert list(arriving.take(-100) or {}) == [20]
    sending.join()
    assert 30 in arriving.rows()
