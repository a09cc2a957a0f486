"""Closing a block: Newton steps on rows at hand, with everything learned before as prior.

Letters: ``n`` rows, ``d`` features, ``g`` groups of rows kept apart (all; or class 0, class 1 with "balanced").
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from beam_ml.algorithms.linear.newton.losses import LOSSES, Loss
from beam_ml.algorithms.linear.newton.solve import solve
from beam_ml.algorithms.linear.newton.spec import Newton
from beam_ml.algorithms.linear.newton.sums import (
    VARIANCE_FLOOR,
    Point,
    Sums,
    block_sums,
    cuts,
    linear_score,
    merge_sums,
    no_sums,
    shifted,
)

__all__ = [
    "Rows",
    "Shape",
    "at_point",
    "close_block",
    "combine",
    "descend",
    "distance",
    "effective_weight",
    "flat_fit",
    "is_full",
    "positive_factor",
    "row_loss",
]

MIN_ROWS = 4096
_EVENTS_PER_PARAMETER = 10
_SETTLED = 0.1  # 2 × what linearising may leave out, in statistical errors of the posterior
_MAX_STEPS = 40
_COARSER = 4
_FEWEST_ROWS = 512
_CUT_SHORT = 0.125
_HALVINGS = tuple(2.0**-k for k in range(11))


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Rows of positive weight: x (n, d) float32 or float64, label (n,), weight (n,)."""

    x: np.ndarray
    label: np.ndarray
    weight: np.ndarray

    def every(self, step: int) -> "Rows":
        """Return each `step`-th row."""
        return Rows(self.x[::step], self.label[::step], self.weight[::step])


def positive_factor(spec: Newton, mass: np.ndarray) -> float:
    """Return the factor on the weight of class 1; balanced: mass of class 0 / class 1 (1 while one has no rows)."""
    if spec.positive_weight != "balanced":
        return float(spec.positive_weight)
    return float(mass[0] / mass[1]) if mass[0] > 0 and mass[1] > 0 else 1.0


def effective_weight(label: np.ndarray, weight: np.ndarray, factor: float) -> np.ndarray:
    """Return the rows' weights with class 1 multiplied by `factor`."""
    return weight if factor == 1.0 else weight * np.where(label >= 0.5, factor, 1.0)


def combine(spec: Newton, sums: list[Sums], mass: np.ndarray) -> Sums:
    """Add the groups; balanced: class 1 weighted by its factor, which is exact as sums scale with row weights."""
    if len(sums) == 1:
        return sums[0]
    return merge_sums(sums[0], sums[1].scaled(positive_factor(spec, mass)))


def is_full(labels: Sequence[np.ndarray], d: int) -> bool:
    """Return whether rows are enough to be solved: 4,096, with 10(d + 1) of the rarer class."""
    rows = sum(label.size for label in labels)
    positive = sum(int(np.count_nonzero(label >= 0.5)) for label in labels)
    return rows >= MIN_ROWS and min(positive, rows - positive) >= _EVENTS_PER_PARAMETER * (d + 1)


def row_loss(loss: Loss, point: Point, rows: Rows) -> np.ndarray:
    """Return each row's loss (n,)."""
    return loss.value(linear_score(rows.x, point), rows.label)


def at_point(spec: Newton, point: Point, rows: Rows) -> list[Sums]:
    """Sum rows linearised at a point, by group."""
    loss = LOSSES[spec.loss]
    if spec.positive_weight == "balanced":
        return [_linearised(loss, point, _of_class(rows, k)) for k in (0, 1)]
    weight = effective_weight(rows.label, rows.weight, float(spec.positive_weight))
    return [_linearised(loss, point, dataclasses.replace(rows, weight=weight))]


def squared_sums(origin: np.ndarray, rows: Rows) -> Sums:
    """Sum rows for squared loss: w = s and r = s·y, wherever the anchor is."""
    total, zero = no_sums(origin), Point(np.zeros(origin.size), 0.0, origin)
    for part in cuts(rows.label.size, origin.size):
        s = rows.weight[part]
        total = merge_sums(total, block_sums(shifted(rows.x[part], zero)[0], origin, s, s * rows.label[part]))
    return total


