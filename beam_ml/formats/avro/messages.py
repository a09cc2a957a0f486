"""Messages of Avro: a record, or an array of records; plain, or framed with the id of the schema that wrote them.

Confluent's frame is a byte 0 and the id as four bytes, the most significant first. Many messages of one schema are
decoded column by column (`columns`); what that cannot settle is read one by one by fastavro.
"""

import dataclasses
import functools
import io
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import fastavro
import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from beam_ml.core.spec import Duration, Settings
from beam_ml.errors import InvalidValue, NoInput, UnreadableInput
from beam_ml.formats.avro import columns as avro_columns
from beam_ml.formats.avro import schema_registry
from beam_ml.formats.avro.schema import arrow_type, plain, stored
from beam_ml.formats.avro.walk import Walk, walk_for
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

__all__ = ["Options", "message_decoder", "message_encoder"]

_FRAME = struct.Struct(">bI")
_UNKNOWN = "unknown schema"
_FAULTS = Exception
"""What fastavro and the conversion raise on damaged bytes has no narrower common base."""


class Options(Settings):
    """Where the schemas that wrote Avro messages are found: exactly one of four."""

    called: ClassVar[str] = "avro.Options"

    framing: Annotated[
        Literal["confluent", "none"], Field(description="none: the bytes of the value alone, all of one schema")
    ] = "confluent"
    schema_text: Annotated[str | None, Field(description="the schema of all messages, whatever their id")] = None
    schema_file: Annotated[str | None, Field(description="a file that holds it")] = None
    schema_files: Annotated[Mapping[int, str] | None, Field(description="id → file; other ids are refused")] = None
    registry: Annotated[str | None, Field(description="URL of a schema registry")] = None
    authorization: Annotated[
        str | None, Field(description="header for the registry; '$NAME' is read from the worker's environment")
    ] = None
    timeout: Annotated[Duration, Field(description="s to wait for the registry")] = 10.0
    unknown_id: Annotated[
        Literal["fail", "refuse"], Field(description="what an id that the registry does not have does")
    ] = "fail"
    write_id: Annotated[int | None, Field(ge=0, lt=2**32, description="the schema that an encoder writes")] = None

    @model_validator(mode="after")
    def _one_way(self) -> "Options":
        ways = ["schema_text", "schema_file", "schema_files", "registry"]
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) != 1:
            message = f"must be given one of {', '.join(ways)}; got {', '.join(given) or 'none'}"
            raise ValueError(message)
        if self.framing == "none" and given[0] in ("schema_files", "registry"):
            message = f"{given[0]} needs messages framed with an id, not framing 'none'"
            raise ValueError(message)
        return self


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Schema:
    """A writer's schema.

    Attributes:
        parsed: as fastavro reads it; times are integers.
        fields: column → its Arrow type; those that have none are left out.
        many: whether a message is an array of records.
        columns: reads many messages at once, or None where the schema has what that cannot.
        walk: goes through a message before it is decoded one by one; None: that needs none.
    """

    parsed: Any
    fields: Mapping[str, pa.DataType]
    many: bool
    columns: avro_columns.Reader | None
    walk: Walk | None = None


def _schema(texts: tuple[str, ...], where: str) -> _Schema:
    """Parse a schema, the last of texts; the others are what it refers to."""
    try:
        named: dict[str, Any] = {}
        *others, own = (plain(json.loads(text)) for text in texts)
        for other in others:
            fastavro.parse_schema(other, named_schemas=named)
        parsed = fastavro.parse_schema(own, named_schemas=named)
    except _FAULTS as error:
        message = f"{where} must be an Avro schema; got {texts[-1][:80]!r} ({' '.join(str(error).split())})."
        raise UnreadableInput(message) from error
    raw = json.loads(texts[-1])
    many = isinstance(own, dict) and own.get("type") == "array"
    of, raw = (own["items"], raw["items"]) if many else (own, raw)
    if not isinstance(of, dict) or of.get("type") != "record" or "fields" not in of:
        message = f"{where} must be the schema of a record, or of an array of records; got {texts[-1][:80]!r}."
        raise UnreadableInput(message)
    fields = {}
    for field in raw["fields"]:
        try:
            fields[field["name"]] = arrow_type(field["type"])
        except (ValueError, KeyError, TypeError):
            continue
    return _Schema(parsed, fields, many, avro_columns.reader(of, fields, many), walk_for(parsed, named))


