"""bytes ↔ `pyarrow.RecordBatch`: one package per format, the same verbs in each: ``ranges read write encode decode``."""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from beam_ml.core.cursors import FileId
from beam_ml.core.rejects import Reject
from beam_ml.core.spec import Settings
from beam_ml.formats.block import Block
from beam_ml.formats.files import FileRange, check, format_of, list_files, stat
from beam_ml.formats.table import FORMATS, TABLE, Format, of_files

__all__ = [
    "FORMATS",
    "TABLE",
    "Block",
    "FileRange",
    "Format",
    "Reject",
    "check",
    "format_of",
    "list_files",
    "of_files",
    "ranges",
    "read",
    "stat",
    "write",
]


def _with(options: Settings | None) -> dict[str, Settings]:
    return {} if options is None else {"options": options}


def ranges(file: FileId, target: int, format: str | None = None, options: Settings | None = None) -> list[FileRange]:
    """Cut a file into ranges that can be read in parallel and tile its rows.

    Args:
        file: as returned by `list_files` or `stat`.
        target: about how large a range may be: rows or bytes, whatever the format counts (`Format.counts`).
        format: a key of FORMATS, or 'module:attribute'; None: by the file's name.
        options: the format's own (`csv.Options`).

    Raises:
        UnreadableInput, InputChanged: see the format.
    """
    found: list[FileRange] = of_files(format or format_of(file.path)).module.ranges(file, target, **_with(options))
    return found


def read(
    piece: FileRange,
    columns: Sequence[str] | None = None,
    max_rows: int = 65_536,
    source: str = "",
    options: Settings | None = None,
) -> Iterator[Block]:
    """Read a range in blocks of at most `max_rows` rows.

    Args:
        piece: as returned by `ranges`.
        columns: the columns to decode; None: all.
        max_rows: of one block.
        source: names the source in each block's origin; the file's path is the partition.
        options: the format's own.

    Raises:
        UnreadableInput, InputChanged, MissingColumn: see the format.
    """
    blocks: Iterator[Block] = of_files(piece.format).module.read(piece, columns, max_rows, source, **_with(options))
    return blocks


def write(
    path: str, batches: Iterable[pa.RecordBatch], format: str | None = None, options: Settings | None = None
) -> None:
    """Write batches of one schema as one file, whole or not at all."""
    of_files(format or format_of(path)).module.write(path, batches, **_with(options))
