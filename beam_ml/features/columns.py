"""Arrow columns as numpy vectors, refused in one sentence where they cannot be."""

import numpy as np
import pyarrow as pa

from beam_ml.errors import MissingColumn

__all__ = ["column", "numbers", "wrong"]


def column(batch: pa.RecordBatch, name: str, field: str, wanted: str) -> pa.Array:
    """Return a column by name, decoded where it is a dictionary.

    Args:
        batch: n rows.
        name: the column.
        field: the setting that names it, for the message.
        wanted: what it should be, for the message.

    Raises:
        MissingColumn: it is absent, or there twice.
    """
    places = batch.schema.get_all_field_indices(name)
    if len(places) != 1:
        found = f"no such column among {batch.schema.names}" if not places else f"{len(places)} columns of that name"
        message = f"{field} names the column {name!r}, which must be {wanted}; got {found}."
        raise MissingColumn(message)
    array = batch.column(places[0])
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def wrong(name: str, field: str, wanted: str, kind: pa.DataType) -> MissingColumn:
    """Return the error of a column that is of another type than is wanted."""
    message = f"{field} names the column {name!r}, which must be {wanted}; got {kind}."
    return MissingColumn(message)


def numbers(batch: pa.RecordBatch, name: str, field: str) -> np.ndarray:
    """Return a column of numbers or truth values, (n,) float64 or, if it is that, float32; NaN where it is null.

    Raises:
        MissingColumn: it is absent or of another type.
    """
    array = column(batch, name, field, "a number")
    kind = array.type
    types = pa.types
    if types.is_null(kind):
        return np.full(len(array), np.nan)
    if types.is_boolean(kind):
        array = array.cast(pa.int8())
    elif types.is_decimal(kind):
        array = array.cast(pa.float64())
    elif not (types.is_integer(kind) or types.is_floating(kind)):
        raise wrong(name, field, "a number", kind)
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    return values if values.dtype == np.float32 else values.astype(np.float64, copy=False)
