"""Models of factorization machines. Letters: ``n`` rows, ``z`` values, ``d`` features, ``r`` of them held, ``k`` factors."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import expit

from beam_ml.algorithms.fm.machine import State, weight
from beam_ml.algorithms.fm.rows import in_frames, label_scale
from beam_ml.algorithms.fm.sampled import linear_scores
from beam_ml.algorithms.fm.spec import LOGISTIC, SQUARED, Classifier, Regressor, Spec
from beam_ml.algorithms.shared import thresholds as threshold
from beam_ml.algorithms.shared.places import places
from beam_ml.algorithms.shared.sparse import canonical
from beam_ml.algorithms.shared.thresholds import Threshold
from beam_ml.core import metrics
from beam_ml.core.algorithm import Predictions
from beam_ml.core.arrays import array_dataclass, check_code
from beam_ml.core.batch import Batch
from beam_ml.core.held import check_held
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = ["Model", "asked_of", "derive", "machine_of", "measure", "predict", "predicted"]

_FAR = 1e4
"""Scales from 0 beyond which the products of features would lose the digits that tell rows apart."""


@array_dataclass
class Model:
    """A second-order machine: ``η = intercept + Σ_i w_i x_i + Σ_{i<j} ⟨v_i, v_j⟩ x_i x_j`` (Rendle 2010).

    Only features that rows have had are held; others count for nothing. Of features far from 0, x is less their centre.

    >>> from beam_ml import derive, fit, fm
    >>> rows = Batch.csr([0, 2, 4], [0, 2, 1, 3], [1.0, 1.0, 1.0, 1.0], 4, label=[1.0, 0.0])
    >>> model = derive(fit(fm.Spec(n_features=4, n_factors=2), [rows]), fm.Classifier()).arrays
    >>> model.features.tolist(), model.factors.shape
    ([0, 1, 2, 3], (4, 2))
    """

    features: Int64[np.ndarray, "r"]  # numbers of the features held, rising, below the width
    centre: Float64[np.ndarray, "r"]  # what features far from 0 are measured from, for their digits' sake; others: 0
    intercept: Float64[np.ndarray, ""]  # score without features; regression: in label units, as all below
    linear: Float64[np.ndarray, "r"]  # w, per feature unit
    factors: Float64[np.ndarray, "r k"]  # v, per feature unit
    threshold: Float64[np.ndarray, ""]  # binary: score from which predicted_label is 1; 0.5 and unused otherwise
    loss: Int64[np.ndarray, ""]  # 0 logistic, 1 squared
    width: Int64[np.ndarray, ""]  # d, features of a row

    def __post_init__(self) -> None:
        check_code("Model.loss", self.loss, {LOGISTIC, SQUARED})
        check_held("Model", self.features, self.width)

    @functools.cached_property
    def centred(self) -> bool:
        """Whether any feature is measured from a centre: asked once, so that single rows do not read all features."""
        return bool(self.centre.any())


def machine_of(spec: Spec, state: State, at: float = threshold.NEUTRAL) -> Model:
    """Return the machine of a state."""
    level, unit = label_scale(state.label)
    # A feature that no row has had yet is as good as absent: its factors are still the noise they started as.
    met = np.flatnonzero(state.scale[:-1] > 0)
    met = met[state.squares[met, : asked_of(spec)].any(axis=1)]
    scale, theta, centre = state.scale[met], state.theta[met], state.centre[met]
    each = 1.0 / float(state.spread) / scale
    linear = unit * (theta[:, 0] * each)
    # The scale of labels is shared out between the two factors of a product.
    factors = theta[:, 1:] * (np.sqrt(unit) * each)[:, None]
    # Near ones are given in the plain units of the data.
    near = np.where(np.abs(centre) <= _FAR * scale, centre, 0.0)
    intercept = level + unit * state.theta[-1, 0] - near @ linear
    some = np.flatnonzero(near)
    if some.size:
        own = np.square(factors[some]).sum(axis=1) * near[some]
        both = near[some] @ factors[some]
        intercept += 0.5 * (both @ both - own @ near[some])
        linear -= factors @ both
        linear[some] += own
    return Model(
        features=state.rows[met],
        centre=centre - near,
        intercept=np.asarray(intercept),
        linear=linear,
        factors=factors,
        threshold=np.asarray(at),
        loss=np.asarray(spec.loss_code, dtype=np.int64),
        width=np.asarray(spec.n_features, dtype=np.int64),
    )


def asked_of(spec: Spec) -> int:
    """Return how many columns of Σ gradient² tell whether any row has had a feature."""
    return 2 if spec.use_linear else spec.columns


def derive(spec: Spec, model_spec: Classifier | Regressor, state: State, sample: Batch | None) -> Model:
    """Return the machine in the units of the data.

    Args:
        spec: of the state.
        model_spec: the threshold.
        state: what was learned.
        sample: rows weighted to stand for all of them, for threshold rules.

    Raises:
        DeriveRefused: no rows yet, a model spec of another task, or a threshold rule without a sample.
    """
    name = type(model_spec).called
    if weight(state) <= 0.0:
        message = f"{name} needs rows of positive weight; the state has none yet."
        raise DeriveRefused(message)
    wanted = Regressor if spec.task == "regression" else Classifier
    if not isinstance(model_spec, wanted):
        message = f"fm.Spec with task {spec.task!r} derives {wanted.called}; got {name}."
        raise DeriveRefused(message)
    rule = getattr(model_spec, "threshold", threshold.NEUTRAL)
    if not isinstance(rule, Threshold):
        return machine_of(spec, state, float(rule))
    if sample is None or len(sample) == 0:
        message = f"{name}.threshold needs sampled rows for the rule {rule.by!r}; got none."
        raise DeriveRefused(message)
    assert sample.label is not None  # noqa: S101 admission rejects rows without a label
    model = machine_of(spec, state)
    at = threshold.choose(rule, predicted(model, sample), sample.label, sample.weights)
    return dataclasses.replace(model, threshold=np.asarray(at))


def predicted(model: Model, batch: Batch) -> np.ndarray:
    """Return the probabilities of class 1, or values, (n,)."""
    d = int(model.width)
    if batch.n_features != d:
        message = f"A factorization machine takes {d} features; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    # A feature given twice in a row is one feature: its square must not fall apart.
    indptr, indices, values = canonical(batch)
    rows = indptr, places(model.features, indices, d), values
    if model.centred:
        rows = in_frames(*rows, model.centre, np.ones(model.centre.size), np.inf)
    score = linear_scores(*rows, float(model.intercept), model.linear, model.factors)
    return score if int(model.loss) == SQUARED else np.asarray(expit(score))


def predict(model: Model, batch: Batch) -> Predictions:
    """Predict rows.

    Returns:
        ``score``: probability of class 1, or the value, (n,); for classifiers also ``predicted_label`` (n,) int64.
    """
    score = predicted(model, batch)
    if int(model.loss) == SQUARED:
        return {"score": score}
    return {"score": score, "predicted_label": (score >= float(model.threshold)).astype(np.int64)}


def measure(model: Model, batch: Batch) -> metrics.Binary | metrics.Regression:
    """Measure predictions against the batch's labels."""
    if batch.label is None:
        message = "Measuring a factorization machine needs labels; got a batch without."
        raise InvalidBatch(message)
    score = predicted(model, batch)
    if int(model.loss) == SQUARED:
        return metrics.regression(score, batch.label, batch.weights)
    return metrics.binary(score, batch.label, batch.weights, float(model.threshold))
