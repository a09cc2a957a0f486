"""The records of a Kafka batch, message format 2: where their parts lie. Letters: ``n`` records, ``b`` bytes."""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.compiling import listen

__all__ = ["FIELDS", "gather", "index"]

FIELDS = ("offset", "time", "key", "key_size", "value", "value_size", "headers")
"""Rows of the index: offset and time are deltas to the batch's, the others places in its bytes; size -1: null."""

listen()

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_COLUMN = types.Array(types.int64, 1, "C", readonly=True)


@numba.njit(types.UniTuple(types.int64, 2)(_BYTES, types.int64), cache=True, nogil=True, inline="always")
def _varint(data: np.ndarray, at: int) -> tuple[int, int]:
    """Return a zigzag number and where it ends; -1: it does not."""
    value = np.uint64(0)
    for shift in range(0, 70, 7):
        if at >= data.size:
            return 0, -1
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(0x7F)) << np.uint64(shift)
        if byte < 0x80:
            number = int(np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)))
            return number, at
    return 0, -1


@numba.njit(types.int64(_BYTES, types.int64, types.int64[:, ::1]), cache=True, nogil=True)
def index(data: np.ndarray, at: int, out: np.ndarray) -> int:
    """Find the parts of n records.

    Args:
        data: (b,) uint8 the batch's bytes, not compressed.
        at: where the first record begins.
        out: (7, n) int64, written; see `FIELDS`.

    Returns:
        Where the last record ends; -1: the bytes are no n records.
    """
    for i in range(out.shape[1]):
        size, at = _varint(data, at)
        end = at + size
        if at < 0 or size < 0 or end > data.size:
            return -1
        at += 1  # attributes: not used
        out[1, i], at = _varint(data, at)
        if at < 0:
            return -1
        out[0, i], at = _varint(data, at)
        if at < 0:
            return -1
        for part in (2, 4):
            length, at = _varint(data, at)
            if at < 0 or length < -1 or length > end - at:
                return -1
            out[part, i], out[part + 1, i] = at, length
            at += max(0, length)
        if at >= end:  # the number of headers is there, if it is 0
            return -1
        out[6, i] = at
        at = end
    return at


@numba.njit(types.int64(_BYTES, _COLUMN, _COLUMN, types.uint8[::1], types.int64), cache=True, nogil=True)
def gather(data: np.ndarray, start: np.ndarray, size: np.ndarray, out: np.ndarray, at: int) -> int:
    """Copy n pieces of `data` one behind the other into `out` from `at` on; return where the last one ends.

    Args:
        data: (b,) uint8.
        start: (n,) int64 where each piece begins.
        size: (n,) int64 its bytes; below 1: none.
        out: uint8, long enough, written.
        at: where to write the first one.
    """
    for i in range(start.size):
        n = size[i]
        if n > 0:
            # Byte by byte between two slices the compiler makes one copy of; an assignment of slices it makes a slow loop.
            piece, into = data[start[i] : start[i] + n], out[at : at + n]
            for j in range(n):
                into[j] = piece[j]
            at += n
    return at
