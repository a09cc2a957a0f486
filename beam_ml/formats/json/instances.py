"""Objects of a fixed form → rows: instances as SageMaker's algorithms take them, dense and sparse, and time series.

Many are parsed at once by pyarrow, which is given the types; those among which it stumbles are read one by one with the
standard library. Letters: ``n`` objects.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.formats import lines, matrix
from beam_ml.formats.json import text as json_text
from beam_ml.formats.json.arrow import records
from beam_ml.formats.json.options import COLUMNS, Options
from beam_ml.formats.json.values import Unfit
from beam_ml.formats.messages import (
    EMPTY,
    MALFORMED,
    UNPARSEABLE,
    Decoded,
    Refusal,
    detail,
    in_order,
    refusals,
    rows_batch,
)

__all__ = ["of_messages"]

_ALONE = 16
_LARGEST = 2**31 - 2
_NUMBER, _NUMBERS, _WHOLE = pa.float64(), pa.list_(pa.float64()), pa.list_(pa.int64())
_TENSOR = pa.struct([("keys", _WHOLE), ("shape", _WHOLE), ("values", _NUMBERS)])
_SHAPES = {
    (False, False): pa.schema([("features", _NUMBERS), ("label", _NUMBER)]),
    (False, True): pa.schema([("features", _TENSOR), ("label", _NUMBER)]),
    (True, True): pa.schema(
        [("features", pa.null()), ("data", pa.struct([("features", _TENSOR)])), ("label", _NUMBER)]
    ),
}
"""How instances are spelled: whether within `data`, and whether as an object."""
_SERIES = pa.schema(
    [("start", pa.string()), ("target", _NUMBERS), ("cat", _WHOLE), ("dynamic_feat", pa.list_(_NUMBERS))]
)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """What became of n objects.

    Attributes:
        batch: the rows.
        good: (n',) int64 numbers of the objects that they are, rising.
        refused: number of an object, reason, words; no reason: it is not one object.
    """

    batch: pa.RecordBatch
    good: np.ndarray
    refused: tuple[tuple[int, str, str], ...] = ()


def _schema(options: Options) -> pa.Schema:
    """Return the columns of a form and their types."""
    if options.form == "series":
        return _SERIES
    kind = pa.map_(pa.int32(), _NUMBER) if options.form == "sparse" else _NUMBERS
    return pa.schema([(matrix.FEATURES, kind), ("label", _NUMBER)])


def _of_bytes(objects: Sequence[bytes], options: Options) -> Instances:
    """Read objects of JSON, each of which starts with a brace and ends with one.

    >>> found = _of_bytes([b'{"features": [1, 2.5]}', b'{"features": 1}'], Options(form="dense"))
    >>> found.batch.to_pydict(), found.refused[0][0]
    ({'features': [[1.0, 2.5]], 'label': [None]}, 1)
    """
    found = list(_parts(objects, 0, len(objects), options))
    table = pa.Table.from_batches([one.batch for one in found], _schema(options)).combine_chunks()
    batches = table.to_batches()
    return Instances(
        batches[0] if batches else pa.RecordBatch.from_pylist([], schema=_schema(options)),
        np.concatenate([np.empty(0, np.int64), *(one.good for one in found)]),
        tuple(bad for one in found for bad in one.refused),
    )


def _parts(objects: Sequence[bytes], begin: int, end: int, options: Options) -> Iterator[Instances]:
    """Read at once what can be; halve what cannot, down to a few."""
    if begin == end:
        return
    if end - begin > _ALONE:
        try:
            batch = _many(objects[begin:end], options)
        except Unfit:
            middle = (begin + end) // 2
            yield from _parts(objects, begin, middle, options)
            yield from _parts(objects, middle, end, options)
            return
        yield Instances(batch, np.arange(begin, end))
        return
    run = _Run(options)
    for i in range(begin, end):
        try:
            (value,) = json_text.values(objects[i])
        except ValueError:
            if not json_text.nearly(objects[i]):
                run.refused.append((i, "", ""))
                continue
            yield from run.read()
            try:  # fields that nobody wants may hold what is nearly JSON, alone as among others
                yield Instances(_many([objects[i]], options), np.array([i]))
            except Unfit:
                run.refused.append((i, "", ""))
        else:
            run.values.append(value)
            run.at.append(i)
    yield from run.read()


class _Run:
    """Objects that are read one by one."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.values: list[Any] = []
        self.at: list[int] = []
        self.refused: list[tuple[int, str, str]] = []

    def read(self) -> Iterator[Instances]:
        """Yield what has been gathered, and begin again."""
        found, numbers = _of_values(self.values, self._options), np.array(self.at, np.int64)
        bad = [(self.at[i], why, words) for i, why, words in found.refused]
        yield Instances(found.batch, numbers[found.good], tuple(sorted(bad + self.refused)))
        self.values, self.at, self.refused = [], [], []


def _many(objects: Sequence[bytes], options: Options) -> pa.RecordBatch:
    """Read objects at once.

    Raises:
        Unfit: not all of them are as the first one is spelled, or one is to be refused.
    """
    if not lines.is_text(b"".join(objects)):
        raise Unfit
    if options.form == "series":
        return _sound_series(records(objects, _SERIES))
    first = json_text.first(objects[0])
    nested = isinstance(first, dict) and first.get("features") is None
    inner = first.get("data") if nested else first
    features = inner.get("features") if isinstance(inner, dict) else None
    shape = _SHAPES.get((nested, isinstance(features, dict)))
    if shape is None:
        raise Unfit
    rows = records(objects, shape)
    label, column = rows["label"], rows["data" if nested else "features"]
    if nested:
        if column.null_count:
            raise Unfit
        column = column.field("features")
    if column.null_count or not _finite(label):
        raise Unfit
    if not isinstance(features, dict):
        column = _sound_dense(column, options)
    elif features.get("keys") is not None:
        column = _sound_sparse(column, options)
    elif column.field("keys").null_count < len(column):
        raise Unfit
    else:
        column = _sound_dense(column.field("values"), options)
    return pa.RecordBatch.from_arrays([column, label], schema=_schema(options))


def _finite(numbers: pa.Array) -> bool:
    return pc.all(pc.is_finite(numbers), min_count=0).as_py() is not False


def _sound_series(rows: dict[str, pa.Array]) -> pa.RecordBatch:
    target, dynamic = rows["target"], rows["dynamic_feat"]
    inner = dynamic.flatten()
    bad = rows["start"].null_count or target.null_count or inner.null_count or rows["cat"].flatten().null_count
    if bad or not _finite(target.flatten()) or inner.flatten().null_count or not _finite(inner.flatten()):
        raise Unfit
    return pa.RecordBatch.from_arrays([rows[name] for name in _SERIES.names], schema=_SERIES)


def _sound_dense(lists: pa.Array, options: Options) -> pa.Array:
    if lists.null_count or not _finite(lists.flatten()):
        raise Unfit
    width = options.width
    if width is not None and pc.all(pc.equal(pc.list_value_length(lists), width)).as_py() is False:
        raise Unfit
    if options.form == "dense":
        return lists
    indptr, _, values, _ = matrix.rows_of(lists)
    counts = np.diff(indptr)
    row = np.repeat(np.arange(len(counts)), counts)
    stored = np.flatnonzero(values != 0)
    if np.isnan(values).any():
        raise Unfit
    starts = np.concatenate([[0], np.cumsum(np.bincount(row[stored], minlength=len(counts)))])
    return matrix.sparse(starts, (stored - indptr[:-1][row[stored]]).astype(np.int32), values[stored])


def _sound_sparse(tensors: pa.Array, options: Options) -> pa.Array:
    keys, shape, values = (pc.struct_field(tensors, name) for name in ("keys", "shape", "values"))
    if options.form == "dense" or tensors.null_count or keys.null_count or shape.null_count or values.null_count:
        raise Unfit
    indptr, _, numbers, _ = matrix.rows_of(values)
    of_keys, of_shape = matrix.rows_of(keys), matrix.rows_of(shape)
    places, widths = of_keys.values, of_shape.values
    flat = keys.flatten().null_count or shape.flatten().null_count or values.flatten().null_count
    if (
        flat
        or not np.array_equal(of_keys.indptr, indptr)
        or np.any(np.diff(of_shape.indptr) != 1)
        or not np.isfinite(numbers).all()
    ):
        raise Unfit
    row = np.repeat(np.arange(len(tensors)), np.diff(indptr))
    falls = np.any((places[1:] <= places[:-1]) & (row[1:] == row[:-1]))
    beyond = (
        np.any(widths != options.width) if options.width is not None else np.any((widths < 1) | (widths > _LARGEST))
    )
    if falls or beyond or np.any(places < 0) or np.any(places >= widths[row]):
        raise Unfit
    return matrix.sparse(indptr, places.astype(np.int32), numbers)


class _Bad(ValueError):
    """A value that its form does not allow."""


def _of_values(values: Sequence[Any], options: Options) -> Instances:
    """Read values of JSON, one by one.

    >>> sparse = {"data": {"features": {"keys": [1, 3], "shape": [5], "values": [0.5, 2]}}, "label": 1}
    >>> _of_values([sparse], Options(form="sparse")).batch.to_pydict()
    {'features': [[(1, 0.5), (3, 2.0)]], 'label': [1.0]}
    """
    read = _one_series if options.form == "series" else _one_instance
    names, rows, good = COLUMNS[options.form], [], []
    refused: list[tuple[int, str, str]] = []
    for i, value in enumerate(values):
        try:
            if not isinstance(value, dict):
                words = "no object"
                raise _Bad(words)
            _refuse_twice(value, options)
            rows.append(dict(zip(names, read(value, options), strict=True)))
            good.append(i)
        except _Bad as error:
            refused.append((i, UNPARSEABLE, detail(repr(value).encode(errors="replace"), str(error))))
    return Instances(
        pa.RecordBatch.from_pylist(rows, schema=_schema(options)), np.array(good, np.int64), tuple(refused)
    )  # fmt: skip


def _refuse_twice(value: dict[str, Any], options: Options) -> None:
    """Refuse an object in which a field that is read stands twice."""
    features = ("data", "features") if value.get("features") is None else ("features",)
    tensor = [("features",), *((*features, name) for name in ("keys", "shape", "values"))]
    for path in [(name,) for name in COLUMNS["series"]] if options.form == "series" else [("label",), *tensor]:
        if found := json_text.twice(value, path):
            _refuse(f"{found} twice in one object")


def _refuse(words: str) -> NoReturn:
    raise _Bad(words)


def _number(value: Any, what: str, missing: bool = False) -> float | None:
    if value is None and missing:
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    _refuse(f"{what} must be numbers")


def _numbers(values: Any, what: str, missing: bool = False) -> list[float | None]:
    if not isinstance(values, list):
        _refuse(f"{what} must be a list of numbers")
    return [_number(one, what, missing) for one in values]


def _whole(values: Any, what: str) -> list[int]:
    """Return whole numbers as they must stand: pyarrow reads none with a point or an exponent either."""
    if not isinstance(values, list) or not all(type(one) is int and abs(one) < 1 << 63 for one in values):
        _refuse(f"{what} must be a list of whole numbers")
    return values


def _one_instance(value: dict[str, Any], options: Options) -> tuple[Any, ...]:
    label = _number(value.get("label"), "label", missing=True)
    features = value.get("features")
    if features is None:
        data = value.get("data")
        features = data.get("features") if isinstance(data, dict) else _refuse("no features")
    if isinstance(features, dict) and features.get("keys") is not None:
        return _pairs(features, options), label
    numbers = _numbers(features.get("values") if isinstance(features, dict) else features, "features", True)
    if options.width is not None and len(numbers) != options.width:
        _refuse(f"not {options.width} features but {len(numbers)}")
    if options.form == "dense":
        return numbers, label
    if None in numbers:
        _refuse("features must be numbers")
    return [(i, one) for i, one in enumerate(numbers) if one], label


def _pairs(tensor: dict[str, Any], options: Options) -> list[tuple[int, float | None]]:
    if options.form == "dense":
        _refuse("a sparse instance where dense ones are expected")
    keys, shape = _whole(tensor["keys"], "keys"), _whole(tensor.get("shape"), "shape")
    values = _numbers(tensor.get("values"), "values")
    if len(keys) != len(values):
        _refuse(f"{len(keys)} keys of {len(values)} values")
    if len(shape) != 1 or not 0 < shape[0] <= _LARGEST:
        _refuse("shape must be one number")
    if options.width is not None and shape[0] != options.width:
        _refuse(f"not {options.width} features but {shape[0]}")
    if any(not 0 <= key < shape[0] for key in keys):
        _refuse("keys must be within the shape")
    if any(b <= a for a, b in itertools.pairwise(keys)):
        _refuse("keys must rise")
    return list(zip(keys, values, strict=True))


def _one_series(value: dict[str, Any], options: Options) -> tuple[Any, ...]:
    start, target, cat, dynamic = (value.get(name) for name in COLUMNS["series"])
    if not isinstance(start, str) or not json_text.is_text(start):
        _refuse("start must be a text")
    if not isinstance(target, list):
        _refuse("target must be a list of numbers")
    target = [None if one == "NaN" or one != one else one for one in target]
    cats = None if cat is None else _whole(cat if isinstance(cat, list) else [cat], "cat")
    if dynamic is not None and not isinstance(dynamic, list):
        _refuse("dynamic_feat must be a list of lists of numbers")
    features = None if dynamic is None else [_numbers(one, "dynamic_feat") for one in dynamic]
    return start, _numbers(target, "target", missing=True), cats, features


def of_messages(messages: Sequence[bytes], columns: Sequence[str] | None, options: Options) -> Decoded:
    """Read messages of one object, of several, of an array of them, or of ``{"instances": [...]}``.

    Args:
        messages: without a frame and white space around them.
        columns: those wanted; None: all. One that the form does not have is empty.
        options: name the form.
    """
    alone = [i for i, one in enumerate(messages) if one[:1] == b"{" and one[-1:] == b"}" and not _INSTANCES.match(one)]
    at_once = _of_bytes([messages[i] for i in alone], options)
    several = {i for i, why, _ in ((alone[i], why, words) for i, why, words in at_once.refused) if not why}
    left = sorted(several | (set(range(len(messages))) - set(alone)))
    values: list[Any] = []
    of: list[tuple[int, int]] = []
    refused: list[Refusal] = [(why, alone[i], -1, words) for i, why, words in at_once.refused if why]
    for i in left:
        try:
            rows = json_text.values(messages[i])
        except ValueError as error:
            refused.append((MALFORMED, i, -1, detail(messages[i], str(error))))
            continue
        if len(rows) == 1 and isinstance(rows[0], dict) and isinstance(rows[0].get("instances"), list):
            rows = rows[0]["instances"]
        if not rows:
            refused.append((EMPTY, i, -1, ""))
        values += rows
        of += [(i, j) for j in range(len(rows))]
    found = _of_values(values, options)
    refused += [(why, *of[i], words) for i, why, words in found.refused]
    where = np.array(of, np.int64).reshape(-1, 2)[found.good]
    first = np.array(alone, np.int64)[at_once.good]
    message, row, order = in_order([(first, np.zeros(len(first), np.int64)), (where[:, 0], where[:, 1])])
    table = pa.Table.from_batches([at_once.batch, found.batch]).combine_chunks()
    batch = table.to_batches()[0] if table.num_rows else found.batch
    batch = batch if order is None else batch.take(order)
    return Decoded(_chosen(batch, columns), message, row, refusals(refused))


_INSTANCES = re.compile(rb'\{\s*"instances"\s*:')


def _chosen(batch: pa.RecordBatch, columns: Sequence[str] | None) -> pa.RecordBatch:
    names = batch.schema.names
    wanted = names if columns is None else dict.fromkeys(columns)
    return rows_batch(
        {name: batch.column(name) if name in names else pa.nulls(len(batch)) for name in wanted}, len(batch)
    )
