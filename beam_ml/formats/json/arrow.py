"""JSON messages by the many: pyarrow reads all of them as one text, or says that it cannot."""

import dataclasses
import functools
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from beam_ml.formats.json.values import Column, Kind, Unfit, convert, named, wire_type

__all__ = ["Part", "Replan", "alone", "arrays", "failed_row", "objects", "records"]

_FIRST = f"beam_ml.first.{secrets.token_hex(8)}"
"""Marks the first object of each message: by a name of this process that no message can know, since pyarrow crashes where a
column has the mark's name, and a message that repeats it could take rows from its neighbours."""
_ARRAY = f"beam_ml.array.{secrets.token_hex(8)}"
_NULL_ROW = re.compile(rb"\}\s*n")
_ROW = re.compile(r"in row (\d+)$")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows of some messages: their columns, and the message and row number of each."""

    arrays: list[pa.Array]
    message: np.ndarray
    row: np.ndarray


class Replan(Exception):
    """The plan was made from too few rows: values taken for whole numbers are not, or a column taken for empty is not."""


def _read(text: bytes, schema: pa.Schema) -> pa.Table:
    """Parse objects; fields that the schema does not name are skipped unread.

    Raises:
        Unfit: not all of them are as the schema says.
    """
    try:
        return pa.json.read_json(
            pa.BufferReader(text),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
            parse_options=pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid as error:
        if "to int64" in str(error) or "changed from null" in str(error):
            raise Replan from error
        raise Unfit from error
    except UnicodeError as error:
        raise Unfit from error


def _array(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _fields(columns: Sequence[Column]) -> list[pa.Field]:
    """Return the fields that hold some columns: each under its own name, and one that has a path within objects, too."""
    tree: dict[str, Any] = {column.name: wire_type(column) for column in columns}
    for column in columns:
        if column.path is not None:
            within = tree
            for name in column.path[:-1]:
                within = within.setdefault(name, {})
            within[column.path[-1]] = wire_type(column)
    return _nested(tree)


def _nested(tree: Mapping[str, Any]) -> list[pa.Field]:
    return [pa.field(name, pa.struct(_nested(kind)) if isinstance(kind, dict) else kind) for name, kind in tree.items()]


def _converted(columns: Sequence[Column], get: Callable[[str], pa.Array]) -> list[pa.Array]:
    """Return columns by their names among the fields."""
    found = []
    for column in columns:
        array = get(column.name)
        if column.path is not None:
            within = pc.struct_field(get(column.path[0]), list(column.path[1:]))
            array = pc.coalesce(array, within) if not pa.types.is_null(array.type) else array
        found.append(convert(array, column))
    return found


def objects(values: list[bytes], columns: list[Column]) -> Part:
    r"""Parse messages of objects at once.

    Each starts with ``{`` and ends with ``}``, and ``}\n{`` is JSON between two values only: no message can reach into
    the next, whatever it holds. A mark in the first object of each tells which rows are whose.
    """
    mark = b'{"' + _FIRST.encode() + b'":true,'
    text = mark + (b"\n" + mark).join([value[1:] for value in values])
    if b"null" in text and _NULL_ROW.search(text):
        raise Unfit
    schema = pa.schema([pa.field(_FIRST, pa.bool_()), *_fields(columns)])
    table = _read(text, schema)
    first = np.flatnonzero(_array(table, _FIRST).is_valid().to_numpy(zero_copy_only=False))
    if len(first) != len(values):
        raise Unfit
    arrays = _converted(columns, functools.partial(_array, table))
    if len(first) == table.num_rows:
        return Part(arrays, np.arange(len(first)), np.zeros(len(first), dtype=np.int64))
    return Part(arrays, *_numbered(np.append(first, table.num_rows)))


def _numbered(bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return message and row number of rows, by the (m + 1,) bounds of messages among them."""
    message = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    return message, np.arange(len(message)) + bounds[0] - bounds[message]


def arrays(values: list[bytes], columns: list[Column]) -> Part:
    """Parse messages of one array each at once: each becomes an object's only field."""
    head = b'{"' + _ARRAY.encode() + b'":'
    text = head + (b"}\n" + head).join(values) + b"}"
    row = pa.struct([pa.field(_FIRST, pa.null()), *_fields(columns)])
    table = _read(text, pa.schema([(_ARRAY, pa.list_(row))]))
    lists = _array(table, _ARRAY)
    rows = lists.values
    if len(lists) != len(values) or lists.null_count or rows.null_count or lists.offset or rows.offset:
        raise Unfit
    arrays = _converted(columns, rows.field)
    return Part(arrays, *_numbered(lists.offsets.to_numpy().astype(np.int64)))


def records(values: Sequence[bytes], schema: pa.Schema) -> dict[str, pa.Array]:
    """Parse objects, one of each message, whose fields have these names and types; others are skipped unread.

    Args:
        values: each starts with a brace and ends with one.
        schema: of the fields wanted.

    Raises:
        Unfit: not all of them are as the schema says, or a message has more than one.
    """
    text = b"\n".join(values)
    if b"null" in text and _NULL_ROW.search(text):
        raise Unfit
    try:
        table = _read(text, schema)
    except Replan as error:
        raise Unfit from error
    if table.num_rows != len(values):
        raise Unfit
    return {name: _array(table, name) for name in schema.names}


_TRIED: tuple[Kind, ...] = ("nothing", "whole", "number", "truth", "text")


def alone(value: bytes, columns: list[Column]) -> Part:
    """Parse one message of objects, each column as the first kind that its own values are of.

    Raises:
        Unfit: there is none.
    """
    kinds = [_of_its_kind(value, column) for column in columns]
    part = objects([value], kinds)
    read = zip(part.arrays, kinds, strict=True)
    return dataclasses.replace(
        part, arrays=[named(one) if kind.category and kind.kind == "number" else one for one, kind in read]
    )


def _of_its_kind(value: bytes, column: Column) -> Column:
    for kind in (column.kind,) if column.target is not None else _TRIED:
        one = dataclasses.replace(column, kind=kind)
        try:
            objects([value], [one])
        except (Unfit, Replan):
            continue
        return one
    raise Unfit


def failed_row(error: Exception) -> int:
    """Return the number of the row that pyarrow stumbled over, or -1."""
    found = _ROW.search(str(error.__cause__))
    return int(found[1]) if found else -1
