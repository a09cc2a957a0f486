"""Fields within records: `a.b` is the field b of column a, as JSON and Avro have it."""

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["field_path", "flat", "picked"]


def field_path(fields: pa.Schema | pa.StructType, name: str) -> tuple[str, ...] | None:
    """Return where a name leads: a column, or through columns of records; None: nowhere, or to several of one name.

    A column whose own name is the whole one comes first.

    >>> kind = pa.struct([("b", pa.float64()), ("c.d", pa.string())])
    >>> [field_path(pa.schema([("a", kind)]), name) for name in ("a", "a.b", "a.c.d", "a.c")]
    [('a',), ('a', 'b'), ('a', 'c.d'), None]
    """
    same = [one for one in fields if one.name == name]
    if same:
        return (name,) if len(same) == 1 else None
    found = []
    for one in fields:
        if name.startswith(f"{one.name}.") and pa.types.is_struct(one.type):
            inner = field_path(one.type, name[len(one.name) + 1 :])
            found += [] if inner is None else [(one.name, *inner)]
    return found[0] if len(found) == 1 else None


def picked(batch: pa.RecordBatch, names: list[str]) -> pa.RecordBatch:
    """Return columns by their paths, each named by its own; a field of a record that is null is null.

    >>> rows = pa.array([{"b": 1.5}, None], pa.struct([("b", pa.float64())]))
    >>> picked(pa.record_batch({"a": rows}), ["a.b"]).to_pydict()
    {'a.b': [1.5, None]}
    """
    arrays = []
    for name in names:
        path = field_path(batch.schema, name)
        assert path is not None  # noqa: S101 the caller has looked
        column = batch.column(batch.schema.get_field_index(path[0]))
        arrays.append(column if len(path) == 1 else pc.struct_field(column, list(path[1:])))
    return pa.RecordBatch.from_arrays(arrays, names) if names else batch.select([])


def flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the columns, of records their fields by path; a batch in which two would have one name is as it was.

    >>> flat(pa.record_batch({"x": [1], "a": [{"b": 1.5, "c": {"d": "e"}}]})).to_pydict()
    {'x': [1], 'a.b': [1.5], 'a.c.d': ['e']}
    """
    names = [name for one in batch.schema for name in _paths(one.name, one.type)]
    if names == batch.schema.names or any(field_path(batch.schema, name) is None for name in names):
        return batch
    return picked(batch, names) if len(set(names)) == len(names) else batch


def _paths(name: str, kind: pa.DataType) -> list[str]:
    if not pa.types.is_struct(kind) or not kind.num_fields:
        return [name]
    return [path for one in kind for path in _paths(f"{name}.{one.name}", one.type)]
