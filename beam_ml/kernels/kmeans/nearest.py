"""Nearest centres: exactly, and within cells. Letters: ``n`` rows, ``d`` features, ``m`` centres, ``p`` cells.

Every sum runs in a fixed order, so equal arguments yield equal bits. Arrays may be read-only.
"""

import math

import numba
import numpy as np
from numba import types

__all__ = ["nearest", "nearest_in_cells", "nearest_partner"]

_F8 = types.float64
_MATRIX8 = types.Array(_F8, 2, "C", readonly=True)
_MATRIX4 = types.Array(types.float32, 2, "C", readonly=True)
_VECTOR8 = types.Array(_F8, 1, "C", readonly=True)
_VECTOR_I = types.Array(types.int64, 1, "C", readonly=True)

_EXACT = 128  # rows handled side by side, in vector registers and near caches
_SMALL, _BLOCK = (
    80,
    272,
)  # the same for rows of a cell: whole vectors, and no powers of two, which would share cache lines


def _signatures(*tail: types.Type) -> list[types.Tuple]:
    return [(rows, *tail) for rows in (_MATRIX8, _MATRIX4)]


@numba.njit(_signatures(_MATRIX8), cache=True, nogil=True)
def nearest(x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's nearest centre (the first of equals) and its squared distance, ``Σ_j (x_j − c_j)²`` in float64.

    Args:
        x: (n, d) rows.
        centres: (m, d), m ≥ 1.

    Returns:
        (n,) int64 and (n,) float64.
    """
    n, d = x.shape
    index = np.empty(n, np.int64)
    squared = np.empty(n)
    turned = np.zeros((d, _EXACT))
    sums = np.empty(_EXACT)
    best = np.empty(_EXACT)
    where = np.empty(_EXACT, np.int64)
    for start in range(0, n, _EXACT):
        size = min(n - start, _EXACT)
        for i in range(size):
            for j in range(d):
                turned[j, i] = x[start + i, j]
        best[:] = np.inf
        where[:] = 0
        for c in range(centres.shape[0]):
            sums[:] = 0.0
            for j in range(d):
                value = centres[c, j]
                column = turned[j]
                for i in range(_EXACT):  # a constant length: whole vectors, whatever the rows left
                    gap = column[i] - value
                    sums[i] += gap * gap
            for i in range(_EXACT):
                nearer = sums[i] < best[i]
                best[i] = sums[i] if nearer else best[i]
                where[i] = c if nearer else where[i]
        index[start : start + size] = where[:size]
        squared[start : start + size] = best[:size]
    return index, squared


@numba.njit(inline="always")
def _least(scores: np.ndarray, half: np.ndarray, width: int, best: np.ndarray, where: np.ndarray) -> bool:
    """Find the least of half − scores (k, width) along k, and if one is not finite; inlined: the width is a constant."""
    best[:] = np.inf
    where[:] = 0
    for k in range(half.size):  # rows lie side by side: the compiler keeps one minimum for each in a vector
        line, base, this = scores[k], half[k], np.int32(k)
        for i in range(width):
            value = base - line[i]
            nearer = value < best[i]
            best[i] = value if nearer else best[i]
            where[i] = this if nearer else where[i]
    infinite = np.int32(0)
    for i in range(width):
        infinite |= np.int32(abs(best[i]) == np.inf)
    return infinite != 0


@numba.njit([(_F8,)], cache=True, nogil=True)
def _inverse(size: float) -> float:
    """Return a power of two that brings a size near 1: multiplying by it rounds nothing."""
    if not 0.0 < size < np.inf:
        return 1.0
    return math.ldexp(1.0, -max(math.frexp(size)[1], -1000))


@numba.njit
def _far_off(row: np.ndarray, pivot: np.ndarray, centres: np.ndarray, listed: np.ndarray, unit: float) -> int:
    """Return which listed centre is the nearest of a row whose difference from the pivot is no float32 in the cell's unit.

    In float64, and the row in a unit of its own.
    """
    farthest = 0.0
    for j in range(row.size):
        farthest = max(farthest, abs(row[j] - pivot[j]))
    own = _inverse(farthest)
    least, found = np.inf, 0
    for k in range(listed.size):
        c = listed[k]
        along = half = 0.0
        for j in range(row.size):
            gap = (centres[c, j] - pivot[j]) * unit
            along += (row[j] - pivot[j]) * own * gap
            half += 0.5 * gap * gap
        value = half * (own / unit) - along
        if value < least:
            least, found = value, k
    return found


@numba.njit(
    _signatures(_VECTOR_I, _VECTOR_I, _MATRIX8, _MATRIX8, _VECTOR_I, _VECTOR_I),
    cache=True,
    nogil=True,
)
def nearest_in_cells(
    x: np.ndarray,
    rows: np.ndarray,
    bounds: np.ndarray,
    pivots: np.ndarray,
    centres: np.ndarray,
    list_bounds: np.ndarray,
    lists: np.ndarray,
) -> np.ndarray:
    """Return, for each row, the nearest of the centres listed for its cell: ``argmin ½‖c − p‖² − (x − p)·(c − p)``.

    Differences from the cell's pivot p fit float32 however far the data lies from zero; they are in units of a power of two
    near the largest of its centres', so that their squares fit, too. A row farther off than float32 reaches in that unit is
    compared in float64.

    Args:
        x: (n, d) rows.
        rows: (n,) row numbers ordered by cell.
        bounds: (p + 1,) where each cell starts in `rows`.
        pivots: (p, d).
        centres: (m, d).
        list_bounds: (p + 1,) where each cell starts in `lists`; no list is empty.
        lists: centre numbers, cell after cell.

    Returns:
        (n,) int64.
    """
    n, d = x.shape
    index = np.empty(n, np.int64)
    small, large = np.zeros((d, _SMALL), np.float32), np.zeros((d, _BLOCK), np.float32)
    best = np.empty(_BLOCK, np.float32)
    where = np.empty(_BLOCK, np.int32)
    # Centres are this much smaller, so that no product with a row exceeds the row's largest difference: where that is a
    # float32 all scores are finite, and where it is none no score is.
    share = math.ldexp(1.0, -math.frexp(float(d))[1] - 1)
    for p in range(pivots.shape[0]):
        if bounds[p] == bounds[p + 1]:
            continue
        pivot = pivots[p]
        first, size = list_bounds[p], list_bounds[p + 1] - list_bounds[p]
        farthest = 0.0
        for k in range(size):
            c = lists[first + k]
            for j in range(d):
                farthest = max(farthest, abs(centres[c, j] - pivot[j]))
        unit = _inverse(farthest)
        local = np.empty((size, d), np.float32)
        half = np.empty(size, np.float32)
        for k in range(size):
            c = lists[first + k]
            total = 0.0
            for j in range(d):
                gap = (centres[c, j] - pivot[j]) * unit
                local[k, j] = gap * share
                total += gap * gap
            half[k] = 0.5 * total * share
        small_scores, large_scores = np.empty((size, _SMALL), np.float32), np.empty((size, _BLOCK), np.float32)
        start = bounds[p]
        while start < bounds[p + 1]:
            width = min(bounds[p + 1] - start, _BLOCK)
            few = width <= 2 * _SMALL
            width = min(width, _SMALL) if few else width
            turned, scores = (small, small_scores) if few else (large, large_scores)
            for i in range(width):
                r = rows[start + i]
                for j in range(d):
                    turned[j, i] = (x[r, j] - pivot[j]) * unit
            np.dot(local, turned, scores)
            if few:
                infinite = _least(scores, half, _SMALL, best, where)
            else:
                infinite = _least(scores, half, _BLOCK, best, where)
            for i in range(width):
                index[rows[start + i]] = lists[first + where[i]]
            if infinite:
                for i in range(width):
                    if abs(best[i]) == np.inf:
                        r = rows[start + i]
                        index[r] = lists[first + _far_off(x[r], pivot, centres, lists[first : first + size], unit)]
            start += width
    return index


@numba.njit(
    [(_MATRIX8, _VECTOR8, _VECTOR_I, _VECTOR_I, _VECTOR_I, _VECTOR_I)],
    cache=True,
    nogil=True,
)
def nearest_partner(
    centres: np.ndarray,
    weight: np.ndarray,
    order: np.ndarray,
    bounds: np.ndarray,
    list_bounds: np.ndarray,
    lists: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return each centre's cheapest partner in its cell's list: the least ``w_a w_b / (w_a + w_b) · ‖a − b‖²``.

    Args:
        centres: (m, d).
        weight: (m,).
        order: (m,) centre numbers ordered by cell.
        bounds: (p + 1,) where each cell starts in `order`.
        list_bounds: (p + 1,) where each cell starts in `lists`.
        lists: centre numbers to choose from, cell after cell.

    Returns:
        (m,) int64 partner (the centre itself where its cell lists no other) and (m,) float64 cost (inf there).
    """
    m, d = centres.shape
    partner = np.arange(m)
    cost = np.full(m, np.inf)
    for p in range(bounds.size - 1):
        if bounds[p] == bounds[p + 1]:
            continue
        first, size = list_bounds[p], list_bounds[p + 1] - list_bounds[p]
        turned = np.empty((d, size))
        mass = np.empty(size)
        for k in range(size):
            c = lists[first + k]
            mass[k] = weight[c]
            for j in range(d):
                turned[j, k] = centres[c, j]
        sums = np.empty(size)
        for i in range(bounds[p], bounds[p + 1]):
            a = order[i]
            sums[:] = 0.0
            for j in range(d):
                value = centres[a, j]
                column = turned[j]
                for k in range(size):
                    gap = value - column[k]
                    sums[k] += gap * gap
            own = weight[a]
            for k in range(size):
                sums[k] *= own / (own + mass[k]) * mass[k]
            for k in range(size):
                b = lists[first + k]
                if b != a and (sums[k] < cost[a] or (sums[k] == cost[a] and b < partner[a])):
                    cost[a] = sums[k]
                    partner[a] = b
    return partner, cost