def _of_class(rows: Rows, k: int) -> Rows:
    mine = (rows.label >= 0.5) == bool(k)
    return Rows(rows.x[mine], rows.label[mine], rows.weight[mine])


def _linearised(loss: Loss, point: Point, rows: Rows) -> Sums:
    total = no_sums(point.origin)
    for part in cuts(rows.label.size, point.origin.size):
        y, s = rows.label[part], rows.weight[part]
        z, eta = shifted(rows.x[part], point)
        mu = loss.mean(eta)
        w, p = s * np.maximum(loss.variance(mu), VARIANCE_FLOOR), s * (y - mu)
        total = merge_sums(total, block_sums(z, point.origin, w, w * eta + p, p))
    return total


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """What closing a block needs to know about the rows around it.

    Attributes:
        origin: (d,) origin of the sums, feature units.
        centre: (d,) feature means relative to the origin.
        scale: (d,) standard deviations of the features.
        mass: (c,) row weight by class, which "balanced" uses.
    """

    origin: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    mass: np.ndarray


def close_block(spec: Newton, prior: Sums, chunks: Sequence[Rows], shape: Shape) -> tuple[list[Sums], Point]:
    """Take Newton steps on a block's loss plus ½(β − β̂)ᵀA(β − β̂), the posterior so far; return the block's own sums.

    Two helpers keep a separable or one-class block from running away, and are not stored: a pseudo-row of average
    weight at the centre with label ½, and one average row's weight of ridge on the standardised coefficients, around
    the posterior's mode.

    The steps end when linearising at the last point is good enough: with λ² = Σw(Δη)² of the step that the sums ask
    for, what linearising leaves out is about λ²/(2√W), and may be a twentieth of the statistical error √(d + 1);
    without a prior, where the block's error is all there is, a two-thousandth.

    Args:
        spec: the spec.
        prior: posterior so far, class weights applied; information 0 if there is none.
        chunks: the block's n ≥ 1 rows.
        shape: origin, centre and scale of the features, and class masses.

    Returns:
        The block's sums by group, linearised where the steps ended, and the mode of block, prior and helpers.
    """
    factor = positive_factor(spec, shape.mass)
    rows = sum(chunk.label.size for chunk in chunks)
    unit = float(sum(chunk.weight.sum() for chunk in chunks)) / rows
    mode = solve(prior).at(shape.origin) if prior.information > 0 else None
    if mode is None or not mode.is_finite:
        mode = flat_fit(chunks, factor, unit, shape.origin)
    start = mode
    if rows >= _COARSER * max(_FEWEST_ROWS, 10 * (shape.origin.size + 1)) and prior.information == 0:
        # Every fourth row leads close to the block's mode at a fourth of the cost of each step, and so on downwards.
        start = close_block(spec, prior, [chunk.every(_COARSER) for chunk in chunks], shape)[1]
    ridge = unit * shape.scale**2

    def sums_at(at: Point) -> tuple[list[Sums], Sums]:
        """The block's sums linearised at a point, and the same with prior and helpers."""
        made = [reduce(merge_sums, group) for group in zip(*(at_point(spec, at, one) for one in chunks), strict=True)]
        total = merge_sums(
            merge_sums(prior, combine(spec, made, shape.mass)), _pseudo_row(spec, at, unit, shape.centre)
        )
        scatter, cross = total.scatter + np.diag(ridge), total.cross + ridge * mode.coefficients
        return made, dataclasses.replace(total, scatter=scatter, cross=cross)

    def value(at: Point) -> float:
        """What the steps minimise."""
        loss = LOSSES[spec.loss]
        rows_loss = sum(
            float(row_loss(loss, at, one) @ effective_weight(one.label, one.weight, factor)) for one in chunks
        )
        pseudo = Rows((shape.origin + shape.centre)[None, :], np.array([0.5]), np.array([unit]))
        helpers = unit * float(row_loss(loss, at, pseudo)[0]) + 0.5 * float(
            ridge @ (at.coefficients - mode.coefficients) ** 2
        )
        return rows_loss + 0.5 * distance(prior, mode, at) + helpers

    settled = _SETTLED if prior.information > 0 else 0.01 * _SETTLED
    flat = flat_fit(chunks, factor, unit, shape.origin)
    return descend(
        sums_at, value, start, flat, lambda total: settled * np.sqrt((shape.origin.size + 1.0) * total.information)
    )


