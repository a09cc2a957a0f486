"""A round's pieces shared out among the cores of one machine: by the plan alone, so that every attempt shares them alike."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from beam_ml import formats
from beam_ml.beam.transforms.read import options_of
from beam_ml.core.cursors import FileId
from beam_ml.core.spec import Settings
from beam_ml.formats.files import FileRange
from beam_ml.formats.table import Roles

__all__ = ["BYTES_PER_ROW", "dealt", "even", "finer", "joined", "rows_in"]

BYTES_PER_ROW = 64
"""Guess that turns rows into bytes where a format's places are bytes: it only sizes rounds and their parts."""

_PIECES = 4
"""Pieces for each part: so many that parts come out about equal, and few enough that opening a file costs little."""

T = TypeVar("T")


def rows_in(piece: FileRange) -> int:
    """Return about how many rows a range holds.

    >>> rows_in(FileRange("a.csv", 640, 0, "csv", 0, 640)), rows_in(FileRange("a.parquet", 640, 0, "parquet", 5, 12))
    (10, 7)
    """
    return (piece.stop - piece.start) // BYTES_PER_ROW if piece.n_rows is None else piece.n_rows


def even(pieces: Sequence[T], number: int, size: Callable[[T], int]) -> list[tuple[T, ...]]:
    """Return neighbouring pieces in at most `number` groups of about one size; none is empty.

    >>> even([3, 1, 1, 1, 6], 2, lambda one: one)
    [(3, 1, 1, 1), (6,)]
    """
    total, before, groups = max(1, sum(map(size, pieces))), 0, list[list[T]]([] for _ in range(number))
    for piece in pieces:
        middle = 2 * before + size(piece)
        groups[min(number - 1, middle * number // (2 * total))].append(piece)
        before += size(piece)
    return [tuple(group) for group in groups if group]


def dealt(pieces: Sequence[T], number: int, size: Callable[[T], int]) -> list[tuple[T, ...]]:
    """Return pieces dealt out in their order, each to the group of least size so far: all groups get on side by side.

    >>> dealt([3, 1, 1, 1, 6], 2, lambda one: one)
    [(3, 6), (1, 1, 1)]
    """
    sizes, groups = [0] * number, list[list[T]]([] for _ in range(number))
    for piece in pieces:
        least = sizes.index(min(sizes))
        groups[least].append(piece)
        sizes[least] += size(piece)
    return [tuple(group) for group in groups if group]


def joined(pieces: Iterable[FileRange]) -> tuple[FileRange, ...]:
    """Return ranges with those that follow one another in a file made one, which opens it and decodes a row group once."""
    found: list[FileRange] = []
    for one in pieces:
        if found and found[-1].file == one.file and found[-1].stop == one.start:
            found[-1] = dataclasses.replace(found[-1], stop=one.stop)
        else:
            found.append(one)
    return tuple(found)


def finer(ranges: Sequence[FileRange], number: int, options: Settings | None, roles: Roles) -> list[FileRange]:
    """Return ranges of which none holds much more than its share where a file can be cut there.

    Args:
        ranges: of a round, in order.
        number: of parts that they are to be shared out to.
        options: of their format; None: its defaults.
        roles: of columns, for formats of text.

    Raises:
        UnreadableInput, InputChanged: a file to be cut cannot be read, or is not what was listed.
    """
    share = max(1, sum(map(rows_in, ranges)) // (_PIECES * number))
    share = 1 << (share.bit_length() - 1)  # few sizes: where a file may be cut is looked up again for each
    text = None if options is None else options.to_json()
    found: list[FileRange] = []
    for one in ranges:
        if rows_in(one) <= 2 * share or formats.of_files(one.format).folders:
            found.append(one)
        else:
            found += [
                dataclasses.replace(piece, start=max(piece.start, one.start), stop=min(piece.stop, one.stop))
                for piece in _cut(one.file, one.format, share, text, roles)
                if piece.start < one.stop and piece.stop > one.start
            ]
    return found


@functools.lru_cache(maxsize=256)
def _cut(file: FileId, format: str, rows: int, options: str | None, roles: Roles) -> Sequence[FileRange]:
    target = rows if formats.of_files(format).counts == "rows" else rows * BYTES_PER_ROW
    return tuple(formats.ranges(file, target, format, options_of(format, options, roles)))
