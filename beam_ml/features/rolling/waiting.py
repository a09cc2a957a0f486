"""Putting rows back in order: those that came are held until none can come before them. Times in µs.

The watermark of a shard is its newest event time less the lateness, row by row in the order they come, so that it does not
depend on how they are cut into blocks. Equal times are ordered by origin and place. Without lateness rows are in order as
they come, and none waits.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from beam_ml.features.rolling.rows import Rows, concatenated
from beam_ml.features.rolling.spec import Rolling
from beam_ml.features.rolling.state import BEGINNING, State

__all__ = ["Released", "release"]


class Released(NamedTuple):
    """What a call lets go.

    Attributes:
        rows: in order, to be computed.
        late: rows that came too late.
        state: with the others waiting.
    """

    rows: Rows
    late: Rows
    state: State


def release(spec: Rolling, state: State, rows: Rows, before: int | None) -> Released:
    """Add rows to those that wait, and let those go whose turn it is.

    Args:
        spec: has the lateness.
        state: before the call.
        rows: in the order they came.
        before: rows dated before this are let go; None: those before the shard's own watermark.
    """
    newest = state.newest
    if before is None:
        seen = np.maximum.accumulate(np.concatenate([[state.newest], rows.time]))
        floor = np.maximum(np.maximum(seen[:-1], BEGINNING + spec.lateness_us) - spec.lateness_us, state.before)
        newest = int(seen[-1])
        through = max(max(newest, BEGINNING + spec.lateness_us) - spec.lateness_us, state.before)
    else:
        floor = np.full(len(rows), state.before)
        newest = max(newest, int(rows.time.max())) if len(rows) else newest
        through = max(before, state.before)
    is_late = rows.time < floor
    late = rows.take(is_late)
    rows = rows.take(~is_late) if len(late) else rows
    waiting = state.waiting
    if before is None and spec.lateness_us == 0:
        # Rows that another call holds back come first: they came first, and none of these is older than its last release.
        ready, rest = (
            _ordered(concatenated([waiting, rows])) if len(waiting) else rows,
            waiting.take(np.zeros(0, np.int64)),
        )
    else:
        held = concatenated([waiting, rows])
        due = held.time < through
        ready, rest = (held, held.take(np.zeros(0, np.int64))) if due.all() else (held.take(due), held.take(~due))
        ready = _ordered(ready)
    rest = _tidied(rest)
    changed = dataclasses.replace(state, before=through, newest=newest, late=state.late + len(late), waiting=rest)
    return Released(ready, late, changed)


def _ordered(rows: Rows) -> Rows:
    """Sort by time, then origin, then place; rows that are the same in all stay as they came."""
    if len(rows) < 2:
        return rows
    names = sorted({tag[:2] for tag in rows.tags})
    rank = np.array([names.index(tag[:2]) for tag in rows.tags], np.int64)[rows.tag]
    return rows.take(np.lexsort((rows.place, rank, rows.time)))


def _tidied(rows: Rows) -> Rows:
    """Sort what waits, and forget the tags that none of it has: equal rows make equal bytes."""
    if len(rows) == 0:
        return dataclasses.replace(rows, tags=())
    rows = _ordered(rows)
    used = np.unique(rows.tag)
    order = sorted(used.tolist(), key=lambda i: rows.tags[i])
    number = np.full(len(rows.tags), -1, np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    return dataclasses.replace(rows, tag=number[rows.tag], tags=tuple(rows.tags[i] for i in order))
