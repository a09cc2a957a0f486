"""How a fold judges steps, and what it steps from."""

import dataclasses
import functools

import numpy as np
import pytest

from beam_ml import Batch, fm
from beam_ml.algorithms.fm.machine import widened
from beam_ml.algorithms.fm.merging import in_units
from beam_ml.algorithms.fm.rows import present
from beam_ml.algorithms.fm.sampled import Sampled
from beam_ml.algorithms.shared.moves import Step
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator, merge_all
from beam_ml.core.arrays import close, identical
from beam_ml.core.refresh import Plan, refresh
from tests.algorithms.fm.support import FM, grown, loss, model_of, ratings

D, K = 5, 2


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("length", [0.0, 0.5])
def test_a_step_is_judged_by_loss_and_penalties_row_by_row(task, length):
    spec = fm.Spec(n_features=D, n_factors=K, task=task, bias_wd=0.3, linear_wd=0.2, factors_wd=0.7)
    rng = np.random.default_rng(0)
    x = np.where(rng.random((40, D)) < 0.5, rng.normal(size=(40, D)) * [1, 10, 0.1, 3, 1], 0.0)
    y = (rng.random(40) < 0.5).astype(float) if task == "binary" else 7 + 3 * rng.normal(size=40)
    weight = rng.uniform(0.2, 3.0, 40)
    scale, spread = np.append(rng.uniform(0.5, 3.0, D), 0.0), 1.5
    label = np.zeros(3) if task == "binary" else np.array([40.0, 7.0, 360.0])
    theta, ways = rng.normal(size=(D + 1, K + 1)), [rng.normal(size=(D + 1, K + 1)) for _ in range(2)]
    common = np.array([True, False, False, True, False, False])  # the bias is neither
    mean = np.array([False, True, False, False, True])
    step = Step(length * np.array([1.0, 0.5, 0.25, 2.0, 0.125]), mean)
    rows = present(Batch.dense(x, label=y, weight=weight))
    tested = Sampled.of(spec, rows, (np.zeros(D + 1), scale, spread), label, common)
    assert tested.rows.tolist() == list(range(D + 1))
    found = tested.losses(theta, tuple(ways))(step)

    bias = theta[-1, 0] + step.length[0] * ways[0][-1, 0]
    w, v = theta[:-1, 0].copy(), theta[:-1, 1:].copy()
    for j in range(D):
        linear, factors = (1, 2) if common[j] else (3, 4)
        w[j] += step.length[linear] * ways[int(mean[linear])][j, 0]
        v[j] += step.length[factors] * ways[int(mean[factors])][j, 1:]
    total = 0.0
    for row, target, s in zip(x / scale[:-1] / spread, y, weight, strict=True):
        eta = bias + w @ row + sum(row[i] * row[j] * (v[i] @ v[j]) for i in range(D) for j in range(i))
        loss = np.log1p(np.exp(eta)) - target * eta if task == "binary" else 0.5 * (eta - (target - 7) / 3) ** 2
        penalty = 0.3 * bias**2 + (0.2 * (w[row != 0] ** 2).sum() + 0.7 * (v[row != 0] ** 2).sum()) / spread**2
        total += s * (loss + 0.5 * penalty)
    assert found == pytest.approx(total / weight.sum(), rel=1e-10)


