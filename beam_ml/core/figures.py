"""Figures from sums: each metric by name, its standard error beside it, and which ones a record has."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from beam_ml.core import ranking
from beam_ml.core.measures import Binary, Distortion, Likelihood, Mean, Metrics, Multiclass, Quantiles, Regression
from beam_ml.core.ranking import Table, share_above

__all__ = ["KINDS", "LOSSES", "WINDOW", "Kind", "compute", "names", "of_window", "with_error"]

WINDOW = " of the window"
"""What follows a metric's name where it is of the newest window's rows alone."""


def names(kinds: Sequence[type]) -> tuple[str, ...]:
    """Return the metrics that records of some kinds have, without their standard errors and those that need a k.

    >>> names([Distortion])
    ('msd', 'rows_weight', 'sse')
    """
    return tuple(sorted({name for kind in kinds for name in KINDS[kind].names}))


def with_error(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return those that have a standard error."""
    exact = {name for kind in KINDS.values() for name in kind.without_error} | {"rows"}
    return tuple(sorted(set(metrics) - exact))


def of_window(name: str) -> str:
    """Return what a metric of the newest window's rows alone is called.

    >>> of_window("auc")
    'auc of the window'
    """
    return name + WINDOW


def compute(a: Metrics, at_k: float | None = None) -> dict[str, float]:
    """Return the metrics by name; one that is undefined (no rows, one class only) or not finite is left out.

    ``auc_se`` is the standard error of ``auc``, and so on; ``prior_mse`` is the mse of the rows' mean label.

    Args:
        a: the sums.
        at_k: also return precision_at_k and recall_at_k among the `at_k` heaviest-scored weight.
    """
    found = _compute(a, at_k)
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def _compute(a: Metrics, at_k: float | None) -> dict[str, float]:
    # Squares of 1e200 overflow, and what is not finite is left out.
    with np.errstate(over="ignore", invalid="ignore"):
        return _compute_binary(a, at_k) if isinstance(a, Binary) else KINDS[type(a)].compute(a)


def _error(square: float, cross: float, squared: float, mean: float, unknown: float, total: float) -> float:
    """Return the standard error of a mean, Σ w v / Σ w, from the rows' squared weights.

    Half a row of the mean weight that knows nothing counts too: of one row the noise would else be 0.

    Args:
        square: Σ w² v².
        cross: Σ w² v.
        squared: Σ w².
        mean: the mean.
        unknown: how far the value of a row that knows nothing lies from the mean.
        total: Σ w.
    """
    spread = max(square - 2.0 * mean * cross + mean * mean * squared, 0.0)
    return float(np.sqrt(spread + 0.5 * (squared / total * unknown) ** 2)) / total


def _compute_distortion(a: Distortion) -> dict[str, float]:
    total = float(a.weight)
    if total <= 0:
        return {}
    msd = float(a.squared) / total
    se = _error(float(a.noise_squared), float(a.noise), float(a.weight_squared), msd, np.sqrt(2.0) * msd, total)
    return {"rows_weight": total, "sse": float(a.squared), "msd": msd, "msd_se": se}


def _compute_regression(a: Regression) -> dict[str, float]:
    """The error of a row that knows nothing is that of a normal one: squared, √2 times the mean off."""
    total = float(a.weight)
    if total <= 0:
        return {}
    mse, mae, squared = float(a.squared) / total, float(a.absolute) / total, float(a.weight_squared)
    prior, rmse = float(a.label_scatter) / total, float(np.sqrt(mse))
    mse_se, mae_se = (
        _error(float(a.noise_squared[i]), float(a.noise[i]), squared, mean, off, total)
        for i, (mean, off) in enumerate(((mse, np.sqrt(2.0) * mse), (mae, mae)))
    )
    return {
        "rows_weight": total,
        "mse": mse,
        "mse_se": mse_se,
        "rmse": rmse,
        "rmse_se": mse_se / (2.0 * rmse) if rmse > 0 else 0.0,
        "mae": mae,
        "mae_se": mae_se,
        "prior_mse": prior,
    }


