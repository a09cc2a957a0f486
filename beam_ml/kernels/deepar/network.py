"""The network: an LSTM over a window of a series, given what came before each step.

A window is in units of its own series: w = (y − m) / s, m and s mean and deviation of what is known before the forecast. Its
inputs at a step t are, with the season S and ratio r = s / δ, δ the mean size of the change over a season::

    w[t − l]                                   some lags l
    asinh( r (w[t − l] − w[t − l − S]) )       lags near and at the season's multiples
    asinh( r (w[t − L] − w[t − S]) )           L the long season
    what is known ahead, what holds for the series, embeddings of its categories

The target is z = r (w[t] − w[t − S]); a layer after the first is added to what it gets (residual). Letters: ``b`` windows,
``t`` steps, ``f`` inputs, ``c`` cells, ``k`` categories.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from beam_ml.kernels.layout import Layout

__all__ = ["Shape", "Window", "arrays_of", "cell", "inputs", "outputs", "run", "static"]

_UNROLL = 4


class Shape(Protocol):
    """What decides the shapes of a network and of its windows; hashable, so that compiled functions are kept by it."""

    @property
    def context(self) -> int:
        """Steps before the forecast."""
        ...

    @property
    def horizon(self) -> int:
        """Steps of the forecast."""
        ...

    @property
    def history(self) -> int:
        """Steps before the context that lags reach."""
        ...

    @property
    def season(self) -> int:
        """Steps that changes are over."""
        ...

    @property
    def long_season(self) -> int:
        """Steps of the longest cycle."""
        ...

    @property
    def levels(self) -> tuple[int, ...]:
        """Lags of values."""
        ...

    @property
    def changes(self) -> tuple[int, ...]:
        """Lags of changes."""
        ...

    @property
    def cardinality(self) -> tuple[int, ...]:
        """Values of each category."""
        ...

    @property
    def cells(self) -> int:
        """Cells of a layer."""
        ...

    @property
    def layers(self) -> int:
        """Number of layers."""
        ...

    @property
    def likelihood(self) -> str:
        """Its name."""
        ...

    @property
    def zoneout(self) -> float:
        """Chance that a cell keeps what it was."""
        ...

    @property
    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes of the parameters."""
        ...


class Window(NamedTuple):
    """Windows of series; axes before (b, …) may be steps of training."""

    w: Any  # (b, history + context + horizon) float32, gaps filled
    seen: Any  # (b, context + horizon) float32, 1: known, 0: missing
    known: Any  # (b, context + horizon, n_known) float32
    static: Any  # (b, n_static) float32
    ratio: Any  # (b,) float32, s / δ
    middle: Any  # (b,) float32, m
    deviation: Any  # (b,) float32, s
    unit: Any  # (b,) float32, mean magnitude
    codes: Any  # (b, k) int32 rows of the embeddings; 0: unknown


def arrays_of(shape: Shape, parameters: Any) -> dict[str, Any]:
    """Return the arrays that the parameters (p,) are."""
    return Layout(shape.shapes).arrays(parameters)


def static(shape: Shape, arrays: dict[str, Any], window: Window) -> Any:
    """Return what holds for a whole series: (b, n_static + k · embedding)."""
    of_codes = [arrays[f"embedding{k}"][window.codes[:, k]] for k in range(len(shape.cardinality))]
    return jnp.concatenate([window.static, *of_codes], axis=-1)


def inputs(shape: Shape, w: Any, ratio: Any, at: int, steps: int) -> Any:
    """Return a window's own inputs (b, t, ·) of steps from `at` on, by their place in w."""

    def lagged(lag: int) -> Any:
        return jax.lax.slice_in_dim(w, at - lag, at - lag + steps, axis=1)

    season, scale = shape.season, ratio[:, None]
    found = [lagged(lag) for lag in shape.levels]
    found += [jnp.arcsinh(scale * (lagged(lag) - lagged(lag + season))) for lag in shape.changes]
    found.append(jnp.arcsinh(scale * (lagged(shape.long_season) - lagged(season))))
    return jnp.stack(found, axis=-1)


def run(shape: Shape, arrays: dict[str, Any], x: Any, keep: Any = None) -> tuple[Any, tuple[Any, ...]]:
    """Return outputs (b, t, 3) for inputs (b, t, f), and each layer's last state (h, c).

    Args:
        shape: of the network.
        arrays: its parameters.
        x: the inputs.
        keep: (layers, 2, t, b, c) 1 where a cell keeps what it was (zoneout, Krueger et al. 2017); None: none does.
    """
    below, last = x, []
    for layer in range(shape.layers):
        projected = below @ arrays[f"input{layer}"] + arrays[f"bias{layer}"]
        kept = None if keep is None else keep[layer]
        above, state = _layer(shape, arrays[f"recurrent{layer}"], jnp.swapaxes(projected, 0, 1), kept)
        above = jnp.swapaxes(above, 0, 1)
        below = above if layer == 0 else above + below
        last.append(state)
    return outputs(arrays, below), tuple(last)


def outputs(arrays: dict[str, Any], above: Any) -> Any:
    """Return the outputs (…, 3) of the topmost cells (…, c)."""
    return above @ arrays["head"] + arrays["head_bias"]


def _layer(shape: Shape, recurrent: Any, projected: Any, keep: Any) -> tuple[Any, Any]:
    """Return a layer's cells (t, b, c) and its last state."""
    zero = jnp.zeros((projected.shape[1], shape.cells), projected.dtype)

    def step(state: Any, given: Any) -> tuple[Any, Any]:
        at, kept = given
        h, c = cell(shape, recurrent, at, state)
        if kept is not None:
            h, c = kept[0] * state[0] + (1.0 - kept[0]) * h, kept[1] * state[1] + (1.0 - kept[1]) * c
        elif shape.zoneout > 0:
            h, c = (shape.zoneout * old + (1.0 - shape.zoneout) * new for old, new in zip(state, (h, c), strict=True))
        return (h, c), h

    masks = None if keep is None else jnp.swapaxes(keep, 0, 1)
    state, above = jax.lax.scan(step, (zero, zero), (projected, masks), unroll=_UNROLL)
    return above, state


def cell(shape: Shape, recurrent: Any, projected: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
    """Return h and c (b, c) after a step of inputs projected to (b, 4 c): gates input, forget, output; the candidate."""
    n = shape.cells
    gates = projected + state[0] @ recurrent
    opened = jax.nn.sigmoid(gates[:, : 3 * n])
    c = opened[:, n : 2 * n] * state[1] + opened[:, :n] * jnp.tanh(gates[:, 3 * n :])
    return opened[:, 2 * n :] * jnp.tanh(c), c