def test_a_feature_is_common_from_a_sixteenth_of_the_windows_rows_on():
    """A number that all rows have and identifiers that few have take steps of their own."""
    n = 4_000
    rng = np.random.default_rng(2)
    shop, amount = rng.integers(0, 400, n), rng.normal(size=n)
    label = (rng.random(n) < 1 / (1 + np.exp(-rng.normal(size=400)[shop] - amount))).astype(float)
    columns = np.stack([np.zeros(n, np.int64), 1 + shop], axis=1).ravel()
    values = np.stack([amount, np.ones(n)], axis=1).ravel()
    rows = Batch.csr(np.arange(n + 1) * 2, columns, values, 401, label=label)
    spec = fm.Spec(n_features=401, n_factors=2)
    state = FM.fold(spec, FM.init(spec), grown(spec, rows.take(slice(500)), None), None)
    anchor = FM.anchor(spec, state)
    runs = [grown(spec, rows.take(slice(i, i + 250)), anchor) for i in range(500, n, 250)]
    merged = functools.reduce(lambda a, b: FM.merge(spec, a, b), runs)
    after = FM.fold(spec, state, merged, rows.take(slice(500, n)))
    # All runs agree about the amount, and few have met a shop.
    length = np.abs(after.length)
    assert length[3] > length[1]
    whole = FM.fold(spec, state, merged, None, "curvature")
    before = widened(spec, state, after.rows).theta
    moved, full = after.theta - before, whole.theta - before
    np.testing.assert_allclose(moved[1:-1, 0], after.length[3] * full[1:-1, 0], rtol=1e-9, atol=1e-12)
    assert not np.isclose(moved[0, 0], after.length[3] * full[0, 0])


def test_runs_are_scaled_by_the_squares_that_they_started_from():
    """What fades between the anchor and the fold fades steps to come, not those that were taken."""
    rows = ratings(1, 3_000)
    spec = fm.Spec(n_features=rows.n_features, n_factors=2, task="regression")
    state = FM.fold(spec, FM.init(spec), grown(spec, rows.take(slice(1_000)), None), None)
    anchor = FM.anchor(spec, state)
    runs = [grown(spec, rows.take(slice(i, i + 1_000)), anchor) for i in (1_000, 2_000)]
    merged = FM.merge(spec, *runs)
    assert int(merged.folds) == int(anchor.folds) == 1  # not stale
    plain, faded = (FM.fold(spec, one, merged, None, "curvature") for one in (state, FM.scale(spec, state, 0.25)))
    np.testing.assert_allclose(faded.theta, plain.theta, rtol=1e-12)
    assert (faded.squares <= plain.squares).all()
    assert faded.squares.sum() < 0.9 * plain.squares.sum()
    assert faded.faded.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("lags", [False, True])
def test_a_window_of_no_weight_leaves_no_trace(shards, lags):
    """Time goes by in it, so sums fade; the fold of runs from the anchors of before and after it is the same."""
    rows = ratings(6, 2_000)
    spec = fm.Spec(n_features=rows.n_features, n_factors=2, task="regression", half_life=1.0)

    def window(begin, time, weight):
        some = rows.take(slice(begin, begin + 1_000))
        return some.replace(weight=np.full(1_000, weight), time=np.full(1_000, time * 1_000_000))

    def states(windows):
        learner, anchors = learners.new(FM, spec), [(0, None)]
        for at, one in enumerate(windows):
            number, anchor = anchors[-2 if lags and at == 2 else -1]
            parts = []
            for mine in np.array_split(np.arange(1_000), shards):
                accumulator = Accumulator(FM, spec, number, anchor)
                accumulator.add(one.take(mine))
                parts.append(accumulator.result())
            learner, _ = refresh(FM, learner, None, merge_all(FM, spec, parts), Plan(models={}))
            anchors.append((learner.version, FM.anchor(spec, learner.state)))
            yield learner

    first, last = window(0, 0, 1.0), window(1_000, 2, 1.0)
    *_, plain = states([first, last])
    *_, empty, with_it = states([first, window(0, 1, 0.0), last])
    assert empty.state.faded.tolist() == [0.5, 0.5]
    assert with_it.dated.time == plain.dated.time == 2_000_000
    assert close(with_it.state, plain.state, rtol=1e-12)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_scores_stay_as_they_are_under_other_scales(task):
    rng = np.random.default_rng(2)
    x = np.where(rng.random((500, D)) < 0.5, rng.normal(size=(500, D)), 0.0)
    rows = Batch.dense(x, label=(x[:, 0] > 0).astype(float) if task == "binary" else 7 + 3 * x[:, 0])
    spec = fm.Spec(n_features=D, n_factors=K, task=task)
    state = FM.fold(spec, FM.init(spec), FM.accumulate(spec, FM.empty(spec), rows, None), None)
    centre = np.append(rng.normal(size=D), 0.0)
    frame = centre, 3.0 * state.scale, 2.0
    label = state.label if task == "binary" else np.array([500.0, -40.0, 500.0 * 30.0**2])
    theta, squares = in_units(spec, state, frame, label)
    other = dataclasses.replace(
        state, theta=theta, squares=squares, centre=centre, scale=frame[1], spread=np.asarray(2.0), label=label
    )
    kind = FM.models["classifier"]
    before, after = (kind.predict(model_of(spec, one), rows)["score"] for one in (state, other))
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)
    assert not np.allclose(other.theta, state.theta, rtol=0.1)


