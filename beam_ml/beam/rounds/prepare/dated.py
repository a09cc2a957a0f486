"""Raw rows and their event times: rows that have none, or one that may not drive the clock, are rejected. Times in µs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_ml.beam.job.job import Job
from beam_ml.beam.job.raw import ReportedLabels
from beam_ml.core.leaps import FAR, far_ahead, leap_us
from beam_ml.core.rejects import UNPLACED, Reject
from beam_ml.core.spec import to_us
from beam_ml.features.times import EventTime, Times, times_us
from beam_ml.formats.block import Block

__all__ = ["Dated", "dated", "newest_row", "reject_of", "report_times", "reports_dated", "some", "times_of"]

_FIELD = "the job's column of event times"
_AHEAD = "event time in the future"


class Dated(NamedTuple):
    """A block of rows that have a time.

    Attributes:
        block: n rows; it rejects nothing itself any more.
        times: (n,) int64 event times, µs.
    """

    block: Block
    times: np.ndarray


def dated(job: Job, blocks: Sequence[Block], newest: int | None, now_us: int) -> tuple[list[Dated], list[Reject]]:
    """Return the rows with a time, and all other rows as rejects with their origin.

    Args:
        job: has the column of event times and says how far ahead a row may be dated.
        blocks: of rows.
        newest: newest event time of earlier rows; None: there were none.
        now_us: the clock of a source whose rows do not say when they were recorded.
    """
    rejected = [reject.of(block.origin) for block in blocks for reject in block.rejected]
    read = [times_of(job, block) for block in blocks]
    broken = [_broken(job, block, times, now_us) for block, times in zip(blocks, read, strict=True)]
    good = [~np.logical_or.reduce(list(one.values())) for one in broken]
    for one, far in zip(broken, _far(job, read, good, newest), strict=True):
        one[FAR] = far
    found = []
    for block, times, reasons in zip(blocks, read, broken, strict=True):
        left = np.ones(len(block), bool)
        for reason, where in reasons.items():
            if (left & where).any():
                rejected.append(reject_of(block, left & where, reason))
            left &= ~where
        found.append(Dated(some(block.replace(rejected=()), left), times.us[left]))
    return found, rejected


def newest_row(job: Job, rows: Sequence[Dated], held: Sequence[np.ndarray], newest: int | None) -> int | None:
    """Return the newest event time that the clock goes by, µs; None: there was no row.

    A single row that is dated far ahead of all before it may be a typing error, or the first one after a pause. It is held,
    and moves nothing until another row comes that is dated far ahead, too.

    Args:
        job: says what is far.
        rows: that came, those refused left out.
        held: event times of rows that are held.
        newest: newest event time of earlier rows.
    """
    every = np.concatenate([np.zeros(0, np.int64), *(one.times for one in rows)])
    if not every.size:
        return newest
    top = int(every.max())
    if newest is None or every.size > 1 or top <= newest + leap_of(job):
        return top if newest is None else max(newest, top)
    also = np.concatenate([np.zeros(0, np.int64), *held])
    also = also[also > newest + leap_of(job)]
    return min(top, int(also.min())) if also.size else newest


def leap_of(job: Job) -> int:
    """Return how far ahead of all others few rows may be dated, µs: time drives the clock, whatever else it drives."""
    windows = job.windows()
    found = windows.max_leap_us
    if found is None:
        found = leap_us(job.source.max_leap, windows.size_us or 0)
    assert found is not None  # noqa: S101 a length of windows is given
    return found


def reports_dated(job: Job, blocks: Sequence[Block], now_us: int) -> list[Block]:
    """Return reports without those dated in the future, which are rejects of their blocks.

    Args:
        job: has labels.
        blocks: of reports.
        now_us: the clock of a source whose reports do not say when they were recorded.
    """
    labels = job.labels
    assert labels is not None  # noqa: S101
    ahead, found = to_us(labels.source.max_ahead), []
    for block in blocks:
        times = _report_times(labels, block)
        late = times.us > (now_us if block.recorded is None else block.recorded) + ahead
        if times.unusable is not None:
            late &= ~times.unusable
        if late.any():
            refused = (*block.rejected, reject_of(block, late, _AHEAD))
            block = some(block, ~late).replace(rejected=refused)
        found.append(block)
    return found


def report_times(job: Job, block: Block) -> np.ndarray:
    """Return the event times of reports that have one, µs."""
    assert job.labels is not None  # noqa: S101
    times = _report_times(job.labels, block)
    return times.us if times.unusable is None else times.us[~times.unusable]


def _report_times(labels: ReportedLabels, block: Block) -> Times:
    name, unit = labels.dated(True)
    return times_us(block.batch, name, "job.labels.reported", unit)


def times_of(job: Job, block: Block) -> Times:
    """Return the event times of a block of raw rows."""
    term = job.event_time
    assert term is not None  # noqa: S101 a job that prepares rows has one
    name, unit = (term.column, term.unit) if isinstance(term, EventTime) else (term, None)
    return times_us(block.batch, name, _FIELD, unit)


def _broken(job: Job, block: Block, times: Times, now_us: int) -> dict[str, np.ndarray]:
    """Return where rows have no time that can be used, by reason."""
    none = np.zeros(len(block), bool)
    recorded = now_us if block.recorded is None else block.recorded
    return {
        "missing event time": none if times.missing is None else times.missing,
        "event time cannot be read": none if times.unread is None else times.unread,
        "implausible event time": none if times.implausible is None else times.implausible,
        _AHEAD: times.us > recorded + to_us(job.source.max_ahead),
    }


def _far(job: Job, read: Sequence[Times], good: Sequence[np.ndarray], newest: int | None) -> list[np.ndarray]:
    """Return where rows are dated far ahead of all others, by block."""
    sizes = [one.size for one in good]
    every = np.concatenate([one.us for one in read]) if read else np.zeros(0, np.int64)
    mask, whole = np.zeros(every.size, bool), np.concatenate(good) if good else np.zeros(0, bool)
    found = far_ahead(every[whole], leap_of(job), newest)
    if found is not None:
        mask[np.flatnonzero(whole)[found]] = True
    return np.split(mask, np.cumsum(sizes)[:-1]) if sizes else []


def some(block: Block, keep: np.ndarray) -> Block:
    """Return a block of some of its rows; its span stays as it is.

    Args:
        block: n rows.
        keep: (n,) bool.
    """
    if keep.all():
        return block
    position, end, recorded = (
        None if one is None else one[keep] for one in (block.position, block.position_end, block.recorded)
    )
    batch = block.batch.filter(pa.array(keep))
    return block.replace(batch=batch, position=position, position_end=end, recorded=recorded)


def reject_of(block: Block, rows: np.ndarray, reason: str) -> Reject:
    """Return rows of a block as a reject that knows its origin.

    Args:
        block: n rows.
        rows: (n,) bool.
        reason: why.
    """
    place = np.full(len(block), UNPLACED, np.int64) if block.position is None else block.position
    end = None if block.position_end is None else block.position_end[rows]
    return Reject(reason, place[rows], end, (), block.origin)
