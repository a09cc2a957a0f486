"""Exact PCA against numpy's SVD, and where it is easy to get wrong."""

import numpy as np
import pytest

from beam_ml.algorithms import find, pca, spec_from
from beam_ml.algorithms.pca import PCA
from beam_ml.algorithms.pca.model import _upright
from beam_ml.core import metrics
from beam_ml.core.arrays import close, identical
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue

KIND = PCA.models["components"]


def rows(n=500, d=6, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(d, d)) * np.linspace(3.0, 0.2, d)
    return np.round((rng.normal(size=(n, d)) @ mix) * 2**20) / 2**20 + offset  # exactly representable at 1e8 too


def state_of(x, weight=None, batch_rows=97):
    spec = pca.Spec(n_features=x.shape[1])
    state = PCA.init(spec)
    for start in range(0, len(x), batch_rows):
        part = slice(start, start + batch_rows)
        batch = Batch.dense(x[part], weight=None if weight is None else weight[part])
        state = PCA.accumulate(spec, state, batch, None)
    return spec, state


def derive(spec, state, c, **options):
    return KIND.derive(spec, pca.Components(n_components=c, **options), state, None)


def upright(vectors):
    largest = np.argmax(np.abs(vectors), axis=1)
    return vectors * np.sign(vectors[np.arange(len(vectors)), largest])[:, None]


def reference(x, weight=None):
    """Singular values and vectors by numpy's SVD of the centred rows, computed without the offset's rounding."""
    weight = np.ones(len(x)) if weight is None else weight
    z = x - x[0]
    z = z - weight @ z / weight.sum()
    _, singular, vectors = np.linalg.svd(z * np.sqrt(weight)[:, None], full_matrices=False)
    return z, singular, upright(vectors)


@pytest.mark.parametrize("offset", [0.0, 1e8, -1e8])
@pytest.mark.parametrize("batch_rows", [1, 7, 97, 500])
def test_components_equal_numpys_svd(offset, batch_rows):
    x = rows(offset=offset)
    spec, state = state_of(x, batch_rows=batch_rows)
    model = derive(spec, state, 6)
    z, singular, vectors = reference(x)
    np.testing.assert_allclose(model.singular_values, singular, rtol=1e-9)
    np.testing.assert_allclose(model.components, vectors, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.explained_variance, singular**2 / len(x), rtol=1e-9)
    np.testing.assert_allclose(model.explained_variance_ratio, singular**2 / np.sum(singular**2), rtol=1e-9)
    projection = KIND.predict(model, Batch.dense(x))["projection"]
    np.testing.assert_allclose(projection, z @ vectors.T, rtol=0, atol=1e-9 * np.abs(z).max())


def test_weighted_rows_equal_numpys_svd():
    x, weight = rows(offset=1e8), np.random.default_rng(1).random(500) * 3
    weight[::5] = 0.0
    spec, state = state_of(x, weight)
    model = derive(spec, state, 4)
    _, singular, vectors = reference(x, weight)
    np.testing.assert_allclose(model.singular_values, singular[:4], rtol=1e-9)
    np.testing.assert_allclose(model.components, vectors[:4], rtol=0, atol=1e-9)


def test_many_shards_equal_one_pass():
    x = rows(n=2000, offset=1e8)
    spec, whole = state_of(x, batch_rows=2000)
    merged = PCA.empty(spec)
    for shard in np.array_split(x, 64):
        merged = PCA.merge(spec, merged, PCA.accumulate(spec, PCA.empty(spec), Batch.dense(shard), None))
    assert close(whole, merged, rtol=1e-12)
    np.testing.assert_array_equal(merged.origin, min(map(tuple, x)))


def test_merge_gives_the_same_bits_either_way_round():
    spec, a = state_of(rows(seed=1))
    _, b = state_of(rows(seed=2, offset=50.0))
    assert identical(PCA.merge(spec, a, b), PCA.merge(spec, b, a))


