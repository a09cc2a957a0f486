"""Where the records of a RecordIO stream lie. Letters: ``n`` records, ``b`` bytes.

A frame is a magic number, a length with a flag in its upper three bits, the payload, and zeros to a multiple of 4. The
flag is 0 for a whole record, and 1, 2, 3 for the first, a middle and the last part of one that was split where it held
the magic number (dmlc-core, ``recordio.h``).
"""

# mypy: disable-error-code="untyped-decorator, return-value, assignment"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.compiling import listen

__all__ = ["BROKEN", "COLUMNS", "DONE", "LONG", "MAGIC", "NO_FRAME", "SPLIT", "WHOLE", "index"]

MAGIC = 0xCED7230A
COLUMNS = ("start", "stop", "payload", "size", "form")
"""Rows of the index: bounds of the record with its frames; where its payload begins, its bytes, and what it is."""
BROKEN, WHOLE, SPLIT = 0, 1, 2
"""What a record is: parts that make no record, one frame, or several whose payloads are to be joined."""
DONE, NO_FRAME, LONG = 0, 1, 2
"""Why the index ends: the bytes or the room do; there is no frame; or a record is longer than allowed."""

listen()

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)


@numba.njit(types.int64(_BYTES, types.int64), cache=True, nogil=True, inline="always")
def _word(data: np.ndarray, at: int) -> int:
    return (
        np.int64(data[at])
        | np.int64(data[at + 1]) << np.int64(8)
        | np.int64(data[at + 2]) << np.int64(16)
        | np.int64(data[at + 3]) << np.int64(24)
    )


@numba.njit(
    types.UniTuple(types.int64, 4)(_BYTES, types.int64, types.int64, types.int64, types.int64[:, ::1]),
    cache=True,
    nogil=True,
)
def index(data: np.ndarray, at: int, stop: int, most: int, out: np.ndarray) -> tuple[int, int, int, int]:
    """Find records.

    Args:
        data: (b,) uint8.
        at: where the first frame begins.
        stop: where the records end.
        most: the bytes that a record may have with its frames.
        out: (5, m) int64, written; see `COLUMNS`.

    Returns:
        The number of records, at most m; where the last one ends; why no more were found; and where the frame would end
        at which it stopped (where parts wait for more: the last of them).
    """
    n, begin, joined = 0, np.int64(-1), np.int64(0)
    done = at
    while n < out.shape[1]:
        if at + 8 > stop:
            return n, done, 0, at + 8 if at < stop else at
        if _word(data, at) != 0xCED7230A:
            return n, done, 1, at
        word = _word(data, at + 4)
        size, flag = word & 0x1FFFFFFF, word >> 29
        if flag > 3:
            return n, done, 1, at
        end = at + 8 + size + (-size & 3)
        first = flag < 2
        if begin >= 0 and (first or end - begin > most):  # what was begun is never finished
            out[0, n], out[1, n], out[2, n], out[3, n], out[4, n] = begin, at, begin, joined, 0
            n, done, begin = n + 1, at, np.int64(-1)
            continue
        if end - at > most:
            return n, done, 2, end
        if end > stop:
            return n, done, 0, end
        if flag == 0:
            out[0, n], out[1, n], out[2, n], out[3, n], out[4, n] = at, end, at + 8, size, 1
            n, done = n + 1, end
        elif flag == 1:
            begin, joined = at, size
        elif begin < 0:  # a part without a first one
            out[0, n], out[1, n], out[2, n], out[3, n], out[4, n] = at, end, at + 8, size, 0
            n, done = n + 1, end
        else:
            joined += size + 4
            if flag == 3:
                out[0, n], out[1, n], out[2, n], out[3, n], out[4, n] = begin, end, begin, joined, 2
                n, done, begin = n + 1, end, np.int64(-1)
        at = end
    return n, done, 0, done
