"""Where the values of a JSON array lie, or those that follow one another: brackets and quotes alone are looked at.

What stands within a value is not checked: two halves that do not belong together are a value that no parser takes, and it
costs itself alone. Between the values of an array stand commas, and nothing else but white space.
"""

# mypy: disable-error-code="untyped-decorator, return-value, assignment"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.compiling import listen

__all__ = ["BROKEN", "CLOSED", "MORE", "STATE", "bounds"]

STATE = ("phase", "depth", "quoted", "escaped", "begin")
"""Where a scan stopped: what it waits for, how deep it is, whether in a text, behind a backslash; where its value begins."""
MORE, CLOSED, BROKEN = 0, 1, 2
"""Why a scan ends: the text or the room do; the array is closed; or no value is where one must be."""

_FIRST, _NEXT, _BETWEEN, _NESTED, _TEXT, _PLAIN = 0, 1, 2, 3, 4, 5
"""What a scan waits for: a value or the end; a value; a comma or the end; the end of a bracket, a text, another value."""

listen()

_BYTES = types.Array(types.uint8, 1, "C", readonly=True)


@numba.njit(
    types.UniTuple(types.int64, 3)(_BYTES, types.int64, types.boolean, types.int64[::1], types.int64[:, ::1]),
    cache=True,
    nogil=True,
)
def bounds(data: np.ndarray, at: int, array: bool, state: np.ndarray, out: np.ndarray) -> tuple[int, int, int]:
    """Find values.

    Args:
        data: (b,) uint8.
        at: where to begin, behind the opening bracket of an array or in what was begun.
        array: whether they are an array's; otherwise they follow one another, with no comma.
        state: (5,) int64, see `STATE`: zeros at first; changed.
        out: (2, m) int64, written: bounds of the values that end here.

    Returns:
        The number of values, at most m; where the scan ended; and why.
    """
    phase, depth, quoted, escaped, begin = state[0], state[1], state[2], state[3], state[4]
    n, size, room, why = 0, len(data), out.shape[1], MORE
    while at < size and n < room:
        byte = data[at]
        if phase == _NESTED or phase == _TEXT:
            if quoted:
                if escaped:
                    escaped = 0
                elif byte == 92:
                    escaped = 1
                elif byte == 34:
                    quoted = 0
                    if phase == _TEXT:
                        out[0, n], out[1, n] = begin, at + 1
                        n += 1
                        phase = _BETWEEN
            elif byte == 34:
                quoted = 1
            elif byte == 123 or byte == 91:
                depth += 1
            elif byte == 125 or byte == 93:
                depth -= 1
                if depth == 0:
                    out[0, n], out[1, n] = begin, at + 1
                    n += 1
                    phase = _BETWEEN
            at += 1
            continue
        space = byte == 32 or byte == 10 or byte == 13 or byte == 9
        if phase == _PLAIN:
            if not (space or byte == 44 or byte == 93 or byte == 125 or byte == 123 or byte == 91 or byte == 34):
                at += 1
                continue
            out[0, n], out[1, n] = begin, at
            n += 1
            phase = _BETWEEN
            continue
        if space:
            at += 1
            continue
        if array and byte == 93 and phase != _NEXT:
            at += 1
            why = CLOSED
            break
        if array and phase == _BETWEEN:
            if byte != 44:
                why = BROKEN
                break
            phase = _NEXT
            at += 1
            continue
        if byte == 44 or byte == 93 or byte == 125:
            why = BROKEN
            break
        begin = at
        if byte == 123 or byte == 91:
            phase, depth = _NESTED, 1
        elif byte == 34:
            phase, quoted = _TEXT, 1
        else:
            phase = _PLAIN
        at += 1
    state[0], state[1], state[2], state[3], state[4] = phase, depth, quoted, escaped, begin
    return n, at, why
