"""Categories in windows: how many there are, and which are the most frequent. Letters: ``q`` rows, ``c`` values."""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

__all__ = ["counts"]

_I8 = types.Array(types.int64, 1, "C", readonly=True)


@numba.njit(cache=True, nogil=True)
def _most(category: np.ndarray, count: np.ndarray, first: int, last: int, top: np.ndarray) -> None:
    """Write the most frequent of the categories in some values; counts become negative meanwhile, where one is seen."""
    k = top.size
    top[:] = -1
    for i in range(first, last):
        one = category[i]
        if one < 0 or count[one] <= 0:
            continue
        n = count[one]
        at = k
        while at > 0:
            other = top[at - 1]
            if other >= 0 and (-count[other] > n or (-count[other] == n and other < one)):
                break
            at -= 1
        if at < k:
            for j in range(k - 1, at, -1):
                top[j] = top[j - 1]
            top[at] = one
        count[one] = -n
    for i in range(first, last):
        one = category[i]
        if one >= 0 and count[one] < 0:
            count[one] = -count[one]


@numba.njit(
    types.void(
        _I8, _I8, _I8, _I8, _I8, _I8, _I8, _I8, types.boolean, types.boolean, types.int64[::1], types.float64[::1],
        types.int64[:, ::1],
    ),
    cache=True,
    nogil=True,
)  # fmt: skip
def counts(
    category: np.ndarray,
    known: np.ndarray,
    came: np.ndarray,
    time: np.ndarray,
    number: np.ndarray,
    begin: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    includes_row: bool,
    filtered: bool,
    count: np.ndarray,
    distinct: np.ndarray,
    top: np.ndarray,
) -> None:
    """Write how many categories each row's window has, and which are most frequent, of equal ones those of lower numbers.

    Args:
        category: (c,) numbers of the categories; −1: none.
        known: (c,) as in `folds.scan`.
        came: (c,) as there.
        time: (q,) as there.
        number: (q,) as there.
        begin: (q,) first value of the row's key.
        low: (q,) as `bounds.window` wrote it.
        high: (q,) as it wrote it.
        includes_row: whether what the row brought is known to it.
        filtered: whether values may be unknown to a row in whose window they are.
        count: (categories,) zeros; zeros again at the end.
        distinct: (q,) written.
        top: (q, k) written: categories; −1: there are no more.
    """
    first = last = 0  # the values counted
    different = 0
    k = top.shape[1]
    for q in range(time.size):
        latest = number[q] if includes_row else number[q] - 1
        if filtered or q == 0 or begin[q] != begin[q - 1]:
            for i in range(first, last):
                if category[i] >= 0:
                    count[category[i]] = 0
            first = last = low[q]
            different = 0
        while last < high[q]:
            one = category[last]
            if one >= 0 and (not filtered or (came[last] <= latest and known[last] <= time[q])):
                count[one] += 1
                different += count[one] == 1
            last += 1
        while first < low[q]:
            one = category[first]
            if one >= 0:
                count[one] -= 1
                different -= count[one] == 0
            first += 1
        distinct[q] = different
        if k:
            _most(category, count, first, last, top[q])
