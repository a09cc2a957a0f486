"""Arrow columns as numpy vectors, refused in one sentence where they cannot be."""

from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator

from beam_ml.errors import MissingColumn

__all__ = ["NUMBER", "Name", "Numbers", "column", "is_text", "name_of", "numbers", "spelled", "wrong"]

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""What a text that spells a number looks like."""


def name_of(value: Any) -> Any:
    """Return the name of a column that is named by its place, from 0 on, in lines without names; other values as they are.

    >>> name_of(3), name_of("amount")
    ('3', 'amount')
    """
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value < 0:
        message = "must be a column's name, or its place, a whole number from 0 on"
        raise ValueError(message)
    return str(value)


Name = Annotated[str, BeforeValidator(name_of, json_schema_input_type=str | int)]
"""A column's name, or its place in lines without names."""


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


class Numbers(NamedTuple):
    """A column of numbers.

    Attributes:
        values: (n,) float64 or float32; NaN where there is no number.
        unread: (n,) bool where a text spells none; None: nowhere.
        texts: the column as it was, where `unread` is not None.
    """

    values: np.ndarray
    unread: np.ndarray | None = None
    texts: pa.Array | None = None


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column is of texts."""
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def spelled(array: pa.Array) -> Numbers:
    """Return the numbers that texts spell, true as 1 and false as 0; an empty text is missing, as null is.

    A format without types takes a whole column for text where one cell is no number, or no truth value: the others are
    numbers all the same.

    >>> spelled(pa.array(["1.5", "n/a", "", None, "-2e3", "True"])).unread.tolist()
    [False, True, False, False, False, False]
    """
    texts = pc.utf8_trim_whitespace(array.cast(pa.string()))
    for word, number in (("true", "1"), ("false", "0")):
        texts = pc.if_else(pc.match_substring_regex(texts, f"^{word}$", ignore_case=True), number, texts)
    fits = pc.fill_null(pc.match_substring_regex(texts, NUMBER), False)
    values = pc.if_else(fits, texts, pa.scalar(None, pa.string())).cast(pa.float64()).to_numpy(zero_copy_only=False)
    empty = pc.fill_null(pc.equal(texts, ""), True)
    unread = ~np.asarray(pc.or_(fits, empty))
    return Numbers(values, unread, array) if unread.any() else Numbers(values)


def numbers(batch: pa.RecordBatch, name: str, field: str) -> Numbers:
    """Return a column of numbers, truth values or texts that spell numbers.

    Raises:
        MissingColumn: it is absent or of another type.
    """
    array = column(batch, name, field, "a number")
    kind = array.type
    types = pa.types
    if types.is_null(kind):
        return Numbers(np.full(len(array), np.nan))
    if is_text(kind):
        return spelled(array)
    if types.is_boolean(kind):
        array = array.cast(pa.int8())
    elif types.is_decimal(kind):
        array = array.cast(pa.float64())
    elif not (types.is_integer(kind) or types.is_floating(kind)):
        raise wrong(name, field, "a number", kind)
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    return Numbers(values if values.dtype == np.float32 else values.astype(np.float64, copy=False))
