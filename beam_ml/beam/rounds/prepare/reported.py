"""Labels in rolling windows: a report is known when it comes, and counts in the windows that hold the row it is about.

A labelled row is one more row of `Rolling`: it comes at the time when its label was known, has its label dated at the time
of the row itself, and counts in no window of the rows. So it has key columns of its own.
"""

from collections.abc import Sequence

import pyarrow as pa

from beam_ml.beam.job.raw import ReportedLabels, column_of
from beam_ml.core.batch import Origin
from beam_ml.core.epochs import UnitOfNumbers
from beam_ml.features.rolling import Rolling
from beam_ml.features.times import EventTime, times_us
from beam_ml.formats.block import Block
from beam_ml.late_labels import CORRECTION, KNOWN_AT

__all__ = ["ORIGIN", "is_label_row", "label_rows", "of_labels", "waiting_for", "with_label_keys", "without_label_keys"]

ORIGIN = "~labels"
"""Source of label rows; it sorts behind those of files and topics: at equal times a row does not know the label yet."""
_OWN = "label of "
_DATED = "label dated"


def of_labels(rolling: Rolling, labels: ReportedLabels) -> Rolling:
    """Return the windows with those of the label by columns of label rows; their outputs keep their names.

    >>> from beam_ml.beam.job.sources import FileSource
    >>> windows = [{"length": "7d", "delay": "7d"}]
    >>> rolling = Rolling(time="at", aggregates=[{"key": "shop", "of": "mean", "value": "fraud", "windows": windows}])
    >>> source = FileSource(path="reports")
    >>> labels = ReportedLabels(id="tx", time="at", label="fraud", reported="at", maturity="7d", source=source)
    >>> of_labels(rolling, labels).aggregates[0].key, of_labels(rolling, labels).names
    (('label of shop',), ('mean_fraud_by_shop_7d_delay_7d',))
    """
    changed = []
    for one in rolling.aggregates:
        if one.value == labels.label_column:
            keys = tuple(f"{_OWN}{name}" for name in one.key)
            dated = EventTime(column=_DATED, unit="us")
            one = one.model_copy(update={"key": keys, "name": one.prefix, "dated": dated})
        changed.append(one)
    return Rolling.parse({**rolling.to_dict(), "aggregates": [one.to_dict() for one in changed]})


def waiting_for(rolling: Rolling, labels: ReportedLabels) -> list[str]:
    """Return the key columns of the windows of the label; empty: no window is of it."""
    of_it = [one for one in rolling.aggregates if one.value == labels.label_column]
    return list(dict.fromkeys(name for one in of_it for name in one.key))


def with_label_keys(block: Block, keys: Sequence[str], label: str) -> Block:
    """Return a block of rows with the columns that label rows have: their keys, and no label."""
    names, columns = list(block.batch.schema.names), list(block.batch.columns)
    n = len(block)
    for key in keys:
        names.append(f"{_OWN}{key}")
        columns.append(block.batch.column(key))
    names += [label, _DATED]
    columns += [pa.nulls(n, pa.float64()), pa.nulls(n, pa.int64())]
    return block.replace(batch=pa.RecordBatch.from_arrays(columns, names=names))


def without_label_keys(block: Block, keys: Sequence[str], label: str) -> Block:
    """Return a block of rows as it was before `with_label_keys`, with what was computed since."""
    gone = {*(f"{_OWN}{key}" for key in keys), label, _DATED}
    kept = [name for name in block.batch.schema.names if name not in gone]
    return block.replace(batch=block.batch.select(kept))


def label_rows(released: Block, rolling: Rolling, labels: ReportedLabels, keys: Sequence[str]) -> Block:
    """Return labelled rows as rows of the windows: at the time when their label was known.

    Args:
        released: by `late_labels.join`; it corrects nothing.
        rolling: as the job has it.
        labels: likewise.
        keys: by `waiting_for`.
    """
    batch = released.batch
    assert not batch.column(CORRECTION).to_numpy(zero_copy_only=False).any()  # noqa: S101 corrections are only counted
    at = times_us(batch, *_dated(labels))
    arrays = {column_of(rolling.time): batch.column(KNOWN_AT), labels.label_column: batch.column(labels.label_column)}
    arrays |= {f"{_OWN}{key}": batch.column(key) for key in keys}
    arrays[_DATED] = pa.array(at.us, pa.int64())
    arrays |= {name: pa.nulls(len(released)) for name in rolling.columns() if name not in arrays}
    made = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    return released.replace(batch=made, origin=Origin(ORIGIN, labels.source.where))


def _dated(labels: ReportedLabels) -> tuple[str, str, UnitOfNumbers | None]:
    name, unit = labels.dated(False)
    return name, "labels.time", unit


def is_label_row(block: Block) -> bool:
    """Return whether a block is of label rows."""
    return block.origin is not None and block.origin.source == ORIGIN
