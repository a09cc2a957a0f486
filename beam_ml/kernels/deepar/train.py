"""Training: the mean negative log-likelihood of windows, and many steps in one compiled call."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from beam_ml.kernels.deepar import likelihoods, network
from beam_ml.kernels.deepar.network import Shape, Window
from beam_ml.kernels.neural.training import Stepping, Training, stepper

__all__ = ["loss", "steps"]


def loss(shape: Shape, parameters: Any, window: Window, keep: Any = None) -> Any:
    """Return the mean negative log-likelihood of all known steps of windows, the context's too."""
    arrays = network.arrays_of(shape, parameters)
    n = shape.context + shape.horizon
    own = network.inputs(shape, window.w, window.ratio, shape.history, n)
    held = network.static(shape, arrays, window)
    held = jnp.broadcast_to(held[:, None, :], (*own.shape[:2], held.shape[-1]))
    found, _ = network.run(shape, arrays, jnp.concatenate([own, window.known, held], axis=-1), keep)
    now = window.w[:, shape.history :]
    if shape.likelihood in likelihoods.OF_VALUES:
        value = window.middle[:, None] + window.deviation[:, None] * now
        value = jnp.round(value) if shape.likelihood == "negative-binomial" else value
    else:
        before = window.w[:, shape.history - shape.season : -shape.season]
        value = window.ratio[:, None] * (now - before)
    each = likelihoods.nll(shape.likelihood, found, jnp.where(window.seen > 0, value, 0.0), window.unit[:, None])
    return jnp.sum(jnp.where(window.seen > 0, each, 0.0)) / jnp.maximum(jnp.sum(window.seen), 1.0)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2,))
def steps(shape: Shape, stepping: Stepping, training: Training, windows: Window) -> tuple[Training, Any]:
    """Return training after one step for each entry of the first axis of windows, and the losses (steps,)."""

    def of_step(parameters: Any, statistics: Any, window: Window, key: Any) -> tuple[Any, Any]:
        keep = None
        if shape.zoneout > 0:
            size = (shape.layers, 2, window.seen.shape[-1], window.w.shape[0], shape.cells)
            keep = jax.random.bernoulli(key, shape.zoneout, size).astype(jnp.float32)
        return loss(shape, parameters, window, keep), statistics

    return jax.lax.scan(stepper(of_step, stepping), training, windows)
