"""Deriving linear models from a state, with no pass over the data; predicting and measuring with them.

Letters: ``n`` rows, ``d`` features.
"""

import dataclasses

import numpy as np
from jaxtyping import Float64, Int64

from beam_ml.algorithms.linear.models import Classifier, Regressor
from beam_ml.algorithms.linear.newton import blocks, learning
from beam_ml.algorithms.linear.newton.blocks import Rows
from beam_ml.algorithms.linear.newton.losses import LOSSES, Loss, loss_of_code
from beam_ml.algorithms.linear.newton.solve import column_scale, elastic_net, inverse_or_zero, rounding, solve
from beam_ml.algorithms.linear.newton.spec import Newton
from beam_ml.algorithms.linear.newton.sums import Partial, Point, Sums, groups, linear_score
from beam_ml.algorithms.shared import thresholds as threshold
from beam_ml.algorithms.shared.thresholds import Threshold
from beam_ml.core import metrics
from beam_ml.core.algorithm import Predictions
from beam_ml.core.arrays import array_dataclass, check_code
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = [
    "Model",
    "derive",
    "linear_scores",
    "measure_classifier",
    "measure_regressor",
    "predict_classifier",
    "predict_regressor",
]

_ROWS_PER_PARAMETER = 10
_MAX_STEPS = 50
_SETTLED = 1e-9


@array_dataclass
class Model:
    """A linear model: score = mean(intercept + (x − origin)·coefficients).

    >>> from beam_ml import derive, fit, linear
    >>> rows = Batch.dense([[0.0], [1.0], [2.0]], label=[1.0, 3.0, 5.0])
    >>> model = derive(fit(linear.Newton(n_features=1, loss="squared"), [rows]), linear.Regressor()).arrays
    >>> model.coefficients.round(6).tolist(), round(float(model.intercept), 6), model.origin.tolist()
    ([2.0], 1.0, [0.0])
    """

    coefficients: Float64[np.ndarray, "d"]  # per feature unit
    intercept: Float64[np.ndarray, ""]  # linear score at the origin
    origin: Float64[np.ndarray, "d"]  # feature units
    threshold: Float64[np.ndarray, ""]  # score from which predicted_label is 1; 0.5 and unused for a regressor
    loss: Int64[np.ndarray, ""]  # 0: logistic, score is the probability of class 1; 1: squared, score is the value

    def __post_init__(self) -> None:
        check_code("Model.loss", self.loss, {loss.code for loss in LOSSES.values()})


@dataclasses.dataclass(frozen=True, slots=True)
class _Penalty:
    """Strengths on standardised coefficients β̃_j = scale_j·β_j; scale 0 marks a column that does not vary."""

    l1: np.ndarray
    l2: np.ndarray
    scale: np.ndarray

    @property
    def any(self) -> bool:
        return bool(self.l1.any() or self.l2.any())


def derive(spec: Newton, model_spec: Classifier | Regressor, state: Partial, sample: Batch | None) -> Model:
    """Fit what the model spec asks for to everything the state has seen.

    Minimises ``loss/n + l1·Σ s_j|β_j| + l2/2·Σ s_j²β_j²``, bias free, n the (decayed, class-weighted) row weight, s_j
    the standard deviation of feature j. With squared loss, ½(y − η)², any penalty is exact. With logistic loss the
    state's quadratic is false away from the optimum b̂, so penalties use the sample, its gradient shifted to vanish at
    b̂ as the full data's does: ``L_S(b) − ∇L_S(b̂)ᵀb + penalty``, an approximation within the sample's error of the
    curvature; without a sample, or with fewer than 10(d + 1) rows in it or one class only, they use the quadratic.

    A state that has only pending rows is fitted to exactly those, with a prior of one average row: label ½ at the mean,
    and its weight of ridge on the standardised coefficients.

    Args:
        spec: of the state.
        model_spec: penalties and, for a classifier, the threshold.
        state: what was learned.
        sample: rows weighted to stand for all of them; None: no threshold rule, penalties by the quadratic.

    Raises:
        DeriveRefused: no rows yet, a foreign kind, non-finite sums, or a threshold rule without a sample.
    """
    loss = LOSSES[spec.loss]
    if learning.weight(state) <= 0.0:
        message = f"{type(model_spec).called} needs rows of positive weight; the state has none yet."
        raise DeriveRefused(message)
    wanted = Classifier if loss.target == "class" else Regressor
    if not isinstance(model_spec, wanted):
        message = f"linear.Newton with loss {spec.loss!r} derives {wanted.called}; got {type(model_spec).called}."
        raise DeriveRefused(message)
    with np.errstate(over="ignore", invalid="ignore"):
        point = _fitted(spec, loss, model_spec, state, sample)
    if not point.is_finite:
        message = f"{wanted.called} needs finite sums; the rows were too large to square."
        raise DeriveRefused(message)
    model = Model(
        coefficients=point.coefficients,
        intercept=np.asarray(point.intercept),
        origin=point.origin,
        threshold=np.asarray(threshold.NEUTRAL),
        loss=np.asarray(loss.code),
    )
    if isinstance(model_spec, Classifier):
        return dataclasses.replace(model, threshold=np.asarray(_threshold(model_spec, model, state, sample)))
    return model


