"""Target means beside scikit-learn's, and as features of what learns later."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import TargetEncoder

from beam_ml import Batch, derive, fit, merge, predict, target
from beam_ml.core.algorithm import LawKind
from beam_ml.core.arrays import identical
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue
from beam_ml.features import Features
from beam_ml.formats.block import Block

RNG = np.random.default_rng(11)
N = 5_000
SHOPS = np.array([f"shop {rank}" for rank in RNG.zipf(1.5, N).clip(max=60)])
DAYS = RNG.integers(0, 7, N)
FRAUD = (RNG.random(N) < 0.1 + 0.5 * (SHOPS == "shop 3") + 0.02 * DAYS).astype(float)
CODED = Features(
    numeric=[{"column": "shop", "transform": "code"}, {"column": "day", "transform": "code"}], label="fraud"
)


def block(rows=slice(None)):
    return Block(pa.record_batch({"shop": SHOPS[rows], "day": DAYS[rows], "fraud": FRAUD[rows]}))


def learned(rows=slice(None), **options):
    return fit(target.Spec(n_features=2, buckets=65_536, **options), block(rows), features=CODED)


def encoded(model, rows=slice(None)):
    terms = [model.target("shop", 0), model.target("day", 1)]
    return Features(numeric=terms).to_batch(block(rows))[0].dense_x


@pytest.mark.parametrize("smoothing", [0.5, 10.0])
def test_values_are_those_of_scikit_learn(smoothing):
    model = derive(learned(), target.Means(smoothing=smoothing)).arrays
    rows = np.column_stack([SHOPS.astype(object), DAYS.astype(object)])
    expected = TargetEncoder(smooth=smoothing, target_type="continuous").fit(rows, FRAUD).transform(rows)
    np.testing.assert_allclose(encoded(model), expected, rtol=1e-12)


def test_features_encode_as_the_model_predicts():
    model = derive(learned(slice(0, 3_000)), target.Means())
    later = CODED.to_batch(block(slice(3_000, N)))[0]
    found = predict(model, later)
    np.testing.assert_array_equal(encoded(model.arrays, slice(3_000, N)), found["encoded"])
    np.testing.assert_allclose(found["score"], found["encoded"].mean(axis=1))
    never = Block(pa.record_batch({"shop": ["never seen"], "day": [0]}))
    means = Features(numeric=[model.arrays.target("shop")]).to_batch(never)[0].dense_x
    assert means.tolist() == [[float(model.arrays.mean)]]


def test_rows_encoded_by_means_that_hold_their_own_label_tell_it_and_later_rows_do_not():
    alone = np.array([f"only once {i}" for i in range(400)])
    label = (np.arange(400) % 2).astype(float)
    coded = Features(numeric=[{"column": "c", "transform": "code"}], label="y")
    spec = target.Spec(n_features=1, buckets=65_536)

    def rows(values):
        return Block(pa.record_batch({"c": values, "y": label}))

    model = derive(fit(spec, rows(alone), features=coded), target.Means(smoothing=1.0)).arrays
    leaking = Features(numeric=[model.target("c")]).to_batch(rows(alone))[0].dense_x[:, 0]
    honest = Features(numeric=[model.target("c")]).to_batch(rows(np.char.add(alone, " later")))[0].dense_x[:, 0]
    assert np.corrcoef(leaking, label)[0, 1] > 0.99
    assert abs(np.corrcoef(honest, label)[0, 1]) < 0.2


def test_parts_in_any_order_and_cut_are_one():
    spec = target.Spec(n_features=2, buckets=65_536)
    assert target.TARGET.law(spec).kind is LawKind.EXACT
    whole, parts = learned(), [learned(slice(a, a + 1_000)) for a in range(0, N, 1_000)]
    total = parts[3]
    for k in (1, 4, 0, 2):
        total = merge(total, parts[k])
    np.testing.assert_allclose(total.state.total, whole.state.total, rtol=1e-12)
    assert (total.state.count == whole.state.count).all()


def test_what_is_old_weighs_less():
    day_us = 86_400_000_000
    rows = Batch.dense(np.ones((2, 1)), label=[1.0, 0.0], time=np.array([0, 2 * day_us]))
    spec = target.Spec(n_features=1, buckets=2, half_life="1d")
    state = fit(spec, [rows]).state
    assert (float(state.weight), state.total.sum()) == (1.25, 0.25)


def test_to_remove_nothing_leaves_the_lightest_category_too():
    spec = target.Spec(n_features=1, buckets=16)
    empty = target.TARGET.empty(spec)
    rows = Batch.dense([[1.0], [2.0]], label=[1.0, 1.0], weight=[1e14, 1.0])
    partial = target.TARGET.accumulate(spec, empty, rows, None)
    assert identical(target.TARGET.remove(spec, partial, empty), partial)


def test_what_is_refused():
    spec = target.Spec(n_features=1, buckets=2)
    empty = target.TARGET.empty(spec)
    with pytest.raises(InvalidBatch, match="learns from labels"):
        target.TARGET.accumulate(spec, empty, Batch.dense([[1.0]]), None)
    with pytest.raises(DeriveRefused, match="none yet"):
        target.TARGET.models["means"].derive(spec, target.Means(), empty, None)
    model = derive(fit(spec, [Batch.dense([[1.0]], label=[1.0])]), target.Means()).arrays
    with pytest.raises(InvalidValue, match="a column of 0 … 0; got 1"):
        model.target("shop", 1)
    with pytest.raises(InvalidBatch, match="takes 1 columns; got a batch of 2"):
        target.TARGET.models["means"].predict(model, Batch.dense([[1.0, 2.0]]))
    with pytest.raises(InvalidValue, match="smoothing must be >= "):
        target.Means(smoothing=0.0)
