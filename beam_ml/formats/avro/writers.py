"""The schemas that wrote Avro messages: where they are found, and what columns they have."""

import contextlib
import dataclasses
import functools
import itertools
import json
import logging
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import fastavro
from pydantic import Field, model_validator

from beam_ml.core.spec import Duration, Settings
from beam_ml.errors import MissingColumn, NoInput, UnreadableInput
from beam_ml.formats.avro import columns as avro_columns
from beam_ml.formats.avro import schema_registry
from beam_ml.formats.avro.values import Leaf, bare, column, names
from beam_ml.formats.avro.walk import Walk, walk_for

__all__ = ["Options", "Schema", "find", "leaf_of"]

_MOST_NAMES = 100
_FAULTS = Exception
"""What fastavro raises on what is no schema has no narrower common base."""
_log = logging.getLogger(__name__)


class Options(Settings):
    """Where the schemas that wrote Avro messages are found: exactly one of four."""

    called: ClassVar[str] = "avro.Options"

    framing: Annotated[
        Literal["confluent", "none"], Field(description="none: the bytes of the value alone, all of one schema")
    ] = "confluent"
    envelope: Annotated[
        Literal["none", "debezium"],
        Field(description="debezium: records are change events, of which columns are the rows'"),
    ] = "none"
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
class Schema:
    """A writer's schema.

    Attributes:
        where: what it is called in messages.
        texts: the schema as it was given, behind those that it refers to.
        parsed: as fastavro reads it; logical types are what they are stored as.
        record, named: of a row, and the types that it names.
        many: whether a message is an array of records.
        columns: reads many messages at once, or None where the schema has what that cannot.
        walk: goes through a message before it is decoded one by one; None: that needs none.
        known: columns looked up before.
    """

    where: str
    texts: tuple[str, ...]
    parsed: Any
    record: Mapping[str, Any]
    named: Mapping[str, Any]
    many: bool
    columns: avro_columns.Reader | None
    walk: Walk | None = None
    known: dict[str, Leaf | None] = dataclasses.field(default_factory=dict)

    def leaf(self, name: str) -> Leaf | None:
        """Return a column; None: there is none.

        Raises:
            MissingColumn: it is of a type that no column has.
        """
        if name not in self.known:
            try:
                self.known[name] = column(self.record, self.named, name)
            except ValueError as error:
                message = f"{self.where} has the column {name!r}, which cannot be read: {error}."
                raise MissingColumn(message) from error
        return self.known[name]

    @property
    def fields(self) -> list[str]:
        """The names of a row's fields, those that no column can hold left out."""
        found = []
        for field in self.record["fields"]:
            with contextlib.suppress(MissingColumn):
                self.leaf(field["name"])
                found.append(field["name"])
        return found

    @property
    def names(self) -> list[str]:
        """Names of columns, for messages: the first of very many."""
        return list(itertools.islice(names(self.record, self.named), _MOST_NAMES))


def _schema(texts: tuple[str, ...], where: str) -> Schema:
    """Parse a schema, the last of texts; the others are what it refers to."""
    named: dict[str, Any] = {}
    try:
        for text in texts:
            raw = json.loads(text)
            parsed = fastavro.parse_schema(bare(raw), named_schemas=named)
    except _FAULTS as error:
        message = f"{where} must be an Avro schema; got {texts[-1][:80]!r} ({' '.join(str(error).split())})."
        raise UnreadableInput(message) from error
    many = isinstance(parsed, dict) and parsed.get("type") == "array"
    of = parsed["items"] if many else parsed
    raw = raw["items"] if many else raw
    of = named.get(of, of) if isinstance(of, str) else of
    if not isinstance(of, dict) or of.get("type") != "record" or (isinstance(raw, dict) and "fields" not in raw):
        message = f"{where} must be the schema of a record, or of an array of records; got {texts[-1][:80]!r}."
        raise UnreadableInput(message)
    reader = avro_columns.reader(of, named, many)
    return Schema(where, texts, parsed, of, named, many, reader, walk_for(parsed, named))


@functools.lru_cache(maxsize=256)
def _from_text(text: str) -> Schema:
    return _schema((text,), "avro.Options.schema_text")


@functools.lru_cache(maxsize=256)
def _from_file(path: str) -> Schema:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} must be a file that holds an Avro schema; it cannot be read ({error})."
        raise NoInput(message) from error
    return _schema((text,), path)


@functools.lru_cache(maxsize=1024)
def _from_registry(url: str, id: int, authorization: str | None, timeout_s: float) -> Schema:
    return _schema(schema_registry.schema(url, id, authorization, timeout_s), f"schema {id} of {url}")


def find(options: Options, id: int | None) -> Schema | None:
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


def leaf_of(schema: Schema, name: str, options: Options) -> Leaf | None:
    """Return a column of a schema; None: it has none, and another may have it, so that its rows have nothing there.

    Raises:
        MissingColumn: none of the schemas that were given has it.
    """
    found = schema.leaf(name)
    if found is not None:
        return found
    if options.registry is not None or any(
        _from_file(path).leaf(name) for path in (options.schema_files or {}).values()
    ):
        _say(schema.where, name, tuple(schema.names))
        return None
    message = f"{schema.where} must have the column {name!r}; got {schema.names}."
    raise MissingColumn(message)


@functools.cache
def _say(where: str, name: str, there: tuple[str, ...]) -> None:
    _log.warning("%s has no column %r, so that its rows have nothing there; it has %s.", where, name, list(there))