@functools.lru_cache(maxsize=256)
def _from_text(text: str) -> _Schema:
    return _schema((text,), "avro.Options.schema_text")


@functools.lru_cache(maxsize=256)
def _from_file(path: str) -> _Schema:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} must be a file that holds an Avro schema; it cannot be read ({error})."
        raise NoInput(message) from error
    return _schema((text,), path)


@functools.lru_cache(maxsize=1024)
def _from_registry(url: str, id: int, authorization: str | None, timeout_s: float) -> _Schema:
    return _schema(schema_registry.schema(url, id, authorization, timeout_s), f"schema {id} of {url}")


def _find(options: Options, id: int | None) -> _Schema | None:
    """Return the schema of an id; None if there is none: its messages are refused."""
    if options.schema_text is not None:
        return _from_text(options.schema_text)
    if options.schema_file is not None:
        return _from_file(options.schema_file)
    assert id is not None  # noqa: S101 such options have a frame
    if options.schema_files is not None:
        path = options.schema_files.get(id)
        return None if path is None else _from_file(path)
    assert options.registry is not None  # noqa: S101
    try:
        return _from_registry(options.registry, id, options.authorization, options.timeout)
    except NoInput:
        if options.unknown_id == "fail":
            raise
        return None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Rows of messages of one schema."""

    columns: dict[str, pa.Array]
    message: np.ndarray
    row: np.ndarray


def _singly(
    values: list[bytes],
    numbers: np.ndarray,
    skipped: int,
    schema: _Schema,
    names: Sequence[str],
    refused: list[Refusal],
) -> _Part:
    """Read messages one by one."""
    rows: list[Mapping[str, Any]] = []
    of: list[tuple[int, int]] = []
    for i in numbers.tolist():
        stream = io.BytesIO(values[i])
        stream.seek(skipped)
        try:
            if schema.walk is not None:
                schema.walk(values[i], skipped)
            # Texts that are not UTF-8 are kept from columns that are wanted, by `_arrays`; others do not matter.
            found: Any = fastavro.schemaless_reader(stream, schema.parsed, handle_unicode_errors="surrogateescape")
            left = len(values[i]) - stream.tell()
        except (_FAULTS, RecursionError) as error:
            words = " ".join(str(error).split()) or type(error).__name__
            refused.append((MALFORMED, i, -1, detail(values[i], words)))
            continue
        if left:
            refused.append((MALFORMED, i, -1, detail(values[i], f"{left} bytes after the value")))
            continue
        many = found if schema.many else [found]
        rows += many
        of += [(i, j) for j in range(len(many))]
    arrays, bad = _arrays(rows, {name: schema.fields[name] for name in names})
    for k, name in bad.items():
        refused.append(
            (UNPARSEABLE, *of[k], detail(repr(rows[k].get(name)).encode(errors="replace"), f"column {name}"))
        )
    where = np.array([at for k, at in enumerate(of) if k not in bad], dtype=np.int64).reshape(-1, 2)
    return _Part(arrays, where[:, 0], where[:, 1])


def _arrays(
    rows: Sequence[Mapping[str, Any]], fields: Mapping[str, pa.DataType]
) -> tuple[dict[str, pa.Array], dict[int, str]]:
    """Return the columns of the rows that convert, and the others' numbers with the column to blame."""
    bad: dict[int, str] = {}
    for name, kind in fields.items():
        try:
            pa.array([row[name] for row in rows], kind)
        except _FAULTS:
            for k, row in enumerate(rows):
                try:
                    pa.array([row[name]], kind)
                except _FAULTS:
                    bad.setdefault(k, name)
    good = [row for k, row in enumerate(rows) if k not in bad] if bad else rows
    return {name: pa.array([row[name] for row in good], kind) for name, kind in fields.items()}, bad


