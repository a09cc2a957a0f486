"""A matrix as one column of a block: all features of a record, dense as a list of numbers, sparse as a map of them.

Letters: ``n`` rows, ``z`` stored values.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

__all__ = ["FEATURES", "Rows", "dense", "is_matrix", "rows_of", "sparse"]

FEATURES = "features"
"""What formats of whole records call the column."""


class Rows(NamedTuple):
    """The rows of a matrix column.

    Attributes:
        indptr: (n + 1) int64 where the values of each row begin.
        indices: (z,) int32 or int64 features, or None: the rows are dense.
        values: (z,) numbers; NaN where there is none.
        missing: (n,) bool where there is no row at all; None: nowhere.
    """

    indptr: np.ndarray
    indices: np.ndarray | None
    values: np.ndarray
    missing: np.ndarray | None


def dense(indptr: np.ndarray, values: np.ndarray) -> pa.Array:
    """Return rows of numbers as a column.

    >>> dense(np.array([0, 2, 3]), np.array([1.0, 2.0, 3.0])).to_pylist()
    [[1.0, 2.0], [3.0]]
    """
    return pa.ListArray.from_arrays(pa.array(indptr, pa.int32()), pa.array(values))


def sparse(indptr: np.ndarray, indices: np.ndarray, values: np.ndarray) -> pa.Array:
    """Return rows of features, rising in each, and their values as a column.

    >>> sparse(np.array([0, 2, 2]), np.array([3, 300], np.int32), np.array([1.0, 4.0])).to_pylist()
    [[(3, 1.0), (300, 4.0)], []]
    """
    return pa.MapArray.from_arrays(pa.array(indptr, pa.int32()), pa.array(indices), pa.array(values))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def is_matrix(kind: pa.DataType) -> bool:
    """Return whether a column is lists of numbers, or maps of whole numbers to numbers.

    >>> is_matrix(pa.list_(pa.float32())), is_matrix(pa.map_(pa.int32(), pa.float64())), is_matrix(pa.float64())
    (True, True, False)
    """
    types = pa.types
    if types.is_map(kind):
        return bool(types.is_integer(kind.key_type)) and _is_number(kind.item_type)
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)) and _is_number(
        kind.value_type
    )


def rows_of(column: pa.Array) -> Rows:
    """Return the rows of a column for which `is_matrix` holds.

    >>> rows_of(pa.array([[1.0, 2.0], None, [3.0]])).indptr.tolist()
    [0, 2, 2, 3]
    """
    missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        counts = np.full(len(column), width) if missing is None else np.where(missing, 0, width)
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Rows(indptr, None, _numbers(column.flatten()), missing)
    offsets = column.offsets.to_numpy().astype(np.int64)
    begin, end = int(offsets[0]), int(offsets[-1])
    if missing is not None and np.diff(offsets)[missing].any():  # what lies under a null does not count
        column = column.take(pa.array(np.arange(len(column))))
        offsets = column.offsets.to_numpy().astype(np.int64)
        begin, end = int(offsets[0]), int(offsets[-1])
    if not pa.types.is_map(column.type):
        return Rows(offsets - begin, None, _numbers(column.values.slice(begin, end - begin)), missing)
    keys, items = (part.slice(begin, end - begin) for part in (column.keys, column.items))
    return Rows(offsets - begin, keys.to_numpy(zero_copy_only=False), _numbers(items), missing)


def _numbers(values: pa.Array) -> np.ndarray:
    array: np.ndarray = values.to_numpy(zero_copy_only=False)
    return array
