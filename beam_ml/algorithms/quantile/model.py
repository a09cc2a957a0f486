"""Deriving quantiles, intervals and scales, and what they say of rows. Letters: ``n`` rows, ``d`` columns.

Each is measured by the squared distance between a row's values and those that the model has for them: what test-then-train
adds up, and what grows where a column moves away from its quantiles.
"""

import numpy as np

from beam_ml.algorithms.quantile.histogram import errors, estimates
from beam_ml.algorithms.quantile.spec import (
    BucketModel,
    Buckets,
    Partial,
    QuantileModel,
    Quantiles,
    RobustScale,
    ScaleModel,
    Spec,
)
from beam_ml.core import metrics
from beam_ml.core.algorithm import ModelKind, Predictions
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidBatch

__all__ = ["BUCKETS", "QUANTILES", "SCALE"]


def _quantiles(spec: Spec, model_spec: Quantiles, state: Partial, sample: Batch | None = None) -> QuantileModel:
    q = np.asarray(model_spec.q, dtype=np.float64)
    return QuantileModel(q, estimates(spec, state, q, "quantile.Quantiles"), errors(spec, state))


def _buckets(spec: Spec, model_spec: Buckets, state: Partial, sample: Batch | None = None) -> BucketModel:
    halves = np.arange(1, 2 * model_spec.n) / (2.0 * model_spec.n)
    found = estimates(spec, state, halves, "quantile.Buckets")
    return BucketModel(np.ascontiguousarray(found[:, 1::2]), np.ascontiguousarray(found[:, ::2]), errors(spec, state))


def _scale(spec: Spec, model_spec: RobustScale, state: Partial, sample: Batch | None = None) -> ScaleModel:
    q = np.array([model_spec.low, 0.5, model_spec.high])
    low, centre, high = estimates(spec, state, q, "quantile.RobustScale").T.copy()
    return ScaleModel(low, centre, high, np.where(high > low, high - low, 1.0), errors(spec, state))


def _values(batch: Batch, d: int) -> np.ndarray:
    if batch.n_features != d:
        message = f"A quantile model takes {d} columns; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    return batch.dense_x.astype(np.float64, copy=False)


def _ranks(model: QuantileModel, batch: Batch) -> Predictions:
    """Return ``rank`` (n, d): the share of weight at or below each value, linear between quantiles, within their shares."""
    x = _values(batch, len(model.value))
    return {"rank": np.stack([np.interp(x[:, j], value, model.q) for j, value in enumerate(model.value)], axis=1)}


def _intervals(model: BucketModel, batch: Batch) -> Predictions:
    """Return ``bucket`` (n, d) int64: the number of each value's interval, from 0."""
    x = _values(batch, len(model.bounds))
    columns = [np.searchsorted(bounds, x[:, j], side="right") for j, bounds in enumerate(model.bounds)]
    return {"bucket": np.stack(columns, axis=1).astype(np.int64)}


def _scaled(model: ScaleModel, batch: Batch) -> Predictions:
    """Return ``scaled`` (n, d): ``(x − median) / range``."""
    return {"scaled": (_values(batch, model.centre.size) - model.centre) / model.scale}


def _nearest(x: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return each row's squared distance (n,) to the nearest of its columns' points, (d, k) not falling."""
    squared = np.zeros(len(x))
    for j, mine in enumerate(points):
        above = np.clip(np.searchsorted(mine, x[:, j]), 1, max(1, mine.size - 1))
        gap = np.abs(x[:, j] - mine[np.minimum(above, mine.size - 1)])
        gap = np.minimum(gap, np.abs(x[:, j] - mine[above - 1]))
        squared += gap * gap
    return squared


def _quantile_distance(model: QuantileModel, batch: Batch) -> metrics.Distortion:
    """Measure the squared distance between each value and its nearest quantile."""
    return metrics.distortion(_nearest(_values(batch, len(model.value)), model.value), batch.weights)


def _bucket_distance(model: BucketModel, batch: Batch) -> metrics.Distortion:
    """Measure the squared distance between each value and the median of its interval."""
    x = _values(batch, len(model.bounds))
    of_row = _intervals(model, batch)["bucket"]
    gap = x - np.take_along_axis(model.middle.T, of_row, axis=0)
    return metrics.distortion(np.einsum("ij,ij->i", gap, gap), batch.weights)


def _scale_distance(model: ScaleModel, batch: Batch) -> metrics.Distortion:
    """Measure the squared distance between each value and the nearest of the median and the range's ends."""
    points = np.stack([model.low, model.centre, model.high], axis=1)
    return metrics.distortion(_nearest(_values(batch, model.centre.size), points), batch.weights)


QUANTILES = ModelKind(Quantiles, QuantileModel, _quantiles, _ranks, _quantile_distance)
BUCKETS = ModelKind(Buckets, BucketModel, _buckets, _intervals, _bucket_distance)
SCALE = ModelKind(RobustScale, ScaleModel, _scale, _scaled, _scale_distance)
