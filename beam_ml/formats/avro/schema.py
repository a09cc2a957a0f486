"""Avro schemas ↔ Arrow types."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from beam_ml.errors import InvalidValue

__all__ = ["LOGICAL", "PRIMITIVE", "avro_schema", "is_decimal", "plain", "stored"]

PRIMITIVE: Mapping[str, pa.DataType] = MappingProxyType(
    {
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
)
"""Types without parts → Arrow's."""
LOGICAL: Mapping[str, tuple[str, pa.DataType]] = MappingProxyType(
    {
        "date": ("int", pa.date32()),
        "time-millis": ("int", pa.time32("ms")),
        "time-micros": ("long", pa.time64("us")),
        "timestamp-millis": ("long", pa.timestamp("ms", tz="UTC")),
        "timestamp-micros": ("long", pa.timestamp("us", tz="UTC")),
        "timestamp-nanos": ("long", pa.timestamp("ns", tz="UTC")),
        "local-timestamp-millis": ("long", pa.timestamp("ms")),
        "local-timestamp-micros": ("long", pa.timestamp("us")),
        "local-timestamp-nanos": ("long", pa.timestamp("ns")),
    }
)
"""Logical type of times → the type beneath, and Arrow's. They are stored as integers, and decoded as such."""


def is_decimal(schema: Mapping[str, Any]) -> bool:
    """Return whether a type's properties make it a valid decimal; an invalid logical type is to be ignored.

    >>> is_decimal({"type": "bytes", "precision": 4}), is_decimal({"type": "string", "precision": 4})
    (True, False)
    """
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if schema.get("type") not in ("bytes", "fixed") or type(precision) is not int or type(scale) is not int:
        return False
    return 0 <= scale <= precision and precision > 0


def plain(schema: Any) -> Any:
    """Return a schema to write by, without the logical types of times and UUIDs, and without those that are invalid."""
    if isinstance(schema, list):
        return [plain(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not key.startswith("__")}
    if kept.get("logicalType") != "decimal" or not is_decimal(kept):
        kept.pop("logicalType", None)
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
