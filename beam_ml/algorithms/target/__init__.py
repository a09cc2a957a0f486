"""Target means with shrinkage: what stands for a category is the mean of its rows' labels, drawn towards that of all rows.

Of a column, the categories are hashed to m = `buckets` places. With C_k and T_k the sums of ``w`` and ``w·y`` over the rows
whose category is at place k, μ the mean of all labels and a = `smoothing`::

    value_k = (T_k + a·μ) / (C_k + a)

Sums add in any order, age with a half-life, and say nothing of a place that no row had: it has μ. The model predicts the
mean of its columns' values, by which test-then-train judges it; `Model.target` is the term of features that encodes a
column. The rows that it encodes must be others than those that taught the means: earlier rows teach, later ones are encoded.

References: Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes in classification and
prediction problems" (2001).
"""

from typing import Any

import numpy as np

from beam_ml.algorithms.shared.downdate import rest_of
from beam_ml.algorithms.target.spec import Means, Model, Partial, Spec
from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind, Predictions, check_batch
from beam_ml.core.batch import Batch
from beam_ml.core.mixing import places_of
from beam_ml.errors import DeriveRefused, InvalidBatch, RemoveRefused

__all__ = ["TARGET", "Means", "Model", "Partial", "Spec"]

_SLACK = 1e-12  # of all rows' weight, by which rounding may leave a place that is empty


def _law(spec: Spec) -> Law:
    return Law(LawKind.EXACT, rtol=1e-9)


def _empty(spec: Spec) -> Partial:
    shape = (spec.n_features, spec.buckets)
    return Partial(np.zeros(()), np.zeros(shape), np.zeros(shape))


def _accumulate(spec: Spec, partial: Partial, batch: Batch, anchor: Any = None) -> Partial:
    check_batch(spec, batch)
    if batch.label is None:
        message = "target.Spec learns from labels; got a batch without."
        raise InvalidBatch(message)
    present = batch.weights > 0
    if not present.any():
        return partial
    weight, label = batch.weights[present], batch.label[present]
    m, places = spec.buckets, places_of(batch.dense_x[present], spec.buckets)
    with np.errstate(over="ignore"):  # weights too large to add turn infinite, which the fold refuses
        moment = weight * label
        count = [np.bincount(places[:, j], weight, minlength=m) for j in range(spec.n_features)]
        total = [np.bincount(places[:, j], moment, minlength=m) for j in range(spec.n_features)]
        return _merge(spec, partial, Partial(np.asarray(weight.sum()), np.stack(count), np.stack(total)))


def _merge(spec: Spec, a: Partial, b: Partial) -> Partial:
    with np.errstate(over="ignore", invalid="ignore"):
        return Partial(np.asarray(a.weight + b.weight), a.count + b.count, a.total + b.total)


def _remove(spec: Spec, summary: Partial, part: Partial) -> Partial:
    """Subtract a part's sums.

    Raises:
        RemoveRefused: a place of the part has more rows than there are.
    """
    if _weight(part) == 0.0:
        return summary
    total = rest_of(summary.weight, part.weight, "weight")
    count = summary.count - part.count
    slack = _SLACK * float(summary.weight)
    if count.min() < -slack:
        message = "What is removed must have been learned: one of its categories has more rows than there are."
        raise RemoveRefused(message)
    if total == 0.0:
        return _empty(spec)
    left = count > min(slack, float(count.max()) * 0.5)
    return Partial(total, np.where(left, count, 0.0), np.where(left, summary.total - part.total, 0.0))


def _scale(spec: Spec, summary: Partial, factor: float) -> Partial:
    weight = np.asarray(summary.weight * factor)
    if weight == 0.0:
        return _empty(spec)
    return Partial(weight, summary.count * factor, summary.total * factor)


def _weight(summary: Partial) -> float:
    return float(summary.weight)


def _derive(spec: Spec, model_spec: Means, state: Partial, sample: Batch | None = None) -> Model:
    if _weight(state) <= 0.0:
        message = "target.Means needs rows of positive weight; got none yet."
        raise DeriveRefused(message)
    mean = state.total[0].sum() / state.weight
    drawn = model_spec.smoothing
    return Model(np.asarray(mean), (state.total + drawn * mean) / (state.count + drawn), state.count)


def _encoded(model: Model, batch: Batch) -> np.ndarray:
    """Return what stands for each row's categories, (n, g)."""
    if batch.n_features != len(model.value):
        message = f"A target model takes {len(model.value)} columns; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    places = places_of(batch.dense_x, model.value.shape[1])
    return model.value[np.arange(len(model.value)), places]


def _predict(model: Model, batch: Batch) -> Predictions:
    """Return ``encoded`` (n, g), what stands for each category, and ``score`` (n,), their mean: a guess at the label."""
    encoded = _encoded(model, batch)
    return {"score": encoded.mean(axis=1), "encoded": encoded}


def _measure(model: Model, batch: Batch) -> metrics.Regression:
    """Measure the columns' mean against the labels."""
    if batch.label is None:
        message = "A target model is measured against labels; got a batch without."
        raise InvalidBatch(message)
    return metrics.regression(_encoded(model, batch).mean(axis=1), batch.label, batch.weights)


TARGET = Algorithm(
    name="target",
    version=1,
    spec=Spec,
    partial=Partial,
    law=_law,
    empty=_empty,
    accumulate=_accumulate,
    merge=_merge,
    scale=_scale,
    weight=_weight,
    models={"means": ModelKind(Means, Model, _derive, _predict, _measure)},
    remove=_remove,
)
"""Target means by category: law EXACT, State is Partial.

>>> from beam_ml import Batch, derive, fit, predict
>>> rows = Batch.dense([[1.0], [1.0], [2.0], [2.0]], label=[1.0, 1.0, 0.0, 0.0])
>>> model = derive(fit(Spec(n_features=1), [rows]), Means(smoothing=2.0))
>>> predict(model, Batch.dense([[1.0], [2.0], [3.0]]))["score"].tolist()
[0.75, 0.25, 0.5]
"""
