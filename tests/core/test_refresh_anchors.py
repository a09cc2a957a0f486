"""Parts and the anchors they were grown from: how old is too old, what may merge; and where windows lie."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import toy_sgd

from beam_ml.artefact.envelope import decode
from beam_ml.artefact.records import decode_learner, encode_learner
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation, Accumulator, Part, merge_all, size_bytes
from beam_ml.core.algorithm import Algorithm, Law, LawKind
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.decay import AsOf
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import Plan, Refresh, fold_open, refresh
from beam_ml.core.windows import ROUND, Windows, cut
from beam_ml.errors import MergeRefused

SPEC = toy_sgd.SgdSpec(n_features=1)
SGD = toy_sgd.TOY_SGD
NOTHING = Plan({})


def slow(rows: int) -> Algorithm:
    """Return the toy that has no anchor before it has learned from some rows."""
    return dataclasses.replace(
        SGD, anchor=lambda spec, state: None if float(state.weight) < rows else toy_sgd.SgdAnchor(theta=state.theta)
    )


def rows(start: int, n: int = 100, file: str = "a") -> Batch:
    X = np.random.default_rng(start).normal(size=(n, 1))
    place = np.arange(start, start + n)
    return Batch.dense(X, label=2.0 * X[:, 0], origin=Origin("files", file), position=place)


def accumulate(algorithm: Algorithm, learner: Learner, batch: Batch) -> Accumulation:
    accumulator = Accumulator(algorithm, SPEC, learner.version, algorithm.anchor(SPEC, learner.state))
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
    assert (learner.refresh, learner.last_cold_version) == (9, 9)
    learner = learn(algorithm, learner, 11)
    assert learner.progress.rows == 2000
    assert dict(learner.progress.rejected) == {}
    assert (learner.refresh, learner.last_cold_version) == (20, 9)


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
    assert learner.last_cold_version == 0
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
    assert (both.refresh, both.last_cold_version) == (2, 2)


def test_learners_merge_where_parts_of_different_anchors_add() -> None:
    across = dataclasses.replace(SGD, law=lambda spec: Law(LawKind.ANCHORED, across_anchors=True))
    both = learners.merge(across, pending(across, "a", 2), pending(across, "b", 3))
    assert {at: part.progress.rows for at, part in both.pending[7].parts.items()} == {2: 100, 3: 100}


def opened(algorithm: Algorithm, learner: Learner, windows: int) -> Learner:
    """Windows of 100 rows, all grown from the learner's anchor: what one round may hold."""
    for end in range(1, windows + 1):
        grown = accumulate(algorithm, learner, rows(100 * end + 50_000 * (learner.version + 1)))
        learner = learners.add_pending(algorithm, learner, end, grown)
    return learner


def folded(algorithm: Algorithm, learner: Learner, through: float = float("inf")) -> tuple[Learner, list[Refresh]]:
    done = list(fold_open(algorithm, learner, NOTHING, through, published=True))
    return done[-1][0], [one for _, one in done]


@pytest.mark.parametrize("cold", [True, False])
def test_a_version_of_forty_windows_loses_none_of_them(cold: bool) -> None:
    """One version may lie between anchor and fold; the forty windows of a round go into the same one."""
    learner = learn(SGD, learners.new(SGD, SPEC), 0 if cold else 1)
    after, done = folded(SGD, opened(SGD, learner, 40))
    assert [one.progress.rejected for one in done] == [{}] * 40
    assert [one.behind for one in done] == [{0: 100}] * 40
    assert after.progress.rows == learner.progress.rows + 4000
    assert (after.refresh, after.version) == (learner.refresh + 40, learner.version + 1)
    again, done = folded(SGD, opened(SGD, after, 3))
    assert (again.version, done[-1].behind) == (after.version + 1, {0: 100})


def test_folds_that_are_not_published_together_are_versions_each() -> None:
    done = list(fold_open(SGD, opened(SGD, learn(SGD, learners.new(SGD, SPEC), 1), 4), NOTHING))
    assert [after.version for after, _ in done] == [2, 3, 4, 5]
    assert [one.behind for _, one in done] == [{0: 100}, {1: 100}, {2: 100}, {3: 100}]
    assert [one.progress.rejected for _, one in done] == [{}, {}, {"stale anchor": 100}, {"stale anchor": 100}]


def test_a_window_left_open_keeps_its_parts_by_version_and_they_age_with_each(caplog: pytest.LogCaptureFixture) -> None:
    """Two windows stay open while versions are published: one may lie between; the part from two versions ago is lost."""
    learner = learn(SGD, learners.new(SGD, SPEC), 1)
    for i in range(3):
        learner = learners.add_pending(SGD, learner, 99, accumulate(SGD, learner, rows(200_000 + 100 * i)))
        learner = learners.add_pending(SGD, learner, i, accumulate(SGD, learner, rows(300_000 + 100 * i)))
        learner, _ = folded(SGD, learner, through=i)
    assert list(learner.pending[99].parts) == [1, 2, 3]
    assert learner.version == 4
    after, (done,) = folded(SGD, learner)
    assert done.behind == {1: 100, 2: 100, 3: 100}
    assert done.progress.rejected == {"stale anchor": 200}
    assert done.to_dict()["behind"] == {"1": 100, "2": 100, "3": 100}
    assert after.progress.rejected == {"stale anchor": 200}
    assert after.progress.scanned == learner.progress.scanned + 300
    assert "200 rows are rejected: more than 1 versions were published" in caplog.text


