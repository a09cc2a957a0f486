"""Closing a block: Newton steps on rows at hand, with everything learned before as prior.

Letters: ``n`` rows, ``d`` features, ``g`` groups of rows kept apart (all; or class 0, class 1 with "balanced").
"""

import dataclasses

import numpy as np
from scipy.special import logit

from beam_ml.algorithms.linear.losses import LOSSES, Loss
from beam_ml.algorithms.linear.solve import solve
from beam_ml.algorithms.linear.spec import Newton
from beam_ml.algorithms.linear.sums import (
    BLOCK_BYTES,
    MIN_BLOCK_ROWS,
    VARIANCE_FLOOR,
    Point,
    Sums,
    block_sums,
    merge_sums,
    no_sums,
)

__all__ = [
    "Rows",
    "Shape",
    "at_point",
    "close_block",
    "combine",
    "effective_weight",
    "is_full",
    "positive_factor",
    "row_loss",
]

MIN_ROWS = 4096
_EVENTS_PER_PARAMETER = 10
_SETTLED = 1e-5  # squared Newton step in units of η, a row: what is left after it is its square
_MAX_STEPS = 40
_COARSER = 8
_HALVINGS = tuple(2.0**-k for k in range(11))


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Rows of positive weight: x (n, d) float32 or float64, label (n,), weight (n,)."""

    x: np.ndarray
    label: np.ndarray
    weight: np.ndarray

    def every(self, step: int) -> "Rows":
        """Give each `step`-th row."""
        return Rows(self.x[::step], self.label[::step], self.weight[::step])


def positive_factor(spec: Newton, mass: np.ndarray) -> float:
    """Give the factor on the weight of class 1; balanced: mass of class 0 / mass of class 1 (1 while one has no rows)."""
    if spec.positive_weight != "balanced":
        return float(spec.positive_weight)
    return float(mass[0] / mass[1]) if mass[0] > 0 and mass[1] > 0 else 1.0


def effective_weight(label: np.ndarray, weight: np.ndarray, factor: float) -> np.ndarray:
    """Give the rows' weights with class 1 multiplied by `factor`."""
    return weight if factor == 1.0 else weight * np.where(label >= 0.5, factor, 1.0)


def combine(spec: Newton, sums: list[Sums], mass: np.ndarray) -> Sums:
    """Add the groups; balanced: class 1 weighed by its factor, which is exact as sums scale with row weights."""
    if len(sums) == 1:
        return sums[0]
    return merge_sums(sums[0], sums[1].scaled(positive_factor(spec, mass)))


def is_full(label: np.ndarray, d: int) -> bool:
    """Tell whether rows are enough to be solved: 4,096, with 10(d + 1) of the rarer class."""
    positive = int(np.count_nonzero(label >= 0.5))
    return label.size >= MIN_ROWS and min(positive, label.size - positive) >= _EVENTS_PER_PARAMETER * (d + 1)


