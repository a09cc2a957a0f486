"""Event-time windows: cutting batches at window bounds, judging late rows, watermarks. All times in µs since the epoch."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.core.leaps import FAR, without_far
from beam_ml.core.spec import to_us
from beam_ml.errors import InvalidBatch, InvalidValue

__all__ = ["ROUND", "Slices", "Windows", "cut", "watermark"]

ROUND = -(2**63)
"""Window end that stands for "all of this round" when windows are rounds: no event time lies before it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Windows:
    """How rows are assigned to windows.

    Attributes:
        size_us: length of the fixed windows; None: all of a round is one window.
        allowed_lateness_us: how far behind the last folded window a row may lie and still enter the earliest open one.
        max_ahead_us: how far past `now` an event time may lie before its row is rejected.
        max_leap_us: how far ahead of all other rows few of a batch may be dated before they are rejected
            (`beam_ml.core.leaps`); None: any.
    """

    size_us: int | None
    allowed_lateness_us: int = 0
    max_ahead_us: int | None = None
    max_leap_us: int | None = None

    def __post_init__(self) -> None:
        if self.size_us is not None and self.size_us < 1:
            message = f"Windows.size_us must be at least 1; got {self.size_us}."
            raise InvalidValue(message)

    @staticmethod
    def of_seconds(size: float | None, allowed_lateness: float = 0.0, max_ahead: float | None = None) -> "Windows":
        """Build from seconds, each to the nearest µs.

        Raises:
            InvalidValue: a size that is less than 1 µs.

        >>> Windows.of_seconds(0.1).size_us
        100000
        """
        size_us = None if size is None else to_us(size)
        if size_us is not None and size_us < 1:
            message = f"refresh must be 'round' or at least 1 µs; got {size} s."
            raise InvalidValue(message)
        return Windows(size_us, to_us(allowed_lateness), None if max_ahead is None else to_us(max_ahead))


@dataclasses.dataclass(frozen=True, slots=True)
class Slices:
    """One batch, cut.

    Attributes:
        windows: window end → (rows, number of late rows among them).
        rejected: reason → rows.
        set_back: how many rows have had their event time set back: the last ones of the last piece of the last window.
    """

    windows: dict[int, list[tuple[Batch, int]]]
    rejected: dict[str, Batch]
    set_back: int = 0


def cut(batch: Batch, windows: Windows, folded_through: int | None, now_us: int, newest: int | None = None) -> Slices:
    """Cut a batch at window bounds.

    Args:
        batch: n rows.
        windows: the job's windows.
        folded_through: end of the last folded window; rows before it are late.
        now_us: the clock that `max_ahead_us` is measured from.
        newest: newest event time of what was learned before.

    Raises:
        InvalidBatch: windows go by event time and the batch has none.
    """
    if len(batch) == 0:
        return Slices({}, {})
    if windows.size_us is not None and batch.time is None:
        message = "refresh by event time needs event times; got a batch without time (refresh = 'round' needs none)."
        raise InvalidBatch(message)
    rejected: dict[str, Batch] = {}
    if windows.max_ahead_us is not None and batch.time is not None:
        ahead = batch.time > now_us + windows.max_ahead_us
        if ahead.any():
            rejected["event time too far ahead"] = batch.take(ahead)
            batch = batch.take(~ahead)
    batch, far, set_back = without_far(batch, windows.max_leap_us, newest)
    if far is not None:
        rejected[FAR] = far
    if windows.size_us is None:
        return Slices({ROUND: [(batch, 0)]} if len(batch) else {}, rejected, set_back)
    parts: dict[int, list[tuple[Batch, int]]] = {}
    if len(batch) == 0:
        return Slices(parts, rejected, set_back)
    assert batch.time is not None  # noqa: S101 checked above
    if folded_through is not None and int(batch.time.min()) < folded_through:
        late = batch.time < folded_through
        too_late = batch.time < folded_through - windows.allowed_lateness_us
        if too_late.any():
            rejected["late"] = batch.take(too_late)
            set_back = 0 if too_late[-1] else set_back  # they have one time, and end the batch
        joins = batch.take(late & ~too_late)
        if len(joins):
            # Aligned, though an earlier job may have folded through a bound of windows of another size.
            earliest = (folded_through // windows.size_us + 1) * windows.size_us
            parts[earliest] = [(joins, len(joins))]
        batch = batch.take(~late)
    for end, rows in _by_window(batch, windows.size_us):
        parts.setdefault(end, []).append((rows, 0))
    return Slices(dict(sorted(parts.items())), rejected, set_back)


def _by_window(batch: Batch, size_us: int) -> Iterable[tuple[int, Batch]]:
    if len(batch) == 0:
        return
    assert batch.time is not None  # noqa: S101
    low, high = int(batch.time.min()) // size_us, int(batch.time.max()) // size_us
    if low == high:
        yield (low + 1) * size_us, batch
        return
    number = batch.time // size_us
    if np.any(number[1:] < number[:-1]):
        order = np.argsort(number, kind="stable")
        batch, number = batch.take(order), number[order]
    bounds = np.flatnonzero(np.diff(number)) + 1
    for start, stop in zip([0, *bounds.tolist()], [*bounds.tolist(), len(batch)], strict=True):
        yield (int(number[start]) + 1) * size_us, batch.take(slice(start, stop))


def watermark(newest: Iterable[int], out_of_orderness_us: int) -> int | None:
    """Return the time before which no more rows are expected: the slowest partition's newest event time, less the slack.

    >>> watermark([50, 30], 5)
    25
    """
    times = list(newest)
    return min(times) - out_of_orderness_us if times else None
