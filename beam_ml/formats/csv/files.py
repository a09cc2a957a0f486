r"""CSV, gzip, zstd and bzip2 included. A row's place is the byte offset of its line in the decompressed text.

Offsets need no count from the beginning and do not depend on how a file is split; a row's place ends where the next
row's begins, so the rows of a range tile it. Lines end with ``\n`` or ``\r\n``; a quoted field may hold line ends.
"""

import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileId
from beam_ml.core.rejects import Reject
from beam_ml.errors import InvalidValue
from beam_ml.formats import files, lines
from beam_ml.formats.block import Block
from beam_ml.formats.csv import by_position
from beam_ml.formats.csv.layout import Layout, header, settled
from beam_ml.formats.csv.options import DEFAULT, Options
from beam_ml.formats.csv.parsing import Part, nothing, sound_part
from beam_ml.formats.far_times import check_times
from beam_ml.formats.files import FileRange

__all__ = ["DEFAULT", "Options", "decode", "encode", "ends", "ranges", "read", "write"]

_HEAD_BYTES = 1 << 20
_DETAIL_CHARS = 200
_HEADER = ", perhaps a header"


def ranges(file: FileId, target_bytes: int, options: Options = DEFAULT) -> list[FileRange]:
    """Cut a file into ranges of about `target_bytes`, each starting at a line that is not inside a quoted field.

    A file larger than twice that is scanned for quotes; a compressed one is one range, decompressed to learn its size.

    Raises:
        UnreadableInput: an empty file, no line of column names, or a damaged compressed file.
        InputChanged: the file is not what was listed.
    """
    files.check(file)
    _, first = header(file.path, lines.header_line(file.path, options.delimiter), options)
    if lines.compression_of(file.path):
        edges = [first, lines.text_size(file.path)]
    else:
        edges = lines.cut_points(file.path, first, file.size, target_bytes, options.delimiter)
    files.check(file)
    return [FileRange(file.path, file.size, file.mtime_ns, "csv", a, b) for a, b in itertools.pairwise(edges) if a < b]


def ends(chunks: Iterable[bytes], offset: int, where: str, options: Options = DEFAULT) -> Iterator[int]:
    """Yield, as the pieces of a stream come, the places up to which it is whole lines, their quotes closed.

    Args:
        chunks: the stream's bytes from a place where a line begins.
        offset: of that place.
        where: the stream, for messages.
        options: the format's own.
    """
    for at, text in lines.whole_records(chunks, offset, None, options.delimiter):
        yield at + len(text)


def _rejects(part: Part, data: Any, start: np.ndarray, stop: np.ndarray, offset: int) -> tuple[Reject, ...]:
    found = []
    for reason in sorted({reason for _, reason, _ in part.refused}):
        refused = [(i, words) for i, why, words in part.refused if why == reason]
        i = np.array([line for line, _ in refused], dtype=np.int64)
        texts = (bytes(data[int(start[j]) : int(stop[j])][:_DETAIL_CHARS]).decode(errors="replace").strip() for j in i)
        detail = tuple(f"{words}: {text!r}" for (_, words), text in zip(refused, texts, strict=True))
        found.append(Reject(reason, start[i] + offset, stop[i] + offset, detail))
    return tuple(found)


def _batch(table: pa.Table, layout: Layout) -> pa.RecordBatch:
    if layout.columns is not None:
        return by_position.packed(table, layout.columns)
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _blocks(
    pieces: Iterable[tuple[int, bytes]], begin: int, stop: int, layout: Layout, max_rows: int, origin: Origin | None
) -> Iterator[Block]:
    """Decode pieces of whole lines, given with their offsets; the blocks tile [begin, stop)."""
    for offset, piece in pieces:
        data = memoryview(piece)
        found = lines.records(piece, layout.delimiter)
        for i in range(0, found.start.size, max_rows):
            group = slice(i, i + max_rows)
            low, high = found.start[group].copy(), found.stop[group]
            part = sound_part(data, low, high, found.spoilt[group], layout)
            low[0] = begin - offset  # empty lines at the end of the piece before
            if begin == layout.first:
                refused = [(line, why if line else why + _HEADER, words) for line, why, words in part.refused]
                part = dataclasses.replace(part, refused=refused)
            rejected = _rejects(part, data, np.maximum(low, 0), high, offset)
            end = offset + int(high[-1])
            yield Block(
                _batch(part.rows, layout),
                origin,
                low[part.lines] + offset,
                high[part.lines] + offset,
                begin,
                end,
                rejected,
            )
            begin = end
    if begin < stop:
        none = nothing(layout)
        yield Block(_batch(none.rows, layout), origin, none.lines, none.lines, begin, stop)


