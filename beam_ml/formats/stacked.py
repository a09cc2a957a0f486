"""Rows of several blocks as one: what a format reads of a column may differ from block to block."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.errors import InvalidValue
from beam_ml.formats.united import fitted, united

__all__ = ["stacked"]


def stacked(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of all batches. A column that one lacks is null there; of two types it is of the wider one.

    Numbers and texts become texts, which the features read as the numbers that they spell.

    Raises:
        InvalidValue: two types of a column have no common one.

    >>> stacked([pa.record_batch({"x": [1]}), pa.record_batch({"x": ["2"], "y": [0.5]})]).to_pydict()
    {'x': ['1', '2'], 'y': [None, 0.5]}
    """
    batches = [_decoded(one) for one in batches]
    first = batches[0].schema
    if all(one.schema.equals(first) for one in batches):
        return _together(batches)
    names = first.names
    if any(one.schema.names != names for one in batches):
        names = sorted({name for one in batches for name in one.schema.names})
    columns: dict[str, list[pa.RecordBatch]] = {}
    for name in names:
        columns[name] = _column(name, [_only(one, name) for one in batches])
    return pa.record_batch({name: _together(parts).column(0) for name, parts in columns.items()})


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows without dictionaries, which differ from block to block, and without notes on the columns."""
    twice = sorted({name for name in batch.schema.names if batch.schema.names.count(name) > 1})
    if twice:
        message = f"Rows must have columns of different names; got {twice} more than once."
        raise InvalidValue(message)
    columns = [one.dictionary_decode() if pa.types.is_dictionary(one.type) else one for one in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _together(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.concat_batches(batches) if len(batches) > 1 else batches[0]


def _only(batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
    there = name in batch.schema.names
    column = batch.column(name) if there else pa.nulls(batch.num_rows)
    return pa.record_batch({name: column})


def _column(name: str, parts: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    try:
        schema = united(one.schema for one in parts)
        return [fitted(one, schema) for one in parts]
    except InvalidValue:
        if not all(_is_scalar(one.column(0).type) for one in parts):
            raise
        return [pa.record_batch({name: _text(one.column(0))}) for one in parts]


def _is_scalar(kind: pa.DataType) -> bool:
    types = pa.types
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    return bool(number or types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind))


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_floating(column.type):  # whole ones as whole numbers: they may be ids, or categories
        reals = column.to_numpy(zero_copy_only=False)
        texts = [None if np.isnan(one) else repr(float(one)).removesuffix(".0") for one in reals]
        return pa.array(texts, pa.large_string())
    return pc.cast(column, pa.large_string())
