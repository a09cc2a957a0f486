"""The network of deepar: likelihoods against scipy, gradients against finite differences, sampling as the likelihood says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from beam_ml.algorithms.deepar.shape import Shape, fresh
from beam_ml.kernels import deepar, neural

UNIT = {"beta": 0.3}
LIKELIHOODS = ("student-T", "gaussian", "negative-binomial", "beta", "deterministic-L1")
SHAPE = Shape(
    context=3, horizon=2, history=7, season=3, long_season=3, levels=(1, 3), changes=(1, 4), n_known=2, n_static=1,
    cardinality=(2,), embedding=2, cells=3, layers=2, likelihood="student-T", zoneout=0.0,
)  # fmt: skip


def softplus(x):
    return np.log1p(np.exp(x))


def frozen(likelihood, a, b, c, unit):
    """Return the distribution of scipy that the outputs stand for."""
    if likelihood == "gaussian":
        return scipy.stats.norm(a, softplus(b) + 1e-3)
    if likelihood == "student-T":
        return scipy.stats.t(2.0 + softplus(c), a, softplus(b) + 1e-3)
    if likelihood == "beta":
        mean, size = 1.0 / (1.0 + np.exp(-a) * (1.0 - unit) / unit), 2.0 + 100.0 * softplus(b)
        return scipy.stats.beta(mean * size, (1.0 - mean) * size)
    size, mean = 1.0 / (softplus(b) + 1e-4), unit * softplus(a)
    return scipy.stats.nbinom(size, size / (size + mean))


def windows(n, seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    steps = shape.context + shape.horizon
    return deepar.network.Window(
        w=rng.normal(size=(n, shape.history + steps)).astype(np.float32),
        seen=(rng.random((n, steps)) < 0.8).astype(np.float32),
        known=rng.normal(size=(n, steps, shape.n_known)).astype(np.float32),
        static=rng.normal(size=(n, shape.n_static)).astype(np.float32),
        ratio=rng.uniform(0.5, 2.0, n).astype(np.float32), middle=np.full(n, 5.0, np.float32),
        deviation=np.ones(n, np.float32), unit=np.full(n, 5.0, np.float32),
        codes=rng.integers(0, 3, (n, 1)).astype(np.int32),
    )  # fmt: skip


@pytest.mark.parametrize("likelihood", LIKELIHOODS[:4])
def test_likelihoods_are_those_of_scipy(likelihood):
    rng = np.random.default_rng(1)
    a, b, c = rng.normal(size=(3, 50))
    distribution = frozen(likelihood, a, b, c, UNIT.get(likelihood, 20.0))
    value = distribution.rvs(random_state=2)
    density = distribution.logpmf if likelihood == "negative-binomial" else distribution.logpdf
    found = deepar.likelihoods.nll(likelihood, jnp.stack([a, b, c], axis=-1), value, UNIT.get(likelihood, 20.0))
    kept = (value > 1e-5) & (value < 1.0 - 1e-5) if likelihood == "beta" else np.full(50, True)
    np.testing.assert_allclose(np.asarray(found)[kept], -density(value)[kept], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_draws_have_the_quantiles_of_their_distribution(likelihood):
    n, outputs = 40_000, np.array([0.4, -0.3, 0.8])
    spread = jnp.broadcast_to(jnp.array(outputs, jnp.float32), (n, 3))
    uniforms = jax.random.uniform(jax.random.key(1), (n, 2))
    found = np.asarray(
        deepar.likelihoods.draw(likelihood, spread, uniforms, jax.random.key(2), UNIT.get(likelihood, 20.0))
    )
    if likelihood == "deterministic-L1":
        np.testing.assert_allclose(found, 0.4, rtol=1e-6)
        return
    distribution = frozen(likelihood, *outputs, UNIT.get(likelihood, 20.0))
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        quantile = distribution.ppf(level)
        error = 5.0 * np.sqrt(level * (1.0 - level) / n)
        at_most, below = (found <= quantile + 1e-6).mean(), (found < quantile - 1e-6).mean()
        assert below - error <= level <= at_most + error, (level, below, at_most)


@pytest.mark.parametrize("likelihood", LIKELIHOODS[2:4])
def test_gradients_of_likelihoods_are_those_of_finite_differences(likelihood):
    with jax.enable_x64(True):
        outputs, value = jnp.array([0.4, -0.3, 0.8]), 0.35 if likelihood == "beta" else 7.0

        def nll(given):
            return deepar.likelihoods.nll(likelihood, given, value, UNIT.get(likelihood, 20.0))

        for k, found in enumerate(np.asarray(jax.grad(nll)(outputs))):
            ahead, behind = (float(nll(outputs.at[k].add(sign * 1e-5))) for sign in (1.0, -1.0))
            np.testing.assert_allclose((ahead - behind) / 2e-5, found, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("likelihood", ["student-T", "deterministic-L1"])
def test_gradients_are_those_of_finite_differences(likelihood):
    shape = SHAPE._replace(likelihood=likelihood)
    window = windows(3)
    with jax.enable_x64(True):
        window = deepar.network.Window(*(one.astype(np.float64) if one.dtype == np.float32 else one for one in window))
        parameters = fresh(shape, 1).astype(np.float64)
        both = jax.jit(jax.value_and_grad(lambda p: deepar.train.loss(shape, p, window)))
        gradient = np.asarray(both(parameters)[1])
        rng = np.random.default_rng(3)
        for _ in range(4):
            way = rng.normal(size=parameters.size)
            ahead, behind = (float(both(parameters + sign * 1e-5 * way)[0]) for sign in (1.0, -1.0))
            np.testing.assert_allclose((ahead - behind) / 2e-5, gradient @ way, rtol=1e-4, atol=1e-6)


def test_missing_steps_and_windows_beside_change_nothing():
    parameters = fresh(SHAPE, 1)
    window = windows(4)
    found = float(deepar.train.loss(SHAPE, parameters, window))
    # No step of the padding is seen.
    padded = deepar.network.Window(*(np.concatenate([one, one[:2]]) for one in window))
    padded.seen[4:] = 0.0
    assert float(deepar.train.loss(SHAPE, parameters, padded)) == pytest.approx(found, rel=1e-6)
    # The last step is nobody's input.
    moved = window._replace(w=window.w.copy(), seen=window.seen.copy())
    moved.seen[:, -1] = 0.0
    before = float(deepar.train.loss(SHAPE, parameters, moved))
    moved.w[:, -1] = 1e9
    assert float(deepar.train.loss(SHAPE, parameters, moved)) == before


def test_paths_of_a_network_that_is_sure_are_its_own_forecast():
    """A step's paths are what the network run over the whole window says, where it sees its own paths."""
    shape = SHAPE._replace(likelihood="deterministic-L1")
    parameters, window = fresh(shape, 1), windows(4)
    keys = np.arange(8, dtype=np.uint32).reshape(4, 2)
    paths = np.asarray(deepar.sample.paths(shape, 2, parameters, window, keys))
    np.testing.assert_array_equal(paths[..., 0], paths[..., 1])
    begin = shape.history + shape.context
    w = window.w.copy()
    w[:, begin:] = paths[..., 0].T
    arrays = deepar.network.arrays_of(shape, parameters)
    steps = shape.context + shape.horizon
    own = deepar.network.inputs(shape, jnp.asarray(w), window.ratio, shape.history, steps)
    held = jnp.broadcast_to(deepar.network.static(shape, arrays, window)[:, None], (4, steps, 3))
    outputs, _ = deepar.network.run(shape, arrays, jnp.concatenate([own, window.known, held], axis=-1))
    expected = w[:, begin - 3 : -3] + np.asarray(outputs)[:, shape.context :, 0] / window.ratio[:, None]
    np.testing.assert_allclose(w[:, begin:], expected, rtol=1e-4, atol=1e-5)


def test_training_learns_and_is_the_same_again():
    stepping = neural.Stepping(learning_rate=0.01, clip=1.0, averaging=8.0)
    shape = SHAPE._replace(zoneout=0.1)
    many = deepar.network.Window(*(np.repeat(one[None], 60, axis=0) for one in windows(8)))

    def trained():
        begun = neural.to_device(neural.fresh(stepping, fresh(shape, 1), seed=2))
        training, losses = deepar.train.steps(shape, stepping, begun, many)
        return neural.to_arrays(training), np.asarray(losses)

    (first, losses), (second, _) = trained(), trained()
    assert losses[-10:].mean() < losses[:10].mean() - 0.1
    assert int(first.skipped) == 0
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