def read(
    piece: FileRange,
    columns: Sequence[str] | None = None,
    max_rows: int = 65_536,
    source: str = "",
    options: Options = DEFAULT,
) -> Iterator[Block]:
    """Read a range in blocks of at most `max_rows` rows; only the named columns are converted.

    Lines with another number of fields than there are columns, or with a value that is not of its column's type, are in
    `Block.rejected`.

    Raises:
        InputChanged: the file is not what the plan saw, before or after reading.
        UnreadableInput: no line of column names, or a damaged compressed file.
        MissingColumn: a column is not there.
    """
    files.check(piece)
    path = piece.path
    names, first = header(path, lines.header_line(path, options.delimiter), options)
    head = (
        next(lines.pieces(path, first, None, options.delimiter, _HEAD_BYTES), (first, b""))[1]
        if piece.start < piece.stop
        else b""
    )
    layout = settled(path, names, head, columns, options)
    if options.by_position:
        layout = dataclasses.replace(layout, first=first)
    pieces = lines.pieces(path, piece.start, piece.stop, options.delimiter)
    yield from _blocks(pieces, piece.start, piece.stop, layout, max_rows, Origin(source, path))
    files.check(piece)


def _write(target: Any, batches: Iterable[pa.RecordBatch], options: Options) -> None:
    told = map(check_times, batches)
    iterator = (by_position.spread(one, options) for one in told) if options.by_position else told
    first = next(iterator, None)
    if first is None:
        message = "CSV needs at least one batch (of no rows, if need be) for the columns' names."
        raise InvalidValue(message)
    named = options.header and options.column_names is None
    form = pa.csv.WriteOptions(include_header=named, delimiter=options.delimiter)
    with pa.csv.CSVWriter(target, first.schema, write_options=form) as writer:
        writer.write_batch(first)
        for batch in iterator:
            writer.write_batch(batch)


def write(path: str, batches: Iterable[pa.RecordBatch], options: Options = DEFAULT) -> None:
    """Write batches of one schema as one file, whole or not at all; compressed as its name ends."""
    with files.writing(path) as out:
        _write(out, batches, options)


def encode(batch: pa.RecordBatch, options: Options = DEFAULT) -> bytes:
    """Return the text of a file that holds one batch.

    >>> decode(encode(pa.record_batch({"x": [1, 2]}))).batch.to_pydict()
    {'x': [1, 2]}
    """
    buffer = io.BytesIO()
    _write(buffer, [batch], options)
    return buffer.getvalue()


def decode(data: bytes, columns: Sequence[str] | None = None, options: Options = DEFAULT) -> Block:
    """Return the rows of uncompressed text held in memory; places are byte offsets in it.

    Raises:
        UnreadableInput: no line of column names.
        MissingColumn: a column is not there.
    """
    where = f"<{len(data)} bytes>"
    names, first = header(where, lines.first_record(data, options.delimiter), options)
    rows = data[first:]
    head = rows
    if len(rows) > _HEAD_BYTES:
        beginning = lines.whole_records([rows[:_HEAD_BYTES], rows[_HEAD_BYTES:]], first, None, options.delimiter)
        head = next(beginning)[1]
    layout = settled(where, names, head, columns, options)
    blocks = list(_blocks([(first, rows)], first, len(data), layout, max(1, len(data)), None))
    if blocks:
        return blocks[0]
    none = nothing(layout)
    return Block(_batch(none.rows, layout), None, none.lines, none.lines, first, first)
