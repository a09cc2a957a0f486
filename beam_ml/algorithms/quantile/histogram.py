"""The state: one histogram of logarithmic buckets per column. Letters: ``n`` rows, ``d`` columns, ``b`` buckets.

With γ = (1 + α)/(1 − α) each bucket holds magnitudes of which none is more than γ times another, so that its harmonic
middle is within α of each. A histogram is a sum over rows: counts add in any order, and age by a factor.

A column that would need more than `max_buckets` halves its keys, as often as needed (Epicoco et al. 2020): each two
neighbours become one, and after k times the error is ``tanh(2^k·artanh α)``. k is the smallest that fits the keys seen, and
the keys of a part are among those of the whole: the result does not depend on order or grouping.

References: Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees"
(2019); Epicoco et al., "UDDSketch: accurate tracking of quantiles in data streams" (2020).
"""

import math
from typing import Any

import numpy as np

from beam_ml import kernels
from beam_ml.algorithms.quantile.spec import Partial, Spec
from beam_ml.algorithms.shared.downdate import rest_of
from beam_ml.core.admit import LEAST_WEIGHT
from beam_ml.core.algorithm import Law, LawKind, check_batch
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused, InvalidBatch, RemoveRefused

__all__ = ["accumulate", "empty", "errors", "estimates", "law", "merge", "remove", "scale", "weight"]

_GRAIN = 2.0**-20
_SHIFT = np.int64(32)
_SIGN = np.int64(1 << 31)
_SLACK = 1e-12  # of all rows' weight, by which rounding may leave a bucket that is empty
_STEPS = 8  # Newton's: the cubic is close to a line


def law(spec: Spec) -> Law:
    """EXACT."""
    return Law(LawKind.EXACT, rtol=1e-9)


def empty(spec: Spec) -> Partial:
    """Return the histograms of no rows."""
    d = spec.n_features
    nothing = np.zeros(0, np.int32)
    return Partial(
        weight=np.zeros(()), low=np.zeros(d), high=np.zeros(d), level=np.zeros(d, np.int64),
        column=nothing, code=nothing, count=np.zeros(0),
    )  # fmt: skip


def _per_doubling(alpha: float) -> float:
    """Return t, the buckets a power of two: ``1 / (C·ln γ)``, where C is the cubic's least slope, rounded up.

    Rounding makes it the same number whatever the last bit of the logarithm.
    """
    least_slope = kernels.quantile.buckets.CUBIC[2]
    return math.ceil(1.0 / (least_slope * 2.0 * math.atanh(alpha) * _GRAIN)) * _GRAIN


def accumulate(spec: Spec, partial: Partial, batch: Batch, anchor: Any = None) -> Partial:
    """Add a batch's rows.

    Raises:
        InvalidBatch: another width than the spec's, or a value that is NaN or infinite.
    """
    check_batch(spec, batch)
    x, weight = batch.dense_x, batch.weights
    if not weight.all():
        present = weight > 0
        x, weight = np.ascontiguousarray(x[present]), weight[present]
    if not weight.size:
        return partial
    column, code, count, wrong = kernels.quantile.buckets.counted(x, weight, _per_doubling(spec.relative_error))
    if wrong:
        message = (
            f"quantile needs finite values; got a batch of {len(batch)} rows with {wrong} that are NaN or infinite."
        )
        raise InvalidBatch(message)
    fresh = Partial(
        weight=np.asarray(weight.sum()),
        low=x.min(axis=0).astype(np.float64) + 0.0,
        high=x.max(axis=0).astype(np.float64) + 0.0,
        level=np.zeros(spec.n_features, np.int64),
        column=column,
        code=code,
        count=count,
    )
    return merge(spec, partial, _fitted(spec, fresh))


def merge(spec: Spec, a: Partial, b: Partial) -> Partial:
    """Add the counts of two partials, at the coarser level of each column."""
    if weight(a) == 0.0 or weight(b) == 0.0:
        return b if weight(a) == 0.0 else a
    level = np.maximum(a.level, b.level)
    codes = [_halved(one.code, (level - one.level)[one.column]) for one in (a, b)]
    with np.errstate(over="ignore"):  # weights too large to add turn infinite, which the fold refuses
        both = _summed(np.concatenate([a.column, b.column]), np.concatenate(codes), np.concatenate([a.count, b.count]))
        total = np.asarray(a.weight + b.weight)
    merged = Partial(total, np.minimum(a.low, b.low), np.maximum(a.high, b.high), level, *both)
    return _fitted(spec, merged)


