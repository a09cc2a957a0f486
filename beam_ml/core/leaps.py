"""Rows dated far ahead of the data: a watermark and a decay reference may not be driven by a few of them. All times in µs.

Clocks and typing errors date single rows months or millennia ahead. Such a row would close every window up to its own, so
that all that follows is late, and would age all other rows to nothing. What is far is judged by the data's own times, not
by the clock, since a replay is older than the clock: of a batch, at most 1 % of the rows may be refused, and only where they
lie behind a gap that is longer than the bound and than four times every gap before it. What more rows share is a pause in
the data, and believed; so is a batch of a single row, which nothing can be compared with.

A row that others follow which are older is an error. Where none follows, it may as well be the first after a pause: it is
learned from, as of the newest time before it, and moves nothing; the rows that come next say what it was.
"""

import math

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.core.spec import to_us

__all__ = ["FAR", "SET_BACK", "far_ahead", "leap_us", "newest", "without_far"]

FAR = "event time far ahead of the data"
"""Why rows are rejected that lie behind a gap which no other row is behind, and which older ones follow."""

SET_BACK = "event time set back to the newest before a gap"
"""What was changed in rows behind such a gap which no older ones follow in their batch."""

_DAY_S = 86400.0
_WINDOWS = 3
"""A gap of some windows is usual: data of whole days pause over the weekend."""
_TIMES_LONGER = 4.0
_SHARE = 0.01


def leap_us(wanted_s: float | None, window_us: int | None = None, half_life_s: float | None = None) -> int | None:
    """Return how far ahead of all others single rows may be dated, µs; None: time drives neither windows nor decay.

    Args:
        wanted_s: as the user says; None: the longest of a day, three windows, and a half-life.
        window_us: length of the windows; None: rows are not put into windows by time.
        half_life_s: of the spec.

    >>> leap_us(None, window_us=2 * 86_400_000_000) // 86_400_000_000
    6
    """
    if window_us is None and half_life_s is None:
        return None
    if wanted_s is not None:
        return to_us(wanted_s)
    return max(to_us(max(_DAY_S, half_life_s or 0.0)), _WINDOWS * (window_us or 0))


def far_ahead(times: np.ndarray, most_us: int, known: int | None = None) -> np.ndarray | None:
    """Return the mask of rows dated far ahead of the others; None if there is none.

    Args:
        times: (n,) int64.
        most_us: gap that single rows may lie behind.
        known: newest time of what was learned before, which counts as one more row; what is no newer is not far.

    >>> far_ahead(np.array([10, 900, 30, 20]), 100)
    array([False,  True, False, False])
    >>> far_ahead(np.array([10, 20, 910, 900]), 100)
    """
    n = times.size
    if n < 2:
        return None
    low = int(times.min()) if known is None else min(known, int(times.min()))
    if int(times.max()) - low <= most_us:
        return None
    ordered = np.sort(times if known is None else np.append(times, np.int64(known))).astype(np.float64)
    gaps = np.diff(ordered)
    before = np.maximum.accumulate(gaps)  # before[i]: the longest of gaps[: i + 1]
    first = None
    for few in range(1, min(math.ceil(_SHARE * n), ordered.size - 2) + 1):
        at = gaps.size - few
        if known is not None and ordered[at + 1] <= float(known):
            break  # late rows come beside current ones: what is newer than all others only because those are late is not far
        if gaps[at] > max(most_us, _TIMES_LONGER * before[at - 1]):
            first = ordered[at + 1]
    if first is None:
        return None
    far: np.ndarray = times.astype(np.float64) >= first
    return far if 0 < far.sum() <= math.ceil(_SHARE * n) else None


def newest(times: np.ndarray, most_us: int | None, known: int | None = None) -> int:
    """Return the newest time that is not far ahead of the others."""
    far = None if most_us is None else far_ahead(times, most_us, known)
    return int(times.max() if far is None else times[~far].max())


def without_far(batch: Batch, most_us: int | None, known: int | None = None) -> tuple[Batch, Batch | None, int]:
    """Split a batch into the rows to take and those to reject, dated far ahead and followed by older ones.

    Args:
        batch: n rows, in the order in which they came.
        most_us: see `far_ahead`; None: all are taken as they are.
        known: newest time of what was learned before.

    Returns:
        The rows to take; the others, None if there are none; and how many of the rows to take, the last ones, have had their
        time set back to the newest before the gap.

    >>> times = [10, 900, 30, 20, 950]
    >>> good, far, set_back = without_far(Batch.dense([[0.0]] * 200, time=[*range(195), *times]), 300)
    >>> good.time[-4:].tolist(), far.time.tolist(), set_back
    ([10, 30, 20, 194], [900], 1)
    """
    far = None if most_us is None or batch.time is None else far_ahead(batch.time, most_us, known)
    if far is None:
        return batch, None, 0
    assert batch.time is not None  # noqa: S101 `far` was found in it
    others = batch.time[~far]
    at = int(others.max()) if known is None else max(known, int(others.max()))
    first = int(np.flatnonzero(~far)[-1]) + 1  # of the rows that no older one follows
    set_back = len(batch) - first
    if set_back:
        batch = batch.replace(time=np.append(batch.time[:first], np.full(set_back, at, dtype=np.int64)))
        far[first:] = False
    return (batch.take(~far), batch.take(far), set_back) if far.any() else (batch, None, set_back)
