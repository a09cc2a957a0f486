"""`linear.AdaGrad` learning: shards, forms, units, penalties, weights, packing, forgetting."""

import dataclasses
from collections.abc import Iterator
from functools import reduce

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import entropy

from beam_ml import Batch, fit, linear, merge
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator, merge_all
from beam_ml.core.arrays import close
from beam_ml.core.batch import Origin
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import compute
from beam_ml.core.refresh import Plan, refresh
from beam_ml.testing.laws import check_algorithm
from beam_ml.testing.strategies import World
from tests.algorithms.linear.adagrad.support import (
    ALGORITHM,
    PLAIN,
    SPECS,
    binary,
    grown,
    learned,
    measured,
    model_of,
    sparse_of,
)


@pytest.mark.parametrize("spec", SPECS, ids=["packed", "regression", "multiclass", "sparse"])
def test_one_shard_in_windows_is_the_sequential_run(spec: linear.AdaGrad) -> None:
    rows = World(seed=1, sparse=spec.sparse).batch(spec, 1_600)
    whole, windows = learned(spec, rows, [0, 1_600]), learned(spec, rows, [0, 160, 480, 1_120, 1_600])
    for name in ("theta", "squares", "moments", "mass", "total"):
        a, b = getattr(whole, name), getattr(windows, name)
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9 * np.abs(a).max(), err_msg=name)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_sixteen_windows_of_32_shards_cost_less_than_a_twentieth_of_the_loss(task: str, seed: int) -> None:
    spec = linear.AdaGrad(n_features=6, task=task, n_classes=4 if task == "multiclass" else 2, **PLAIN)
    world = World(seed=seed)
    rows, held_out = world.batch(spec, 12_800), world.batch(spec, 4_000, 1)
    bounds = [0, 400, 800, 1_600, *range(2_400, 12_801, 800)]
    name = "mse" if task == "regression" else "log_loss"
    one, many = (measured(model_of(spec, learned(spec, rows, bounds, k)), held_out)[name] for k in (1, 32))
    assert many < 1.05 * one


def test_laws_hold_on_sparse_rows() -> None:
    spec = linear.AdaGrad(n_features=5, sparse=True, learning_rates=(0.1, 0.4), l1=(0.0, 1e-3), l2=0.0)
    check_algorithm(ALGORITHM, spec, [linear.Variant(index=3)], sparse=True, examples=8)


def test_laws_hold_without_normalising_and_with_class_weights() -> None:
    spec = linear.AdaGrad(
        n_features=3, task="multiclass", n_classes=3, loss="hinge", normalize=False, use_bias=False,
        balance_multiclass_weights=True, **PLAIN,
    )  # fmt: skip
    for name in ("identity", "commutative", "associative", "conservation", "decay", "zero weight", "predictions"):
        from beam_ml.testing.laws import laws_for

        dict(laws_for(ALGORITHM, spec, [linear.Variant()], examples=6))[name]()


class TestForms:
    def test_csr_rows_give_what_dense_rows_give(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(600, 7)) * (rng.random((600, 7)) < 0.4)
        dense = Batch.dense(x, label=(x[:, 0] + rng.normal(size=600) > 0).astype(float))
        for sparse in (False, True):
            spec = linear.AdaGrad(n_features=7, sparse=sparse, learning_rates=(0.1, 0.5), l1=(0.0, 1e-3), l2=1e-3)
            a, b = (learned(spec, rows, [0, 200, 600], 3) for rows in (dense, sparse_of(dense)))
            np.testing.assert_allclose(a.theta, b.theta, rtol=1e-9, atol=1e-12)
            p, q = (
                ALGORITHM.models["variant"].predict(model_of(spec, a, 2), rows) for rows in (dense, sparse_of(dense))
            )
            np.testing.assert_allclose(p["score"], q["score"], rtol=1e-9)

    def test_dense_and_sparse_kernels_agree_where_nothing_is_normalised(self) -> None:
        rows = binary(800)
        specs = (linear.AdaGrad(n_features=4, normalize=False, sparse=s, l1=(0.0, 1e-2), l2=0.0) for s in (False, True))
        a, b = (learned(spec, rows, [0, 800]) for spec in specs)
        np.testing.assert_allclose(a.theta, b.theta, rtol=1e-9, atol=1e-12)

    def test_unsorted_and_duplicate_columns_are_summed(self) -> None:
        spec = linear.AdaGrad(n_features=5, sparse=True, **PLAIN)
        tidy = Batch.csr([0, 2, 3, 3], [1, 4, 0], [3.0, 1.0, 2.0], 5, label=[1, 0, 1])
        messy = Batch.csr([0, 3, 4, 4], [4, 1, 1, 0], [1.0, 1.0, 2.0, 2.0], 5, label=[1, 0, 1])
        a, b = (learned(spec, rows, [0, 3]) for rows in (tidy, messy))
        np.testing.assert_allclose(a.theta, b.theta, rtol=1e-12)
        np.testing.assert_allclose(a.moments, b.moments, rtol=1e-12)

    def test_an_empty_row_moves_only_the_bias(self) -> None:
        spec = linear.AdaGrad(n_features=3, sparse=True, **PLAIN)
        state = learned(spec, Batch.csr([0, 0, 0], [], [], 3, label=[1, 1]), [0, 2])
        assert state.theta[-1, 0, 0] > 0
        assert not state.theta[:-1].any()

    def test_wide_rows_touch_only_their_columns(self) -> None:
        d = 500_000
        spec = linear.AdaGrad(n_features=d, sparse=True, **PLAIN)
        rows = Batch.csr([0, 2, 3], [7, 499_999, 7], [1.0, 2.0, 1.0], d, label=[1, 1])
        partial = ALGORITHM.accumulate(spec, ALGORITHM.empty(spec), rows, None)
        assert partial.open_rows.tolist() == [7, 499_999, d]
        other = ALGORITHM.accumulate(spec, ALGORITHM.empty(spec), rows.take([1]), None)
        assert ALGORITHM.merge(spec, partial, other).closed_rows.tolist() == [7, 499_999, d]
        state = ALGORITHM.fold(spec, ALGORITHM.init(spec), partial, None)
        assert state.rows.tolist() == [7, 499_999, d]
        assert state.theta[:-1, 0, 0].all()

    def test_wide_csr_rows_need_a_sparse_spec(self) -> None:
        spec = linear.AdaGrad(n_features=100_000)
        rows = Batch.csr([0, 1], [5], [1.0], 100_000, label=[1])
        with pytest.raises(linear_error(), match=r"^linear\.AdaGrad\.sparse must be true .* 100,000 features\.$"):
            ALGORITHM.accumulate(spec, ALGORITHM.empty(spec), rows, None)


