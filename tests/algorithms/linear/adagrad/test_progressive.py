"""`linear.AdaGrad` chooses among its variants by rows that they had not learned from, after one fold and in later passes."""

import dataclasses
from functools import reduce

import numpy as np
import pytest
from scipy.special import expit

from beam_ml import Batch, derive, fit, linear, predict
from beam_ml.algorithms.linear.adagrad import losses
from beam_ml.core.batch import Origin
from beam_ml.testing.strategies import World
from tests.algorithms.linear.adagrad.support import ALGORITHM, SPECS, binary, grown, learned, measured, model_of


def wide(n: int, seed: int, d: int = 8_000, length: int = 25) -> Batch:
    """Few rows of many columns, most of them rare: every variant learns the rows by heart, the fast ones first."""
    rng = np.random.default_rng(77)
    truth = rng.normal(size=d)
    share = 1.0 / np.arange(3, d + 3)
    rng = np.random.default_rng(seed)
    columns = np.sort(rng.choice(d, (n, length), p=share / share.sum()), axis=1)
    score = truth[columns].sum(axis=1) / 3.0
    label = (rng.random(n) < expit(score)).astype(float)
    bounds = np.arange(n + 1) * length
    return Batch.csr(bounds, columns.ravel(), np.ones(columns.size), d, label=label)


@pytest.mark.parametrize("refresh_rows", [2_000, 65_536])
def test_after_few_folds_the_variant_is_not_the_one_that_knows_its_rows_by_heart(refresh_rows: int) -> None:
    spec = linear.AdaGrad(n_features=8_000, sparse=True, learning_rates=(0.03, 0.1, 0.3, 3.0), l1=0.0, l2=0.0)
    train, held_out = wide(2_000, 1), wide(4_000, 2)
    learner = fit(spec, [train], refresh_rows=refresh_rows)
    each = [measured(model_of(spec, learner.state, i), held_out)["log_loss"] for i in range(spec.n_variants)]
    by_heart = [measured(model_of(spec, learner.state, i), train)["log_loss"] for i in range(spec.n_variants)]
    chosen = int(model_of(spec, learner.state).variant)
    assert each[chosen] < min(each) + 0.02
    assert each[int(np.argmin(by_heart))] > min(each) + 0.1


@pytest.mark.parametrize("spec", SPECS, ids=["packed", "regression", "multiclass", "sparse"])
def test_runs_measure_each_mini_batch_before_they_learn_it(spec: linear.AdaGrad) -> None:
    """Against a model derived before each mini-batch of rows, from a run that has seen those before it."""
    one = type(spec).parse({**spec.to_dict(), "averaging": False, "normalize": False, "normalize_label": False})
    rows = World(seed=4, sparse=spec.sparse).batch(spec, 96, weights="uniform")
    whole = grown(one, rows, batch_rows=16)
    found = np.zeros(one.n_variants)
    for begin in range(0, 96, 16):
        part = rows.take(slice(begin, begin + 16))
        state = ALGORITHM.init(one)
        if begin:
            state = ALGORITHM.fold(one, state, grown(one, rows.take(slice(0, begin)), batch_rows=16), None)
        theta = np.zeros((5, one.n_variants * one.n_outputs))
        theta[state.rows] = state.theta.reshape(-1, theta.shape[1])
        score = (part.dense_x if part.is_dense else csr(part)) @ theta[:-1]
        score = (score + theta[-1]).reshape(16, one.n_variants, one.n_outputs)
        each = losses.row_losses(losses.code_of(one), score, part.label, losses.shape_of(one))
        found += part.weights @ each
    np.testing.assert_allclose(whole.loss, found, rtol=1e-9)
    assert float(whole.loss_weight) == pytest.approx(rows.weights.sum())


def csr(rows: Batch) -> np.ndarray:
    x = np.zeros((len(rows), rows.n_features))
    x[np.repeat(np.arange(len(rows)), np.diff(rows.indptr)), rows.indices] = rows.values
    return x


def test_sums_add_over_shards_and_fade() -> None:
    spec = linear.AdaGrad(n_features=4, half_life="1d", learning_rates=(0.1, 1.0), l1=0.0, l2=1e-3)
    rows = binary(900)
    anchor = ALGORITHM.anchor(spec, learned(spec, rows, [0, 300]))
    parts = [grown(spec, rows.take(slice(begin, begin + 200)), anchor) for begin in (300, 500, 700)]
    both = reduce(lambda a, b: ALGORITHM.merge(spec, a, b), parts)
    np.testing.assert_allclose(both.loss, sum(part.loss for part in parts), rtol=1e-12)
    assert float(both.loss_weight) == 600.0
    half = ALGORITHM.scale(spec, both, 0.5)
    np.testing.assert_allclose(half.loss, both.loss / 2, rtol=1e-12)
    state = learned(spec, rows, [0, 300, 900], 2)
    assert float(state.run_weight) == 450.0  # each run had half of the rows, and says half as much
    alone = learned(spec, rows, [0, 300, 900])
    assert float(alone.run_weight) == 900.0
    faded = ALGORITHM.scale(spec, state, 0.25)
    np.testing.assert_allclose(faded.run_loss / faded.run_weight, state.run_loss / state.run_weight, rtol=1e-12)
    assert float(faded.run_weight) == 112.5


class TestLaterPasses:
    def test_rows_seen_before_are_not_measured(self) -> None:
        spec = linear.AdaGrad(n_features=4, learning_rates=(0.1, 1.0), l1=0.0, l2=0.0, halve_at=())
        batches = [
            binary(500, seed=s).replace(origin=Origin("files", str(s)), position=np.arange(500)) for s in range(4)
        ]
        one, many = (fit(spec, batches, passes=passes, refresh_rows=500) for passes in (1, 4))
        for name in ("run_loss", "run_weight", "loss", "average_loss", "loss_weight"):
            np.testing.assert_array_equal(getattr(one.state, name), getattr(many.state, name), err_msg=name)
        assert not np.array_equal(one.state.theta, many.state.theta)
        assert float(one.state.run_weight) == 2_000.0

    def test_the_one_that_has_learned_the_rows_by_heart_is_not_chosen(self) -> None:
        spec = linear.AdaGrad(n_features=8_000, sparse=True, learning_rates=(0.1, 4.0), l1=0.0, l2=0.0, halve_at=())
        train, held_out = wide(3_000, 3), wide(3_000, 4)
        batches = [train.take(slice(i, i + 500)) for i in range(0, 3_000, 500)]
        learner = fit(spec, batches, passes=5, refresh_rows=500)
        each = [measured(model_of(spec, learner.state, i), held_out)["log_loss"] for i in range(2)]
        model = derive(learner, linear.Variant())
        assert int(model.arrays.variant) == int(np.argmin(each)) == 0
        assert np.isfinite(predict(model, held_out)["score"]).all()


def test_a_loss_that_is_not_finite_counts_as_the_worst() -> None:
    spec = linear.AdaGrad(n_features=4, learning_rates=(0.1, 0.2), l1=0.0, l2=0.0, halve_at=())
    partial = grown(spec, binary(300))
    for value in (np.inf, np.nan):
        bad = dataclasses.replace(partial, loss=np.array([value, 100.0]))
        state = ALGORITHM.fold(spec, ALGORITHM.init(spec), bad, None)
        state = ALGORITHM.fold(spec, state, bad, None)
        assert np.isfinite(state.run_loss).all()
        assert int(model_of(spec, state).variant) == 1
