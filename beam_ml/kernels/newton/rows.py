"""Loops over dense rows that numpy would make several passes of. Letters: ``n`` rows, ``d`` features."""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

__all__ = ["keys", "moments", "shift", "whiten"]

# Sums may be reordered, which lets them run in vector registers; NaN and infinity keep their meaning.
_REORDER = {"reassoc", "contract", "nsz"}
_VECTOR = types.Array(types.float64, 1, "C", readonly=True)
_OUT_VECTOR = types.float64[::1]
_OUT_MATRIX = types.float64[:, ::1]
_ROWS = [types.Array(dtype, 2, "C", readonly=True) for dtype in (types.float32, types.float64)]


@numba.njit(
    [types.void(rows, _VECTOR, _VECTOR, types.float64, _OUT_MATRIX, _OUT_VECTOR) for rows in _ROWS],
    cache=True,
    nogil=True,
    fastmath=_REORDER,
)
def shift(
    x: np.ndarray, origin: np.ndarray, coefficients: np.ndarray, intercept: float, z: np.ndarray, eta: np.ndarray
) -> None:
    """Write ``z = x − o`` (n, d) and ``η = intercept + z·b`` (n,)."""
    n, d = x.shape
    for i in range(n):
        score = intercept
        for j in range(d):
            value = np.float64(x[i, j]) - origin[j]
            z[i, j] = value
            score += value * coefficients[j]
        eta[i] = score


@numba.njit(
    [types.void(rows, _VECTOR, _VECTOR, _OUT_VECTOR, _OUT_VECTOR) for rows in _ROWS],
    cache=True,
    nogil=True,
    fastmath=_REORDER,
)
def moments(x: np.ndarray, origin: np.ndarray, weight: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Add ``Σ s(x − o)`` to `first` and ``Σ s(x − o)²`` to `second`, both (d,)."""
    n, d = x.shape
    for i in range(n):
        s = weight[i]
        for j in range(d):
            value = np.float64(x[i, j]) - origin[j]
            first[j] += s * value
            second[j] += s * value * value


@numba.njit(types.void(_OUT_MATRIX, _VECTOR, _VECTOR), cache=True, nogil=True, fastmath=_REORDER)
def whiten(z: np.ndarray, mean: np.ndarray, root: np.ndarray) -> None:
    """Overwrite z (n, d) with ``(z − mean)·root``, root (n,)."""
    n, d = z.shape
    for i in range(n):
        for j in range(d):
            z[i, j] = (z[i, j] - mean[j]) * root[i]


@numba.njit(types.void(types.Array(types.uint64, 2, "C", readonly=True), types.uint64[::1]), cache=True, nogil=True)
def keys(bits: np.ndarray, key: np.ndarray) -> None:
    """Mix each row of float64 bits (n, d) into key (n,); −0 counts as 0."""
    n, d = bits.shape
    minus_zero = np.uint64(1) << np.uint64(63)
    for i in range(n):
        k = key[i]
        for j in range(d):
            value = bits[i, j]
            if value == minus_zero:
                value = np.uint64(0)
            k = (k ^ value) * np.uint64(0x9E3779B97F4A7C15)
            k ^= k >> np.uint64(32)
        key[i] = k
