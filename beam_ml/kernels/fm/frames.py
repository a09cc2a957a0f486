"""Moments of features' values, and rows in their features' frames, for factorization machines.

Letters: ``n`` rows, ``z`` stored values, ``s`` slots of a table, ``r`` features.
"""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

__all__ = ["count", "frame", "moments", "within"]

_F8 = types.Array(types.float64, 1, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I4 = types.Array(types.int32, 1, "C", readonly=True)
_KINDS = (types.float32, types.float64)


@numba.njit(inline="always", error_model="numpy")
def count(flat: np.ndarray, at: int, value: float, w: float) -> None:
    """Count a value other than 0 among its feature's moments, at `at`; exact for a constant (Welford 1962)."""
    total = flat[at] + w
    flat[at] = total
    gap = value - flat[at + 1]
    if gap != 0.0:
        share = w / total
        flat[at + 1] += gap * share
        flat[at + 2] += w * (1.0 - share) * gap * gap


@numba.njit(inline="always", error_model="numpy")
def within(value: float, centre: float, reach: float) -> float:
    """Return the value that is nearest and no farther than `reach` from the centre."""
    return min(max(value, centre - reach), centre + reach)


@numba.njit(
    [types.void(_I4, types.Array(kind, 1, "C", readonly=True), _F8, _I8, types.float64[:, ::1]) for kind in _KINDS],
    cache=True,
    nogil=True,
    error_model="numpy",
)
def moments(place: np.ndarray, values: np.ndarray, weight: np.ndarray, indptr: np.ndarray, out: np.ndarray) -> None:
    """Count CSR rows' values other than 0 among the moments (s, 3) of their slots, and all rows at slot 0.

    Args:
        place: (z,) slots.
        values: (z,).
        weight: (n,) of the rows.
        indptr: (n + 1,) bounds of the rows.
        out: (s, 3) weight, mean and Σ weight·(x − mean)²; updated.
    """
    flat = out.reshape(-1)
    for i in range(weight.size):
        flat[0] += weight[i]
        for z in range(indptr[i], indptr[i + 1]):
            value = np.float64(values[z])
            if value != 0.0:
                count(flat, place[z] * 3, value, weight[i])


@numba.njit(
    [
        types.int64(
            _I8, _I4, types.Array(kind, 1, "C", readonly=True), _F8, _F8, types.float64, _I8, types.int64[::1],
            types.int32[::1], types.float64[::1],
        )
        for kind in _KINDS
    ],
    cache=True,
    nogil=True,
    error_model="numpy",
)  # fmt: skip
def frame(
    indptr: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray,
    farthest: float,
    everywhere: np.ndarray,
    bounds: np.ndarray,
    places: np.ndarray,
    out: np.ndarray,
) -> int:
    """Write CSR rows in their features' frames; return the number of values.

    Args:
        indptr: (n + 1,) bounds of the rows.
        place: (z,) of each value among the features; −1: it is not, and counts for nothing.
        values: (z,).
        centre: (r,) c.
        scale: (r,) s; 0: the feature does not vary.
        farthest: most scales from the centre.
        everywhere: (q,) places of features with a centre.
        bounds: (n + 1,) of the rows written.
        places: (z + n·q,) of the values written.
        out: (z + n·q,) values written.
    """
    met = np.zeros(centre.size if everywhere.size else 0, np.int64)
    held = 0
    bounds[0] = 0
    for i in range(indptr.size - 1):
        for z in range(indptr[i], indptr[i + 1]):
            j = place[z]
            if j < 0:
                continue
            if centre[j] != 0.0:
                met[j] = i + 1
            elif values[z] == 0.0:
                continue
            if scale[j] > 0.0:
                places[held] = j
                out[held] = within((np.float64(values[z]) - centre[j]) / scale[j], 0.0, farthest)
                held += 1
        for q in range(everywhere.size):
            j = everywhere[q]
            if met[j] != i + 1 and scale[j] > 0.0:
                places[held] = j
                out[held] = within(-centre[j] / scale[j], 0.0, farthest)
                held += 1
        bounds[i + 1] = held
    return held
