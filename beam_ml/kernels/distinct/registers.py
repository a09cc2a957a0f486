"""Registers of HyperLogLog. Letters: ``n`` rows, ``d`` columns, ``m`` = 2^p registers of a column."""

import numba
import numpy as np
from numba import types

__all__ = ["raised"]

_ROWS = [types.Array(dtype, 2, "C", readonly=True) for dtype in (types.float32, types.float64)]
_WEIGHTS = types.Array(types.float64, 1, "C", readonly=True)
_REGISTERS = types.Array(types.uint8, 2, "C", readonly=True)


@numba.njit(
    [types.uint8[:, ::1](rows, _WEIGHTS, types.uint64, types.int64, _REGISTERS) for rows in _ROWS],
    cache=True,
    nogil=True,
)
def raised(x: np.ndarray, weight: np.ndarray, salt: int, p: int, before: np.ndarray) -> np.ndarray:
    """Return the registers (d, m) after n rows of values.

    A value's 64 bits as float64, −0 as 0, plus the salt, go through SplitMix64's finaliser. The first p bits of the hash
    choose the register, which rises to 1 + the zeros at the head of the others.

    Args:
        x: (n, d) values.
        weight: (n,); rows of weight 0 do not count.
        salt: of the seed.
        p: bits that choose the register.
        before: (d, m).
    """
    n, d = x.shape
    out = before.copy()
    first, second = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
    one, tail = np.uint64(1), np.uint64(64 - p)
    for i in range(n):
        if weight[i] == 0.0:
            continue
        for j in range(d):
            value = np.float64(x[i, j]) + 0.0
            h = np.float64(value).view(np.uint64) + salt
            h = (h ^ (h >> np.uint64(30))) * first
            h = (h ^ (h >> np.uint64(27))) * second
            h ^= h >> np.uint64(31)
            place = np.int64(h >> tail)
            rank = 1
            bit = one << (tail - one)
            while bit != np.uint64(0) and (h & bit) == np.uint64(0):
                rank += 1
                bit >>= one
            if rank > out[j, place]:
                out[j, place] = rank
    return out
