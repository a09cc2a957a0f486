"""Quantiles against numpy's, over many decades, and where it is easy to get wrong."""

import itertools
from functools import reduce

import numpy as np
import pytest

from beam_ml import kernels
from beam_ml.algorithms import quantile, spec_from
from beam_ml.algorithms.quantile import QUANTILE
from beam_ml.algorithms.quantile.histogram import errors
from beam_ml.core import metrics
from beam_ml.core.arrays import identical
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue

Q = (0.0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0)


def state_of(x, weight=None, batch_rows=97, **options):
    spec = quantile.Spec(n_features=x.shape[1], **options)
    state = QUANTILE.init(spec)
    for start in range(0, len(x), batch_rows):
        part = slice(start, start + batch_rows)
        batch = Batch.dense(x[part], weight=None if weight is None else weight[part])
        state = QUANTILE.accumulate(spec, state, batch, None)
    return spec, state


def derive(spec, state, model_spec):
    return QUANTILE.models[model_spec.kind].derive(spec, model_spec, state, None)


def columns(n=5000, seed=0):
    """Scales and shapes as they come: normal, log-normal of both signs, tiny, huge, whole numbers with zeros, one value."""
    rng = np.random.default_rng(seed)
    heavy = np.exp(3.0 * rng.normal(size=n))
    return np.stack(
        [
            rng.normal(size=n),
            heavy * rng.choice([-1.0, 1.0], n),
            1e-290 * heavy,
            -1e250 * heavy,
            rng.poisson(1.0, n).astype(float),
            np.full(n, 3.7),
        ],
        axis=1,
    )


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.2])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_quantile_is_within_the_relative_error_of_numpys(alpha, dtype):
    x = columns()[:, [0, 1, 4, 5]].astype(dtype) if dtype is np.float32 else columns()
    spec, state = state_of(x, relative_error=alpha, max_buckets=65_536)
    model = derive(spec, state, quantile.Quantiles(q=Q))
    exact = np.quantile(x.astype(np.float64), Q, axis=0, method="inverted_cdf").T
    assert np.all(np.abs(model.value - exact) <= alpha * np.abs(exact) * (1 + 1e-9))
    assert model.relative_error.tolist() == [alpha] * x.shape[1]


def test_weighted_quantiles_equal_those_of_copies():
    x, weight = columns(400), np.random.default_rng(1).integers(0, 4, 400).astype(float)
    _, state = state_of(x, weight)
    _, copies = state_of(np.repeat(x, weight.astype(int), axis=0))
    assert identical(state, copies)


def test_counts_of_whole_weights_do_not_depend_on_order_or_grouping():
    x = columns(3000)
    spec = quantile.Spec(n_features=6, max_buckets=64)
    parts = [QUANTILE.accumulate(spec, QUANTILE.empty(spec), Batch.dense(p), None) for p in np.array_split(x, 4)]
    merged = [reduce(lambda a, b: QUANTILE.merge(spec, a, b), order) for order in itertools.permutations(parts)]
    pairs = QUANTILE.merge(spec, QUANTILE.merge(spec, parts[3], parts[0]), QUANTILE.merge(spec, parts[2], parts[1]))
    whole = QUANTILE.accumulate(spec, QUANTILE.empty(spec), Batch.dense(x), None)
    assert whole.level.max() >= 3  # the bound is at work
    assert all(identical(one, whole) for one in [*merged, pairs])


def test_few_buckets_cost_accuracy_which_the_model_states():
    x = columns()
    spec, state = state_of(x, max_buckets=64)
    model = derive(spec, state, quantile.Quantiles(q=Q))
    assert np.bincount(state.column).max() <= 64
    exact = np.quantile(x, Q, axis=0, method="inverted_cdf").T
    assert np.all(np.abs(model.value - exact) <= model.relative_error[:, None] * np.abs(exact) * (1 + 1e-9))
    assert model.relative_error[1] > 0.05
    assert model.relative_error[5] == 0.01
    assert model.relative_error.tolist() == errors(spec, state).tolist()


