"""Models of factorization machines hold what is known, and not the width of the features."""

import dataclasses

import numpy as np
import pytest
from scipy.special import expit

from beam_ml import Batch, derive, fit, fm, predict
from beam_ml.algorithms.fm.derive import predicted
from beam_ml.artefact import records
from beam_ml.core.arrays import from_arrays, nbytes, to_arrays
from beam_ml.errors import CorruptArtefact, InvalidBatch
from tests.algorithms.fm.support import FM

WIDTH = 1 << 16
KNOWN = np.sort(np.random.default_rng(0).choice(WIDTH, 300, replace=False))


def rows_of(numbers, n, seed, far=False):
    """Return rows of five of some features; the first of each is in all rows, around 10⁹ if it is to be far."""
    rng = np.random.default_rng(seed)
    others = np.sort(rng.permuted(np.tile(np.arange(1, numbers.size), (n, 1)), axis=1)[:, :4], axis=1)
    x = numbers[np.concatenate([np.zeros((n, 1), dtype=np.int64), others], axis=1)]
    values = rng.normal(size=(n, 5)) + 0.5
    values[:, 0] += 1e9 * far
    order = np.argsort(x, axis=1)
    x, values = np.take_along_axis(x, order, axis=1), np.take_along_axis(values, order, axis=1)
    label = (values[:, 1] * values[:, 2] > 0).astype(np.float64)
    return Batch.csr(np.arange(n + 1) * 5, x.ravel(), values.ravel(), WIDTH, label=label)


def dense_scores(model, batch):
    """Return η row by row from tables over the whole width."""
    d = int(model.width)
    centre, linear, factors = np.zeros(d), np.zeros(d), np.zeros((d, model.factors.shape[1]))
    centre[model.features], linear[model.features], factors[model.features] = model.centre, model.linear, model.factors
    out = []
    for i in range(len(batch)):
        x = np.zeros(d)
        at = slice(*batch.indptr[i : i + 2])
        x[batch.indices[at]] = batch.values[at]
        x -= centre
        parts = factors[x != 0] * x[x != 0][:, None]
        pairs = 0.5 * (np.square(parts.sum(axis=0)) - np.square(parts).sum(axis=0)).sum()
        out.append(float(model.intercept) + x @ linear + pairs)
    return np.array(out)


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("n", [1, 60, 4_000])
def test_known_features_are_found_however_many_values_there_are_and_others_count_for_nothing(n, far):
    spec = fm.Spec(n_features=WIDTH, n_factors=3)
    model = derive(fit(spec, [rows_of(KNOWN, 3_000, 1, far)]), fm.Classifier()).arrays
    assert (model.centre != 0).any() == far
    others = np.setdiff1d(np.concatenate([KNOWN, np.random.default_rng(2).choice(WIDTH, 200)]), KNOWN[:1])
    rows = rows_of(np.concatenate([KNOWN[:1], others]), n, 3, far)
    some = slice(0, min(n, 50))
    expected = expit(dense_scores(model, rows.take(some)))
    np.testing.assert_allclose(predicted(model, rows)[some], expected, rtol=1e-9, atol=1e-12)
    # What comes with it, and by what way its features are found, is nothing to a row.
    alone = [predicted(model, rows.take([i]))[0] for i in range(min(n, 50))]
    np.testing.assert_array_equal(predicted(model, rows)[some], alone)


def test_a_model_costs_what_is_known_and_not_the_width():
    learner = fit(fm.Spec(n_features=WIDTH, n_factors=3), [rows_of(KNOWN, 1_000, 4)])
    assert nbytes(derive(learner, fm.Classifier()).arrays) < 300 * (5 + 1) * 8 + 100


def test_a_model_that_holds_no_feature_predicts_its_intercept():
    empty = Batch.csr(
        np.zeros(9, dtype=np.int64), np.zeros(0, dtype=np.int32), np.zeros(0), WIDTH, label=[0.0, 1.0] * 4
    )
    model = derive(fit(fm.Spec(n_features=WIDTH, n_factors=3), [empty]), fm.Classifier())
    assert model.arrays.features.size == 0
    for n in (1, 5_000):
        assert len(set(predict(model, rows_of(KNOWN, n, 5))["score"].tolist())) == 1


def test_rows_of_another_width_are_refused():
    model = derive(fit(fm.Spec(n_features=WIDTH, n_factors=3), [rows_of(KNOWN, 500, 6)]), fm.Classifier()).arrays
    narrow = Batch.csr([0, 1], [3], [1.0], WIDTH - 1)
    with pytest.raises(InvalidBatch, match=f"takes {WIDTH} features; got a batch of {WIDTH - 1}"):
        predicted(model, narrow)


@pytest.mark.parametrize(
    "wrong", [[-1, 5, 9], [5, 5, 9], [9, 5, 6], [5, 9, WIDTH]], ids=["negative", "twice", "falling", "beyond"]
)
def test_numbers_of_features_that_are_none_are_refused(wrong):
    learner = fit(
        fm.Spec(n_features=WIDTH, n_factors=2), [Batch.csr([0, 3], [5, 6, 9], np.ones(3), WIDTH, label=[1.0])]
    )
    model = derive(learner, fm.Classifier())
    arrays = to_arrays(model.arrays) | {"features": np.array(wrong)}
    message = f"Model.features must be (rising numbers >= 0|below {WIDTH}; got {WIDTH})"
    with pytest.raises(CorruptArtefact, match=message):
        from_arrays(fm.Model, arrays)
    # … in artefacts too: whose bytes are whole, but not what was once derived.
    forged = dataclasses.replace(model.arrays)
    object.__setattr__(forged, "features", np.array(wrong))
    stored = records.encode_model(FM, dataclasses.replace(model, arrays=forged))
    with pytest.raises(CorruptArtefact, match=message):
        records.decode_model(stored, lambda name: FM)
