"""Messages of JSON: an object; several, one after the other; or an array of them. Each object is a row.

The frame of a schema registry before them, a byte 0 and four of the schema's id, is recognised: no JSON begins with a 0.

Many messages are parsed at once by pyarrow; the few that it stumbles over are read one by one with the standard
library, which says what is wrong with them, and takes more (`text`). pyarrow is given every column and type, and
never sees a text that starts with anything but an object: it would crash on ``null``, or on deep nesting in a column
that it infers.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.formats import arrow_types, change_events, lines
from beam_ml.formats.json import arrow, envelopes, flat
from beam_ml.formats.json import text as json_text
from beam_ml.formats.json.instances import of_messages
from beam_ml.formats.json.options import Options
from beam_ml.formats.json.values import Column, Unfit, converted, found_in, plan, settled, whole, wire_type
from beam_ml.formats.json.writing import written
from beam_ml.formats.messages import (
    EMPTY,
    MALFORMED,
    TWICE,
    UNPARSEABLE,
    Decoded,
    Decoder,
    Encoder,
    Refusal,
    detail,
    in_order,
    refusals,
    rows_batch,
)
from beam_ml.formats.mixed import joined

__all__ = ["message_decoder", "message_encoder"]

_LEAF_BYTES = 8 << 10
"""Fewer bytes than these are read one message after the other: a call of pyarrow costs as much."""
_MAX_BYTES = 64 << 20
_SAMPLED = 32
_LOOKS = 4
_LEAST, _MOST_LEFT = 32, 64
_MOST_NAMES = 100
_log = logging.getLogger(__name__)
_absent: set[str] = set()
"""Columns that were warned of."""
_SPACE, _FRAME_BYTES = b" \t\r\n", 5

_MALFORMED_ROW = "malformed row"


class _Run:
    """One decoding of some messages under one plan of columns."""

    def __init__(self, values: list[bytes], columns: list[Column], replanned: bool) -> None:
        self._values, self._columns, self._replanned = values, columns, replanned
        self.parts: list[arrow.Part] = []
        self.refused: list[Refusal] = []
        self._left: list[np.ndarray] = []

    def many(self, numbers: np.ndarray, parse: Callable[[list[bytes], list[Column]], arrow.Part]) -> None:
        """Decode messages of one shape, as many at once as can be; those that cannot be are left for `rest`.

        Where pyarrow names the row that it stumbles over, the messages before it are read and it is left aside: it
        stops there, so that this costs no more than those messages. Otherwise fewer are tried.
        """
        sizes = np.cumsum([0, *(len(self._values[i]) for i in numbers)])
        at, width, window, streak, suspect = 0, len(numbers), len(numbers), 0, -1
        while at < len(numbers):
            left = 0
            if at == suspect:
                left = 1
            else:
                fits = int(np.searchsorted(sizes, sizes[at] + _MAX_BYTES, side="right")) - 1 - at
                width = max(1, min(width, fits, len(numbers) - at))
                mine = numbers[at : at + width]
                try:
                    part = parse([self._values[i] for i in mine], self._columns)
                except (Unfit, arrow.Replan) as error:
                    if isinstance(error, arrow.Replan) and not self._replanned:
                        raise
                    row = arrow.failed_row(error)
                    window = max(_LEAST, min(window // 2, 4 * row) if row >= 0 else min(window, width))
                    if row == 0:
                        left = 1
                    elif 0 < row < width:
                        width, suspect = row, at + row
                        continue
                    elif width == 1 or sizes[at + width] - sizes[at] < _LEAF_BYTES:
                        left = width
                    else:
                        width //= 2
                        continue
                else:
                    self.parts.append(dataclasses.replace(part, message=mine[part.message]))
                    at, streak, window = at + width, 0, 2 * window
                    width = window
                    continue
            left = max(left, min(1 << streak, _MOST_LEFT))
            self._left.append(numbers[at : at + left])
            at, width, streak = at + left, window, streak + 1

    def flat(self, raw: pa.Array) -> np.ndarray:
        """Decode the messages of one flat object that holds numbers where they are wanted; return the others."""
        self.parts, left = flat.numbers(raw, self._columns)
        return left

    def rest(self, others: np.ndarray) -> None:
        """Decode one by one what was left, and others."""
        self._single(np.sort(np.concatenate([others, *self._left])))

    def _single(self, numbers: np.ndarray) -> None:
        """Decode messages one by one."""
        rows: list[Mapping[str, Any]] = []
        of: list[tuple[int, int]] = []
        paths = [column.path or (column.name,) for column in self._columns]
        deep = any(len(path) > 1 for path in paths)
        keys = {f'"{name}"'.encode(errors="replace") for path in paths for name in path}
        keys |= {f'"{column.name}"'.encode(errors="replace") for column in self._columns}
        for i in numbers.tolist():
            value = self._values[i]
            try:
                suspect = b"\\" in value or any(value.count(key) > 1 for key in keys)
                found = json_text.values(value, suspect)
            except ValueError as error:
                self._lenient(i, str(error))
                continue
            if not found and not value.strip():
                self.refused.append((EMPTY, i, -1, ""))
            for j, row in enumerate(found):
                if isinstance(row, dict):
                    twice = self._twice(row, paths) if deep or isinstance(row, json_text.Twice) else None
                    if twice is None:
                        rows.append(row)
                        of.append((i, j))
                    else:
                        self.refused.append((TWICE, i, j, detail(value, f"column {twice}")))
                else:
                    self.refused.append((_MALFORMED_ROW, i, j, detail(repr(row).encode(errors="replace"), "no object")))
        arrays, bad = converted(rows, self._columns)
        for k, name in bad.items():
            i, j = of[k]
            blamed = next(column for column in self._columns if column.name == name)
            text = repr(found_in(rows[k], blamed)).encode(errors="replace")
            self.refused.append((UNPARSEABLE, i, j, detail(text, f"column {name}")))
        where = np.array([at for k, at in enumerate(of) if k not in bad], dtype=np.int64).reshape(-1, 2)
        self.parts.append(arrow.Part(arrays, where[:, 0], where[:, 1]))

    def _twice(self, row: Mapping[str, Any], paths: Sequence[Sequence[str]]) -> str | None:
        """Return a column that an object has twice: neither value is the one that was meant."""
        for column, path in zip(self._columns, paths, strict=True):
            if json_text.twice(row, path) or json_text.twice(row, (column.name,)):
                return column.name
        return None

    def _lenient(self, i: int, words: str) -> None:
        """Refuse a message, unless pyarrow takes it: fields that nobody wants may hold what is nearly JSON."""
        value = self._values[i].strip()
        if value[:1] == b"{" and value[-1:] == b"}" and json_text.nearly(value):
            try:
                part = arrow.alone(value, self._columns)
            except (Unfit, arrow.Replan):
                pass
            else:
                self.parts.append(dataclasses.replace(part, message=np.full(len(part.message), i)))
                return
        self.refused.append((MALFORMED, i, -1, detail(self._values[i], words)))


def _shapes(values: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return messages of objects, those of an array, and others apart."""
    shape = np.fromiter((_SHAPE.get(value[:1] + value[-1:], 2) for value in values), np.int8, len(values))
    for i in np.flatnonzero(shape == 1).tolist():
        # What closes its array before its end is no array, though it may be one in the object that `arrays` puts it into.
        if values[i].find(b"]") != len(values[i]) - 1 and not json_text.is_one(values[i]):
            shape[i] = 2
    shape[_foreign(values)] = 2
    return np.flatnonzero(shape == 0), np.flatnonzero(shape == 1), np.flatnonzero(shape == 2)