def _halved(code: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the codes after their keys were halved so many times."""
    if not times.any():
        return code
    halved: np.ndarray = (np.sign(code) * (np.abs(code).astype(np.int64) >> times)).astype(np.int32)
    return halved


def _summed(column: np.ndarray, code: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each bucket once, by rising column and value."""
    place = (column.astype(np.int64) << _SHIFT) + (code.astype(np.int64) + _SIGN)
    order = np.argsort(place, kind="stable")  # of sorted runs: a merge
    place = place[order]
    first = np.flatnonzero(np.diff(place, prepend=-1))
    return column[order][first], code[order][first], np.add.reduceat(count[order], first)


def _fitted(spec: Spec, partial: Partial) -> Partial:
    """Return the partial with no more buckets a column than there may be."""
    column, code, count, level = partial.column, partial.code, partial.count, partial.level
    while True:
        over = np.bincount(column, minlength=spec.n_features) > spec.max_buckets
        if not over.any():
            break
        column, code, count = _summed(column, _halved(code, over[column].astype(np.int64)), count)
        level = level + over
    return Partial(partial.weight, partial.low, partial.high, level, column, code, count)


def remove(spec: Spec, summary: Partial, part: Partial) -> Partial:
    """Subtract a part's counts; the least and largest value, and how coarse a column is, stay those of both.

    Raises:
        RemoveRefused: a bucket of the part has more rows than there are.
    """
    if weight(part) == 0.0:
        return summary
    total = rest_of(summary.weight, part.weight, "weight")
    finer = np.maximum(summary.level - part.level, 0)
    code = _halved(part.code, finer[part.column])
    column, code, count = _summed(
        np.concatenate([summary.column, part.column]),
        np.concatenate([summary.code, code]),
        np.concatenate([summary.count, -part.count]),
    )
    slack = _SLACK * float(summary.weight)
    if (part.level > summary.level).any() or count.min() < -slack:
        message = "What is removed must have been learned: one of its buckets has more rows than there are."
        raise RemoveRefused(message)
    if total == 0.0:
        return empty(spec)
    left = count > min(slack, float(count.max(initial=0.0)) * 0.5)
    return Partial(total, summary.low, summary.high, summary.level, column[left], code[left], count[left])


def scale(spec: Spec, summary: Partial, factor: float) -> Partial:
    """Multiply every row's weight by a factor; what ages below the least weight that a row may have is gone."""
    total = np.asarray(summary.weight * factor)
    if total == 0.0:
        return empty(spec)
    count = summary.count * factor
    column, code = summary.column, summary.code
    if factor < 1.0 and count.min() < LEAST_WEIGHT <= total:
        kept = count >= LEAST_WEIGHT
        column, code, count = column[kept], code[kept], count[kept]
    return Partial(total, summary.low, summary.high, summary.level, column, code, count)


def weight(summary: Partial) -> float:
    """Return the total row weight W."""
    return float(summary.weight)


def errors(spec: Spec, state: Partial) -> np.ndarray:
    """Return the largest relative error of each column's values, (d,): ``tanh(2^level·artanh α)``."""
    found: np.ndarray = np.tanh(np.exp2(state.level.astype(np.float64)) * math.atanh(spec.relative_error))
    return np.where(state.level == 0, spec.relative_error, found)


def _ends(spec: Spec, key: np.ndarray) -> np.ndarray:
    """Return the smallest magnitude that has each key, as a number of doublings inverted: 2^e·(1 + s)."""
    a, b, c = kernels.quantile.buckets.CUBIC
    doublings = key / _per_doubling(spec.relative_error)
    exponent = np.floor(doublings)
    rest = doublings - exponent
    s = rest.copy()
    for _ in range(_STEPS):
        s -= (((a * s + b) * s + c) * s - rest) / ((3.0 * a * s + 2.0 * b) * s + c)
    with np.errstate(over="ignore"):
        ends: np.ndarray = np.ldexp(1.0 + s, np.clip(exponent, -1100, 1100).astype(np.int64))
    return ends


def _middles(spec: Spec, state: Partial) -> np.ndarray:
    """Return the harmonic middle of each bucket, (b,), which is within the column's error of every value in it."""
    level = state.level[state.column]
    code = np.abs(state.code.astype(np.int64))
    offset = kernels.quantile.buckets.OFFSET
    lower, upper = (_ends(spec, ((one << level) - offset).astype(np.float64)) for one in (code, code + 1))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        middle = lower * (2.0 / (1.0 + lower / upper))
    return np.where(state.code == 0, 0.0, np.sign(state.code) * middle)


def estimates(spec: Spec, state: Partial, q: np.ndarray, asked: str) -> np.ndarray:
    """Return the value below which, itself included, each share of a column's weight lies: (d, k) for shares (k,).

    It is within the column's relative error of a value that has that rank.

    Raises:
        DeriveRefused: no rows of positive weight, or buckets that no rows of the spec can have, as a file may claim.
    """
    if weight(state) <= 0.0:
        message = f"{asked} needs rows of positive weight; got none yet."
        raise DeriveRefused(message)
    _check(spec, state, asked)
    middles = _middles(spec, state)
    found = np.empty((spec.n_features, q.size))
    starts = np.searchsorted(state.column, np.arange(spec.n_features + 1))
    for j in range(spec.n_features):
        mine = slice(starts[j], starts[j + 1])
        sums = np.cumsum(state.count[mine])
        # A share of 0.1 of ten rows is one row, whatever the last bit of the product.
        at = np.searchsorted(sums, q * sums[-1] * (1.0 - 1e-12), side="left")
        found[j] = np.clip(middles[mine][at], state.low[j], state.high[j])
    return found


def _check(spec: Spec, state: Partial, asked: str) -> None:
    column = state.column
    good = (
        column.size > 0
        and bool(np.all(np.diff(column) >= 0))
        and bool(np.all(np.diff(column, prepend=-1, append=spec.n_features) <= 1))
        and bool(np.all((state.level >= 0) & (state.level <= 20)))
        and bool(np.all(np.isfinite(state.count) & (state.count > 0)))
        and bool(np.all(np.isfinite(state.low) & (state.low <= state.high) & np.isfinite(state.high)))
    )
    if not good:
        message = f"{asked} needs the buckets of every column, in order and with finite counts; got others."
        raise DeriveRefused(message)
