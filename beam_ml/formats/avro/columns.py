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
from beam_ml.formats.avro.layout import Field, fields_of, flat
from beam_ml.formats.avro.values import Leaf

__all__ = ["Found", "Reader", "buffers", "reader"]

_PAD = 16
_FEW = 48
"""Fewer records than these are read faster one by one."""
_MOST_FIELDS = 5_000


Types = Mapping[tuple[str, ...], pa.DataType]
"""Path of a column that is wanted → the type that it is read as."""


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


Reader = Callable[[pa.Array, np.ndarray, int, Mapping[str, Leaf]], Found]
"""From values, the numbers of those to read, bytes to skip in each, and the columns wanted."""


def buffers(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes that a binary array points into, and the (n + 1,) bounds of its values in them."""
    wide = pa.types.is_large_binary(values.type)
    _, offsets, data = values.buffers()
    if offsets is None:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    bounds = np.frombuffer(offsets, np.int64 if wide else np.int32)[values.offset : values.offset + len(values) + 1]
    return np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8), bounds.astype(np.int64)


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


def _values(cursor: _Cursor, field: Field, which: np.ndarray | None, wanted: bool) -> Any:
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


def _branch(cursor: _Cursor, field: Field, which: np.ndarray | None) -> np.ndarray:
    """Read where a field that may be null is there, (m,) bool."""
    byte = cursor.fixed(1, which)[:, 0]
    cursor.fail((byte != 0) & (byte != 2), which)
    there: np.ndarray = byte == 2 * (field.branch or 0)
    return there


def _chosen(which: np.ndarray | None, there: np.ndarray) -> np.ndarray | None:
    """Return the numbers of those that are there; None: all."""
    if there.all():
        return which
    return np.flatnonzero(there) if which is None else which[there]


def _spread(column: pa.Array, there: np.ndarray) -> pa.Array:
    """Return values of those that are there at their places, null at the others'."""
    return column if there.all() else column.take(pa.array(np.cumsum(there) - 1, mask=~there))


def _column(cursor: _Cursor, field: Field, kind: pa.DataType | None, which: np.ndarray | None) -> pa.Array | None:
    """Read a field of records; kind is None where it is not wanted."""
    there = None
    if field.branch is not None:
        there = _branch(cursor, field, which)
        which = _chosen(which, there)
    values = _values(cursor, field, which, kind is not None)
    if kind is None:
        return None
    column = _typed(cursor, values, kind, which)
    return column if there is None else _spread(column, there)


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
    cursor: _Cursor, fields: Sequence[Field], types: Types, which: np.ndarray | None = None
) -> dict[tuple[str, ...], pa.Array]:
    """Read one record at each cursor."""
    found = {}
    for field in fields:
        if field.base != "record":
            column = _column(cursor, field, types.get(field.path), which)
            if column is not None:
                found[field.path] = column
        elif field.branch is None:
            found |= _records(cursor, field.inner, types, which)
        else:
            there = _branch(cursor, field, which)
            inner = _records(cursor, field.inner, types, _chosen(which, there))
            found |= {path: _spread(column, there) for path, column in inner.items()}
    return found


def _lists(
    cursor: _Cursor, fields: Sequence[Field], types: Types
) -> tuple[dict[tuple[str, ...], pa.Array], np.ndarray, np.ndarray]:
    """Read an array of records at each cursor, the j-th of all of them.

    Returns:
        The columns, and for each row the number of its cursor and its number within the array.
    """
    n = len(cursor.at)
    left, row = np.zeros(n, np.int64), np.zeros(n, np.int64)
    open_ = np.arange(n)
    steps: list[tuple[dict[tuple[str, ...], pa.Array], np.ndarray, np.ndarray]] = []
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
        columns = _records(part, fields, types)
        cursor.at[open_], cursor.good[open_] = part.at, part.good
        steps.append((columns, open_, row[open_]))
        row[open_] += 1
        left[open_] -= 1
    if not steps:
        return {path: pa.array([], kind) for path, kind in types.items()}, np.empty(0, np.int64), np.empty(0, np.int64)
    whole = {path: pa.concat_arrays([columns[path] for columns, _, _ in steps]) for path in types}
    of = np.concatenate([one for _, one, _ in steps])
    order = np.argsort(of, kind="stable")
    by = pa.array(order)
    return (
        {path: column.take(by) for path, column in whole.items()},
        of[order],
        np.concatenate([one for _, _, one in steps])[order],
    )


_RAW = {"bytes": pa.binary(), "string": pa.string(), "long": pa.int64(), "int": pa.int32()}


def _raw(field: Field, leaf: Leaf) -> pa.DataType:
    """Return the type that a column is read as, before it is converted."""
    if leaf.convert is None:
        return leaf.kind
    return pa.binary(field.width) if field.base == "fixed" else _RAW[field.base]


def _finished(columns: Mapping[tuple[str, ...], pa.Array], wanted: Mapping[str, Leaf]) -> dict[str, pa.Array]:
    """Return the columns by name, converted to their types.

    Raises:
        ValueError, OverflowError: one of the values cannot be one of the column's.
    """
    found = {}
    for name, leaf in wanted.items():
        array, convert = columns[leaf.path], leaf.convert
        if convert is not None:
            array = pa.array([None if one is None else convert(one) for one in array.to_pylist()], leaf.kind)
        found[name] = array
    return found


def reader(schema: Mapping[str, Any], named: Mapping[str, Any], many: bool) -> Reader | None:
    """Return the reader of messages that hold a record, or an array of records, of a schema.

    Args:
        schema: of the record, as `values.bare` returns it, parsed.
        named: the types that it names.
        many: whether messages hold arrays.

    Returns:
        None where the schema has what is not read here: arrays, maps, wider unions, records that hold themselves. Where
        a whole record is wanted, its reader leaves all messages to be read one by one.
    """
    fields = fields_of(schema, named)
    by_path = flat(fields or ())
    if not fields or not by_path or len(by_path) > _MOST_FIELDS:
        return None
    width = max(field.width for field in by_path.values())

    def read(values: pa.Array, numbers: np.ndarray, skipped: int, wanted: Mapping[str, Leaf]) -> Found:
        empty = np.empty(0, np.int64)
        none = Found({name: pa.array([], leaf.kind) for name, leaf in wanted.items()}, empty, empty, numbers)
        if len(numbers) < _FEW or any(leaf.path not in by_path for leaf in wanted.values()):
            return none
        types = {leaf.path: _raw(by_path[leaf.path], leaf) for leaf in wanted.values()}
        data, bounds = buffers(values)
        low = int(bounds[0])
        padded = np.concatenate([data[low : int(bounds[-1])], np.zeros(_PAD + width, np.uint8)])
        cursor = _Cursor(padded, bounds[numbers] + skipped - low, bounds[numbers + 1] - low)
        if many:
            columns, of, row = _lists(cursor, fields, types)
        else:
            columns, of, row = _records(cursor, fields, types), np.arange(len(numbers)), None
        good = cursor.good & (cursor.at == cursor.end)
        if row is None:
            row = np.zeros(len(of), dtype=np.int64)
        if not good.all():
            kept = good[of]
            columns = {path: column.filter(pa.array(kept)) for path, column in columns.items()}
            of, row = of[kept], row[kept]
        try:
            finished = _finished(columns, wanted)
        except (ValueError, ArithmeticError):  # which one of them, only a look at each can say
            return none
        return Found(finished, numbers[of], row, numbers[~good])

    return read
