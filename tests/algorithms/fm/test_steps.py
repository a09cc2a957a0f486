"""Steps are longer while little is known of a feature, and as long as the rate says where more is, or nothing may be."""

import statistics

import numpy as np
import pytest

from beam_ml import fit, fm
from beam_ml.algorithms.fm import steps
from tests.algorithms.fm.support import FM, grown, loss, ratings


def held_out(spec, rows, test):
    rows = rows.replace(origin=None, position=None)
    return loss(spec, fit(spec, [rows.take(slice(i, i + 1_000)) for i in range(0, len(rows), 1_000)]).state, test)


def test_one_pass_learns_more_of_features_with_few_rows(monkeypatch):
    """Beside the same machine with steps as long as the rate, on identifiers of some tens of rows each."""
    spec, errors = fm.Spec(n_features=550, n_factors=8), []
    drawn = [ratings(seed, 16_000, "binary", users=300, items=250) for seed in (71, 72, 73)]
    cut = [(rows.take(slice(12_000)), rows.take(slice(12_000, None))) for rows in drawn]
    for longer in (steps.LONGER, 0.0):
        monkeypatch.setattr(steps, "LONGER", longer)
        errors.append([held_out(spec, *one) for one in cut])
    assert statistics.median(a / b for a, b in zip(*errors, strict=True)) < 0.99


def test_the_count_of_rows_is_free_of_the_features_scale():
    spec = fm.Spec(n_features=3)
    one, other = steps.lengthened(spec, 1.0, 1.0), steps.lengthened(spec, 3.0, 1.0)
    np.testing.assert_allclose(other, one * [1.0, 1.0, 9.0])  # Σ gradient² is a ninth
    assert not steps.lengthened(fm.Spec(n_features=3, task="regression"), 1.0, 1.0)[:2].any()


def test_later_passes_and_given_penalties_have_the_rates_that_are_set():
    spec = fm.Spec(n_features=3, linear_wd=0.0)
    longer = [steps.lengthened(spec, 1.0, passes)[:2].tolist() for passes in (0.5, 1.0, 4.0)]
    most = steps.LONGER
    assert longer == [[0.0, most], [0.0, most], [0.0, most / 16]]


@pytest.mark.parametrize("penalty", [None, 0.01])
def test_a_cold_window_and_given_penalties_step_as_the_rate_says(penalty, monkeypatch):
    rows = ratings(74, 3_000, "binary")
    spec = fm.Spec(n_features=700, n_factors=2, linear_wd=penalty, factors_wd=penalty)
    found = []
    for longer in (1.0, 0.0):
        monkeypatch.setattr(steps, "LONGER", longer)
        cold = FM.fold(spec, FM.init(spec), grown(spec, rows.take(slice(1_000)), None), None)
        found.append((cold, grown(spec, rows.take(slice(1_000, 3_000)), FM.anchor(spec, cold))))
    (cold, warm), (plain, after) = found
    np.testing.assert_array_equal(cold.theta, plain.theta)
    assert np.array_equal(warm.open_moved, after.open_moved) is (penalty is not None)


@pytest.mark.parametrize("half_life", [10.0, 1_000.0])
def test_forgotten_features_step_at_most_twice_as_far(half_life, monkeypatch):
    """One row of features that were last seen long ago, and of which Σ gradient² has faded."""
    spec = fm.Spec(n_features=700, n_factors=2, half_life=half_life)
    rows, moved = ratings(75, 4_000, "binary"), []
    state = FM.fold(spec, FM.init(spec), grown(spec, rows, None), None)
    faded = FM.fold(spec, FM.scale(spec, state, 1e-6), grown(spec, rows.take(slice(50)), FM.anchor(spec, state)), None)
    for longer in (1.0, 0.0):
        monkeypatch.setattr(steps, "LONGER", longer)
        moved.append(grown(spec, rows.take(slice(50, 51)), FM.anchor(spec, faded)).open_moved)
    ratio = np.abs(moved[0][:-1]) / np.abs(moved[1][:-1])
    assert (ratio > 1.01).all()
    assert (ratio <= 2.0 + 1e-9).all()
