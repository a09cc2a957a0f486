"""Frequent directions: a scatter matrix of d² numbers in 2·l rows of d.

Beside weight W and mean m (as in exact mode) the sketch keeps rows B with, for the scatter matrix S of all rows so far::

    BᵀB ≼ S ≼ BᵀB + Δ·I        Δ ≤ min over k ≤ l of  Σ_{i>k} λ_i(S) / (l + 1 − k)

Rows enter centred by their block's mean, times √weight; merging two summaries (a block and the sketch, two shards) adds one
row more, √(W_a W_b / W)·(m_b − m_a): Chan's correction, so that S is centred exactly. When B is full it *shrinks*: with the
eigenvalues λ of BBᵀ, each direction loses ``δ = λ_{l+1}`` and at most l are left, at a cost that the new rows share.
Each time Δ grows by δ and the trace falls by (l + 1)·δ or more; from this the bound follows, whatever the order, the batches
and the merges. Deriving restores what was lost: to a direction that stands out Δ, since it lost δ each time, and to the
others an even share of what is missing then from the trace of S, which is known exactly. What all directions are said to
hold thus adds up to the trace, and each lies between λ_i(BᵀB) and λ_i(BᵀB) + Δ. Rounding adds 1e-16 times the largest λ at
each shrink.

References: Liberty, "Simple and deterministic matrix sketching" (2013); Ghashami, Liberty, Phillips and Woodruff, "Frequent
directions: simple and deterministic matrix sketching" (2016); Desai, Ghashami and Phillips, "Improved practical matrix
sketching with guarantees" (2016).
"""

from typing import Any

import numpy as np

from beam_ml.algorithms.pca.model import check_state, model_of, positive, svd_rows
from beam_ml.algorithms.pca.spec import Components, Model, Sketch, Spec
from beam_ml.algorithms.shared.centre import Centre, Moments, joined
from beam_ml.algorithms.shared.origin import smallest_row
from beam_ml.core.algorithm import Law, LawKind, check_batch
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused

__all__ = ["accumulate", "derive", "empty", "guarantee", "law", "merge", "scale", "weight"]

_BOUND = 0.02
_STANDS_OUT = 4.0
_MIN_NEW_ROWS = 128  # a shrink takes tens of µs however few its rows: a narrow sketch takes in this many at a time
_WORK_BYTES = 1 << 26  # and any sketch no more than this holds
_EPS = float(np.finfo(np.float64).eps)


def law(spec: Spec) -> Law:
    """SKETCH: within the published bound on any rows, and within 2 % of one shard's loss on ordinary ones."""
    return Law(LawKind.SKETCH, rtol=1e-9, bound=_BOUND, guarantee=guarantee)


def empty(spec: Spec) -> Sketch:
    """Return the sketch of no rows."""
    d = spec.n_features
    return Sketch(
        origin=np.zeros(d),
        weight=np.zeros(()),
        mean=np.zeros(d),
        rows=np.zeros((2 * spec.kept_rows, d)),
        used=np.zeros((), np.int64),
        variation=np.zeros(()),
        shrunk=np.zeros(()),
    )


def _in_use(sketch: Sketch) -> np.ndarray:
    rows: np.ndarray = sketch.rows[: int(sketch.used)]
    return rows


def _shrink(work: np.ndarray, used: int, keep: int) -> tuple[int, float]:
    """Replace the used rows B by at most `keep` rows B' with B'ᵀB' ≼ BᵀB ≼ B'ᵀB' + δ·I, in place.

    Returns:
        How many are left, by falling length, and δ.
    """
    rows = work[:used]
    gram = rows @ rows.T
    if not np.isfinite(np.trace(gram)):
        return 0, np.inf  # rows too large to square: the fold refuses the infinite Δ
    values, vectors = np.linalg.eigh(gram)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    noise = 4.0 * _EPS * (used + rows.shape[1]) * values[0]  # rows of low rank lose nothing but rounding
    delta = float(values[keep]) if used > keep and values[keep] > noise else 0.0
    left = int(np.count_nonzero(values[:keep] > max(delta, noise)))
    # A right singular vector is uᵀB / √λ; the factor is at most 1, so a small λ's rounding is not blown up.
    factor = np.sqrt((values[:left] - delta) / values[:left])
    work[:left] = (vectors[:, :left] * factor).T @ rows
    return left, delta


