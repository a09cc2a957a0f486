"""What protobuf messages consist of: numbers of one to ten bytes, fields, and the tensors of `aialgs.data`.

Letters: ``b`` bytes, ``z`` values. Groups, which protobuf has given up, are refused.
"""

# mypy: disable-error-code="untyped-decorator, return-value, assignment"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.compiling import listen

__all__ = [
    "AT", "BYTES", "END", "FAR", "FLOAT32", "FLOAT64", "INT32", "KIND", "LAST_KEY", "MOST", "N_KEYS", "N_SHAPE", "PACKS",
    "PRODUCT", "RISING", "VALUES", "double", "field", "fields", "forget", "keys_into", "single", "tensor", "values",
    "varint",
]  # fmt: skip

listen()

FLOAT32, FLOAT64, INT32 = 1, 2, 3
# what is known of a tensor so far
KIND, VALUES, N_KEYS, N_SHAPE, PRODUCT, LAST_KEY, RISING, AT, END, PACKS = range(10)
MOST = 1 << 62
FAR = (1 << 31) - 1
"""No feature has this number or a greater one."""

BYTES = types.Array(types.uint8, 1, "C", readonly=True)
_NUMBER = types.Tuple((types.uint64, types.int64))


@numba.njit(_NUMBER(BYTES, types.int64, types.int64), cache=True, nogil=True)
def varint(data: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Return a number and where it ends; -1: it does not."""
    value = np.uint64(0)
    for shift in range(0, 70, 7):
        if at >= end:
            return np.uint64(0), np.int64(-1)
        byte = np.uint64(data[at])
        at += 1
        value |= (byte & np.uint64(0x7F)) << np.uint64(shift)
        if byte < 0x80:
            return value, np.int64(at)
    return np.uint64(0), np.int64(-1)


@numba.njit(types.UniTuple(types.int64, 4)(BYTES, types.int64, types.int64), cache=True, nogil=True)
def field(data: np.ndarray, at: int, end: int) -> tuple[int, int, int, int]:
    """Return a field's number and wire type, where what it holds begins, and where it ends; -1: it does not."""
    if at < end and data[at] < 0x80:
        tag, at = np.uint64(data[at]), at + 1
    else:
        tag, at = varint(data, at, end)
    number, wire = np.int64(tag >> np.uint64(3)), np.int64(tag & np.uint64(7))
    if at < 0 or number == 0 or number >= 1 << 29:
        return 0, 0, 0, -1
    if wire == 0:
        _, stop = varint(data, at, end)
        return number, wire, at, stop
    if wire == 1:
        stop = at + 8
    elif wire == 5:
        stop = at + 4
    elif wire == 2:
        if at < end and data[at] < 0x80:
            size, at = np.uint64(data[at]), at + 1
        else:
            size, at = varint(data, at, end)
        if at < 0 or size > np.uint64(end - at):
            return 0, 0, 0, -1
        stop = at + np.int64(size)
    else:
        stop = np.int64(-1)
    return number, wire, at, stop if stop <= end else -1


@numba.njit(types.uint64(BYTES, types.int64, types.int64), cache=True, nogil=True)
def _bits(data: np.ndarray, at: int, n: int) -> int:
    """Return n bytes as a number."""
    bits = np.uint64(0)
    for i in range(n):
        bits |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return bits


@numba.njit(types.float64(BYTES, types.int64), cache=True, nogil=True)
def single(data: np.ndarray, at: int) -> float:
    """Return the float32 at a place."""
    return np.float64(np.uint32(_bits(data, at, 4)).view(np.float32))


@numba.njit(types.float64(BYTES, types.int64), cache=True, nogil=True)
def double(data: np.ndarray, at: int) -> float:
    """Return the float64 at a place."""
    return np.uint64(_bits(data, at, 8)).view(np.float64)


@numba.njit(
    types.int64(
        BYTES, types.int64, types.int64, types.int64[::1], types.uint8[::1], types.float64[::1], types.int64
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def values(
    data: np.ndarray, at: int, end: int, state: np.ndarray, raw: np.ndarray, wide: np.ndarray, first: int
) -> int:
    """Write values, packed from `at` to `end`, behind those that there are; return `end`, or -1.

    `raw` takes float32 as they are, where it has room, `wide` everything as float64; what is beyond their room is counted.
    """
    kind, n, begin = state[KIND], first + state[VALUES], at
    if kind == INT32:
        while at < end:
            value, at = varint(data, at, end)
            if at < 0:
                return -1
            if n < wide.size:
                wide[n] = np.float64(np.int32(np.uint32(value & np.uint64(0xFFFFFFFF))))
            n += 1
    else:
        item = 4 if kind == FLOAT32 else 8
        if (end - at) % item:
            return -1
        count = (end - at) // item
        if kind == FLOAT32 and raw.size >= 4 * (n + count):
            # Byte by byte between two slices the compiler makes one copy of.
            piece, into = data[at:end], raw[4 * n : 4 * (n + count)]
            for j in range(end - at):
                into[j] = piece[j]
        for i in range(min(count, wide.size - n)):
            wide[n + i] = single(data, at + 4 * i) if kind == FLOAT32 else double(data, at + 8 * i)
        n += count
    state[VALUES] = n - first
    state[AT], state[END] = begin, end
    state[PACKS] += 1
    return end


@numba.njit(
    types.int64(BYTES, types.int64, types.int64, types.int64[::1], types.int32[::1], types.int64),
    cache=True,
    nogil=True,
)
def keys_into(data: np.ndarray, at: int, end: int, state: np.ndarray, keys: np.ndarray, first: int) -> int:
    """Write packed keys behind those that there are; return `end`, or -1."""
    n, last, rising = first + state[N_KEYS], state[LAST_KEY], state[RISING]
    while at < end:
        if data[at] < 0x80:
            key, at = np.uint64(data[at]), at + 1
        else:
            key, at = varint(data, at, end)
            if at < 0:
                return -1
        number = np.int64(min(key, np.uint64(FAR)))
        if number <= last:
            rising = 0
        last = max(last, number)
        if n < keys.size:
            keys[n] = number
        n += 1
    state[N_KEYS], state[LAST_KEY], state[RISING] = n - first, last, rising
    return end


@numba.njit(
    types.int64(
        BYTES, types.int64, types.int64, types.int64[::1],
        types.uint8[::1], types.float64[::1], types.int64, types.int32[::1], types.int64,
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def tensor(
    data: np.ndarray, at: int, end: int, state: np.ndarray,
    raw: np.ndarray, wide: np.ndarray, first: int, keys: np.ndarray, first_key: int,
) -> int:  # fmt: skip
    """Read a tensor of the kind that `state` holds; return `end`, or -1."""
    packs = np.int64(0 if state[KIND] == INT32 else 5 if state[KIND] == FLOAT32 else 1)
    while at < end:
        number, wire, begin, at = field(data, at, end)
        if at < 0:
            return -1
        if number == 1 and (wire == 2 or wire == packs):
            if values(data, begin, at, state, raw, wide, first) < 0:
                return -1
        elif number == 2 and (wire == 2 or wire == 0):
            if keys_into(data, begin, at, state, keys, first_key) < 0:
                return -1
        elif number == 3 and (wire == 2 or wire == 0):
            while begin < at:
                length, begin = varint(data, begin, at)
                if begin < 0:
                    return -1
                product = state[PRODUCT]
                far = product > 0 and length > np.uint64(MOST // product)
                state[PRODUCT] = MOST if far else product * np.int64(length)
                state[N_SHAPE] += 1
    return end


@numba.njit(types.int64(BYTES, types.int64, types.int64), cache=True, nogil=True)
def fields(data: np.ndarray, at: int, end: int) -> int:
    """Pass over fields; return `end`, or -1."""
    while at < end:
        _, _, _, at = field(data, at, end)
        if at < 0:
            return -1
    return end


@numba.njit(types.void(types.int64[::1], types.int64), cache=True, nogil=True)
def forget(state: np.ndarray, kind: int) -> None:
    """Begin a tensor of a kind, 0: none."""
    state[KIND], state[VALUES], state[N_KEYS], state[N_SHAPE] = kind, 0, 0, 0
    state[PRODUCT], state[LAST_KEY], state[RISING], state[PACKS] = 1, -1, 1, 0