def linear_error() -> type[Exception]:
    from beam_ml.errors import InvalidBatch

    return InvalidBatch


class TestUnits:
    @pytest.mark.parametrize("factor", [1e-6, 1e6])
    def test_units_of_features_do_not_matter(self, factor: float) -> None:
        rows = binary(2_000)
        scaled = rows.replace(X=rows.dense_x * factor)
        for sparse in (False, True):
            spec = linear.AdaGrad(n_features=4, sparse=sparse, l1=(0.0, 1e-3), l2=1e-3)
            a, b = (learned(spec, each, [0, 500, 2_000], 2) for each in (rows, scaled))
            np.testing.assert_allclose(
                a.theta[:-1], b.theta[:-1] * factor, rtol=1e-6, atol=1e-9 * np.abs(a.theta).max()
            )

    def test_an_offset_of_dense_features_does_not_matter(self) -> None:
        spec = linear.AdaGrad(n_features=4, learning_rates=(0.1, 0.3), l1=(0.0, 1e-3), l2=0.0)
        near, far = binary(3_000), binary(3_000, offset=1e8)
        states = [learned(spec, rows, [0, 500, 3_000], 4) for rows in (near, far)]
        losses = [measured(model_of(spec, s, 1), rows)["log_loss"] for s, rows in zip(states, (near, far), strict=True)]
        assert abs(losses[0] - losses[1]) < 1e-4

    def test_units_and_offset_of_real_labels_do_not_matter(self) -> None:
        rng = np.random.default_rng(4)
        x = rng.normal(size=(4_000, 3))
        y = x @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=4_000)
        spec = linear.AdaGrad(n_features=3, task="regression", learning_rates=0.5, l1=0.0, l2=0.0)
        plain = learned(spec, Batch.dense(x, label=y), [0, 500, 4_000], 2)
        moved = learned(spec, Batch.dense(x, label=1e5 * y + 1e7), [0, 500, 4_000], 2)
        a, b = model_of(spec, plain), model_of(spec, moved)
        np.testing.assert_allclose(b.coefficients, 1e5 * a.coefficients, rtol=1e-5)
        np.testing.assert_allclose(a.coefficients[:, 0], [1.0, -2.0, 0.5], atol=0.02)

    def test_a_rare_indicator_learns_as_fast_as_a_frequent_one(self) -> None:
        spec = linear.AdaGrad(n_features=2, sparse=True, **PLAIN)
        # Both labels come: a step is in proportion to the residual, which must not be another by then.
        label = np.append(np.random.default_rng(5).integers(0, 2, 99), 1.0)
        rows = Batch.csr(np.arange(101), [0] * 99 + [1], np.ones(100), 2, label=label)
        first = learned(spec, rows.take(slice(99, 100)), [0, 1]).theta[1, 0, 0]
        late = learned(spec, rows, [0, 99, 100]).theta[1, 0, 0]
        assert 0.5 * first < late <= 1.5 * first


