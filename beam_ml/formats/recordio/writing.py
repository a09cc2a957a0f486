"""Rows → framed protobuf `Record` messages, the bytes that protobuf itself writes. Letters: ``n`` rows."""

from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.formats import matrix
from beam_ml.formats.recordio.records import COLUMNS, MAX_BYTES, Options
from beam_ml.kernels.recordio import written

__all__ = ["framed"]

_NO_KEYS = np.empty(0, np.int32)


def _refuse(rule: str, got: object) -> NoReturn:
    message = f"RecordIO rows must {rule}; got {got}."
    raise InvalidValue(message)


def _tensor(values: np.ndarray, indptr: np.ndarray, keys: np.ndarray, shape: int, what: str) -> tuple[Any, ...]:
    """Return what the kernel writes as one tensor per row: Float32, Float64 or Int32, by the type of the values."""
    raw, whole = np.empty(0, np.uint8), _NO_KEYS
    if values.dtype in (np.float32, np.float64):
        kind, raw = (1 if values.dtype == np.float32 else 2), np.ascontiguousarray(values).view(np.uint8)
    elif values.dtype.kind in "iu" and (not values.size or -(2**31) <= values.min() <= values.max() < 2**31):
        kind, whole = 3, values.astype(np.int32)
    else:
        _refuse(f"have {what} of float32, float64 or whole numbers that int32 holds", values.dtype)
    return kind, indptr, raw, whole, keys, shape


def _features(column: pa.Array, options: Options) -> tuple[Any, ...]:
    if not matrix.is_matrix(column.type):
        _refuse("have features that are lists or maps of numbers", column.type)
    indptr, keys, values, missing = matrix.rows_of(column)
    if missing is not None:
        _refuse("have features", "none in a row")
    counts, width = np.diff(indptr), options.width
    if keys is None:
        if np.any(counts == 0) or (width is not None and np.any(counts != width)):
            _refuse(f"have {width or 'at least one'} features", f"{sorted({*counts.tolist()})[:8]}")
        return _tensor(values, indptr, _NO_KEYS, 0, "features")
    if width is None:
        _refuse("have a shape where they are sparse, as recordio.Options.width says it", "none")
    if keys.size and not 0 <= keys.min() <= keys.max() < width:
        _refuse(f"have features in [0, {width})", f"{keys.min()} to {keys.max()}")
    return _tensor(values, indptr, keys.astype(np.int32, copy=False), width, "features")


def _label(column: pa.Array | None, n: int, options: Options) -> tuple[Any, ...]:
    if column is None:
        return _tensor(np.empty(0, np.float32), np.zeros(n + 1, np.int64), _NO_KEYS, 0, "a label")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int32())
    if not matrix.is_matrix(column.type):
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            _refuse("have a label that is a number", column.type)
        here = column.is_valid().to_numpy(zero_copy_only=False)
        indptr, values = np.concatenate([[0], np.cumsum(here)]).astype(np.int64), column.drop_null().to_numpy()
    else:
        indptr, keys, values, _ = matrix.rows_of(column)
        if keys is not None:
            _refuse("have a label that is no map", column.type)
    counts = np.diff(indptr)
    if np.any((counts != 0) & (counts != options.label_size)):
        _refuse(f"have labels of {options.label_size} values", f"{sorted({*counts.tolist()})[:8]}")
    return _tensor(values, indptr, _NO_KEYS, 0, "a label")


def _text(column: pa.Array | None, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of each text, -1: there is none, and the texts one behind the other."""
    if column is None or pa.types.is_null(column.type):
        return np.full(n, -1), np.empty(0, np.uint8)
    texts = [None if one is None else one.encode() for one in column.cast(pa.string()).to_pylist()]
    size = np.array([-1 if one is None else len(one) for one in texts], np.int64)
    return size, np.frombuffer(b"".join(one for one in texts if one is not None), np.uint8)


def framed(rows: pa.RecordBatch, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Return n rows as frames, uint8, and (n + 1) int64 where each begins.

    Raises:
        MissingColumn: no column of features.
        InvalidValue: a column that records do not have, or a row that does not fit into one.
    """
    named = dict(zip(rows.schema.names, rows.columns, strict=True))
    unknown = sorted(set(named) - set(COLUMNS))
    if unknown or len(named) != rows.num_columns:
        _refuse(f"have columns of {list(COLUMNS)}, each once", rows.schema.names)
    if matrix.FEATURES not in named:
        message = f"RecordIO rows must have a column {matrix.FEATURES!r}; got {rows.schema.names}."
        raise MissingColumn(message)
    n = rows.num_rows
    features, label = _features(named[matrix.FEATURES], options), _label(named.get("label"), n, options)
    uid, uid_text = _text(named.get("uid"), n)
    metadata, metadata_text = _text(named.get("metadata"), n)
    size = np.empty(n, np.int64)
    written.sizes(features, label, uid, metadata, size)
    bounds = np.concatenate([[0], np.cumsum(8 + size + (-size & 3))]).astype(np.int64)
    if n and int(np.diff(bounds).max()) > MAX_BYTES:
        _refuse(f"have at most {MAX_BYTES} bytes", f"{int(size.max())}")
    out = np.zeros(int(bounds[-1]), np.uint8)
    written.frames(features, label, uid, uid_text, metadata, metadata_text, size, bounds[:-1], out)
    return out, bounds
