"""`linear.AdaGrad` where runs alone do badly: worlds that move, many cold shards, learners grown apart."""

import numpy as np
import pytest
from scipy.special import expit

from beam_ml import Batch, linear, merge
from beam_ml.algorithms.linear.adagrad.refine import Drill
from beam_ml.algorithms.linear.adagrad.rows import present
from beam_ml.algorithms.linear.adagrad.shape import Columns, Sums, shape_of_tables
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.refresh import Plan, refresh
from beam_ml.core.sample import Sample
from tests.algorithms.linear.adagrad.support import ALGORITHM, binary, learned, measured, model_of

SLOPE = np.array([1.7, -1.2, 0.0, 0.8])


def world(n: int, seed: int, shift: float = 0.0, bias: float = 0.3, turn: float = 1.0) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    label = rng.random(n) < expit(turn * (x @ SLOPE) + bias)
    return Batch.dense(x + shift, label=label.astype(float))


def prior(rows: Batch) -> float:
    share = float(np.mean(rows.label))
    return float(-share * np.log(share) - (1.0 - share) * np.log1p(-share))


CHANGES = {
    "inputs move by 3": {"shift": 3.0},
    "inputs move by 16": {"shift": -16.0},
    "an attack": {"bias": 5.5},
    "its end": {"bias": -5.0},
    "slopes turn over": {"turn": -1.0},
}


@pytest.mark.parametrize("fading", [1.0, 0.7])
@pytest.mark.parametrize("change", CHANGES)
def test_after_one_window_of_a_changed_world_it_is_no_worse_than_a_constant(change: str, fading: float) -> None:
    spec = linear.AdaGrad(n_features=4)
    state = ALGORITHM.init(spec)
    for seed in range(8):
        state = learned(spec, world(3_000, seed), [0, 3_000], 1, ALGORITHM.scale(spec, state, fading))
    held_out = world(6_000, 99, **CHANGES[change])
    before = measured(model_of(spec, state), held_out)["log_loss"]
    assert before > 1.05 * prior(held_out)
    for seed in range(8, 12):
        state = learned(
            spec, world(3_000, seed, **CHANGES[change]), [0, 3_000], 1, ALGORITHM.scale(spec, state, fading)
        )
        assert measured(model_of(spec, state), held_out)["log_loss"] < 1.03 * prior(held_out)
    assert np.isfinite(state.theta).all()


def parted(n: int, seed: int, fields: int = 12, each: int = 30) -> Batch:
    """One-hot rows whose classes hardly overlap: what a shard of few rows learns of them is far from all."""
    rng = np.random.default_rng(seed)
    columns = rng.zipf(1.4, (n, fields)) % each + each * np.arange(fields)
    effect = np.random.default_rng(53).normal(size=fields * each) * 2.0
    label = (rng.random(n) < expit(effect[columns].sum(axis=1))).astype(float)
    return Batch.csr(np.arange(n + 1) * fields, columns.ravel(), np.ones(n * fields), fields * each, label=label)


@pytest.mark.parametrize(("shards", "most"), [(8, 1.35), (32, 1.45), (64, 1.5)])
def test_one_cold_window_of_many_shards_is_not_far_from_one_run(shards: int, most: float) -> None:
    """Without passes over the sample it is 1.6 to 2.2 times the run's loss."""
    rows, held_out = parted(12_000, 1), parted(6_000, 2)
    spec = linear.AdaGrad(n_features=rows.n_features, sparse=True, learning_rates=1.0, l1=0.0, l2=0.0)
    one, many = (
        measured(model_of(spec, learned(spec, rows, [0, 12_000], k)), held_out)["log_loss"] for k in (1, shards)
    )
    assert many < most * one


def fitted(spec: linear.AdaGrad, rows: Batch) -> learners.Learner:
    learner = learners.new(ALGORITHM, spec)
    for begin in range(0, len(rows), 2_000):
        number, anchor = learner.version, ALGORITHM.anchor(spec, learner.state)
        accumulator = Accumulator(ALGORITHM, spec, number, anchor)
        accumulator.add(rows.take(slice(begin, begin + 2_000)))
        learner, _ = refresh(ALGORITHM, learner, None, accumulator.result(), Plan(models={}))
    return learner


@pytest.mark.parametrize("shift", [0.0, 4.0, 30.0, -200.0])
def test_merging_is_no_worse_than_either_alone_or_a_constant_on_both_worlds(shift: float) -> None:
    spec = linear.AdaGrad(n_features=4, learning_rates=(0.1, 1.0), l1=(0.0, 1e-4), l2=0.0)
    a, b = fitted(spec, world(8_000, 1)), fitted(spec, world(8_000, 2, shift=shift))
    held_out = Batch.concat([world(8_000, 3), world(8_000, 4, shift=shift)])
    alone = [measured(model_of(spec, one.state), held_out)["log_loss"] for one in (a, b)]
    for both in (merge(a, b), merge(b, a)):
        found = measured(model_of(spec, both.state), held_out)["log_loss"]
        assert found < 1.01 * min(*alone, prior(held_out))
        assert ALGORITHM.weight(both.state) == 16_000
    left, right = merge(a, b).state, merge(b, a).state
    np.testing.assert_allclose(left.theta, right.theta, rtol=1e-6, atol=1e-9)


def test_a_sample_is_parted_alike_every_time_and_its_classes_are_mixed() -> None:
    spec = linear.AdaGrad(n_features=4, learning_rates=(0.1, 1.0), l1=0.0, l2=0.0)
    state = learned(spec, binary(2_000), [0, 2_000])
    sample = Sample.of(spec, binary(2_000)).estimate(spec)
    rows, data = present(spec, sample).placed()
    shape = shape_of_tables(spec, state.moments, rows, 2_000.0)
    drills = [
        Drill.of(
            spec, Columns.of(spec, state.status), shape, data, data.weight, Sums(stepped=9.0, stepped_squares=18.0)
        )
        for _ in range(2)
    ]
    first, second = drills
    np.testing.assert_array_equal(first.train.x, second.train.x)
    assert first.train.label.size == 1_500
    assert first.held.label.size == 500
    assert np.count_nonzero(np.diff(first.train.label)) > 300  # the sample itself has its classes one after the other
    assert first.weight.mean() == pytest.approx(2.0)  # what rows weigh to runs
    constant = first.constant(5)
    share = np.average(first.train.label, weights=first.weight)
    assert constant.theta[-1, 0] == pytest.approx(np.log(share / (1.0 - share)), abs=0.01)
