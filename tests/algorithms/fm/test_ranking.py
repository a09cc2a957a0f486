"""Workers score rows by the anchor's own tables as the model derived from the state does."""

import numpy as np
import pytest

from beam_ml import Batch, fm
from beam_ml.algorithms.shared.sparse import canonical
from beam_ml.errors import InvalidBatch
from tests.algorithms.fm.support import FM, grown, model_of

N, D = 900, 30


def rows(seed, far):
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((N, D)) < 0.3, rng.normal(size=(N, D)), 0.0)
    x[:, 0] = far + rng.normal(size=N)
    x[:, 1] = np.where(rng.random(N) < 0.7, 3 + rng.normal(size=N), 0.0)  # has a centre, and rows that lack it
    x[:, 4] = 0.0  # no row has it
    return Batch.dense(x, label=(rng.random(N) < 0.3).astype(float))


@pytest.mark.parametrize("settings", [{}, {"use_linear": False}, {"use_bias": False}])
@pytest.mark.parametrize("far", [0.0, 6.0, 1e6])
def test_rows_are_scored_as_by_the_model(far, settings):
    spec = fm.Spec(n_features=D, n_factors=3, **settings)
    state = FM.init(spec)
    for seed in range(3):
        state = FM.fold(spec, state, grown(spec, rows(seed, far), FM.anchor(spec, state)), None)
    new = rows(9, far)
    new.X[:, 4] = 1.0  # … before
    expected = FM.models["classifier"].predict(model_of(spec, state), new)["score"]
    found = FM.scorer(spec, FM.anchor(spec, state))(new)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.std() > 0.01


def test_rows_of_another_width_are_refused():
    spec = fm.Spec(n_features=D, n_factors=3)
    state = FM.fold(spec, FM.init(spec), grown(spec, rows(0, 0.0), None), None)
    with pytest.raises(InvalidBatch):
        FM.scorer(spec, FM.anchor(spec, state))(Batch.dense(np.ones((2, D + 1)), label=np.zeros(2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_in_any_order_with_duplicates_come_out_rising_and_summed(dtype):
    rng = np.random.default_rng(4)
    count = rng.integers(0, 90, 40)
    count[[0, 7, 39]] = 0
    indptr = np.concatenate([[0], np.cumsum(count)])
    columns, values = rng.integers(0, 60, indptr[-1]), rng.normal(size=indptr[-1]).astype(dtype)
    expected = np.zeros((40, 60))
    np.add.at(expected, (np.repeat(np.arange(40), count), columns), values)
    bounds, at, found = canonical(Batch.csr(indptr, columns, values, 60, label=np.zeros(40)))
    each = np.repeat(np.arange(40), np.diff(bounds))
    assert found.dtype == dtype
    assert ((np.diff(at) > 0) | (np.diff(each) > 0)).all()
    dense = np.zeros((40, 60))
    dense[each, at] = found
    np.testing.assert_allclose(dense, expected, atol=1e-6 if dtype == np.float32 else 1e-12)


def test_rising_rows_are_not_copied():
    batch = Batch.csr([0, 0, 2, 3, 3], [1, 3, 0], np.ones(3), 4, label=np.zeros(4))
    assert canonical(batch)[1] is batch.indices
