"""`stepper`: one step of stochastic gradient descent on parameters as one vector, safe from what is not finite.

What training carries is a few flat arrays: parameters, both moments of the optimiser, a mean of the parameters, statistics
of the network (such as running means), how many steps were made and how many were skipped, and a random key. A gradient is
clipped to a norm, scaled by the optimiser, and followed at the rate of the step. Where the loss or the gradient is not
finite, the step is skipped and counted: nothing of it reaches what is carried, but for the key.

The rate does not know how long training will last, for a stream has no end to anneal towards (`rate`). The noise of a rate
that stays high is averaged out: ``mean ← mean + c·(parameters − mean)``, ``c = max((a + 1) / (t + a + 1), 1 / horizon)``,
the polynomial mean of Shamir and Zhang (2013), which forgets its beginning.

Letters: ``p`` parameters, ``s`` statistics.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from beam_ml.kernels.neural.devices import on_all

__all__ = ["Stepping", "Training", "fresh", "learned", "rate", "stepper", "to_arrays", "to_device"]

Loss = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
"""Parameters (p,), statistics (s,), batch and key → loss and the statistics after it."""


class Stepping(NamedTuple):
    """How steps are made; hashable, so that a compiled step may be kept by it.

    Attributes:
        optimizer: which moments are kept.
        learning_rate: the highest rate.
        warmup: steps over which the rate rises.
        decay_after: steps after which the rate falls, by 1/√t; 0: it stays.
        clip: largest norm of a gradient; 0: any.
        weight_decay: share of the parameters taken off with each step, times the rate.
        averaging: a, the power by which recent parameters count more in their mean; 0: no mean is kept.
        horizon: steps that the mean looks back at most.
    """

    optimizer: Literal["adam", "adadelta", "adagrad", "rmsprop", "sgd"] = "adam"
    learning_rate: float = 0.001
    warmup: int = 0
    decay_after: int = 0
    clip: float = 0.0
    weight_decay: float = 0.0
    averaging: float = 0.0
    horizon: float = 1e6


class Training(NamedTuple):
    """What is carried from step to step."""

    parameters: Any  # (p,) float32
    first: Any  # (p,) float32, the optimiser's
    second: Any  # (p,) float32, the optimiser's
    mean: Any  # (p,) float32, of the parameters; (0,) where none is kept
    statistics: Any  # (s,) float32, the network's
    steps: Any  # () int32, made
    skipped: Any  # () int32, left out, since loss or gradient was not finite
    key: Any  # (2,) uint32


def fresh(stepping: Stepping, parameters: np.ndarray, seed: int, statistics: np.ndarray | None = None) -> Training:
    """Return training before its first step, in arrays of numpy.

    >>> fresh(Stepping(), np.ones(3), seed=1).first.tolist()
    [0.0, 0.0, 0.0]
    """
    parameters = np.asarray(parameters, np.float32)
    none, zero = np.zeros_like(parameters), np.zeros((), np.int32)
    return Training(
        parameters, none, none, parameters if stepping.averaging > 0 else none[:0],
        np.zeros(0, np.float32) if statistics is None else np.asarray(statistics, np.float32),
        zero, zero, np.array([0, seed], np.uint32),
    )  # fmt: skip


def to_device(training: Training) -> Training:
    """Return training in arrays of JAX, on every device of this host."""
    return Training(*on_all(tuple(training)))


def to_arrays(training: Training) -> Training:
    """Return training in arrays of numpy."""
    return Training(*(np.asarray(one) for one in training))


def learned(training: Training) -> Any:
    """Return the parameters (p,) to be used: their mean where one is kept."""
    return training.mean if training.mean.size else training.parameters


def rate(stepping: Stepping, step: Any) -> Any:
    """Return the rate of a step, from 0 on: rising linearly, then constant, then falling by 1/√t.

    ``rate = learning_rate · min(1, (t + 1) / warmup) · min(1, √(decay_after / (t + 1)))``

    >>> [round(float(rate(Stepping(learning_rate=1.0, warmup=2, decay_after=4), t)), 3) for t in (0, 1, 3, 15)]
    [0.5, 1.0, 1.0, 0.5]
    """
    at = jnp.asarray(step, jnp.float32) + 1.0
    found = jnp.asarray(stepping.learning_rate, jnp.float32)
    if stepping.warmup > 0:
        found = found * jnp.minimum(1.0, at / stepping.warmup)
    if stepping.decay_after > 0:
        found = found * jnp.minimum(1.0, jnp.sqrt(stepping.decay_after / at))
    return found


def stepper(loss: Loss, stepping: Stepping) -> Callable[[Training, Any], tuple[Training, Any]]:
    """Return the step: training and batch → training after it and the loss; pure, to be compiled by the caller.

    >>> step = stepper(lambda p, s, batch, key: (((p - batch) ** 2).sum(), s), Stepping(learning_rate=0.1))
    >>> after, value = step(fresh(Stepping(), np.zeros(1), seed=0), np.ones(1))
    >>> round(float(value), 3), round(float(after.parameters[0]), 3), int(after.steps)
    (1.0, 0.1, 1)
    >>> after, _ = step(fresh(Stepping(), np.zeros(1), seed=0), np.array([np.inf]))
    >>> after.parameters.tolist(), int(after.steps), int(after.skipped)
    ([0.0], 0, 1)
    """

    def step(training: Training, batch: Any) -> tuple[Training, Any]:
        key, mine = jax.random.split(jnp.asarray(training.key))
        given = jnp.asarray(training.parameters)
        (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(given, training.statistics, batch, mine)
        finite = jnp.isfinite(value) & jnp.isfinite(gradient).all() & jnp.isfinite(statistics).all()
        if stepping.clip > 0:
            norm = jnp.sqrt(jnp.sum(gradient * gradient))
            gradient = gradient * jnp.minimum(1.0, stepping.clip / jnp.maximum(norm, 1e-30))
            finite &= jnp.isfinite(norm)
        update, first, second = _scaled(stepping, gradient, training)
        now = rate(stepping, training.steps)
        parameters = given - now * (update + stepping.weight_decay * given)
        mean = training.mean
        if stepping.averaging > 0:
            at = jnp.asarray(training.steps, jnp.float32)
            weight = (stepping.averaging + 1.0) / (at + stepping.averaging + 1.0)
            mean = mean + jnp.maximum(weight, 1.0 / stepping.horizon) * (parameters - mean)
        after = (parameters, first, second, mean, statistics)
        finite &= jnp.isfinite(parameters).all()
        kept = [jnp.where(finite, new, old) for new, old in zip(after, training[:5], strict=True)]
        steps, skipped = training.steps + finite, training.skipped + ~finite
        return Training(kept[0], kept[1], kept[2], kept[3], kept[4], steps, skipped, key), value

    return step


def _scaled(stepping: Stepping, gradient: Any, training: Training) -> tuple[Any, Any, Any]:
    """Return what the optimiser makes of a gradient, and its moments after it."""
    first, second = jnp.asarray(training.first), jnp.asarray(training.second)
    if stepping.optimizer == "adam":
        count = jnp.asarray(training.steps, jnp.int32)
        update, state = optax.scale_by_adam().update(gradient, optax.ScaleByAdamState(count, first, second))
        return update, state.mu, state.nu
    if stepping.optimizer == "adadelta":
        update, delta = optax.scale_by_adadelta().update(gradient, optax.ScaleByAdaDeltaState(first, second))
        return update, delta.e_g, delta.e_x
    if stepping.optimizer == "adagrad":
        update, rss = optax.scale_by_rss(0.0).update(gradient, optax.ScaleByRssState(first))
        return update, rss.sum_of_squares, second
    if stepping.optimizer == "rmsprop":
        update, rms = optax.scale_by_rms().update(gradient, optax.ScaleByRmsState(first))
        return update, rms.nu, second
    return gradient, first, second
