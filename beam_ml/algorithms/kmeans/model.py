"""Deriving clusters from the coreset, and predicting with them. Letters: ``n`` rows, ``d`` features, ``k`` clusters."""

import numpy as np

from beam_ml import kernels
from beam_ml.algorithms.kmeans.lloyd import Clustering, cluster
from beam_ml.algorithms.kmeans.spec import Clusters, Model, Partial, Spec
from beam_ml.core import metrics
from beam_ml.core.algorithm import Predictions
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = ["derive", "measure", "predict"]


def derive(spec: Spec, model_spec: Clusters, state: Partial, sample: Batch | None = None) -> Model:
    """Cluster the coreset into k clusters.

    Fewer distinct rows than k yield one cluster for each: a model never has an empty or a doubled cluster.

    The coreset assigns all rows of one of its centres to one cluster, also those that another cluster is nearer to: their
    sum of squares is too large by that, with normal rows in 8 dimensions by 5 to 18 % at k = k_max. The sample's rows tell
    how many go elsewhere, and what they cost there; with it `weight` and `sse` are those of each row's nearest centre,
    within some 2 %. Without, `sse` is an upper bound: what the clusters cost if rows stay with their coreset centre.

    Args:
        spec: of the state.
        model_spec: how many clusters, and how they are sought.
        state: the coreset.
        sample: rows weighted to stand for all of them; None: `weight` and `sse` are those of the coreset.

    Raises:
        DeriveRefused: no rows yet, rows too large to square, or k above the spec's k_max.
    """
    if model_spec.k > spec.k_max:
        message = f"kmeans.Clusters.k must be <= {spec.k_max}, the spec's k_max; got {model_spec.k}."
        raise DeriveRefused(message)
    if not np.any(state.weight > 0.0):
        message = "kmeans.Clusters needs rows of positive weight; got none yet."
        raise DeriveRefused(message)
    if not all(np.isfinite(array).all() for array in (state.centres, state.weight, state.scatter)):
        message = "kmeans.Clusters needs a finite coreset; the rows were too large to square."
        raise DeriveRefused(message)
    found = cluster(state, model_spec, spec.seed)
    if sample is not None and len(sample):
        found = _as_sampled(found, state, sample)
    return Model(centres=found.centres, weight=found.weight, sse=found.sse)


def _as_sampled(found: Clustering, state: Partial, sample: Batch) -> Clustering:
    """Move weight and squares from the clusters of the rows' coreset centres to those nearest to the rows themselves.

    A cluster's weight is handed on in the proportions of its sampled rows' weights, its squares in those of their squares:
    where no row goes elsewhere nothing changes, whatever the sample's noise.
    """
    rows, weight = sample.dense_x, sample.weights
    cell, _ = kernels.kmeans.nearest.nearest(rows, state.centres)
    of_centre, _ = kernels.kmeans.nearest.nearest(state.centres, found.centres)
    given, (mine, squared) = of_centre[cell], kernels.kmeans.nearest.nearest(rows, found.centres)
    if np.array_equal(given, mine):
        return found
    k = found.weight.size
    before = kernels.kmeans.absorb.squared_to(rows, found.centres, given)
    of_weight = _handed_on(found.weight, given, mine, weight, weight, k)
    of_squares = _handed_on(found.sse, given, mine, weight * before, weight * squared, k)
    order = np.argsort(-of_weight, kind="stable")
    return Clustering(found.centres[order], of_weight[order], of_squares[order])


def _handed_on(
    total: np.ndarray, given: np.ndarray, mine: np.ndarray, before: np.ndarray, after: np.ndarray, k: int
) -> np.ndarray:
    """Scale the sampled rows of each cluster to its total, and sum them up by the clusters they are assigned to."""
    sampled = np.bincount(given, weights=before, minlength=k)
    scale = np.divide(total, sampled, out=np.zeros(k), where=sampled > 0)
    moved = np.bincount(mine, weights=after * scale[given], minlength=k)
    return np.where(sampled > 0, 0.0, total) + moved


def _closest(model: Model, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    d = model.centres.shape[1]
    if batch.n_features != d:
        message = f"A kmeans model takes {d} features; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    index, squared = kernels.kmeans.nearest.nearest(batch.dense_x, model.centres)
    return index, squared


def predict(model: Model, batch: Batch) -> Predictions:
    """Return ``closest_cluster`` (n,) int64 and ``distance_to_cluster`` (n,), Euclidean."""
    index, squared = _closest(model, batch)
    return {"closest_cluster": index, "distance_to_cluster": np.sqrt(squared)}


def measure(model: Model, batch: Batch) -> metrics.Distortion:
    """Measure the squared distance between each row and its closest centre."""
    _, squared = _closest(model, batch)
    return metrics.distortion(squared, batch.weights)
