"""Outliers by column: how many standard deviations a row lies from the mean. Law EXACT; the algorithm to copy from.

Around an origin o (the smallest row of the data) the partial keeps, with row weights w::

    W = Σw        m = Σw(x − o)/W        s = Σw(x − o − m)²

Raw sums Σw·x² lose all digits far from 0; these do not. Two partials add by Chan's rule, at one origin and with
``δ = m_b − m_a``: ``s = s_a + s_b + (W_a W_b / W) δ²`` and ``m = (W_a m_a + W_b m_b) / W``.

>>> from beam_ml import Batch, derive, fit, predict
>>> learner = fit(Spec(n_features=1), [Batch.dense([[9.0], [10.0], [11.0]])])
>>> predict(derive(learner, Outliers(threshold=3.0)), Batch.dense([[10.0], [15.0]]))["is_outlier"].tolist()
[False, True]
"""

from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from beam_ml.algorithms.shared.downdate import check_origin, parted, rest_of
from beam_ml.algorithms.shared.origin import smaller_row, smallest_row
from beam_ml.core import metrics, spec
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind, Predictions, check_batch
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused


class Spec(spec.Spec):
    """What shapes the state: change it, and the data is needed again."""

    algorithm: Literal["beam_ml.testing.examples.outliers:OUTLIERS"] = "beam_ml.testing.examples.outliers:OUTLIERS"


class Outliers(spec.ModelSpec):
    """What is chosen after training: a row is an outlier if a feature lies over `threshold` deviations from its mean."""

    kind: Literal["outliers"] = "outliers"
    threshold: Annotated[float, Field(gt=0)] = 4.0


@array_dataclass
class Moments:
    """The partial, and the state. Letters: ``d`` features."""

    origin: Float64[np.ndarray, "d"]  # o, feature units
    weight: Float64[np.ndarray, ""]  # W, rows
    mean: Float64[np.ndarray, "d"]  # m, feature units, relative to the origin
    scatter: Float64[np.ndarray, "d"]  # s, feature units squared


@array_dataclass
class Model:
    """The model: everything that prediction needs."""

    mean: Float64[np.ndarray, "d"]  # feature units
    deviation: Float64[np.ndarray, "d"]  # feature units, > 0
    threshold: Float64[np.ndarray, ""]  # deviations


def law(spec: Spec) -> Law:
    """EXACT: merging the partials of two sets of rows gives the partial of both, to rounding."""
    return Law(LawKind.EXACT, rtol=1e-9)


def empty(spec: Spec) -> Moments:
    """Return the moments of no rows."""
    d = spec.n_features
    return Moments(origin=np.zeros(d), weight=np.zeros(()), mean=np.zeros(d), scatter=np.zeros(d))


def accumulate(spec: Spec, partial: Moments, batch: Batch, anchor: None) -> Moments:
    """Add a batch's rows: there may be none, or none of positive weight."""
    check_batch(spec, batch)
    present = batch.weights > 0
    if not present.any():
        return partial
    rows, w = batch.dense_x[present].astype(np.float64), batch.weights[present]
    origin = smallest_row(rows)
    z = rows - origin
    mean = (w / w.sum()) @ z
    return merge(spec, partial, Moments(origin, np.asarray(w.sum()), mean, w @ (z - mean) ** 2))


def merge(spec: Spec, a: Moments, b: Moments) -> Moments:
    """Add two partials by Chan's rule; neither changes."""
    if weight(a) == 0.0 or weight(b) == 0.0:
        return b if weight(a) == 0.0 else a
    origin = smaller_row(a.origin, b.origin)
    m_a, m_b = a.mean + (a.origin - origin), b.mean + (b.origin - origin)
    total = a.weight + b.weight
    share_a, share_b = a.weight / total, b.weight / total
    scatter = a.scatter + b.scatter + share_a * share_b * total * (m_b - m_a) ** 2
    return Moments(origin, np.asarray(total), share_a * m_a + share_b * m_b, scatter)


def remove(spec: Spec, summary: Moments, part: Moments) -> Moments:
    """Take a part out again: Chan's rule run backwards. Optional; raises RemoveRefused where the part was not learned."""
    if weight(part) == 0.0:
        return summary
    if not rest_of(summary.weight, part.weight, "weight").any():
        return empty(spec)
    check_origin(summary.origin, part.origin)
    centre, correction = parted(summary, part)
    scatter = rest_of(summary.scatter, part.scatter + correction**2, "scatter")
    return Moments(centre.origin, centre.weight, centre.mean, scatter)


def scale(spec: Spec, summary: Moments, factor: float) -> Moments:
    """Multiply the weight of every row; nothing of weight 0 is the empty partial."""
    total = np.asarray(summary.weight * factor)
    return empty(spec) if total == 0.0 else Moments(summary.origin, total, summary.mean, summary.scatter * factor)


def weight(summary: Moments) -> float:
    """Return W."""
    return float(summary.weight)


def derive(spec: Spec, model_spec: Outliers, state: Moments, sample: Batch | None) -> Model:
    """Derive the model; a feature that never varied counts in its own units."""
    if weight(state) <= 0.0:
        message = "outliers needs rows of positive weight; got none yet."
        raise DeriveRefused(message)
    deviation = np.sqrt(state.scatter / state.weight)
    varies = deviation > 1e-12 * (1.0 + np.abs(state.origin + state.mean))
    return Model(state.origin + state.mean, np.where(varies, deviation, 1.0), np.asarray(model_spec.threshold))


def predict(model: Model, batch: Batch) -> Predictions:
    """Return per row its largest distance from the mean, in standard deviations, and whether that is too large."""
    score = np.max(np.abs(batch.dense_x - model.mean) / model.deviation, axis=1)
    return {"score": score, "is_outlier": score > model.threshold}


def measure(model: Model, batch: Batch) -> metrics.Distortion:
    """Return the squared distances to the mean, in feature units: laws compare `msd` with that of the best constant row."""
    gap = batch.dense_x - model.mean
    return metrics.distortion(np.einsum("ij,ij->i", gap, gap), batch.weights)


OUTLIERS = Algorithm(
    name="beam_ml.testing.examples.outliers:OUTLIERS",
    version=1,
    spec=Spec,
    partial=Moments,
    law=law,
    empty=empty,
    accumulate=accumulate,
    merge=merge,
    scale=scale,
    weight=weight,
    models={"outliers": ModelKind(Outliers, Model, derive, predict, measure)},
    remove=remove,
)