def test_a_bucket_is_never_wider_than_the_error_allows():
    """Of many magnitudes, the smallest and the largest with one code are within γ of each other."""
    alpha = 0.01
    spec = quantile.Spec(n_features=1, relative_error=alpha)
    x = np.exp(np.linspace(-1.0, 1.0, 200_001))
    held = {}
    for value, code in zip(x, codes_of(spec, x), strict=True):
        low, high = held.get(code, (value, value))
        held[code] = min(low, value), max(high, value)
    widest = max(high / low for low, high in held.values())
    assert widest <= (1 + alpha) / (1 - alpha)
    assert len(held) <= 1.02 * 2.0 / np.log((1 + alpha) / (1 - alpha)) + 1  # and hardly more of them than need be


def codes_of(spec, x):
    partials = [
        QUANTILE.accumulate(spec, QUANTILE.empty(spec), Batch.dense(part[:, None]), None)
        for part in np.array_split(x, 3)
    ]
    codes = np.concatenate([np.repeat(p.code, p.count.astype(int)) for p in partials])
    return codes


def test_subnormal_values_count_as_zero_and_the_largest_keep_their_code():
    x = np.array([[5e-324], [-5e-324], [0.0], [-0.0], [1.7976931348623157e308], [-1.7976931348623157e308]])
    spec, state = state_of(x)
    assert state.count.tolist() == [1.0, 4.0, 1.0]
    model = derive(spec, state, quantile.Quantiles(q=[0.0, 0.5, 1.0]))
    np.testing.assert_allclose(model.value, [[-1.7976931348623157e308, 0.0, 1.7976931348623157e308]], rtol=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    spec = quantile.Spec(n_features=2)
    with pytest.raises(InvalidBatch, match=r"^quantile needs finite values; got a batch of 2 rows with 1 that are NaN"):
        QUANTILE.accumulate(spec, QUANTILE.empty(spec), Batch.dense([[1.0, value], [1.0, 2.0]]), None)


def test_forgetting_ages_the_counts_and_drops_what_weighs_nothing_any_more():
    spec, old = state_of(np.full((1000, 1), 5.0))
    _, new = state_of(np.full((10, 1), 50.0))
    merged = QUANTILE.merge(spec, QUANTILE.scale(spec, old, 1e-3), new)
    assert derive(spec, merged, quantile.Quantiles(q=[0.5])).value.round(0).tolist() == [[50.0]]
    aged = QUANTILE.scale(spec, merged, 1e-99)
    assert aged.count.size == 2
    aged = QUANTILE.scale(spec, aged, 0.1 * 1e-1)  # 1e-101 of 1, of 10
    assert aged.count.size <= 1
    assert QUANTILE.weight(QUANTILE.scale(spec, aged, 0.0)) == 0.0


def test_buckets_hold_equal_shares():
    x = columns()[:, :2]
    spec, state = state_of(x, relative_error=0.001)
    model = derive(spec, state, quantile.Buckets(n=8))
    found = QUANTILE.models["buckets"].predict(model, Batch.dense(x))["bucket"]
    for j in range(2):
        shares = np.bincount(found[:, j], minlength=8) / len(x)
        np.testing.assert_allclose(shares, 1 / 8, atol=0.005)
    assert model.bounds.shape == (2, 7)
    assert model.middle.shape == (2, 8)


def test_robust_scale_equals_scikit_learns():
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    x = columns()[:, [0, 1]] + 10.0
    spec, state = state_of(x, relative_error=0.001)
    model = derive(spec, state, quantile.RobustScale())
    reference = preprocessing.RobustScaler().fit(x)
    np.testing.assert_allclose(model.centre, reference.center_, rtol=0.003)
    np.testing.assert_allclose(model.scale, reference.scale_, rtol=0.02)
    scaled = QUANTILE.models["robust_scale"].predict(model, Batch.dense(x))["scaled"]
    np.testing.assert_allclose(np.median(scaled, axis=0), 0.0, atol=0.03)


def test_a_constant_column_is_scaled_by_one():
    spec, state = state_of(np.full((5, 1), 7.0))
    model = derive(spec, state, quantile.RobustScale())
    assert (model.centre.tolist(), model.scale.tolist()) == ([7.0], [1.0])


def test_ranks_are_linear_between_quantiles():
    spec, state = state_of(np.arange(1.0, 1001.0)[:, None], relative_error=0.001)
    model = derive(spec, state, quantile.Quantiles(q=[0.1, 0.5, 0.9]))
    rows = Batch.dense([[-5.0], [300.0], [500.0], [1e9]])
    rank = QUANTILE.models["quantiles"].predict(model, rows)["rank"].ravel()
    np.testing.assert_allclose(rank, [0.1, 0.3, 0.5, 0.9], atol=0.002)


def test_the_measure_is_the_distance_to_the_nearest_quantile():
    spec, state = state_of(np.array([[1.0], [3.0], [8.0]]), relative_error=0.001)
    kind = QUANTILE.models["quantiles"]
    for q, expected in (([0.0, 0.5, 1.0], 1.0), ([0.5], 2.5)):
        model = derive(spec, state, quantile.Quantiles(q=q))
        found = metrics.compute(kind.measure(model, Batch.dense([[0.0], [4.0], [9.0], [2.0]])))
        exact = np.array([1.0, 3.0, 8.0]) if len(q) == 3 else np.array([3.0])
        expected = np.mean([min((v - exact) ** 2) for v in (0.0, 4.0, 9.0, 2.0)])
        assert found["msd"] == pytest.approx(expected, rel=0.02)


def test_settings_are_refused_by_one_sentence():
    with pytest.raises(InvalidValue, match=r"^quantile\.Quantiles\.q must rise; got \[0\.5, 0\.5\]\.$"):
        quantile.Quantiles(q=[0.5, 0.5])
    with pytest.raises(InvalidValue, match=r"^quantile\.Quantiles\.q\.0 must be <= 1\.0; got 1\.5\.$"):
        quantile.Quantiles(q=[1.5])
    with pytest.raises(InvalidValue, match=r"^quantile\.Quantiles\.q must name 1 to 10,000 shares; got \[\]\.$"):
        quantile.Quantiles(q=[])
    with pytest.raises(InvalidValue, match=r"^quantile\.Spec\.relative_error must be >= 0\.001; got 0\.$"):
        quantile.Spec(n_features=1, relative_error=0)
    assert spec_from({"algorithm": "quantile", "n_features": 2}) == quantile.Spec(n_features=2)


def test_derive_needs_rows_and_another_width_is_refused():
    spec = quantile.Spec(n_features=2)
    for model_spec in (quantile.Quantiles(), quantile.Buckets(), quantile.RobustScale()):
        with pytest.raises(DeriveRefused, match=rf"^{model_spec.called} needs rows of positive weight"):
            derive(spec, QUANTILE.empty(spec), model_spec)
        _, state = state_of(np.ones((3, 2)))
        kind = QUANTILE.models[model_spec.kind]
        with pytest.raises(InvalidBatch, match=r"^A quantile model takes 2 columns; got a batch of 3\.$"):
            kind.predict(derive(spec, state, model_spec), Batch.dense([[1.0, 2.0, 3.0]]))


@pytest.mark.parametrize(
    "change",
    [
        {"column": np.array([0, 0], np.int32)},
        {"column": np.array([1, 0], np.int32)},
        {"column": np.array([0, 9], np.int32)},
        {"count": np.array([1.0, np.nan])},
        {"count": np.array([1.0, -1.0])},
        {"level": np.array([0, 70])},
        {"low": np.array([5.0, 5.0])},
    ],
)
def test_a_state_that_no_rows_can_have_derives_nothing(change):
    spec, state = state_of(np.array([[1.0, 2.0]]))
    forged = quantile.Partial(**{**vars(state), **change})
    with pytest.raises(DeriveRefused, match="needs the buckets of every column"):
        derive(spec, forged, quantile.Quantiles())


def test_the_kernel_counts_what_numpy_counts():
    rng = np.random.default_rng(3)
    x, weight = rng.normal(size=(500, 3)), rng.uniform(0.5, 2.0, 500)
    column, code, count, wrong = kernels.quantile.buckets.counted(x, weight, 35.0)
    assert wrong == 0
    a, b, c = kernels.quantile.buckets.CUBIC
    mantissa, exponent = np.frexp(np.abs(x))
    s = 2.0 * mantissa - 1.0
    keys = np.floor((((a * s + b) * s + c) * s + (exponent - 1)) * 35.0).astype(int) + kernels.quantile.buckets.OFFSET
    keys = np.where(x > 0, keys, -keys)
    at = 0
    for j in range(3):
        codes, places = np.unique(keys[:, j], return_inverse=True)
        mine = slice(at, at + codes.size)
        assert code[mine].tolist() == codes.tolist()
        np.testing.assert_allclose(count[mine], np.bincount(places, weight), rtol=1e-12)
        assert set(column[mine].tolist()) == {j}
        at += codes.size
    assert at == code.size
