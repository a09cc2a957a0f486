"""Weighted moments of rows by feature, up to the fourth. Letters: ``n`` rows, ``d`` features."""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

__all__ = ["dense_moments", "number_columns", "sparse_moments"]

_REORDER = {"reassoc", "contract", "nsz"}
_F8 = types.Array(types.float64, 1, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I4 = types.Array(types.int32, 1, "C", readonly=True)
_KINDS = (types.float32, types.float64)
_FEW, _FEW_OF = 2.0, 0.02  # rows, or share of the rows, that may be outliers


@numba.njit(nogil=True)
def _bounds_of_few(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of each column (d,), infinite where more than a few values lie beyond."""
    n, d = x.shape
    beyond = np.zeros(d)
    for i in range(n):
        for j in range(d):
            value = np.float64(x[i, j])
            beyond[j] += 1.0 if value < low[j] or value > high[j] else 0.0
    few = max(_FEW, _FEW_OF * n)
    return np.where(beyond > few, -np.inf, low), np.where(beyond > few, np.inf, high)


@numba.njit(
    [types.void(types.Array(kind, 2, "C", readonly=True), _F8, _F8, _F8, types.float64[:, ::1]) for kind in _KINDS],
    cache=True,
    nogil=True,
    fastmath=_REORDER,
)
def dense_moments(x: np.ndarray, weight: np.ndarray, low: np.ndarray, high: np.ndarray, out: np.ndarray) -> None:
    """Write weight, mean, centred power sums 2 to 4 and moving weight of x (n, d), n ≥ 1, to `out` (d, 6), zero before.

    A row moves a column where its value is not the column's commonest. That one is found by majority vote (Boyer and
    Moore 1981), which finds it wherever it holds more than half of the rows; where none does, nearly every row moves.
    Values beyond `low` and `high` (d,) count as those, where they are few: where many are so far out, the column has moved.
    """
    n, d = x.shape
    least, most = _bounds_of_few(x, low, high)
    first, second, third, fourth = np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(d)
    origin, common, lead, moving = np.empty(d), np.empty(d), np.zeros(d), np.empty(d)
    total = 0.0
    for j in range(d):
        origin[j] = min(max(np.float64(x[0, j]), least[j]), most[j])
        common[j] = origin[j]
    for i in range(n):
        s = weight[i]
        total += s
        for j in range(d):
            value = min(max(np.float64(x[i, j]), least[j]), most[j])
            first[j] += s * (value - origin[j])
            same = value == common[j]
            fresh = lead[j] == 0.0
            common[j] = value if fresh else common[j]
            lead[j] += 1.0 if same or fresh else -1.0
    for j in range(d):
        origin[j] += first[j] / total
        moving[j] = 0.0
    for i in range(n):
        s = weight[i]
        for j in range(d):
            value = min(max(np.float64(x[i, j]), least[j]), most[j])
            z = value - origin[j]
            z2 = z * z
            moving[j] += s if value != common[j] else 0.0
            second[j] += s * z2
            third[j] += s * z2 * z
            fourth[j] += s * z2 * z2
    for j in range(d):
        out[j, 0], out[j, 1] = total, origin[j]
        out[j, 2] = second[j]
        out[j, 3] = third[j]
        out[j, 4] = fourth[j]
        out[j, 5] = moving[j]


@numba.njit(
    [
        types.void(_I8, _I4, types.Array(kind, 1, "C", readonly=True), _F8, _F8, _F8, types.float64[:, ::1])
        for kind in _KINDS
    ],
    cache=True,
    nogil=True,
)
def sparse_moments(
    indptr: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    weight: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the same moments as `dense_moments` to `out` (m, 6), zero before, of the stored values other than 0 alone.

    A column's commonest value is found among those; values beyond `low` and `high` (m,) count as those, where they are few.
    """
    m = low.size
    beyond, stored = np.zeros(m), np.zeros(m)
    for z in range(indptr[0], indptr[-1]):
        x, j = np.float64(values[z]), place[z]
        stored[j] += 1.0 if x != 0.0 else 0.0
        beyond[j] += 1.0 if x != 0.0 and (x < low[j] or x > high[j]) else 0.0
    few = np.maximum(_FEW, _FEW_OF * stored)
    least, most = np.where(beyond > few, -np.inf, low), np.where(beyond > few, np.inf, high)
    origin, common, lead, first = np.zeros(m), np.zeros(m), np.zeros(m), np.zeros(m)
    for i in range(weight.size):
        s = weight[i]
        for z in range(indptr[i], indptr[i + 1]):
            x, j = np.float64(values[z]), place[z]
            if x != 0.0:
                value = min(max(x, least[j]), most[j])
                if out[j, 0] == 0.0:
                    origin[j] = value
                out[j, 0] += s
                first[j] += s * (value - origin[j])
                same, fresh = value == common[j], lead[j] == 0.0
                common[j] = value if fresh else common[j]
                lead[j] += 1.0 if same or fresh else -1.0
    for j in range(m):
        out[j, 1] = origin[j] + first[j] / out[j, 0] if out[j, 0] > 0.0 else 0.0
    for i in range(weight.size):
        s = weight[i]
        for z in range(indptr[i], indptr[i + 1]):
            x, j = np.float64(values[z]), place[z]
            if x != 0.0:
                value = min(max(x, least[j]), most[j])
                away = value - out[j, 1]
                square = away * away
                out[j, 2] += s * square
                out[j, 3] += s * square * away
                out[j, 4] += s * square * square
                out[j, 5] += s if value != common[j] else 0.0


@numba.njit(types.int64(_I4, types.int32[::1], types.int64[::1], types.int32[::1]), cache=True, nogil=True)
def number_columns(indices: np.ndarray, scratch: np.ndarray, columns: np.ndarray, place: np.ndarray) -> int:
    """Number the distinct columns among `indices` (z,) in the order they come; return how many there are.

    Args:
        indices: (z,) columns.
        scratch: (columns in all,) −1 everywhere, before and after.
        columns: (at least as many as there are distinct ones,) written: the column of each number.
        place: (z,) written: the number of each column.
    """
    count = 0
    for z in range(indices.size):
        j = indices[z]
        if scratch[j] < 0:
            scratch[j] = count
            columns[count] = j
            count += 1
        place[z] = scratch[j]
    for k in range(count):
        scratch[columns[k]] = -1
    return count
