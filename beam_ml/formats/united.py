"""One schema for rows that were read in pieces: what a format infers may differ from piece to piece, and file to file."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.errors import InvalidValue

__all__ = ["fitted", "united"]


def united(schemas: Iterable[pa.Schema], ragged: bool = False) -> pa.Schema:
    """Return the schema that rows of all schemas fit into: the columns of the first, of the widest type.

    Args:
        schemas: at least one.
        ragged: whether rows may lack columns: then all columns of any schema, in the order in which they first come.

    Raises:
        InvalidValue: the columns differ, or two types of one have no common type.

    >>> united([pa.schema([("x", pa.int64())]), pa.schema([("x", pa.float64())])]).field("x").type
    DataType(double)
    """
    first, *others = (schema.remove_metadata() for schema in schemas)
    for other in others:
        if ragged:
            first, other = _filled(first, other), _filled(other, first)
        if sorted(first.names) != sorted(other.names):
            message = f"Rows must have the same columns in all pieces; got {first.names} and {other.names}."
            raise InvalidValue(message)
        fields = [_field(field, other.field(field.name)) for field in first]
        first = pa.schema(fields)
    return first


def _filled(schema: pa.Schema, other: pa.Schema) -> pa.Schema:
    """Return a schema with the columns of another that it lacks, of no type."""
    lacking = [pa.field(name, pa.null()) for name in other.names if name not in schema.names]
    return pa.schema([*schema, *lacking])


def _field(one: pa.Field, other: pa.Field) -> pa.Field:
    kinds = {one.type, other.type}
    if any(map(pa.types.is_date, kinds)) and any(map(pa.types.is_timestamp, kinds)):
        return one if pa.types.is_timestamp(one.type) else other
    try:
        return pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive").field(0)
    except pa.ArrowException as error:
        message = f"Column {one.name!r} must have one type in all pieces; got {one.type} and {other.type}."
        raise InvalidValue(message) from error


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as those of a schema that has their columns; others of its columns are null.

    Raises:
        InvalidValue: a value would change, as a whole number above 2⁵³ does among float64.

    >>> fitted(pa.record_batch({"x": [1, 2]}), pa.schema([("x", pa.float64())])).to_pydict()
    {'x': [1.0, 2.0]}
    """
    if batch.schema.equals(schema):
        return batch
    columns = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        column = pa.nulls(batch.num_rows) if at < 0 else batch.column(at)
        try:
            columns.append(column if column.type == field.type else pc.cast(column, field.type))
        except pa.ArrowException as error:
            words = " ".join(str(error).split()).rstrip(".")
            message = (
                f"Column {field.name!r} must fit into {field.type}, which others of its values need; got: {words}."
            )
            raise InvalidValue(message) from error
    return pa.RecordBatch.from_arrays(columns, schema=schema)
