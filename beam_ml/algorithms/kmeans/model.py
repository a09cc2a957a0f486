"""Deriving clusters from the coreset, and predicting with them. Letters: ``n`` rows, ``d`` features, ``k`` clusters."""

import numpy as np

from beam_ml import kernels
from beam_ml.algorithms.kmeans.lloyd import cluster
from beam_ml.algorithms.kmeans.spec import Clusters, Model, Partial, Spec
from beam_ml.core import metrics
from beam_ml.core.algorithm import Predictions
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = ["derive", "measure", "predict"]


def derive(spec: Spec, model_spec: Clusters, state: Partial, sample: Batch | None = None) -> Model:
    """Cluster the coreset into k clusters.

    Fewer distinct rows than k give one cluster for each: a model never has an empty or a doubled cluster.

    Raises:
        DeriveRefused: no rows yet, rows too large to square, or k above the spec's k_max.
    """
    if model_spec.k > spec.k_max:
        message = f"kmeans.Clusters.k must be <= {spec.k_max}, the spec's k_max; got {model_spec.k}."
        raise DeriveRefused(message)
    if state.weight.size == 0:
        message = "kmeans.Clusters needs rows of positive weight; got none yet."
        raise DeriveRefused(message)
    if not all(np.isfinite(array).all() for array in (state.centres, state.weight, state.scatter)):
        message = "kmeans.Clusters needs a finite coreset; the rows were too large to square."
        raise DeriveRefused(message)
    found = cluster(state, model_spec, spec.seed)
    return Model(centres=found.centres, weight=found.weight, sse=found.sse)


def _closest(model: Model, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    d = model.centres.shape[1]
    if batch.n_features != d:
        message = f"A kmeans model takes {d} features; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    index, squared = kernels.kmeans_nearest.nearest(batch.dense_x, model.centres)
    return index, squared


def predict(model: Model, batch: Batch) -> Predictions:
    """Give ``closest_cluster`` (n,) int64 and ``distance_to_cluster`` (n,), Euclidean."""
    index, squared = _closest(model, batch)
    return {"closest_cluster": index, "distance_to_cluster": np.sqrt(squared)}


def measure(model: Model, batch: Batch) -> metrics.Distortion:
    """Measure the squared distance between each row and its closest centre."""
    _, squared = _closest(model, batch)
    return metrics.distortion(squared, batch.weights)
