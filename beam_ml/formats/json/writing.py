"""Rows → objects of JSON. Letters: ``n`` rows."""

from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.formats import matrix
from beam_ml.formats.json import text as json_text
from beam_ml.formats.json.options import Options

__all__ = ["written"]

_ROWS, _VALUES = 1 << 16, 1 << 22
"""How many are written at a time."""


def _refuse(rule: str, got: object) -> NoReturn:
    message = f"Rows of JSON must {rule}; got {got}."
    raise InvalidValue(message)


def written(rows: pa.RecordBatch, options: Options) -> Iterator[list[bytes]]:
    """Yield n objects, some at a time.

    Raises:
        MissingColumn: no column of features.
        InvalidValue: a column that has no JSON equal, or a row that does not fit into the form.
    """
    names = rows.schema.names
    known = options.record_columns
    if known and (set(names) - set(known) or len(set(names)) != len(names)):
        _refuse(f"have columns of {list(known)} where form is {options.form!r}, each once", names)
    if known and known[0] not in names:
        message = f"Rows of JSON must have a column {known[0]!r} where form is {options.form!r}; got {names}."
        raise MissingColumn(message)
    step = _ROWS
    if known == (matrix.FEATURES, "label"):
        column = rows.column(matrix.FEATURES)
        if not matrix.is_matrix(column.type):
            _refuse("have features that are lists or maps of numbers", column.type)
        mean = len(matrix.rows_of(column).values) // max(1, rows.num_rows)
        step = max(1, min(_ROWS, _VALUES // max(1, mean, options.width or 1)))
    for i in range(0, rows.num_rows, step):
        some = rows.slice(i, step)
        if not known:
            yield json_text.encode(some)
        elif options.form == "series":
            yield [json_text.compact(one) for one in some.to_pylist()]
        else:
            yield _instances(dict(zip(names, some.columns, strict=True)), options)


def _numbers(column: pa.Array) -> pa.Array:
    """Return numbers as JSON, those that are none or not finite as null."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_null(column.type):
        return pa.array(["null"] * len(column))
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        _refuse("have features and labels that are numbers", column.type)
    texts = column.cast(pa.string())
    if pa.types.is_floating(column.type):
        numbers = column.cast(pa.float64())
        texts = pc.if_else(pc.is_finite(numbers), numbers.cast(pa.string()), None)
    return pc.fill_null(texts, "null")


def _lists(indptr: np.ndarray, texts: pa.Array) -> pa.Array:
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(indptr, pa.int32()), texts), ",")
    return pc.binary_join_element_wise("[", joined, "]", "")


def _instances(named: dict[str, pa.Array], options: Options) -> list[bytes]:
    rows = matrix.rows_of(named[matrix.FEATURES])
    if rows.missing is not None:
        _refuse("have features", "none in a row")
    counts = np.diff(rows.indptr)
    _check_width(rows, counts, options)
    if options.form == "dense":
        indptr, values = rows.indptr, rows.values
        if rows.indices is not None:
            width = options.width or 0
            table = np.zeros((len(counts), width), rows.values.dtype)
            table[np.repeat(np.arange(len(counts)), counts), rows.indices] = rows.values
            indptr, values = np.arange(len(counts) + 1) * width, table.reshape(-1)
        parts = ['{"features":', _lists(indptr, _numbers(pa.array(values)))]
    else:
        indptr, keys, values = rows.indptr, rows.indices, rows.values
        if keys is None:
            row = np.repeat(np.arange(len(counts)), counts)
            stored = np.flatnonzero(values != 0)
            keys, values = (stored - indptr[:-1][row[stored]]), values[stored]
            indptr = np.concatenate([[0], np.cumsum(np.bincount(row[stored], minlength=len(counts)))])
        parts = ['{"data":{"features":{"keys":', _lists(indptr, pa.array(keys).cast(pa.string()))]
        parts += [f',"shape":[{options.width}],"values":', _lists(indptr, _numbers(pa.array(values))), "}}"]
    if "label" in named:
        parts += [',"label":', _numbers(named["label"])]
    found: list[bytes] = pc.binary_join_element_wise(*parts, "}", "").cast(pa.binary()).to_pylist()
    return found


def _check_width(rows: matrix.Rows, counts: np.ndarray, options: Options) -> None:
    width = options.width
    if width is None and (options.form == "sparse" or rows.indices is not None):
        _refuse(
            f"have a width where form is {options.form!r} (option width), which says how many features there are", None
        )
    if rows.indices is None:
        if width is not None and np.any(counts != width):
            _refuse(f"have {width} features", sorted(set(counts.tolist()))[:5])
        return
    row = np.repeat(np.arange(len(counts)), counts)
    assert width is not None  # noqa: S101 checked above
    if rows.indices.size and not 0 <= rows.indices.min() <= rows.indices.max() < width:
        _refuse(f"have features in [0, {width - 1}]", f"{rows.indices.min()} to {rows.indices.max()}")
    if np.any((rows.indices[1:] <= rows.indices[:-1]) & (row[1:] == row[:-1])):
        _refuse("have features that rise in each row", "some that do not")
