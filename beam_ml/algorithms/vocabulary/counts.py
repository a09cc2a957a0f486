"""The state: the weight of the most frequent terms of each column, within a bound that holds in any order and grouping.

A column counts at most k = `capacity` terms. Where there are more, the (k + 1)-th largest count is taken off all of them,
and what has none left is dropped. Each time k + 1 counts lose that much, so that all cuts together are at most
``W / (k + 1)``: so much may a count be too small, and a term that is not there may have had. With k terms or fewer every
count is exact.

There is no hash and no random choice: equal parts, merged in one order, are equal to the bit; in another order counts may
differ within the bound.

References: Misra and Gries, "Finding repeated elements" (1982); Agarwal, Cormode, Huang, Phillips, Wei and Yi, "Mergeable
summaries" (2012).
"""

from typing import Any

import numpy as np

from beam_ml.algorithms.shared.centre import centre_of, joined
from beam_ml.algorithms.vocabulary.spec import Partial, Spec
from beam_ml.core.admit import LEAST_WEIGHT
from beam_ml.core.algorithm import Law, LawKind, check_batch
from beam_ml.core.batch import Batch

__all__ = ["accumulate", "empty", "law", "merge", "scale", "summed", "weight"]

_BOUND = 1e-6
_ROUNDING = 1e-9

Terms = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Columns (t,), terms (t, s) and counts (t,)."""


def law(spec: Spec) -> Law:
    """SKETCH, with the guarantee of every count."""
    return Law(LawKind.SKETCH, rtol=1e-9, bound=_BOUND, guarantee=_guarantee)


def empty(spec: Spec) -> Partial:
    """Return the counts of no rows."""
    d = spec.n_features
    return Partial(
        np.zeros(()), np.zeros(d), np.zeros(d), np.zeros(0, np.int32), np.zeros((0, spec.numbers)), np.zeros(0),
        np.zeros(spec.columns),
    )  # fmt: skip


def summed(column: np.ndarray, term: np.ndarray, count: np.ndarray) -> Terms:
    """Return each term of each column once, by rising column and term."""
    if not column.size:
        return column, term, count
    order = np.lexsort((*term.T[::-1], column))
    column, term, count = column[order], term[order], count[order]
    fresh = np.ones(column.size, bool)
    fresh[1:] = (column[1:] != column[:-1]) | (term[1:] != term[:-1]).any(axis=1)
    first = np.flatnonzero(fresh)
    return column[first], term[first], np.add.reduceat(count, first)


def _of_rows(spec: Spec, x: np.ndarray, weight: np.ndarray) -> Terms:
    """Return the terms of rows (n, d) of weight (n,) > 0, all of them."""
    n, g, s = len(x), spec.columns, spec.numbers
    term = np.ascontiguousarray(x.reshape(n, g, s).transpose(1, 0, 2), dtype=np.float64).reshape(g * n, s) + 0.0
    return summed(np.repeat(np.arange(g, dtype=np.int32), n), term, np.tile(weight, g))


def accumulate(spec: Spec, partial: Partial, batch: Batch, anchor: Any = None) -> Partial:
    """Add a batch's rows."""
    check_batch(spec, batch)
    x, weight = batch.dense_x, batch.weights
    present = weight > 0
    if not present.any():
        return partial
    x, weight = x[present], weight[present]
    centre = centre_of(x, weight)
    fresh = Partial(centre.weight, centre.origin, centre.mean, *_of_rows(spec, x, weight), np.zeros(spec.columns))
    return _fitted(spec, fresh) if float(partial.weight) == 0.0 else merge(spec, partial, fresh)


def merge(spec: Spec, a: Partial, b: Partial) -> Partial:
    """Add the counts of two partials, and cut what is too many."""
    if weight(a) == 0.0 or weight(b) == 0.0:
        return b if weight(a) == 0.0 else a
    centre, _ = joined(a, b)
    with np.errstate(over="ignore"):  # weights too large to add turn infinite, which the fold refuses
        both = summed(
            np.concatenate([a.column, b.column]), np.concatenate([a.term, b.term]), np.concatenate([a.count, b.count])
        )
    return _fitted(spec, Partial(centre.weight, centre.origin, centre.mean, *both, a.shrunk + b.shrunk))


def _fitted(spec: Spec, partial: Partial) -> Partial:
    held = np.bincount(partial.column, minlength=spec.columns)
    if held.max() <= spec.capacity:
        return partial
    starts = np.concatenate([[0], np.cumsum(held)])
    cut = np.zeros(spec.columns)
    for j in np.flatnonzero(held > spec.capacity):
        mine = partial.count[starts[j] : starts[j + 1]]
        cut[j] = np.partition(mine, held[j] - spec.capacity - 1)[held[j] - spec.capacity - 1]
    count = partial.count - cut[partial.column]
    kept = count > 0
    return Partial(
        partial.weight, partial.origin, partial.mean,
        partial.column[kept], partial.term[kept], count[kept], partial.shrunk + cut,
    )  # fmt: skip


def scale(spec: Spec, summary: Partial, factor: float) -> Partial:
    """Multiply every row's weight by a factor; what ages below the least weight that a row may have is gone."""
    total = np.asarray(summary.weight * factor)
    if total == 0.0:
        return empty(spec)
    count = summary.count * factor
    column, term = summary.column, summary.term
    if factor < 1.0 and count.size and count.min() < LEAST_WEIGHT <= total:
        kept = count >= LEAST_WEIGHT
        column, term, count = column[kept], term[kept], count[kept]
    return Partial(total, summary.origin, summary.mean, column, term, count, summary.shrunk * factor)


def weight(summary: Partial) -> float:
    """Return the total row weight W."""
    return float(summary.weight)


def _guarantee(spec: Spec, summary: Partial, rows: Batch) -> tuple[float, float]:
    """Return how far a term's count is off, terms that are not there included, and the most that it may be."""
    present = rows.weights > 0
    column, term, count = _of_rows(spec, rows.dense_x[present], rows.weights[present])
    both = summed(
        np.concatenate([column, summary.column]),
        np.concatenate([term, summary.term]),
        np.concatenate([count, -summary.count]),
    )
    missed = both[2].max(initial=0.0)
    invented = -both[2].min(initial=0.0)
    total = float(rows.weights.sum())
    # A count is never too large, but for rounding: what it has too much of weighs as a whole capacity of misses.
    return float(max(missed, invented * (spec.capacity + 1.0))), total / (spec.capacity + 1.0) * (1.0 + _ROUNDING)