def _stored(spec: Spec, work: np.ndarray, used: int, centre: Moments, variation: float, shrunk: float) -> Sketch:
    """Return the sketch, shrunk if its rows would not fit; takes `work` over."""
    capacity = 2 * spec.kept_rows
    if used > capacity:
        used, delta = _shrink(work, used, spec.kept_rows)
        shrunk += delta
    work[used:] = 0.0
    return Sketch(
        origin=centre.origin,
        weight=np.asarray(centre.weight),
        mean=centre.mean,
        rows=work if work.shape[0] == capacity else work[:capacity].copy(),
        used=np.asarray(used, np.int64),
        variation=np.asarray(variation),
        shrunk=np.asarray(shrunk),
    )


def _squares(rows: np.ndarray) -> float:
    return float(np.einsum("ij,ij->", rows, rows))


def _write_block(rows: np.ndarray, weight: np.ndarray | None, origin: np.ndarray, out: np.ndarray) -> Centre:
    """Write a block's rows into `out`, centred by their own mean and times √weight; return weight and mean."""
    np.subtract(rows, origin, out=out)
    if weight is None:
        total = float(rows.shape[0])
        mean = out.mean(axis=0)
        out -= mean
    else:
        total = float(weight.sum())
        mean = (weight / total) @ out
        out -= mean
        out *= np.sqrt(weight)[:, None]
    return Centre(origin, np.asarray(total), mean)


