"""The shape of a network, and the parameters that it begins with: what needs no JAX."""

import functools
from typing import NamedTuple

import numpy as np

from beam_ml.algorithms.deepar.spec import Spec
from beam_ml.algorithms.deepar.windows import lags

__all__ = ["N_OUTPUTS", "Shape", "fresh", "shape_of"]

N_OUTPUTS = 3
"""Outputs of the network per step."""


class Shape(NamedTuple):
    """What decides the shapes of a network and of its windows (the `Shape` of its kernels)."""

    context: int
    horizon: int
    history: int  # steps before the context that lags reach
    season: int
    long_season: int
    levels: tuple[int, ...]  # lags
    changes: tuple[int, ...]  # lags
    n_known: int  # numbers known ahead per step
    n_static: int
    cardinality: tuple[int, ...]
    embedding: int
    cells: int
    layers: int
    likelihood: str
    zoneout: float

    @property
    def n_inputs(self) -> int:
        """Inputs of a step, f."""
        own = len(self.levels) + len(self.changes) + 1 + self.n_known
        return own + self.n_static + len(self.cardinality) * self.embedding

    @property
    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes of the parameters, in order."""
        found: list[tuple[str, tuple[int, ...]]] = [
            (f"embedding{k}", (n + 1, self.embedding)) for k, n in enumerate(self.cardinality)
        ]
        width = self.n_inputs
        for layer in range(self.layers):
            found += [
                (f"input{layer}", (width, 4 * self.cells)),
                (f"recurrent{layer}", (self.cells, 4 * self.cells)),
                (f"bias{layer}", (4 * self.cells,)),
            ]
            width = self.cells
        return (*found, ("head", (self.cells, N_OUTPUTS)), ("head_bias", (N_OUTPUTS,)))


@functools.lru_cache(maxsize=64)
def shape_of(spec: Spec) -> Shape:
    """Return the shape of a spec's network."""
    levels, changes, history = lags(spec)
    frequency = spec.frequency
    return Shape(
        context=spec.context_length, horizon=spec.prediction_length, history=history, season=frequency.season,
        long_season=frequency.long_season, levels=levels, changes=changes,
        n_known=frequency.n_calendar + 1 + spec.num_dynamic_feat, n_static=2, cardinality=spec.cardinality,
        embedding=spec.embedding_dimension, cells=spec.num_cells, layers=spec.num_layers, likelihood=spec.likelihood,
        zoneout=spec.dropout_rate,
    )  # fmt: skip


def fresh(shape: Shape, seed: int) -> np.ndarray:
    """Return parameters (p,) float32 to begin with: uniform ones by fan-in and fan-out (Glorot), forget gates open."""
    rng, found = np.random.default_rng(seed), []
    for name, size in shape.shapes:
        values = np.zeros(size)
        if name.startswith("embedding"):
            values[1:] = 0.1 * rng.standard_normal((size[0] - 1, size[1]))
        elif name.startswith("bias"):
            values[shape.cells : 2 * shape.cells] = 1.0
        elif len(size) == 2:
            fan = size[0] + (size[1] if name == "head" else size[1] // 4)
            values = rng.uniform(-1.0, 1.0, size) * np.sqrt(6.0 / fan)
        found.append(values.ravel())
    return np.concatenate(found).astype(np.float32)