class TestLosses:
    @pytest.mark.parametrize("loss", ["squared", "absolute", "huber", "quantile", "eps_insensitive_squared",
                                      "eps_insensitive_absolute"])  # fmt: skip
    def test_regression_finds_the_line(self, loss: str) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(20_000, 2))
        y = 3.0 + x @ [2.0, -1.0] + 0.3 * rng.normal(size=20_000)
        spec = linear.AdaGrad(n_features=2, task="regression", loss=loss, learning_rates=0.3, l1=0.0, l2=0.0)
        model = model_of(spec, learned(spec, Batch.dense(x, label=y), [0, 1_000, 20_000], 4))
        found = np.append(model.coefficients[:, 0], model.intercept - model.origin @ model.coefficients)
        np.testing.assert_allclose(found, [2.0, -1.0, 3.0], atol=0.06)

    def test_a_quantile_is_exceeded_as_often_as_it_says(self) -> None:
        rng = np.random.default_rng(1)
        x = rng.normal(size=(30_000, 1))
        y = x[:, 0] + rng.exponential(size=30_000)
        spec = linear.AdaGrad(n_features=1, task="regression", loss="quantile", quantile=0.9, **PLAIN)
        rows = Batch.dense(x, label=y)
        score = ALGORITHM.models["variant"].predict(model_of(spec, learned(spec, rows, [0, 2_000, 30_000])), rows)[
            "score"
        ]
        assert abs(np.mean(y <= score) - 0.9) < 0.015

    def test_huber_withstands_outliers(self) -> None:
        rng = np.random.default_rng(2)
        x = rng.normal(size=(10_000, 1))
        y = 2.0 * x[:, 0]
        y[rng.random(10_000) < 0.05] += 100.0
        gaps = []
        for loss in ("huber", "squared"):
            spec = linear.AdaGrad(n_features=1, task="regression", loss=loss, huber_delta=0.05, learning_rates=0.3, l1=0.0,
                                  l2=0.0)  # fmt: skip
            model = model_of(spec, learned(spec, Batch.dense(x, label=y), [0, 10_000]))
            gaps.append(abs(float(model.intercept[0]) - float(model.origin @ model.coefficients[:, 0])))
        assert gaps[0] < 0.2 * gaps[1]

    @pytest.mark.parametrize("loss", ["softmax", "hinge"])
    def test_many_classes(self, loss: str) -> None:
        rng = np.random.default_rng(3)
        centres = rng.normal(size=(5, 6)) * 3
        y = rng.integers(0, 5, 8_000)
        rows = Batch.dense(centres[y] + rng.normal(size=(8_000, 6)), label=y)
        spec = linear.AdaGrad(n_features=6, task="multiclass", n_classes=5, loss=loss, **PLAIN)
        found = measured(model_of(spec, learned(spec, rows.take(slice(0, 6_000)), [0, 1_000, 6_000], 8)),
                         rows.take(slice(6_000, 8_000)))  # fmt: skip
        assert found["accuracy"] > 0.97
        assert found["macro_f"] > 0.97
        assert found["top_k_accuracy"] > 0.99

    @pytest.mark.parametrize("shards", [1, 8, 64])
    def test_hinge_separates(self, shards: int) -> None:
        """Classes that a plane parts: on noisy ones, of which a third is positive, hinge's best is to say no to all."""

        def accuracy(loss: str) -> float:
            spec = linear.AdaGrad(n_features=4, loss=loss, **PLAIN)
            state = learned(spec, parted(8_000, 0), [0, 1_000, 3_000, 8_000], shards)
            return measured(model_of(spec, state), parted(4_000, 7))["accuracy"]

        assert accuracy("hinge") > max(0.97, accuracy("logistic") - 0.01)


def parted(n: int, seed: int) -> Batch:
    x = np.random.default_rng(seed).normal(size=(n, 4))
    return Batch.dense(x, label=(x @ [1.0, -2.0, 0.5, 1.5] > 0.5).astype(float))


class TestPenalties:
    def test_l1_gives_exact_zeros_and_keeps_what_matters(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(20_000, 20))
        y = (rng.random(20_000) < expit(2.0 * x[:, 0] - x[:, 1])).astype(float)
        spec = linear.AdaGrad(n_features=20, learning_rates=0.1, l1=(0.0, 0.01), l2=0.0)
        for shards in (1, 16):
            state = learned(spec, Batch.dense(x, label=y), [0, 1_000, 3_000, 8_000, 20_000], shards)
            assert np.all(state.theta[2:-1, 0] != 0)
            assert np.count_nonzero(state.theta[2:-1, 1] == 0.0) >= 17
            assert state.theta[0, 1, 0] > 1.0
            assert state.theta[1, 1, 0] < -0.5

    @pytest.mark.parametrize("shards", [1, 32])
    @pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.1), (0.03, 0.0), (0.02, 0.05)])
    def test_the_penalised_objective_is_minimised(self, l1: float, l2: float, shards: int) -> None:
        """Against sub-gradient conditions at the optimum: loss/n + l1·Σ s|β| + l2/2·Σ s²β², with s of the state."""
        rng = np.random.default_rng(1)
        x = rng.normal(size=(60_000, 5)) * [1.0, 2.0, 0.5, 1.0, 1.0]
        y = (rng.random(60_000) < expit(x @ [1.0, -0.4, 2.0, 0.02, 0.0])).astype(float)
        rows = Batch.dense(x, label=y)
        spec = linear.AdaGrad(n_features=5, learning_rates=0.1, l1=l1, l2=l2)
        state = learned(spec, rows, [0, 2_000, *range(5_000, 60_001, 5_000)], shards)
        model = model_of(spec, state)
        s = np.sqrt(state.moments[:-1, 4] / state.moments[:-1, 2])
        beta = model.coefficients[:, 0]
        score = ALGORITHM.models["variant"].predict(model, rows)["score"]
        slope = (x - model.origin).T @ (score - y) / len(y) / s + l2 * s * beta
        on = beta != 0
        np.testing.assert_allclose(slope[on], -l1 * np.sign(beta[on]), atol=0.006)
        assert np.all(np.abs(slope[~on]) <= l1 + 0.006)

    def test_the_bias_is_not_penalised_and_may_be_left_out(self) -> None:
        rows = Batch.dense(np.random.default_rng(0).normal(size=(4_000, 1)), label=np.arange(4_000) % 10 == 0)
        spec = linear.AdaGrad(n_features=1, learning_rates=0.3, l1=10.0, l2=10.0)
        model = model_of(spec, learned(spec, rows, [0, 4_000]))
        assert model.coefficients[0, 0] == 0.0
        assert abs(expit(model.intercept[0]) - 0.1) < 0.03
        bare = linear.AdaGrad(n_features=1, use_bias=False, **PLAIN)
        assert model_of(bare, learned(bare, rows, [0, 2_000, 4_000], 3)).intercept[0] == 0.0

    @pytest.mark.parametrize("penalty", [0.0, 1e-3])
    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
    def test_without_a_bias_nothing_is_centred(self, task: str, sparse: bool, penalty: float) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal([3.0, 0.0, -2.0], 1.0, (8_000, 3))
        truth = x @ [12.0, 5.0, -7.0]  # about 50
        label = {"regression": truth, "binary": truth > 50, "multiclass": np.digitize(truth, [40, 60])}[task]
        rows = Batch.dense(x, label=label)
        rows = sparse_of(rows) if sparse else rows
        spec = linear.AdaGrad(
            n_features=3, task=task, n_classes=3 if task == "multiclass" else 2, use_bias=False, sparse=sparse,
            learning_rates=0.7, l1=penalty, l2=penalty,
        )  # fmt: skip
        state = learned(spec, rows, [0, 500, 2_000, 4_000, 8_000], 3)
        for one in (state, ALGORITHM.merge_states(spec, state, learned(spec, rows, [0, 4_000]))):
            model = model_of(spec, one)
            np.testing.assert_array_equal(model.intercept, np.zeros(spec.n_outputs))
            nothing = ALGORITHM.models["variant"].predict(model, Batch.dense(np.zeros((1, 3))))["score"]
            np.testing.assert_allclose(nothing, {"regression": 0.0, "binary": 0.5, "multiclass": 1 / 3}[task])
            if task == "regression":
                np.testing.assert_allclose(model.coefficients[:, 0], [12.0, 5.0, -7.0], atol=0.2 if penalty else 0.05)

    def test_without_a_bias_a_column_of_ones_is_one(self) -> None:
        rng = np.random.default_rng(0)
        x = np.column_stack([rng.normal(size=8_000), np.ones(8_000)])
        spec = linear.AdaGrad(n_features=2, task="regression", use_bias=False, learning_rates=0.5, l1=0.0, l2=0.0)
        state = learned(spec, Batch.dense(x, label=50.0 + 3.0 * x[:, 0]), [0, 2_000, 8_000])
        np.testing.assert_allclose(model_of(spec, state).coefficients[:, 0], [3.0, 50.0], atol=0.1)

    def test_the_bias_has_a_rate_of_its_own(self) -> None:
        rows = Batch.dense(np.zeros((16, 1)), label=np.ones(16))
        steps = [
            learned(linear.AdaGrad(n_features=1, bias_rate=rate, **PLAIN), rows, [0, 16]).theta[-1, 0, 0]
            for rate in (1.0, 10.0)
        ]
        assert steps[1] == pytest.approx(10 * steps[0])


