"""Merging learners that were grown apart: never worse than the better of the two on the rows that both have sampled."""

import dataclasses

import numpy as np
import pytest

from beam_ml import Batch, derive, fit, fm, merge, predict
from beam_ml.algorithms.fm.calibrate import damp, trusted
from beam_ml.algorithms.fm.derive import machine_of, predicted
from beam_ml.algorithms.fm.merging import in_units
from tests.algorithms.fm.support import FM, learned, ratings


def loss(learner, rows):
    if learner.spec.task == "regression":
        return np.mean((predict(derive(learner, fm.Regressor()), rows)["score"] - rows.label) ** 2)
    p = np.clip(predict(derive(learner, fm.Classifier()), rows)["score"], 1e-15, 1 - 1e-15)
    return -np.mean(np.log(np.where(rows.label > 0, p, 1 - p)))


def pieces(rows, size=1_000):
    rows = rows.replace(origin=None, position=None)
    return [rows.take(slice(i, i + size)) for i in range(0, len(rows), size)]


@pytest.mark.parametrize("task", ["regression", "binary"])
@pytest.mark.parametrize("passes", [1, 4])
def test_learners_grown_apart_are_no_worse_together(task, passes):
    rows = ratings(50, 34_000, task, users=300, items=200)
    first, second, test = (rows.take(slice(*at)) for at in ((0, 14_000), (14_000, 28_000), (28_000, 34_000)))
    spec = fm.Spec(n_features=rows.n_features, n_factors=8, task=task)
    apart = [fit(spec, pieces(one), passes=passes) for one in (first, second)]
    both = merge(*apart)
    alone = [loss(one, test) for one in apart]
    assert loss(both, test) <= 1.01 * min(alone)
    sampled = [merge(one, one, allow_overlap=True) for one in apart]
    assert all(loss(one, test) <= 1.01 * mine for one, mine in zip(sampled, alone, strict=True))


def test_on_the_sampled_rows_of_both_it_is_the_best_of_what_there_is():
    rows = ratings(51, 6_000, users=200, items=100)
    spec = fm.Spec(n_features=rows.n_features, n_factors=4, task="regression")
    a, b = (fit(spec, pieces(one), passes=3) for one in (rows.take(slice(4_000)), rows.take(slice(4_000, None))))
    both = merge(a, b)
    assert loss(both, rows) <= min(loss(a, rows), loss(b, rows)) + 1e-12
    blind = FM.merge_states(spec, a.state, b.state)
    assert loss(both, rows) < loss(both.replace(dated=type(both.dated)(blind, None)), rows)


@pytest.mark.parametrize("shift", [2.0, 8.0, 60.0])
def test_regions_that_contradict_each_other_are_no_worse_than_the_constant_rate(shift):
    rng = np.random.default_rng(52)

    def region(by, sign, n=12_000):
        x = rng.normal(size=(n, 3))
        y = (rng.random(n) < 1 / (1 + np.exp(-sign * (2 * x[:, 0] - x[:, 1])))).astype(float)
        return Batch.dense(x + by * np.array([1.0, 0.0, 0.0]), label=y)

    spec = fm.Spec(n_features=3, n_factors=4)
    for sign in (1.0, -1.0):
        parts = [region(0.0, 1.0), region(shift, sign)]
        both = merge(*(fit(spec, pieces(one)) for one in parts))
        assert np.mean([loss(both, one) for one in parts]) < 0.70
        assert both.state.folds == max(fit(spec, pieces(one)).state.folds for one in parts)