def descend(
    sums_at: Callable[[Point], tuple[list[Sums], Sums]],
    value: Callable[[Point], float],
    start: Point,
    refuge: Point,
    settled: Callable[[Sums], float],
) -> tuple[list[Sums], Point]:
    """Take Newton steps, halved until the value falls.

    A start that is sure of a category's label, and wrong, has next to no curvature there: its steps are far too long and
    halving them holds all other parameters still. Steps that have to be cut short begin again at a start without opinions.

    Args:
        sums_at: the rows' sums by group linearised at a point, and the total that a step solves.
        value: what the steps minimise.
        start: where to begin.
        refuge: where to begin again.
        settled: the squared length Σw(Δη)² of a step that is the last one.

    Returns:
        The rows' sums by group, without their slope, and where the steps ended.
    """
    at, safe = start, start is refuge
    made, total = sums_at(at)
    reached: float | None = None
    for _ in range(_MAX_STEPS):
        end = solve(total).at(start.origin)
        length = distance(total, end, at)
        if not np.isfinite(length):
            break
        if length <= settled(total):
            at = end
            break
        reached = value(at) if reached is None else reached
        t, trial, lower = _shortened(value, at, end, reached)
        if not safe and t <= _CUT_SHORT:
            fresh, other = descend(sums_at, value, refuge, refuge, settled)
            return (fresh, other) if value(other) <= lower else ([one.without_pull() for one in made], at)
        if t == 0.0:
            break
        at, reached = trial, lower
        made, total = sums_at(at)
    return [one.without_pull() for one in made], at


def _shortened(value: Callable[[Point], float], at: Point, end: Point, reached: float) -> tuple[float, Point, float]:
    """Return the share of a step at which the value falls, its end and the value there; 0 where there is none."""
    for t in _HALVINGS:
        trial = _between(at, end, t)
        lower = value(trial)
        if lower <= reached:
            return t, trial, lower
    return 0.0, at, reached


def flat_fit(chunks: Sequence[Rows], factor: float, unit: float, origin: np.ndarray) -> Point:
    """Return the intercept-only fit, half a row of each class added."""
    positive = factor * sum(float(one.weight @ one.label) for one in chunks) + 0.5 * unit
    negative = sum(float(one.weight @ (1.0 - one.label)) for one in chunks) + 0.5 * unit
    return Point(np.zeros(origin.size), float(np.log(positive / negative)), origin)


def _between(a: Point, b: Point, t: float) -> Point:
    return Point(
        a.coefficients + t * (b.coefficients - a.coefficients), a.intercept + t * (b.intercept - a.intercept), a.origin
    )


def distance(sums: Sums, a: Point, b: Point) -> float:
    """Return Σ w (η_a − η_b)² over the rows of the sums."""
    if sums.information == 0.0:
        return 0.0
    step = a.coefficients - b.at(a.origin).coefficients
    at_mean = a.intercept - b.at(a.origin).intercept + float((sums.mean + (sums.origin - a.origin)) @ step)
    return float(step @ sums.scatter @ step) + sums.information * at_mean * at_mean


def _pseudo_row(spec: Newton, at: Point, unit: float, centre: np.ndarray) -> Sums:
    """Linearise one row of weight `unit` at the centre with label ½."""
    loss = LOSSES[spec.loss]
    eta = at.intercept + float(centre @ at.coefficients)
    mu = float(loss.mean(np.array([eta]))[0])
    w = unit * max(float(loss.variance(np.array([mu]))[0]), VARIANCE_FLOOR)
    d = centre.size
    return Sums(at.origin, w, centre, np.zeros((d, d)), w * eta + unit * (0.5 - mu), np.zeros(d))
