"""Rows of a world that may change from window to window: what is drawn is a pure function of its arguments.

Letters: ``n`` rows, ``d`` features, ``k`` classes.
"""

import dataclasses
from typing import Any, Literal

import numpy as np

from beam_ml.core.batch import Batch, Origin
from beam_ml.core.spec import Spec

__all__ = ["DAY_US", "Regime", "Task", "draw", "task_of", "window_end"]

DAY_US = 86_400_000_000
"""Length of a window, µs of event time."""

_FIRST_TIME_US = 1_609_459_200_000_000  # 2021-01-01T00:00:00Z
_LOCATION = 4.0  # deviations between zero and the mean of a feature: rows that are centred wrongly show it
_SCORE_DEVIATION = 2.0
_OFTEN = 8.0  # how much more frequent every second feature is, of counts
_FILLED = 12  # entries of a unit row


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """The rows that an algorithm takes: number of features, kind of label, number of classes (1: none).

    Features that are categories are whole numbers, so that rows share them; the label goes with the category. Counts are
    whole numbers from 0 on.
    """

    n_features: int
    target: Literal["none", "real", "class"]
    n_classes: int = 1
    categories: bool = False
    counts: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Regime:
    """The distribution of one window's rows. Everything is counted in deviations of a feature, or of the label's noise.

    Attributes:
        rows: n.
        shift: how far every feature has moved; labels go with the moved features' deviations from their new mean.
        level: added to the score: logits of class 1, or units of the label's noise.
        turn: how far the slope of the first feature has turned over: 0 as it was, ½ gone, 1 reversed.
        still: value at which the first feature is constant; None if it varies.
        unit: rows of norm 1 with few entries other than 0, some features rare, as normalised word counts are.
        outlier: how far one row, with a label against the rule, lies out in every feature; 0: there is none.
        only: the one label that all rows have; None: they follow the rule.
        missing: share of the rows whose first feature is NaN.
        weights: none: all 1; uneven: 0.05 to 3; against: most rows have weight 0 and are astray;
            absent: all have weight 0; huge: one row has weight 1e300.
        batch_rows: rows that a worker is handed at a time.
    """

    rows: int
    shift: float = 0.0
    level: float = 0.0
    turn: float = 0.0
    still: float | None = None
    unit: bool = False
    outlier: float = 0.0
    only: float | None = None
    missing: float = 0.0
    weights: Literal["none", "uneven", "against", "absent", "huge"] = "none"
    batch_rows: int = 256

    @property
    def clean(self) -> "Regime":
        """The regime that models are judged by: the rule of this window without outliers, NaN and odd weights."""
        return dataclasses.replace(self, outlier=0.0, missing=0.0, weights="none")


def task_of(spec: Spec) -> Task:
    """Read off a spec what its algorithm must be fed."""
    target = spec.label_target
    classes = spec.n_label_classes if target == "class" else 1
    return Task(spec.n_features, target, classes, spec.feature_rule == "category", spec.feature_rule == "count")