_SHAPE = {b"{}": 0, b"[]": 1}


def _trimmed(values: pa.Array) -> list[bytes]:
    """Return the messages without a frame and white space around them."""
    found: list[bytes] = [value.strip(_SPACE) for value in values.to_pylist()]
    for i in [i for i, value in enumerate(found) if value.startswith(b"\0") and len(value) >= _FRAME_BYTES]:
        found[i] = found[i][_FRAME_BYTES:].strip(_SPACE)
    return found


def _foreign(values: list[bytes]) -> list[int]:
    """Return the numbers of messages that are not UTF-8."""
    if b"".join(values).isascii():
        return []
    return [i for i, value in enumerate(values) if not lines.is_text(value)]


def _rows(values: list[bytes], numbers: Sequence[int]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for i in numbers:
        try:
            rows += [row for row in json_text.values(values[i]) if isinstance(row, dict)]
        except ValueError:
            continue
    return rows


def _first_rows(values: list[bytes], numbers: Sequence[int]) -> list[Mapping[str, Any]]:
    return [row for i in numbers if isinstance(row := json_text.first(values[i]), dict)]


def _planned(
    values: list[bytes], shape: Callable[[Sequence[Mapping[str, Any]]], list[Column]], known: bool
) -> list[Column]:
    """Plan by some messages, and by the first few that name what those leave open."""
    if known or not values:
        return shape([])
    sample = set(np.linspace(0, len(values) - 1, min(len(values), _SAMPLED)).astype(int).tolist())
    columns = shape(_first_rows(values, sorted(sample)))
    named: set[int] = set()
    missing = [(column.path or (column.name,))[-1] for column in columns if column.kind == "nothing"]
    if not missing:
        return columns
    text = b"\n".join(values)
    ends = np.cumsum([len(value) + 1 for value in values])
    for name in missing:
        at, key = -1, json_text.quoted(name).encode(errors="replace")
        for _ in range(_LOOKS):
            at = text.find(key, at + 1)
            if at < 0:
                break
            named.add(int(np.searchsorted(ends, at, side="right")))
    return shape(_first_rows(values, sorted(sample)) + _rows(values, sorted(named)))


def _decode(
    raw: pa.Array, wanted: Sequence[str] | None, types: Mapping[str, pa.DataType], categories: Sequence[str]
) -> Decoded:
    values = _trimmed(raw)
    names, loose = list(dict.fromkeys(wanted)) if wanted is not None else None, dict[str, None]()
    if names is None:
        rows = _rows(values, range(len(values)))
        loose = dict.fromkeys(key for row in rows for key, value in row.items() if not isinstance(value, dict | list))
        names = [name for name in loose if json_text.is_text(name)]
        names += [name for name in types if name not in loose]
    shape = functools.partial(plan, names, types, categories=categories, loose=loose)
    columns, replanned = _planned(values, shape, settled(names, types)), False
    while True:
        run = _Run(values, columns, replanned)
        try:
            left = run.flat(raw)
            objects, arrays, others = (left[some] for some in _shapes([values[i] for i in left]))
            run.many(objects, arrow.objects)
            run.many(arrays, arrow.arrays)
            run.rest(others)
            break
        except arrow.Replan:
            replanned = True
            columns = shape(_rows(values, range(len(values))))
    found = _joined(run, columns)
    for column in columns if len(found.message) else ():
        if pa.types.is_null(found.batch.column(column.name).type):
            _warn_of(column, values)
    return found


def _names(row: Mapping[str, Any], column: Column) -> bool:
    """Return whether a row has a column, be it null."""
    within: Any = row
    for name in column.path or ():
        if not isinstance(within, dict) or name not in within:
            return column.name in row
        within = within[name]
    return column.path is not None or column.name in row


def _warn_of(column: Column, values: list[bytes]) -> None:
    """Say once of a column that no message has, where none of the first has it, which there are."""
    if column.name in _absent:
        return
    rows = _first_rows(values, range(min(len(values), _SAMPLED)))
    if rows and not any(_names(row, column) for row in rows):
        _absent.add(column.name)
        there = list(dict.fromkeys(name for row in rows for name in json_text.names(row)))[:_MOST_NAMES]
        _log.warning("no message of the first %d has the column %r; they have %s.", len(rows), column.name, there)


def _joined(run: _Run, columns: list[Column]) -> Decoded:
    """Concatenate the parts, in the messages' order."""
    parts = [part for part in run.parts if len(part.message)]
    message, row, order = in_order((part.message, part.row) for part in parts)
    named = {}
    for i, column in enumerate(columns):
        pieces = [part.arrays[i] for part in parts]
        empty = pa.array([], column.target or wire_type(column))
        array = pieces[0] if len(pieces) == 1 else joined(pieces) if pieces else empty
        if order is not None:
            array = array.take(order)
        named[column.name] = whole(array) if column.target is None else array
    return Decoded(rows_batch(named, len(message)), message, row, refusals(run.refused))


def message_decoder(options: dict[str, Any]) -> Decoder:
    """Return the decoder of JSON messages.

    Naming the columns wanted makes it several times faster: all others are skipped unread.

    Args:
        options: fields of `Options`.

    Raises:
        InvalidValue: options it does not know.

    >>> decode = message_decoder({"types": {"at": "timestamp[us, tz=UTC]"}})
    >>> found = decode(pa.array([b'{"x": {"y": 1}, "at": "2024-05-01T12:00:00Z"}', b'[{"at": "?"}]']), ["x.y", "at"])
    >>> found.batch.column("x.y").to_pylist(), found.message.tolist(), found.refused[0].reason
    ([1], [0], 'unparseable value')
    """
    known = Options.parse(options)
    if known.record_columns:
        return lambda values, columns=None: of_messages(_trimmed(values), columns, known)
    changes = known.envelope == "debezium"
    path = change_events.path if changes else str
    types = {path(name): arrow_types.named(kind) for name, kind in known.types.items()}
    categories = [path(name) for name in known.categories]

    def decode(values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        return _decode(values, columns, types, categories)

    if known.envelope == "none":
        return decode
    unwrapping = envelopes.decoder(decode, bare=changes)
    return change_events.decoder(unwrapping, _events) if changes else unwrapping


def _events(message: bytes) -> list[Any]:
    """Return the objects of a message, in an envelope or bare."""
    (value,) = _trimmed(pa.array([message]))
    try:
        found = json_text.values(value)
    except ValueError:  # pyarrow takes what is only nearly JSON
        return []
    return [one["payload"] if isinstance(one, dict) and one.keys() == {"schema", "payload"} else one for one in found]


def message_encoder(options: dict[str, Any]) -> Encoder:
    """Return the encoder of JSON messages: one object per row, several separated by line ends; times as ISO 8601 texts.

    Args:
        options: fields of `Options`.

    Raises:
        InvalidValue: options it does not know, or a column that has no JSON equal.
    """
    known = Options.parse(options)

    def encode(rows: pa.RecordBatch, rows_per_message: int = 1) -> list[bytes]:
        texts = [line for some in written(rows, known) for line in some]
        return [b"\n".join(texts[i : i + rows_per_message]) for i in range(0, len(texts), rows_per_message)]

    return encode
