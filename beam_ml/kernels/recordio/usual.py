"""Sparse records as SageMaker's client writes them, read in one pass: the order and the lengths of their fields are known.

What is laid out in any other way is left to `records`, which reads all that protobuf allows. Letters: ``b`` bytes.
"""

# mypy: disable-error-code="untyped-decorator, return-value, assignment"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.compiling import listen
from beam_ml.kernels.recordio.wire import BYTES, FAR, double, single

__all__ = ["sparse"]

listen()

_OTHER = (np.int64(-1), np.int64(0))
# A map's entry: its key, "values", and the tag of its value; then that of a tensor, of float32 or of float64.
_ENTRY = np.array([0x0A, 6, 0x76, 0x61, 0x6C, 0x75, 0x65, 0x73, 0x12], np.uint8)
_SINGLE, _DOUBLE = 0x12, 0x1A


@numba.njit(inline="always")
def _size(data: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Return a length of one, two or three bytes that ends what it lies in, and where that begins; -1: there is none."""
    size, more = np.int64(-1), end - at
    if more > 0 and data[at] < 0x80:
        size, at = np.int64(data[at]), at + 1
    elif more > 1 and data[at + 1] < 0x80:
        size, at = np.int64(data[at] & 0x7F) | np.int64(data[at + 1]) << 7, at + 2
    elif more > 2 and data[at + 2] < 0x80:
        size = np.int64(data[at] & 0x7F) | np.int64(data[at + 1] & 0x7F) << 7 | np.int64(data[at + 2]) << 14
        at += 3
    return size, at


@numba.njit(inline="always")
def _tensor(data: np.ndarray, at: int, end: int, kind: int) -> int:
    """Return where the tensor of a map's entry begins that fills the bytes, or -1 where it is of another kind."""
    if end - at < 14:
        return np.int64(-1)
    for j in range(9):
        if data[at + j] != _ENTRY[j]:
            return np.int64(-1)
    size, at = _size(data, at + 9, end)
    if size != end - at or size < 2 or data[at] != kind:
        return np.int64(-1)
    size, at = _size(data, at + 1, end)
    return at if size == end - at else np.int64(-1)


@numba.njit(
    types.UniTuple(types.int64, 2)(
        BYTES, types.int64, types.int64, types.int64, types.uint8[::1], types.int32[::1], types.float64[::1],
        types.int64, types.int64,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def sparse(
    data: np.ndarray, at: int, end: int, width: int, raw: np.ndarray, keys: np.ndarray, labels: np.ndarray,
    first: int, first_label: int,
) -> tuple[int, int]:  # fmt: skip
    """Read a record of float32 by rising keys with one shape, and a label of one number or none, that fills its bytes.

    Args:
        data: (b,) uint8.
        at: where it begins.
        end: where it ends.
        width: the features that it must have; 0: any.
        raw: uint8, written with the values from `first` on, as float32.
        keys: int32, written with the keys from `first` on.
        labels: float64, written with the label at `first_label`.
        first: the values before it.
        first_label: the labels before it.

    Returns:
        The number of its values and of its labels; -1: it is laid out in another way, or wrong.
    """
    if end - at < 2 or data[at] != 0x0A:
        return _OTHER
    size, at = _size(data, at + 1, end)
    stop = at + size
    if size < 0 or stop > end:
        return _OTHER
    at = _tensor(data, at, stop, _SINGLE)
    if at < 0 or stop - at < 2 or data[at] != 0x0A:
        return _OTHER
    size, at = _size(data, at + 1, stop)
    n = size >> 2
    if size <= 0 or size & 3 or at + size > stop or 4 * (first + n) > raw.size or first + n > keys.size:
        return _OTHER
    # Byte by byte between two slices the compiler makes one copy of.
    piece, into = data[at : at + size], raw[4 * first : 4 * first + size]
    for j in range(size):
        into[j] = piece[j]
    at += size
    if stop - at < 2 or data[at] != 0x12:
        return _OTHER
    size, at = _size(data, at + 1, stop)
    keys_end = at + size
    if size < n or keys_end > stop:
        return _OTHER
    last, k, most = np.int64(-1), first, first + n
    while at < keys_end:
        key, more = np.int64(data[at]), keys_end - at
        if key < 0x80:
            at += 1
        elif more > 1 and data[at + 1] < 0x80:
            key, at = (key & 0x7F) | np.int64(data[at + 1]) << 7, at + 2
        elif more > 2 and data[at + 2] < 0x80:
            key = (key & 0x7F) | np.int64(data[at + 1] & 0x7F) << 7 | np.int64(data[at + 2]) << 14
            at += 3
        else:
            return _OTHER
        if key <= last or k == most:
            return _OTHER
        last = key
        keys[k] = key
        k += 1
    if k < most or stop - at < 2 or data[at] != 0x1A:
        return _OTHER
    size, at = _size(data, at + 1, stop)
    if size != stop - at or size < 1:
        return _OTHER
    shape, at = _size(data, at, stop)
    if at != stop or shape <= last or shape > FAR or (width > 0 and shape != width):
        return _OTHER
    if at == end:
        return n, np.int64(0)
    if end - at < 2 or data[at] != 0x12:
        return _OTHER
    size, at = _size(data, at + 1, end)
    if size != end - at:
        return _OTHER
    begin = _tensor(data, at, end, _DOUBLE)
    if begin >= 0:
        if end - begin != 10 or data[begin] != 0x0A or data[begin + 1] != 8:
            return _OTHER
        labels[first_label] = double(data, begin + 2)
        return n, np.int64(1)
    begin = _tensor(data, at, end, _SINGLE)
    if begin < 0 or end - begin != 6 or data[begin] != 0x0A or data[begin + 1] != 4:
        return _OTHER
    labels[first_label] = single(data, begin + 2)
    return n, np.int64(1)
