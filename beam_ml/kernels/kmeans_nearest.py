"""Nearest centres: exactly, and within cells. Letters: ``n`` rows, ``d`` features, ``m`` centres, ``p`` cells.

Every sum runs in a fixed order, so equal arguments give equal bits. Arrays may be read-only.
"""

import numba
import numpy as np
from numba import types

__all__ = ["nearest", "nearest_in_cells", "nearest_partner"]

_F8 = types.float64
_MATRIX8 = types.Array(_F8, 2, "C", readonly=True)
_MATRIX4 = types.Array(types.float32, 2, "C", readonly=True)
_VECTOR8 = types.Array(_F8, 1, "C", readonly=True)
_VECTOR_I = types.Array(types.int64, 1, "C", readonly=True)
_PAIR = types.UniTuple(types.Array(_F8, 1, "C"), 1)

_TILE = 4  # rows that share one pass over the centres
_BLOCK = 256  # rows multiplied at a time: their scores stay in the second-level cache


def _signatures(*tail: types.Type) -> list[types.Tuple]:
    return [(rows, *tail) for rows in (_MATRIX8, _MATRIX4)]


@numba.njit(_signatures(_MATRIX8), cache=True, nogil=True)
def nearest(x: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each row's nearest centre (the first of equals) and its squared distance, ``Σ_j (x_j − c_j)²`` in float64.

    Args:
        x: (n, d) rows.
        centres: (m, d), m ≥ 1.

    Returns:
        (n,) int64 and (n,) float64.
    """
    n, d = x.shape
    m = centres.shape[0]
    turned = np.ascontiguousarray(centres.T)
    index = np.empty(n, np.int64)
    squared = np.empty(n, np.float64)
    sums = np.empty((_TILE, m))
    for start in range(0, n, _TILE):
        stop = min(n, start + _TILE)
        sums[:] = 0.0
        for j in range(d):
            column = turned[j]
            for i in range(start, stop):
                value = np.float64(x[i, j])
                line = sums[i - start]
                for c in range(m):
                    gap = value - column[c]
                    line[c] += gap * gap
        for i in range(start, stop):
            line = sums[i - start]
            best, where = line[0], 0
            for c in range(1, m):
                if line[c] < best:
                    best, where = line[c], c
            index[i] = where
            squared[i] = best
    return index, squared


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
    """Give, for each row, the nearest of the centres listed for its cell: ``argmin ½‖c − p‖² − (x − p)·(c − p)``.

    Differences from the cell's pivot p fit float32 however far the data lies from zero.

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
    z = np.empty((_BLOCK, d), np.float32)
    for p in range(pivots.shape[0]):
        if bounds[p] == bounds[p + 1]:
            continue
        pivot = pivots[p]
        first, size = list_bounds[p], list_bounds[p + 1] - list_bounds[p]
        turned = np.empty((d, size), np.float32)
        half = np.empty(size, np.float32)
        for k in range(size):
            c = lists[first + k]
            total = 0.0
            for j in range(d):
                gap = centres[c, j] - pivot[j]
                turned[j, k] = gap
                total += gap * gap
            half[k] = 0.5 * total
        scores = np.empty((_BLOCK, size), np.float32)
        for start in range(bounds[p], bounds[p + 1], _BLOCK):
            stop = min(bounds[p + 1], start + _BLOCK)
            for i in range(start, stop):
                r = rows[i]
                for j in range(d):
                    z[i - start, j] = x[r, j] - pivot[j]
            np.dot(z[: stop - start], turned, scores[: stop - start])
            for i in range(start, stop):
                line = scores[i - start]
                best, where = half[0] - line[0], 0
                for k in range(1, size):
                    value = half[k] - line[k]
                    if value < best:
                        best, where = value, k
                index[rows[i]] = lists[first + where]
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
    """Give each centre's cheapest partner in its cell's list: the least ``w_a w_b / (w_a + w_b) · ‖a − b‖²``.

    Args:
        centres, weight: (m, d) and (m,).
        order: (m,) centre numbers ordered by cell.
        bounds: (p + 1,) where each cell starts in `order`.
        list_bounds, lists: centre numbers to choose from, cell after cell.

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