def _log_loss(
    mass: np.ndarray, squared: np.ndarray, loss: np.ndarray, noise: np.ndarray, noise_squared: np.ndarray
) -> dict[str, float]:
    """Return log loss, its standard error given the masses of the classes, and that of the classes' own shares."""
    total, variance = float(mass.sum()), 0.0
    for k in np.flatnonzero(mass > 0):
        mean = float(loss[k] / mass[k])
        unknown = -np.log(mass[k] / total) - mean
        one = _error(float(noise_squared[k]), float(noise[k]), float(squared[k]), mean, unknown, float(mass[k]))
        variance += (one * mass[k] / total) ** 2
    share = mass[mass > 0.0] / total
    return {
        "log_loss": float(loss.sum()) / total,
        "log_loss_se": float(np.sqrt(variance)),
        "prior_log_loss": -float(share @ np.log(share)),
    }


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
    columns = zip(a.hits, a.hits_squared, a.actual, a.actual_squared, strict=True)
    noise = np.array([share_above(*map(float, column)) for column in columns])
    balanced_se = float(np.sqrt(np.sum(noise[known] / a.actual[known] ** 2))) / int(known.sum())
    return {
        "rows_weight": total,
        **_log_loss(a.actual, a.actual_squared, a.log_loss, a.log_loss_noise, a.log_loss_squared),
        "accuracy": float(a.hits.sum()) / total,
        "accuracy_se": float(np.sqrt(noise.sum())) / total,
        "top_k_accuracy": float(a.in_top) / total,
        "balanced_accuracy": float(recall.mean()),
        "balanced_accuracy_se": balanced_se,
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_recall_se": balanced_se,
        "macro_f": float(f1.mean()),
    }


def _compute_binary(a: Binary, at_k: float | None = None) -> dict[str, float]:
    mass = np.array([a.negatives.sum(), a.positives.sum()])
    squared = np.array([a.negatives_squared.sum(), a.positives_squared.sum()])
    zeros, ones = map(float, mass)
    total = zeros + ones
    if total <= 0:
        return {}
    out = {"rows_weight": total, "base_rate": ones / total}
    out |= _log_loss(mass, squared, a.log_loss, a.log_loss_noise, a.log_loss_squared)
    out |= _compute_decided(a, mass, squared)
    rows = Table(a.score, a.positives, a.negatives, a.positives_squared, a.negatives_squared)
    if ones > 0 and zeros > 0:
        out["auc"], out["auc_se"] = ranking.auc(rows)
        out["average_precision"], out["average_precision_se"] = ranking.average_precision(rows)
    if at_k is not None and at_k > 0:
        hits, se = ranking.at_k(rows, at_k)
        out |= {"precision_at_k": hits / min(at_k, total), "precision_at_k_se": se / min(at_k, total)}
        if ones > 0:
            out |= {"recall_at_k": hits / ones, "recall_at_k_se": se / ones}
    return out


def _compute_decided(a: Binary, mass: np.ndarray, squared: np.ndarray) -> dict[str, float]:
    """Return what depends on the threshold."""
    zeros, ones = map(float, mass)
    wrong, hits = map(float, a.predicted)
    columns = zip(a.predicted, a.predicted_squared, mass, squared, strict=True)
    noise_wrong, noise_hits = (share_above(*map(float, column)) for column in columns)
    total, taken = zeros + ones, wrong + hits
    out = {
        "accuracy": (zeros - wrong + hits) / total,
        "accuracy_se": float(np.sqrt(noise_wrong + noise_hits)) / total,
    }
    if taken > 0:
        precision = hits / taken
        se = float(np.sqrt((1.0 - precision) ** 2 * noise_hits + precision**2 * noise_wrong)) / taken
        out |= {"precision": precision, "precision_se": se}
    if ones > 0:
        out |= {"recall": hits / ones, "recall_se": float(np.sqrt(noise_hits)) / ones}
    return out


def _of_ratio(loss: float, of: float, squared: float, cross: float, of_squared: float) -> tuple[float, float]:
    """Return Σ w a / Σ w b and its standard error, from Σ w² a², Σ w² a b and Σ w² b².

    As half a row of the mean weight that knows nothing counts, one row alone has an error.
    """
    ratio = loss / of
    spread = max(squared - 2.0 * ratio * cross + ratio * ratio * of_squared, 0.0)
    return ratio, float(np.sqrt(spread + 0.5 * (ratio * of_squared / of) ** 2)) / of


def _compute_likelihood(a: Likelihood) -> dict[str, float]:
    tokens = float(a.tokens)
    if tokens <= 0:
        return {}
    sums = (float(a.nll), tokens, float(a.noise_squared), float(a.noise), float(a.tokens_squared))
    nll, se = _of_ratio(*sums)
    perplexity = float(np.exp(nll))
    return {
        "rows_weight": float(a.weight), "tokens": tokens, "nll": nll, "nll_se": se,
        "perplexity": perplexity, "perplexity_se": perplexity * se,
    }  # fmt: skip


