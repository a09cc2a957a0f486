"""When labelled rows are learned: once they mature, so that rows of one time are learned together.

A report comes within days, and that none comes is known only at maturity. Learned as they become known, the newest rows
would be reported ones alone, and whatever is new in the features would look like a cause of reports.
"""

import numpy as np
import pyarrow as pa

from beam_ml.beam.job.job import Job
from beam_ml.beam.job.raw import ReportedLabels
from beam_ml.beam.rounds.prepare.dated import some, times_of
from beam_ml.formats.block import Block
from beam_ml.formats.stacked import stacked
from beam_ml.late_labels import KNOWN_AT

__all__ = ["matured"]


def matured(
    job: Job, labels: ReportedLabels, early: Block | None, released: Block, until: int
) -> tuple[Block, Block | None]:
    """Return the rows to learn, in order of the time when they are learned, and those that are early still; None: none.

    With t a row's event time, it is learned at ``max(known at, t + maturity)``, which is its `known_at` from then on.

    Args:
        job: has the column of event times.
        labels: of the job.
        early: from rounds before, as they were returned.
        released: by the join in this round.
        until: the clock: what is learned before it is due, µs.
    """
    parts = [one for one in (early, released) if one is not None and len(one)]
    if not parts:
        return released, None
    rows = Block(stacked([one.batch for one in parts]))
    known = rows.batch.column(KNOWN_AT).cast(pa.int64()).to_numpy()
    at = np.maximum(known, times_of(job, rows).us + labels.maturity_us)
    due = at < until
    late = None if due.all() else some(rows, ~due)
    at, rows = at[due], some(rows, due)
    order = np.argsort(at, kind="stable")
    place = rows.batch.schema.get_field_index(KNOWN_AT)
    field = rows.batch.schema.field(place)
    times = pa.array(at[order]).cast(field.type)
    return Block(rows.batch.take(pa.array(order)).set_column(place, field, times)), late
