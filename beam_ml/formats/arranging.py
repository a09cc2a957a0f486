"""Rows as a format can hold them: columns of numbers become one column of features, and such a column several.

Letters: ``n`` rows, ``d`` features.
"""

import dataclasses
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.errors import InvalidValue
from beam_ml.formats import matrix
from beam_ml.formats.far_times import far_times
from beam_ml.formats.table import Format

__all__ = ["Arranging", "arranging"]

_MOST_COLUMNS = 10_000
Refused = dict[str, np.ndarray]
"""Reason → (m,) int64 rows that the format cannot hold."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arranging:
    """How rows are laid out for a format.

    Attributes:
        format: that they are written in.
        label: the column that is called label there; None: it keeps its name, or there is none.
        packed: columns that become one column of features, in this order.
        spread: the column of features that becomes d columns, f0 to f(d - 1); None: there is none to spread.
        width: d.
    """

    format: Format
    label: str | None = None
    packed: tuple[str, ...] = ()
    spread: str | None = None
    width: int = 0

    def __call__(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, Refused]:
        """Return the rows that can be held, laid out, and those that cannot be.

        Raises:
            InvalidValue: a column has values that the format has no place for.
        """
        columns = dict(zip(rows.schema.names, rows.columns, strict=True))
        if self.label is not None and self.label != "label":
            columns["label"] = columns.pop(self.label)
        refused: Refused = {}
        if self.packed:
            for name in self.packed:
                _refuse_where(refused, columns[name].is_null(), f"no number in {name}")
        elif self.spread is not None:
            _refuse_where(refused, columns[self.spread].is_null(), "no features")
            _refuse_where(refused, _beyond(columns[self.spread], self.width), f"not {self.width} features")
        for name, column in columns.items() if self.format.spells else ():
            far = far_times(column)
            if far is not None:
                _refuse_where(refused, far, f"no time that text can say in {name}")
        bad = np.unique(np.concatenate([np.empty(0, np.int64), *refused.values()]))
        good = np.setdiff1d(np.arange(rows.num_rows), bad)
        if bad.size:
            columns = {name: column.take(pa.array(good)) for name, column in columns.items()}
        if self.packed:
            features = _packed([columns.pop(name) for name in self.packed], self.packed)
            columns = {matrix.FEATURES: features, **columns}
        elif self.spread is not None:
            columns |= _spread(columns.pop(self.spread), self.width, set(columns))
        if self.format.columns:
            columns = _known(columns, self.format)
        return pa.RecordBatch.from_pydict(columns), refused


def _refuse(rule: str, got: object) -> NoReturn:
    message = f"{rule}; got {got}."
    raise InvalidValue(message)


def _refuse_where(refused: Refused, mask: pa.Array, reason: str) -> None:
    """Note the rows of a mask that no other reason has already."""
    rows = np.setdiff1d(np.flatnonzero(mask.to_numpy(zero_copy_only=False)), [i for at in refused.values() for i in at])
    if rows.size:
        refused[reason] = rows.astype(np.int64)


def _beyond(column: pa.Array, width: int) -> pa.Array:
    """Return which rows do not have d features: dense ones another number, sparse ones a feature outside."""
    indptr, indices, _, missing = matrix.rows_of(column)
    if indices is None:
        wrong = np.diff(indptr) != width
    else:
        row = np.repeat(np.arange(len(column)), np.diff(indptr))
        wrong = np.bincount(row[(indices < 0) | (indices >= width)], minlength=len(column)) > 0
    return pa.array(wrong if missing is None else wrong & ~missing)


def _packed(columns: list[pa.Array], names: tuple[str, ...]) -> pa.Array:
    kind = pa.float32() if all(one.type == pa.float32() for one in columns) else pa.float64()
    numbers = []
    for name, one in zip(names, columns, strict=True):
        try:
            whole = one.cast(pa.int8()) if pa.types.is_boolean(one.type) else one
            numbers.append(whole.cast(kind).to_numpy(zero_copy_only=False))
        except pa.ArrowException as error:
            words = " ".join(str(error).split()).rstrip(".")
            message = f"Column {name!r} must hold numbers that float64 has; got: {words}."
            raise InvalidValue(message) from error
    values = np.column_stack(numbers)
    return matrix.dense(np.arange(len(values) + 1) * len(names), values.reshape(-1))


def _spread(column: pa.Array, width: int, others: set[str]) -> dict[str, pa.Array]:
    names = [f"f{i}" for i in range(width)]
    if others & set(names):
        _refuse("Columns f0, f1, … must be free for the features", f"{sorted(others & set(names))[:5]} beside them")
    indptr, indices, values, _ = matrix.rows_of(column)
    table = np.zeros((len(column), width), values.dtype)
    if indices is None:
        table[:] = values.reshape(len(column), width)
    else:
        table[np.repeat(np.arange(len(column)), np.diff(indptr)), indices] = values
    return {name: pa.array(np.ascontiguousarray(table[:, i])) for i, name in enumerate(names)}


def _known(columns: dict[str, pa.Array], target: Format) -> dict[str, pa.Array]:
    """Drop columns that the format does not have where they hold nothing."""
    for name in [name for name in columns if name not in target.columns]:
        there = len(columns[name]) - columns[name].null_count
        if there:
            rule = f"Rows of {target.name} must have columns of {list(target.columns)} (--columns leaves others out)"
            _refuse(rule, f"{name!r} with {there} values")
        del columns[name]
    return columns


def arranging(rows: pa.RecordBatch, target: Format, label: str | None = None, width: int | None = None) -> Arranging:
    """Return how rows are laid out for a format, by the first ones.

    Args:
        rows: the first ones; all have their columns and types.
        target: the format.
        label: the column of the label, where the format wants features in one column; "": there is none.
        width: features of a row, where they become columns; None: as many as the first row has, if it is dense.

    Raises:
        InvalidValue: the format cannot hold the rows.

    >>> from beam_ml.formats import of_files
    >>> plain = pa.record_batch({"a": [1.0, 2.0], "b": [3, 4], "y": [0, 1]})
    >>> arranging(plain, of_files("libsvm"), label="y")(plain)[0].to_pydict()
    {'features': [[1.0, 3.0], [2.0, 4.0]], 'label': [0, 1]}
    """
    kinds = dict(zip(rows.schema.names, rows.schema.types, strict=True))
    if label and label not in kinds:
        _refuse("--label must name a column", f"{label!r}, of {list(kinds)}")
    if label not in (None, "", "label") and "label" in kinds:
        _refuse("--label must name the column 'label' where there is one (--columns leaves it out)", repr(label))
    if target.columns and matrix.FEATURES not in kinds:
        return _packing(kinds, target, label)
    wide = [name for name, kind in kinds.items() if matrix.is_matrix(kind)]
    maps = [name for name in wide if pa.types.is_map(kinds[name])]
    spread = wide if not target.matrices else [] if target.maps else maps
    if target.columns or not spread:
        return Arranging(target, label or None if target.columns else None)
    if len(spread) > 1:
        _refuse(f"{target.name} must have at most one column of several numbers (--columns chooses)", spread)
    if width is None and spread[0] not in maps and rows.num_rows:
        width = pc.list_value_length(rows.column(spread[0])).to_pylist()[0]
    if width is None or not 0 < width <= _MOST_COLUMNS:
        rule = (
            f"--width must be 1 to {_MOST_COLUMNS:,}, as {target.name} holds each feature of {spread[0]!r} in a column"
        )
        _refuse(rule, width)
    return Arranging(target, spread=spread[0], width=width)


def _packing(kinds: dict[str, pa.DataType], target: Format, label: str | None) -> Arranging:
    if label is None:
        label = "label"
        if label not in kinds:
            _refuse(f"--label must name the label's column of {target.name} ('': none)", f"columns {list(kinds)}")
    packed = tuple(name for name in kinds if name != label and (name not in target.columns or name == "label"))
    for name in packed:
        kind = kinds[name]
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            _refuse(
                f"{target.name} must have features that are numbers (--columns leaves others out)", f"{name!r}, {kind}"
            )
    if not packed:
        _refuse(f"{target.name} must have at least one feature", f"columns {list(kinds)}")
    return Arranging(target, label or None, packed)
