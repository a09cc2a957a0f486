"""Many Avro messages of one schema at once: each field of all messages is read as one vector, from one cursor per message.

A message is only trusted where its bytes are used up exactly and every value is in range; all others are
left to a reader of single messages. Letters: ``n`` messages, or records being read.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.formats import lines

__all__ = ["Found", "Reader", "buffers", "reader"]

_PAD = 16
_FEW = 48
"""Fewer records than these are read faster one by one."""
_WIDTHS = {"float": 4, "double": 8}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Rows of some messages, and the messages that are to be read one by one.

    Attributes:
        columns: name → values of the n rows.
        message, row: (n,) int64 the message each came from, and its number in it.
        rest: (k,) int64 messages left.
    """

    columns: dict[str, pa.Array]
    message: np.ndarray
    row: np.ndarray
    rest: np.ndarray


Reader = Callable[[pa.Array, np.ndarray, int, Sequence[str]], Found]
"""From values, the numbers of those to read, bytes to skip in each, and the columns wanted."""


def buffers(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes that a binary array points into, and the (n + 1,) bounds of its values in them."""
    wide = pa.types.is_large_binary(values.type)
    _, offsets, data = values.buffers()
    if offsets is None:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    bounds = np.frombuffer(offsets, np.int64 if wide else np.int32)[values.offset : values.offset + len(values) + 1]
    return np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8), bounds.astype(np.int64)


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """A field: its base type, the branch of a union that is not null (None: no union), and what base needs."""

    name: str
    base: str
    branch: int | None
    symbols: tuple[str, ...] = ()
    width: int = 0


class _Cursor:
    """The positions in n records that are being read.

    Attributes:
        data: all bytes, and some more, so that no read runs over the end.
        at, end: (n,) int64 the next byte of each, and where its message ends.
        good: (n,) bool: nothing odd was met.
    """

    def __init__(self, data: np.ndarray, at: np.ndarray, end: np.ndarray) -> None:
        self.data, self.at, self.end = data, at, end
        self.good = np.ones(len(at), dtype=bool)

    def move(self, steps: Any, which: np.ndarray | None = None) -> None:
        """Advance, but never past the end."""
        if which is None:
            self.at = np.minimum(self.at + steps, self.end + 1)
        else:
            self.at[which] = np.minimum(self.at[which] + steps, self.end[which] + 1)

    def fail(self, bad: np.ndarray, which: np.ndarray | None) -> None:
        """Note records that are odd."""
        if bad.any():
            self.good[np.flatnonzero(bad) if which is None else which[bad]] = False

    def fixed(self, width: int, which: np.ndarray | None) -> np.ndarray:
        """Read (n, width) bytes."""
        windows = np.lib.stride_tricks.as_strided(
            self.data, (len(self.data) - width + 1, width), (1, 1), writeable=False
        )
        at = np.minimum(self.at if which is None else self.at[which], len(windows) - 1)
        found = windows[at]
        self.move(width, which)
        return found

    def varint(self, which: np.ndarray | None) -> np.ndarray:
        """Read whole numbers, (n,) int64."""
        at = self.at.copy() if which is None else self.at[which]
        byte = self.data[at]
        value = (byte & 127).astype(np.uint64)
        at += 1
        more, shift = np.flatnonzero(byte >= 128), 7
        last = len(self.data) - 1
        while more.size and shift < 70:
            byte = self.data[np.minimum(at[more], last)]
            value[more] |= (byte & np.uint8(127)).astype(np.uint64) << np.uint64(shift)
            at[more] += 1
            if shift == 63:
                odd = np.zeros(len(at), dtype=bool)
                odd[more[byte > 1]] = True
                self.fail(odd, which)
                break
            more, shift = more[byte >= 128], shift + 7
        if which is None:
            self.at = np.minimum(at, self.end + 1)
        else:
            self.at[which] = np.minimum(at, self.end[which] + 1)
        half: np.ndarray = (value >> np.uint64(1)).view(np.int64)
        return half ^ -(value & np.uint64(1)).view(np.int64)

    def texts(self, which: np.ndarray | None, wanted: bool) -> pa.Array | None:
        """Read bytes, each after its length."""
        length = self.varint(which)
        at, end = (self.at, self.end) if which is None else (self.at[which], self.end[which])
        bad = (length < 0) | (length > end - at)
        self.fail(bad, which)
        length[bad] = 0
        start = at.copy()
        self.move(length, which)
        if not wanted:
            return None
        bounds = np.concatenate([[0], np.cumsum(length)])
        chosen = np.repeat(start - bounds[:-1], length) + np.arange(bounds[-1])
        made = [None, pa.py_buffer(bounds.astype(np.int64)), pa.py_buffer(self.data[chosen])]
        return pa.Array.from_buffers(pa.large_binary(), len(length), made)


def _field(name: str, schema: Any) -> _Field | None:
    """Return how a field is read; None: not here."""
    if isinstance(schema, list):
        if len(schema) != 2 or "null" not in schema:
            return None
        branch = 1 - schema.index("null")
        inner = _field(name, schema[branch])
        return None if inner is None or inner.branch is not None else dataclasses.replace(inner, branch=branch)
    if isinstance(schema, dict):
        if "logicalType" in schema:
            return None
        if schema["type"] == "enum":
            return _Field(name, "enum", None, tuple(schema["symbols"]))
        if schema["type"] == "fixed":
            return _Field(name, "fixed", None, (), schema["size"]) if schema["size"] else None
        schema = schema["type"]
    known = ("boolean", "int", "long", "float", "double", "string", "bytes")
    return _Field(name, schema, None, (), _WIDTHS.get(schema, 0)) if schema in known else None


def _values(cursor: _Cursor, field: _Field, which: np.ndarray | None, wanted: bool) -> Any:
    """Read one field of records; return numpy or Arrow values, or None where they are not wanted."""
    base = field.base
    if base in ("float", "double"):
        if not wanted:
            cursor.move(field.width, which)
            return None
        return cursor.fixed(field.width, which).view(f"<f{field.width}")[:, 0]
    if base in ("string", "bytes"):
        return cursor.texts(which, wanted)
    if base == "fixed":
        found = cursor.fixed(field.width, which)
        if not wanted:
            return None
        kind, raw = pa.binary(field.width), pa.py_buffer(np.ascontiguousarray(found))
        return pa.Array.from_buffers(kind, len(found), [None, raw])
    if base == "boolean":
        byte = cursor.fixed(1, which)[:, 0]
        cursor.fail(byte > 1, which)
        return byte == 1
    value = cursor.varint(which)
    if base == "long":
        return value
    low, high = (0, len(field.symbols)) if base == "enum" else (-(1 << 31), 1 << 31)
    bad = (value < low) | (value >= high)
    if bad.any():
        cursor.fail(bad, which)
        value[bad] = 0
    return pa.array(field.symbols).take(pa.array(value)) if base == "enum" and wanted else value


def _column(cursor: _Cursor, field: _Field, kind: pa.DataType | None) -> pa.Array | None:
    """Read a field of all records; kind is None where it is not wanted."""
    if field.branch is None:
        values = _values(cursor, field, None, kind is not None)
        return None if kind is None else _typed(cursor, values, kind)
    byte = cursor.fixed(1, None)[:, 0]
    there = byte == 2 * field.branch
    cursor.fail(byte > 2, None)
    cursor.fail((byte != 0) & (byte != 2), None)
    if there.all():
        values = _values(cursor, field, None, kind is not None)
        return None if kind is None else _typed(cursor, values, kind)
    which = np.flatnonzero(there)
    values = _values(cursor, field, which, kind is not None)
    if kind is None:
        return None
    spread = np.cumsum(there) - 1
    return _typed(cursor, values, kind, which).take(pa.array(spread, mask=~there))


def _typed(cursor: _Cursor, values: Any, kind: pa.DataType, which: np.ndarray | None = None) -> pa.Array:
    if isinstance(values, np.ndarray):
        width = kind.bit_width if not pa.types.is_boolean(kind) else 0
        array = pa.array(values.astype(np.int32) if width == 32 and values.dtype == np.int64 else values)
        return array if array.type == kind else array.view(kind)
    if not (pa.types.is_string(kind) and pa.types.is_large_binary(values.type)):
        return values if values.type == kind else values.cast(kind)
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:  # not UTF-8
        bad = np.array([not lines.is_text(value) for value in values.to_pylist()])
        cursor.fail(bad, which)
        return pa.array([b"" if odd else value for value, odd in zip(values.to_pylist(), bad, strict=True)]).cast(kind)


def _records(
    cursor: _Cursor, fields: Sequence[_Field], types: Mapping[str, pa.DataType], names: Sequence[str]
) -> dict[str, pa.Array]:
    """Read one record at each cursor."""
    found = {}
    for field in fields:
        column = _column(cursor, field, types[field.name] if field.name in names else None)
        if column is not None:
            found[field.name] = column
    return found


def _lists(
    cursor: _Cursor, fields: Sequence[_Field], types: Mapping[str, pa.DataType], names: Sequence[str]
) -> tuple[dict[str, pa.Array], np.ndarray, np.ndarray]:
    """Read an array of records at each cursor, the j-th of all of them.

    Returns:
        The columns, and for each row the number of its cursor and its number within the array.
    """
    n = len(cursor.at)
    left, row = np.zeros(n, np.int64), np.zeros(n, np.int64)
    open_ = np.arange(n)
    steps: list[tuple[dict[str, pa.Array], np.ndarray, np.ndarray]] = []
    while len(open_):
        due = open_[left[open_] == 0]
        if len(due):
            count = cursor.varint(due)
            sized = count < 0
            if sized.any():
                cursor.varint(due[sized])  # the block's bytes
            left[due] = np.abs(count)
            odd = (left[due] < 0) | (left[due] > cursor.end[due] - cursor.at[due])  # a record takes a byte at least
            cursor.good[due[odd]] = False
        open_ = open_[(left[open_] > 0) & cursor.good[open_]]
        if len(open_) < _FEW:
            cursor.good[open_] = False
            break
        part = _Cursor(cursor.data, cursor.at[open_], cursor.end[open_])
        columns = _records(part, fields, types, names)
        cursor.at[open_], cursor.good[open_] = part.at, part.good
        steps.append((columns, open_, row[open_]))
        row[open_] += 1
        left[open_] -= 1
    if not steps:
        return {name: pa.array([], types[name]) for name in names}, np.empty(0, np.int64), np.empty(0, np.int64)
    whole = {name: pa.concat_arrays([columns[name] for columns, _, _ in steps]) for name in names}
    of = np.concatenate([one for _, one, _ in steps])
    order = np.argsort(of, kind="stable")
    by = pa.array(order)
    return (
        {name: column.take(by) for name, column in whole.items()},
        of[order],
        np.concatenate([one for _, _, one in steps])[order],
    )


def reader(schema: Mapping[str, Any], types: Mapping[str, pa.DataType], many: bool) -> Reader | None:
    """Return the reader of messages that hold a record, or an array of records, of a schema.

    Args:
        schema: of the record, times as integers.
        types: column → Arrow type.
        many: whether messages hold arrays.

    Returns:
        None where the schema has what is not read here: nested values, wider unions, decimals.
    """
    fields = [_field(one["name"], one["type"]) for one in schema["fields"]]
    if not fields or any(field is None or field.name not in types for field in fields):
        return None
    known = [field for field in fields if field is not None]

    def read(values: pa.Array, numbers: np.ndarray, skipped: int, names: Sequence[str]) -> Found:
        empty = np.empty(0, np.int64)
        if len(numbers) < _FEW:
            return Found({name: pa.array([], types[name]) for name in names}, empty, empty, numbers)
        data, bounds = buffers(values)
        low = int(bounds[0])
        padded = np.concatenate([data[low : int(bounds[-1])], np.zeros(_PAD + _width(known), np.uint8)])
        cursor = _Cursor(padded, bounds[numbers] + skipped - low, bounds[numbers + 1] - low)
        if many:
            columns, of, row = _lists(cursor, known, types, names)
        else:
            columns, of, row = _records(cursor, known, types, names), np.arange(len(numbers)), None
        good = cursor.good & (cursor.at == cursor.end)
        if row is None:
            row = np.zeros(len(of), dtype=np.int64)
        if not good.all():
            kept = good[of]
            columns = {name: column.filter(pa.array(kept)) for name, column in columns.items()}
            of, row = of[kept], row[kept]
        return Found(columns, numbers[of], row, numbers[~good])

    return read


def _width(fields: Sequence[_Field]) -> int:
    return max(field.width for field in fields)
