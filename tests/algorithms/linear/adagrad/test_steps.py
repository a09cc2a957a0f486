"""How long the steps of `linear.AdaGrad` are: short half-lives, rows that are normalised already, rare columns, outliers."""

import dataclasses

import numpy as np
import pytest
from scipy.special import expit

from beam_ml import Batch, fit, linear
from beam_ml.algorithms.linear.adagrad.shape import LEAST_ROWS, Columns, Sums, shape_of_tables
from tests.algorithms.linear.adagrad.support import ALGORITHM, PLAIN, binary, learned, measured, model_of


def numbers(n: int, seed: int, d: int = 12) -> Batch:
    rng = np.random.default_rng(seed)
    slope = np.random.default_rng(41).normal(size=d) * 0.5
    x = rng.normal(size=(n, d))
    return Batch.dense(x, label=(rng.random(n) < expit(x @ slope)).astype(float))


def symbols(n: int, seed: int, fields: int = 10, each: int = 40) -> Batch:
    """One indicator per field, most of them rare."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, each + 1)
    columns = rng.choice(each, (n, fields), p=share / share.sum()) + each * np.arange(fields)
    effect = np.random.default_rng(43).normal(size=fields * each) * 0.6
    label = (rng.random(n) < expit(effect[columns].sum(axis=1))).astype(float)
    return Batch.csr(np.arange(n + 1) * fields, columns.ravel(), np.ones(n * fields), fields * each, label=label)


def unit_rows(n: int, seed: int, d: int = 6_000, length: int = 50) -> Batch:
    """Rows of norm 1, as weighted words are."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(2, d + 2)
    columns = np.sort(rng.choice(d, (n, length), p=share / share.sum()), axis=1)
    values = rng.gamma(2.0, 0.5, (n, length)) * -np.log(share[columns] / share.sum())
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    effect = np.random.default_rng(47).normal(size=d)
    label = (rng.random(n) < expit(8.0 * (values * effect[columns]).sum(axis=1))).astype(float)
    return Batch.csr(np.arange(n + 1) * length, columns.ravel(), values.ravel(), d, label=label)


@pytest.mark.parametrize("rows", [10, 100, 1_000])
@pytest.mark.parametrize("make", [numbers, symbols])
def test_steps_do_not_run_off_when_gradients_fade(make: object, rows: int) -> None:
    n, size = 5_000, 250
    data, held_out = make(n, 1), make(4_000, 2)
    time = np.arange(n) * 1_000_000
    spec = linear.AdaGrad(
        n_features=data.n_features, sparse=not data.is_dense, half_life=float(rows), learning_rates=(0.3, 1.0), l1=0.0,
        l2=0.0, halve_at=(),
    )  # fmt: skip
    batches = [data.replace(time=time).take(slice(i, i + size)) for i in range(0, n, size)]
    state = fit(spec, batches, refresh_rows=size).state
    for index in range(2):
        assert measured(model_of(spec, state, index), held_out)["log_loss"] < 0.68


def test_rows_of_norm_one_do_not_overshoot() -> None:
    train, held_out = unit_rows(4_000, 1), unit_rows(4_000, 2)
    spec = linear.AdaGrad(n_features=train.n_features, sparse=True, learning_rates=(0.1, 0.3, 1.0), l1=0.0, l2=0.0)
    state = fit(spec, [train]).state
    losses = [measured(model_of(spec, state, i), held_out)["log_loss"] for i in range(3)]
    assert min(losses) < 0.66
    assert losses[2] < 0.8
    norm = float(state.norm) / 4_000
    assert 10.0 < norm < 50.0


def test_dense_features_of_any_number_are_learned_with_the_default_rates() -> None:
    for d in (3, 60):
        state = fit(linear.AdaGrad(n_features=d), [numbers(8_000, 1, d)]).state
        spec = linear.AdaGrad(n_features=d)
        found = measured(model_of(spec, state), numbers(8_000, 2, d))["log_loss"]
        score = numbers(8_000, 2, d).dense_x @ (np.random.default_rng(41).normal(size=d) * 0.5)
        label = numbers(8_000, 2, d).label
        best = np.mean(np.logaddexp(0.0, score) - label * score)
        assert found < 1.04 * best


