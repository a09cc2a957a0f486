"""Lines of libsvm text → numbers: ``label qid:number index:value …  # comment``. Letters: ``n`` rows, ``z`` values.

A number that `numbers.number` leaves to a library is noted by where it lies.
"""

# mypy: disable-error-code="untyped-decorator, return-value, assignment"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.compiling import listen
from beam_ml.kernels.libsvm.numbers import BAD, BYTES, LATER, MOST, number, text, whole

__all__ = ["COLUMNS", "FAULTS", "parse"]

COLUMNS = ("start", "stop", "fault", "values", "qid", "queried")
"""Rows of what is found: bounds of the line; 0 or a fault; where the row's values end; the query, and whether it has one."""
FAULTS = ("", "label", "pair", "query", "negative", "first", "large", "twice", "order", "text", "long")
_LABEL, _PAIR, _QUERY, _NEGATIVE, _FIRST, _LARGE, _TWICE, _ORDER, _TEXT, _LONG = range(1, 11)

listen()


@numba.njit(types.boolean(BYTES, types.int64, types.int64), cache=True, nogil=True, inline="always")
def _ended(data: np.ndarray, at: int, end: int) -> bool:
    return at == end or data[at] == 32 or data[at] == 9


@numba.njit(types.boolean(BYTES, types.int64, types.int64), cache=True, nogil=True, inline="always")
def _queried(data: np.ndarray, at: int, end: int) -> bool:
    """Return whether ``qid:`` stands there."""
    return end - at > 3 and data[at] == 113 and data[at + 1] == 105 and data[at + 2] == 100 and data[at + 3] == 58


@numba.njit(
    types.UniTuple(types.int64, 4)(
        BYTES, types.int64, types.int64, types.int64, types.int64[:, ::1], types.float64[::1],
        types.int32[::1], types.float64[::1], types.int64[:, ::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def parse(
    data: np.ndarray, at: int, base: int, most: int, out: np.ndarray, label: np.ndarray,
    indices: np.ndarray, values: np.ndarray, later: np.ndarray,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Read whole lines; those of nothing but blanks and a comment are no rows.

    Args:
        data: (b,) uint8.
        at: where the first line begins.
        base: the number of the first feature, 0 or 1.
        most: the bytes that a line may have without its end.
        out: (6, n) int64, written, with room for n rows; see `COLUMNS`.
        label: (n,) float64, written; NaN where there is none.
        indices: (z,) int32, written from 0, with room for b / 4 + 1.
        values: (z,) float64, written, with the same room.
        later: (3, b / 5 + 1) int64, written: where numbers begin and end that are to be read, and what they are: z ≥ 0 a
            value, −1 − n a label.

    Returns:
        The number of rows (those with a fault, too), of values, and of numbers to be read; and where reading ended: with the
        bytes, or where there was room for no more rows.
    """
    n, z, k = np.int64(0), np.int64(0), np.int64(0)
    while at < data.size and n < out.shape[1]:
        start, end, beyond = at, np.int64(-1), np.uint8(0)
        while at + 32 <= data.size:  # as many at once as the compiler takes together
            near, hit = data[at : at + 32], False
            for i in range(32):
                hit |= (near[i] == 10) | (near[i] == 35) | (near[i] >= 128)
            if hit:
                break
            at += 32
        while at < data.size and data[at] != 10:
            beyond |= data[at]
            if data[at] == 35 and end < 0:
                end = at
            at += 1
        stop, size = min(at + 1, data.size), at - start
        if end < 0:
            end = at - 1 if at > start and data[at - 1] == 13 else at
        closed, at = at, start
        while at < end and (data[at] == 32 or data[at] == 9):
            at += 1
        if at == end and size <= most:
            at = stop
            continue
        first, first_later, fault, last = z, k, np.int64(0), np.int64(-1)
        label[n], out[4, n], out[5, n] = np.nan, 0, 0
        if size > most:
            fault = np.int64(_LONG)
        elif beyond >= 128 and not text(data, start, closed):
            fault = np.int64(_TEXT)
        elif not _queried(data, at, end):
            value, after, state = number(data, at, end)
            if after < end and data[after] == 58:
                pass  # a feature: there is no label
            elif state == BAD or not _ended(data, after, end):
                fault = np.int64(_LABEL)
            else:
                if state == LATER:
                    later[0, k], later[1, k], later[2, k] = at, after, -1 - n
                    k += 1
                label[n], at = value, after
        while fault == 0:
            while at < end and (data[at] == 32 or data[at] == 9):
                at += 1
            if at == end:
                break
            if _queried(data, at, end):
                below = at + 4 < end and data[at + 4] == 45
                query, at = whole(data, at + 4 + below, end)
                if at < 0 or query >= MOST or not _ended(data, at, end) or last >= 0 or out[5, n]:
                    fault = np.int64(_QUERY)
                    break
                out[4, n], out[5, n] = -query if below else query, 1
                continue
            below = data[at] == 45
            index, at = whole(data, at + below, end)
            if at < 0 or at == end or data[at] != 58:
                fault = np.int64(_PAIR)
                break
            begin = at + 1
            value, at, state = number(data, begin, end)
            index -= base
            if state == BAD or not _ended(data, at, end):
                fault = np.int64(_PAIR)
            elif below:
                fault = np.int64(_NEGATIVE)
            elif index < 0:
                fault = np.int64(_FIRST)
            elif index >= (1 << 31) - 1:
                fault = np.int64(_LARGE)
            elif index == last:
                fault = np.int64(_TWICE)
            elif index < last:
                fault = np.int64(_ORDER)
            else:
                if state == LATER:
                    later[0, k], later[1, k], later[2, k] = begin, at, z
                    k += 1
                indices[z], values[z], last = index, value, index
                z += 1
        if fault != 0:
            z, k = first, first_later
        out[0, n], out[1, n], out[2, n], out[3, n] = start, stop, fault, z
        n, at = n + 1, stop
    return n, z, k, at
