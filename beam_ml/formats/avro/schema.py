"""Avro schemas ↔ Arrow types."""

from typing import Any

import pyarrow as pa

from beam_ml.errors import InvalidValue

__all__ = ["arrow_type", "avro_schema", "plain", "stored"]

_MOST_DIGITS = 38
_PRIMITIVE = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
}
_LOGICAL = {
    "date": pa.date32(),
    "time-millis": pa.time32("ms"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("ms", tz="UTC"),
    "timestamp-micros": pa.timestamp("us", tz="UTC"),
    "timestamp-nanos": pa.timestamp("ns", tz="UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
    "local-timestamp-nanos": pa.timestamp("ns"),
}
"""Stored as integers, and decoded as such."""


def _nullable(schema: list[Any]) -> Any:
    """Return T of a union of null and T."""
    others = [branch for branch in schema if branch != "null"]
    if len(others) != 1:
        message = f"a union of {len(others)} types has no Arrow equivalent"
        raise ValueError(message)
    return others[0]


def arrow_type(schema: Any) -> pa.DataType:
    """Return the Arrow type of the values of an Avro schema.

    Raises:
        ValueError: a union of several types, or a type named elsewhere.

    >>> arrow_type(["null", {"type": "long", "logicalType": "timestamp-micros"}])
    TimestampType(timestamp[us, tz=UTC])
    """
    if isinstance(schema, list):
        return arrow_type(_nullable(schema))
    kind = schema if isinstance(schema, str) else schema["type"]
    if isinstance(schema, dict):
        logical = schema.get("logicalType")
        if logical in _LOGICAL:
            return _LOGICAL[logical]
        if logical == "decimal":
            return pa.decimal128(schema["precision"], schema.get("scale", 0))
        if logical == "uuid":
            return pa.string()
        if kind == "fixed":
            return pa.binary(schema["size"])
        if kind == "array":
            return pa.list_(arrow_type(schema["items"]))
        if kind == "map":
            return pa.map_(pa.string(), arrow_type(schema["values"]))
        if kind == "record":
            return pa.struct([(field["name"], arrow_type(field["type"])) for field in schema["fields"]])
    if isinstance(kind, dict | list):
        return arrow_type(kind)
    if kind not in _PRIMITIVE:
        message = f"the type {kind!r} has no Arrow equivalent"
        raise ValueError(message)
    return _PRIMITIVE[kind]


def _held(precision: Any) -> bool:
    return isinstance(precision, int) and 0 < precision <= _MOST_DIGITS


def plain(schema: Any) -> Any:
    """Return a schema without the logical types of times and UUIDs: their integers and texts are read as they are.

    So are the bytes of decimals that Arrow's do not hold: numbers of any length take long to make, and go nowhere.
    """
    if isinstance(schema, list):
        return [plain(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not key.startswith("__")}
    logical = kept.get("logicalType")
    if logical in _LOGICAL or logical == "uuid" or (logical == "decimal" and not _held(kept.get("precision"))):
        del kept["logicalType"]
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = plain(kept[key])
    if "fields" in kept:
        kept["fields"] = [{**field, "type": plain(field["type"])} for field in kept["fields"]]
    return kept


def _avro_type(name: str, kind: pa.DataType) -> Any:
    types = pa.types
    if types.is_dictionary(kind):
        return _avro_type(name, kind.value_type)
    if types.is_decimal(kind):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if types.is_timestamp(kind):
        unit = "millis" if kind.unit in ("s", "ms") else "micros" if kind.unit == "us" else "nanos"
        return {"type": "long", "logicalType": f"{'' if kind.tz else 'local-'}timestamp-{unit}"}
    if types.is_date(kind):
        return {"type": "int", "logicalType": "date"}
    if types.is_list(kind) or types.is_large_list(kind):
        return {"type": "array", "items": ["null", _avro_type(name, kind.value_type)]}
    for holds, primitive in (
        (types.is_boolean, "boolean"),
        (lambda t: types.is_integer(t) and t.bit_width <= 32 and t != pa.uint32(), "int"),
        (lambda t: types.is_integer(t) and t != pa.uint64(), "long"),
        (lambda t: t in (pa.float16(), pa.float32()), "float"),
        (types.is_floating, "double"),
        (lambda t: types.is_string(t) or types.is_large_string(t), "string"),
        (lambda t: types.is_binary(t) or types.is_large_binary(t) or types.is_fixed_size_binary(t), "bytes"),
    ):
        if holds(kind):
            return primitive
    message = f"column {name!r} must be of a type that Avro has; got {kind}."
    raise InvalidValue(message)


def avro_schema(schema: pa.Schema) -> dict[str, Any]:
    """Return the Avro record schema that holds rows of an Arrow schema.

    Raises:
        InvalidValue: a column's type has no Avro equal.
    """
    fields = [
        {"name": field.name, "type": ["null", kind] if field.nullable else kind}
        for field in schema
        for kind in [_avro_type(field.name, field.type)]
    ]
    return {"type": "record", "name": "row", "fields": fields}


def stored(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return times as the integers that are stored, and dictionaries as their values."""
    columns = []
    for column in batch.columns:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column, kind = column.dictionary_decode(), kind.value_type
        if pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("ms" if kind.unit == "s" else kind.unit, tz=kind.tz)).cast(pa.int64())
        elif pa.types.is_date(kind):
            column = column.cast(pa.date32()).cast(pa.int32())
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