def _threshold(model_spec: Classifier, model: Model, state: Partial, sample: Batch | None) -> float:
    rule = model_spec.threshold
    if not isinstance(rule, Threshold):
        return float(rule)
    if sample is None or len(sample) == 0:
        message = f"linear.Classifier.threshold needs sampled rows for the rule {rule.by!r}; got none."
        raise DeriveRefused(message)
    assert sample.label is not None  # noqa: S101 admission rejects rows without a label
    return threshold.choose(rule, _score(model, sample), sample.label, sample.weights)


def _fitted(
    spec: Newton, loss: Loss, model_spec: Classifier | Regressor, state: Partial, sample: Batch | None
) -> Point:
    cold = float(state.information.sum()) == 0.0
    rows = None if sample is None else learning.present(sample)
    if state.pending_key.size:
        if cold:
            rows = learning.pending_rows(state)
        state, mode = learning.settle_all(spec, state)
    total = blocks.combine(spec, groups(state), state.mass)
    point = mode if cold and not loss.constant else solve(total).at(state.origin)
    penalty = _penalty(model_spec, state)
    if not penalty.any or not point.is_finite:
        return point
    factor = blocks.positive_factor(spec, state.mass)
    n = float(state.mass[0] + factor * state.mass[1]) if state.mass.size == 2 else float(state.mass[0])
    if loss.constant or rows is None or (not cold and not _representative(rows, spec.n_features)):
        return _quadratic(total, point, penalty, n)
    rows = dataclasses.replace(rows, weight=blocks.effective_weight(rows.label, rows.weight, factor))
    return _sampled(loss, point, rows, state.feature_mean, penalty)


def _representative(rows: Rows, d: int) -> bool:
    ones = int(np.count_nonzero(rows.label >= 0.5))
    return rows.label.size >= _ROWS_PER_PARAMETER * (d + 1) and 0 < ones < rows.label.size


def _penalty(model_spec: Classifier | Regressor, state: Partial) -> _Penalty:
    scale = np.sqrt(state.feature_scatter / learning.weight(state))
    scale = np.where(scale > rounding(state.origin, state.feature_mean), scale, 0.0)
    unit = np.ones_like(scale) if model_spec.standardize else inverse_or_zero(scale)
    return _Penalty(model_spec.l1 * unit, model_spec.l2 * unit * unit, scale)


def _quadratic(total: Sums, point: Point, penalty: _Penalty, n: float) -> Point:
    """Minimise ½(b − b̂)ᵀS(b − b̂)/n + penalty in standardised coefficients."""
    inverse = inverse_or_zero(np.where(column_scale(total) > 0, penalty.scale, 0.0))
    gram = total.scatter * (inverse[:, None] * inverse / n)
    q = inverse * total.cross / n
    if not total.information > 0:
        return point
    start = penalty.scale * point.coefficients
    b = inverse * elastic_net(gram, q, penalty.l1, penalty.l2, start)
    intercept = total.response / total.information - float(total.mean @ b)
    return Point(b, intercept, total.origin).at(point.origin)


