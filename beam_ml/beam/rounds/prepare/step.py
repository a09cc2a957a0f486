"""One round of raw rows: windows are rolled, rows get their features, labels are waited for. Pure.

Everything goes by event time. The clock of a round is the newest event time of the rows, less how far they may be out of
order and how late reports may be. What lies before it is prepared; the rest is held until a later round. So what comes out
in the end, and what is kept, does not depend on how rows and reports are cut into rounds.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from beam_ml import late_labels
from beam_ml.beam.job.job import Job
from beam_ml.beam.rounds.prepare.dated import Dated, dated, newest_row, reject_of, some, times_of
from beam_ml.beam.rounds.prepare.kept import BEGINNING, Kept, rule_of_known, windows_of
from beam_ml.beam.rounds.prepare.maturing import matured
from beam_ml.beam.rounds.prepare.reported import (
    is_label_row,
    label_rows,
    waiting_for,
    with_label_keys,
    without_label_keys,
)
from beam_ml.core.batch import Origin
from beam_ml.core.rejects import Reject
from beam_ml.core.spec import to_us
from beam_ml.features import rolling
from beam_ml.formats.block import Block
from beam_ml.formats.stacked import stacked
from beam_ml.late_labels import CORRECTION, KNOWN_AT, LABEL_WEIGHT, join

__all__ = ["PREPARED", "Arrived", "Prepared", "arrived", "prepare"]

PREPARED = "prepared"
"""The source in the origin of rows to be learned, which count from 0 on; the partition is where the raw rows came from."""
_LATE = "late for rolling features"


class Arrived(NamedTuple):
    """The raw rows of a round, and how far they take the clock.

    Attributes:
        rows: those with a time.
        rejected: the others.
        newest: newest event time so far, µs.
        until: the clock: what lies before it is prepared, µs.
    """

    rows: tuple[Dated, ...]
    rejected: tuple[Reject, ...]
    newest: int
    until: int


class Prepared(NamedTuple):
    """What a round of raw rows comes to.

    Attributes:
        featured: rows with their rolling features, as they are to be scored.
        rows: to be learned, in one block that counts them from those of earlier rounds on.
        rejected: rows and reports that were refused, each with its origin.
        counts: what became of reports, and of the rows that waited for them.
        kept: for the next round.
    """

    featured: tuple[Block, ...]
    rows: Block
    rejected: tuple[Reject, ...]
    counts: Counter[str]
    kept: Kept


def arrived(job: Job, kept: Kept, blocks: Sequence[Block], now_us: int) -> Arrived:
    """Date the rows of a round, and set its clock.

    Args:
        job: the deployment.
        kept: by the round before.
        blocks: of raw rows.
        now_us: the clock on the wall, which rows may not be far ahead of.
    """
    known = max(kept.newest, kept.until)  # a stream's watermark passes rows that alone move no clock
    before = None if known == BEGINNING else known
    rows, rejected = dated(job, blocks, before, now_us)
    found = newest_row(job, rows, [times_of(job, block).us for block in kept.held], before)
    newest = BEGINNING if found is None else found
    late = 0 if job.labels is None else job.labels.lateness_us
    until = BEGINNING if newest == BEGINNING else newest - to_us(job.source.out_of_orderness) - late
    return Arrived(tuple(rows), tuple(rejected), newest, max(until, kept.until))


def prepare(job: Job, kept: Kept, came: Arrived, reports: Sequence[Block]) -> Prepared:
    """Prepare what lies before the clock.

    Args:
        job: the deployment.
        kept: by the round before.
        came: the rows of this round.
        reports: its reports, at least all that are dated before the clock.

    Raises:
        MissingColumn, InvalidValue: a column is absent or has another type; a state has grown too large.
    """
    waited = [Dated(block, times_of(job, block).us) for block in kept.held]
    ready, held, rejected = _due(kept, [*waited, *came.rows], came.until)
    rejected += came.rejected
    featured, states, known, refused = _rolled(job, kept, ready, reports, came.until)
    rejected += refused
    labels, waiting, early, counts = job.labels, kept.waiting, kept.early, Counter[str]()
    if labels is None:
        rows = _numbered(job, featured, kept.released)
    else:
        assert waiting is not None  # noqa: S101
        columns = _before_its_label(job)
        given = [_only(block, columns) for block in featured]
        joined = join(labels.rule, waiting, given, reports, came.until + labels.lateness_us)
        waiting, counts, rows = joined.state, joined.counts, joined.released
        rejected += joined.rejected
        if labels.learned == "mature":
            rows, early = matured(job, labels, early, rows, came.until)
        stop = kept.released + len(rows)
        places = np.arange(kept.released, stop, dtype=np.int64)
        rows = Block(rows.batch, Origin(PREPARED, job.source.where), places, None, kept.released, stop)
    after = dataclasses.replace(
        kept, until=came.until, newest=came.newest, released=rows.stop, held=tuple(held), rolling=states, known=known,
        waiting=waiting, early=early,
    )  # fmt: skip
    return Prepared(tuple(featured), rows, tuple(rejected), counts, after)


def _due(kept: Kept, rows: Sequence[Dated], until: int) -> tuple[list[Block], list[Block], list[Reject]]:
    """Return blocks of the rows that lie before the clock, of those that are held, and the rows that came too late."""
    ready: list[Block] = []
    held: list[Block] = []
    rejected: list[Reject] = []
    for block, times in rows:
        late = times < kept.until
        if late.any():
            rejected.append(reject_of(block, late, _LATE))
        due = ~late & (times < until)
        for into, where in ((ready, due), (held, times >= until)):
            if where.any():
                into.append(some(block, where))
    return ready, held, rejected


def _rolled(
    job: Job, kept: Kept, ready: list[Block], reports: Sequence[Block], until: int
) -> tuple[list[Block], Mapping[int, rolling.State], late_labels.State | None, list[Reject]]:
    """Return rows with their rolling features, the states after them, and the rows that have no place in a window."""
    labels, known = job.labels, kept.known
    if job.rolling is None:
        return ready, kept.rolling, known, []
    keys: list[str] = []
    told: list[Block] = []
    if labels is not None and known is not None:
        keys = waiting_for(job.rolling, labels)
        raw = [_only(block, [labels.id, labels.dated(False)[0], *keys]) for block in ready]
        joined = join(rule_of_known(labels), known, raw, reports, until + labels.lateness_us)
        known = joined.state
        told = [label_rows(joined.released, job.rolling, labels, keys)] if len(joined.released) else []
        ready = [with_label_keys(block, keys, labels.label_column) for block in ready]
    done = rolling.roll_blocks(windows_of(job), kept.rolling, [*ready, *told], before=until)
    assert not done.open  # noqa: S101 all that is rolled lies before the clock
    featured, rejected = [], []
    for block in done.blocks:
        if is_label_row(block):
            continue
        rejected += [reject.of(block.origin) for reject in block.rejected]
        block = block.replace(rejected=())
        featured.append(without_label_keys(block, keys, labels.label_column) if labels is not None and keys else block)
    return featured, done.states, known, rejected


def _before_its_label(job: Job) -> list[str]:
    """Return the columns that a row keeps while it waits for its label."""
    labels = job.labels
    assert labels is not None  # noqa: S101
    added = {labels.label_column, KNOWN_AT, LABEL_WEIGHT, CORRECTION}
    wanted = [name for name in job.features.columns() if name not in added]
    return list(dict.fromkeys([labels.id, labels.dated(False)[0], *wanted]))


def _only(block: Block, columns: Sequence[str]) -> Block:
    return block.replace(batch=block.batch.select(list(dict.fromkeys(columns))))


def _numbered(job: Job, blocks: Sequence[Block], first: int) -> Block:
    """Return rows in order of event time, equal times by origin and place, as one block that counts them."""
    origin, stop = Origin(PREPARED, job.source.where), first + sum(map(len, blocks))
    places = np.arange(first, stop, dtype=np.int64)
    if first == stop:
        return Block(pa.record_batch({}), origin, places, None, first, stop)
    times = np.concatenate([times_of(job, block).us for block in blocks])
    names = sorted({_name_of(block) for block in blocks})
    rank = np.concatenate([np.full(len(block), names.index(_name_of(block))) for block in blocks])
    place = np.concatenate([np.arange(len(one)) if one.position is None else one.position for one in blocks])
    order = np.lexsort((place, rank, times))
    batch = stacked([block.batch for block in blocks]).take(pa.array(order))
    return Block(batch, origin, places, None, first, stop)


def _name_of(block: Block) -> tuple[str, str]:
    return ("", "") if block.origin is None else (block.origin.source, block.origin.partition)
