"""JSON values → Arrow columns: what each column's values may be, inferred from some of them, and how they are converted."""

import dataclasses
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.formats.mixed import EXACT, spelled

__all__ = [
    "Column",
    "Kind",
    "Unfit",
    "convert",
    "converted",
    "found_in",
    "named",
    "plan",
    "settled",
    "whole",
    "wire_type",
]

Kind = Literal["nothing", "truth", "number", "whole", "text", "category"]
"""What a column's values are in JSON. `whole` numbers are read as int64: exact beyond 2⁵³. `category`: texts and numbers."""

_MOST_BITS = 4096  # of a number that is a category: Python spells longer ones slowly or not at all
_WIRE = {
    "nothing": pa.null(), "truth": pa.bool_(), "number": pa.float64(), "whole": pa.int64(), "text": pa.string(),
    "category": pa.string(),
}  # fmt: skip


class Unfit(Exception):
    """Some value among many does not convert; which one, only a look at each can say."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column wanted.

    Attributes:
        name: its name.
        kind: what its values are in JSON.
        target: the Arrow type declared for it, or None: as the values have it.
        category: whether its values are names, so that numbers among them must not become floating ones.
        loose: whether objects and arrays count as nothing, for a column that nobody named.
        path: the names that lead to a value within objects; None: the value stands under the column's own name alone.
    """

    name: str
    kind: Kind
    target: pa.DataType | None
    category: bool = False
    loose: bool = False
    path: tuple[str, ...] | None = None


def found_in(row: Mapping[str, Any], column: Column) -> Any:
    """Return a column's value in a row: under its own name, else where its path leads; None: there is none.

    >>> column = Column("a.b", "number", None, path=("a", "b"))
    >>> [found_in(row, column) for row in ({"a": {"b": 1}}, {"a.b": 2}, {"a": 3}, {})]
    [1, 2, None, None]
    """
    value: Any = row.get(column.name)
    if value is not None or column.path is None:
        return value
    value = row
    for name in column.path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _path(name: str, names: Container[str]) -> tuple[str, ...] | None:
    """Return the path that a column's name spells, unless it leads through another column."""
    parts = tuple(name.split("."))
    if len(parts) == 1 or any(".".join(parts[:i]) in names for i in range(1, len(parts))):
        return None
    return parts


def wire_type(column: Column) -> pa.DataType:
    """Return the Arrow type that a column's values are parsed as, before they are converted."""
    return _WIRE[column.kind]


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _kind(target: pa.DataType | None, values: Iterable[Any]) -> Kind:
    """Return what a column's values are: by its declared type, and by the values where that leaves it open."""
    types = pa.types
    if target is not None and types.is_boolean(target):
        return "truth"
    if target is not None and types.is_floating(target):
        return "number"
    if target is not None and (types.is_string(target) or types.is_large_string(target)):
        return "text"
    found: Kind = "nothing"
    for value in values:
        if isinstance(value, bool):
            mine: Kind = "truth"
        elif isinstance(value, int):
            mine = "whole" if -(1 << 63) <= value < 1 << 63 else "number"
        elif isinstance(value, float):
            mine = "number"
        elif isinstance(value, str):
            mine = "text"
        else:
            continue
        if found == "nothing":
            found = mine
        elif found == "whole" and mine == "number":
            found = "number"
    if target is not None and (found in ("nothing", "truth") or (found == "text" and not _is_time(target))):
        return "text" if _is_time(target) else "whole"
    return found


def _category(values: Iterable[Any]) -> Kind:
    """Return what a column of categories holds: whole numbers or texts alone, or both."""
    kinds: set[Kind] = set()
    for value in values:
        if isinstance(value, str):
            kinds.add("text")
        elif isinstance(value, int | float):
            kinds.add("whole" if _is_int64(value) else "category")
    return "nothing" if not kinds else kinds.pop() if len(kinds) == 1 else "category"


