"""The life of a window: taken in once, folded in turn, and what a failed attempt leaves."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from beam_ml import Batch, fit, pca
from beam_ml.algorithms import algorithm_of
from beam_ml.beam.versions import life
from beam_ml.beam.versions.life import folded, take_in, tidy, undone
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation, Accumulator
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import Plan, Refresh, refresh
from beam_ml.core.windows import ROUND
from beam_ml.errors import RegistryError
from beam_ml.registry import Registry, put_round, round_files
from tests.registry.faulty_store import PAYLOADS, publish_next

SPEC = pca.Spec(n_features=1)
PCA = algorithm_of(SPEC)


def accumulation(n: int) -> Accumulation:
    accumulator = Accumulator(PCA, SPEC)
    accumulator.add(Batch.dense([[float(i)] for i in range(n)]))
    return accumulator.result()


@pytest.mark.parametrize("by_time", [True, False])
def test_rows_that_reached_no_window_are_counted_and_a_round_is_folded(by_time: bool) -> None:
    before = learners.new(PCA, SPEC)
    windows = [(30, accumulation(1)), (ROUND, accumulation(2)), (20, accumulation(4)), (30, accumulation(8))]
    after = take_in(PCA, before, windows, by_time)
    assert {end: one.progress.rows for end, one in after.pending.items() if end != ROUND} == {20: 4, 30: 9}
    assert (ROUND in after.pending) != by_time
    assert after.progress.rows == (2 if by_time else 0)
    assert learners.scanned(after).rows == 15
    assert not before.pending


def test_each_fold_is_reported_with_the_learner_after_it() -> None:
    start, steps, learner = learners.new(PCA, SPEC), [], learners.new(PCA, SPEC)
    for n in (1, 2, 4):
        learner, one = refresh(PCA, learner, None, accumulation(n), Plan(models={}))
        steps += [(learner, one), (learner.replace(last_cold_version=n), None)]
    rows: list[int] = []

    def done(after: Learner, one: Refresh) -> Refresh:
        rows.append(after.progress.rows)
        return one

    last, refreshes = folded(start, iter(steps), done)
    assert last is steps[-1][0]
    assert rows == [1, 3, 7]
    assert [one.number for one, _ in refreshes] == [1, 2, 3]
    assert all(seconds >= 0 for _, seconds in refreshes)
    assert folded(start, []) == (start, [])


def test_what_done_returns_is_reported() -> None:
    learner, one = refresh(PCA, learners.new(PCA, SPEC), None, accumulation(3), Plan(models={}))
    other = fit(SPEC, [Batch.dense([[1.0]])])
    _, replaced = refresh(PCA, other, None, accumulation(3), Plan(models={}))
    assert [found for found, _ in folded(learner, [(learner, one)], lambda *_: replaced)[1]] == [replaced]


def test_payloads_go_at_every_tenth_version_alone(tmp_path: Path) -> None:
    registry = Registry(tmp_path, clock=lambda: 4e9)
    for number in range(1, 21):
        publish_next(registry, "run")
        before = len(list(tmp_path.glob("fraud/v*/learner-*")))
        tidy(registry, "fraud", number, 2, grace_s=0)
        after = len(list(tmp_path.glob("fraud/v*/learner-*")))
        assert after == (2 if number % 10 == 0 else before)
    assert registry.read("fraud", 20) == PAYLOADS["learner"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_round_that_fails_leaves_no_file_and_one_that_does_not_leaves_all(
    tmp_path: Path, error: type[BaseException]
) -> None:
    registry = Registry(tmp_path)
    for round_id in ("1-a", "1-b"):
        put_round(registry, "fraud", round_id, "0.safetensors", b"rows")

    def failing() -> None:
        with undone(registry, "fraud", "1-a"):
            put_round(registry, "fraud", "1-a", "1.safetensors", b"rows")
            raise error

    with pytest.raises(error):
        failing()
    assert round_files(registry, "fraud", "1-a") == []
    with undone(registry, "fraud", "1-b"):
        pass
    assert round_files(registry, "fraud", "1-b") == ["0.safetensors"]


def test_a_fold_is_timed_by_itself_counted_and_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    now, threads, counted = [100.0], [], []
    monkeypatch.setattr(life.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(life, "count_refreshes", counted.append)

    def steps() -> Iterator[tuple[Learner, Refresh | None]]:
        learner = learners.new(PCA, SPEC)
        for seconds in (3.0, 5.0):
            now[0] += seconds
            threads.extend(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")
            learner, one = refresh(PCA, learner, None, accumulation(2), Plan(models={}))
            yield learner, one
            yield learner, None

    def done(after: Learner, one: Refresh) -> Refresh:
        now[0] += 1.0
        return one

    _, refreshes = folded(learners.new(PCA, SPEC), steps(), done)
    assert [seconds for _, seconds in refreshes] == [4.0, 6.0]
    assert counted == [[one for one, _ in refreshes]]
    assert threads
    assert set(threads) == {1}


def test_payloads_stay_as_long_as_they_are_granted(tmp_path: Path) -> None:
    registry = Registry(tmp_path, clock=lambda: 4e9)
    for number in range(1, 11):
        publish_next(registry, "run")
        tidy(registry, "fraud", number, 2, grace_s=1e10)
    assert len(list(tmp_path.glob("fraud/v*/learner-*"))) == 10


def test_why_a_round_failed_is_told_though_its_files_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        message = "the store is gone"
        raise RegistryError(message)

    def failing() -> None:
        with undone(Registry(tmp_path), "fraud", "1-a"):
            message = "bad rows"
            raise ValueError(message)

    monkeypatch.setattr(life, "drop_round", lost)
    with pytest.raises(ValueError, match="bad rows"):
        failing()
