"""Messages `aialgs.data.Record` → numbers. Letters: ``n`` records, ``b`` bytes, ``z`` values.

Fields may come in any order, repeated numbers packed or one by one, and unknown fields are passed over, as protobuf has
it; groups, which it has given up, are refused. What is read are the features and the label of the key "values", the
identifier and the metadata. Of a message that comes twice, both are read as one; of a map's key that does, the last counts.
"""

# mypy: disable-error-code="untyped-decorator, return-value, assignment"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.compiling import listen
from beam_ml.kernels.recordio.usual import sparse as sparse_as_usual
from beam_ml.kernels.recordio.wire import (
    AT,
    BYTES,
    END,
    FAR,
    FLOAT32,
    FLOAT64,
    INT32,
    KIND,
    LAST_KEY,
    N_KEYS,
    N_SHAPE,
    PACKS,
    PRODUCT,
    RISING,
    VALUES,
    field,
    fields,
    forget,
    tensor,
    values,
)

__all__ = ["COLUMNS", "DENSE", "EITHER", "FAULTS", "FLOAT32", "FLOAT64", "INT32", "SPARSE", "decode"]

COLUMNS = ("fault", "form", "kind", "values", "labels", "uid", "uid_size", "metadata", "metadata_size")
"""Rows of what is found: 0 or a fault; dense or sparse; the type of the features; where the values, and the labels, of the
record end; where its texts begin, -1: there is none, and their bytes."""
DENSE, SPARSE, EITHER = 0, 1, 2
_BLOB = 4
FAULTS = ("", "protobuf", "none", "bytes", "type", "sparse", "keys", "shape", "width", "label", "order")
_PROTOBUF, _NONE, _BYTES_VALUE, _TYPE, _SPARSE, _KEYS, _SHAPE, _WIDTH, _LABEL, _ORDER = range(1, 11)

listen()

_COLUMN = types.Array(types.int64, 1, "C", readonly=True)


