"""Columns whose values are of several kinds, one part beside another: numbers as long as all are numbers, else texts.

Which rows there are, and what their values mean as numbers, times or categories, then depends on no row beside them: a text
that spells a number is read as that number wherever numbers are wanted.
"""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["EXACT", "joined", "spelled"]

EXACT = 1 << 53
"""A float64 from here on stands for several whole numbers."""


def spelled(value: Any) -> str | None:
    """Return a number, a truth value or a text as text; None where it is none or not finite.

    >>> [spelled(value) for value in (7, 7.0, 1.5, True, "7", 2**64, math.inf)]
    ['7', '7', '1.5', '1', '7', '18446744073709551616', None]
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < EXACT else repr(value)
    return str(int(value)) if isinstance(value, int) else str(value)


def _texts(array: pa.Array) -> pa.Array:
    """Return the values of a column as texts."""
    kind, types = array.type, pa.types
    if types.is_string(kind) or types.is_null(kind):
        return array.cast(pa.string())
    if types.is_integer(kind) or types.is_decimal(kind):
        return array.cast(pa.string())
    if types.is_timestamp(kind) or types.is_date(kind):
        return array.cast(pa.string())
    if types.is_floating(kind) or types.is_boolean(kind):
        return pa.array([spelled(value) for value in array.to_pylist()], pa.string())
    message = f"values of the type {kind} cannot stand beside others"
    raise ValueError(message)


def _is_exact(array: pa.Array) -> bool:
    """Return whether whole numbers are the same as float64."""
    if not pa.types.is_int64(array.type) and not pa.types.is_uint64(array.type):
        return True
    bounds = pc.min_max(array).as_py()
    return bounds["min"] is None or (-EXACT < bounds["min"] and bounds["max"] < EXACT)


def joined(pieces: Sequence[pa.Array]) -> pa.Array:
    """Return parts of a column behind one another.

    Whole and other numbers become float64, unless that would change a whole one; texts beside anything else, texts.

    Args:
        pieces: at least one.

    Raises:
        ValueError: of several types, one of which is neither of numbers, truth values, texts nor times.

    >>> joined([pa.array([1, 2]), pa.nulls(1), pa.array([0.5])]).to_pylist()
    [1.0, 2.0, None, 0.5]
    >>> joined([pa.array([2**60 + 1]), pa.array([0.5]), pa.array(["n/a"])]).to_pylist()
    ['1152921504606846977', '0.5', 'n/a']
    """
    kinds = list(dict.fromkeys(one.type for one in pieces if not pa.types.is_null(one.type)))
    if not kinds:
        return pa.nulls(sum(len(one) for one in pieces))
    if len(kinds) == 1:
        return pa.concat_arrays([one.cast(kinds[0]) for one in pieces])
    types = pa.types
    if all(types.is_timestamp(kind) and (kind.tz is None) == (kinds[0].tz is None) for kind in kinds):
        finest = max((kind.unit for kind in kinds), key=["s", "ms", "us", "ns"].index)
        return pa.concat_arrays([one.cast(pa.timestamp(finest, kinds[0].tz)) for one in pieces])
    if all(types.is_integer(kind) and kind != pa.uint64() for kind in kinds):
        return pa.concat_arrays([one.cast(pa.int64()) for one in pieces])
    if all(types.is_integer(kind) or types.is_floating(kind) for kind in kinds) and all(map(_is_exact, pieces)):
        return pa.concat_arrays([one.cast(pa.float64()) for one in pieces])
    return pa.concat_arrays([_texts(one) for one in pieces])
