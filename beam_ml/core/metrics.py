"""Mergeable metrics: what test-then-train, `Evaluate` and the gate add up.

Each record holds sums over rows, so records merge by addition and forget by scaling. Letters: ``b`` score bins,
``k`` classes.

Ranking metrics (AUC, average precision, precision and recall at k) come from two histograms of the score, binned evenly in
log-odds from −16 to 16: rows that share a bin count as tied, so AUC is within half the tied mass of the exact one.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import entr

from beam_ml.core.arrays import array_dataclass, to_arrays
from beam_ml.errors import MergeRefused

__all__ = [
    "Binary",
    "Distortion",
    "Metrics",
    "Multiclass",
    "Regression",
    "binary",
    "compute",
    "distortion",
    "finite",
    "merge",
    "multiclass",
    "regression",
    "scale",
]

BINS = 2048
_LIMIT = 16.0
_EPSILON = 1e-15


@array_dataclass
class Binary:
    """Sums over rows with a class 0 or 1 and a score in [0, 1]."""

    positives: Float64[np.ndarray, "b"]  # weight of class 1 by score bin
    negatives: Float64[np.ndarray, "b"]  # weight of class 0 by score bin
    log_loss: Float64[np.ndarray, ""]  # Σ weight · −log p(label), nats
    correct: Float64[np.ndarray, ""]  # Σ weight where (score ≥ threshold) is the label
    true_positives: Float64[np.ndarray, ""]  # Σ weight of class 1 with score ≥ threshold
    predicted: Float64[np.ndarray, ""]  # Σ weight with score ≥ threshold


@array_dataclass
class Regression:
    """Sums over rows with a real label and prediction."""

    weight: Float64[np.ndarray, ""]  # Σ weight
    squared: Float64[np.ndarray, ""]  # Σ weight · error²
    absolute: Float64[np.ndarray, ""]  # Σ weight · |error|


@array_dataclass
class Multiclass:
    """Sums over rows with one class of many, by class: memory grows with the classes, not with their pairs."""

    actual: Float64[np.ndarray, "k"]  # weight of rows of the class
    predicted: Float64[np.ndarray, "k"]  # weight of rows predicted to be of it
    hits: Float64[np.ndarray, "k"]  # weight of rows of the class predicted to be of it
    log_loss: Float64[np.ndarray, ""]  # Σ weight · −log p(label), nats
    in_top: Float64[np.ndarray, ""]  # Σ weight where the label is among the best scores


@array_dataclass
class Distortion:
    """Sum of squared distances between rows and what stands for them (a centre, a reconstruction)."""

    weight: Float64[np.ndarray, ""]  # Σ weight
    squared: Float64[np.ndarray, ""]  # Σ weight · distance²


Metrics = Binary | Multiclass | Regression | Distortion


def _scalar(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=np.float64).reshape(())


def binary(score: np.ndarray, label: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> Binary:
    """Measure scores (n,) in [0, 1] against labels (n,) in {0, 1} with weights (n,).

    >>> m = compute(binary(np.array([0.9, 0.2]), np.array([1.0, 0.0]), np.ones(2)))
    >>> m["auc"], m["accuracy"]
    (1.0, 1.0)
    """
    p = np.clip(np.asarray(score, dtype=np.float64), _EPSILON, 1.0 - _EPSILON)
    logit = np.log(p) - np.log1p(-p)
    place = (logit + _LIMIT) * (BINS / (2.0 * _LIMIT))
    index = np.clip(place, 0, BINS - 1).astype(np.int64)
    is_one = label >= 0.5
    predicted = np.asarray(score) >= threshold
    return Binary(
        positives=np.bincount(index[is_one], weights=weight[is_one], minlength=BINS).astype(np.float64),
        negatives=np.bincount(index[~is_one], weights=weight[~is_one], minlength=BINS).astype(np.float64),
        log_loss=_scalar(-np.sum(weight * np.where(is_one, np.log(p), np.log1p(-p)))),
        correct=_scalar(np.sum(weight * (predicted == is_one))),
        true_positives=_scalar(np.sum(weight * (predicted & is_one))),
        predicted=_scalar(np.sum(weight * predicted)),
    )


def multiclass(score: np.ndarray, label: np.ndarray, weight: np.ndarray, top_k: int = 3) -> Multiclass:
    """Measure probabilities (n, k) against labels (n,) in 0 … k − 1 with weights (n,).

    Args:
        score: of each class; the first of equal ones is predicted.
        label: class.
        weight: of the rows.
        top_k: how many of the best scores the label may be among; ties count for the label.

    >>> m = compute(multiclass(np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), np.array([0, 1]), np.ones(2), top_k=2))
    >>> m["accuracy"], m["top_k_accuracy"], m["balanced_accuracy"]
    (0.5, 1.0, 0.5)
    """
    k = score.shape[1]
    mine = label.astype(np.intp)
    guess = np.argmax(score, axis=1) if len(score) else mine
    p = np.take_along_axis(score, mine[:, None], axis=1)[:, 0]
    above = np.count_nonzero(score > p[:, None], axis=1)
    counted = (np.bincount(of, weights=w, minlength=k) for of, w in ((mine, weight), (guess, weight)))
    actual, predicted = (np.asarray(c, dtype=np.float64) for c in counted)
    return Multiclass(
        actual=actual,
        predicted=predicted,
        hits=np.bincount(mine, weights=weight * (guess == mine), minlength=k).astype(np.float64),
        log_loss=_scalar(-np.sum(weight * np.log(np.clip(p, _EPSILON, 1.0)))),
        in_top=_scalar(np.sum(weight * (above < top_k))),
    )


def regression(prediction: np.ndarray, label: np.ndarray, weight: np.ndarray) -> Regression:
    """Measure predictions (n,) against labels (n,) with weights (n,)."""
    error = np.asarray(prediction, dtype=np.float64) - label
    return Regression(
        weight=_scalar(np.sum(weight)),
        squared=_scalar(np.sum(weight * error * error)),
        absolute=_scalar(np.sum(weight * np.abs(error))),
    )


def distortion(squared_distance: np.ndarray, weight: np.ndarray) -> Distortion:
    """Measure squared distances (n,) with weights (n,)."""
    return Distortion(weight=_scalar(np.sum(weight)), squared=_scalar(np.sum(weight * squared_distance)))


def merge(a: Metrics, b: Metrics) -> Metrics:
    """Add two records of one class."""
    if type(a) is not type(b):
        message = f"Metrics of one kind merge; got {type(a).__name__} and {type(b).__name__}."
        raise MergeRefused(message)
    left, right = to_arrays(a), to_arrays(b)
    return type(a)(**{name: np.asarray(left[name] + right[name]) for name in left})


def scale(a: Metrics, factor: float) -> Metrics:
    """Weigh all rows by a factor: forgetting."""
    return type(a)(**{name: np.asarray(value * factor) for name, value in to_arrays(a).items()})


def finite(a: Metrics) -> bool:
    """Tell whether every sum is finite: one that is not would never fade."""
    return all(bool(np.isfinite(value).all()) for value in to_arrays(a).values())


def compute(a: Metrics, at_k: float | None = None) -> dict[str, float]:
    """Give the metrics by name; one that is undefined (no rows, one class only) or not finite is left out.

    Args:
        a: the sums.
        at_k: also give precision_at_k and recall_at_k among the `at_k` heaviest-scored weight.
    """
    found = _compute(a, at_k)
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _compute(a: Metrics, at_k: float | None) -> dict[str, float]:
    if isinstance(a, Distortion):
        total = float(a.weight)
        return {} if total <= 0 else {"rows_weight": total, "sse": float(a.squared), "msd": float(a.squared) / total}
    if isinstance(a, Regression):
        total = float(a.weight)
        if total <= 0:
            return {}
        mse = float(a.squared) / total
        return {"rows_weight": total, "mse": mse, "rmse": float(np.sqrt(mse)), "mae": float(a.absolute) / total}
    if isinstance(a, Multiclass):
        return _compute_multiclass(a)
    return _compute_binary(a, at_k)


def _compute_multiclass(a: Multiclass) -> dict[str, float]:
    """Average by class over the classes that have rows; a class that is never predicted has the precision 0."""
    total = float(a.actual.sum())
    if total <= 0:
        return {}
    known = a.actual > 0
    recall = a.hits[known] / a.actual[known]
    guessed = a.predicted[known]
    precision = np.divide(a.hits[known], guessed, out=np.zeros_like(guessed), where=guessed > 0)
    below = precision + recall
    f1 = np.divide(2.0 * precision * recall, below, out=np.zeros_like(below), where=below > 0)
    return {
        "rows_weight": total,
        "log_loss": float(a.log_loss) / total,
        "prior_log_loss": float(entr(a.actual / total).sum()),
        "accuracy": float(a.hits.sum()) / total,
        "top_k_accuracy": float(a.in_top) / total,
        "balanced_accuracy": float(recall.mean()),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f": float(f1.mean()),
    }


def _compute_binary(a: Binary, at_k: float | None) -> dict[str, float]:
    ones, zeros = float(a.positives.sum()), float(a.negatives.sum())
    total = ones + zeros
    if total <= 0:
        return {}
    rate = ones / total
    out = {"rows_weight": total, "log_loss": float(a.log_loss) / total, "accuracy": float(a.correct) / total}
    out |= {"base_rate": rate, "prior_log_loss": float(entr(rate) + entr(1.0 - rate))}
    if float(a.predicted) > 0:
        out["precision"] = float(a.true_positives) / float(a.predicted)
    if ones > 0:
        out["recall"] = float(a.true_positives) / ones
    pos, neg = a.positives[::-1], a.negatives[::-1]
    above_pos, above_neg = np.cumsum(pos), np.cumsum(neg)
    if ones > 0 and zeros > 0:
        out["auc"] = float(np.sum(neg * (above_pos - 0.5 * pos)) / (ones * zeros))
        # A bin is a run of ties: precision at its end stands for each of its positives, as scikit-learn does for ties.
        seen = above_pos + above_neg
        precision = np.divide(above_pos, seen, out=np.zeros_like(seen), where=seen > 0)
        out["average_precision"] = float(np.sum(pos * precision) / ones)
    if at_k is not None and at_k > 0:
        # Ties in the last bin are taken in proportion: their order is not known.
        share = np.clip((at_k - (above_pos + above_neg - pos - neg)) / np.maximum(pos + neg, _EPSILON), 0.0, 1.0)
        hits = float(np.sum(pos * share))
        out["precision_at_k"] = hits / min(at_k, total)
        if ones > 0:
            out["recall_at_k"] = hits / ones
    return out
