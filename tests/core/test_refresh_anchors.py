"""Parts and the anchors they were grown from: how old is too old, what may merge; and where windows lie."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import toy_sgd

from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation, Accumulator, Part, size_bytes
from beam_ml.core.algorithm import Algorithm, Law, LawKind
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.decay import Dated
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import Plan, fold_open, refresh
from beam_ml.core.windows import ROUND, Windows, cut
from beam_ml.errors import MergeRefused

SPEC = toy_sgd.SgdSpec(n_features=1)
SGD = toy_sgd.TOY_SGD
NOTHING = Plan({})


def slow(rows: int) -> Algorithm:
    """Give the toy that has no anchor before it has learned from some rows."""
    return dataclasses.replace(
        SGD, anchor=lambda spec, state: None if float(state.weight) < rows else toy_sgd.SgdAnchor(theta=state.theta)
    )


def rows(start: int, n: int = 100, file: str = "a") -> Batch:
    X = np.random.default_rng(start).normal(size=(n, 1))
    place = np.arange(start, start + n)
    return Batch.dense(X, label=2.0 * X[:, 0], origin=Origin("files", file), position=place)


def accumulate(algorithm: Algorithm, learner: Learner, batch: Batch) -> Accumulation:
    accumulator = Accumulator(algorithm, SPEC, learner.refresh, algorithm.anchor(SPEC, learner.state))
    accumulator.add(batch)
    return accumulator.result()


def learn(algorithm: Algorithm, learner: Learner, windows: int, file: str = "a") -> Learner:
    for _ in range(windows):
        batch = rows(100 * learner.refresh, file=file)
        learner, _ = refresh(algorithm, learner, None, accumulate(algorithm, learner, batch), NOTHING)
    return learner


def test_cold_parts_are_fresh_until_there_is_an_anchor() -> None:
    algorithm = slow(1000)
    learner = learn(algorithm, learners.new(algorithm, SPEC), 9)
    assert (learner.refresh, learner.cold) == (9, 9)
    learner = learn(algorithm, learner, 11)
    assert learner.progress.rows == 2000
    assert dict(learner.progress.rejected) == {}
    assert (learner.refresh, learner.cold) == (20, 9)


@pytest.mark.parametrize(("behind", "kept"), [(0, True), (1, False), (5, False)])
def test_cold_parts_are_as_old_as_the_first_anchor(behind: int, kept: bool) -> None:
    """Grown before there was an anchor, folded when there have been 1 + `behind`; one refresh behind is allowed."""
    algorithm = slow(1000)
    young = learn(algorithm, learners.new(algorithm, SPEC), 5)
    waiting = accumulate(algorithm, young, rows(50_000))
    assert list(waiting.parts) == [0]
    learner = learn(algorithm, young, 5 + behind)
    assert algorithm.anchor(SPEC, learner.state) is not None
    after, done = refresh(algorithm, learner, None, waiting, NOTHING)
    assert done.progress.rejected == ({} if kept else {"stale anchor": 100})
    assert after.progress.rows == learner.progress.rows + (100 if kept else 0)


def test_a_state_that_always_has_an_anchor_is_never_cold() -> None:
    algorithm = slow(0)
    learner = learn(algorithm, learners.new(algorithm, SPEC), 3)
    assert learner.cold == 0
    assert learner.progress.rows == 300


def pending(algorithm: Algorithm, file: str, windows: int) -> Learner:
    learner = learn(algorithm, learners.new(algorithm, SPEC), windows, file)
    return learners.add_pending(algorithm, learner, 7, accumulate(algorithm, learner, rows(9_000, file=file)))


def test_learners_with_rows_of_different_anchors_in_open_windows_do_not_merge() -> None:
    a, b = pending(SGD, "a", 2), pending(SGD, "b", 2)
    assert list(a.pending[7].parts) == list(b.pending[7].parts) == [2]
    with pytest.raises(
        MergeRefused, match=r"when no open window holds rows learned from an anchor.*got rows of anchor 2"
    ):
        learners.merge(SGD, a, b)
    with pytest.raises(MergeRefused, match="got rows of anchor 2"):
        learners.merge(SGD, learn(SGD, learners.new(SGD, SPEC), 1, "c"), b)


def test_learners_with_cold_rows_in_open_windows_merge() -> None:
    a, b = (pending(slow(1000), file, 2) for file in "ab")
    both = learners.merge(slow(1000), a, b)
    assert both.pending[7].parts[0].progress.rows == 200
    assert (both.refresh, both.cold) == (2, 2)


def test_learners_merge_where_parts_of_different_anchors_add() -> None:
    across = dataclasses.replace(SGD, law=lambda spec: Law(LawKind.ANCHORED, across_anchors=True))
    both = learners.merge(across, pending(across, "a", 2), pending(across, "b", 3))
    assert {at: part.progress.rows for at, part in both.pending[7].parts.items()} == {2: 100, 3: 100}


def test_a_window_that_ends_at_the_epoch_is_folded_as_such() -> None:
    batch = rows(0, 20).replace(time=np.arange(-10, 10))
    learner = learners.new(SGD, SPEC)
    for end, slices in cut(batch, Windows(10), None, 0).windows.items():
        for part, _ in slices:
            learner = learners.add_pending(SGD, learner, end, accumulate(SGD, learner, part))
    learner = learners.add_pending(SGD, learner, ROUND, accumulate(SGD, learner, rows(100)))
    done: list[Any] = list(fold_open(SGD, learner, NOTHING))
    assert [one.window_end for _, one in done] == [None, 0, 10]
    assert [after.folded_through for after, _ in done] == [None, 0, 10]
    assert done[-1][0].progress.scanned == 120


def test_places_scanned_count_in_the_size() -> None:
    learner = learners.new(SGD, SPEC)
    apart = rows(0, 200).replace(position=np.arange(0, 400, 2))
    accumulator = Accumulator(SGD, SPEC)
    accumulator.add(apart)
    bad = rows(0, 50).replace(position=np.arange(1000, 1100, 2), label=np.full(50, np.nan))
    accumulator.add(bad)
    whole = accumulator.result()
    together = accumulate(SGD, learner, rows(0, 200))
    assert size_bytes(whole) - size_bytes(together) == 16 * (199 + 50)
    assert accumulator.nbytes == size_bytes(whole)
    empty = Accumulation(SPEC, {0: Part(Dated(SGD.empty(SPEC)), whole.rest)}, whole.rest, together.sample)
    assert size_bytes(empty) - size_bytes(dataclasses.replace(empty, parts={})) > whole.rest.nbytes == 16 * 50
