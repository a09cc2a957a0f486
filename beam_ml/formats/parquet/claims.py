"""How much memory Parquet's pages may take once they are decoded, by what their headers claim.

A few bytes may spell out any number of equal values, and a list in one row may hold them all; a page says how large it is
unpacked, and a word of a dictionary may stand in every row. None of it is in the number of rows. Headers are small and a
file in earnest has a page per some ten thousand values, so that all of a range's are read before any page is.
"""

import dataclasses
import functools
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any, BinaryIO

from beam_ml.formats.parquet import thrift

__all__ = ["Claim", "Unfollowed", "claimed", "needed"]

_MARK = b"PAR1"
_WINDOWS = (256, 1 << 16, 1 << 20)
"""Bytes in which a header is looked for, one after the other: those with long statistics are rare."""
_MOST_PAGES = 1 << 17
"""Of a range; what has more is not followed to its end."""
_REPEATED, _BYTE_ARRAY, _FIXED_ARRAY = 2, 6, 7
_WIDTHS = {0: 1, 1: 4, 2: 8, 3: 12, 4: 4, 5: 8}
"""Number of a physical type → bytes of a value."""
_PLAIN, _INDICES, _WORDS = 0, (2, 8), -1
_ONCE = (_PLAIN, 6)
"""Encodings that spell each text where it stands: all others may repeat one."""
_BESIDE = 24
"""Bytes per value for what stands beside it while it is decoded: levels, offsets, whether it is there, which word."""

_FOOTER: thrift.Wanted = {
    2: {1: {}, 2: {}, 3: {}, 4: {}, 5: {}},
    4: {1: {3: {5: {}, 7: {}, 9: {}, 11: {}}}},
}
"""Of the schema: types, widths, whether repeated, names, children; of the columns of row groups: values, bytes, where."""
_PAGE: thrift.Wanted = {2: {}, 3: {}, 5: {1: {}, 2: {}}, 7: {}, 8: {1: {}, 4: {}}}
"""Of a page: bytes unpacked and packed, values and encoding of either kind of data, whether it is a dictionary."""

_GROWING = 3
"""Times its size that a buffer takes while it is copied into one of twice its size."""