def accumulate(spec: Spec, partial: Sketch, batch: Batch, anchor: Any = None) -> Sketch:
    """Add a batch's rows, as many at a time as there are rows free."""
    check_batch(spec, batch)
    rows, weight = positive(batch)
    n, d = rows.shape
    if n == 0:
        return partial
    origin = smallest_row(rows)
    keep, used = spec.kept_rows, int(partial.used)
    # While it works, B is longer than what is kept: 2·l new rows per shrink cost no more than l do, and lose less.
    new = max(2, min(max(_MIN_NEW_ROWS, 2 * keep), _WORK_BYTES // (8 * d)))
    work = np.zeros((max(2 * keep, min(keep + new, used + n + 1)), d))
    work[:used] = _in_use(partial)
    centre: Moments = partial
    variation, shrunk = float(partial.variation), float(partial.shrunk)
    start = 0
    with np.errstate(over="ignore", invalid="ignore"):
        while start < n:
            if work.shape[0] - used < 2:
                used, delta = _shrink(work, used, keep)
                shrunk += delta
            part = slice(start, min(n, start + work.shape[0] - used - 1))  # one row is left for the correction
            added = part.stop - start
            block = _write_block(
                rows[part], None if weight is None else weight[part], origin, work[used : used + added]
            )
            added = added if added > 1 else 0  # a single row less its mean is 0
            if float(centre.weight) > 0.0:
                centre, work[used + added] = joined(centre, block)
                added += 1
            else:
                centre = block
            variation += _squares(work[used : used + added])
            used += added
            start = part.stop
        return _stored(spec, work, used, centre, variation, shrunk)


def merge(spec: Spec, a: Sketch, b: Sketch) -> Sketch:
    """Put the rows of both and the correction row into one sketch, and shrink it if they do not fit."""
    if float(b.weight) == 0.0:
        return a
    if float(a.weight) == 0.0:
        return b
    first, used = int(a.used), int(a.used) + int(b.used) + 1
    work = np.zeros((max(2 * spec.kept_rows, used), spec.n_features))
    work[:first] = _in_use(a)
    work[first : used - 1] = _in_use(b)
    with np.errstate(over="ignore", invalid="ignore"):
        centre, work[used - 1] = joined(a, b)
        variation = float(a.variation) + float(b.variation) + _squares(work[used - 1 : used])
        return _stored(spec, work, used, centre, variation, float(a.shrunk) + float(b.shrunk))


def scale(spec: Spec, summary: Sketch, factor: float) -> Sketch:
    """Multiply every weight: rows by the root of the factor, what is squared by the factor."""
    weight = float(summary.weight) * factor
    if weight == 0.0:
        return empty(spec)
    return Sketch(
        origin=summary.origin,
        weight=np.asarray(weight),
        mean=summary.mean,
        rows=summary.rows * np.sqrt(factor),
        used=summary.used,
        variation=np.asarray(summary.variation * factor),
        shrunk=np.asarray(summary.shrunk * factor),
    )


def weight(summary: Sketch) -> float:
    """Return the total row weight W."""
    return float(summary.weight)


def _completed(vectors: np.ndarray, c: int) -> np.ndarray:
    """Add orthonormal rows until there are c: each the axis furthest from the rows so far, less its part in them."""
    have, d = vectors.shape
    if have >= c:
        return vectors
    basis = np.zeros((c, d))
    basis[:have] = vectors
    for i in range(have, c):
        within = np.einsum("ij,ij->j", basis[:i], basis[:i])
        new = np.zeros(d)
        new[np.argmin(within)] = 1.0
        for _ in range(2):  # twice is enough for full precision
            new -= (basis[:i] @ new) @ basis[:i]
        basis[i] = new / np.linalg.norm(new)
    return basis


def derive(spec: Spec, model_spec: Components, state: Sketch, sample: Batch | None = None) -> Model:
    """Derive the first c components: right singular vectors of B, their squared singular values given back what was lost.

    Shares are of the exact total variance. Uncentred, √W·mean is one more row of B. Components past the rank of the data
    are orthonormal directions along which the rows do not vary: singular value 0, and a whitened projection of 0.
    """
    c, keep, d = model_spec.n_components, spec.kept_rows, spec.n_features
    if c > keep:
        least = "the lesser of the spec's sketch_rows and n_features"
        message = f"pca.Components.n_components must be <= {keep}, {least}; got {c}."
        raise DeriveRefused(message)
    check_state(
        float(state.weight), (state.origin, state.weight, state.mean, state.rows, state.variation, state.shrunk)
    )
    rows, variation = _in_use(state), float(state.variation)
    if model_spec.center:
        floor = np.sqrt(d * _EPS)  # shrinking squares: below it a singular value would be noise
    else:
        through = np.sqrt(float(state.weight)) * (state.origin + state.mean)
        rows = np.vstack([rows, through])
        variation += float(through @ through)
        floor = d * _EPS
    singular, vectors = svd_rows(rows) if rows.shape[0] else (np.zeros(0), np.zeros((0, d)))
    squared = np.zeros(max(c, singular.size))
    if singular.size:
        squared[: singular.size] = np.where(singular > floor * singular[0], singular * singular, 0.0)
    given_back = _lost(squared, float(state.shrunk), variation, d)
    return model_of(model_spec, state, _completed(vectors, c), squared + given_back, variation)


def _lost(squared: np.ndarray, shrunk: float, variation: float, d: int) -> np.ndarray:
    """Return what each direction has lost to shrinking, so that what all d have makes up the trace.

    A direction loses between nothing and Δ, and all of them what the trace of BᵀB lacks. One that stands out was in B at
    each shrink and lost Δ; the others, which came and went, share the rest evenly. As standing out counts a squared
    singular value of B above Δ/4, and a share of it below.

    Args:
        squared: squared singular values of B, falling; at most d count.
        shrunk: Δ.
        variation: trace of S.
        d: features.
    """
    missing = variation - float(squared.sum())
    if shrunk <= 0.0 or missing <= 0.0:
        return np.zeros_like(squared)
    out = np.minimum(1.0, _STANDS_OUT * squared / shrunk)
    count = float(out.sum())
    if missing <= count * shrunk:  # no more is given back than is missing
        return missing / count * out
    others = d - count
    even = min(shrunk, (missing - count * shrunk) / others) if others > 0.0 else shrunk
    return even + (shrunk - even) * out


def guarantee(spec: Spec, summary: Sketch, rows: Batch) -> tuple[float, float]:
    """Return ‖S − BᵀB‖ for the rows that a sketch was made of, and the most it may be; takes d² numbers and d³ steps."""
    x, weight = positive(rows)
    if x.shape[0] == 0:
        return 0.0, 0.0
    z = np.subtract(x, x[0], dtype=np.float64)
    weight = np.ones(x.shape[0]) if weight is None else weight
    z = (z - weight @ z / weight.sum()) * np.sqrt(weight)[:, None]
    scatter, held = z.T @ z, _in_use(summary)
    values = np.maximum(np.linalg.eigvalsh(scatter)[::-1], 0.0)
    tails = np.append(np.cumsum(values[::-1])[::-1], 0.0)
    k = np.arange(spec.kept_rows + 1)
    error = float(np.abs(np.linalg.eigvalsh(scatter - held.T @ held)).max())
    return error, float((tails[k] / (spec.kept_rows + 1 - k)).min() + 1e-12 * values[0])
