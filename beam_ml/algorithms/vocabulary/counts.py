"""The state: the weight of the most frequent terms of each column, within a bound that holds in any order and grouping.

A column counts at most k = `capacity` terms. Where there are more, the (k + 1)-th largest count is taken off all of them,
and what has none left is dropped. Each time k + 1 counts lose that much, so that all cuts together are at most
``W / (k + 1)``: so much may a count be too small, and a term that is not there may have had. With k terms or fewer every
count is exact.

W is the weight of a column's terms: of the rows, or of texts' words, each as often as it comes.

There is no random choice, and no hash decides anything: equal parts, merged in one order, are equal to the bit; in another
order counts may differ within the bound.

References: Misra and Gries, "Finding repeated elements" (1982); Agarwal, Cormode, Huang, Phillips, Wei and Yi, "Mergeable
summaries" (2012).
"""

from typing import Any

import numpy as np

from beam_ml.algorithms.shared.centre import Centre, centre_of, joined
from beam_ml.algorithms.shared.sparse import canonical
from beam_ml.algorithms.vocabulary.spans import spans_of
from beam_ml.algorithms.vocabulary.spec import Partial, Spec
from beam_ml.core.admit import LEAST_WEIGHT
from beam_ml.core.algorithm import Law, LawKind, check_batch
from beam_ml.core.batch import Batch
from beam_ml.core.mixing import mix64

__all__ = ["accumulate", "codes_of", "empty", "law", "merge", "scale", "summed", "weight"]

_BOUND = 1e-6
_ROUNDING = 1e-9
_MULTIPLIER = np.uint64(3)

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
    return _grouped(column, term, count, np.lexsort((*term.T[::-1], column)))


def _grouped(column: np.ndarray, term: np.ndarray, count: np.ndarray, order: np.ndarray) -> Terms:
    """Return equal terms that are side by side in an order as one, with the sum of their counts."""
    if not column.size:
        return column, term, count
    column, term, count = column[order], term[order], count[order]
    fresh = np.ones(column.size, bool)
    fresh[1:] = (column[1:] != column[:-1]) | (term[1:] != term[:-1]).any(axis=1)
    first = np.flatnonzero(fresh)
    return column[first], term[first], np.add.reduceat(count, first)


def _of_rows(spec: Spec, batch: Batch, weight: np.ndarray) -> Terms:
    """Return the terms of n rows of weight (n,) > 0, all of them."""
    n, g, s = len(batch), spec.columns, spec.numbers
    if spec.words is None:
        x = batch.dense_x
        term = np.ascontiguousarray(x.reshape(n, g, s).transpose(1, 0, 2), dtype=np.float64).reshape(g * n, s) + 0.0
        return summed(np.repeat(np.arange(g, dtype=np.int32), n), term, np.tile(weight, g))
    found = spans_of(batch, s)
    column, count = (found.span // spec.words).astype(np.int32), found.times * weight[found.row]
    # Words are many and come again: sorted by one number first. Two that are alike in it may be there twice, until below.
    once = _grouped(column, found.term, count, np.argsort(codes_of(found.term, column), kind="stable"))
    return summed(*once)


def codes_of(term: np.ndarray, column: np.ndarray | int = 0) -> np.ndarray:
    """Return 64 bits that stand for each term (n, s) of a column, (n,) uint64; of single numbers they are a bijection."""
    bits = np.ascontiguousarray(term + 0.0).view(np.uint64)
    codes = np.zeros(len(bits), np.uint64) + np.asarray(column, np.uint64)
    for k in range(bits.shape[1]):
        codes = mix64(codes * _MULTIPLIER + bits[:, k])
    return codes


def _centre(spec: Spec, batch: Batch, weight: np.ndarray) -> Centre:
    """Return weight and mean of n >= 1 rows of weight (n,) > 0; the mean of words is around 0."""
    if spec.words is None:
        return centre_of(batch.dense_x, weight)
    indptr, indices, values = canonical(batch)
    shares = np.repeat(weight / weight.sum(), np.diff(indptr))
    mean = np.bincount(indices, weights=values * shares, minlength=spec.n_features).astype(np.float64)
    return Centre(np.zeros(spec.n_features), np.asarray(weight.sum()), mean)


def accumulate(spec: Spec, partial: Partial, batch: Batch, anchor: Any = None) -> Partial:
    """Add a batch's rows."""
    check_batch(spec, batch)
    present = batch.weights > 0
    if not present.any():
        return partial
    rows = batch if present.all() else batch.take(present)
    centre = _centre(spec, rows, rows.weights)
    fresh = Partial(
        centre.weight, centre.origin, centre.mean, *_of_rows(spec, rows, rows.weights), np.zeros(spec.columns)
    )
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
    present = rows.take(rows.weights > 0)
    column, term, count = _of_rows(spec, present, present.weights)
    both = summed(
        np.concatenate([column, summary.column]),
        np.concatenate([term, summary.term]),
        np.concatenate([count, -summary.count]),
    )
    missed = both[2].max(initial=0.0)
    invented = -both[2].min(initial=0.0)
    total = float(np.bincount(column, weights=count, minlength=1).max())
    # A count is never too large, but for rounding: what it has too much of weighs as a whole capacity of misses.
    return float(max(missed, invented * (spec.capacity + 1.0))), total / (spec.capacity + 1.0) * (1.0 + _ROUNDING)
