"""PCA by frequent directions: its bound on rows made to break it, equality with exact PCA where nothing is lost, faults."""

import dataclasses
import json
from functools import partial, reduce
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import beam_ml
from beam_ml import schemas
from beam_ml.algorithms import algorithm_of, find, pca, spec_from
from beam_ml.algorithms.pca import PCA, PCA_SKETCH, sketch
from beam_ml.core.arrays import close, identical
from beam_ml.core.batch import Batch
from beam_ml.core.threads import one_thread
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue, MergeRefused
from beam_ml.testing.guarantee import adversaries
from beam_ml.testing.laws import laws_for

KIND = PCA_SKETCH.models["components"]
MNIST = Path(__file__).parents[3].parent / "shared" / "data" / "mnist" / "mnist.npz"


@pytest.fixture(autouse=True)
def _one_thread():
    with one_thread():
        yield


def spec_of(d, keep, **options):
    return pca.Spec(n_features=d, mode="sketch", sketch_rows=keep, **options)


def low_rank(n=500, d=30, rank=4, offset=0.0, seed=0):
    """Rows in a plane of few dimensions, exactly representable at offset 1e8 too."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-64, 65, size=(n, rank)) * np.arange(rank, 0, -1)
    return scores @ (np.round(rng.normal(size=(rank, d)) * 2**8) / 2**8) + offset


def state_of(spec, x, weight=None, batch_rows=97, algorithm=PCA_SKETCH):
    state = algorithm.init(spec)
    for start in range(0, len(x), batch_rows):
        part = slice(start, start + batch_rows)
        batch = Batch.dense(x[part], weight=None if weight is None else weight[part])
        state = algorithm.accumulate(spec, state, batch, None)
    return state


def exactly(x, weight=None):
    spec = pca.Spec(n_features=x.shape[1])
    return spec, state_of(spec, x, weight, 10_000, PCA)


def derive(spec, state, c, **options):
    return KIND.derive(spec, pca.Components(n_components=c, **options), state, None)


def exact_model(x, c, weight=None, **options):
    spec, state = exactly(x, weight)
    return PCA.models["components"].derive(spec, pca.Components(n_components=c, **options), state, None)


def held(state):
    return state.rows[: int(state.used)]


def merged(spec, shards):
    return reduce(partial(PCA_SKETCH.merge, spec), shards)


# --- nothing is lost where there is room -------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e8, -1e8])
@pytest.mark.parametrize("batch_rows", [1, 7, 97, 500])
def test_rows_of_low_rank_give_the_components_of_exact_mode(offset, batch_rows):
    x = low_rank(offset=offset)
    spec = spec_of(30, 5)
    state = state_of(spec, x, batch_rows=batch_rows)
    assert float(state.shrunk) == 0.0
    model, exact = derive(spec, state, 4), exact_model(x, 4)
    assert close(model, exact, rtol=1e-9)
    projection = KIND.predict(model, Batch.dense(x))["projection"]
    np.testing.assert_allclose(projection, KIND.predict(exact, Batch.dense(x))["projection"], atol=1e-6)


@pytest.mark.parametrize("options", [{"whiten": True}, {"center": False}, {"center": False, "whiten": True}])
def test_whitening_and_directions_through_zero_are_those_of_exact_mode(options):
    x = low_rank(offset=5.0)
    spec = spec_of(30, 5)
    model = derive(spec, state_of(spec, x), 4, **options)
    assert close(model, exact_model(x, 4, **options), rtol=1e-8)


def test_weighted_rows_of_low_rank_give_the_components_of_exact_mode():
    x, weight = low_rank(offset=1e8), np.random.default_rng(1).random(500) * 3
    weight[::5] = 0.0
    spec = spec_of(30, 4)
    assert close(derive(spec, state_of(spec, x, weight), 4), exact_model(x, 4, weight), rtol=1e-9)


@pytest.mark.parametrize("keep", [6, 50])
def test_as_many_rows_as_features_lose_nothing(keep):
    x = np.random.default_rng(0).normal(size=(700, 6)) * np.arange(1, 7)
    spec = spec_of(6, keep)
    shards = [state_of(spec, part) for part in np.array_split(x, 8)]
    state = merged(spec, shards)
    assert (state.rows.shape, float(state.shrunk)) == ((12, 6), 0.0)
    assert close(derive(spec, state, 6), exact_model(x, 6), rtol=1e-9)


def test_float32_rows_are_summed_in_float64():
    x = (low_rank() + 300).astype(np.float32)
    spec = spec_of(30, 5)
    assert close(state_of(spec, x), state_of(spec, x.astype(np.float64)), rtol=1e-13)


def test_shards_far_apart_are_joined_exactly():
    near, far = low_rank(rank=2, seed=1), low_rank(rank=2, offset=1e6, seed=1)
    spec = spec_of(30, 5)
    both = PCA_SKETCH.merge(spec, state_of(spec, near), state_of(spec, far))
    model, exact = derive(spec, both, 3), exact_model(np.vstack([near, far]), 3)
    np.testing.assert_allclose(model.singular_values, exact.singular_values, rtol=1e-7)
    assert int(both.used) == int(state_of(spec, near).used) + int(state_of(spec, far).used) + 1


# --- the bound ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d", "keep"), [(1, 1), (2, 1), (40, 8), (23, 22)])
@pytest.mark.parametrize("shards", [1, 32])
def test_what_is_lost_lies_between_nothing_and_delta_and_delta_within_the_published_bound(d, keep, shards):
    spec = spec_of(d, keep)
    for name, rows in adversaries(spec, seed=d):
        parts = [state_of(spec, rows.X[i], rows.weights[i]) for i in np.array_split(np.arange(len(rows)), shards)]
        state = merged(spec, parts)
        weight = rows.weights
        z = rows.X - rows.X[0]
        z = (z - weight @ z / weight.sum()) * np.sqrt(weight)[:, None]
        scatter = z.T @ z
        values = np.linalg.eigvalsh(scatter)[::-1]
        lost = np.linalg.eigvalsh(scatter - held(state).T @ held(state))
        rounding, delta, trace = 1e-12 * values[0], float(state.shrunk), float(np.trace(scatter))
        assert -rounding <= lost.min(), name
        assert lost.max() <= delta + rounding, name
        published = min(values[k:].sum() / (keep - k) for k in range(keep))
        assert delta <= published * (1 + 1e-9) + rounding, name
        np.testing.assert_allclose(state.variation, trace, rtol=1e-9)
        assert (keep + 1) * delta <= trace - np.sum(held(state) ** 2) + 1e-9 * trace, name
        model = derive(spec, state, keep)
        squared = model.singular_values**2
        # Either way: what is given back is an estimate, not the most that there can be, which a flat spectrum is far from.
        assert (values[:keep] <= (squared + delta) * (1 + 1e-9) + rounding).all(), name
        assert (squared <= (values[:keep] + delta) * (1 + 1e-9) + rounding).all(), name
        assert model.explained_variance_ratio.sum() <= 1 + 1e-9, name
        np.testing.assert_allclose(model.components @ model.components.T, np.eye(keep), atol=1e-9, err_msg=name)


SPECTRA = {
    "flat": np.ones(72),
    "two planes": np.r_[np.full(6, 4.0), np.full(66, 0.7)],
    "a slow fall": 0.93 ** np.arange(72),
    "a fast fall": 0.6 ** np.arange(72),
    "a root": (1.0 + np.arange(72)) ** -0.7,
}


@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_variance_explained_is_that_along_the_components(name, shards):
    """Of a flat spectrum, giving all Δ back to each component would state twice what there is."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(9_000, 72)) * SPECTRA[name] + 3.0
    spec = spec_of(72, 18)
    state = merged(spec, [state_of(spec, x[i], batch_rows=450) for i in np.array_split(np.arange(len(x)), shards)])
    model = derive(spec, state, 9, whiten=True)
    z = (x - x.mean(axis=0)) @ model.components.T
    along = np.mean(z * z, axis=0)
    total = x.var(axis=0).sum()
    assert model.explained_variance_ratio.sum() == pytest.approx(along.sum() / total, rel=0.03)
    np.testing.assert_allclose(model.explained_variance, along, rtol=0.08)
    whitened = KIND.predict(model, Batch.dense(x))["projection"]
    np.testing.assert_allclose(whitened.var(axis=0), 1.0, rtol=0.08)
    assert (np.diff(model.explained_variance) <= 0).all()
    if name == "flat":
        assert float(state.shrunk) * 72 > 1.5 * float(state.variation)


