"""Models of `linear.adagrad`: which variant, which threshold.

Letters: ``n`` rows, ``d`` features, ``r`` of them held, ``o`` outputs.
"""

import functools

import numpy as np
from jaxtyping import Float64, Int64

from beam_ml.algorithms.linear.adagrad import losses
from beam_ml.algorithms.linear.adagrad.arrays import State
from beam_ml.algorithms.linear.adagrad.fold import DIVERGED, LEARNS, progressive
from beam_ml.algorithms.linear.adagrad.losses import CODES, is_multiclass
from beam_ml.algorithms.linear.adagrad.refine import linear_scores
from beam_ml.algorithms.linear.adagrad.rows import Rows
from beam_ml.algorithms.linear.adagrad.shape import Shape, shape_of_tables
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad, Variant
from beam_ml.algorithms.linear.adagrad.state import weight
from beam_ml.algorithms.linear.models import Classifier, Regressor
from beam_ml.algorithms.shared import thresholds as threshold
from beam_ml.algorithms.shared.places import places
from beam_ml.algorithms.shared.thresholds import Threshold
from beam_ml.core import metrics
from beam_ml.core.algorithm import Predictions
from beam_ml.core.arrays import array_dataclass, check_code
from beam_ml.core.batch import Batch
from beam_ml.core.held import check_held
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = ["AdaGradModel", "best_variant", "derive", "measure", "model_of", "predict", "scores", "variants"]

_TOP_K = 3
_STATUS = {LEARNS: "learning", 1: "lost", DIVERGED: "diverged"}


@array_dataclass
class AdaGradModel:
    """One variant: linear scores ``intercept + (x − origin)·coefficients``, one per output.

    Of sparse rows only features whose coefficients are not 0 are held, of dense ones all; others count for nothing.

    >>> from beam_ml import derive, fit, linear
    >>> rows = Batch.dense([[0.0], [1.0], [2.0], [3.0]] * 50, label=[0.0, 0.0, 1.0, 1.0] * 50)
    >>> model = derive(fit(linear.AdaGrad(n_features=1, loss="logistic"), [rows]), linear.Classifier()).arrays
    >>> model.coefficients.shape, bool(model.coefficients[0, 0] > 0)
    ((1, 1), True)
    """

    features: Int64[np.ndarray, "r"]  # numbers of the features held, rising, below the width
    coefficients: Float64[np.ndarray, "r o"]  # per feature unit
    intercept: Float64[np.ndarray, "o"]  # linear score at the origin
    origin: Float64[np.ndarray, "q"]  # feature units; no entries: 0
    threshold: Float64[np.ndarray, ""]  # binary: score from which predicted_label is 1; 0.5 and unused otherwise
    top_k: Int64[np.ndarray, ""]  # multiclass: best scores among which the label counts as found
    loss: Int64[np.ndarray, ""]  # 0 logistic, 1 squared, 2 hinge, 3 softmax, 4 multiclass hinge, 5 … 9 regression
    variant: Int64[np.ndarray, ""]  # which one
    width: Int64[np.ndarray, ""]  # d, features of a row

    def __post_init__(self) -> None:
        check_code("AdaGradModel.loss", self.loss, set(CODES.values()))
        check_held("AdaGradModel", self.features, self.width)
        if len(self.origin) not in (0, len(self.coefficients)):
            message = (
                f"AdaGradModel.origin must have no entry or {len(self.coefficients)}, one per feature held; got "
                f"{len(self.origin)}."
            )
            raise InvalidBatch(message)
        outputs, many = len(self.intercept), is_multiclass(int(self.loss))
        if (outputs < 2 and many) or (outputs != 1 and not many):
            message = f"AdaGradModel.intercept must have one entry, of several classes one per class; got {outputs}."
            raise InvalidBatch(message)

    @functools.cached_property
    def theta(self) -> np.ndarray:
        """The coefficients (r, o), below them the score where all features are 0: what single rows are scored by."""
        shifted = self.intercept - (self.origin @ self.coefficients if self.origin.size else 0.0)
        return np.concatenate([self.coefficients, shifted[None, :]])


