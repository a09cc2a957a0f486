"""Threads: how many, the order of what they make, and BLAS held to one in all of them."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from beam_ml.core import threads as module
from beam_ml.core.threads import VARIABLE, Lanes, ahead, cores, one_thread, side_by_side, threads, using
from beam_ml.errors import InvalidValue


def blas() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def in_thread(call: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def inside() -> set[int]:
    with one_thread():
        return blas()


def test_blas_keeps_to_one_thread_in_whichever_thread_asks_first():
    before = blas()
    with one_thread():
        assert blas() == {1}
    assert blas() == before
    assert in_thread(inside) == {1}
    assert in_thread(inside) == {1}, "the thread before gave up control"
    assert inside() == {1}
    assert blas() == before


def test_blas_keeps_to_one_thread_until_the_last_one_leaves():
    before = blas()
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with one_thread():
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=stay)
    with one_thread():
        other.start()
        assert entered.wait(10)
    assert blas() == {1}, "the other thread is still inside"
    leave.set()
    other.join()
    assert blas() == before


def test_how_many_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert threads() == 1
    monkeypatch.setenv(VARIABLE, "3")
    assert threads() == 3
    turns_s = sys.getswitchinterval()
    with using(2):
        assert threads() == 2
        assert sys.getswitchinterval() < turns_s
        with using(None):
            assert threads() == 2, "nothing else is asked for"
        with using(4):
            assert threads() == 4, "the newest counts"
        assert threads() == 2
    assert threads() == 3
    assert sys.getswitchinterval() == turns_s


def test_blocks_of_two_trainers_may_end_in_any_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    turns_s = sys.getswitchinterval()
    first, second = using(2), using(4)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert threads() == 4
    assert sys.getswitchinterval() < turns_s
    second.__exit__(None, None, None)
    assert threads() == 1
    assert sys.getswitchinterval() == turns_s


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", ""])
def test_a_wrong_number_of_threads(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(InvalidValue, match=r"BEAM_ML_THREADS must be a whole number >= 1"):
        threads()


def test_cores_are_within_the_quota_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(module, "_GROUPS", tmp_path)
    assert cores() == 8
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores() == 8
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("150000\n")
    assert cores() == 2
    (tmp_path / "cpu.max").write_text("300000 100000\n")
    assert cores() == 3
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").unlink()
    assert cores() == 8


def slow(n: int) -> Iterator[int]:
    for i in range(n):
        time.sleep(0.001 * (n - i))
        yield i


@pytest.mark.parametrize("number", [1, 2, 4])
def test_order_does_not_depend_on_the_threads(number: int):
    with using(number):
        assert list(ahead(slow(5))) == [0, 1, 2, 3, 4]
        assert side_by_side([lambda i=i: next(slow(9 - i)) + i for i in range(6)]) == list(range(6))
        assert side_by_side([]) == []


@pytest.mark.parametrize("number", [1, 2])
def test_errors_arrive_and_what_is_not_wanted_is_not_made(number: int):
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(10):
            made.append(i)
            yield i
        message = "the end"
        raise OSError(message)

    def fails() -> None:
        raise KeyError

    with using(number):
        with pytest.raises(OSError, match="the end"):
            list(ahead(items()))
        made.clear()
        some = ahead(items())
        assert next(some) == 0
        some.close()
        assert len(made) <= 3, "the one that was taken, and two ahead"
        with pytest.raises(KeyError):
            side_by_side([lambda: None, fails])


@pytest.mark.parametrize(("number", "waiting"), [(0, 0), (1, 4), (3, 2), (5, 1)])
def test_lanes_make_their_calls_in_order_and_hand_results_back_by_the_order_of_calls_alone(number: int, waiting: int):
    lanes, done = Lanes(number), []

    def call(lane: int, i: int) -> tuple[int, int]:
        time.sleep(float(np.random.default_rng(i).random()) * 0.002)
        done.append((lane, i))
        return lane, i

    got = []
    for i in range(40):
        lane = i % lanes.number
        before = i - waiting * lanes.number
        found = lanes.begin(lane, call, lane, i)
        assert found == ([(lane, before)] if before >= 0 else [])
        got += found
    for lane in range(lanes.number):
        got += lanes.drain(lane)
        assert lanes.drain(lane) == []
    lanes.end()
    assert sorted(i for _, i in got) == list(range(40))
    for lane in range(lanes.number):
        mine = [i for at, i in done if at == lane]
        assert mine == sorted(mine)


def test_a_lane_begins_again_after_a_call_that_failed():
    def fails() -> int:
        message = "the end"
        raise OSError(message)

    lanes = Lanes(1)
    lanes.begin(0, fails)
    with pytest.raises(OSError, match="the end"):
        lanes.drain(0)
    assert [lanes.begin(0, lambda: 7), lanes.drain(0)] == [[], [7]]
    lanes.end()
