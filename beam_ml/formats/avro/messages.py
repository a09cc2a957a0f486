"""Messages of Avro: a record, or an array of records; plain, or framed with the id of the schema that wrote them.

Confluent's frame is a byte 0 and the id as four bytes, the most significant first. Many messages of one schema are
decoded column by column (`columns`); what that cannot settle is read one by one by fastavro.
"""

import dataclasses
import io
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from beam_ml.errors import InvalidValue
from beam_ml.formats import change_events
from beam_ml.formats.avro import columns as avro_columns
from beam_ml.formats.avro.schema import plain, stored
from beam_ml.formats.avro.values import Leaf, taken
from beam_ml.formats.avro.writers import Options, Schema, find, leaf_of
from beam_ml.formats.messages import (
    EMPTY,
    MALFORMED,
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

__all__ = ["Options", "message_decoder", "message_encoder"]

_FRAME = struct.Struct(">bI")
_UNKNOWN = "unknown schema"
_FAULTS = Exception
"""What fastavro and the conversion raise on damaged bytes has no narrower common base."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Rows of messages of one schema."""

    columns: dict[str, pa.Array]
    message: np.ndarray
    row: np.ndarray


def _records(value: bytes, skipped: int, schema: Schema) -> tuple[list[Mapping[str, Any]], int]:
    """Return the records of a message, and how many bytes follow them; raises one of `_FAULTS`, or RecursionError."""
    stream = io.BytesIO(value)
    stream.seek(skipped)
    if schema.walk is not None:
        schema.walk(value, skipped)
    # Texts that are not UTF-8 are kept from columns that are wanted, by `_arrays`; others do not matter.
    found: Any = fastavro.schemaless_reader(stream, schema.parsed, handle_unicode_errors="surrogateescape")
    return found if schema.many else [found], len(value) - stream.tell()


def _singly(
    values: list[bytes],
    numbers: np.ndarray,
    skipped: int,
    schema: Schema,
    leaves: Mapping[str, Leaf],
    refused: list[Refusal],
) -> _Part:
    """Read messages one by one."""
    rows: list[Mapping[str, Any]] = []
    of: list[tuple[int, int]] = []
    for i in numbers.tolist():
        try:
            many, left = _records(values[i], skipped, schema)
        except (_FAULTS, RecursionError) as error:
            words = " ".join(str(error).split()) or type(error).__name__
            refused.append((MALFORMED, i, -1, detail(values[i], words)))
            continue
        if left:
            refused.append((MALFORMED, i, -1, detail(values[i], f"{left} bytes after the value")))
            continue
        rows += many
        of += [(i, j) for j in range(len(many))]
    arrays, bad = _arrays(rows, leaves)
    for k, name in bad.items():
        seen = repr(taken(rows[k], leaves[name]._replace(convert=None))).encode(errors="replace")
        refused.append((UNPARSEABLE, *of[k], detail(seen, f"column {name}")))
    where = np.array([at for k, at in enumerate(of) if k not in bad], dtype=np.int64).reshape(-1, 2)
    return _Part(arrays, where[:, 0], where[:, 1])


def _arrays(
    rows: Sequence[Mapping[str, Any]], leaves: Mapping[str, Leaf]
) -> tuple[dict[str, pa.Array], dict[int, str]]:
    """Return the columns of the rows that convert, and the others' numbers with the column to blame."""
    bad: dict[int, str] = {}
    for name, leaf in leaves.items():
        try:
            pa.array([taken(row, leaf) for row in rows], leaf.kind)
        except _FAULTS:
            for k, row in enumerate(rows):
                try:
                    pa.array([taken(row, leaf)], leaf.kind)
                except _FAULTS:
                    bad.setdefault(k, name)
    good = [row for k, row in enumerate(rows) if k not in bad] if bad else rows
    return {name: pa.array([taken(row, leaf) for row in good], leaf.kind) for name, leaf in leaves.items()}, bad


def _of_schema(
    values: pa.Array,
    numbers: np.ndarray,
    skipped: int,
    schema: Schema,
    leaves: Mapping[str, Leaf],
    refused: list[Refusal],
) -> list[_Part]:
    """Read messages of one schema: many at once, and those that cannot be so one by one."""
    parts = []
    rest = numbers
    if schema.columns is not None:
        found = schema.columns(values, numbers, skipped, leaves)
        parts.append(_Part(found.columns, found.message, found.row))
        rest = found.rest
    if len(rest):
        every = values.to_pylist() if len(rest) * 4 > len(values) else {i: values[i].as_py() for i in rest.tolist()}
        parts.append(_singly(every, rest, skipped, schema, leaves, refused))  # type: ignore[arg-type]
    return parts


def _decode(values: pa.Array, wanted: Sequence[str] | None, options: Options) -> Decoded:
    refused: list[Refusal] = []
    data, bounds = avro_columns.buffers(values)
    size = np.diff(bounds)
    everything = np.arange(len(size))
    good = size > 0
    for i in everything[~good].tolist():
        refused.append((EMPTY, i, -1, ""))
    skipped, ids = 0, np.zeros(len(size), dtype=np.int64)
    if options.framing == "confluent":
        skipped = _FRAME.size
        framed = good & (size >= skipped)
        framed[framed] = data[bounds[:-1][framed]] == 0
        for i in everything[good & ~framed].tolist():
            refused.append((MALFORMED, i, -1, detail(values[i].as_py(), "no frame of a byte 0 and a schema's id")))
        good = framed
        at = bounds[:-1][good][:, None] + np.arange(1, skipped)
        ids[good] = data[at].astype(np.int64) @ (1 << np.array([24, 16, 8, 0]))
    parts: list[_Part] = []
    order: dict[str, None] = {}
    for id in np.unique(ids[good]).tolist():
        mine = everything[good & (ids == id)]
        schema = find(options, id if skipped else None)
        if schema is None:
            for i in mine.tolist():
                refused.append((_UNKNOWN, i, -1, f"schema id {id}"))
            continue
        fields = schema.fields if wanted is None else wanted
        order |= dict.fromkeys(fields)
        leaves = {name: leaf for name in fields if (leaf := leaf_of(schema, name, options)) is not None}
        parts += _of_schema(values, mine, skipped, schema, leaves, refused)
    return _joined(parts, list(order) if wanted is None else list(dict.fromkeys(wanted)), refused)


def _joined(parts: list[_Part], names: Sequence[str], refused: list[Refusal]) -> Decoded:
    """Concatenate parts of several schemas, in the messages' order; a column that a schema lacks is null there."""
    pieces: dict[str, list[pa.Array]] = {name: [] for name in names}
    kept = []
    for part in parts:
        clash = next((name for name in names if not _stands_beside(pieces[name], part.columns.get(name))), None)
        if clash is None:
            kept.append(part)
            for name in names:
                pieces[name].append(part.columns.get(name, pa.nulls(len(part.message))))
            continue
        for i, j in zip(part.message.tolist(), part.row.tolist(), strict=True):
            refused.append((UNPARSEABLE, i, j, f"column {clash} is of another type than in other schemas"))
    message, row, order = in_order((part.message, part.row) for part in kept)
    columns = {name: joined(arrays) if arrays else pa.nulls(0) for name, arrays in pieces.items()}
    batch = rows_batch(columns, len(message))
    return Decoded(batch if order is None else batch.take(order), message, row, refusals(refused))


def _stands_beside(pieces: list[pa.Array], column: pa.Array | None) -> bool:
    """Return whether a column can hold another schema's, too."""
    if column is None or not pieces or column.type == pieces[-1].type:
        return True
    try:
        joined([one.slice(0, 0) for one in (*pieces, column)])
    except ValueError:
        return False
    return True


def message_decoder(options: dict[str, Any]) -> Decoder:
    """Return the decoder of Avro messages.

    A schema that the registry does not have ends the read, unless `unknown_id` is `refuse`.

    Args:
        options: fields of `Options`.

    Raises:
        InvalidValue: options it does not know, or no schema.
        UnreadableInput: the schema is none, or not of records.

    The decoder raises MissingColumn where no schema that was given has a column, or it is of a type that no column has.

    >>> schema = '{"type": "record", "name": "r", "fields": [{"name": "x", "type": "double"}]}'
    >>> decode = message_decoder({"framing": "none", "schema_text": schema})
    >>> found = decode(pa.array([struct.pack("<d", 2.5), b"short"]))
    >>> found.batch.to_pydict(), found.refused[0].reason, found.refused[0].message.tolist()
    ({'x': [2.5]}, 'malformed message', [1])
    """
    known = Options.parse(options)
    own = find(known, None) if known.schema_text is not None or known.schema_file is not None else None

    def decode(values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        if own is not None:  # of no messages, too
            for name in columns or ():
                leaf_of(own, name, known)
        return _decode(values, columns, known)

    def events(value: bytes) -> list[Mapping[str, Any]]:
        skipped, id = (_FRAME.size, _FRAME.unpack_from(value)[1]) if known.framing == "confluent" else (0, None)
        schema = find(known, id)
        return [] if schema is None else _records(value, skipped, schema)[0]

    return change_events.decoder(decode, events) if known.envelope == "debezium" else decode


def message_encoder(options: dict[str, Any]) -> Encoder:
    """Return the encoder of Avro messages: one record per message, or an array of them where the schema is one.

    Args:
        options: fields of `Options`; with a frame, `write_id` says which schema to write.

    Raises:
        InvalidValue: options it does not know, or no schema to write.
        SourceError: the schema cannot be had.
    """
    known = Options.parse(options)
    frame = b""
    if known.framing == "confluent":
        if known.write_id is None:
            message = "avro.Options.write_id must be given to encode with a frame; got none."
            raise InvalidValue(message)
        frame = _FRAME.pack(0, known.write_id)
    schema = find(known, known.write_id)
    if schema is None:
        message = f"avro.Options.write_id must be the id of a known schema; got {known.write_id}."
        raise InvalidValue(message)
    many, named = schema.many, dict[str, Any]()
    for text in schema.texts:
        parsed = fastavro.parse_schema(plain(json.loads(text)), named_schemas=named)

    def encode(rows: pa.RecordBatch, rows_per_message: int = 1) -> list[bytes]:
        if rows_per_message != 1 and not many:
            message = f"rows_per_message must be 1 where the schema is no array; got {rows_per_message}."
            raise InvalidValue(message)
        records = stored(rows).to_pylist()
        found = []
        for i in range(0, len(records), rows_per_message):
            stream = io.BytesIO(frame)
            stream.seek(len(frame))
            try:
                fastavro.schemaless_writer(stream, parsed, records[i : i + rows_per_message] if many else records[i])
            except _FAULTS as error:
                message = f"row {i} must fit the Avro schema; got {records[i]!r:.200} ({error!r})."
                raise InvalidValue(message) from error
            found.append(stream.getvalue())
        return found

    return encode