@pytest.mark.parametrize("name", ["flat", "a slow fall", "a root"])
@pytest.mark.parametrize("center", [True, False])
def test_all_that_a_sketch_can_say_adds_up_to_no_more_than_the_trace(name, center):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4_000, 72)) * SPECTRA[name] + 0.5
    spec = spec_of(72, 18)
    model = derive(spec, state_of(spec, x), 18, center=center)
    true = np.linalg.svd(x - center * x.mean(axis=0), compute_uv=False) ** 2
    assert model.explained_variance_ratio.sum() <= 1.1 * true[:18].sum() / true.sum()


def test_what_was_shrunk_fades_with_the_rows():
    """Forgetting weighs all by one factor: what a faded sketch gives back is that share of what it gave before."""
    x = np.random.default_rng(5).normal(size=(2_000, 30))
    spec = spec_of(30, 5)
    state = state_of(spec, x)
    faded = PCA_SKETCH.scale(spec, state, 1 / 64)
    assert float(faded.shrunk) == float(state.shrunk) / 64 > 0
    np.testing.assert_allclose(derive(spec, faded, 3).explained_variance, derive(spec, state, 3).explained_variance)
    assert float(PCA_SKETCH.merge(spec, faded, state).shrunk) >= float(state.shrunk) * (1 + 1 / 64)


