"""HyperLogLog in tiles (Flajolet, Fusy, Gandouet and Meunier 2007).

A value's 64-bit code says its register by the highest bits, and its rank by the zeros that follow. Registers are merged by
their maximum, so that any order and any tree gives the same ones. Letters: ``q`` rows, ``e`` tiles, ``w`` windows, ``m``
registers.
"""

# mypy: disable-error-code="untyped-decorator"

import math

import numba
import numpy as np
from numba import types

__all__ = ["roll"]

_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I82 = types.Array(types.int64, 2, "C", readonly=True)
_U8 = types.Array(types.uint64, 1, "C", readonly=True)


@numba.njit(cache=True, nogil=True)
def _add(code: int, bits: int, e: int, tiles: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
    register = np.int64(np.uint64(code) >> np.uint64(64 - bits))
    rest = np.uint64(code) << np.uint64(bits)
    rank = 1
    while rank <= 64 - bits and not rest >> np.uint64(63):
        rest <<= np.uint64(1)
        rank += 1
    if rank > tiles[e, register]:
        tiles[e, register] = rank
        for w in range(first.size):
            if first[w] >= 0 and first[w] <= e < last[w]:
                first[w] = -1


@numba.njit(cache=True, nogil=True)
def _estimate(registers: np.ndarray) -> float:
    """Return how many different codes some registers have seen, to the nearest whole number."""
    m, zeros, total = registers.size, 0, 0.0
    for r in range(m):
        zeros += registers[r] == 0
        total += 2.0 ** -np.float64(registers[r])
    alpha = 0.673 if m == 16 else 0.697 if m == 32 else 0.709 if m == 64 else 0.7213 / (1.0 + 1.079 / m)
    raw = alpha * m * m / total
    if raw <= 2.5 * m and zeros:
        raw = m * math.log(m / zeros)
    return np.float64(np.rint(raw))


@numba.njit(
    types.void(_U8, types.uint64, _I8, _I8, _I82, _I82, types.boolean, types.uint8[:, ::1], types.float64[:, ::1]),
    cache=True,
    nogil=True,
)
def roll(
    codes: np.ndarray,
    nothing: int,
    into: np.ndarray,
    begin: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    includes_row: bool,
    tiles: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add each row's code to its tile and write how many different ones its windows have, about, row after row.

    Args:
        codes: (q,).
        nothing: the code of none.
        into: (q,) the tile that each belongs to; −1: none.
        begin: (q,) the first tile of the row's key.
        low: (w, q) first tile of each window.
        high: (w, q) behind its last tile.
        includes_row: whether a row counts for itself.
        tiles: (e, m) registers; updated.
        out: (w, q) written.
    """
    n_windows, m = low.shape[0], tiles.shape[1]
    bits = 0
    while 1 << bits < m:
        bits += 1
    fold = np.zeros((n_windows, m), np.uint8)
    whole = np.zeros(m, np.uint8)
    first, last = np.full(n_windows, -1), np.full(n_windows, -1)
    for q in range(codes.size):
        if q and begin[q] != begin[q - 1]:
            first[:] = -1
        adds = into[q] >= 0 and codes[q] != nothing
        if includes_row and adds:
            _add(codes[q], bits, into[q], tiles, first, last)
        for w in range(n_windows):
            begin_w, stop = low[w, q], high[w, q]
            if stop <= begin_w:
                out[w, q] = 0.0
                continue
            if first[w] != begin_w or last[w] != stop - 1:
                fold[w, :] = 0
                for e in range(begin_w, stop - 1):
                    for r in range(m):
                        fold[w, r] = max(fold[w, r], tiles[e, r])
                first[w], last[w] = begin_w, stop - 1
            for r in range(m):
                whole[r] = max(fold[w, r], tiles[stop - 1, r])
            out[w, q] = _estimate(whole)
        if not includes_row and adds:
            _add(codes[q], bits, into[q], tiles, first, last)