def test_shards_far_apart_keep_their_own_scatter():
    near, far = rows(n=300, seed=1), rows(n=200, seed=2, offset=1e8)
    spec, a = state_of(near)
    _, b = state_of(far)
    merged = PCA.merge(spec, a, b)
    between = 300 * 200 / 500 * np.outer(far.mean(0) - near.mean(0), far.mean(0) - near.mean(0))
    expected = np.cov(near.T, bias=True) * 300 + np.cov(far.T, bias=True) * 200 + between
    np.testing.assert_allclose(merged.scatter, expected, rtol=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
def test_directions_through_zero_equal_numpys_svd_of_the_rows(offset):
    x = rows(offset=offset)
    spec, state = state_of(x)
    model = derive(spec, state, 6, center=False)
    _, singular, vectors = np.linalg.svd(x, full_matrices=False)
    np.testing.assert_allclose(model.singular_values, singular, rtol=1e-9, atol=1e-14 * singular[0])
    if offset == 0.0:
        np.testing.assert_allclose(model.components, upright(vectors), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(model.mean, np.zeros(6))
    projection = KIND.predict(model, Batch.dense(x))["projection"]
    np.testing.assert_allclose(projection, x @ model.components.T, rtol=1e-12, atol=1e-9)


def test_whitened_projections_have_unit_covariance():
    x, weight = rows(offset=1e6), np.random.default_rng(2).random(500)
    spec, state = state_of(x, weight)
    model = derive(spec, state, 5, whiten=True)
    projection = KIND.predict(model, Batch.dense(x))["projection"]
    covariance = (projection * weight[:, None]).T @ projection / weight.sum()
    np.testing.assert_allclose(covariance, np.eye(5), atol=1e-9)


def test_float32_rows_are_summed_in_float64():
    x = (rows(n=3000) + 300).astype(np.float32)
    spec, narrow = state_of(x)
    _, wide = state_of(x.astype(np.float64))
    assert close(narrow, wide, rtol=1e-13)
    model = derive(spec, narrow, 2)
    assert KIND.predict(model, Batch.dense(x))["projection"].dtype == np.float64


def test_blocks_larger_than_the_cache_are_cut():
    x = rows(n=9000, d=40)
    spec, whole = state_of(x, batch_rows=9000)
    _, parts = state_of(x, batch_rows=100)
    assert close(whole, parts, rtol=1e-12)
    model = derive(spec, whole, 3)
    together = KIND.predict(model, Batch.dense(x))["projection"]
    np.testing.assert_allclose(together[8999:], KIND.predict(model, Batch.dense(x[8999:]))["projection"], atol=1e-12)


def test_rank_deficient_rows_give_zero_singular_values_and_zero_whitened_projections():
    x = np.outer(np.arange(10.0), [1.0, 2.0, -1.0]) + np.array([5.0, 5.0, 1e6])
    spec, state = state_of(x)
    model = derive(spec, state, 3, whiten=True)
    assert model.singular_values[0] > 0
    np.testing.assert_array_equal(model.singular_values[1:], 0.0)
    np.testing.assert_allclose(model.explained_variance_ratio, [1.0, 0.0, 0.0])
    np.testing.assert_allclose(model.components @ model.components.T, np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(KIND.predict(model, Batch.dense(x))["projection"][:, 1:], 0.0)


@pytest.mark.parametrize("x", [[[3.0, 4.0]], [[3.0, 4.0]] * 5])
def test_rows_without_variance_give_a_model_of_no_variance(x):
    spec, state = state_of(np.array(x))
    model = derive(spec, state, 2, whiten=True)
    np.testing.assert_array_equal(model.mean, [3.0, 4.0])
    np.testing.assert_array_equal(model.explained_variance_ratio, [0.0, 0.0])
    np.testing.assert_array_equal(KIND.predict(model, Batch.dense([[3.0, 4.0]]))["projection"], [[0.0, 0.0]])


def test_signs_do_not_depend_on_the_data():
    x = rows(seed=4)
    spec, state = state_of(x)
    _, mirrored = state_of(-x)
    one, other = derive(spec, state, 6), derive(spec, mirrored, 6)
    np.testing.assert_allclose(one.components, other.components, atol=1e-12)
    assert (one.components[np.arange(6), np.abs(one.components).argmax(axis=1)] > 0).all()


def test_the_sign_of_a_tied_component_follows_its_first_entry():
    x = np.array([[1.0, -1.0], [-1.0, 1.0], [2.0, -2.0]])
    spec, state = state_of(x)
    np.testing.assert_allclose(derive(spec, state, 1).components, [[np.sqrt(0.5), -np.sqrt(0.5)]])


def test_rounding_of_a_tie_does_not_choose_the_sign():
    tied = np.array([[-0.5, 0.5 * (1.0 + 1e-9), 0.3], [0.1, -0.6, 0.6 * (1.0 + 1e-9)]])
    np.testing.assert_array_equal(_upright(tied), -tied)
    np.testing.assert_array_equal(_upright(-tied), -tied)


def test_measure_is_the_squared_reconstruction_error():
    x, weight = rows(), np.random.default_rng(3).random(500)
    spec, state = state_of(x, weight)
    model = derive(spec, state, 2)
    found = metrics.compute(KIND.measure(model, Batch.dense(x, weight=weight)))
    _, singular, _ = reference(x, weight)
    np.testing.assert_allclose(found["sse"], np.sum(singular[2:] ** 2), rtol=1e-9)
    np.testing.assert_allclose(found["rows_weight"], weight.sum())


def test_whitening_does_not_change_the_reconstruction():
    x = rows()
    spec, state = state_of(x)
    plain, white = (KIND.measure(derive(spec, state, 2, whiten=w), Batch.dense(x)) for w in (False, True))
    assert identical(plain, white)


def test_empty_batches_and_zero_weights_change_nothing():
    spec, state = state_of(rows())
    assert identical(PCA.accumulate(spec, state, Batch.dense(np.empty((0, 6))), None), state)
    assert identical(PCA.accumulate(spec, state, Batch.dense(rows(n=3), weight=np.zeros(3)), None), state)
    assert identical(PCA.scale(spec, state, 0.0), PCA.empty(spec))
    model = derive(spec, state, 2)
    assert KIND.predict(model, Batch.dense(np.empty((0, 6))))["projection"].shape == (0, 2)


def test_negative_zero_is_no_other_origin():
    spec = pca.Spec(n_features=1)
    a, b = (PCA.accumulate(spec, PCA.empty(spec), Batch.dense([[z]]), None) for z in (0.0, -0.0))
    assert identical(a, b)


@pytest.mark.parametrize("d", [1, 16, 17, 40])
def test_the_origin_is_the_lexicographically_smallest_row(d):
    x = np.random.default_rng(d).integers(0, 2, size=(300, d)).astype(np.float64)
    x[:, 1 : d // 2] = 0.0
    _, state = state_of(x, batch_rows=300)
    np.testing.assert_array_equal(state.origin, min(map(tuple, x)))


def test_tiny_weights_after_long_forgetting_still_give_the_components():
    x = rows()
    spec, state = state_of(x)
    faded = PCA.scale(spec, state, 2.0**-900)
    np.testing.assert_allclose(derive(spec, faded, 3).components, derive(spec, state, 3).components, atol=1e-12)
    np.testing.assert_allclose(
        derive(spec, faded, 3).explained_variance, derive(spec, state, 3).explained_variance, rtol=1e-12
    )


def test_no_rows_are_refused():
    spec = pca.Spec(n_features=2)
    with pytest.raises(DeriveRefused, match=r"pca\.Components needs rows of positive weight; got none yet\."):
        derive(spec, PCA.init(spec), 1)


def test_more_components_than_features_are_refused():
    spec, state = state_of(rows(d=3))
    with pytest.raises(DeriveRefused, match=r"n_components must be <= 3, the spec's n_features; got 4\."):
        derive(spec, state, 4)


def test_rows_too_large_to_square_leave_a_state_that_derive_refuses():
    spec, state = state_of(np.array([[1e200, 1.0], [-1e200, 2.0]]))
    assert not np.isfinite(state.scatter).all()
    with pytest.raises(DeriveRefused, match="too large to square"):
        derive(spec, state, 1)


@pytest.mark.parametrize(("solver", "center"), [("eigh", True), ("svd", False)])
def test_a_solver_that_does_not_converge_is_a_clear_refusal(monkeypatch, solver, center):
    spec, state = state_of(rows())

    def fail(*args, **kwargs):
        reason = "no convergence"
        raise np.linalg.LinAlgError(reason)

    monkeypatch.setattr(np.linalg, solver, fail)
    with pytest.raises(DeriveRefused, match=r"did not converge \(no convergence\)\."):
        derive(spec, state, 2, center=center)


def test_a_batch_of_another_width_or_form_is_refused():
    spec, state = state_of(rows(d=3))
    model = derive(spec, state, 1)
    wide = Batch.dense(np.ones((2, 4)))
    with pytest.raises(InvalidBatch, match=r"n_features is 3; got a batch of 4\."):
        PCA.accumulate(spec, state, wide, None)
    for use in (KIND.predict, KIND.measure):
        with pytest.raises(InvalidBatch, match=r"takes 3 features; got a batch of 4\."):
            use(model, wide)
    with pytest.raises(InvalidBatch, match="dense"):
        PCA.accumulate(spec, state, Batch.csr([0, 1], [0], [1.0], 3), None)


def test_settings_are_checked_and_name_the_algorithm():
    assert find("pca") is PCA
    assert spec_from(pca.Spec(n_features=4).to_dict()) == pca.Spec(n_features=4)
    assert pca.Components(n_components="3").n_components == 3
    with pytest.raises(InvalidValue, match=r"pca\.Components\.n_components must be >= 1; got 0\."):
        pca.Components(n_components=0)
    with pytest.raises(InvalidValue, match=r"pca\.Spec\.mode must be one of 'exact' or 'sketch'; got 'fast'\."):
        pca.Spec(n_features=2, mode="fast")


def test_long_running_merges_do_not_lose_digits():
    x = rows(n=4000, d=3, offset=1e8)
    spec, state = state_of(x, batch_rows=1)
    _, singular, _ = reference(x)
    np.testing.assert_allclose(derive(spec, state, 3).singular_values, singular, rtol=1e-11)