class TestWeights:
    def test_weights_scale_nothing_but_each_other(self) -> None:
        spec = linear.AdaGrad(n_features=4, learning_rates=0.2, l1=1e-3, l2=1e-3)
        rows = binary(1_000)
        a, b = (learned(spec, rows.replace(weight=np.full(1_000, w)), [0, 400, 1_000], 2) for w in (1.0, 1e-3))
        np.testing.assert_allclose(a.theta, b.theta, rtol=1e-6, atol=1e-9)

    def test_positive_weight_equals_row_weights(self) -> None:
        rows = binary(1_000)
        assert rows.label is not None
        weighted = rows.replace(weight=np.where(rows.label == 1, 4.0, 1.0))
        plain = linear.AdaGrad(n_features=4, normalize=False, **PLAIN)
        heavy = linear.AdaGrad(n_features=4, normalize=False, positive_weight=4.0, **PLAIN)
        a, b = learned(plain, weighted, [0, 1_000]), learned(heavy, rows, [0, 1_000])
        np.testing.assert_allclose(a.theta, b.theta, rtol=1e-12)
        assert ALGORITHM.weight(b) == 1_000

    @pytest.mark.parametrize("task", ["binary", "multiclass"])
    def test_balanced_classes_count_alike(self, task: str) -> None:
        rng = np.random.default_rng(0)
        classes = 2 if task == "binary" else 3
        y = rng.choice(classes, 20_000, p=[0.9, 0.1] if classes == 2 else [0.8, 0.15, 0.05])
        rows = Batch.dense(np.zeros((20_000, 1)), label=y)
        balanced = {"positive_weight": "balanced"} if classes == 2 else {"balance_multiclass_weights": True}
        spec = linear.AdaGrad(n_features=1, task=task, n_classes=classes, **PLAIN, **balanced)
        model = model_of(spec, learned(spec, rows, [0, 1_000, 5_000, 20_000], 4))
        score = ALGORITHM.models["variant"].predict(model, rows.take(slice(0, 1)))["score"]
        np.testing.assert_allclose(score, np.full_like(score, 1.0 / classes), atol=0.06)

    def test_class_weights_are_row_weights(self) -> None:
        rng = np.random.default_rng(0)
        y = rng.integers(0, 3, 600).astype(float)
        rows = Batch.dense(rng.normal(size=(600, 2)), label=y)
        spec = {"n_features": 2, "task": "multiclass", "n_classes": 3, "normalize": False, **PLAIN}
        a = learned(linear.AdaGrad(**spec, class_weights=(1.0, 2.0, 5.0)), rows, [0, 600])
        weighted = rows.replace(weight=np.array([1.0, 2.0, 5.0])[y.astype(int)])
        b = learned(linear.AdaGrad(**spec), weighted, [0, 600])
        np.testing.assert_allclose(a.theta, b.theta, rtol=1e-12)


