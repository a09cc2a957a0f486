"""Penalties that adapt: passes do not over-fit, and settings mean what they say."""

import numpy as np
import pytest

from beam_ml import derive, fit, fm, predict
from beam_ml.algorithms.fm.adapt import START, adapted, heard, priors
from beam_ml.core import metrics
from tests.algorithms.fm.support import ratings


def rows_and_test(seed, task="regression"):
    rows = ratings(seed, 22_000, task, users=300, items=250)
    rows = rows.replace(origin=None, position=None)
    return [rows.take(slice(i, i + 1_000)) for i in range(0, 18_000, 1_000)], rows.take(slice(18_000, None))


def held_out(spec, parts, test, passes):
    kind = fm.Regressor() if spec.task == "regression" else fm.Classifier()
    model = derive(fit(spec, parts, passes=passes), kind)
    values = metrics.compute(fm.FM.models[kind.kind].measure(model.arrays, test))
    return values["mse"] ** 0.5 if spec.task == "regression" else values["log_loss"]


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_more_passes_do_not_hurt(task):
    parts, test = rows_and_test(60, task)
    spec = fm.Spec(n_features=550, n_factors=16, task=task)
    found = [held_out(spec, parts, test, passes) for passes in (1, 4, 16)]
    fixed = spec.model_copy(update={"linear_wd": 0.003, "factors_wd": 0.03})
    assert found[1] < found[0]
    assert found[2] < 1.01 * found[1]
    assert held_out(fixed, parts, test, 16) > 1.015 * found[2]


def test_twenty_passes_are_as_good_as_ten():
    rows = ratings(65, 14_000, users=150, items=400).replace(origin=None, position=None)
    parts, test = [rows.take(slice(i, i + 1_000)) for i in range(0, 9_000, 1_000)], rows.take(slice(9_000, None))
    spec = fm.Spec(n_features=550, n_factors=16, task="regression")
    ten, twenty = (held_out(spec, parts, test, passes) for passes in (10, 20))
    assert twenty < 1.003 * ten


def test_numbers_hold_from_the_first_row_on_and_what_is_not_given_adapts():
    rows = ratings(61, 4_000)
    sizes = []
    for strength in (0.0, None, 3.0):
        spec = fm.Spec(
            n_features=rows.n_features, n_factors=4, task="regression", linear_wd=strength, factors_wd=strength
        )
        learner = fit(
            spec, [rows.take(slice(i, i + 1_000)).replace(origin=None, position=None) for i in range(0, 4_000, 1_000)]
        )
        met = learner.state.squares.any(axis=1)[:-1]
        sizes.append(np.abs(learner.state.theta[:-1][met][:, 1:]).mean())
    assert sizes[0] > 1.2 * sizes[1] > 1.2 * sizes[2]
    slopes = np.array([0.9, 0.4])  # the noise is 0.6
    assert not priors(spec, np.array(START), slopes, 2.0).any()
    mixed = fm.Spec(n_features=2, n_factors=2, factors_wd=0.1)
    np.testing.assert_allclose(priors(mixed, np.array(START), np.array([0.5, 0.5]), 2.0), [1.0, 0.0, 0.0, 0.0, 0.0])
    both = fm.Spec(n_features=2, n_factors=2, task="regression")
    known = 1.0 / (0.6 * 0.4 * 2.0)
    np.testing.assert_allclose(priors(both, np.array([0.5, 0.1]), slopes, 2.0), [1.2, 10.0, known, 0.7 * 6.0, 0.6])
    found = [priors(both, np.array([0.5, 0.1]), slopes, passes)[3:] / [6.0, 1.0] for passes in (1.0, 4.0, 1e9)]
    np.testing.assert_allclose(found, [[0.4, 0.2], [0.85, 0.8], [1.0, 1.0]], rtol=1e-6)
    classes = fm.Spec(n_features=2, n_factors=2)
    np.testing.assert_allclose(priors(classes, np.array([0.5, 0.1]), slopes, 2.0), [2.0, 10.0, 0.5, 4.0, 0.6])
    assert priors(classes, np.array([0.5, 0.1]), slopes, 1.0)[4] < 0.6


def test_rows_of_later_passes_tell_nothing_new():
    parts, _ = rows_and_test(62)
    spec = fm.Spec(n_features=550, n_factors=4, task="regression")
    one, three = (fit(spec, parts, passes=passes).state for passes in (1, 3))
    assert three.mass.sum() == pytest.approx(3 * float(three.fresh))
    assert one.mass.sum() == float(one.fresh) == float(three.fresh)
    np.testing.assert_array_equal(three.noise[0], one.noise[0])
    np.testing.assert_array_equal(one.noise[1], one.noise[0])
    # Rows that were learned before are told better than they will be.
    assert three.noise[1, 1] < 0.9 * three.noise[0, 1]
    first, later = (fm.FM.anchor(spec, state) for state in (one, three))
    assert float(later.passes) == pytest.approx(3.0)
    np.testing.assert_allclose(later.often, first.often, atol=0.02 * 18_000)


def test_the_variance_is_that_of_estimates_and_of_doubts():
    spec = fm.Spec(n_features=3, n_factors=2, task="regression")
    rng = np.random.default_rng(63)
    theta, squares = rng.normal(size=(3, 3)), rng.uniform(0.0, 9.0, (3, 3))
    found = adapted(spec, np.array([0.5, 0.2]), theta, squares, np.array([0.9, 0.4]), 2.0)
    for got, before, part in ((found[0], 0.5, np.s_[:, :1]), (found[1], 0.2, np.s_[:, 1:])):
        doubt = 1.0 / (1.0 / before + squares[part] / (2.0 * 0.6 * 0.4))
        assert got == pytest.approx((theta[part] ** 2 + doubt).mean())
    np.testing.assert_array_equal(adapted(spec, found, theta[:0], squares[:0], np.ones(2), 2.0), found)
    assert heard(np.array([4.0, 0.5]), 0.0, 0.0).tolist() == [4.0, 0.5]


@pytest.mark.parametrize("half_life", [5.0, 20.0])
def test_few_rows_half_life_does_not_draw_everything_to_zero(half_life):
    rows = ratings(64, 8_000, "binary", users=60, items=40)
    rows = rows.replace(origin=None, position=None, time=np.arange(8_000) * 1_000_000)
    spec = fm.Spec(n_features=100, n_factors=4, half_life=half_life)
    model = derive(fit(spec, [rows.take(slice(i, i + 500)) for i in range(0, 7_000, 500)]), fm.Classifier())
    test = rows.take(slice(7_000, None))
    p = np.clip(predict(model, test)["score"], 1e-9, 1 - 1e-9)
    rate = test.label.mean()
    prior = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert -np.mean(np.log(np.where(test.label > 0, p, 1 - p))) < 0.98 * prior