def _is_int64(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def settled(names: Sequence[str], types: Mapping[str, pa.DataType]) -> bool:
    """Return whether the declared types alone determine what the columns hold, whatever the values."""
    return all(name in types and not pa.types.is_integer(types[name]) and not _is_time(types[name]) for name in names)


def plan(
    names: Sequence[str],
    types: Mapping[str, pa.DataType],
    rows: Sequence[Mapping[str, Any]],
    categories: Container[str] = (),
    loose: Container[str] = (),
) -> list[Column]:
    """Return what the wanted columns hold, from their declared types and some rows; the first value's kind counts.

    Where no type is declared this says only what many are parsed as at once; others are read all the same (`converted`).
    """
    wanted, found = set(names), []
    for name in names:
        column = Column(name, "nothing", types.get(name), loose=name in loose, path=_path(name, wanted))
        values = (found_in(row, column) for row in rows)
        if column.target is None and name in categories:
            found.append(dataclasses.replace(column, kind=_category(values), category=True))
        else:
            found.append(dataclasses.replace(column, kind=_kind(column.target, values)))
    return found


def _zoned(texts: pa.Array) -> pa.Array:
    """Write UTC to the times that name no zone."""
    named = pc.match_substring_regex(texts, r"(Z|[+-]\d\d(:?\d\d)?)$")
    dated = pc.equal(pc.utf8_length(texts), 10)
    ending = pc.if_else(dated, "T00:00:00Z", pc.if_else(named, "", "Z"))
    return pc.binary_join_element_wise(texts, ending, "")


def _instants(texts: pa.Array, target: pa.DataType) -> pa.Array:
    """Read ISO 8601 texts; those without a zone are UTC, and digits finer than the unit are cut off."""
    if pa.types.is_date(target):
        return texts.cast(pa.timestamp("ms")).cast(target, safe=False)
    for unit in dict.fromkeys((target.unit, "ns")):
        for zone, read in (("UTC", None), (None, None), ("UTC", _zoned)):
            try:
                found = (texts if read is None else read(texts)).cast(pa.timestamp(unit, tz=zone))
            except pa.ArrowInvalid:
                continue
            return found.cast(target, safe=False)
    raise Unfit


def convert(array: pa.Array, column: Column) -> pa.Array:
    """Convert parsed values to a column's declared type.

    Raises:
        Unfit: one of them is not of it: not finite, not whole, out of range, no time.
    """
    target = column.target
    try:
        if column.kind == "number":
            if target is None:  # whole numbers from 2⁵³ on are no float64: they are read one by one
                if pc.all(pc.less(pc.abs(array), EXACT)).as_py() is False:
                    raise Unfit
                return array
            if pc.all(pc.is_finite(array)).as_py() is False:
                raise Unfit
            if pa.types.is_floating(target) and target != pa.float64():
                array = array.cast(target, safe=False)
                if pc.all(pc.is_finite(array)).as_py() is False:
                    raise Unfit
                return array
            if target != pa.float64():  # whole numbers written as 1.0 or 1e3
                if pc.all(pc.less(pc.abs(array), EXACT)).as_py() is False:
                    raise Unfit
                array = array.cast(pa.int64())
        if target is None or array.type == target:
            return array
        if column.kind == "text":
            return _instants(array, target) if _is_time(target) else array.cast(target)
        if pa.types.is_date32(target):
            return array.cast(pa.int32()).cast(target)
        return array.cast(target)
    except pa.ArrowInvalid as error:
        raise Unfit from error


def _parsed(value: Any, kind: Kind) -> Any:
    """Return a JSON value as the parser of many would read it.

    Raises:
        Unfit: it is of another kind.
    """
    if value is None:
        return None
    if kind in ("number", "whole") and isinstance(value, int | float) and not isinstance(value, bool):
        if kind == "number":
            return float(value)
        if isinstance(value, int) or (math.isfinite(value) and value.is_integer() and abs(value) < EXACT):
            return int(value)
    elif (kind == "truth" and isinstance(value, bool)) or (kind == "text" and isinstance(value, str)):
        return value
    raise Unfit


def _name(value: Any) -> Any:
    """Return a category; None: there is none.

    Raises:
        Unfit: it is none, such as a floating number that is not whole, or stands for several whole ones.
    """
    if isinstance(value, str) or _is_int64(value):
        return value
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    if isinstance(value, int) and value.bit_length() <= _MOST_BITS:
        return str(int(value))
    raise Unfit


def named(array: pa.Array) -> pa.Array:
    """Return a column of categories.

    Raises:
        Unfit: one is none, such as a floating number that is not whole.
    """
    return pa.array([_name(value) for value in array.to_pylist()], pa.string())


def _free(value: Any) -> Any:
    """Return a value of no declared type.

    Raises:
        Unfit: an object or an array, or a number that no float64 holds.
    """
    if isinstance(value, dict | list):
        raise Unfit
    if isinstance(value, int | float):
        try:
            if not math.isfinite(value):
                raise Unfit
        except OverflowError as error:
            raise Unfit from error
    return value


def _array(values: Sequence[Any]) -> pa.Array:
    """Return values of any kinds as a column: of numbers where all are, and none would change, else of texts."""
    kinds = {type(value) for value in values if value is not None}
    most = EXACT if float in kinds else 1 << 63
    numbers = kinds <= {int, float} and all(-most <= value < most for value in values if type(value) is int)
    if numbers and len(kinds) == 2:
        return pa.array(values, pa.float64())
    if numbers or (len(kinds) == 1 and int not in kinds):
        return pa.array(values)
    return pa.array([spelled(value) for value in values], pa.string())


def _undeclared(values: Sequence[Any], column: Column) -> tuple[list[Any], list[int]]:
    """Return the values of a column without a declared type, None where they cannot be read, and where that is."""
    found: list[Any] = []
    bad: list[int] = []
    for i, value in enumerate(values):
        try:
            if isinstance(value, str):
                value.encode()
            if value is None or (column.loose and isinstance(value, dict | list)):
                found.append(None)
            else:
                found.append(_name(value) if column.category else _free(value))
        except (Unfit, UnicodeError):
            found.append(None)
            bad.append(i)
    return found, bad


def _one(value: Any, column: Column) -> pa.Array:
    kind = column.kind
    if column.target is not None and not isinstance(value, bool | None):  # times as texts and as numbers; 5.0 for 5
        if _is_time(column.target):
            kind = "text" if isinstance(value, str) else "whole"
        elif kind == "number" and not pa.types.is_floating(column.target):
            kind = "whole"
    try:
        array = pa.array([_parsed(value, kind)], _WIRE[kind])
    except (OverflowError, UnicodeError, pa.ArrowException) as error:
        raise Unfit from error
    return convert(array, dataclasses.replace(column, kind=kind))


def converted(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> tuple[list[pa.Array], dict[int, str]]:
    """Convert rows one value at a time where they do not all convert at once.

    A column without a declared type is of numbers where all its values here are, else of texts.

    Returns:
        The columns of the good rows, and the numbers of the others with the name of the column to blame.
    """
    found: list[pa.Array | list[Any]] = []
    bad: dict[int, str] = {}
    for column in columns:
        values = [found_in(row, column) for row in rows]
        if column.target is None:
            free, odd = _undeclared(values, column)
            bad |= {i: column.name for i in odd if i not in bad}
            found.append(free)
            continue
        try:
            parsed = [_parsed(value, column.kind) for value in values]
            found.append(convert(pa.array(parsed, wire_type(column)), column))
        except (Unfit, OverflowError, UnicodeError, pa.ArrowException):
            singles: list[pa.Array] = []
            for i, value in enumerate(values):
                try:
                    singles.append(_one(value, column))
                except Unfit:
                    bad.setdefault(i, column.name)
                    singles.append(pa.nulls(1, column.target))
            found.append(singles)
    good = [i for i in range(len(rows)) if i not in bad]
    arrays = []
    for column, one in zip(columns, found, strict=True):
        if isinstance(one, pa.Array):
            arrays.append(one.take(pa.array(good, pa.int64())) if bad else one)
        elif column.target is None:
            arrays.append(_array([one[i] for i in good]))
        else:
            kept = [one[i] for i in good]
            arrays.append(pa.concat_arrays(kept) if kept else pa.array([], column.target))
    return arrays, bad


def whole(array: pa.Array) -> pa.Array:
    """Return a column without a declared type, as int64 where all its numbers are whole.

    >>> whole(pa.array([1.0, 2.0])).type, whole(pa.array([1.0, 0.5])).type
    (DataType(int64), DataType(double))
    """
    if array.null_count == len(array):
        return pa.nulls(len(array))
    if not pa.types.is_floating(array.type):
        return array
    array = pc.add(array, 0.0)  # −0.0 is 0, as it is where all are whole
    if array.drop_null()[0].as_py().is_integer():
        try:
            exact = pc.all(pc.less(pc.abs(array), EXACT)).as_py()
            return array.cast(pa.int64()) if exact else array
        except pa.ArrowInvalid:  # some are not whole
            return array
    return array