def _of_schema(
    values: pa.Array, numbers: np.ndarray, skipped: int, schema: _Schema, names: Sequence[str], refused: list[Refusal]
) -> list[_Part]:
    """Read messages of one schema: many at once, and those that cannot be so one by one."""
    parts = []
    rest = numbers
    if schema.columns is not None:
        found = schema.columns(values, numbers, skipped, names)
        parts.append(_Part(found.columns, found.message, found.row))
        rest = found.rest
    if len(rest):
        every = values.to_pylist() if len(rest) * 4 > len(values) else {i: values[i].as_py() for i in rest.tolist()}
        parts.append(_singly(every, rest, skipped, schema, names, refused))  # type: ignore[arg-type]
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
    parts: list[tuple[Mapping[str, pa.DataType], _Part]] = []
    order: dict[str, None] = {}
    for id in np.unique(ids[good]).tolist():
        mine = everything[good & (ids == id)]
        schema = _find(options, id if skipped else None)
        if schema is None:
            for i in mine.tolist():
                refused.append((_UNKNOWN, i, -1, f"schema id {id}"))
            continue
        order |= dict.fromkeys(schema.fields)
        names = list(schema.fields) if wanted is None else [name for name in wanted if name in schema.fields]
        parts += [(schema.fields, part) for part in _of_schema(values, mine, skipped, schema, names, refused)]
    names = list(order) if wanted is None else list(dict.fromkeys(wanted))
    return _joined(parts, names, refused)


def _joined(
    parts: list[tuple[Mapping[str, pa.DataType], _Part]], names: Sequence[str], refused: list[Refusal]
) -> Decoded:
    """Concatenate parts of several schemas, in the messages' order; a column that a schema lacks is null there."""
    types: dict[str, pa.DataType] = {}
    kept = []
    for fields, part in parts:
        clash = [name for name in names if name in part.columns and not _widen(types, name, fields[name])]
        for i, j in zip(part.message.tolist(), part.row.tolist(), strict=True) if clash else ():
            refused.append((UNPARSEABLE, i, j, f"column {clash[0]} is of another type than in other schemas"))
        if not clash:
            kept.append(part)
    message, row, order = in_order((part.message, part.row) for part in kept)
    columns = {}
    for name in names:
        kind = types.get(name, pa.null())
        pieces = [
            part.columns[name].cast(kind) if name in part.columns else pa.nulls(len(part.message), kind)
            for part in kept
        ]
        columns[name] = pa.concat_arrays(pieces) if pieces else pa.nulls(0, kind)
    batch = rows_batch(columns, len(message))
    return Decoded(batch if order is None else batch.take(order), message, row, refusals(refused))


def _widen(types: dict[str, pa.DataType], name: str, kind: pa.DataType) -> bool:
    """Make a column's type hold another schema's too; False where none holds both."""
    try:
        both = [pa.schema([(name, one)]) for one in (types.get(name, kind), kind)]
        types[name] = pa.unify_schemas(both, promote_options="permissive").field(name).type
    except pa.ArrowException:
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

    >>> schema = '{"type": "record", "name": "r", "fields": [{"name": "x", "type": "double"}]}'
    >>> decode = message_decoder({"framing": "none", "schema_text": schema})
    >>> found = decode(pa.array([struct.pack("<d", 2.5), b"short"]))
    >>> found.batch.to_pydict(), found.refused[0].reason, found.refused[0].message.tolist()
    ({'x': [2.5]}, 'malformed message', [1])
    """
    known = Options.parse(options)
    if known.schema_text is not None or known.schema_file is not None:
        _find(known, None)

    def decode(values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        return _decode(values, columns, known)

    return decode


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
    schema = _find(known, known.write_id)
    if schema is None:
        message = f"avro.Options.write_id must be the id of a known schema; got {known.write_id}."
        raise InvalidValue(message)
    parsed, many = schema.parsed, schema.many

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
