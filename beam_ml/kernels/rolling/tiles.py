"""Tiles: partials of fixed lengths of time, from which sawtooth windows are merged.

Tiles are sorted by key and number, rows by key, then in row order. Letters: ``q`` rows, ``e`` tiles, ``w`` windows.
"""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

from beam_ml.kernels.rolling.partials import lift, merge, result

__all__ = ["roll"]

_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I82 = types.Array(types.int64, 2, "C", readonly=True)
_F8 = types.Array(types.float64, 1, "C", readonly=True)


@numba.njit(cache=True, nogil=True)
def _add(code: int, value: float, dated: int, e: int, tiles: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
    """Add a value to a tile, and forget the folds that the tile is in."""
    b0, b1, b2 = lift(code, value, np.float64(dated))
    tiles[e, 0], tiles[e, 1], tiles[e, 2] = merge(code, tiles[e, 0], tiles[e, 1], tiles[e, 2], b0, b1, b2)
    for w in range(first.size):
        if first[w] >= 0 and first[w] <= e < last[w]:
            first[w] = -1


@numba.njit(
    types.void(
        types.int64, _F8, _I8, _I8, _I8, _I8, _I82, _I82, types.boolean, types.float64[:, ::1], types.float64[:, ::1]
    ),
    cache=True,
    nogil=True,
)
def roll(
    code: int,
    values: np.ndarray,
    dated: np.ndarray,
    time: np.ndarray,
    into: np.ndarray,
    begin: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    includes_row: bool,
    tiles: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add each row's value to its tile and write the results of its windows, row after row.

    Args:
        code: of the function.
        values: (q,) NaN: none.
        dated: (q,) µs.
        time: (q,) µs.
        into: (q,) the tile that each value belongs to; −1: none.
        begin: (q,) the first tile of the row's key.
        low: (w, q) first tile of each window.
        high: (w, q) behind its last tile.
        includes_row: whether a row counts for itself.
        tiles: (e, 3) partials; updated.
        out: (w, q) written; NaN: the window has no value.
    """
    n_windows = low.shape[0]
    # Of each window, the fold of all its tiles but the last, which stays while neither its bounds nor a tile in it change.
    fold, first, last = np.zeros((n_windows, 3)), np.full(n_windows, -1), np.full(n_windows, -1)
    for q in range(time.size):
        if q and begin[q] != begin[q - 1]:
            first[:] = -1
        if includes_row and into[q] >= 0:
            _add(code, values[q], dated[q], into[q], tiles, first, last)
        for w in range(n_windows):
            begin_w, stop = low[w, q], high[w, q]
            if stop <= begin_w:
                out[w, q] = result(code, 0.0, 0.0, 0.0, np.float64(time[q]))
                continue
            if first[w] != begin_w or last[w] != stop - 1:
                f0 = f1 = f2 = 0.0
                for e in range(begin_w, stop - 1):
                    f0, f1, f2 = merge(code, f0, f1, f2, tiles[e, 0], tiles[e, 1], tiles[e, 2])
                fold[w, 0], fold[w, 1], fold[w, 2] = f0, f1, f2
                first[w], last[w] = begin_w, stop - 1
            e = stop - 1
            r0, r1, r2 = merge(code, fold[w, 0], fold[w, 1], fold[w, 2], tiles[e, 0], tiles[e, 1], tiles[e, 2])
            out[w, q] = result(code, r0, r1, r2, np.float64(time[q]))
        if not includes_row and into[q] >= 0:
            _add(code, values[q], dated[q], into[q], tiles, first, last)