class TestPacking:
    def test_packed_variants_learn_as_alone(self) -> None:
        packed = linear.AdaGrad(n_features=4, learning_rates=(0.05, 0.3), l1=(0.0, 1e-2), l2=(0.0, 1e-2))
        rows = binary(2_000)
        together = learned(packed, rows, [0, 300, 2_000], 8)
        for i, (rate, l1, l2) in enumerate(packed.variants):
            alone = learned(linear.AdaGrad(n_features=4, learning_rates=rate, l1=l1, l2=l2), rows, [0, 300, 2_000], 8)
            np.testing.assert_allclose(together.theta[:, i], alone.theta[:, 0], rtol=1e-7, atol=1e-10)

    def test_the_worse_half_is_dropped_and_stays_as_it_was(self) -> None:
        spec = linear.AdaGrad(
            n_features=4, learning_rates=(1e-5, 0.1, 3e-5, 0.2), l1=0.0, l2=0.0, halve_at="1200, 2100"
        )
        rows = binary(4_000)
        third = learned(spec, rows, [0, 500, 1_000, 1_500])
        assert third.status.tolist() == [1, 0, 1, 0]
        later = learned(spec, rows, [1_500, 2_000, 2_500, 3_000], state=third)
        assert later.status.tolist().count(0) == 1
        np.testing.assert_array_equal(later.theta[:-1, 0], third.theta[:-1, 0])
        lost, same = (model_of(spec, state, 0) for state in (third, later))
        scores = [ALGORITHM.models["variant"].predict(model, rows)["score"] for model in (lost, same)]
        np.testing.assert_allclose(*scores, rtol=1e-12)  # its bias follows the means
        np.testing.assert_array_equal(later.squares[:, 0], third.squares[:, 0])
        best = int(np.flatnonzero(later.status == 0)[0])
        assert not np.array_equal(later.theta[:, best], third.theta[:, best])
        assert int(model_of(spec, later).variant) == best
        report = linear.variants(spec, later)
        assert [entry["status"] for entry in report].count("lost") == 3
        assert report[1]["learning_rate"] == 0.1

    def test_by_default_a_quarter_is_kept_for_good(self) -> None:
        spec = linear.AdaGrad(n_features=4)
        early = learned(spec, binary(5_000), list(range(0, 5_001, 200)))
        assert (early.status == 0).all()  # many small refreshes tell no more than few large ones
        rows = binary(80_000)
        state = learned(spec, rows, list(range(0, 80_001, 10_000)))
        shares = [float(rows.label[:end].mean()) for end in range(10_000, 80_001, 10_000)]
        # Rows of uneven classes tell less: each fold's count by the entropy of all labels so far.
        assert float(state.seen) == pytest.approx(sum(10_000 * entropy([p, 1 - p], base=2) for p in shares))
        assert (state.status == 0).sum() == spec.n_variants // 4

    def test_rows_of_rare_positives_tell_little(self) -> None:
        spec = linear.AdaGrad(n_features=4)
        rng = np.random.default_rng(5)
        x = rng.normal(size=(30_000, 4))
        rare = Batch.dense(x, label=(rng.random(30_000) < 0.008).astype(float))
        state = learned(spec, rare, list(range(0, 30_001, 10_000)))
        assert (state.status == 0).all()  # some 240 positives do not tell sixteen variants apart
        even = learned(spec, rare.replace(label=(x[:, 0] > 0).astype(float)), list(range(0, 30_001, 10_000)))
        assert (even.status == 0).sum() == spec.n_variants // 2

    def test_halving_keeps_one(self) -> None:
        spec = linear.AdaGrad(
            n_features=4, learning_rates=(0.1, 0.2, 0.3), l1=0.0, l2=0.0, halve_at=(700, 1_200, 1_700, 2_200)
        )
        state = learned(spec, binary(4_000), list(range(0, 4_001, 500)))
        assert (state.status == 0).sum() == 1

    def test_a_variant_that_diverges_is_dropped_and_poisons_nothing(self) -> None:
        rows = binary(2_000)
        spec = linear.AdaGrad(n_features=4, learning_rates=(0.1, 1e308), l1=0.0, l2=0.0, halve_at=())
        both = learned(spec, rows, [0, 300, 2_000], 4)
        alone = learned(linear.AdaGrad(n_features=4, **PLAIN), rows, [0, 300, 2_000], 4)
        assert both.status.tolist() == [0, 2]
        assert np.isfinite(both.theta).all()
        np.testing.assert_allclose(both.theta[:, 0], alone.theta[:, 0], rtol=1e-12)
        assert linear.variants(spec, both)[1]["status"] == "diverged"
        with pytest.raises(Exception, match=r"linear\.Variant\.index .* 1 diverged\."):
            model_of(spec, both, 1)

    def test_a_fold_in_which_all_diverge_is_discarded_with_the_reason(self) -> None:
        spec = linear.AdaGrad(n_features=4, learning_rates=1e308, l1=0.0, l2=0.0)
        with pytest.raises(Exception, match=r"3 folds in a row .* every variant of linear\.AdaGrad diverged"):
            fit(spec, [binary(40_000).take(slice(i, i + 1_000)) for i in range(0, 40_000, 1_000)])

    def test_the_best_variant_is_the_one_with_the_least_progressive_loss(self) -> None:
        spec = linear.AdaGrad(n_features=4, learning_rates=(1e-4, 0.1, 1e-3), l1=0.0, l2=0.0, halve_at=())
        rows = binary(3_000)
        assert int(model_of(spec, learned(spec, rows, [0, 500, 1_000, 3_000])).variant) == 1
        first = learned(spec, rows, [0, 3_000])
        assert float(first.loss_weight) == 0.0
        assert float(first.run_weight) == 3_000.0
        assert int(model_of(spec, first).variant) == 1
        again = learned(spec, rows.replace(origin=Origin("files, pass 2", "0")), [0, 3_000])
        assert float(again.run_weight) == 0.0
        assert int(model_of(spec, again, sample=rows).variant) == 1
        assert int(model_of(spec, again).variant) == 0
        wrong = 1.0 - rows.label
        weight = np.repeat([1.0, 0.01], len(rows))
        both = Batch.dense(np.tile(rows.dense_x, (2, 1)), label=np.append(rows.label, wrong), weight=weight)
        assert int(model_of(spec, again, sample=both).variant) == 1, "rows of a sample count by their weights"

    def test_the_length_of_a_step_along_the_mean_of_runs_is_told_by_its_sign(self) -> None:
        spec = linear.AdaGrad(n_features=4, **PLAIN)
        rows = binary(600)
        one, two = (grown(spec, rows.take(part), None) for part in (slice(0, 300), slice(300, 600)))
        first = ALGORITHM.fold(spec, ALGORITHM.init(spec), one, None)
        both = ALGORITHM.fold(spec, ALGORITHM.init(spec), ALGORITHM.merge(spec, one, two), None)
        assert [entry["length"] > 0 for entry in linear.variants(spec, first)] == [True]
        assert [entry["length"] < 0 for entry in linear.variants(spec, both)] == [True]


