"""Merging what is stored with what is new, both sorted by key and time. Letters: ``s`` stored, ``r`` new."""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

__all__ = ["merged"]

_U8 = types.Array(types.uint64, 1, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)


@numba.njit(types.void(_U8, _I8, _U8, _I8, types.int64[::1]), cache=True, nogil=True)
def merged(key: np.ndarray, time: np.ndarray, new_key: np.ndarray, new_time: np.ndarray, out: np.ndarray) -> None:
    """Write the order of both together, by key and time; of equal ones the stored first.

    Args:
        key: (s,) of the stored, ascending.
        time: (s,) ascending per key.
        new_key: (r,) of the new, ascending.
        new_time: (r,) ascending per key.
        out: (s + r,) written: number of a stored one, or s + number of a new one.
    """
    i = j = 0
    for at in range(out.size):
        if j == new_key.size or (
            i < key.size and (key[i] < new_key[j] or (key[i] == new_key[j] and time[i] <= new_time[j]))
        ):
            out[at] = i
            i += 1
        else:
            out[at] = key.size + j
            j += 1