def _sampled(loss: Loss, point: Point, rows: Rows, centre: np.ndarray, penalty: _Penalty) -> Point:
    """Minimise ``L_S(b) − ∇L_S(b̂)ᵀb + penalty`` by proximal Newton steps (Lee, Sun & Saunders 2014).

    In standardised coefficients around the feature means; the intercept is profiled out of each step's quadratic.
    """
    inverse = inverse_or_zero(penalty.scale)
    z = np.subtract(rows.x, point.origin + centre, dtype=np.float64) * inverse
    share, y = rows.weight / rows.weight.sum(), rows.label
    beta, bias = penalty.scale * point.coefficients, point.intercept + float(centre @ point.coefficients)
    pull = share * (loss.mean(z @ beta + bias) - y)
    shift, shift_bias = pull @ z, float(pull.sum())

    def objective(beta: np.ndarray, bias: float) -> float:
        value = float(share @ loss.value(z @ beta + bias, y)) - float(shift @ beta) - shift_bias * bias
        return value + float(penalty.l1 @ np.abs(beta)) + 0.5 * float(penalty.l2 @ beta**2)

    value = objective(beta, bias)
    for _ in range(_MAX_STEPS):
        mu = loss.mean(z @ beta + bias)
        w = share * np.maximum(loss.variance(mu), 1e-12)
        pull = share * (mu - y)
        gradient, gradient_bias = pull @ z - shift, float(pull.sum()) - shift_bias
        mean = (w @ z) / w.sum()
        centred = (z - mean) * np.sqrt(w)[:, None]
        gram = centred.T @ centred
        profiled = gradient - mean * gradient_bias
        aimed = elastic_net(gram, gram @ beta - profiled, penalty.l1, penalty.l2, beta)
        step = aimed - beta
        step_bias = -gradient_bias / float(w.sum()) - float(mean @ step)
        t = 1.0
        while True:
            trial = objective(beta + t * step, bias + t * step_bias)
            if trial <= value or t < 1e-4:
                break
            t *= 0.5
        if not trial <= value:
            break
        gain, value = value - trial, trial
        beta, bias = (aimed if t == 1.0 else beta + t * step), bias + t * step_bias
        moved = float(w @ (z @ step + step_bias) ** 2)
        if moved <= _SETTLED**2 or gain <= 0.0:
            break
    b = inverse * beta
    return Point(b, bias - float(centre @ b), point.origin)


def linear_scores(model: Model, batch: Batch) -> np.ndarray:
    """Return the linear score η (n,) of a batch's rows."""
    d = model.coefficients.size
    if batch.n_features != d:
        message = f"A linear model takes {d} features; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    return linear_score(batch.dense_x, Point(model.coefficients, float(model.intercept), model.origin))


def _score(model: Model, batch: Batch) -> np.ndarray:
    return loss_of_code(int(model.loss)).mean(linear_scores(model, batch))


def predict_classifier(model: Model, batch: Batch) -> Predictions:
    """Return ``score`` (n,), the probability of class 1, and ``predicted_label`` (n,) int64, 1 from the threshold on."""
    score = _score(model, batch)
    return {"score": score, "predicted_label": (score >= float(model.threshold)).astype(np.int64)}


def predict_regressor(model: Model, batch: Batch) -> Predictions:
    """Return ``score`` (n,), the predicted value."""
    return {"score": _score(model, batch)}


def measure_classifier(model: Model, batch: Batch) -> metrics.Binary:
    """Measure scores and predicted labels against the batch's labels."""
    return metrics.binary(_score(model, batch), _labels(batch), batch.weights, float(model.threshold))


def measure_regressor(model: Model, batch: Batch) -> metrics.Regression:
    """Measure predicted values against the batch's labels."""
    return metrics.regression(_score(model, batch), _labels(batch), batch.weights)


def _labels(batch: Batch) -> np.ndarray:
    if batch.label is None:
        message = "Measuring a linear model needs labels; got a batch without."
        raise InvalidBatch(message)
    return batch.label