def variants(spec: AdaGrad, state: State) -> list[dict[str, float | int | str | bool]]:
    """Report every packed variant: settings, whether it still learns, step length of the last fold.

    ``loss`` is the progressive loss, of those that learn: the weights of the others' losses are of another time.
    ``averaged`` says whether a model of it is made of the mean of its parameters, whose progressive loss is the smaller.

    >>> from beam_ml import fit, linear
    >>> rows = Batch.dense([[0.0], [1.0], [2.0], [3.0]] * 50, label=[0.0, 0.0, 1.0, 1.0] * 50)
    >>> learner = fit(linear.AdaGrad(n_features=1, loss="logistic", learning_rates=(0.1, 1.0), l1=0.0, l2=0.0), [rows])
    >>> [(one["index"], one["learning_rate"], one["status"]) for one in variants(learner.spec, learner.state)]
    [(0, 0.1, 'learning'), (1, 1.0, 'learning')]
    """
    weight = float(state.loss_weight + state.run_weight)
    loss = progressive(spec, state.run_loss, state.loss, state.average_loss)
    return [
        {
            "index": i, "learning_rate": rate, "l1": l1, "l2": l2, "status": _STATUS[int(state.status[i])],
            **({"loss": float(loss[i]) / weight} if weight > 0 and int(state.status[i]) == LEARNS else {}),
            "length": float(state.length[i]), "averaged": _takes_average(spec, state, i),
        }
        for i, (rate, l1, l2) in enumerate(spec.variants)
    ]  # fmt: skip


def best_variant(spec: AdaGrad, state: State, sample: Batch | None) -> int:
    """Return the variant still learning with the smallest progressive loss; where no row was fresh, loss on the sample."""
    live = np.flatnonzero(state.status == LEARNS)
    if live.size == 0:  # no fold leaves such a state; a forged artefact may hold one
        message = "linear.adagrad derives a model from a variant that learns; in this learner none does."
        raise DeriveRefused(message)
    if live.size == 1:
        return int(live[0])
    loss = progressive(spec, state.run_loss, state.loss, state.average_loss)[live]
    if float(state.loss_weight + state.run_weight) <= 0.0:
        if sample is None or len(sample) == 0:
            return int(live[0])
        loss = np.array([_sample_loss(spec, state, int(i), sample) for i in live])
    return int(live[np.argmin(loss)])


def _sample_loss(spec: AdaGrad, state: State, variant: int, sample: Batch) -> float:
    model = _model(spec, state, variant)
    assert sample.label is not None  # noqa: S101 admission rejects rows without a label
    score = scores(model, sample)[:, None, :]
    unit = 1.0 / shape_of_tables(spec, state.moments[-1:], state.rows[-1:], weight(state)).label_unit
    each = losses.row_losses(losses.code_of(spec), score, sample.label, losses.shape_of(spec), unit)
    return float(sample.weights @ each[:, 0])


def _takes_average(spec: AdaGrad, state: State, variant: int) -> bool:
    return spec.averaging and bool(state.average_loss[variant] < state.loss[variant])


def _model(
    spec: AdaGrad, state: State, variant: int, at: float = threshold.NEUTRAL, top_k: int = _TOP_K
) -> AdaGradModel:
    shape = shape_of_tables(spec, state.moments, state.rows, weight(state))
    theta = state.theta[:, variant]
    if _takes_average(spec, state, variant):
        average = state.average[:, variant]
        theta = np.where(theta == 0.0, 0.0, average) if state.slack.size else average  # zeros of L1 stay zeros
    return model_of(spec, variant, state.rows, theta, shape, at, top_k)


def model_of(
    spec: AdaGrad, variant: int, rows: np.ndarray, theta: np.ndarray, shape: Shape, at: float, top_k: int
) -> AdaGradModel:
    """Return a variant's parameters θ (p, o) of some parameter rows, the bias last, as a model."""
    held = np.flatnonzero(theta[:-1].any(axis=1)) if spec.sparse else np.arange(rows.size - 1)
    centre = shape.centre[held]
    return AdaGradModel(
        features=rows[held],
        coefficients=theta[held],
        intercept=theta[-1] + shape.label_centre,
        origin=centre if centre.any() else np.zeros(0),
        threshold=np.asarray(at),
        top_k=np.asarray(top_k, dtype=np.int64),
        loss=np.asarray(losses.code_of(spec), dtype=np.int64),
        variant=np.asarray(variant, dtype=np.int64),
        width=np.asarray(spec.n_features, dtype=np.int64),
    )


