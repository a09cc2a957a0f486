"""Folds over windows, by values that are merged and never subtracted. Letters: ``q`` rows, ``c`` values.

Time is cut into tiles as long as the window (van Herk 1992, Gil and Werman 1993). A window then has an end of one tile and a
beginning of the next: the former folded from its end backwards, the latter from its beginning on, each once per tile and
key. What comes out depends on the window's values and the tiles alone, so that it is the same to the bit however rows are
cut into blocks; and a value leaves no trace once it is out of the window.
"""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.rolling.partials import lift, merge, result

__all__ = ["scan", "slide"]

_I8 = types.Array(types.int64, 1, "C", readonly=True)
_F8 = types.Array(types.float64, 1, "C", readonly=True)


@numba.njit(
    types.void(types.int64, _F8, _I8, _I8, _I8, _I8, _I8, _I8, types.float64[:, ::1], types.float64[::1]),
    cache=True,
    nogil=True,
)
def slide(
    code: int,
    values: np.ndarray,
    dated: np.ndarray,
    time: np.ndarray,
    begin: np.ndarray,
    low: np.ndarray,
    split: np.ndarray,
    high: np.ndarray,
    suffix: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the result of each row's window.

    Args:
        code: of the function.
        values: (c,) NaN: none.
        dated: (c,) µs.
        time: (q,) of the rows, µs.
        begin: (q,) first value of the row's key.
        low: (q,) as `bounds.window` wrote it.
        split: (q,) as it wrote it.
        high: (q,) as it wrote it.
        suffix: (c, 3) room for the folds of the beginnings of windows.
        out: (q,) written; NaN: the window has no value.
    """
    at = whole = 0
    p0 = p1 = p2 = 0.0
    for q in range(time.size):
        if q == 0 or begin[q] != begin[q - 1] or split[q] != whole:
            whole = split[q]
            s0 = s1 = s2 = 0.0
            for i in range(whole - 1, low[q] - 1, -1):
                b0, b1, b2 = lift(code, values[i], np.float64(dated[i]))
                s0, s1, s2 = merge(code, b0, b1, b2, s0, s1, s2)
                suffix[i, 0], suffix[i, 1], suffix[i, 2] = s0, s1, s2
            p0 = p1 = p2 = 0.0
            at = whole
        while at < high[q]:
            b0, b1, b2 = lift(code, values[at], np.float64(dated[at]))
            p0, p1, p2 = merge(code, p0, p1, p2, b0, b1, b2)
            at += 1
        if low[q] < whole:
            i = low[q]
            r0, r1, r2 = merge(code, suffix[i, 0], suffix[i, 1], suffix[i, 2], p0, p1, p2)
            out[q] = result(code, r0, r1, r2, np.float64(time[q]))
        elif low[q] == whole:
            out[q] = result(code, p0, p1, p2, np.float64(time[q]))
        else:
            out[q] = result(code, 0.0, 0.0, 0.0, np.float64(time[q]))


@numba.njit(
    types.void(types.int64, _F8, _I8, _I8, _I8, _I8, _I8, _I8, _I8, types.boolean, types.float64[::1]),
    cache=True,
    nogil=True,
)
def scan(
    code: int,
    values: np.ndarray,
    dated: np.ndarray,
    known: np.ndarray,
    came: np.ndarray,
    time: np.ndarray,
    number: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    includes_row: bool,
    out: np.ndarray,
) -> None:
    """Write the result of each row's window over those values that were known then.

    Args:
        code: of the function.
        values: (c,) NaN: none.
        dated: (c,) µs.
        known: (c,) from when each is known, µs.
        came: (c,) number of the row that brought it; −1: an earlier call's.
        time: (q,) of the rows, µs.
        number: (q,) of the rows, in row order.
        low: (q,) as `bounds.window` wrote it.
        high: (q,) as it wrote it.
        includes_row: whether what the row brought is known to it.
        out: (q,) written; NaN: the window has no value.
    """
    for q in range(time.size):
        p0 = p1 = p2 = 0.0
        latest = number[q] if includes_row else number[q] - 1
        for i in range(low[q], high[q]):
            if came[i] <= latest and known[i] <= time[q]:
                b0, b1, b2 = lift(code, values[i], np.float64(dated[i]))
                p0, p1, p2 = merge(code, p0, p1, p2, b0, b1, b2)
        out[q] = result(code, p0, p1, p2, np.float64(time[q]))
