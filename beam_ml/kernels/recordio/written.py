"""Numbers → framed messages `aialgs.data.Record`. Letters: ``n`` records, ``b`` bytes, ``z`` values.

Bytes are those that protobuf itself writes: fields in the order of their numbers, repeated numbers packed.
"""

# mypy: disable-error-code="untyped-decorator, return-value, assignment"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.compiling import listen

__all__ = ["Tensor", "frames", "sizes"]

_FLOAT32, _FLOAT64 = 1, 2

listen()

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_COLUMN = types.Array(types.int64, 1, "C", readonly=True)
_KEYS = types.Array(types.int32, 1, "C", readonly=True)
Tensor = types.Tuple((types.int64, _COLUMN, _BYTES, _KEYS, _KEYS, types.int64))
"""Values of n records: their type (1 float32, 2 float64, 3 int32), (n + 1) where those of each begin, their bytes or, of
int32, themselves, the keys or none, and the shape; 0: none."""


@numba.njit(types.int64(types.uint64), cache=True, nogil=True, inline="always")
def _width(value: int) -> int:
    n = 1
    while value >= 0x80:
        value >>= np.uint64(7)
        n += 1
    return n


@numba.njit(types.int64(types.uint8[::1], types.int64, types.uint64), cache=True, nogil=True, inline="always")
def _varint(out: np.ndarray, at: int, value: int) -> int:
    while value >= 0x80:
        out[at] = np.uint8((value & np.uint64(0x7F)) | np.uint64(0x80))
        value >>= np.uint64(7)
        at += 1
    out[at] = np.uint8(value)
    return at + 1


@numba.njit(types.UniTuple(types.int64, 2)(Tensor, types.int64), cache=True, nogil=True)
def _packed(tensor: tuple, i: int) -> tuple[int, int]:
    """Return the bytes of the packed values and keys of a record."""
    kind, bounds, _, whole, keys, _ = tensor
    begin, end = bounds[i], bounds[i + 1]
    if kind == _FLOAT32 or kind == _FLOAT64:
        values = (end - begin) * (4 if kind == _FLOAT32 else 8)
    else:
        values = np.int64(0)
        for j in range(begin, end):
            values += _width(np.uint64(np.int64(whole[j])))
    n_keys = np.int64(0)
    if keys.size:
        for j in range(begin, end):
            n_keys += _width(np.uint64(keys[j]))
    return values, n_keys


@numba.njit(types.int64(types.int64), cache=True, nogil=True, inline="always")
def _field(size: int) -> int:
    """Return the bytes of a field of a tag of one byte, its length, and that many bytes."""
    return 1 + _width(np.uint64(size)) + size


@numba.njit(types.int64(types.int64, types.int64, types.int64), cache=True, nogil=True, inline="always")
def _tensor_size(values: int, keys: int, shape: int) -> int:
    size = np.int64(0)
    if values:
        size += _field(values)
    if keys:
        size += _field(keys)
    if shape:
        size += _field(_width(np.uint64(shape)))
    return size


@numba.njit(types.int64(types.uint8[::1], types.int64, _BYTES, types.int64, types.int64), cache=True, nogil=True)
def _copied(out: np.ndarray, at: int, data: np.ndarray, begin: int, n: int) -> int:
    # Byte by byte between two slices the compiler makes one copy of.
    piece, into = data[begin : begin + n], out[at : at + n]
    for j in range(n):
        into[j] = piece[j]
    return at + n