def derive(
    spec: AdaGrad, model_spec: Variant | Classifier | Regressor, state: State, sample: Batch | None
) -> AdaGradModel:
    """Return a variant as a model.

    ``linear.Classifier`` and ``linear.Regressor`` derive the best variant; their penalties must be 0, since AdaGrad's are
    in the Spec, where every list of them is one pass anyway.

    Args:
        spec: of the state.
        model_spec: which variant, and the threshold.
        state: what was learned.
        sample: rows weighted to stand for all of them, for threshold rules.

    Raises:
        DeriveRefused: no rows yet, a model spec of another task, a penalty, a threshold where there are not two classes, a
            variant that the spec does not have or that diverged, or a threshold rule without a sample.
    """
    name = type(model_spec).called
    if weight(state) <= 0.0:
        message = f"{name} needs rows of positive weight; the state has none yet."
        raise DeriveRefused(message)
    wanted = Regressor if spec.task == "regression" else Classifier
    if not isinstance(model_spec, Variant | wanted):
        message = f"linear.AdaGrad with task {spec.task!r} derives {wanted.called} and linear.Variant; got {name}."
        raise DeriveRefused(message)
    if isinstance(model_spec, Classifier | Regressor) and (model_spec.l1 or model_spec.l2):
        which = "l1" if model_spec.l1 else "l2"
        message = (
            f"{name}.{which} must be 0 for linear.AdaGrad, whose penalties shape the state (AdaGrad.l1, AdaGrad.l2); "
            f"got {getattr(model_spec, which)!r}."
        )
        raise DeriveRefused(message)
    rule = getattr(model_spec, "threshold", threshold.NEUTRAL)
    if spec.task != "binary" and rule != threshold.NEUTRAL:
        given = repr(rule.by if isinstance(rule, Threshold) else rule)
        message = f"{name}.threshold must be 0.5 with task {spec.task!r}, which has no threshold; got {given}."
        raise DeriveRefused(message)
    chosen = _chosen(spec, model_spec, state, sample)
    top_k = getattr(model_spec, "top_k", _TOP_K)
    if not isinstance(rule, Threshold):
        return _model(spec, state, chosen, float(rule), top_k)
    if sample is None or len(sample) == 0:
        message = f"{name}.threshold needs sampled rows for the rule {rule.by!r}; got none."
        raise DeriveRefused(message)
    assert sample.label is not None  # noqa: S101 admission rejects rows without a label
    score = _predicted(_model(spec, state, chosen), sample)
    return _model(spec, state, chosen, threshold.choose(rule, score, sample.label, sample.weights), top_k)


def _chosen(spec: AdaGrad, model_spec: Variant | Classifier | Regressor, state: State, sample: Batch | None) -> int:
    if not isinstance(model_spec, Variant) or model_spec.index == "best":
        return best_variant(spec, state, sample)
    chosen = int(model_spec.index)
    if chosen >= spec.n_variants:
        message = f"linear.Variant.index must be < {spec.n_variants}, the spec's variants; got {chosen}."
        raise DeriveRefused(message)
    if int(state.status[chosen]) == DIVERGED:
        message = f"linear.Variant.index must name a variant that learns or has lost; {chosen} diverged."
        raise DeriveRefused(message)
    return chosen


def scores(model: AdaGradModel, batch: Batch) -> np.ndarray:
    """Return the linear scores (n, o), of dense or CSR rows."""
    d = int(model.width)
    if batch.n_features != d:
        message = f"A linear model takes {d} features; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    if batch.X is not None:
        x = batch.X if len(model.features) == d else batch.X[:, model.features]
        x = np.subtract(x, model.origin, dtype=np.float64) if model.origin.size else x
        return np.asarray(x @ model.coefficients + model.intercept)
    assert batch.indices is not None  # noqa: S101 it is dense otherwise
    none, place = np.zeros(0), places(model.features, batch.indices, d)
    rows = Rows(None, batch.indptr, batch.indices, batch.values, none, none, none, d, place)
    return linear_scores(len(batch), rows, model.theta, none)


def _predicted(model: AdaGradModel, batch: Batch) -> np.ndarray:
    return losses.prediction(int(model.loss), scores(model, batch))


def predict(model: AdaGradModel, batch: Batch) -> Predictions:
    """Predict rows.

    Returns:
        ``score``: probability of class 1 (n,), of each class (n, k), or the value (n,); for classifiers also
        ``predicted_label`` (n,) int64. Scores of hinge losses are margins squashed to (0, 1), not probabilities.
    """
    score, code = _predicted(model, batch), int(model.loss)
    if losses.is_multiclass(code):
        return {"score": score, "predicted_label": np.argmax(score, axis=1).astype(np.int64)}
    if losses.is_binary(code):
        return {"score": score, "predicted_label": (score >= float(model.threshold)).astype(np.int64)}
    return {"score": score}


def measure(model: AdaGradModel, batch: Batch) -> metrics.Binary | metrics.Multiclass | metrics.Regression:
    """Measure predictions against the batch's labels."""
    if batch.label is None:
        message = "Measuring a linear model needs labels; got a batch without."
        raise InvalidBatch(message)
    score, code = _predicted(model, batch), int(model.loss)
    if losses.is_multiclass(code):
        return metrics.multiclass(score, batch.label, batch.weights, int(model.top_k))
    if losses.is_binary(code):
        return metrics.binary(score, batch.label, batch.weights, float(model.threshold))
    return metrics.regression(score, batch.label, batch.weights)
