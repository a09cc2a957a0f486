"""What the tests of `linear.AdaGrad` share: learning window by window, measuring, and rows of known truth."""

import itertools
from functools import reduce
from typing import Any

import numpy as np
from scipy.special import expit

from beam_ml import Batch, linear
from beam_ml.core import metrics

ALGORITHM = linear.ADAGRAD
PLAIN: dict[str, Any] = {"learning_rates": 0.1, "l1": 0.0, "l2": 0.0}


def grown(spec: linear.AdaGrad, rows: Batch, anchor: Any = None, batch_rows: int = 160) -> Any:
    partial = ALGORITHM.empty(spec)
    for begin in range(0, len(rows), batch_rows):
        partial = ALGORITHM.accumulate(spec, partial, rows.take(slice(begin, begin + batch_rows)), anchor)
    return partial


def learned(spec: linear.AdaGrad, rows: Batch, bounds: list[int], shards: int = 1, state: Any = None) -> Any:
    state = ALGORITHM.init(spec) if state is None else state
    for begin, end in itertools.pairwise(bounds):
        window, anchor = rows.take(slice(begin, end)), ALGORITHM.anchor(spec, state)
        parts = [
            grown(spec, window.take(rows_of), anchor) for rows_of in np.array_split(np.arange(len(window)), shards)
        ]
        merged = reduce(lambda a, b: ALGORITHM.merge(spec, a, b), parts)
        state = ALGORITHM.fold(spec, state, merged, window)
    return state


def model_of(spec: linear.AdaGrad, state: Any, index: int | str = "best", sample: Batch | None = None) -> Any:
    return ALGORITHM.models["variant"].derive(spec, linear.Variant(index=index), state, sample)


def measured(model: Any, rows: Batch) -> dict[str, float]:
    return metrics.compute(ALGORITHM.models["variant"].measure(model, rows))


def binary(n: int, d: int = 4, seed: int = 0, offset: float = 0.0) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)) * np.geomspace(0.1, 10.0, d)
    slope = np.random.default_rng(99).normal(size=d) / np.geomspace(0.1, 10.0, d)
    y = (rng.random(n) < expit(x @ slope - 1.0)).astype(float)
    return Batch.dense(np.round(x * 2**20) / 2**20 + offset, label=y)


def sparse_of(rows: Batch) -> Batch:
    i, j = np.nonzero(rows.dense_x)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(i, minlength=len(rows)))])
    return Batch.csr(indptr, j, rows.dense_x[i, j], rows.n_features, label=rows.label, weight=rows.weight)


SPECS = [
    linear.AdaGrad(n_features=4, learning_rates=(0.1, 0.3), l1=(0.0, 1e-3), l2=(0.0, 1e-2)),
    linear.AdaGrad(n_features=4, task="regression", loss="huber", **PLAIN),
    linear.AdaGrad(n_features=4, task="multiclass", n_classes=3, l1=1e-4, learning_rates=0.2, l2=0.0),
    linear.AdaGrad(n_features=4, sparse=True, **PLAIN),
]