@numba.njit(types.int64(types.uint8[::1], types.int64, types.int64, Tensor, types.int64), cache=True, nogil=True)
def _entry(out: np.ndarray, at: int, tag: int, tensor: tuple, i: int) -> int:
    """Write the map's entry "values" of a record; return where it ends."""
    kind, bounds, raw, whole, keys, shape = tensor
    values, n_keys = _packed(tensor, i)
    size = _tensor_size(values, n_keys, shape)
    out[at] = tag
    at = _varint(out, at + 1, np.uint64(8 + _field(_field(size))))
    out[at], out[at + 1] = 0x0A, 6
    for j in range(6):
        out[at + 2 + j] = (0x7365756C6176 >> (8 * j)) & 0xFF  # v a l u e s
    out[at + 8] = 0x12
    at = _varint(out, at + 9, np.uint64(_field(size)))
    out[at] = 0x12 if kind == _FLOAT32 else 0x1A if kind == _FLOAT64 else 0x3A
    at = _varint(out, at + 1, np.uint64(size))
    begin, end = bounds[i], bounds[i + 1]
    if values:
        out[at] = 0x0A
        at = _varint(out, at + 1, np.uint64(values))
        if kind == _FLOAT32 or kind == _FLOAT64:
            at = _copied(out, at, raw, begin * (4 if kind == _FLOAT32 else 8), values)
        else:
            for j in range(begin, end):
                at = _varint(out, at, np.uint64(np.int64(whole[j])))
    if n_keys:
        out[at] = 0x12
        at = _varint(out, at + 1, np.uint64(n_keys))
        for j in range(begin, end):
            at = _varint(out, at, np.uint64(keys[j]))
    if shape:
        out[at] = 0x1A
        at = _varint(out, at + 1, np.uint64(_width(np.uint64(shape))))
        at = _varint(out, at, np.uint64(shape))
    return at


@numba.njit(types.void(Tensor, Tensor, _COLUMN, _COLUMN, types.int64[::1]), cache=True, nogil=True)
def sizes(features: tuple, label: tuple, uid: np.ndarray, metadata: np.ndarray, out: np.ndarray) -> None:
    """Write the bytes of each record into `out`, (n,) int64.

    Args:
        features: of each.
        label: of each; a record without one has no values there.
        uid: (n,) int64 bytes of the text, -1: there is none.
        metadata: the same.
        out: written.
    """
    for i in range(out.size):
        values, keys = _packed(features, i)
        size = _field(8 + _field(_field(_tensor_size(values, keys, features[5]))))
        values, keys = _packed(label, i)
        if values:
            size += _field(8 + _field(_field(_tensor_size(values, keys, label[5]))))
        if uid[i] >= 0:
            size += _field(uid[i])
        if metadata[i] >= 0:
            size += _field(metadata[i])
        out[i] = size


@numba.njit(
    types.void(Tensor, Tensor, _COLUMN, _BYTES, _COLUMN, _BYTES, _COLUMN, _COLUMN, types.uint8[::1]),
    cache=True,
    nogil=True,
)
def frames(
    features: tuple, label: tuple, uid: np.ndarray, uid_text: np.ndarray, metadata: np.ndarray,
    metadata_text: np.ndarray, size: np.ndarray, start: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Write n framed records.

    Args:
        features: as `sizes` takes them.
        label: the same.
        uid: the same.
        uid_text: uint8, the texts one behind the other.
        metadata: as `sizes` takes it.
        metadata_text: uint8, as `uid_text`.
        size: (n,) int64 as `sizes` writes it.
        start: (n,) int64 where each frame begins.
        out: (b,) uint8, written; zeros before.
    """
    text, more = np.int64(0), np.int64(0)
    for i in range(size.size):
        at = start[i]
        for j in range(4):
            out[at + j] = (0xCED7230A >> (8 * j)) & 0xFF
            out[at + 4 + j] = (size[i] >> (8 * j)) & 0xFF
        at = _entry(out, at + 8, 0x0A, features, i)
        if label[1][i + 1] > label[1][i]:
            at = _entry(out, at, 0x12, label, i)
        if uid[i] >= 0:
            out[at] = 0x1A
            at = _copied(out, _varint(out, at + 1, np.uint64(uid[i])), uid_text, text, uid[i])
            text += uid[i]
        if metadata[i] >= 0:
            out[at] = 0x22
            at = _copied(out, _varint(out, at + 1, np.uint64(metadata[i])), metadata_text, more, metadata[i])
            more += metadata[i]
