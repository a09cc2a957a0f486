"""Flat JSON objects whose wanted fields are numbers: where each of them lies. What is anything else is left to a parser.

Letters: ``m`` objects, ``c`` columns.
"""

# mypy: disable-error-code="untyped-decorator, return-value, assignment"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.compiling import listen

__all__ = ["find"]

listen()

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_INTS = types.Array(types.int64, 1, "C", readonly=True)
_MOST = 32
"""Bytes of a number: longer ones are left."""


@numba.njit(types.int64(_BYTES, types.int64), cache=True, nogil=True, inline="always")
def _space(data: np.ndarray, at: int) -> int:
    while data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9:
        at += 1
    return at


@numba.njit(types.int64(_BYTES, types.int64), cache=True, nogil=True, inline="always")
def _digits(data: np.ndarray, at: int) -> int:
    while 48 <= data[at] <= 57:
        at += 1
    return at


@numba.njit(types.int64(_BYTES, types.int64), cache=True, nogil=True)
def _number(data: np.ndarray, at: int) -> int:
    """Return where a number ends, -1: there is none, as JSON spells it."""
    begin = at
    if data[at] == 45:
        at += 1
    first = at
    at = _digits(data, at)
    if at == first or (data[first] == 48 and at > first + 1):
        return -1
    if data[at] == 46:
        end = _digits(data, at + 1)
        if end == at + 1:
            return -1
        at = end
    if data[at] == 101 or data[at] == 69:
        at += 1
        if data[at] == 43 or data[at] == 45:
            at += 1
        end = _digits(data, at)
        if end == at or end > at + 2:
            return -1
        at = end
    return at if at - begin <= _MOST else -1


@numba.njit(types.int64(_BYTES, types.int64, types.int64), cache=True, nogil=True)
def _text(data: np.ndarray, at: int, stop: int) -> int:
    """Return where a text of plain letters ends, behind its opening quote: at the closing one; -1: it has others."""
    while at < stop and data[at] != 34:
        if data[at] == 92 or data[at] < 32 or data[at] > 126:
            return -1
        at += 1
    return at if at < stop else -1


@numba.njit(
    types.boolean(_BYTES, types.int64, types.int64, _BYTES, types.int64), cache=True, nogil=True, inline="always"
)
def _same(data: np.ndarray, at: int, size: int, names: np.ndarray, begin: int) -> bool:
    for i in range(size):
        if data[at + i] != names[begin + i]:
            return False
    return True


@numba.njit(
    types.int64(_BYTES, types.int64, types.int64, _BYTES, _INTS, types.int64[:, ::1]),
    cache=True,
    nogil=True,
)
def _object(data: np.ndarray, at: int, stop: int, names: np.ndarray, bounds: np.ndarray, out: np.ndarray) -> int:
    """Find the numbers of one object that ends at `stop`; return where it ends, -1: it is left.

    Its last byte is a brace, over which nothing but a text goes: no other byte behind it is looked at.
    """
    c, hint = len(bounds) - 1, 0
    out[:] = -2
    if stop - at < 2 or data[at] != 123 or data[stop - 1] != 125:
        return -1
    at = _space(data, at + 1)
    if data[at] == 125:
        return at + 1
    while True:
        if data[at] != 34:
            return -1
        key = at + 1
        end = _text(data, key, stop)
        if end < 0:
            return -1
        column = -1
        for i in range(c):
            tried = hint + i if hint + i < c else hint + i - c
            size = bounds[tried + 1] - bounds[tried]
            if size == end - key and _same(data, key, size, names, bounds[tried]):
                column = tried
                break
        at = _space(data, end + 1)
        if data[at] != 58:
            return -1
        at = _space(data, at + 1)
        byte = data[at]
        if byte == 45 or 48 <= byte <= 57:
            end = _number(data, at)
            if end < 0:
                return -1
            if column >= 0:
                if out[0, column] != -2:
                    return -1
                out[0, column], out[1, column] = at, end
            at = end
        elif byte == 110 and data[at + 1] == 117 and data[at + 2] == 108 and data[at + 3] == 108:
            if column >= 0:  # which of two counts is for the parser to say
                if out[0, column] != -2:
                    return -1
                out[0, column], out[1, column] = -1, -1
            at += 4
        elif byte == 34 and column < 0:
            at = _text(data, at + 1, stop) + 1
            if at == 0:
                return -1
        else:
            return -1
        if column >= 0:
            hint = column + 1 if column + 1 < c else 0
        at = _space(data, at)
        if data[at] == 125:
            return at + 1
        if data[at] != 44:
            return -1
        at = _space(data, at + 1)


@numba.njit(
    types.int64(
        _BYTES, _INTS, _BYTES, _INTS, types.uint8[::1], types.int64[::1], types.boolean[:, ::1], types.boolean[::1]
    ),
    cache=True,
    nogil=True,
)
def find(
    data: np.ndarray,
    starts: np.ndarray,
    names: np.ndarray,
    bounds: np.ndarray,
    packed: np.ndarray,
    offsets: np.ndarray,
    there: np.ndarray,
    found: np.ndarray,
) -> int:
    """Find the numbers of objects, and put their texts one behind the other.

    Args:
        data: (b,) uint8: the objects, one behind the other.
        starts: (m + 1,) int64 where each begins, and where the last one ends.
        names: uint8: the columns' names as JSON spells them, one behind the other.
        bounds: (c + 1,) int64 where each begins among these.
        packed: uint8, written: the numbers of the objects found, a 0 where one has none; (b + m · c).
        offsets: (m · c + 1,) int64, written as far as needed: where each begins there.
        there: (m, c) bool, written: whether an object has a number in a column.
        found: (m,) bool, written: whether an object is flat, has nothing else in these columns, and none of them twice.

    Returns:
        How many objects were found.
    """
    c, n, end = len(bounds) - 1, 0, 0
    out = np.empty((2, c), np.int64)
    offsets[0] = 0
    for i in range(len(found)):
        found[i] = _object(data, starts[i], starts[i + 1], names, bounds, out) == starts[i + 1]
        if not found[i]:
            continue
        for j in range(c):
            there[i, j] = out[0, j] >= 0
            if there[i, j]:
                for at in range(out[0, j], out[1, j]):
                    packed[end] = data[at]
                    end += 1
            else:
                packed[end] = 48
                end += 1
            offsets[n * c + j + 1] = end
        n += 1
    return n
