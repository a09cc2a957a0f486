"""Faults of size, weight and naming of rows; as `beam_ml.testing.faults`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import to_arrays
from beam_ml.core.batch import Batch

__all__ = [
    "half_at",
    "ignores_places",
    "ignores_seed",
    "keeps_what_it_merges",
    "measures_unweighted",
    "needs_places",
    "sides_count_alike",
    "single_precision",
    "weights_levelled",
]


def keeps_what_it_merges(algorithm: Algorithm) -> Any:
    """The arrays of every partial that was ever merged are kept."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        merged = algorithm.merge(spec, getattr(a, "_merged", a), getattr(b, "_merged", b))
        count = getattr(a, "_count", 1) + getattr(b, "_count", 1)
        arrays = {name: np.tile(array, count) if array.ndim else array for name, array in to_arrays(merged).items()}
        kept = object.__new__(type(merged))
        for name, array in {**vars(merged), **arrays, "_merged": merged, "_count": count}.items():
            object.__setattr__(kept, name, array)
        return kept

    return merge


def sides_count_alike(algorithm: Algorithm) -> Any:
    """Both sides of a merge count alike, whatever they weigh; their total weight is right."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        w_a, w_b = algorithm.weight(a), algorithm.weight(b)
        if w_a == 0.0 or w_b == 0.0:
            return algorithm.merge(spec, a, b)
        half = (w_a + w_b) / 2.0
        return algorithm.merge(spec, algorithm.scale(spec, a, half / w_a), algorithm.scale(spec, b, half / w_b))

    return merge


def weights_levelled(weight: np.ndarray) -> np.ndarray:
    """All rows of a batch count alike; their total weight is right."""
    return np.full(weight.size, weight.mean()) if weight.size else weight


def half_at(width: int) -> Callable[[Algorithm], Any]:
    """Rows of so many features count half."""

    def make(algorithm: Algorithm) -> Any:
        def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
            counted = batch.replace(weight=batch.weights * 0.5) if spec.n_features == width else batch
            return algorithm.accumulate(spec, partial, counted, anchor)

        return accumulate

    return make


def needs_places(algorithm: Algorithm) -> Any:
    """Rows are taken by their positions, which they must have."""

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        assert batch.position is not None  # noqa: S101
        return algorithm.accumulate(spec, partial, batch, anchor)

    return accumulate


def single_precision(algorithm: Algorithm) -> Any:
    """Features are rounded to float32."""

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        if batch.X is not None:
            batch = batch.replace(X=batch.X.astype(np.float32).astype(np.float64))
        elif batch.values is not None:
            batch = batch.replace(values=batch.values.astype(np.float32).astype(np.float64))
        return algorithm.accumulate(spec, partial, batch, anchor)

    return accumulate


def ignores_seed(algorithm: Algorithm) -> Any:
    """One seed for all."""

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        return algorithm.accumulate(spec.model_copy(update={"seed": 0}), partial, batch, anchor)

    return accumulate


def ignores_places(algorithm: Algorithm) -> Any:
    """Rows are numbered as they come in a batch."""

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        return algorithm.accumulate(spec, partial, batch.replace(position=np.arange(len(batch))), anchor)

    return accumulate


def measures_unweighted(kind: Any) -> Any:
    """A measure counts every row once."""

    def measure(model: Any, batch: Batch) -> Any:
        return kind.measure(model, batch.replace(weight=None))

    return dataclasses.replace(kind, measure=measure)