def test_windows_of_one_version_add_up_before_they_are_folded() -> None:
    """Forty parts of one anchor are one step along their mean, not forty steps that each go the way from it."""
    learner = opened(SGD, learn(SGD, learners.new(SGD, SPEC), 1), 40)
    after, done = folded(SGD, learner)
    whole = merge_all(SGD, SPEC, learner.pending.values())
    together, _ = refresh(SGD, learner, 40, whole, NOTHING)
    assert close(after.state, together.state, rtol=1e-9)
    assert after.sample.mass.tolist() == together.sample.mass.tolist()
    for number, one in enumerate(fold_open(SGD, learner, NOTHING, published=True), start=1):
        part = merge_all(SGD, SPEC, [learner.pending[end] for end in range(1, number + 1)])
        assert close(one[0].state, refresh(SGD, learner, number, part, NOTHING)[0].state, rtol=1e-9)
    assert len(done) == 40


def test_a_fold_hears_the_sample_of_all_the_windows_in_it() -> None:
    heard: list[tuple[int, float]] = []

    def fold(spec: Any, state: Any, partial: Any, sample: Batch) -> Any:
        heard.append((len(sample), float(sample.weights.sum())))
        return toy_sgd.fold(spec, state, partial, sample)

    folded(dataclasses.replace(SGD, fold=fold), opened(SGD, learn(SGD, learners.new(SGD, SPEC), 1), 3))
    assert heard == [(100, 100.0), (200, 200.0), (300, 300.0)]


def test_a_window_whose_fold_is_discarded_is_left_out_of_those_after_it() -> None:
    def fold(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
        found = toy_sgd.fold(spec, state, partial, sample)
        return dataclasses.replace(found, theta=found.theta * (np.inf if abs(partial.moved).max() > 1e6 else 1.0))

    broken = dataclasses.replace(SGD, fold=fold, merge=lambda spec, a, b: toy_sgd.merge(spec, a, b))
    learner = opened(SGD, learn(SGD, learners.new(SGD, SPEC), 1), 3)
    part = learner.pending[2].parts[1]
    wild = dataclasses.replace(part.dated.summary, moved=np.full(2, 1e9))
    bad = dataclasses.replace(learner.pending[2], parts={1: dataclasses.replace(part, dated=AsOf(wild))})
    spoilt = learner.replace(pending={**learner.pending, 2: bad})
    after, done = folded(broken, spoilt)
    assert [one.discarded for one in done] == [None, "theta of the state is not finite", None]
    without = learner.replace(pending={end: one for end, one in learner.pending.items() if end != 2})
    assert close(after.state, folded(SGD, without)[0].state, rtol=1e-9)
    assert after.progress.rejected == {"fold discarded": 100}


def test_algorithms_whose_parts_add_are_folded_one_after_the_other() -> None:
    """Where a state takes any part (here: any staleness), nothing starts again."""
    folds: list[float] = []

    def fold(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
        folds.append(float(partial.weight))
        return toy_sgd.fold(spec, state, partial, sample)

    class Any_(toy_sgd.SgdSpec):
        max_staleness = None

    spec, algorithm = Any_(n_features=1), dataclasses.replace(SGD, fold=fold, spec=Any_)
    learner = learners.new(algorithm, spec)
    for end in (1, 2, 3):
        accumulator = Accumulator(algorithm, spec)
        accumulator.add(rows(100 * end))
        learner = learners.add_pending(algorithm, learner, end, accumulator.result())
    after, _ = folded(algorithm, learner)
    assert folds == [100.0, 100.0, 100.0]
    assert (after.version, after.refresh) == (1, 3)


def test_a_stored_learner_keeps_its_version_and_one_that_is_no_other_needs_no_word_for_it() -> None:
    plain = learn(SGD, learners.new(SGD, SPEC), 2)
    shared, _ = folded(SGD, opened(SGD, plain, 5))
    assert decode(encode_learner(SGD, plain)).meta.get("shared") is None
    for one, version in ((plain, 2), (shared, 3)):
        data = encode_learner(SGD, one)
        again = decode_learner(data, lambda name: SGD)
        assert (again.version, again.refresh) == (version, one.refresh)
        assert encode_learner(SGD, again) == data


def test_merged_learners_are_the_newer_version() -> None:
    a, _ = folded(SGD, opened(SGD, learn(SGD, learners.new(SGD, SPEC), 1, "a"), 5))
    b = learn(SGD, learners.new(SGD, SPEC), 4, "b")
    assert ((a.refresh, a.version), (b.refresh, b.version)) == ((6, 2), (4, 4))
    both = learners.merge(SGD, a, b, allow_overlap=True)
    assert (both.refresh, both.version) == (6, 4)


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
    empty = Accumulation(SPEC, {0: Part(AsOf(SGD.empty(SPEC)), whole.rest)}, whole.rest, together.sample)
    assert size_bytes(empty) - size_bytes(dataclasses.replace(empty, parts={})) > whole.rest.nbytes == 16 * 50
