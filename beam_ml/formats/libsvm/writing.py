"""Rows → lines of libsvm text; numbers are as short as they can be and still the same float64. Letters: ``n`` rows."""

from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.formats import matrix
from beam_ml.formats.libsvm.text import COLUMNS, LARGEST, MAX_BYTES, MAX_QUERY, Options

__all__ = ["written"]

_ROWS, _VALUES = 1 << 16, 1 << 22
"""How many are written at a time."""


def _refuse(rule: str, got: object) -> NoReturn:
    message = f"Rows of libsvm text must {rule}; got {got}."
    raise InvalidValue(message)


def written(rows: pa.RecordBatch, options: Options) -> Iterator[list[bytes]]:
    """Yield n lines, some at a time.

    Raises:
        MissingColumn: no column of features.
        InvalidValue: a column that lines do not have, or a row that does not fit into one.
    """
    names = rows.schema.names
    if set(names) - set(COLUMNS) or len(set(names)) != len(names):
        _refuse(f"have columns of {list(COLUMNS)}, each once", names)
    if matrix.FEATURES not in names:
        message = f"Rows of libsvm text must have a column {matrix.FEATURES!r}; got {names}."
        raise MissingColumn(message)
    if not matrix.is_matrix(rows.column(matrix.FEATURES).type):
        _refuse("have features that are lists or maps of numbers", rows.column(matrix.FEATURES).type)
    for i in range(0, rows.num_rows, _ROWS):
        for some in _halved(rows.slice(i, _ROWS)):
            yield _lines(dict(zip(names, some.columns, strict=True)), options)


def _halved(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut rows so that their text fits into a column."""
    n = rows.num_rows
    if n > 1 and int(matrix.rows_of(rows.column(matrix.FEATURES)).indptr[-1]) > _VALUES:
        yield from _halved(rows.slice(0, n // 2))
        yield from _halved(rows.slice(n // 2))
    else:
        yield rows


def _lines(named: dict[str, pa.Array], options: Options) -> list[bytes]:
    pairs = _pairs(named[matrix.FEATURES], options.first_index)
    texts = (
        pa.array(["nan"] * len(pairs))
        if "label" not in named
        else pc.fill_null(_numbers(named["label"], "labels"), "nan")
    )
    if "qid" in named:
        texts = pc.binary_join_element_wise(texts, pc.fill_null(_query(named["qid"]), ""), "")
    gap = pc.if_else(pc.equal(pairs, ""), "", " ")
    found = pc.binary_join_element_wise(texts, gap, pairs, "\n", "")
    most = pc.max(pc.binary_length(found)).as_py() - 1
    if most > MAX_BYTES:
        _refuse(f"have at most {MAX_BYTES} bytes", most)
    lines: list[bytes] = found.cast(pa.binary()).to_pylist()
    return lines


def _pairs(column: pa.Array, first_index: int) -> pa.Array:
    """Return the features of each row as text: those stored, and of dense rows those that are not 0."""
    indptr, indices, values, missing = matrix.rows_of(column)
    if missing is not None:
        _refuse("have features", "none in a row")
    counts = np.diff(indptr)
    row = np.repeat(np.arange(len(counts)), counts)
    if indices is None:
        indices, stored = np.arange(len(values)) - indptr[:-1][row], values != 0
        counts = np.bincount(row[stored], minlength=len(counts))
        indices, values = indices[stored], values[stored]
    elif indices.size:
        low, high = int(indices.min()), int(indices.max())
        if low < 0 or high > LARGEST:
            _refuse(f"have features in [0, {LARGEST}]", f"{low} to {high}")
        if np.any((indices[1:] <= indices[:-1]) & (row[1:] == row[:-1])):
            _refuse("have features that rise in each row", "some that do not")
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    keys = pa.array(indices.astype(np.int64) + first_index).cast(pa.string())
    texts = pc.binary_join_element_wise(keys, _numbers(pa.array(values), "features"), ":")
    return pc.binary_join(pa.ListArray.from_arrays(offsets, texts), " ")


def _numbers(column: pa.Array, what: str) -> pa.Array:
    """Return numbers as text: 2, and not 2.0."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return column.cast(pa.int8()).cast(pa.string())
    if pa.types.is_integer(kind):
        return column.cast(pa.string())
    if not (pa.types.is_floating(kind) or pa.types.is_null(kind)):
        _refuse(f"have {what} that are numbers", kind)
    return pc.replace_substring_regex(column.cast(pa.float64()).cast(pa.string()), r"\.0$", "")


def _query(column: pa.Array) -> pa.Array:
    if not (pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        _refuse("have queries that are whole numbers", column.type)
    bounds = pc.min_max(column.cast(pa.int64())).as_py()
    if bounds["min"] is not None and not -MAX_QUERY <= bounds["min"] <= bounds["max"] <= MAX_QUERY:
        _refuse(f"have queries in ±{MAX_QUERY}", f"{bounds['min']} to {bounds['max']}")
    return pc.binary_join_element_wise(" qid:", column.cast(pa.int64()).cast(pa.string()), "")