class Unfollowed(ValueError):
    """Footer or headers are not as Parquet writes them."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Leaf:
    """A column that holds values.

    Attributes:
        paths: its name and those that it is within, outermost first, each with those before it: a, a.b.
        width: bytes of a value; None for texts.
        repeated: whether a row may hold many values.
    """

    paths: tuple[bytes, ...]
    width: int | None
    repeated: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """What the pages of one column in one row group claim.

    Attributes:
        width: bytes of a value; None for texts.
        repeated: whether a row may hold many values.
        values: how many.
        page: bytes of the largest page, unpacked.
        total: bytes of all pages, unpacked.
        word: the most bytes that a text may have which is spelt once and stands in many rows.
    """

    width: int | None
    repeated: bool
    values: int
    page: int
    total: int
    word: int

    def needs(self, rows: int) -> int:
        """Return the most bytes that rows of it take while they are decoded."""
        n = self.values if self.repeated else min(rows, self.values)
        held = n * self.width if self.width is not None else min(self.total, n * self.page) + n * self.word
        return 2 * self.page + _GROWING * held + n * _BESIDE


def needed(claims: Sequence[Sequence[Claim]], group_rows: Sequence[int], rows: int) -> int:
    """Return the most bytes that rows, one after the other, take while they are decoded, wherever they begin.

    Args:
        claims: of each row group, those of its columns.
        group_rows: rows of each row group.
        rows: how many are decoded at once.
    """
    each = [sum(one.needs(rows) for one in columns) for columns in claims]
    most = low = held = between = 0
    for high, need in enumerate(each):  # groups low to high share rows if those between them have fewer
        held += need
        between += group_rows[high - 1] if high - 1 > low else 0
        while low < high and between > rows:
            held -= each[low]
            low += 1
            between -= group_rows[low] if low < high else 0
        most = max(most, held)
    return most


def claimed(stream: BinaryIO, groups: Sequence[int], columns: Collection[str] | None) -> list[list[Claim]] | None:
    """Return what the pages of row groups claim, for each of them by column; None: there are too many to look at.

    Args:
        stream: the file.
        groups: numbers of row groups.
        columns: to decode; None: all.

    Raises:
        Unfollowed: footer or headers are not as Parquet writes them.
    """
    try:
        leaves, places = _followed(_footer(stream))
        wanted = None if columns is None else {one.encode() for one in columns}
        known = wanted is None or wanted <= {path for leaf in leaves for path in leaf.paths}
        found, left = [], _MOST_PAGES
        for group in groups:
            of_group = list[Claim]()
            for leaf, place in zip(leaves, places[group], strict=True):
                if wanted is None or not known or not wanted.isdisjoint(leaf.paths):
                    claim, pages = _claim(stream, leaf, place, left)
                    left -= pages
                    if left <= 0:
                        return None
                    of_group.append(claim)
            found.append(of_group)
    except Unfollowed:
        raise
    except (IndexError, KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"its footer or a page's header cannot be followed ({type(error).__name__})"
        raise Unfollowed(message) from error
    return found


def _footer(stream: BinaryIO) -> bytes:
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, end - 8))
    tail = stream.read(8)
    size = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MARK or size > end - 8:
        message = "it has no footer"
        raise Unfollowed(message)
    stream.seek(end - 8 - size)
    return stream.read(size)


_Place = tuple[int, int, int, int]
"""Of a chunk of a column: values, bytes, where its first page of data begins, and where its dictionary does, or 0."""


@functools.lru_cache(maxsize=2)
def _followed(footer: bytes) -> tuple[tuple[_Leaf, ...], tuple[tuple[_Place, ...], ...]]:
    """Return the columns of a footer, and where the pages of each are in each row group.

    The ranges of a file are read one after the other, and a footer of some thousand chunks takes longer than one of them.
    """
    found = thrift.struct(footer, _FOOTER)[0]
    groups = (
        tuple((meta.get(5), meta.get(7), meta.get(9), meta.get(11, 0)) for meta in (one.get(3, {}) for one in group[1]))
        for group in found[4]
    )
    return tuple(_leaves(found[2])), tuple(groups)


def _leaves(schema: list[Any]) -> Iterator[_Leaf]:
    """Yield the columns that hold values in the order in which row groups have them."""
    open_: list[list[Any]] = [[schema[0].get(5, 0), (), False]]  # children to come, paths, repeated
    for one in schema[1:]:
        while open_ and open_[-1][0] <= 0:
            open_.pop()
        above = open_[-1]
        above[0] -= 1
        name = one[4]
        paths = (*above[1], b"%b.%b" % (above[1][-1], name) if above[1] else name)
        repeated = above[2] or one.get(3) == _REPEATED
        if one.get(5, 0) > 0:
            open_.append([one[5], paths, repeated])
            continue
        kind = one[1]
        width = None if kind == _BYTE_ARRAY else max(0, one[2]) if kind == _FIXED_ARRAY else _WIDTHS[kind]
        yield _Leaf(paths, width, repeated)


def _claim(stream: BinaryIO, leaf: _Leaf, place: _Place, most_pages: int) -> tuple[Claim, int]:
    """Return what the pages of a chunk of a column claim, and how many there are."""
    held, size, at, words = place
    if 0 < words < at:
        at = words
    end, pages = at + size, 0
    values = page = total = word = 0
    while at < end and values < held and pages < most_pages:
        header, length = _header(stream, at)
        unpacked, packed = header[2], header[3]
        counted, encoding = _values(header)
        if min(unpacked, packed, counted) < 0:
            message = f"the page at byte {at} claims less than nothing"
            raise Unfollowed(message)
        pages, values = pages + 1, values + counted
        page, total = max(page, unpacked), total + unpacked
        if encoding not in _ONCE:
            word = max(word, unpacked)
        at += length + packed
    return Claim(leaf.width, leaf.repeated, max(values, 0), page, total, word), pages


def _values(header: Any) -> tuple[int, int]:
    """Return how many values a page holds, and the encoding of the texts in it: `_PLAIN` where it only points at words."""
    for kind, encoding in ((5, 2), (8, 4)):
        if kind in header:
            used = header[kind][encoding]
            return header[kind][1], _PLAIN if used in _INDICES else used
    return 0, _WORDS if 7 in header else _PLAIN


def _header(stream: BinaryIO, at: int) -> tuple[Any, int]:
    for window in _WINDOWS:
        stream.seek(at)
        data = stream.read(window)
        try:
            return thrift.struct(data, _PAGE)
        except IndexError:
            if len(data) < window:
                break
    message = f"the page at byte {at} has no header"
    raise Unfollowed(message)