def test_a_flat_spectrum_shrinks_to_nothing_and_is_still_known():
    spec = spec_of(8, 4)
    x = np.vstack([np.eye(8), -np.eye(8)])
    state = PCA_SKETCH.accumulate(spec, PCA_SKETCH.init(spec), Batch.dense(x), None)
    rows, delta = held(state), float(state.shrunk)
    np.testing.assert_allclose(rows.T @ rows + delta * np.eye(8), 2 * np.eye(8), atol=2.0)
    again = merged(spec, [state] * 9)
    model = derive(spec, again, 4)
    np.testing.assert_allclose(model.singular_values**2, 18.0, rtol=0.5)
    np.testing.assert_allclose(model.components @ model.components.T, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(again.variation, 9 * 16.0)


def fault(name):
    """Return a broken sketch: a merge that leaves out the correction row, or another amount taken off at each shrink."""
    if name == "no correction":

        def merge(spec, a, b):
            whole = sketch.merge(spec, a, b)
            if not (float(a.weight) and float(b.weight)):
                return whole
            apart = sketch.merge(spec, a, dataclasses.replace(b, origin=a.origin, mean=a.mean))
            return dataclasses.replace(apart, origin=whole.origin, mean=whole.mean)

        return dataclasses.replace(PCA_SKETCH, merge=merge)
    takes = {"too much": lambda values, keep: 2 * values[keep], "nothing": lambda values, keep: 0.0}[name]

    def shrink(work, used, keep):
        values, vectors = np.linalg.eigh(work[:used] @ work[:used].T)
        values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
        delta = takes(values, keep) if used > keep else 0.0
        factor = np.sqrt(np.maximum(values[:keep] - delta, 0.0) / np.maximum(values[:keep], 1e-300))
        work[: factor.size] = (vectors[:, :keep] * factor).T @ work[:used]
        return factor.size, delta

    def with_shrink(function):
        def call(*arguments):
            sound, sketch._shrink = sketch._shrink, shrink
            try:
                return function(*arguments)
            finally:
                sketch._shrink = sound

        return call

    broken = {name: with_shrink(getattr(PCA_SKETCH, name)) for name in ("accumulate", "merge", "fold")}
    return dataclasses.replace(PCA_SKETCH, **broken)


@pytest.mark.parametrize(("d", "keep"), [(8, 3), (40, 8)])
@pytest.mark.parametrize("name", ["no correction", "too much", "nothing"])
def test_the_law_notices_a_merge_without_correction_and_a_shrink_by_too_much_or_nothing(name, d, keep):
    spec = spec_of(d, keep)
    models = [pca.Components(n_components=2)]
    dict(laws_for(PCA_SKETCH, spec, models))["guarantee"]()
    with pytest.raises(AssertionError, match=r"breaks the law 'guarantee': AssertionError: .* is guaranteed"):
        dict(laws_for(fault(name), spec, models))["guarantee"]()


def test_mnist_top_50_of_a_sketch_of_200_explain_as_much_as_the_exact_ones():
    if not MNIST.exists():
        pytest.skip(f"{MNIST} is absent")
    with np.load(MNIST) as arrays:
        x = (arrays["x_train"][::10].reshape(-1, 784) / np.float32(255)).astype(np.float32)
    spec = spec_of(784, 200)
    state = merged(spec, [state_of(spec, part, batch_rows=1000) for part in np.array_split(x, 2)])
    model, exact = derive(spec, state, 50), exact_model(x, 50)
    _, moments = exactly(x)
    captured = np.einsum("cd,de,ce->", model.components, moments.scatter, model.components)
    assert captured >= 0.999 * np.sum(exact.singular_values**2)
    np.testing.assert_allclose(model.explained_variance, exact.explained_variance, rtol=0.01)
    np.testing.assert_allclose(model.explained_variance_ratio.sum(), exact.explained_variance_ratio.sum(), rtol=1e-3)


# --- few rows, no rows, large rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_rows_than_components_leave_directions_without_variance(n):
    x = low_rank(n=n, d=12, offset=1e6)
    spec = spec_of(12, 6)
    state = state_of(spec, x)
    assert int(state.used) <= n
    model = derive(spec, state, 6, whiten=True)
    np.testing.assert_allclose(model.components @ model.components.T, np.eye(6), atol=1e-12)
    np.testing.assert_array_equal(model.singular_values[n - 1 :], 0.0)
    assert (model.singular_values[: n - 1] > 0).all()
    np.testing.assert_array_equal(KIND.predict(model, Batch.dense(x))["projection"][:, n - 1 :], 0.0)
    np.testing.assert_allclose(model.mean, x.mean(axis=0), rtol=1e-15)
    np.testing.assert_array_equal(derive(spec, state, 6, center=False).singular_values[n:], 0.0)


def test_a_row_at_zero_has_no_direction():
    spec = spec_of(3, 2)
    model = derive(spec, state_of(spec, np.zeros((1, 3))), 2, center=False)
    np.testing.assert_array_equal(model.explained_variance_ratio, 0.0)
    np.testing.assert_array_equal(model.components, np.eye(3)[:2])


def test_rows_one_by_one_take_one_row_of_the_sketch_each():
    spec = spec_of(5, 4)
    state = PCA_SKETCH.init(spec)
    for n, row in enumerate(np.random.default_rng(0).normal(size=(9, 5))):
        assert int(state.used) == max(0, n - 1)
        state = PCA_SKETCH.accumulate(spec, state, Batch.dense(row[None]), None)


def test_empty_batches_and_zero_weights_change_nothing():
    spec = spec_of(30, 5)
    state = state_of(spec, low_rank())
    assert identical(PCA_SKETCH.accumulate(spec, state, Batch.dense(np.empty((0, 30))), None), state)
    assert identical(PCA_SKETCH.accumulate(spec, state, Batch.dense(low_rank(n=3), weight=np.zeros(3)), None), state)
    assert identical(PCA_SKETCH.scale(spec, state, 0.0), PCA_SKETCH.empty(spec))
    assert sketch.guarantee(spec, state, Batch.dense(np.empty((0, 30)))) == (0.0, 0.0)


def test_the_sketch_never_grows():
    spec = spec_of(50, 3)
    state = PCA_SKETCH.empty(spec)
    x = np.random.default_rng(0).normal(size=(3000, 50))
    for rows in (x[:0], x[:1], x[1:2], x[2:9], x[9:200], x[200:]):
        state = PCA_SKETCH.accumulate(spec, state, Batch.dense(rows), None)
        assert state.rows.shape == (6, 50)
        assert int(state.used) <= 6
        assert not state.rows[int(state.used) :].any()
        assert state.rows.base is None or state.rows.base.nbytes == state.rows.nbytes  # holds no larger memory
    state = PCA_SKETCH.merge(spec, state, state)
    assert state.rows.shape == (6, 50)


def test_merge_either_way_round_gives_one_sketch():
    x = np.random.default_rng(3).normal(size=(400, 20)) * np.linspace(3, 0.1, 20)
    spec = spec_of(20, 5)
    a, b = state_of(spec, x[:150]), state_of(spec, x[150:] + 2.0)
    one, other = PCA_SKETCH.merge(spec, a, b), PCA_SKETCH.merge(spec, b, a)
    scatters = [held(state).T @ held(state) for state in (one, other)]
    np.testing.assert_allclose(*scatters, atol=1e-9 * np.abs(scatters[0]).max())
    for name in ("origin", "weight", "mean"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose([one.variation, one.shrunk], [other.variation, other.shrunk], rtol=1e-12)


def test_tiny_weights_after_long_forgetting_still_give_the_components():
    x = low_rank()
    spec = spec_of(30, 5)
    state = state_of(spec, x)
    faded = PCA_SKETCH.scale(spec, state, 2.0**-900)
    np.testing.assert_allclose(derive(spec, faded, 3).components, derive(spec, state, 3).components, atol=1e-9)
    np.testing.assert_allclose(
        derive(spec, faded, 3).explained_variance, derive(spec, state, 3).explained_variance, rtol=1e-12
    )


def test_rows_too_large_to_square_leave_a_state_that_the_fold_and_derive_refuse():
    spec = spec_of(3, 1)
    x = np.array([[1e200, 1.0, 0.0], [-1e200, 2.0, 0.0], [1e200, 5.0, 1.0]] * 100)
    state = state_of(spec, x)
    assert np.isinf(float(state.variation))
    with pytest.raises(DeriveRefused, match="too large to square"):
        derive(spec, state, 1)
    learner = beam_ml.fit(spec, [Batch.dense(low_rank(n=20, d=3, rank=2)), Batch.dense(x)])
    assert np.isfinite(float(learner.state.variation))


def test_no_rows_too_many_components_and_other_batches_are_refused():
    spec = spec_of(9, 4)
    with pytest.raises(DeriveRefused, match=r"needs rows of positive weight; got none yet\."):
        derive(spec, PCA_SKETCH.init(spec), 1)
    with pytest.raises(
        DeriveRefused, match=r"must be <= 4, the lesser of the spec's sketch_rows and n_features; got 5"
    ):
        derive(spec, state_of(spec, low_rank(d=9)), 5)
    with pytest.raises(InvalidBatch, match=r"n_features is 9; got a batch of 4\."):
        PCA_SKETCH.accumulate(spec, PCA_SKETCH.empty(spec), Batch.dense(np.ones((2, 4))), None)
    with pytest.raises(InvalidBatch, match="dense"):
        PCA_SKETCH.accumulate(spec, PCA_SKETCH.empty(spec), Batch.csr([0, 1], [0], [1.0], 9), None)


def test_a_solver_that_does_not_converge_is_a_clear_refusal(monkeypatch):
    spec = spec_of(30, 5)
    state = state_of(spec, low_rank())

    def fail(*args, **kwargs):
        reason = "no convergence"
        raise np.linalg.LinAlgError(reason)

    monkeypatch.setattr(np.linalg, "svd", fail)
    with pytest.raises(DeriveRefused, match=r"did not converge \(no convergence\)\."):
        derive(spec, state, 2)


# --- through the library -----------------------------------------------------------------------------------------------


def test_a_half_life_weighs_rows_by_age():
    x = low_rank(n=300, d=12, offset=4.0)
    time = np.arange(300) * 1_000_000
    spec = spec_of(12, 5, half_life="1m")
    learner = beam_ml.fit(spec, [Batch.dense(x[i], time=time[i]) for i in np.array_split(np.arange(300), 7)])
    weight = np.exp2(-(299 - np.arange(300)) / 60.0)
    found = beam_ml.derive(learner, pca.Components(n_components=4)).arrays
    assert close(found, exact_model(x, 4, weight), rtol=1e-9)


def test_learners_are_fitted_saved_loaded_merged_and_used(tmp_path):
    x = low_rank(n=400, d=12)
    spec = spec_of(12, 5)
    a, b = (beam_ml.fit(spec, [Batch.dense(part)]) for part in (x[:150], x[150:]))
    beam_ml.save(a, tmp_path / "a.safetensors")
    both = beam_ml.merge(beam_ml.load(tmp_path / "a.safetensors"), b)
    model = beam_ml.derive(both, pca.Components(n_components=4))
    assert close(model.arrays, exact_model(x, 4), rtol=1e-9)
    assert beam_ml.predict(model, Batch.dense(x))["projection"].shape == (400, 4)
    with pytest.raises(MergeRefused):
        beam_ml.merge(a, beam_ml.fit(pca.Spec(n_features=12), [Batch.dense(x)]))


def test_the_mode_names_the_algorithm_and_the_algorithm_the_mode():
    spec = spec_of(4, 3)
    assert find("pca.sketch") is PCA_SKETCH is algorithm_of(spec)
    assert algorithm_of(pca.Spec(n_features=4)) is PCA
    for settings in ({"algorithm": "pca", "mode": "sketch"}, {"algorithm": "pca.sketch"}, spec.to_dict()):
        assert spec_from({"n_features": "4", "sketch_rows": "3", **settings}) == spec
    assert spec_of(4, 10).kept_rows == 4
    assert pca.Spec(n_features=4, mode="sketch").sketch_rows == 200
    with pytest.raises(
        InvalidValue, match=r"pca\.Spec\.mode must be 'sketch' for the algorithm 'pca\.sketch'; got 'exact'"
    ):
        pca.Spec(n_features=4, algorithm="pca.sketch", mode="exact")
    with pytest.raises(InvalidValue, match=r"pca\.Spec\.sketch_rows must not be given in mode 'exact'; got 7\."):
        pca.Spec(n_features=4, sketch_rows=7)
    with pytest.raises(InvalidValue, match=r"pca\.Spec\.sketch_rows must be >= 1; got 0\."):
        spec_of(4, 0)


def test_exact_mode_is_written_as_in_the_first_version_and_both_keep_their_contract():
    exact = pca.Spec(n_features=4)
    assert exact.to_json() == '{"algorithm":"pca","half_life":null,"mode":"exact","n_features":4,"seed":0}'
    assert exact.fingerprint == pca.Spec.parse(exact.to_dict()).fingerprint
    contract = json.loads(schemas.schemas([PCA])["learner/pca.json"])["spec"]
    jsonschema.validate(exact.to_dict(), contract)
    jsonschema.validate(spec_of(4, 3).to_dict(), contract)
    assert spec_of(4, 3).fingerprint != spec_of(4, 2).fingerprint


def test_sagemakers_randomized_mode_gives_the_number_of_rows():
    assert [pca.randomized_rows(3), pca.randomized_rows(40), pca.randomized_rows(40, 5)] == [13, 80, 45]
