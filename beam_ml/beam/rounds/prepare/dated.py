"""Raw rows and their event times: rows that have none, or one that may not drive the clock, are rejected. Times in µs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_ml.beam.job.job import Job
from beam_ml.beam.rounds.prepare.kept import BEGINNING
from beam_ml.core.leaps import FAR, far_ahead
from beam_ml.core.leaps import newest as newest_of
from beam_ml.core.rejects import UNPLACED, Reject
from beam_ml.core.spec import to_us
from beam_ml.features.times import EventTime, Times, times_us
from beam_ml.formats.block import Block

__all__ = ["Dated", "dated", "reject_of", "reports_dated", "some", "times_of"]

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


def reports_dated(job: Job, blocks: Sequence[Block], newest: int, now_us: int) -> tuple[list[Block], int]:
    """Return reports without those dated in the future, which are rejects of their blocks; and the newest time that counts.

    A report that is dated far ahead of all else is kept, and does not count: reports that are older come behind it.

    Args:
        job: has labels.
        blocks: of reports.
        newest: newest event time of rows and of earlier reports, µs.
        now_us: the clock of a source whose reports do not say when they were recorded.
    """
    labels = job.labels
    assert labels is not None  # noqa: S101
    (name, unit), ahead = labels.dated(True), to_us(labels.source.max_ahead)
    found, good = [], [np.zeros(0, np.int64)]
    for block in blocks:
        times = times_us(block.batch, name, "job.labels.reported", unit)
        usable = np.ones(len(block), bool) if times.unusable is None else ~times.unusable
        late = usable & (times.us > (now_us if block.recorded is None else block.recorded) + ahead)
        good.append(times.us[usable & ~late])
        if late.any():
            refused = (*block.rejected, reject_of(block, late, _AHEAD))
            block = some(block, ~late).replace(rejected=refused)
        found.append(block)
    every = np.concatenate(good)
    return found, newest_of(every, job.windows().max_leap_us, newest) if every.size else BEGINNING


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
    leap, sizes = job.windows().max_leap_us, [one.size for one in good]
    every = np.concatenate([one.us for one in read]) if read else np.zeros(0, np.int64)
    mask, whole = np.zeros(every.size, bool), np.concatenate(good) if good else np.zeros(0, bool)
    found = None if leap is None else far_ahead(every[whole], leap, newest)
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
