"""Blocks of rows and of reports as items; what cannot be joined is refused at the door."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.rejects import UNPLACED, Reject
from beam_ml.errors import InvalidValue
from beam_ml.features.ids import ids_of
from beam_ml.features.labels import labelled
from beam_ml.features.times import times_us
from beam_ml.formats.block import Block
from beam_ml.formats.stacked import stacked
from beam_ml.kernels.late_labels.resolve import FRESH
from beam_ml.late_labels.spec import CORRECTION, KNOWN_AT, LABEL_WEIGHT, LateLabels
from beam_ml.late_labels.state import NO_ORIGIN, Items, State, concatenated

__all__ = ["LATE_REPORT", "LATE_ROW", "Arrived", "arrived", "due_of"]

LATE_ROW, LATE_REPORT = "late row", "late report"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Arrived:
    """What is held and what has arrived, before anything is settled.

    Attributes:
        rows, columns, reports, origins: as in `State`, in any order.
        rejected: what was refused, and what the blocks had rejected.
        taken: rows and reports that were not refused.
    """

    rows: Items
    columns: pa.RecordBatch | None
    reports: Items
    origins: tuple[Origin, ...]
    rejected: tuple[Reject, ...]
    taken: tuple[int, int]


def arrived(spec: LateLabels, state: State, rows: Sequence[Block], reports: Sequence[Block]) -> Arrived:
    """Add blocks to what a state holds.

    Raises:
        MissingColumn, InvalidValue: a block lacks a column, has one that the join adds, or a column has another type.
    """
    named = {block.origin for block in (*rows, *reports) if block.origin is not None}
    origins = tuple(sorted(named.union(state.origins)))
    number = {origin: i for i, origin in enumerate(origins)}
    renumbered = np.array([number[one] for one in state.origins] + [NO_ORIGIN], dtype=np.int32)  # −1 is the last
    rejected = [reject.of(block.origin) for block in (*rows, *reports) for reject in block.rejected]

    held = [dataclasses.replace(one, origin=renumbered[one.origin]) for one in (state.rows, state.reports)]
    columns = [] if state.columns is None else [state.columns]
    new_rows, new_reports = [], []
    for block in rows:
        _refuse_names(spec, block)
        items, good = _items(spec, state.clock, block, number, False, rejected)
        new_rows.append(items)
        if len(items):
            columns.append(block.batch if good is None else block.batch.take(pa.array(good)))
    for block in reports:
        new_reports.append(_items(spec, state.clock, block, number, True, rejected)[0])
    return Arrived(
        concatenated([held[0], *new_rows]),
        stacked(columns) if columns else None,
        concatenated([held[1], *new_reports]),
        origins,
        tuple(rejected),
        (sum(map(len, new_rows)), sum(map(len, new_reports))),
    )


def due_of(spec: LateLabels, block: Block, reports: bool) -> int | None:
    """Return the watermark, µs, from which on something of a block of rows or reports is settled; None: it has no times.

    Raises:
        MissingColumn: it lacks the column of its times.
    """
    dated, unit = spec.dated(reports)
    times = times_us(block.batch, dated, f"LateLabels.{'reported' if reports else 'time'}", unit)
    us = times.us if times.unusable is None else times.us[~times.unusable]
    return int(us.min()) + (0 if reports else spec.maturity_us) + spec.lateness_us + 1 if us.size else None


def _refuse_names(spec: LateLabels, block: Block) -> None:
    added = [spec.label_column, KNOWN_AT, LABEL_WEIGHT, CORRECTION]
    there = [name for name in added if name in block.batch.schema.names]
    if there:
        message = f"Rows must have none of the columns {added}, which the join adds; got {there}."
        raise InvalidValue(message)


def _items(
    spec: LateLabels, clock: int, block: Block, number: dict[Origin, int], reports: bool, rejected: list[Reject]
) -> tuple[Items, np.ndarray | None]:
    """Return a block's items, and which of its rows they are; None: all. Add what is refused to `rejected`."""
    batch, n = block.batch, len(block)
    ids = ids_of(batch, spec.report_id if reports else spec.id, f"LateLabels.{'id_of_report' if reports else 'id'}")
    dated, unit = spec.dated(reports)
    times = times_us(batch, dated, f"LateLabels.{'reported' if reports else 'time'}", unit)
    broken = dict(ids.broken)
    for reason, where in (
        ("missing event time", times.missing),
        ("event time cannot be read", times.unread),
        ("implausible event time", times.implausible),
    ):
        if where is not None:
            broken[reason] = where
    label = np.full(n, np.nan)
    if reports:
        found = labelled(batch, spec.label)
        label = found.values.astype(np.float64)
        if found.refused is not None:
            broken[found.reason] = found.refused
        broken["missing label"] = np.isnan(label) if found.refused is None else np.isnan(label) & ~found.refused
        broken["label is not finite"] = np.isinf(label)
    broken[LATE_REPORT if reports else LATE_ROW] = times.us < clock
    place = np.full(n, UNPLACED) if block.position is None else block.position.astype(np.int64)
    origin = np.full(n, NO_ORIGIN if block.origin is None else number[block.origin], dtype=np.int32)
    items = Items(ids.texts, times.us, np.full(n, FRESH, dtype=np.uint8), label, place, origin)
    left = np.ones(n, dtype=bool)
    for reason, rows in broken.items():
        at = np.flatnonzero(rows & left)
        left[at] = False
        rejected.extend(items.rejects(at, reason, tuple(number)))
    if left.all():
        return items, None
    good = np.flatnonzero(left)
    return items.take(good), good