def uneven(task, sign):
    """Two regions of unlike signal, 3 apart: what is learned of the stronger is far off in the other."""
    rng = np.random.default_rng(56)

    def region(by, slope, n=9_000):
        x = rng.normal(size=(n, 4))
        eta = slope * (x[:, 0] - 0.5 * x[:, 1] + 0.25 * x[:, 2])
        y = eta + rng.normal(size=n) if task == "regression" else (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
        return Batch.dense(x + by * np.array([1.0, 0.0, 0.0, 0.0]), label=y)

    return region(0.0, 0.7), region(3.0, 4.0 * sign)


@pytest.mark.parametrize("task", ["regression", "binary"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_in_no_region_a_merged_learner_is_worse_than_the_constant_of_both(task, sign):
    regions = uneven(task, sign)
    spec = fm.Spec(n_features=4, n_factors=2, task=task)
    apart = [fit(spec, pieces(one)) for one in regions]
    both = merge(*apart)
    level = np.mean([one.label.mean() for one in regions])
    for one in regions:
        y = one.label
        constant = (
            np.mean((y - level) ** 2) if task == "regression" else -np.mean(np.log(np.where(y > 0, level, 1 - level)))
        )
        assert loss(both, one) <= 1.01 * constant


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_the_order_of_the_two_does_not_matter(task):
    spec = fm.Spec(n_features=4, n_factors=2, task=task)
    a, b = (fit(spec, pieces(one)) for one in uneven(task, 1.0))
    both, swapped = merge(a, b).state, merge(b, a).state
    for field in dataclasses.fields(both):
        np.testing.assert_array_equal(getattr(both, field.name), getattr(swapped, field.name))


def test_identifiers_that_only_one_has_met_are_its_own():
    rows = ratings(53, 16_000, users=200, items=100)
    user = rows.indices[::2]
    halves = [rows.take(user % 2 == at) for at in (0, 1)]
    spec = fm.Spec(n_features=rows.n_features, n_factors=4, task="regression")
    a, b = (fit(spec, pieces(one), passes=3) for one in halves)
    both = merge(a, b)
    for other, half in ((b, halves[0]), (a, halves[1])):
        assert loss(both, half) < 0.9 * loss(other, half)


@pytest.mark.parametrize("logistic", [True, False])
def test_scores_are_trusted_as_far_as_rows_bear_them_out(logistic):
    rng = np.random.default_rng(54)
    score, weight = 3.0 * rng.normal(size=4_000), rng.uniform(0.5, 2.0, 4_000)
    if logistic:
        label = (rng.random(4_000) < 1 / (1 + np.exp(-0.3 * score - 1.0))).astype(float)
    else:
        label = 0.3 * score + 1.0 + 0.1 * rng.normal(size=4_000)
    alpha, beta = trusted(logistic, score, label, weight)
    assert alpha == pytest.approx(0.3, abs=0.03)
    assert beta == pytest.approx(1.0, abs=0.1)
    against = trusted(logistic, score, 1.0 - label, weight)
    assert against[0] == 0.0
    if logistic:
        rate = np.average(1.0 - label, weights=weight)
        assert against[1] == pytest.approx(np.log(rate / (1 - rate)), abs=1e-6)
    assert trusted(logistic, np.full(4_000, np.inf), label, weight) == (0.0, 0.0)


def test_damped_parameters_damp_the_scores():
    rng = np.random.default_rng(55)
    theta = rng.normal(size=(4, 3))
    theta[-1, 1:] = 0.0

    def scores(at, x):
        pairs = sum(x[:, i] * x[:, j] * (at[i, 1:] @ at[j, 1:]) for i in range(3) for j in range(i))
        return at[-1, 0] + x @ at[:-1, 0] + pairs

    x = rng.normal(size=(20, 3))
    np.testing.assert_allclose(scores(damp(theta, 0.25, -2.0), x), 0.25 * scores(theta, x) - 2.0)


def test_what_was_counted_adds_up_and_means_are_weighted():
    rows = ratings(57, 5_000, users=60, items=40)
    spec = fm.Spec(n_features=rows.n_features, n_factors=3, task="regression")
    a = learned(spec, rows.take(slice(0, 4_000)), 2, passes=2, rounds=2)
    b = learned(spec, rows.take(slice(4_000, 5_000)).replace(label=rows.label[4_000:] + 9.0), 1, passes=1, rounds=1)
    assert a.folds > b.folds
    for first, second in ((a, b), (b, a)):
        both = FM.merge_states(spec, first, second)
        assert both.folds == a.folds
        for name in ("mass", "fresh"):
            np.testing.assert_allclose(getattr(both, name), getattr(a, name) + getattr(b, name), rtol=1e-12)
        np.testing.assert_allclose(both.prior, (a.prior + b.prior) / 2, rtol=1e-12)
        np.testing.assert_allclose(both.noise[:, 0], a.noise[:, 0] + b.noise[:, 0], rtol=1e-12)
        np.testing.assert_allclose(both.noise.prod(axis=1), a.noise.prod(axis=1) + b.noise.prod(axis=1), rtol=1e-12)
        np.testing.assert_allclose(both.label[0], a.label[0] + b.label[0], rtol=1e-12)
        np.testing.assert_allclose(both.label[:2].prod(), a.label[:2].prod() + b.label[:2].prod(), rtol=1e-12)
        weights = [(one.sums + one.before)[:, 0] for one in (a, b, both)]
        at = [np.searchsorted(both.rows, one.rows) for one in (a, b)]
        added = np.zeros(both.rows.size)
        for where, weight in zip(at, weights[:2], strict=True):
            added[where] += weight
        np.testing.assert_allclose(weights[2], added, rtol=1e-12)
        widest = np.zeros(both.rows.size)
        for where, one in zip(at, (a, b), strict=True):
            widest[where] = np.maximum(widest[where], one.widest)
        np.testing.assert_array_equal(both.widest, widest)


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_other_units_leave_every_score(task):
    rng = np.random.default_rng(58)
    x = np.hstack([rng.normal(size=(3_000, 2)) * [3.0, 0.2] + [50.0, 0.0], rng.random((3_000, 2)) < 0.2])
    score = x[:, 0] - 50.0 + x[:, 1] * x[:, 2] * 9.0
    label = score + 7.0 if task == "regression" else (score > 0).astype(float)
    rows = Batch.dense(x, label=label)
    spec = fm.Spec(n_features=4, n_factors=3, task=task)
    state = learned(spec, rows, 1, passes=2, rounds=2)
    assert state.centre[0] > 0
    centre, scale = state.centre.copy(), state.scale * [2.0, 0.5, 3.0, 1.0, 1.0]
    centre[0] += 1.0
    label = state.label * [1.0, 1.0, 4.0] + [0.0, 2.0, 0.0]
    theta, squares = in_units(spec, state, (centre, scale, 1.5 * float(state.spread)), label)
    told = dataclasses.replace(
        state, theta=theta, squares=squares, centre=centre, scale=scale, label=label,
        spread=np.asarray(1.5 * float(state.spread)),
    )  # fmt: skip
    before, after = (predicted(machine_of(spec, one), rows) for one in (state, told))
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("logistic", [False, True])
def test_scores_are_drawn_to_the_constant_and_never_away_from_it_or_turned(logistic):
    score = np.linspace(-2.0, 2.0, 401)
    for factor, low, high in ((3.0, 1.0, 1.0), (-1.0, 0.0, 0.0), (0.5, 0.45, 0.55)):
        label = 1.0 / (1.0 + np.exp(-factor * score)) if logistic else factor * score
        alpha, _ = trusted(logistic, score, label, np.ones(401))
        assert low <= alpha <= high


def test_a_row_at_the_very_threshold_is_of_class_1():
    rows = ratings(60, 300, "binary", users=20, items=10)
    model = derive(fit(fm.Spec(n_features=rows.n_features, n_factors=2), [rows]), fm.Classifier()).arrays
    predict_with = FM.models["classifier"].predict
    at = predict_with(model, rows)["score"][7]
    found = predict_with(dataclasses.replace(model, threshold=np.asarray(at)), rows)
    np.testing.assert_array_equal(found["predicted_label"], found["score"] >= at)
    assert found["predicted_label"][7] == 1


def test_the_factor_and_level_are_those_of_weighted_least_squares():
    rng = np.random.default_rng(61)
    score, weight = rng.normal(size=200) + 3.0, rng.random(200)
    label = 0.4 * score - 1.0 + 0.3 * rng.normal(size=200)
    wanted = np.polyfit(score, label, 1, w=np.sqrt(weight))
    np.testing.assert_allclose(trusted(False, score, label, weight), wanted, rtol=1e-6)
