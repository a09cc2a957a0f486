"""Steps are longer while little is known of a feature, and as long as the rate says where more is, or nothing may be."""

import statistics

import numpy as np
import pytest

from beam_ml import fit, fm
from beam_ml.algorithms.fm import steps
from tests.algorithms.fm.support import FM, grown, learned, loss, ratings


def held_out(spec, rows, test):
    rows = rows.replace(origin=None, position=None)
    return loss(spec, fit(spec, [rows.take(slice(i, i + 1_000)) for i in range(0, len(rows), 1_000)]).state, test)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_one_pass_learns_more_of_features_with_few_rows(task, monkeypatch):
    """Beside the same machine with steps as long as the rate, on identifiers of some tens of rows each."""
    spec, errors = fm.Spec(n_features=550, n_factors=8, task=task), []
    drawn = [ratings(seed, 16_000, task, users=300, items=250) for seed in (71, 72, 73)]
    cut = [(rows.take(slice(12_000)), rows.take(slice(12_000, None))) for rows in drawn]
    for longer in (steps.LONGER[task], 0.0):
        monkeypatch.setitem(steps.LONGER, task, longer)
        errors.append([held_out(spec, *one) for one in cut])
    assert statistics.median(a / b for a, b in zip(*errors, strict=True)) < 0.99


def test_the_count_of_rows_is_free_of_the_features_scale():
    spec = fm.Spec(n_features=3)
    one, other = steps.lengthened(spec, 1.0, 1.0, 0.2), steps.lengthened(spec, 3.0, 1.0, 0.2)
    np.testing.assert_allclose(other, one * [1.0, 1.0, 9.0])  # Σ gradient² is a ninth


def test_rows_of_numbers_count_in_units_of_their_slopes():
    spec = fm.Spec(n_features=3, task="regression")
    one, other = steps.lengthened(spec, 1.0, 1.0, 0.2), steps.lengthened(spec, 1.0, 1.0, 0.6)
    np.testing.assert_allclose(other, one * [1.0, 1.0, 1 / 3])
    assert np.isfinite(steps.lengthened(spec, 1e3, 1.0, 0.0)).all()


def test_labels_without_a_rest_are_learned():
    """No row has a slope, so that Σ gradient² and the mean squared slope are 0."""
    spec = fm.Spec(n_features=700, n_factors=2, task="regression", normalize_label=False, linear_wd=None)
    rows = ratings(76, 2_000)
    state = fit(spec, [rows.take(slice(i, i + 500)).replace(label=np.zeros(500)) for i in range(0, 2_000, 500)]).state
    assert np.isfinite(state.theta).all()


def test_later_passes_and_given_penalties_have_the_rates_that_are_set():
    spec = fm.Spec(n_features=3, linear_wd=0.0)
    longer = [steps.lengthened(spec, 1.0, passes, 0.2)[:2].tolist() for passes in (0.5, 1.0, 4.0)]
    most = steps.LONGER["binary"]
    assert longer == [[0.0, most], [0.0, most], [0.0, most / 16]]


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("penalty", [None, 0.01])
def test_a_cold_window_and_given_penalties_step_as_the_rate_says(penalty, task, monkeypatch):
    rows = ratings(74, 3_000, task)
    spec = fm.Spec(n_features=700, n_factors=2, task=task, linear_wd=penalty, factors_wd=penalty)
    found = []
    for longer in (1.0, 0.0):
        monkeypatch.setitem(steps.LONGER, task, longer)
        cold = FM.fold(spec, FM.init(spec), grown(spec, rows.take(slice(1_000)), None), None)
        found.append((cold, grown(spec, rows.take(slice(1_000, 3_000)), FM.anchor(spec, cold))))
    (cold, warm), (plain, after) = found
    np.testing.assert_array_equal(cold.theta, plain.theta)
    assert np.array_equal(warm.open_moved, after.open_moved) is (penalty is not None)


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("half_life", [10.0, 1_000.0])
def test_forgotten_features_step_at_most_twice_as_far(half_life, task, monkeypatch):
    """One row of features that were last seen long ago, and of which Σ gradient² has faded."""
    spec = fm.Spec(n_features=700, n_factors=2, task=task, half_life=half_life)
    rows, moved = ratings(75, 4_000, task), []
    state = FM.fold(spec, FM.init(spec), grown(spec, rows, None), None)
    faded = FM.fold(spec, FM.scale(spec, state, 1e-6), grown(spec, rows.take(slice(50)), FM.anchor(spec, state)), None)
    for longer in (1.0, 0.0):
        monkeypatch.setitem(steps.LONGER, task, longer)
        moved.append(grown(spec, rows.take(slice(50, 51)), FM.anchor(spec, faded)).open_moved)
    ratio = np.abs(moved[0][:-1]) / np.abs(moved[1][:-1])
    assert (ratio > 1.01).all()
    assert (ratio <= 2.0 + 1e-9).all()


@pytest.mark.parametrize("cold", [True, False])
def test_a_run_is_aged_as_its_partial_is(cold):
    rows = ratings(59, 2_000, users=40, items=30)
    spec = fm.Spec(n_features=rows.n_features, n_factors=2, task="regression")
    anchor = None if cold else FM.anchor(spec, learned(spec, rows, 1, passes=1, rounds=2))
    run = FM.grow(spec, FM.empty(spec), anchor)
    run.add(rows.take(slice(0, 900)))
    aged = FM.scale(spec, run.partial(), 0.25)
    run.scale(0.25)
    for name in ("label", "mass", "fresh", "noise", "open_sums", "open_moved", "open_squares"):
        np.testing.assert_allclose(getattr(run.partial(), name), getattr(aged, name), rtol=1e-12, err_msg=name)
