"""Mergeable metrics: what test-then-train, `Evaluate` and the gate add up.

Each record holds sums over rows, so records merge by addition and forget by scaling. Letters: ``b`` distinct scores,
``k`` classes.

Ranking metrics (AUC, average precision, precision and recall at k) come from a bounded summary of the distinct scores
(`beam_ml.core.ranking`): exact while there are at most 4,096 of them, and invariant to increasing transforms of the scores.

Each metric comes with its standard error, ``auc_se`` beside ``auc``: how far the figure would move with other rows of the
same kind, from the rows' squared weights, so that a sampled row that stands for 176 counts as the one row that it is. What
is known exactly, the masses of the classes, adds no noise to it.
"""

from typing import Any

import numpy as np

from beam_ml.core import ranking
from beam_ml.core.arrays import to_arrays
from beam_ml.core.figures import KINDS, compute
from beam_ml.core.measures import Binary, Distortion, Likelihood, Mean, Metrics, Multiclass, Quantiles, Regression
from beam_ml.core.ranking import Table
from beam_ml.errors import MergeRefused

__all__ = [
    "Binary",
    "Distortion",
    "Likelihood",
    "Mean",
    "Metrics",
    "Multiclass",
    "Quantiles",
    "Regression",
    "binary",
    "compute",
    "distortion",
    "finite",
    "likelihood",
    "mean",
    "merge",
    "multiclass",
    "quantiles",
    "regression",
    "scale",
]

_EPSILON = 1e-15
_MOST_SQUARED = 1e150  # squared errors count for the noise up to this, so that their own squares stay finite


def _scalar(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=np.float64).reshape(())


def binary(score: np.ndarray, label: np.ndarray, weight: np.ndarray, threshold: float = 0.5) -> Binary:
    """Measure scores (n,) in [0, 1] against labels (n,) in {0, 1} with weights (n,).

    >>> m = compute(binary(np.array([0.9, 0.2]), np.array([1.0, 0.0]), np.ones(2)))
    >>> m["auc"], m["accuracy"]
    (1.0, 1.0)
    """
    p = np.clip(np.asarray(score, dtype=np.float64), _EPSILON, 1.0 - _EPSILON)
    is_one = label >= 0.5
    loss = -np.where(is_one, np.log(p), np.log1p(-p))
    of_class = is_one.astype(np.intp)
    predicted = weight * (np.asarray(score) >= threshold)
    return _binary(
        ranking.table(score, is_one, weight),
        log_loss=_by_class(of_class, weight * loss, 2),
        log_loss_noise=_by_class(of_class, weight * weight * loss, 2),
        log_loss_squared=_by_class(of_class, (weight * loss) ** 2, 2),
        predicted=_by_class(of_class, predicted, 2),
        predicted_squared=_by_class(of_class, predicted * predicted, 2),
    )