def draw(
    task: Task,
    regime: Regime,
    window: int,
    seed: int,
    *,
    stream: int = 0,
    held_out: bool = False,
    sparse: bool = False,
) -> Batch:
    """Draw the rows of a window, in order of event time; equal arguments yield equal rows.

    Args:
        task: features and label.
        regime: how the rows are.
        window: number of the window, 0, 1, 2 …; its rows spread over that day.
        seed: of the world: its slopes, and which rows.
        stream: other rows of the same world, from a source of their own.
        held_out: other rows than those to learn from.
        sparse: as a CSR batch.
    """
    rng = np.random.default_rng((seed, window, 1 + held_out, stream))
    n, d = regime.rows, task.n_features
    slope = _slopes(d, seed)
    if regime.unit:
        x, score = _unit_rows(rng, n, d, seed)
        score, spread = score + regime.level, np.ones(d)
    else:
        z = rng.normal(size=(n, d))
        z = np.round(z) if task.categories else z
        if regime.still is not None:
            z[:, 0] = 0.0
        turned = slope * np.where(np.arange(d) == 0, 1.0 - 2.0 * regime.turn, 1.0)
        score = z @ turned + regime.level
        spread = np.ones(d) if task.categories else np.random.default_rng(seed).uniform(0.8, 1.25, d)
        x = (z + regime.shift + _LOCATION) * spread
        if regime.still is not None:
            x[:, 0] = regime.still
    if task.counts:
        x = _counted(x, regime.shift * spread)
    label = _label(task, score, rng, regime.only)
    weight = _weight(regime.weights, n, rng)
    if regime.outlier:
        place = n // 10
        x[place] = np.abs(x[place]) + regime.outlier
        score_there = float(x[place] @ slope)
        label = _against(task, label, np.arange(n) == place, score_there)
    if regime.weights == "against" and weight is not None:
        astray = weight == 0.0
        x[astray] += 30.0 * (label is None)
        label = _reversed(task, label, astray)
    if regime.missing:
        x[rng.random(n) < regime.missing, 0] = np.nan
    number = 2 * window + held_out
    options: dict[str, Any] = {
        "label": label,
        "weight": weight,
        "time": _FIRST_TIME_US + window * DAY_US + np.arange(n, dtype=np.int64) * (DAY_US // max(n, 1)),
        "time_unit": "us",
        "origin": Origin("drift", f"{seed}/{stream}"),
        "position": number * 1_000_000 + np.arange(n),
    }
    if not sparse:
        return Batch.dense(x, **options)
    filled = x != 0.0
    indptr = np.concatenate([[0], np.cumsum(filled.sum(axis=1))])
    return Batch.csr(indptr, np.nonzero(filled)[1], x[filled], d, **options)


def _counted(x: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Return counts (n, d) of rows that have moved by some units (d,).

    What matters of counts is how they share a row: every second feature is eight times as frequent, and stays where it was.
    """
    often = np.arange(x.shape[1]) % 2 == 1
    counts: np.ndarray = np.floor(np.abs(np.where(often, (x - moved) * _OFTEN, x)))
    return counts


def window_end(window: int) -> int:
    """Return when a window ends, µs since the epoch."""
    return _FIRST_TIME_US + (window + 1) * DAY_US


def _slopes(d: int, seed: int) -> np.ndarray:
    """Return slopes whose score has a deviation of 2; the first feature has about half of it."""
    rng = np.random.default_rng(seed)
    slope = rng.uniform(0.5, 1.0, d) * np.where(rng.random(d) < 0.5, -1.0, 1.0)
    slope[0] = np.sqrt(max(1.0, float(np.sum(slope[1:] ** 2))))
    return slope * (_SCORE_DEVIATION / float(np.sqrt(np.sum(slope**2))))


def _unit_rows(rng: np.random.Generator, n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of norm 1 and their scores; feature j has an entry other than 0 in proportion to 1 / (j + 3)."""
    share = 1.0 / (np.arange(d) + 3.0)
    chance = np.minimum(1.0, share * min(_FILLED, d) / share.sum())
    x = (rng.random((n, d)) < chance) * rng.gamma(4.0, 0.25, (n, d)) * np.log(1.0 / chance + 1.0)
    norm = np.sqrt(np.sum(x * x, axis=1))
    x = x / np.where(norm > 0.0, norm, 1.0)[:, None]
    return x, x @ (np.random.default_rng(seed).normal(size=d) * 1.5 * _SCORE_DEVIATION)


def _label(task: Task, score: np.ndarray, rng: np.random.Generator, only: float | None) -> np.ndarray | None:
    n = score.size
    noise = rng.normal(size=n) if task.target == "real" else rng.logistic(size=n)
    if task.target == "none":
        return None
    if only is not None:
        return np.full(n, only)
    if task.target == "real":
        return score + noise
    cuts = np.linspace(-1.5, 1.5, task.n_classes + 1)[1:-1]
    return np.searchsorted(cuts, score + noise).astype(np.float64)


def _against(task: Task, label: np.ndarray | None, rows: np.ndarray, score: float) -> np.ndarray | None:
    """Label some rows with what their score makes least likely; real labels: the usual one."""
    if label is None or not rows.any():
        return label
    if task.target == "real":
        wrong = 0.0
    else:
        wrong = 0.0 if score > 0 else task.n_classes - 1.0
    return np.where(rows, wrong, label)


def _reversed(task: Task, label: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    """Reverse the labels of some rows."""
    if label is None:
        return None
    return np.where(rows, -label if task.target == "real" else task.n_classes - 1.0 - label, label)


def _weight(kind: str, n: int, rng: np.random.Generator) -> np.ndarray | None:
    if kind == "none":
        return None
    if kind == "absent":
        return np.zeros(n)
    if kind == "huge":
        return np.where(np.arange(n) == n // 2, 1e300, 1.0)
    if kind == "against":
        return np.where(rng.random(n) < 0.8, 0.0, 1.0)
    return rng.uniform(0.05, 3.0, n)
