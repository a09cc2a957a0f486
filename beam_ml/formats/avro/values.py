"""Avro values → columns: what each type of a writer's schema becomes, and the paths that name values within records."""

import decimal
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from beam_ml.formats.avro.schema import LOGICAL, PRIMITIVE, is_decimal
from beam_ml.formats.mixed import spelled

__all__ = ["Leaf", "arrow_type", "bare", "column", "leaf", "names", "taken"]

Convert = Callable[[Any], Any]

_MARK = "beam_ml.logical"
_SELF = object()
_LEVELS, _MOST_TYPES = 40, 10_000
_MOST_SCALE = 100_000
_MOST_BYTES = 4096
"""Of a decimal: more are no float64 either, and take long to make."""
_CONTEXT = decimal.Context(prec=10_000, traps=[decimal.InvalidOperation])


class Leaf(NamedTuple):
    """A column of a schema.

    Attributes:
        path: names of fields, one within another.
        kind: the column's type.
        convert: from a value as it is read, which is not None, to one of the column; None: it is one.
    """

    path: tuple[str, ...]
    kind: pa.DataType
    convert: Convert | None = None


def bare(schema: Any) -> Any:
    """Return a schema to be read by: logical types that are valid leave a mark, and values are read as they are stored.

    >>> bare({"type": "long", "logicalType": "timestamp-millis"})
    {'type': 'long', 'beam_ml.logical': 'timestamp-millis'}
    >>> bare({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 3})
    {'type': 'bytes', 'precision': 2, 'scale': 3}
    """
    if isinstance(schema, list):
        return [bare(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not key.startswith("__") and key != _MARK}
    logical = kept.pop("logicalType", None)
    if _is_valid(kept, logical):
        kept[_MARK] = logical
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = bare(kept[key])
    if isinstance(kept.get("fields"), list):
        kept["fields"] = [{**field, "type": bare(field["type"])} for field in kept["fields"]]
    return kept


def _is_valid(schema: Mapping[str, Any], logical: Any) -> bool:
    """Return whether a logical type is one that the specification has for the type beneath."""
    kind = schema.get("type")
    if logical == "decimal":
        return is_decimal(schema) and int(schema.get("scale", 0)) <= _MOST_SCALE
    if logical == "uuid":
        return kind == "string" or (kind == "fixed" and schema.get("size") == 16)
    return isinstance(logical, str) and logical in LOGICAL and kind == LOGICAL[logical][0]


def _of(schema: Any, named: Mapping[str, Any]) -> Any:
    """Return the type itself, where it is named or wrapped; a primitive one without properties as its name."""
    for _ in range(_LEVELS):
        if isinstance(schema, str):
            if schema in PRIMITIVE or schema not in named:
                return schema
            schema = named[schema]
            if schema is _SELF:
                break
        elif isinstance(schema, dict) and (isinstance(schema["type"], dict | list) or schema["type"] in named):
            schema = schema["type"]
        else:
            return schema
    message = "a type that holds itself has no Arrow equivalent"
    raise ValueError(message)


def _within(one: Any, named: Mapping[str, Any]) -> Any:
    """Return the record that a type is, or is null or; None: neither."""
    if isinstance(one, list):
        others = [branch for branch in one if branch != "null"]
        one = _of(others[0], named) if len(others) == 1 else None
    return one if isinstance(one, dict) and one.get("type") == "record" else None


def column(record: Mapping[str, Any], named: Mapping[str, Any], name: str) -> Leaf | None:
    """Return the column of a name, or of the path that it spells; None: there is none.

    Raises:
        ValueError: it has no Arrow equivalent.

    >>> inner = {"type": "record", "name": "i", "fields": [{"name": "b", "type": "long"}]}
    >>> outer = {"type": "record", "name": "o", "fields": [{"name": "a", "type": ["null", inner]}]}
    >>> column(outer, {}, "a.b")
    Leaf(path=('a', 'b'), kind=DataType(int64), convert=None)
    """
    path, within = tuple(name.split(".")), record
    for i, part in enumerate(path):
        types = [field["type"] for field in within["fields"] if field["name"] == part]
        if not types:
            return None
        if i + 1 == len(path):
            return Leaf(path, *leaf(types[0], named))
        within = _within(_of(types[0], named), named)
        if within is None:
            return None
    return None


def taken(row: Mapping[str, Any], leaf: Leaf) -> Any:
    """Return a column's value in a row.

    Raises:
        ValueError, OverflowError: it cannot be one of the column.
    """
    value: Any = row
    for name in leaf.path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if value is None or leaf.convert is None else leaf.convert(value)


def names(record: Mapping[str, Any], named: Mapping[str, Any], within: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the names of columns: those of fields, and the paths into records, each type once within itself."""
    if record["name"] in within:
        return
    for field in record["fields"]:
        inner = _within(_of(field["type"], named), named)
        if inner is None or inner["name"] in within:
            yield field["name"]
        else:
            yield from (f"{field['name']}.{name}" for name in names(inner, named, (*within, record["name"])))


def arrow_type(schema: Any) -> pa.DataType:
    """Return the Arrow type of the values of a schema.

    Raises:
        ValueError: there is none, or it is named elsewhere.

    >>> arrow_type(["null", {"type": "long", "logicalType": "timestamp-micros"}])
    TimestampType(timestamp[us, tz=UTC])
    """
    return leaf(bare(schema), {})[0]


def leaf(schema: Any, named: Mapping[str, Any], left: list[None] | None = None) -> tuple[pa.DataType, Convert | None]:
    """Return the Arrow type of the values of a schema that `bare` returned, and how they are converted to it.

    Args:
        schema: of one value.
        named: the types that it names.
        left: one for each type that it may still be made of; None: as many as may be.

    Raises:
        ValueError: there is none.
    """
    left = [None] * _MOST_TYPES if left is None else left
    if not left:
        message = f"a type of more than {_MOST_TYPES} others has no Arrow equivalent"
        raise ValueError(message)
    left.pop()
    one = _of(schema, named)
    if isinstance(one, list):
        return _union([_of(branch, named) for branch in one if branch != "null"], named, left)
    kind, logical = (one, "") if isinstance(one, str) else (one["type"], one.get(_MARK, ""))
    if logical == "decimal":
        return _decimal(int(one["precision"]), int(one.get("scale", 0)))
    if logical in LOGICAL:
        return LOGICAL[logical][1], None
    if kind == "fixed":
        if logical == "uuid":
            return pa.string(), lambda raw: str(uuid.UUID(bytes=raw))
        return pa.binary(one["size"]), None
    if kind == "array":
        inner, convert = leaf(one["items"], named, left)
        return pa.list_(inner), _each(convert)
    if kind == "map":
        inner, convert = leaf(one["values"], named, left)
        return pa.map_(pa.string(), inner), _each(convert)
    if kind == "record":
        named = {**named, one["name"]: _SELF}
        inners = {field["name"]: leaf(field["type"], named, left) for field in one["fields"]}
        changed = {name: convert for name, (_, convert) in inners.items() if convert is not None}
        return pa.struct([(name, inner) for name, (inner, _) in inners.items()]), _changing(changed)
    if kind not in PRIMITIVE:
        message = f"the type {kind!r} has no Arrow equivalent"
        raise ValueError(message)
    return PRIMITIVE[kind], None


def _each(convert: Convert | None) -> Convert | None:
    """Return the conversion of every item of an array or a map."""
    if convert is None:
        return None
    one = convert

    def change(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: None if item is None else one(item) for key, item in value.items()}
        return [None if item is None else one(item) for item in value]

    return change


def _changing(changed: Mapping[str, Convert]) -> Convert | None:
    def change(value: Mapping[str, Any]) -> dict[str, Any]:
        return {k: changed[k](x) if k in changed and x is not None else x for k, x in value.items()}

    return change if changed else None


def _decimal(precision: int, scale: int) -> tuple[pa.DataType, Convert]:
    """Return decimals of up to 76 digits as such, longer ones as the nearest float64."""
    kind = pa.decimal128 if precision <= 38 else pa.decimal256 if precision <= 76 else None
    unit = 10**scale

    def convert(raw: bytes) -> Any:
        if len(raw) > _MOST_BYTES:
            message = f"a decimal takes {len(raw)} bytes, more than {_MOST_BYTES}"
            raise ValueError(message)
        number = int.from_bytes(raw, "big", signed=True)
        return number / unit if kind is None else decimal.Decimal(number).scaleb(-scale, _CONTEXT)

    return pa.float64() if kind is None else kind(precision, scale), convert


_WHOLE, _REAL, _TEXT = {"boolean", "int", "long"}, {"float", "double"}, {"string", "enum"}


def _union(branches: Sequence[Any], named: Mapping[str, Any], left: list[None]) -> tuple[pa.DataType, Convert | None]:
    """Return numbers of several types as the widest, and as texts where one of the types is one."""
    if len(branches) == 1:
        return leaf(branches[0], named, left)
    kinds = [one if isinstance(one, str) else one["type"] for one in branches]
    decimals = [one for one in branches if isinstance(one, dict) and one.get(_MARK) == "decimal"]
    others = {kind for one, kind in zip(branches, kinds, strict=True) if one not in decimals}
    if not branches or len(decimals) > 1 or others - _WHOLE - _REAL - _TEXT:
        message = f"a union of {len(branches)} types has no Arrow equivalent"
        raise ValueError(message)
    of_bytes = _decimal(int(decimals[0]["precision"]), int(decimals[0].get("scale", 0)))[1] if decimals else None

    def number(value: Any) -> Any:
        return of_bytes(value) if of_bytes is not None and isinstance(value, bytes) else value

    if others & _TEXT:
        return pa.string(), lambda value: _spelled(number(value))
    if decimals or others & _REAL:
        return pa.float64(), lambda value: float(number(value))
    return pa.int64(), int


def _spelled(value: Any) -> str | None:
    return f"{value:f}" if isinstance(value, decimal.Decimal) else spelled(value)
