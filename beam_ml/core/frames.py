"""Frames (pandas, polars, Arrow: whatever exports Arrow's C stream) and sparse matrices as the arrays of a batch.

Letters: ``n`` rows, ``d`` columns.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_ml.core import convert
from beam_ml.errors import InvalidBatch

__all__ = ["is_frame", "is_sparse", "parted", "read", "table_of"]


def is_sparse(value: Any) -> bool:
    """Return whether a value is a sparse matrix or array of scipy."""
    return hasattr(value, "tocsr")


def is_frame(value: Any) -> bool:
    """Return whether a value exports Arrow's C stream or array."""
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")


def table_of(value: Any) -> Any:
    """Return a frame as a `pyarrow.Table`, without an index.

    Raises:
        InvalidBatch: it is no frame, or has a column of several kinds of values.

    >>> import pyarrow as pa
    >>> table_of(pa.record_batch({"a": [1, 2]})).column_names
    ['a']
    """
    import pyarrow as pa  # for those alone who have frames: a batch of arrays needs none of it

    try:
        table = pa.table(value)
    except (pa.ArrowException, TypeError, ValueError) as error:
        words = " ".join(str(error).split()).rstrip(".")
        message = f"Rows must be a frame whose columns are of one kind each; got {type(value).__name__}: {words}."
        raise InvalidBatch(message) from error
    index = _index(table.schema.metadata)
    return table.select([name for name in table.column_names if name not in index])


def parted(value: Any, beside: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return a frame's features as a table, and what stands beside them as arrays.

    Args:
        value: the frame.
        beside: label, weight and time: the name of a column of the frame, an array, or None.

    Raises:
        InvalidBatch: there is no such column, it holds neither numbers nor times; or the value is no frame.

    >>> import pyarrow as pa
    >>> features, found = parted(pa.table({"a": [1.0], "y": [1]}), {"label": "y", "weight": None})
    >>> features.column_names, found["label"].tolist(), found["weight"]
    (['a'], [1.0], None)
    """
    table = table_of(value)
    found: dict[str, Any] = {}
    for what, given in beside.items():
        found[what] = given
        if isinstance(given, str):
            if table.column_names.count(given) != 1:
                message = f"Batch.{what} must be a column of the frame, {table.column_names}; got {given!r}."
                raise InvalidBatch(message)
            column = table.column(given)
            found[what] = column.to_numpy() if what == "time" else _numbers(given, column, what)
    named = {name for name in beside.values() if isinstance(name, str)}
    return table.select([name for name in table.column_names if name not in named]), found


def read(value: Any) -> tuple[np.ndarray, tuple[str, ...] | None] | None:
    """Return a frame as (n, d) float32 if all columns are that, else float64, and the names of its columns.

    An index is no column; names that only count (0, 1, …) are none. Missing entries are NaN.

    Returns:
        None: the value is no frame.

    Raises:
        InvalidBatch: a column holds no numbers, or two have one name.

    >>> import pyarrow as pa
    >>> read(pa.table({"a": [1, 2], "b": [0.5, None]}))
    (array([[1. , 0.5],
           [2. , nan]]), ('a', 'b'))
    """
    if not is_frame(value):
        return None
    import pyarrow as pa  # for those alone who have frames: a batch of arrays needs none of it

    try:
        table = pa.table(value)
    except (TypeError, ValueError):
        return None  # one column
    names = [name for name in table.column_names if name not in _index(table.schema.metadata)]
    if len(set(names)) != len(names):
        message = f"Batch.X must name no column twice; got {names}."
        raise InvalidBatch(message)
    columns = [_numbers(name, table.column(name)) for name in names]
    single = bool(columns) and all(column.dtype == np.float32 for column in columns)
    matrix = np.empty((table.num_rows, len(names)), np.float32 if single else np.float64)
    for j, column in enumerate(columns):
        matrix[:, j] = column
    counted = names == [str(j) for j in range(len(names))]
    return matrix, None if counted else tuple(names)


def _index(metadata: Any) -> set[str]:
    """Return the columns that pandas made of an index."""
    written = json.loads((metadata or {}).get(b"pandas", b"{}"))
    return {name for name in written.get("index_columns", ()) if isinstance(name, str)}


def _numbers(name: str, column: Any, what: str = "X") -> np.ndarray:
    import pyarrow as pa

    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if types.is_decimal(kind):
        column = column.cast(pa.float64())
    elif types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (types.is_integer(kind) or types.is_floating(kind)):
        message = f"Batch.{what} must be numbers; its column {name!r} is {kind}."
        raise InvalidBatch(message)
    return convert.reals(what, column.to_numpy())