@numba.njit(
    types.int64(
        BYTES, types.int64, types.int64, types.int64[::1], types.int64[::1],
        types.uint8[::1], types.float64[::1], types.int64, types.int32[::1], types.int64,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def _entry(
    data: np.ndarray, at: int, end: int, state: np.ndarray, other: np.ndarray,
    raw: np.ndarray, wide: np.ndarray, first: int, keys: np.ndarray, first_key: int,
) -> int:  # fmt: skip
    """Read a map's entry into `state`, if its key is "values", or into `other`; return `end`, or -1."""
    named, begin = False, at
    while at < end:
        number, wire, part, at = field(data, at, end)
        if at < 0:
            return -1
        if number == 1 and wire == 2:
            named = at - part == 6
            for i in range(6 if named else 0):
                # v a l u e s
                letter = (0x7365756C6176 >> (8 * i)) & 0xFF
                named = named and np.int64(data[part + i]) == letter
    mine = state if named else other
    room = np.int64(1 << 60)  # nothing is written there
    forget(mine, 0)
    at = begin
    while at < end:
        number, wire, part, at = field(data, at, end)
        if number == 2 and wire == 2:
            while part < at:
                which, kind_wire, inner, part = field(data, part, at)
                if part < 0:
                    return -1
                if kind_wire != 2:
                    continue
                if which == 9:
                    forget(mine, _BLOB)
                    if fields(data, inner, part) < 0:
                        return -1
                elif which == 2 or which == 3 or which == 7:
                    kind = FLOAT32 if which == 2 else FLOAT64 if which == 3 else INT32
                    if mine[KIND] != kind:
                        forget(mine, kind)
                    to, to_key = (first, first_key) if named else (room, room)
                    if tensor(data, inner, part, mine, raw, wide, to, keys, to_key) < 0:
                        return -1
    return end


@numba.njit(types.int64(types.int64[::1], types.int64, types.int64, types.int64), cache=True, nogil=True)
def _judged(state: np.ndarray, form: int, width: int, only: int) -> int:
    """Return what is wrong with a record's features; 0: nothing."""
    kind, n, n_keys, product = state[KIND], state[VALUES], state[N_KEYS], state[PRODUCT]
    if kind == _BLOB:
        return _BYTES_VALUE
    if n == 0 and n_keys == 0 and (state[N_SHAPE] == 0 or product == 0):
        return _NONE
    if only != 0 and kind != only:
        return _TYPE
    sparse = n_keys > 0 or n == 0
    if sparse:
        if form == DENSE:
            return _SPARSE
        if n != n_keys or state[N_SHAPE] == 0 or state[LAST_KEY] >= min(product, FAR):
            return _KEYS
    elif state[N_SHAPE] > 0 and product != n:
        return _SHAPE
    if width > 0 and (product if sparse else n) != width:
        return _WIDTH
    return 0


@numba.njit(
    types.boolean(BYTES, types.int64, types.int64, types.int64, types.int64[::1], types.int64[::1]),
    cache=True,
    nogil=True,
)
def _alike(data: np.ndarray, old: int, new: int, size: int, features: np.ndarray, label: np.ndarray) -> bool:
    """Return whether two records of a size differ in nothing but the values of their features and label."""
    a, b = features[AT] - old, features[END] - old
    c, d = (label[AT] - old, label[END] - old) if label[PACKS] else (size, size)
    if c < a:
        a, b, c, d = c, d, a, b
    for j in range(a):
        if data[old + j] != data[new + j]:
            return False
    for j in range(b, c):
        if data[old + j] != data[new + j]:
            return False
    for j in range(d, size):
        if data[old + j] != data[new + j]:
            return False
    return True


@numba.njit(
    types.int64(types.int32[::1], types.uint8[::1], types.float64[::1], types.int64, types.int64),
    cache=True,
    nogil=True,
)
def _sorted(keys: np.ndarray, raw: np.ndarray, wide: np.ndarray, first: int, n: int) -> int:
    """Put a record's keys in order, with their values; return a fault where one comes twice, else 0."""
    order = np.argsort(keys[first : first + n])
    mine = keys[first : first + n].copy()[order]
    for j in range(1, n):
        if mine[j] == mine[j - 1]:
            return _ORDER
    keys[first : first + n] = mine
    if wide.size >= first + n:
        wide[first : first + n] = wide[first : first + n].copy()[order]
    if raw.size >= 4 * (first + n):
        before = raw[4 * first : 4 * (first + n)].copy()
        for j in range(n):
            for i in range(4):
                raw[4 * (first + j) + i] = before[4 * order[j] + i]
    return 0


@numba.njit(
    types.UniTuple(types.int64, 2)(
        BYTES, _COLUMN, _COLUMN, types.int64, types.int64, types.int64, types.int64,
        types.uint8[::1], types.float64[::1], types.int32[::1], types.float64[::1], types.int64[:, ::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def decode(
    data: np.ndarray, start: np.ndarray, size: np.ndarray, form: int, width: int, only: int, n_labels: int,
    raw: np.ndarray, wide: np.ndarray, keys: np.ndarray, labels: np.ndarray, out: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """Read n records.

    Args:
        data: (b,) uint8.
        start: (n,) int64 where each begins.
        size: (n,) int64 its bytes.
        form: DENSE refuses sparse records; SPARSE gives dense ones keys; EITHER takes them as they are.
        width: the features that each must have; 0: any.
        only: the type that its features must be of; 0: any.
        n_labels: the values of a label.
        raw: uint8, written with the values as float32, or without room for any.
        wide: (z,) float64, written with the values, or without room for any.
        keys: (z,) int32, written with the keys; without room where `form` is DENSE.
        labels: at least (n + 1) · n_labels float64, written.
        out: (9, n) int64, written; see `COLUMNS`.

    Returns:
        The number of values and of labels of the records without fault, which lie one behind the other.
    """
    features, label, other = np.zeros(10, np.int64), np.zeros(10, np.int64), np.zeros(10, np.int64)
    n_values, n_label_values = np.int64(0), np.int64(0)
    nothing, no_keys = np.zeros(0, np.uint8), np.zeros(0, np.int32)
    like = np.int64(-1)  # the last record whose values lie in one piece each, so that the next may be laid out as it is
    as_usual = form == SPARSE and n_labels == 1 and wide.size == 0
    for i in range(start.size):
        at, end = start[i], start[i] + size[i]
        if like >= 0 and size[i] == size[like] and _alike(data, start[like], at, size[i], features, label):
            move = at - start[like]
            features[AT], features[END] = features[AT] + move, features[END] + move
            label[AT], label[END] = label[AT] + move, label[END] + move
            like = np.int64(i)
            features[VALUES] = 0
            values(data, features[AT], features[END], features, raw, wide, n_values)
            if label[PACKS]:
                label[VALUES] = 0
                values(data, label[AT], label[END], label, nothing, labels, n_label_values)
            n_values += features[VALUES]
            n_label_values += label[VALUES]
            out[0, i], out[1, i], out[2, i] = 0, DENSE, features[KIND]
            out[3, i], out[4, i] = n_values, n_label_values
            out[5, i], out[6, i], out[7, i], out[8, i] = -1, 0, -1, 0
            features[PACKS], label[PACKS] = 1, min(label[PACKS], 1)
            continue
        like = np.int64(-1)
        if as_usual:
            count, given = sparse_as_usual(data, at, end, width, raw, keys, labels, n_values, n_label_values)
            if count > 0:
                n_values += count
                n_label_values += given
                out[0, i], out[1, i], out[2, i] = 0, SPARSE, FLOAT32
                out[3, i], out[4, i] = n_values, n_label_values
                out[5, i], out[6, i], out[7, i], out[8, i] = -1, 0, -1, 0
                continue
        forget(features, 0)
        forget(label, 0)
        out[5, i], out[6, i], out[7, i], out[8, i] = -1, 0, -1, 0
        while 0 <= at < end:
            number, wire, begin, at = field(data, at, end)
            if at < 0 or wire != 2:
                continue
            if number == 1:
                if _entry(data, begin, at, features, other, raw, wide, n_values, keys, n_values) < 0:
                    at = np.int64(-1)
            elif number == 2:
                if _entry(data, begin, at, label, other, nothing, labels, n_label_values, no_keys, 0) < 0:
                    at = np.int64(-1)
            elif number == 3:
                out[5, i], out[6, i] = begin, at - begin
            elif number == 4:
                out[7, i], out[8, i] = begin, at - begin
        fault = np.int64(_PROTOBUF) if at < 0 else _judged(features, form, width, only)
        given = label[VALUES]
        if fault == 0 and (label[KIND] == _BLOB or label[N_KEYS] > 0 or (given != 0 and given != n_labels)):
            fault = np.int64(_LABEL)
        sparse = features[N_KEYS] > 0 or features[VALUES] == 0
        if fault == 0 and form != DENSE and features[RISING] == 0 and keys.size > 0:
            fault = _sorted(keys, raw, wide, n_values, features[VALUES])
        out[0, i], out[1, i], out[2, i] = fault, np.int64(sparse), features[KIND]
        if fault == 0:
            if form == SPARSE and not sparse:
                for j in range(features[VALUES]):
                    keys[n_values + j] = j
            n_values += features[VALUES]
            n_label_values += given
            plain = form == DENSE and features[PACKS] == 1 and features[KIND] != INT32 and label[KIND] != INT32
            if plain and label[PACKS] < 2 and out[5, i] < 0 and out[7, i] < 0:
                like = np.int64(i)
        out[3, i], out[4, i] = n_values, n_label_values
    return n_values, n_label_values
