"""`join`: blocks of rows and of reports → rows with the label that was known, in order of the time when it was."""

import dataclasses
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.rejects import Reject
from beam_ml.formats.block import Block
from beam_ml.kernels.late_labels import resolve as kernel
from beam_ml.late_labels.arrivals import Arrived, arrived
from beam_ml.late_labels.room import kept
from beam_ml.late_labels.settle import Emitted, settle
from beam_ml.late_labels.spec import CORRECTION, KNOWN_AT, LABEL_WEIGHT, LateLabels
from beam_ml.late_labels.state import State

__all__ = ["END", "SOURCE", "Joined", "join"]

END = 1 << 62
"""A watermark behind which nothing comes: all is settled."""
SOURCE = "late_labels"
"""Source of the rows that are emitted; the partition is the shard."""

DUPLICATE, NO_ROW = "duplicate row", "report without a row"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """What a call of `join` returns.

    Attributes:
        released: rows with their label, in order of the time when it was known: their own columns, the label, `known_at`,
            `label_weight` and `correction`. Their places count from 0 on, per shard.
        rejected: rows and reports that were refused, and those that the blocks had rejected.
        counts: what became of rows and reports in this call.
        state: what is held after it.
    """

    released: Block
    rejected: tuple[Reject, ...]
    counts: Counter[str]
    state: State


def join(
    spec: LateLabels, state: State, rows: Iterable[Block] = (), reports: Iterable[Block] = (), until: int = END
) -> Joined:
    """Add rows and reports, settle what lies before the watermark less `lateness`, and return what that emits.

    However the same rows and reports are cut into calls and ordered, within `lateness`, the same rows are emitted in the
    same order, and the same state is left: items are settled in order of event time, not of arrival. That holds as long as
    the blocks' columns have the same types, and nothing is refused for want of room.

    Args:
        spec: what is joined, and how long rows wait.
        state: after the call before; not changed.
        rows: blocks of rows.
        reports: blocks of reports.
        until: the watermark, µs: what comes later is at most `lateness` older. One before the state's moves nothing.

    Raises:
        MissingColumn, InvalidValue: a block lacks a column, has one that the join adds, or a column has another type.

    >>> spec = LateLabels(id="tx", time="at", label="fraud", reported="at", maturity="1h")
    >>> at = [np.datetime64("2026-01-01T10:00", "us"), np.datetime64("2026-01-01T10:20", "us")]
    >>> rows = Block(pa.record_batch({"tx": [1, 2], "at": at, "amount": [5.0, 9.0]}))
    >>> reports = Block(pa.record_batch({"tx": [2], "at": [np.datetime64("2026-01-01T10:45", "us")], "fraud": [1]}))
    >>> joined = join(spec, State.empty(), [rows], [reports])
    >>> for row in joined.released.to_dicts():
    ...     print(row["tx"], row["fraud"], f"{row['known_at']:%H:%M}")
    2 1.0 10:45
    1 0.0 11:00
    >>> sorted(joined.counts.items())
    [('labelled', 1), ('reports', 1), ('rows', 2), ('unreported', 1)]
    """
    found = arrived(spec, state, list(rows), list(reports))
    clock = max(state.clock, END if until >= END else until - spec.lateness_us)
    settled = settle(spec, found, clock)
    released = _released(spec, state, found, settled.emitted)
    rejected = [
        *found.rejected,
        *settled.rows.rejects(settled.numbers(False, kernel.DUPLICATE), DUPLICATE, found.origins),
        *settled.reports.rejects(settled.numbers(True, kernel.UNMATCHED), NO_ROW, found.origins),
    ]
    wait, said = settled.numbers(False, kernel.KEPT), settled.numbers(True, kernel.KEPT)
    columns = None if found.columns is None else found.columns.take(pa.array(wait, pa.int64()))
    left = kept(spec, settled.rows.take(wait), columns, settled.reports.take(said), found.origins)
    rejected += left.rejected
    counts = settled.counts + Counter(rows=found.taken[0], reports=found.taken[1])
    counts["forgotten early"] = left.forgotten
    for reject in rejected:
        counts[reject.reason] += len(reject)
    counts = +counts
    after = State(
        state.shard, clock, released.stop, state.counts + counts, left.rows, left.columns, left.reports, left.origins
    )
    return Joined(released, tuple(rejected), counts, after)


def _released(spec: LateLabels, state: State, found: Arrived, emitted: Emitted) -> Block:
    """Return what is emitted, by the time when it was known, then by that of the row; else as it was settled."""
    least = {"pair": -1, "add": 0}.get(spec.corrections)
    wanted = emitted.correction == 0 if least is None else emitted.correction >= least
    emitted = emitted.take(np.flatnonzero(wanted))
    emitted = emitted.take(np.lexsort((found.rows.time[emitted.row], emitted.known)))
    weight = np.where(emitted.correction < 0, -1.0, 1.0)
    arrays: dict[str, pa.Array] = {}
    if found.columns is not None:
        taken = found.columns.take(pa.array(emitted.row, pa.int64()))
        arrays = dict(zip(taken.schema.names, taken.columns, strict=True))
    arrays[spec.label_column] = pa.array(emitted.label, pa.float64())
    arrays[KNOWN_AT] = pa.array(emitted.known).cast(pa.timestamp("us", tz="UTC"))
    arrays[LABEL_WEIGHT] = pa.array(weight)
    arrays[CORRECTION] = pa.array(emitted.correction.astype(np.int8))
    stop = state.released + weight.size
    places = np.arange(state.released, stop)
    return Block(pa.record_batch(arrays), Origin(SOURCE, str(state.shard)), places, None, state.released, stop)
