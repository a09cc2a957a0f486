"""Numbers as text → float64 and int64, and whether bytes are UTF-8. Letters: ``b`` bytes.

A number of at most 15 or so digits is read exactly as it is found (Clinger, *How to read floating point numbers accurately*,
1990: a whole number below 2⁵³ times or over a power of ten up to 10²² is rounded once). Others are left to a library.
"""

# mypy: disable-error-code="untyped-decorator, return-value, assignment"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.compiling import listen

__all__ = ["BAD", "BYTES", "EXACT", "LATER", "MOST", "number", "text", "whole"]

BAD, EXACT, LATER = 0, 1, 2
"""What was found: no number, one, or one that a library must read."""
MOST = 1 << 58
"""The largest whole number that is told apart: all beyond it are it."""
BYTES = types.Array(types.uint8, 1, "C", readonly=True)

_TEN = np.array([float(10**i) for i in range(23)])
_INF, _NAN = (9 * 32 + 14) * 32 + 6, (14 * 32 + 1) * 32 + 14
_INFINITY = ((((_INF * 32 + 9) * 32 + 14) * 32 + 9) * 32 + 20) * 32 + 25
"""Letters as digits to the base 32: a is 1."""

listen()


@numba.njit(
    types.Tuple((types.float64, types.int64, types.int64))(BYTES, types.int64, types.int64), cache=True, nogil=True
)
def _named(data: np.ndarray, at: int, end: int) -> tuple[float, int, int]:
    """Read inf, infinity or nan, in letters of any case, without a sign."""
    size, code = np.int64(0), np.int64(0)
    while at + size < end and size < 9:
        letter = np.int64(data[at + size]) | 32
        if letter < 97 or letter > 122:
            break
        code = code * 32 + (letter - 96)
        size += 1
    if (size == 3 and code == _INF) or (size == 8 and code == _INFINITY):
        return np.inf, at + size, EXACT
    if size == 3 and code == _NAN:
        return np.nan, at + size, EXACT
    return 0.0, at, BAD


@numba.njit(
    types.Tuple((types.float64, types.int64, types.int64))(BYTES, types.int64, types.int64),
    inline="always",
    cache=True,
    nogil=True,
)
def number(data: np.ndarray, at: int, end: int) -> tuple[float, int, int]:
    """Read a number.

    Args:
        data: (b,) uint8.
        at: where it begins.
        end: where the text ends that it stands in.

    Returns:
        The number, where it ends, and BAD, EXACT or LATER.
    """
    negative = at < end and data[at] == 45
    if at < end and (data[at] == 45 or data[at] == 43):
        at += 1
    mantissa, begin, scale = np.uint64(0), at, np.int64(0)
    while at < end and np.uint64(data[at]) - np.uint64(48) < np.uint64(10):
        mantissa = mantissa * np.uint64(10) + (np.uint64(data[at]) - np.uint64(48))
        at += 1
    digits, point = at - begin, at < end and data[at] == 46
    if point:
        at, begin = at + 1, at + 1
        while at < end and np.uint64(data[at]) - np.uint64(48) < np.uint64(10):
            mantissa = mantissa * np.uint64(10) + (np.uint64(data[at]) - np.uint64(48))
            at += 1
        digits, scale = digits + at - begin, begin - at
    if digits == 0:
        if point:
            return 0.0, at, BAD
        value, at, state = _named(data, at, end)
        return -value if negative else value, at, state
    if at < end and (data[at] | 32) == 101:
        power, first = np.int64(0), at + 1
        below = first < end and data[first] == 45
        if first < end and (data[first] == 45 or data[first] == 43):
            first += 1
        at = first
        while at < end and 48 <= data[at] <= 57:
            power = min(power * 10 + (np.int64(data[at]) - 48), np.int64(1) << np.int64(40))
            at += 1
        if at == first:
            return 0.0, at, BAD
        scale += -power if below else power
    if digits > 18 or mantissa >= np.uint64(1 << 53) or scale > 22 or scale < -22:
        return 0.0, at, LATER
    value = np.float64(mantissa)
    value = value / _TEN[-scale] if scale < 0 else value * _TEN[scale]
    return -value if negative else value, at, EXACT


@numba.njit(types.UniTuple(types.int64, 2)(BYTES, types.int64, types.int64), inline="always", cache=True, nogil=True)
def whole(data: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Return digits as a number, at most MOST, and where they end; −1: there are none."""
    value, first = np.uint64(0), at
    while at < end and np.uint64(data[at]) - np.uint64(48) < np.uint64(10):
        value = value * np.uint64(10) + (np.uint64(data[at]) - np.uint64(48))
        at += 1
    if at - first > 17:  # it may be too large, or have zeros before it
        value = np.uint64(0)
        for i in range(first, at):
            value = min(value * np.uint64(10) + (np.uint64(data[i]) - np.uint64(48)), np.uint64(1) << np.uint64(58))
    return np.int64(value), at if at > first else -1


@numba.njit(types.boolean(BYTES, types.int64, types.int64), cache=True, nogil=True)
def text(data: np.ndarray, at: int, end: int) -> bool:
    """Return whether bytes are UTF-8: the shortest form of each code point, no surrogates, none beyond 10FFFF₁₆."""
    while at < end:
        first = np.int64(data[at])
        at += 1
        if first < 128:
            continue
        if first < 194 or first > 244:
            return False
        more = 1 if first < 224 else 2 if first < 240 else 3
        if at + more > end:
            return False
        second = np.int64(data[at])
        least = 160 if first == 224 else 144 if first == 240 else 128
        most = 159 if first == 237 else 143 if first == 244 else 191
        if second < least or second > most:
            return False
        for i in range(1, more):
            if data[at + i] & 192 != 128:
                return False
        at += more
    return True
