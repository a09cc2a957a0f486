"""Values of Arrow as Python's own. Times and dates that Python has no year or zone for are numbers, in their columns' units.

A column of times may hold any 64 bits: one damaged value must not end what only shows the others.
"""

from typing import Any

import pyarrow as pa

__all__ = ["plain", "plain_rows"]

_FAULTS = OverflowError, ValueError, KeyError
"""Of a year, of a moment, of a time zone."""


def plain(array: pa.Array) -> list[Any]:
    """Return an array's values; a time or date outside the years 1 to 9999 is a number, within a list or record, too.

    >>> plain(pa.array([0, 2**62], pa.timestamp("us")))
    [datetime.datetime(1970, 1, 1, 0, 0), 4611686018427387904]
    """
    try:
        found: list[Any] = array.to_pylist()
    except _FAULTS:
        counted = array.cast(_counted(array.type))
        found = [_one(one, number) for one, number in zip(array, counted, strict=True)]
    return found


def plain_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return the rows of a batch as dicts of such values, by column."""
    columns = {name: plain(array) for name, array in zip(batch.schema.names, batch.columns, strict=True)}
    rows = zip(*columns.values(), strict=True) if columns else [()] * batch.num_rows
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _one(value: pa.Scalar, counted: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except _FAULTS:
        return counted.as_py()


def _counted(kind: pa.DataType) -> pa.DataType:
    """Return a type whose times and dates are numbers."""
    types = pa.types
    if types.is_timestamp(kind) or types.is_date64(kind) or types.is_duration(kind) or types.is_time64(kind):
        return pa.int64()
    if types.is_date32(kind) or types.is_time32(kind):
        return pa.int32()
    if types.is_dictionary(kind):
        return _counted(kind.value_type)
    if types.is_map(kind):
        return pa.map_(_counted(kind.key_type), _counted(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(_counted(kind.value_type), kind.list_size)
    if types.is_large_list(kind):
        return pa.large_list(_counted(kind.value_type))
    if types.is_list(kind):
        return pa.list_(_counted(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(field.name, _counted(field.type)) for field in kind])
    return kind