def row_loss(loss: Loss, point: Point, rows: Rows) -> np.ndarray:
    """Give each row's loss (n,)."""
    out = np.empty(rows.label.size)
    step = max(MIN_BLOCK_ROWS, BLOCK_BYTES // (8 * point.origin.size))
    for start in range(0, rows.label.size, step):
        part = slice(start, start + step)
        z = np.subtract(rows.x[part], point.origin, dtype=np.float64)
        out[part] = loss.value(z @ point.coefficients + point.intercept, rows.label[part])
    return out


def at_point(spec: Newton, point: Point, rows: Rows) -> tuple[list[Sums], list[float]]:
    """Sum rows linearised at a point: the sums and the loss, by group."""
    loss = LOSSES[spec.loss]
    if spec.positive_weight == "balanced":
        made = [_linearised(loss, point, _of_class(rows, k)) for k in (0, 1)]
    else:
        weight = effective_weight(rows.label, rows.weight, float(spec.positive_weight))
        made = [_linearised(loss, point, dataclasses.replace(rows, weight=weight))]
    return [sums for sums, _ in made], [value for _, value in made]


def _of_class(rows: Rows, k: int) -> Rows:
    mine = (rows.label >= 0.5) == bool(k)
    return Rows(rows.x[mine], rows.label[mine], rows.weight[mine])


def _linearised(loss: Loss, point: Point, rows: Rows) -> tuple[Sums, float]:
    n, d = rows.label.size, point.origin.size
    step = max(MIN_BLOCK_ROWS, BLOCK_BYTES // (8 * d))
    total, value = no_sums(point.origin), 0.0
    for start in range(0, n, step):
        part = slice(start, start + step)
        y, s = rows.label[part], rows.weight[part]
        z = np.subtract(rows.x[part], point.origin, dtype=np.float64)
        eta = z @ point.coefficients + point.intercept
        mu = loss.mean(eta)
        w = s * np.maximum(loss.variance(mu), VARIANCE_FLOOR)
        value += float(s @ loss.value(eta, y))
        total = merge_sums(total, block_sums(z, point.origin, w, w * eta + s * (y - mu)))
    return total, value


def squared_sums(origin: np.ndarray, rows: Rows) -> Sums:
    """Sum rows for squared loss: w = s and r = s·y, wherever the anchor is."""
    n, d = rows.label.size, origin.size
    step = max(MIN_BLOCK_ROWS, BLOCK_BYTES // (8 * d))
    total = no_sums(origin)
    for start in range(0, n, step):
        part = slice(start, start + step)
        s = rows.weight[part]
        z = np.subtract(rows.x[part], origin, dtype=np.float64)
        total = merge_sums(total, block_sums(z, origin, s, s * rows.label[part]))
    return total


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """What closing a block needs to know about the rows around it.

    Attributes:
        origin: (d,) origin of the sums, feature units.
        centre: (d,) feature means relative to the origin.
        scale: (d,) standard deviations of the features.
        mass: (c,) row weight by class, which "balanced" goes by.
    """

    origin: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    mass: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    """Where a Newton iteration stands: the block's sums there, all sums, and the value of what it minimises."""

    point: Point
    sums: list[Sums]
    total: Sums
    value: float


def close_block(spec: Newton, prior: Sums, rows: Rows, shape: Shape) -> tuple[list[Sums], Point]:
    """Take Newton steps on a block's loss plus ½(β − β̂)ᵀA(β − β̂), the posterior so far; give the block's own sums.

    Two helpers keep a separable or one-class block from running away, and are not stored: a pseudo-row of average weight
    at the centre with label ½, and one average row's weight of ridge on the standardised coefficients, around the
    posterior's mode.

    Args:
        spec: the spec.
        prior: posterior so far, class weights applied; information 0 if there is none.
        rows: n ≥ 1 rows.
        shape: origin, centre and scale of the features, and class masses.

    Returns:
        The block's sums by group, linearised where the steps ended, and the mode of block, prior and helpers.
    """
    factor = positive_factor(spec, shape.mass)
    weight = effective_weight(rows.label, rows.weight, factor)
    n, unit = float(weight.sum()), float(rows.weight.mean())
    flat = _flat(rows.label, weight, unit, shape.origin)
    mode = solve(prior).at(shape.origin) if prior.information > 0 else flat
    if not (np.isfinite(mode.coefficients).all() and np.isfinite(mode.intercept)):
        mode = flat
    start = mode
    if rows.label.size >= _COARSER * MIN_ROWS and prior.information == 0:
        # A strided eighth of a large block leads close to its mode at an eighth of the cost of each step.
        start = close_block(spec, prior, rows.every(_COARSER), shape)[1]
    ridge = unit * shape.scale**2

    def stand(at: Point) -> _Step:
        sums, losses = at_point(spec, at, rows)
        pseudo, pseudo_loss = _pseudo_row(spec, at, unit, shape.centre)
        total = merge_sums(merge_sums(prior, combine(spec, sums, shape.mass)), pseudo)
        total = dataclasses.replace(
            total, scatter=total.scatter + np.diag(ridge), cross=total.cross + ridge * mode.coefficients
        )
        value = losses[0] + (factor * losses[1] if len(losses) == 2 else 0.0) + pseudo_loss
        value += 0.5 * _distance(prior, mode, at) + 0.5 * float(ridge @ (at.coefficients - mode.coefficients) ** 2)
        return _Step(at, sums, total, value)

    best = stand(start)
    for _ in range(_MAX_STEPS):
        end = solve(best.total).at(shape.origin)
        length = _distance(best.total, end, best.point)
        if not np.isfinite(length):
            return best.sums, best.point
        if length <= _SETTLED * n:
            return best.sums, end
        for t in _HALVINGS:
            trial = stand(_between(best.point, end, t))
            if trial.value <= best.value:
                break
        else:
            return best.sums, best.point
        best = trial
    return best.sums, best.point


def _flat(label: np.ndarray, weight: np.ndarray, unit: float, origin: np.ndarray) -> Point:
    """Give the intercept-only fit, half a row of each class added."""
    rate = (float(weight @ label) + 0.5 * unit) / (float(weight.sum()) + unit)
    return Point(np.zeros(origin.size), float(logit(rate)), origin)


def _between(a: Point, b: Point, t: float) -> Point:
    return Point(
        a.coefficients + t * (b.coefficients - a.coefficients), a.intercept + t * (b.intercept - a.intercept), a.origin
    )


def _distance(sums: Sums, a: Point, b: Point) -> float:
    """Give Σ w (η_a − η_b)² over the rows of the sums."""
    if sums.information == 0.0:
        return 0.0
    step = a.coefficients - b.at(a.origin).coefficients
    at_mean = a.intercept - b.at(a.origin).intercept + float((sums.mean + (sums.origin - a.origin)) @ step)
    return float(step @ sums.scatter @ step) + sums.information * at_mean * at_mean


def _pseudo_row(spec: Newton, at: Point, unit: float, centre: np.ndarray) -> tuple[Sums, float]:
    loss = LOSSES[spec.loss]
    eta = np.array([at.intercept + float(centre @ at.coefficients)])
    half = np.array([0.5])
    mu = loss.mean(eta)
    w = float(unit * np.maximum(loss.variance(mu), VARIANCE_FLOOR)[0])
    response = w * float(eta[0]) + unit * float(0.5 - mu[0])
    d = centre.size
    sums = Sums(at.origin, w, centre, np.zeros((d, d)), response, np.zeros(d))
    return sums, unit * float(loss.value(eta, half)[0])
