"""Lines without names, as SageMaker's algorithms take them: the label first, if any, then the features, all numbers.

The fields of a line become two columns, `label` and `features`, the latter a list of `width` numbers per row: what other
formats of whole records have, so that the same `features.matrix` reads all of them. Letters: ``n`` rows, ``d`` features.
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pyarrow as pa

from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.formats import matrix
from beam_ml.formats.csv.options import LABEL, Options

__all__ = ["fields", "packed", "spread"]


def fields(options: Options, wanted: Sequence[str]) -> list[str]:
    """Return what the fields of some columns are called, in the order of a line.

    >>> fields(Options(header=False, width=2), ["features", "label"])
    ['label', 'f0', 'f1']
    """
    label = [LABEL] if LABEL in wanted else []
    return label + ([f"f{i}" for i in range(options.width or 0)] if matrix.FEATURES in wanted else [])


def packed(rows: pa.Table, wanted: Sequence[str]) -> pa.RecordBatch:
    """Return the columns of n parsed lines; an empty field of a feature is NaN.

    >>> packed(pa.table({"label": [1.0], "f0": [2.5], "f1": [None]}), ["features", "label"]).to_pydict()
    {'features': [[2.5, nan]], 'label': [1.0]}
    """
    found = {name: rows.column(name) for name in rows.column_names if name != LABEL}
    X = np.empty((rows.num_rows, len(found)))
    for i, values in enumerate(found.values()):
        X[:, i] = values.to_numpy()
    indptr = np.arange(rows.num_rows + 1) * len(found)
    arrays = {name: matrix.dense(indptr, X.reshape(-1)) for name in wanted if name == matrix.FEATURES}
    if LABEL in wanted:
        arrays[LABEL] = rows.column(LABEL).combine_chunks()
    return pa.record_batch([arrays[name] for name in wanted], names=list(wanted))


def _refuse(rule: str, got: object) -> NoReturn:
    message = f"Rows of CSV without header must {rule}; got {got}."
    raise InvalidValue(message)


def spread(rows: pa.RecordBatch, options: Options) -> pa.RecordBatch:
    """Return rows with a column per field of a line.

    Raises:
        MissingColumn: no column of features, or none of labels where lines have one.
        InvalidValue: a column that lines do not have, or a row that is not of `width` numbers.

    >>> rows = pa.record_batch({"features": [[1.5, -2.0]], "label": [1]})
    >>> spread(rows, Options(header=False, width=2)).to_pydict()
    {'label': [1], 'f0': [1.5], 'f1': [-2.0]}
    """
    names, wanted = rows.schema.names, list(options.record_columns)
    for name in wanted:
        if name not in names:
            message = f"Rows of CSV without header must have columns {wanted}; got {names}."
            raise MissingColumn(message)
    if len(names) > len(wanted):
        _refuse(f"have no columns but {wanted}", names)
    X = _dense(rows.column(matrix.FEATURES), options.width or 0)
    labels = [rows.column(LABEL)] if options.label_size else []
    arrays = labels + [pa.array(values) for values in np.ascontiguousarray(X.T)]
    return pa.record_batch(arrays, names=fields(options, wanted))


def _dense(column: pa.Array, width: int) -> np.ndarray:
    """Return (n, d) numbers of the type that the column's have."""
    if not matrix.is_matrix(column.type):
        _refuse("have features that are lists or maps of numbers", column.type)
    found = matrix.rows_of(column)
    counts = np.diff(found.indptr)
    values = found.values if found.values.dtype == np.float32 else found.values.astype(np.float64, copy=False)
    if found.missing is not None:
        _refuse(f"have {width} features", "a row without any")
    if found.indices is None:
        if np.any(counts != width):
            _refuse(f"have {width} features", f"a row of {counts[counts != width][0]}")
        return values.reshape(len(counts), width)
    of = np.repeat(np.arange(len(counts)), counts)
    outside = (found.indices < 0) | (found.indices >= width)
    if outside.any():
        _refuse(f"have {width} features", f"feature {found.indices[outside][0]}")
    if np.any((np.diff(found.indices) <= 0) & (np.diff(of) == 0)):
        _refuse("have features that rise", "a row in which they do not")
    X = np.zeros((len(counts), width), values.dtype)
    X[of, found.indices] = values
    return X
