"""Which stored values a row's window has: three numbers per row and window. Letters: ``q`` rows, ``c`` values.

Values are sorted by key, then by the time they are dated, then by row order; rows by key, then in row order.
"""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

__all__ = ["spans", "tiles", "window"]

_U8 = types.Array(types.uint64, 1, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)


@numba.njit(types.void(_U8, _U8, types.int64[::1], types.int64[::1]), cache=True, nogil=True)
def spans(rows: np.ndarray, values: np.ndarray, begin: np.ndarray, end: np.ndarray) -> None:
    """Write where the values of each row's key begin and end.

    Args:
        rows: (q,) keys, ascending.
        values: (c,) keys, ascending.
        begin: (q,) written.
        end: (q,) written.
    """
    low = 0
    for q in range(rows.size):
        key = rows[q]
        if q and key == rows[q - 1]:
            begin[q], end[q] = begin[q - 1], end[q - 1]
            continue
        low += np.searchsorted(values[low:], key, side="left")
        begin[q] = low
        low += np.searchsorted(values[low:], key, side="right")
        end[q] = low


@numba.njit(
    types.void(
        _I8, _I8, _I8, _I8, _I8, types.int64, types.int64, types.boolean,
        types.int64[::1], types.int64[::1], types.int64[::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def window(
    time: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    own: np.ndarray,
    dated: np.ndarray,
    length: int,
    delay: int,
    includes_row: bool,
    low: np.ndarray,
    split: np.ndarray,
    high: np.ndarray,
) -> None:
    """Write the bounds of each row's window, and where the tile begins that its end lies in; tiles are as long as windows.

    Args:
        time: (q,) µs.
        begin: (q,) first value of the row's key.
        end: (q,) behind the last one.
        own: (q,) the row's own value, where a window that ends with the row ends by row order; empty: it ends by time.
        dated: (c,) µs.
        length: of the window, µs.
        delay: how long before the row it ends, µs.
        includes_row: whether the row's own value is in it.
        low: (q,) written: first value.
        split: (q,) written: first value in the tile that the window ends in.
        high: (q,) written: behind the last value.
    """
    by_order = delay == 0 and own.size > 0
    at_low = at_split = at_high = 0
    for q in range(time.size):
        last = time[q] - delay
        tile = (last // length) * length
        stop = end[q]
        if q == 0 or begin[q] != begin[q - 1] or stop != end[q - 1]:
            # The first row of its key is found by halving; from there on each bound only advances.
            part = dated[begin[q] : stop]
            at_low = begin[q] + np.searchsorted(part, last - length, side="right")
            at_split = begin[q] + np.searchsorted(part, tile, side="left")
            at_high = begin[q] + np.searchsorted(part, last, side="right")
        if by_order:
            at_high = own[q] + 1 if includes_row else own[q]
        else:
            while at_high < stop and dated[at_high] <= last:
                at_high += 1
        while at_low < stop and dated[at_low] <= last - length:
            at_low += 1
        while at_split < stop and dated[at_split] < tile:
            at_split += 1
        high[q] = at_high
        low[q] = min(at_low, at_high)
        split[q] = min(at_split, at_high)


@numba.njit(
    types.void(
        _I8, _I8, _I8, _I8, types.int64, types.int64, types.int64, types.int64[::1], types.int64[::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def tiles(
    time: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    number: np.ndarray,
    length: int,
    delay: int,
    hop: int,
    low: np.ndarray,
    high: np.ndarray,
) -> None:
    """Write which tiles each row's window has: a tail in hops, and up to the row, or with a delay up to the last whole hop.

    Args:
        time: (q,) µs.
        begin: (q,) first tile of the row's key.
        end: (q,) behind the last one.
        number: (e,) of the tiles: time // hop.
        length: of the window, µs.
        delay: how long before the row it ends, µs.
        hop: length of the tiles, µs.
        low: (q,) written: first tile.
        high: (q,) written: behind the last tile.
    """
    at_low = at_high = 0
    for q in range(time.size):
        last = time[q] - delay
        first, stop = (last - length) // hop, last // hop + (1 if delay == 0 else 0)
        if q == 0 or begin[q] != begin[q - 1] or end[q] != end[q - 1]:
            part = number[begin[q] : end[q]]
            at_low = begin[q] + np.searchsorted(part, first, side="left")
            at_high = begin[q] + np.searchsorted(part, stop, side="left")
        while at_low < end[q] and number[at_low] < first:
            at_low += 1
        while at_high < end[q] and number[at_high] < stop:
            at_high += 1
        low[q], high[q] = at_low, at_high