def test_a_stale_run_that_the_sample_speaks_against_is_not_taken_in():
    rows = ratings(3, 3_000)
    spec = fm.Spec(n_features=rows.n_features, n_factors=2, task="regression", linear_wd=0.003, factors_wd=0.03)
    first, second, third = (rows.take(slice(i, i + 1_000)) for i in (0, 1_000, 2_000))
    state = FM.fold(spec, FM.init(spec), grown(spec, first, None), None)
    anchor = FM.anchor(spec, state)
    wrong = grown(spec, third.replace(label=5.5 - third.label), anchor)
    later = FM.fold(spec, state, grown(spec, second, anchor), second)
    assert FM.fold(spec, state, wrong, third).length.tolist() == [1.0] * 5
    judged = FM.fold(spec, later, wrong, third)
    assert judged.length[3:].tolist() == [0.0, 0.0]
    assert loss(spec, judged, third) < 0.9 * loss(spec, FM.fold(spec, later, wrong, third, "curvature"), third)
    assert FM.weight(judged) == 3_000.0


def test_forgetting_a_growing_partial_is_forgetting_the_partial():
    rows = ratings(4, 900)
    spec = fm.Spec(n_features=rows.n_features, n_factors=2, task="regression")
    first, second, third = (rows.take(slice(i, i + 300)) for i in (0, 300, 600))
    begun = FM.merge(spec, grown(spec, first, None), grown(spec, second, None))
    for start in (FM.empty(spec), grown(spec, first, None), FM.accumulate(spec, begun, third, None)):
        run, expected = FM.grow(spec, start, None), start
        for factor, more in ((0.5, second), (0.25, third), (0.5, first)):
            run.scale(factor)
            expected = FM.scale(spec, expected, factor)
            assert close(run.partial(), expected, rtol=1e-12)
            run.add(more)
            expected = FM.accumulate(spec, expected, more, None)
            assert close(run.partial(), expected, rtol=1e-12)
        run.scale(0.0)
        assert identical(run.partial(), FM.empty(spec))
        run.add(third)
        assert close(run.partial(), FM.accumulate(spec, FM.empty(spec), third, None), rtol=1e-12)


def test_moves_are_scaled_by_the_curvature_half_way():
    rows = ratings(5, 2_000)
    spec = fm.Spec(n_features=rows.n_features, n_factors=2, task="regression")
    state = FM.fold(spec, FM.init(spec), grown(spec, rows.take(slice(1_000)), None), None)
    for anchor in (None, FM.anchor(spec, state)):
        found = grown(spec, rows.take(slice(1_000, None)), anchor)
        squares = np.zeros((rows.n_features + 1, 3))
        if anchor is not None:
            squares[anchor.rows] = anchor.squares
            assert not np.isin(found.open_rows, anchor.rows).all()  # new ones have none
        root = np.sqrt(squares[found.open_rows] + 0.5 * found.open_squares)
        np.testing.assert_allclose(found.open_scaled, found.open_moved * root, rtol=1e-12)