def _compute_quantiles(a: Quantiles) -> dict[str, float]:
    total, magnitude = float(a.weight), float(a.magnitude)
    if total <= 0 or magnitude <= 0 or a.levels.size == 0:
        return {}
    mean = float(a.loss.mean())
    sums = (mean, magnitude, float(a.noise_squared), float(a.noise), float(a.magnitude_squared))
    loss, se = _of_ratio(*sums)
    off = float(np.abs(a.below / total - a.levels).max())
    return {"rows_weight": total, "mean_wql": loss, "mean_wql_se": se, "coverage_gap": off}


def _compute_mean(a: Mean) -> dict[str, float]:
    total = float(a.weight)
    if total <= 0:
        return {}
    score = float(a.score) / total
    se = _error(float(a.noise_squared), float(a.noise), float(a.weight_squared), score, abs(score), total)
    return {"rows_weight": total, "score": score, "score_se": se}


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """What is known of one record of metrics.

    Attributes:
        name: how artefacts call it.
        loss: the figure that champions are chosen by; lower is better.
        compute: record → figures by name; standard errors are named ``…_se``.
        names: of the figures, without standard errors and those that need a k.
        without_error: those of them that have no standard error.
        squared: fields that are sums of squared weights: forgetting scales them by its square.
        kept: fields that are no sums over rows: forgetting leaves them, and records merge where they are equal.
    """

    name: str
    loss: str
    compute: Callable[[Any], dict[str, float]]
    names: tuple[str, ...]
    without_error: frozenset[str] = frozenset({"rows_weight"})
    squared: frozenset[str] = frozenset()
    kept: frozenset[str] = frozenset()


_NOISE = frozenset({"weight_squared", "noise", "noise_squared"})

KINDS: Mapping[type, Kind] = MappingProxyType(
    {
        Binary: Kind(
            "binary", "log_loss", _compute_binary,
            ("accuracy", "auc", "average_precision", "base_rate", "log_loss", "precision", "prior_log_loss", "recall",
             "rows_weight"),
            frozenset({"base_rate", "prior_log_loss", "rows_weight"}),
            frozenset({"positives_squared", "negatives_squared", "log_loss_noise", "log_loss_squared", "predicted_squared"}),
            frozenset({"score"}),
        ),
        Multiclass: Kind(
            "multiclass", "log_loss", _compute_multiclass,
            ("accuracy", "balanced_accuracy", "log_loss", "macro_f", "macro_precision", "macro_recall", "prior_log_loss",
             "rows_weight", "top_k_accuracy"),
            frozenset({"macro_f", "macro_precision", "prior_log_loss", "rows_weight", "top_k_accuracy"}),
            frozenset({"actual_squared", "hits_squared", "log_loss_noise", "log_loss_squared"}),
        ),
        Regression: Kind(
            "regression", "mse", _compute_regression, ("mae", "mse", "prior_mse", "rmse", "rows_weight"),
            frozenset({"prior_mse", "rows_weight"}), _NOISE, frozenset({"label_mean"}),
        ),
        Distortion: Kind(
            "distortion", "msd", _compute_distortion, ("msd", "rows_weight", "sse"),
            frozenset({"rows_weight", "sse"}), _NOISE,
        ),
        Likelihood: Kind(
            "likelihood", "nll", _compute_likelihood, ("nll", "perplexity", "rows_weight", "tokens"),
            frozenset({"rows_weight", "tokens"}), frozenset({"tokens_squared", "noise", "noise_squared"}),
        ),
        Quantiles: Kind(
            "quantiles", "mean_wql", _compute_quantiles, ("coverage_gap", "mean_wql", "rows_weight"),
            frozenset({"coverage_gap", "rows_weight"}), frozenset({"magnitude_squared", "noise", "noise_squared"}),
            frozenset({"levels"}),
        ),
        Mean: Kind("mean", "score", _compute_mean, ("rows_weight", "score"), squared=_NOISE),
    }
)  # fmt: skip
"""Record → what is known of it. A new record needs its class in `beam_ml.core.measures` and an entry here."""

LOSSES = tuple(dict.fromkeys(kind.loss for kind in KINDS.values()))
"""What champions are chosen by: the first of them that a model has."""