def _by_class(of_class: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    return np.bincount(of_class, weights=values, minlength=k).astype(np.float64)


def _binary(rows: Table, **sums: np.ndarray) -> Binary:
    return Binary(
        score=rows.score, positives=rows.ones, negatives=rows.zeros,
        positives_squared=rows.ones_squared, negatives_squared=rows.zeros_squared, **sums,
    )  # fmt: skip


def _table(a: Binary) -> Table:
    return Table(a.score, a.positives, a.negatives, a.positives_squared, a.negatives_squared)


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
    loss = -np.log(np.clip(p, _EPSILON, 1.0))
    hit = weight * (guess == mine)
    return Multiclass(
        actual=_by_class(mine, weight, k),
        actual_squared=_by_class(mine, weight * weight, k),
        predicted=_by_class(guess, weight, k),
        hits=_by_class(mine, hit, k),
        hits_squared=_by_class(mine, hit * hit, k),
        log_loss=_by_class(mine, weight * loss, k),
        log_loss_noise=_by_class(mine, weight * weight * loss, k),
        log_loss_squared=_by_class(mine, (weight * loss) ** 2, k),
        in_top=_scalar(np.sum(weight * (above < top_k))),
    )


def regression(prediction: np.ndarray, label: np.ndarray, weight: np.ndarray) -> Regression:
    """Measure predictions (n,) against labels (n,) with weights (n,).

    >>> m = compute(regression(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 6.0]), np.ones(3)))
    >>> m["mse"], m["prior_mse"]
    (3.0, 4.666666666666667)
    """
    error = np.asarray(prediction, dtype=np.float64) - label
    total = float(np.sum(weight))
    mean = float(np.sum(weight * label)) / total if total > 0 else 0.0
    off = label - mean
    held = np.minimum(np.abs(error), np.sqrt(_MOST_SQUARED))
    values, square = np.stack([held * held, held]), weight * weight
    return Regression(
        weight=_scalar(total),
        squared=_scalar(np.sum(weight * error * error)),
        absolute=_scalar(np.sum(weight * np.abs(error))),
        label_mean=_scalar(mean),
        label_scatter=_scalar(np.sum(weight * off * off)),
        weight_squared=_scalar(np.sum(square)),
        noise=values @ square,
        noise_squared=(values * values) @ square,
    )


def distortion(squared_distance: np.ndarray, weight: np.ndarray) -> Distortion:
    """Measure squared distances (n,) with weights (n,)."""
    held, square = np.minimum(squared_distance, _MOST_SQUARED), weight * weight
    return Distortion(
        weight=_scalar(np.sum(weight)),
        squared=_scalar(np.sum(weight * squared_distance)),
        weight_squared=_scalar(np.sum(square)),
        noise=_scalar(np.sum(square * held)),
        noise_squared=_scalar(np.sum(square * held * held)),
    )


def likelihood(nll: np.ndarray, tokens: np.ndarray, weight: np.ndarray) -> Likelihood:
    """Measure negative log-likelihoods (n,), nats, of rows of some tokens (n,) each, such as documents, with weights (n,).

    >>> m = compute(likelihood(np.array([3.0, 1.0]), np.array([2.0, 2.0]), np.ones(2)))
    >>> m["nll"], round(m["perplexity"], 3), m["tokens"]
    (1.0, 2.718, 4.0)
    """
    held = np.minimum(nll, np.sqrt(_MOST_SQUARED))
    square = weight * weight
    return Likelihood(
        weight=_scalar(np.sum(weight)),
        tokens=_scalar(weight @ tokens),
        nll=_scalar(weight @ nll),
        tokens_squared=_scalar(square @ (tokens * tokens)),
        noise=_scalar(square @ (tokens * held)),
        noise_squared=_scalar(square @ (held * held)),
    )


def quantiles(forecast: np.ndarray, levels: np.ndarray, value: np.ndarray, weight: np.ndarray) -> Quantiles:
    """Measure forecasts (n, q) of the quantiles at levels (q,) of values (n,) with weights (n,).

    ``mean_wql`` is the mean over the levels of Σ w · 2 · pinball / Σ w · |value|; ``coverage_gap`` the largest distance
    between a level and the share of the values that do not exceed its forecast.

    >>> m = compute(quantiles(np.array([[1.0], [3.0]]), np.array([0.5]), np.array([2.0, 2.0]), np.ones(2)))
    >>> m["mean_wql"], m["coverage_gap"]
    (0.5, 0.0)
    """
    held = np.clip(value, -np.sqrt(_MOST_SQUARED), np.sqrt(_MOST_SQUARED))
    gap = held[:, None] - np.clip(forecast, -np.sqrt(_MOST_SQUARED), np.sqrt(_MOST_SQUARED))
    loss = 2.0 * np.maximum(levels * gap, (levels - 1.0) * gap)
    size, square = np.abs(held), weight * weight
    mean_loss = loss.mean(axis=1) if levels.size else np.zeros(value.size)
    return Quantiles(
        levels=np.array(levels, dtype=np.float64),
        weight=_scalar(np.sum(weight)),
        magnitude=_scalar(weight @ size),
        loss=weight @ loss,
        below=weight @ (gap <= 0.0).astype(np.float64),
        magnitude_squared=_scalar(square @ (size * size)),
        noise=_scalar(square @ (size * mean_loss)),
        noise_squared=_scalar(square @ (mean_loss * mean_loss)),
    )


def mean(score: np.ndarray, weight: np.ndarray) -> Mean:
    """Measure scores (n,), of which lower ones are better, with weights (n,).

    >>> compute(mean(np.array([1.0, 3.0]), np.array([3.0, 1.0])))["score"]
    1.5
    """
    held, square = np.clip(score, -np.sqrt(_MOST_SQUARED), np.sqrt(_MOST_SQUARED)), weight * weight
    return Mean(
        weight=_scalar(np.sum(weight)),
        score=_scalar(weight @ score),
        weight_squared=_scalar(np.sum(square)),
        noise=_scalar(square @ held),
        noise_squared=_scalar(square @ (held * held)),
    )


def merge(a: Metrics, b: Metrics) -> Metrics:
    """Merge two records of one class."""
    if type(a) is not type(b):
        message = f"Metrics of one kind merge; got {type(a).__name__} and {type(b).__name__}."
        raise MergeRefused(message)
    left, right = to_arrays(a), to_arrays(b)
    if isinstance(a, Binary) and isinstance(b, Binary):
        sums = {name: np.asarray(left[name] + right[name]) for name in left if name not in _OF_SCORES}
        return _binary(ranking.joined(_table(a), _table(b)), **sums)
    same = frozenset() if isinstance(a, Regression) else KINDS[type(a)].kept
    for name in same:
        if not np.array_equal(left[name], right[name]):
            message = f"Metrics of the same {name} merge; got {left[name].tolist()} and {right[name].tolist()}."
            raise MergeRefused(message)
    both = {name: left[name] if name in same else np.asarray(left[name] + right[name]) for name in left}
    if isinstance(a, Regression) and isinstance(b, Regression):
        both |= _joined_labels(a, b)
    return type(a)(**both)


_OF_SCORES = {"score", "positives", "negatives", "positives_squared", "negatives_squared"}


def _joined_labels(a: Regression, b: Regression) -> dict[str, np.ndarray]:
    """Merge mean and scatter by Chan's rule; symmetric to the last bit."""
    total = float(a.weight + b.weight)
    if total <= 0.0:
        return {"label_mean": _scalar(0.0), "label_scatter": _scalar(0.0)}
    share_a, share_b = float(a.weight) / total, float(b.weight) / total
    apart = float(b.label_mean) - float(a.label_mean)
    return {
        "label_mean": _scalar(share_a * float(a.label_mean) + share_b * float(b.label_mean)),
        "label_scatter": _scalar(float(a.label_scatter + b.label_scatter) + share_a * share_b * total * apart * apart),
    }


def scale(a: Metrics, factor: float) -> Metrics:
    """Weigh all rows by a factor: forgetting."""
    kind = KINDS[type(a)]
    powers = {name: factor * factor if name in kind.squared else factor for name in to_arrays(a)}
    powers |= dict.fromkeys(kind.kept, 1.0)
    scaled = {name: np.asarray(value * powers[name]) for name, value in to_arrays(a).items()}
    if isinstance(a, Binary) and not (scaled["positives"] + scaled["negatives"]).all():
        kept = scaled["positives"] + scaled["negatives"] != 0.0  # what has faded to nothing
        scaled |= {name: scaled[name][kept] for name in _OF_SCORES}
    return type(a)(**scaled)


def finite(a: Metrics) -> bool:
    """Return whether every sum is finite: one that is not would never fade."""
    return all(bool(np.isfinite(value).all()) for value in to_arrays(a).values())
