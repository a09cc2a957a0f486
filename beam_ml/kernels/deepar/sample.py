"""Sampling: paths of a forecast, one step after the other, each drawn from what the steps before it say.

A series' paths depend on its own window and key alone, whatever series are beside it. Letters: ``b`` series, ``p`` paths of
each, ``h`` steps ahead.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from beam_ml.kernels.deepar import likelihoods, network
from beam_ml.kernels.deepar.network import Shape, Window

__all__ = ["paths"]


@functools.partial(jax.jit, static_argnums=(0, 1))
def paths(shape: Shape, n_paths: int, parameters: Any, window: Window, keys: Any) -> Any:
    """Return paths (h, b, p) of w.

    Args:
        shape: of the network and its windows, of which what comes after the context is not looked at.
        n_paths: p.
        parameters: of the network, (p,).
        window: b series.
        keys: (b, 2) uint32, of each series.
    """
    arrays = network.arrays_of(shape, parameters)
    held = network.static(shape, arrays, window)
    state = _after_context(shape, arrays, window, held)
    b, flat = window.w.shape[0], window.w.shape[0] * n_paths
    begin = shape.history + shape.context

    def spread(x: Any) -> Any:
        return jnp.repeat(x, n_paths, axis=0)

    draws = jax.vmap(lambda key: jax.random.uniform(key, (shape.horizon, n_paths, 2)))(keys)
    draws = jnp.swapaxes(draws, 0, 1).reshape(shape.horizon, flat, 2)
    of_steps = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, 1), shape.horizon))(keys)
    # By step and then by path, so that the lags of a step are few runs of memory.
    known = jnp.concatenate([window.w[:, :begin], jnp.zeros((b, shape.horizon), window.w.dtype)], axis=1)
    buffer = spread(known).T
    ratio, held = spread(window.ratio), spread(held)
    lags = _lags(shape)

    def step(carry: Any, given: Any) -> tuple[Any, Any]:
        buffer, state = carry
        at, ahead, uniforms, key = given
        x = jnp.concatenate([_own(shape, buffer[at - lags], ratio), spread(ahead), held], axis=-1)
        found, state = _once(shape, arrays, x, state)
        drawn = _drawn(shape, found, uniforms, key, window, n_paths)
        if shape.likelihood in likelihoods.OF_VALUES:
            w = (drawn - spread(window.middle)) / spread(window.deviation)
        else:
            w = buffer[at - shape.season] + drawn / ratio
        return (buffer.at[at].set(w), state), w

    steps = begin + jnp.arange(shape.horizon)
    ahead = jnp.swapaxes(window.known[:, shape.context :], 0, 1)
    begun = tuple((spread(h), spread(c)) for h, c in state)
    given = (steps, ahead, draws, jnp.swapaxes(of_steps, 0, 1))
    _, found = jax.lax.scan(step, (buffer, begun), given)
    return found.reshape(shape.horizon, b, n_paths)


def _drawn(shape: Shape, found: Any, uniforms: Any, key: Any, window: Window, n_paths: int) -> Any:
    """Return one value per path; those that need more than two uniforms are drawn series by series."""
    if shape.likelihood not in likelihoods.OF_VALUES:
        return likelihoods.draw(shape.likelihood, found, uniforms, None, 1.0)
    each = found.reshape(-1, n_paths, found.shape[-1])
    pairs = uniforms.reshape(-1, n_paths, 2)
    of_series = functools.partial(likelihoods.draw, shape.likelihood)
    return jax.vmap(of_series)(each, pairs, key, window.unit).reshape(-1)


def _after_context(shape: Shape, arrays: dict[str, Any], window: Window, held: Any) -> tuple[Any, ...]:
    own = network.inputs(shape, window.w, window.ratio, shape.history, shape.context)
    held = jnp.broadcast_to(held[:, None, :], (*own.shape[:2], held.shape[-1]))
    x = jnp.concatenate([own, window.known[:, : shape.context], held], axis=-1)
    return network.run(shape, arrays, x)[1]


def _lags(shape: Shape) -> Any:
    with_seasons = [lag for lag in shape.changes for lag in (lag, lag + shape.season)]
    return jnp.array([*shape.levels, *with_seasons, shape.long_season, shape.season])


def _own(shape: Shape, lagged: Any, ratio: Any) -> Any:
    """Return a step's own inputs (b · p, ·) of the values (lags, b · p) at its lags."""
    n = len(shape.levels)
    changes = lagged[n::2] - lagged[n + 1 :: 2]
    return jnp.concatenate([lagged[:n], jnp.arcsinh(ratio * changes)]).T


def _once(shape: Shape, arrays: dict[str, Any], x: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    below, after = x, []
    for layer in range(shape.layers):
        projected = below @ arrays[f"input{layer}"] + arrays[f"bias{layer}"]
        h, c = network.cell(shape, arrays[f"recurrent{layer}"], projected, state[layer])
        if shape.zoneout > 0:
            h, c = (
                shape.zoneout * old + (1.0 - shape.zoneout) * new for old, new in zip(state[layer], (h, c), strict=True)
            )
        below = h if layer == 0 else h + below
        after.append((h, c))
    return network.outputs(arrays, below), tuple(after)
