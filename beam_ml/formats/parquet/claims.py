"""How many values Parquet's pages claim: of columns of lists and maps neither the rows nor the footer say it.

A row may hold a list of any length, and the header of each page says how many values are in it, which a few bytes may spell
out. The library decodes what pages claim. So their headers are read here first: Thrift's compact protocol, of which only the
numbers wanted are looked at. A file in earnest has a page per some ten thousand values.
"""

from typing import Any, BinaryIO

__all__ = ["claimed"]

_WINDOWS = (512, 1 << 16, 1 << 20)
"""Bytes in which a header is looked for, one after the other: those with long statistics are rare."""
_DEEPEST = 8
_FIXED = {1: 0, 2: 0, 3: 1, 7: 8}
"""Thrift's type → bytes of a value: true and false are in the type itself; a byte; a double."""
_INTEGERS, _BYTES, _LISTS, _STRUCT = (4, 5, 6), 8, (9, 10), 12


def claimed(stream: BinaryIO, column: Any) -> int:
    """Return how many values the pages of a column chunk claim that its footer lets the library read.

    Args:
        stream: the file.
        column: `pyarrow.parquet.ColumnChunkMetaData`.

    Raises:
        ValueError: its pages cannot be followed.
    """
    at = column.data_page_offset
    if column.has_dictionary_page and 0 < (column.dictionary_page_offset or 0) < at:
        at = column.dictionary_page_offset
    end, total = at + column.total_compressed_size, 0
    while at < end and total < column.num_values:
        header, size = _header(stream, at)
        held, packed = header.get((5, 1), header.get((8, 1), 0)), header.get((3,), -1)
        if held < 0 or packed < 0:
            message = f"the page at byte {at} cannot be followed"
            raise ValueError(message)
        total += held
        at += size + packed
    return max(total, column.num_values)


def _header(stream: BinaryIO, at: int) -> tuple[dict[tuple[int, ...], int], int]:
    """Return a page's header as path of field numbers → whole number, and how many bytes it has."""
    for window in _WINDOWS:
        stream.seek(at)
        data = stream.read(window)
        found: dict[tuple[int, ...], int] = {}
        try:
            return found, _struct(data, 0, (), found)
        except IndexError:
            if len(data) < window:
                break
    message = f"the page at byte {at} has no header"
    raise ValueError(message)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            message = "a number of more than 64 bits"
            raise ValueError(message)


def _struct(data: bytes, at: int, path: tuple[int, ...], found: dict[tuple[int, ...], int]) -> int:
    """Read a struct from some byte on; return the byte behind it."""
    if len(path) > _DEEPEST:
        message = "a header nested too deep"
        raise ValueError(message)
    field = 0
    while data[at]:
        step, kind = data[at] >> 4, data[at] & 15
        at += 1
        if step:
            field += step
        else:
            number, at = _varint(data, at)
            field = number >> 1 ^ -(number & 1)
        at = _value(data, at, kind, (*path, field), found)
    return at + 1


def _value(data: bytes, at: int, kind: int, path: tuple[int, ...], found: dict[tuple[int, ...], int]) -> int:
    if kind in _FIXED:
        at += _FIXED[kind]
    elif kind in _INTEGERS:
        number, at = _varint(data, at)
        found[path] = number >> 1 ^ -(number & 1)
    elif kind == _BYTES:
        size, at = _varint(data, at)
        at += size
    elif kind == _STRUCT:
        at = _struct(data, at, path, found)
    elif kind in _LISTS:
        count, inner = data[at] >> 4, data[at] & 15
        at += 1
        if count == 15:
            count, at = _varint(data, at)
        for _ in range(count):
            at = at + 1 if inner in (1, 2) else _value(data, at, inner, (*path, 0), {})
    else:
        message = f"a field of type {kind}"
        raise ValueError(message)
    if at > len(data):
        raise IndexError
    return at