class TestForgetting:
    def test_half_life_lets_steps_recover(self) -> None:
        """A second slope comes half way, which a constant knows less of than the first; forgetting follows it sooner."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40_000, 2))
        second = np.arange(40_000) >= 20_000
        y = (rng.random(40_000) < expit(2.0 * x[:, 0] + 3.0 * second * x[:, 1])).astype(float)
        time = np.arange(40_000) * 1_000_000
        batches = [
            Batch.dense(x[i : i + 500], label=y[i : i + 500], time=time[i : i + 500]) for i in range(0, 40_000, 500)
        ]
        end = Batch.dense(x[20_000:22_000], label=y[20_000:22_000], time=time[20_000:22_000])
        losses = []
        for half_life in (None, 2_000.0):
            spec = linear.AdaGrad(n_features=2, half_life=half_life, **PLAIN)
            learner = fit(spec, batches[:56], refresh_rows=1_000)
            losses.append(measured(model_of(spec, learner.state), end)["log_loss"])
        assert losses[1] < 0.9 * losses[0]

    def test_parameters_stay_when_weights_fade(self) -> None:
        spec = linear.AdaGrad(n_features=4, half_life="1d", learning_rates=0.1, l1=(0.0, 1e-2), l2=0.0)
        state = learned(spec, binary(1_000), [0, 500, 1_000])
        faded = ALGORITHM.scale(spec, state, 0.125)
        np.testing.assert_array_equal(faded.theta, state.theta)
        np.testing.assert_allclose(faded.squares, state.squares / 8)
        assert ALGORITHM.weight(faded) == pytest.approx(125.0)

    def test_a_fold_after_fading_is_the_run_and_only_then_fades(self) -> None:
        spec = linear.AdaGrad(n_features=4, half_life="1d", learning_rates=0.1, l1=0.0, l2=0.0)
        rows = binary(1_000)
        state = learned(spec, rows, [0, 500])
        partial = grown(spec, rows.take(slice(500, 1_000)), ALGORITHM.anchor(spec, state))
        straight = ALGORITHM.fold(spec, state, partial, None)
        faded = ALGORITHM.fold(spec, ALGORITHM.scale(spec, state, 0.5), partial, None)
        np.testing.assert_allclose(faded.theta[:-1], straight.theta[:-1], rtol=1e-9)
        assert np.all(faded.squares < straight.squares)

    @pytest.mark.parametrize("shards", [1, 2])
    @pytest.mark.parametrize("lags", [False, True])
    @pytest.mark.parametrize("penalty", [0.0, 1e-2])
    def test_a_window_of_no_weight_leaves_no_trace(self, shards: int, lags: bool, penalty: float) -> None:
        spec = linear.AdaGrad(n_features=4, half_life=1.0, learning_rates=0.2, l1=0.1 * penalty, l2=penalty)
        rows = binary(2_400, offset=3.0)

        def window(begin: int, time: int, weight: float) -> Batch:
            some = rows.take(slice(begin, begin + 1_200))
            place = np.arange(begin, begin + 1_200) + (0 if weight else 10_000)
            return some.replace(
                weight=np.full(1_200, weight), time=np.full(1_200, time * 1_000_000), origin=Origin("files", "a"),
                position=place,
            )  # fmt: skip

        def states(windows: list[Batch]) -> Iterator[Learner]:
            learner, anchors = learners.new(ALGORITHM, spec), [(0, None)]
            for at, one in enumerate(windows):
                number, anchor = anchors[-2 if lags and at == 2 else -1]
                parts = []
                for mine in np.array_split(np.arange(1_200), shards):
                    accumulator = Accumulator(ALGORITHM, spec, number, anchor)
                    accumulator.add(one.take(mine))
                    parts.append(accumulator.result())
                learner, _ = refresh(ALGORITHM, learner, None, merge_all(ALGORITHM, spec, parts), Plan(models={}))
                anchors.append((learner.version, ALGORITHM.anchor(spec, learner.state)))
                yield learner

        first, last = window(0, 0, 1.0), window(1_200, 2, 1.0)
        *_, plain = states([first, last])
        *_, empty, with_it = states([first, window(0, 1, 0.0), last])
        assert float(empty.state.faded) == 0.5
        assert with_it.dated.time == plain.dated.time == 2_000_000
        assert close(with_it.state, plain.state, rtol=1e-9)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_fold_adds_what_the_window_counted(shards: int) -> None:
    spec = linear.AdaGrad(n_features=4, learning_rates=(0.1, 0.3), l1=0.0, l2=0.0, halve_at=())
    first, window = (binary(n, seed=n).replace(weight=np.full(n, 0.5)) for n in (1_000, 900))
    before = learned(spec, first, [0, 1_000])
    parts = [grown(spec, window.take(at), ALGORITHM.anchor(spec, before)) for at in np.array_split(range(900), shards)]
    partial = reduce(lambda a, b: ALGORITHM.merge(spec, a, b), parts)
    after = ALGORITHM.fold(spec, before, partial, window)
    for name in ("total", "stepped", "stepped_squares", "norm", "mass"):
        added = getattr(before, name) + getattr(partial, name)
        np.testing.assert_allclose(getattr(after, name), added, rtol=1e-12, err_msg=name)
    # Of P runs each says a P-th about all rows.
    np.testing.assert_allclose(after.run_loss, before.run_loss + partial.loss / shards, rtol=1e-12)
    np.testing.assert_allclose(after.run_weight, before.run_weight + partial.loss_weight / shards, rtol=1e-12)
    np.testing.assert_allclose(after.loss_weight, before.loss_weight + 450.0, rtol=1e-12)
    assert 0 < after.seen - before.seen <= 450.0
    assert after.folds == before.folds + 1


class TestMerging:
    def test_two_days_merge_into_about_what_both_together_give(self) -> None:
        spec = linear.AdaGrad(n_features=4, learning_rates=0.1, l1=(0.0, 1e-3), l2=0.0, halve_at=())
        parts = [binary(10_000, seed=s) for s in (1, 2)]
        days = [fit(spec, [rows.take(slice(i, i + 1_000)) for i in range(0, 10_000, 1_000)]) for rows in parts]
        both = merge(*days)
        assert both.progress.rows == 20_000
        held_out = binary(10_000, seed=3)
        losses = [measured(model_of(spec, learner.state), held_out)["log_loss"] for learner in (*days, both)]
        assert losses[2] < 1.01 * min(losses[:2])

    def test_merging_is_symmetric_and_keeps_what_is_alive(self) -> None:
        spec = linear.AdaGrad(n_features=4, learning_rates=(0.1, 1e-5), l1=0.0, l2=0.0, halve_at=(1_500,))
        a, b = (learned(spec, binary(2_000, seed=s), [0, 1_000, 2_000]) for s in (1, 2))
        left, right = ALGORITHM.merge_states(spec, a, b), ALGORITHM.merge_states(spec, b, a)
        np.testing.assert_allclose(left.theta, right.theta, rtol=1e-12)
        assert left.status.tolist() == [0, 1]
        assert ALGORITHM.weight(left) == 4_000

    @pytest.mark.parametrize("task", ["binary", "regression"])
    def test_what_was_counted_adds_up_and_no_side_comes_first(self, task: str) -> None:
        """Of unequal learners: the second has more folds, rows that weigh less, and labels elsewhere."""
        spec = linear.AdaGrad(
            n_features=4, task=task, averaging=True, learning_rates=(0.1, 0.3), l1=(0.0, 1e-3), l2=0.0, halve_at=()
        )
        rows = [binary(n, seed=n).replace(weight=np.full(n, weight)) for n, weight in ((1_200, 2.0), (2_000, 0.5))]
        if task == "regression":
            rows = [one.replace(label=one.label + one.dense_x[:, 0] + 5.0 * k) for k, one in enumerate(rows)]
        cuts = ([0, 600, 1_200], [0, 500, 900, 2_000])
        a, b = (learned(spec, one, bounds) for one, bounds in zip(rows, cuts, strict=True))
        for samples in ((), rows):
            left = ALGORITHM.merge_states(spec, a, b, *samples)
            assert close(left, ALGORITHM.merge_states(spec, b, a, *samples[::-1]), rtol=1e-9)
            counted = [
                "total", "stepped", "stepped_squares", "norm", "mass", "run_loss", "run_weight", "loss", "loss_weight", "seen",
            ]  # fmt: skip
            for name in counted:
                np.testing.assert_allclose(
                    getattr(left, name), getattr(a, name) + getattr(b, name), rtol=1e-12, err_msg=name
                )
                assert np.all(getattr(left, name) > np.maximum(getattr(a, name), getattr(b, name))), name
            assert left.folds == max(a.folds, b.folds)
            assert np.all(left.average_loss >= (a.average_loss + b.average_loss) * (1.0 - 1e-12))
            at_zero = left.theta == 0
            assert not left.slack[~at_zero].any()
            assert (np.abs(left.slack) <= 1.0).all()

    def test_where_no_variant_is_alive_in_both_those_of_either_learn_on(self) -> None:
        spec = linear.AdaGrad(n_features=4, learning_rates=(0.1, 0.2), l1=0.0, l2=0.0, halve_at=())
        a, b = (learned(spec, binary(500, seed=s), [0, 500]) for s in (1, 2))
        for first, second, both in (([0, 1], [1, 0], [0, 0]), ([0, 1], [0, 0], [0, 1]), ([0, 2], [2, 0], [0, 0])):
            status = [np.array(one, dtype=np.int64) for one in (first, second)]
            states = [dataclasses.replace(one, status=at) for one, at in zip((a, b), status, strict=True)]
            assert ALGORITHM.merge_states(spec, *states).status.tolist() == both

    def test_without_samples_each_coordinate_is_nearer_to_the_learner_that_has_seen_more_of_it(self) -> None:
        spec = linear.AdaGrad(n_features=4, averaging=True, **PLAIN)
        rows = [binary(n, seed=n) for n in (6_000, 500)]
        a, b = (learned(spec, one, [0, len(one)]) for one in rows)
        both = ALGORITHM.merge_states(spec, a, b)
        share = a.squares / (a.squares + b.squares)
        assert share.min() > 0.6
        for name in ("theta", "average"):
            mine, other, merged = (getattr(one, name)[:-1] for one in (a, b, both))
            np.testing.assert_allclose(merged, share[:-1] * mine + (1.0 - share[:-1]) * other, rtol=1e-9)


def test_fit_rejects_bad_rows_by_reason() -> None:
    x = np.zeros((6, 2))
    x[0, 0] = np.nan
    rows = Batch.dense(x, label=[0, 3, np.nan, 1, 0, 1], weight=[1, 1, 1, -1, np.nan, 1])
    learner = fit(linear.AdaGrad(n_features=2), [rows])
    assert learner.progress.rows == 1
    assert learner.progress.rejected == {
        "non-finite feature": 1, "label outside {0, 1}": 1, "missing label": 1, "weight not in [0, inf)": 2,
    }  # fmt: skip


def test_fit_rejects_labels_that_are_no_class_or_not_finite() -> None:
    x = np.random.default_rng(0).normal(size=(60, 2))
    many = linear.AdaGrad(n_features=2, task="multiclass", n_classes=3)
    learner = fit(many, [Batch.dense(x, label=np.resize([0.0, 1.0, 2.0, 3.0, 1.5, -1.0], 60))])
    assert learner.progress.rejected == {"label outside 0 … 2": 30}
    real = linear.AdaGrad(n_features=2, task="regression")
    assert fit(real, [Batch.dense(x, label=np.resize([0.5, np.inf], 60))]).progress.rejected == {
        "label is infinite": 30
    }


@pytest.mark.parametrize(("indices", "text"), [([3], "3 to 3"), ([-1], "-1 to -1")])
def test_columns_outside_the_features_are_refused(indices: list[int], text: str) -> None:
    with pytest.raises(linear_error(), match=rf"Batch\.indices must lie in \[0, 3\); got {text}\."):
        Batch.csr([0, 1], indices, [1.0], 3, label=[1])


class TestStaleAnchors:
    def test_windows_of_one_round_start_from_one_anchor_and_still_learn(self) -> None:
        """Ten windows from one anchor, one run each: adding their moves in full would overshoot tenfold."""
        spec = linear.AdaGrad(n_features=4, **PLAIN)
        rows, held_out = binary(22_000), binary(10_000, seed=3)
        start = learned(spec, rows, [0, 100])
        anchor = ALGORITHM.anchor(spec, start)
        state, losses = start, [measured(model_of(spec, start), held_out)["log_loss"]]
        for begin in range(2_000, 22_000, 2_000):
            window = rows.take(slice(begin, begin + 2_000))
            state = ALGORITHM.fold(spec, state, grown(spec, window, anchor), window)
            losses.append(measured(model_of(spec, state), held_out)["log_loss"])
        fresh = learned(spec, rows, list(range(2_000, 22_001, 2_000)), state=start)
        best = measured(model_of(spec, fresh), held_out)["log_loss"]
        assert max(losses[1:]) < losses[0]
        assert losses[-1] < 1.01 * best

    def test_a_stale_run_whose_way_leads_up_is_left_out(self) -> None:
        spec = linear.AdaGrad(n_features=1, learning_rates=1.0, l1=0.0, l2=0.0)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(4_000, 1))
        rows = Batch.dense(x, label=rng.random(4_000) < expit(3.0 * x[:, 0]))
        start = learned(spec, rows, [0, 16])
        anchor = ALGORITHM.anchor(spec, start)
        there = learned(spec, rows, [16, 1_000, 2_000, 3_000], state=start)
        window = rows.take(slice(3_000, 4_000))
        state = ALGORITHM.fold(spec, there, grown(spec, window, anchor), window)
        before, after = (measured(model_of(spec, one), window)["log_loss"] for one in (there, state))
        assert after <= before + 1e-12
        assert ALGORITHM.weight(state) == 4_000


def rare_culprits(seed: int, n: int = 40_000, ids: int = 3_000) -> Batch:
    """Make rows of an amount and one of many identifiers; a few of these are behind most of the rare positives."""
    rng, culprit = np.random.default_rng(seed), np.random.default_rng(7).random(ids) < 0.03
    who, amount = rng.integers(0, ids, n), rng.normal(size=n)
    label = (rng.random(n) < expit(-5.5 + 4.0 * culprit[who] + 0.8 * amount)).astype(float)
    indices = np.column_stack([np.zeros(n), 1 + who]).astype(np.int32).ravel()
    values = np.column_stack([amount, np.ones(n)]).ravel()
    return Batch.csr(np.arange(0, 2 * n + 1, 2), indices, values, n_features=ids + 1, label=label)


@pytest.mark.parametrize("seed", [3, 6])
def test_two_shards_of_rare_positives_are_as_good_as_one(seed: int) -> None:
    spec = linear.AdaGrad(n_features=3_001, sparse=True)
    rows, fresh = rare_culprits(seed), rare_culprits(100 + seed)
    cuts = [0, 1_000, 2_000, 4_000, *range(8_000, 40_001, 8_000)]
    one, two = (
        compute(ALGORITHM.models["variant"].measure(model_of(spec, learned(spec, rows, cuts, shards)), fresh))[
            "log_loss"
        ]
        for shards in (1, 2)
    )
    assert two < 1.05 * one
