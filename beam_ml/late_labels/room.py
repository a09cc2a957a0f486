"""What a shard keeps of the rows and reports that wait: no more than it has room for."""

import dataclasses

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.rejects import Reject
from beam_ml.kernels.late_labels import resolve as kernel
from beam_ml.late_labels.spec import LateLabels
from beam_ml.late_labels.state import NO_ORIGIN, Items

__all__ = ["Kept", "kept"]

NO_ROOM, NO_ROOM_REPORT = "no room to wait for a label", "no room for a report"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What is held from now on.

    Attributes:
        rows, columns, reports, origins: as in `State`.
        rejected: what there was no room for.
        forgotten: rows that had been emitted and can no longer be corrected, for want of room.
    """

    rows: Items
    columns: pa.RecordBatch | None
    reports: Items
    origins: tuple[Origin, ...]
    rejected: tuple[Reject, ...]
    forgotten: int


def kept(
    spec: LateLabels,
    rows: Items,
    columns: pa.RecordBatch | None,
    reports: Items,
    origins: tuple[Origin, ...],
) -> Kept:
    """Keep the oldest reports and rows that wait, then the newest rows that were emitted, and the origins that they name."""
    rejected: list[Reject] = []
    if len(reports) > spec.most_rows:
        order = np.argsort(reports.time, kind="stable")
        rejected += reports.rejects(np.sort(order[spec.most_rows :]), NO_ROOM_REPORT, origins)
        reports = reports.take(np.sort(order[: spec.most_rows]))
    emitted = rows.status > kernel.WAITING
    rank = np.lexsort((np.where(emitted, -rows.time, rows.time), emitted))
    room = _room(spec, columns, rank)
    over, forgotten = rank[room:], int(emitted[rank[room:]].sum())
    if over.size:
        rejected += rows.rejects(np.sort(over[~emitted[over]]), NO_ROOM, origins)
        left = np.sort(rank[:room])
        rows, columns = rows.take(left), None if columns is None else columns.take(pa.array(left, pa.int64()))
    named = np.unique(np.concatenate([rows.origin, reports.origin]))
    named = named[named != NO_ORIGIN]
    number = np.full(len(origins) + 1, NO_ORIGIN, dtype=np.int32)  # the last is that of NO_ORIGIN, −1
    number[named] = np.arange(named.size)
    rows, reports = (dataclasses.replace(one, origin=number[one.origin]) for one in (rows, reports))
    return Kept(rows, columns, reports, tuple(origins[i] for i in named), tuple(rejected), forgotten)


def _room(spec: LateLabels, columns: pa.RecordBatch | None, rank: np.ndarray) -> int:
    """Return how many rows there is room for, in order of rank."""
    room, size = min(spec.most_rows, rank.size), 0 if columns is None else columns.nbytes
    while columns is not None and room and size > spec.most_bytes:
        room = min(room - 1, room * spec.most_bytes // size)
        size = columns.take(pa.array(np.sort(rank[:room]), pa.int64())).nbytes
    return room
