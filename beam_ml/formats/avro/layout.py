"""How the fields of a record lie in its bytes, where many records can be read at once."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Field", "fields_of", "flat"]

_WIDTHS = {"float": 4, "double": 8}
_DEEPEST = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A field: its path, its base type, the branch of a union that is not null (None: no union), and what base needs."""

    path: tuple[str, ...]
    base: str
    branch: int | None
    symbols: tuple[str, ...] = ()
    width: int = 0
    inner: "tuple[Field, ...]" = ()


def _field(path: tuple[str, ...], schema: Any, named: Mapping[str, Any], within: tuple[str, ...]) -> Field | None:
    """Return how a field is read; None: not here."""
    if isinstance(schema, list):
        if len(schema) != 2 or "null" not in schema:
            return None
        branch = 1 - schema.index("null")
        one = _field(path, schema[branch], named, within)
        return None if one is None or one.branch is not None else dataclasses.replace(one, branch=branch)
    if isinstance(schema, str) and schema in named:
        schema = named[schema]
    if isinstance(schema, dict):
        if schema["type"] == "enum":
            return Field(path, "enum", None, tuple(schema["symbols"]))
        if schema["type"] == "fixed":
            return Field(path, "fixed", None, (), schema["size"]) if schema["size"] else None
        if schema["type"] == "record":
            inner = fields_of(schema, named, path, within)
            return None if inner is None else Field(path, "record", None, inner=inner)
        schema = schema["type"]
    known = ("boolean", "int", "long", "float", "double", "string", "bytes")
    return Field(path, schema, None, (), _WIDTHS.get(schema, 0)) if schema in known else None


def fields_of(
    record: Mapping[str, Any], named: Mapping[str, Any], path: tuple[str, ...] = (), within: tuple[str, ...] = ()
) -> tuple[Field, ...] | None:
    """Return how the fields of a record are read; None: not here."""
    if record["name"] in within or len(within) >= _DEEPEST:
        return None
    within = (*within, record["name"])
    found = []
    for one in record["fields"]:
        field = _field((*path, one["name"]), one["type"], named, within)
        if field is None:
            return None
        found.append(field)
    return tuple(found)


def flat(fields: Sequence[Field]) -> dict[tuple[str, ...], Field]:
    """Return the fields that are no records, by their paths."""
    found: dict[tuple[str, ...], Field] = {}
    for field in fields:
        found |= flat(field.inner) if field.base == "record" else {field.path: field}
    return found