class TestOutliers:
    @pytest.mark.parametrize("size", [100.0, 1e6])
    @pytest.mark.parametrize("at", [700, 2_000])
    def test_one_row_far_out_costs_little(self, size: float, at: int) -> None:
        rows, held_out = numbers(6_000, 3), numbers(8_000, 4)
        x = rows.dense_x.copy()
        x[at, 0] = size
        losses = []
        for one in (rows, rows.replace(X=x)):
            spec = linear.AdaGrad(n_features=12, learning_rates=(0.3, 1.0), l1=0.0, l2=0.0)
            state = learned(spec, one, [0, 500, 1_500, 3_000, 6_000])
            losses.append(measured(model_of(spec, state), held_out)["log_loss"])
        assert losses[1] < 1.02 * losses[0]

    def test_a_column_that_moves_for_good_is_no_outlier(self) -> None:
        rows = numbers(4_000, 5)
        x = rows.dense_x.copy()
        x[1_000:, 0] *= 1e5
        spec = linear.AdaGrad(n_features=12, **PLAIN)
        state = learned(spec, rows.replace(X=x), [0, 1_000, 2_000, 3_000, 4_000])
        assert np.sqrt(state.moments[0, 2] / state.moments[0, 0]) > 5e4


class TestRowsBehindAStep:
    def test_they_are_worth_the_mean_square_of_gradients(self) -> None:
        spec = linear.AdaGrad(n_features=1)
        sums = Sums(stepped=2_000.0, stepped_squares=4_000.0)  # 1,000 rows of weight 2
        found = sums.behind(spec, np.array([4_000.0 * 0.1]), np.array([3.0, 1.0]))
        # Sixteen rows of a quarter, the square at a score of 0, are in the mean.
        mean = 4.0 * (1_000 * 0.1 + 16 * 0.25) / 1_016
        np.testing.assert_allclose(found[:, 0], [9.0 * LEAST_ROWS * mean, LEAST_ROWS * mean])

    def test_weights_scale_them_as_they_scale_gradients(self) -> None:
        spec = linear.AdaGrad(n_features=4, **PLAIN)
        rows = binary(800)
        states = [learned(spec, rows.replace(weight=np.full(800, w)), [0, 300, 800]) for w in (1.0, 1e-4)]
        np.testing.assert_allclose(states[1].theta, states[0].theta, rtol=1e-6)

    def test_they_fade_with_the_gradients(self) -> None:
        spec = linear.AdaGrad(n_features=4, half_life="1d", **PLAIN)
        state = learned(spec, binary(800), [0, 300, 800])
        faded = ALGORITHM.scale(spec, state, 0.01)
        assert float(faded.stepped) == pytest.approx(8.0)
        assert float(faded.stepped_squares) == pytest.approx(8.0)
        assert float(faded.norm) / float(faded.mass.sum()) == pytest.approx(float(state.norm) / 800.0)


def test_penalties_and_the_unit_of_labels_are_those_of_the_definition():
    spec = linear.AdaGrad(n_features=2, task="regression", learning_rates=0.1, l1=0.3, l2=0.7)
    table = np.zeros((3, 6))
    table[:, 0] = 8.0  # rows' weight
    table[-1, 1:3] = 5.0, 8.0 * 9.0  # labels of mean 5 and deviation 3
    shape = shape_of_tables(spec, table, np.arange(3), 8.0)
    assert (shape.label_centre, shape.label_unit) == (5.0, 1.0 / 3.0)
    shape = dataclasses.replace(shape, inverse_unit=np.array([2.0, 0.5, 0.0]))
    columns = Columns.of(spec, np.zeros(1, dtype=np.int64))
    theta = np.array([[-1.5], [4.0], [100.0]])
    size = np.array([1.5 * 2.0, 4.0 * 0.5])  # |θ| / b; the bias is free
    np.testing.assert_allclose(shape.penalty(theta, columns), [0.3 * size.sum() + 0.35 * np.square(size).sum()])
