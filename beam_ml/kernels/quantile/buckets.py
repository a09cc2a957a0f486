"""Counting values by logarithmic bucket. Letters: ``n`` rows, ``d`` columns, ``b`` buckets that hold something.

A magnitude v = 2^e·(1 + s), 0 <= s < 1, has the key ``floor(t·(e + ((A·s + B)·s + C)·s))``, whose cubic is Masson, Rim and
Lee's approximation of the binary logarithm: products and sums alone, so that a value has one key on every machine, as a
call of a logarithm does not promise.

Reference: Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees" (2019).
"""

import numba
import numpy as np
from numba import types

__all__ = ["CUBIC", "OFFSET", "counted"]

CUBIC = (6.0 / 35.0, -3.0 / 5.0, 10.0 / 7.0)
"""A, B, C."""
OFFSET = 1 << 20
"""What is added to a key, so that the codes of magnitudes are > 0: negative values have negative codes, and 0 has 0."""

_A, _B, _C = CUBIC
_LEAST = 2.0**-1022  # smaller magnitudes, subnormal ones, count as 0
_WEIGHTS = types.Array(types.float64, 1, "C", readonly=True)
_ROWS = [types.Array(dtype, 2, "C", readonly=True) for dtype in (types.float32, types.float64)]


@numba.njit(
    [types.int64(types.float64, types.float64)],
    cache=True,
    nogil=True,
)
def _code(value: np.float64, per_doubling: float) -> np.int64:
    """Return the code of a finite value."""
    magnitude = abs(value)
    if magnitude < _LEAST:
        return np.int64(0)
    bits = np.float64(magnitude).view(np.int64)
    s = (bits & ((np.int64(1) << np.int64(52)) - np.int64(1))) * 2.0**-52
    logarithm = ((_A * s + _B) * s + _C) * s + ((bits >> np.int64(52)) - np.int64(1023))
    code = np.int64(np.floor(logarithm * per_doubling)) + OFFSET
    return code if value > 0.0 else np.int64(-code)


@numba.njit(
    [
        types.Tuple((types.int32[::1], types.int32[::1], types.float64[::1], types.int64))(
            rows, _WEIGHTS, types.float64
        )
        for rows in _ROWS
    ],
    cache=True,
    nogil=True,
)
def counted(x: np.ndarray, weight: np.ndarray, per_doubling: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return column (b,), code (b,) and Σ weight (b,), by rising column and value, and how many values are not finite.

    Sums run in row order, so equal arguments yield equal bits.

    Args:
        x: (n, d) values.
        weight: (n,) > 0.
        per_doubling: t, buckets a power of two; its keys must be within ± OFFSET.
    """
    n, d = x.shape
    codes = np.empty(n, np.int32)
    sums = np.zeros(64)
    room = 64
    column, code, count = np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room)
    held, wrong = 0, 0
    for j in range(d):
        lows, highs = (
            np.array([OFFSET * 2, OFFSET * 2]),
            np.zeros(2, np.int64),
        )  # of negative and of positive magnitudes
        for i in range(n):
            value = np.float64(x[i, j])
            if not np.isfinite(value):
                wrong += 1
                value = np.float64(0.0)
            c = _code(value, per_doubling)
            codes[i] = c
            if c != 0:
                side = 1 if c > 0 else 0
                lows[side], highs[side] = min(lows[side], abs(c)), max(highs[side], abs(c))
        spans = np.maximum(highs - lows + 1, 0)
        width = spans[0] + 1 + spans[1]  # negative ones, 0, positive ones
        if sums.size < width:
            sums = np.zeros(width)
        for i in range(n):
            c = codes[i]
            if c > 0:
                place = spans[0] + 1 + (c - lows[1])
            elif c < 0:
                place = c + highs[0]
            else:
                place = spans[0]
            sums[place] += weight[i]
        for place in range(width):
            total = sums[place]
            if total != 0.0:
                if held == room:
                    column, code = (
                        np.append(column, np.empty(room, np.int32)),
                        np.append(code, np.empty(room, np.int32)),
                    )
                    count = np.append(count, np.empty(room))
                    room *= 2
                column[held], count[held] = j, total
                if place > spans[0]:
                    code[held] = place - spans[0] - 1 + lows[1]
                elif place < spans[0]:
                    code[held] = place - highs[0]
                else:
                    code[held] = 0
                held += 1
                sums[place] = 0.0
    return column[:held].copy(), code[:held].copy(), count[:held].copy(), wrong
