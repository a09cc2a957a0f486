"""Tables kept for some parameter rows, added. Letters: ``r`` rows, ``m`` columns."""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

__all__ = ["added", "union"]

_F82 = types.Array(types.float64, 2, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)


@numba.njit(types.int64(_I8, _I8, types.int64[::1], types.int64[::1], types.int64[::1]), cache=True, nogil=True)
def union(a: np.ndarray, b: np.ndarray, rows: np.ndarray, at_a: np.ndarray, at_b: np.ndarray) -> int:
    """Write the rising numbers that are in either of two rising lists; return how many there are.

    Args:
        a: one list.
        b: the other.
        rows: room for both.
        at_a: place of each number in the first list, −1: not there.
        at_b: the same of the second.
    """
    i, j, count = 0, 0, 0
    while i < a.size or j < b.size:
        first = j >= b.size or (i < a.size and a[i] <= b[j])
        second = i >= a.size or (j < b.size and b[j] <= a[i])
        rows[count] = a[i] if first else b[j]
        at_a[count] = i if first else -1
        at_b[count] = j if second else -1
        i += first
        j += second
        count += 1
    return count


@numba.njit(types.void(_F82, _F82, _I8, _I8, types.float64[:, ::1]), cache=True, nogil=True)
def added(a: np.ndarray, b: np.ndarray, at_a: np.ndarray, at_b: np.ndarray, out: np.ndarray) -> None:
    """Write the sums (r, m) of two tables' rows at places, −1 for none."""
    for i in range(at_a.size):
        for c in range(out.shape[1]):
            first = a[at_a[i], c] if at_a[i] >= 0 else 0.0
            second = b[at_b[i], c] if at_b[i] >= 0 else 0.0
            out[i, c] = first + second
