"""What the first rows of files look like: per column its type, nulls, distinct values, range and most common values."""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.core.cursors import FileId
from beam_ml.core.spec import Settings
from beam_ml.formats import matrix
from beam_ml.formats.nested import flat
from beam_ml.formats.plain import plain
from beam_ml.formats.table import Format
from beam_ml.formats.united import fitted, united

__all__ = ["Column", "Head", "head", "profiled"]

_RANGE = {"rows": 1 << 20, "bytes": 16 << 20}
_COMMON, _FEW = 5, 20
_PICTURES = 1000
"""Files that are looked at, from everywhere, where each is one row."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column of the rows looked at.

    Attributes:
        name: of the column.
        type: Arrow's name of it.
        rows: looked at.
        nulls: of them, rows without a value.
        distinct: values other than null; None: not counted, of lists and maps.
        low, high: least and greatest number or time (of a matrix: of its numbers); None: there is none.
        widths: least and most numbers of a row, where rows are lists or maps of them.
        features: of a matrix: its dense rows have so many at most, or the greatest feature is the one before it.
        common: the most common values and their rows, the most common first.
        few: all values, the most common first, where there are at most 20.
        words: of a text, on average; None: the values are no texts.
    """

    name: str
    type: str
    rows: int
    nulls: int
    distinct: int | None = None
    low: Any = None
    high: Any = None
    widths: tuple[int, int] | None = None
    features: int | None = None
    common: tuple[tuple[Any, int], ...] = ()
    few: tuple[Any, ...] = ()
    words: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """The first rows of files, and what was rejected among them.

    Attributes:
        rows: the rows; without columns where there are none.
        rejected: reason → rows.
        whole: whether these are all rows.
    """

    rows: pa.Table
    rejected: Counter[str]
    whole: bool


def head(files: Sequence[FileId], format: Format, options: Settings | None = None, n: int = 10_000) -> Head:
    """Return the first n rows of files, all in one table; of files by label, rows from everywhere.

    Columns of records are their fields, by path.

    Raises:
        InvalidValue: the files' columns differ.
        UnreadableInput, InputChanged: see the format.
    """
    given = {} if options is None else {"options": options}
    n_files = len(files)
    if format.folders and n_files > _PICTURES:  # those of one label come first
        files = [files[i * (n_files - 1) // (_PICTURES - 1)] for i in range(_PICTURES)]
    batches, rejected, seen = list[pa.RecordBatch](), Counter[str](), 0
    ended = False
    for file in files:
        for piece in () if ended else format.module.ranges(file, _RANGE[format.counts], **given):
            for block in format.module.read(piece, None, n, "", **given):
                if seen == n and len(block):
                    ended = True
                    break
                rejected.update({reject.reason: len(reject) for reject in block.rejected})
                batches.append(flat(block.batch.slice(0, n - seen)))
                ended = seen + len(block) > n
                seen += batches[-1].num_rows
            if ended:
                break
    whole = not ended and len(files) == n_files
    with_rows = [one for one in batches if one.num_rows] or batches[:1]
    if not with_rows:
        return Head(pa.table({}), rejected, whole)
    schema = united([one.schema for one in with_rows], format.ragged)
    return Head(pa.Table.from_batches([fitted(one, schema) for one in with_rows]), rejected, whole)


def profiled(rows: pa.Table) -> list[Column]:
    """Return what each column looks like.

    >>> [one] = profiled(pa.table({"a": [3, None, 1, 3]}))
    >>> one.nulls, one.distinct, one.low, one.high, one.common
    (1, 2, 1, 3, ((3, 2), (1, 1)))
    """
    return [_column(name, rows.column(name).combine_chunks()) for name in rows.column_names]


def _column(name: str, values: pa.Array) -> Column:
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    kind, bare = values.type, Column(name, str(values.type), len(values), values.null_count)
    if matrix.is_matrix(kind):
        indptr, indices, numbers, missing = matrix.rows_of(values)
        sizes = (indptr[1:] - indptr[:-1])[... if missing is None else ~missing]
        low, high = _bounds(pa.array(numbers))
        widths = (int(sizes.min()), int(sizes.max())) if sizes.size else None
        features = int(sizes.max(initial=0)) if indices is None else int(indices.max(initial=-1)) + 1
        return dataclasses.replace(bare, low=low, high=high, widths=widths, features=features)
    if pa.types.is_nested(kind):
        return bare
    values = values.dictionary_decode() if pa.types.is_dictionary(kind) else values
    values = values.cast(pa.float32()) if pa.types.is_float16(kind) else values  # which Arrow does not count
    try:
        counts = values.drop_null().value_counts()
    except pa.ArrowNotImplementedError:  # of intervals, of types of others' own: there is nothing to count them by
        return bare
    ordered = sorted(zip(plain(counts.field(0)), counts.field(1).to_pylist(), strict=True), key=lambda one: -one[1])
    common = tuple((_plain(value), n) for value, n in ordered[:_COMMON])
    low, high = (None, None) if _unordered(values.type) else _bounds(values)
    few = tuple(_plain(value) for value, _ in ordered) if len(ordered) <= _FEW else ()
    words = None
    if (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)) and ordered:
        words = float(pc.mean(pc.count_substring_regex(values, r"\S+")).as_py())
    return dataclasses.replace(bare, distinct=len(ordered), low=low, high=high, common=common, few=few, words=words)


def _unordered(kind: pa.DataType) -> bool:
    """Return whether a range of values says nothing: texts, bytes, truth values."""
    types = pa.types
    return not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_temporal(kind))


def _bounds(values: pa.Array) -> tuple[Any, Any]:
    if pa.types.is_floating(values.type):
        values = values.filter(pc.is_finite(values))
    try:
        found = pc.min_max(values)
    except pa.ArrowNotImplementedError:  # of durations
        return None, None
    low, high = plain(pa.array([found["min"], found["max"]], values.type))
    return _plain(low), _plain(high)


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)
