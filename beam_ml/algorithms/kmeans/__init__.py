"""K-means from a coreset of weighted centres: any number of clusters, chosen after training.

Letters: ``n`` rows, ``d`` features, ``m`` coreset centres, ``k`` clusters.

The partial holds at most ``k_max · extra_center_factor`` centres c_i with weight w_i and scatter s_i about them. For any
other centres C the rows' sum of squares is nearly that of the coreset::

    Σ_rows w‖x − C(x)‖² ≈ Σ_i ( w_i ‖c_i − C(c_i)‖² + s_i )

and equal as long as no row is closer to another of C than its c_i is. Rows join their nearest centre or open one where the
coreset is too coarse (`stream`); merging unites two coresets and reduces them to the capacity (`coreset`); deriving runs
weighted k-means++ and Lloyd on the coreset alone (`lloyd`).

References: Har-Peled and Mazumdar, "On coresets for k-means and k-median clustering" (2004); Guha et al., "Clustering data
streams" (2003); Liberty, Sriharsha and Sviridenko, "An algorithm for online k-means clustering" (2016).
"""

from typing import Any

import numpy as np

from beam_ml.algorithms.kmeans import coreset
from beam_ml.algorithms.kmeans.model import derive, measure, predict
from beam_ml.algorithms.kmeans.spec import Clusters, Model, Partial, Spec
from beam_ml.algorithms.kmeans.stream import take_in
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind, check_batch
from beam_ml.core.batch import Batch

__all__ = ["KMEANS", "Clusters", "Model", "Partial", "Spec"]

_BOUND = 0.02


def _law(spec: Spec) -> Law:
    return Law(LawKind.SKETCH, rtol=1e-9, bound=_BOUND)


def _accumulate(spec: Spec, partial: Partial, batch: Batch, anchor: Any = None) -> Partial:
    check_batch(spec, batch)
    x, weight = batch.dense_x, batch.weights
    if not weight.all():
        present = weight > 0
        x, weight = np.ascontiguousarray(x[present]), weight[present]
    return take_in(spec, partial, x, weight) if weight.size else partial


def _fold(spec: Spec, state: Partial, partial: Partial, sample: Batch | None = None) -> Partial:
    return coreset.merge(spec, state, partial)


def _scale(spec: Spec, summary: Partial, factor: float) -> Partial:
    weight = summary.weight * factor
    kept = weight > 0
    if not kept.any():
        return coreset.empty(spec)
    if kept.all():
        return Partial(centres=summary.centres, weight=weight, scatter=summary.scatter * factor)
    return Partial(centres=summary.centres[kept], weight=weight[kept], scatter=summary.scatter[kept] * factor)


def _weight(summary: Partial) -> float:
    return float(summary.weight.sum())


KMEANS = Algorithm(
    name="kmeans",
    version=1,
    spec=Spec,
    partial=Partial,
    law=_law,
    empty=coreset.empty,
    accumulate=_accumulate,
    merge=coreset.merge,
    fold=_fold,
    scale=_scale,
    weight=_weight,
    models={"clusters": ModelKind(Clusters, Model, derive, predict, measure)},
)
"""K-means: law SKETCH, State is Partial.

>>> spec = Spec(n_features=1, k_max=4)
>>> state = KMEANS.accumulate(spec, KMEANS.empty(spec), Batch.dense([[0.0], [2.0], [10.0], [12.0]]), None)
>>> model = KMEANS.models["clusters"].derive(spec, Clusters(k=2), state, None)
>>> sorted(model.centres.ravel().tolist()), float(model.sse.sum())
([1.0, 11.0], 4.0)
>>> KMEANS.models["clusters"].predict(model, Batch.dense([[4.0]]))["distance_to_cluster"].tolist()
[3.0]
"""
