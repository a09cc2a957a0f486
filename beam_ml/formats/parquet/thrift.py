"""Thrift's compact protocol, as far as Parquet's footer and page headers use it: bytes → numbers of fields and their values.

The library does not show page headers, and asking it for the metadata of a damaged column may end the process. Only fields
that are wanted are kept: all of a footer would take up to a hundred times its bytes.
"""

from collections.abc import Mapping
from typing import Any

__all__ = ["Wanted", "struct"]

Fields = dict[int, Any]
"""Number of a field → whole number, bytes, truth value, list or struct; of fields named twice, the last."""
Wanted = Mapping[int, "Wanted"]
"""Number of a field → those wanted of its struct, or of each in its list; of other values, none."""

_TRUE, _FALSE, _BYTE, _DOUBLE, _BYTES, _STRUCT = 1, 2, 3, 7, 8, 12
_INTEGERS, _LISTS = (4, 5, 6), (9, 10)
_DEEPEST, _LONGEST = 16, 63


def struct(data: bytes, wanted: Wanted, at: int = 0, depth: int = 0) -> tuple[Fields, int]:
    """Return what is wanted of the struct that begins at a byte, and the byte behind it.

    Raises:
        IndexError: the bytes end before it does.
        ValueError: it is none, or nested too deep.

    >>> struct(bytes([0x15, 0x06, 0x18, 0x01, 0x61, 0x00]), {2: {}})
    ({2: b'a'}, 6)
    """
    if depth > _DEEPEST:
        message = "a struct is nested too deep"
        raise ValueError(message)
    found: Fields = {}
    field = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            field += head >> 4
        else:
            number, at = _number(data, at)
            field = number >> 1 ^ -(number & 1)
        kind = head & 15
        if kind in (_TRUE, _FALSE):  # of a field, the type is the value
            value: Any = kind == _TRUE
        else:
            value, at = _value(data, at, kind, depth, wanted.get(field))
        if field in wanted:
            found[field] = value
    return found, at + 1


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := data[at]) > 127:
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if shift > _LONGEST:
            message = "a number has more than 64 bits"
            raise ValueError(message)
    return value | byte << shift, at + 1


def _value(data: bytes, at: int, kind: int, depth: int, wanted: Wanted | None) -> tuple[Any, int]:
    """Return a value, of which nothing is kept where nothing is wanted, and the byte behind it."""
    if kind in _INTEGERS:
        number, at = _number(data, at)
        return number >> 1 ^ -(number & 1), at
    if kind == _STRUCT:
        return struct(data, wanted or {}, at, depth + 1)
    if kind in _LISTS:
        return _items(data, at, depth, wanted)
    if kind == _BYTES:
        size, at = _number(data, at)
        _within(data, at + size)
        return None if wanted is None else data[at : at + size], at + size
    if kind in (_TRUE, _FALSE, _BYTE):  # in a list, a truth value is a byte
        return data[at], at + 1
    if kind == _DOUBLE:
        _within(data, at + 8)
        return None, at + 8
    message = f"a field has the type {kind}"
    raise ValueError(message)


def _items(data: bytes, at: int, depth: int, wanted: Wanted | None) -> tuple[list[Any], int]:
    if depth > _DEEPEST:
        message = "a list is nested too deep"
        raise ValueError(message)
    count, kind = data[at] >> 4, data[at] & 15
    at += 1
    if count == 15:
        count, at = _number(data, at)
    found = []
    for _ in range(count):  # each has a byte at least, so that the bytes end this
        one, at = _value(data, at, kind, depth + 1, wanted)
        if wanted is not None:
            found.append(one)
    return found, at


def _within(data: bytes, end: int) -> None:
    if end > len(data):
        raise IndexError(end)
