r"""CSV, gzip and zstd included. A row's place is the byte offset of its line in the decompressed text.

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
from beam_ml.errors import InvalidValue, MissingColumn, UnreadableInput
from beam_ml.formats import arrow_types, files, lines
from beam_ml.formats.block import Block
from beam_ml.formats.csv.options import DEFAULT, Options
from beam_ml.formats.csv.types import Ladder, Types, blamed, ladders, spelled
from beam_ml.formats.files import FileRange

__all__ = ["DEFAULT", "Options", "decode", "encode", "ranges", "read", "write"]

_HEAD_BYTES = 1 << 20
_DETAIL_CHARS = 200
_MALFORMED = "malformed line"
_UNPARSEABLE = "unparseable value"


@dataclasses.dataclass(frozen=True, slots=True)
class _Layout:
    """The layout that parsing needs: all columns, the wanted ones, and the types of these."""

    names: list[str]
    wanted: list[str]
    delimiter: str
    types: dict[str, Ladder]

    @property
    def strict(self) -> Types:
        """The strictest types."""
        return {name: self.types[name].steps[0] if name in self.types else pa.null() for name in self.wanted}


def _words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _header(where: str, line: bytes, options: Options) -> tuple[list[str], int]:
    """Return the column names and the bytes that their line takes."""
    if options.column_names is not None:
        return list(options.column_names), 0
    text = line.removeprefix(b"\xef\xbb\xbf").strip(b"\r\n") + b"\n"
    try:
        parse = pa.csv.ParseOptions(delimiter=options.delimiter, newlines_in_values=True)
        names = pa.csv.read_csv(pa.BufferReader(text), parse_options=parse).column_names
    except (pa.ArrowException, ValueError):
        names = []
    if not names or len(set(names)) != len(names):
        message = f"{where} must start with a line that names each column once; got {line[:80]!r}."
        raise UnreadableInput(message)
    return names, len(line)


def ranges(file: FileId, target_bytes: int, options: Options = DEFAULT) -> list[FileRange]:
    """Cut a file into ranges of about `target_bytes`, each starting at a line that is not inside a quoted field.

    A file larger than twice that is scanned for quotes; a compressed one is one range, decompressed to learn its size.

    Raises:
        UnreadableInput: an empty file, no line of column names, or a damaged compressed file.
        InputChanged: the file is not what was listed.
    """
    files.check(file)
    _, first = _header(file.path, lines.header_line(file.path, options.delimiter), options)
    if lines.compression_of(file.path):
        edges = [first, lines.text_size(file.path)]
    else:
        edges = lines.cut_points(file.path, first, file.size, target_bytes, options.delimiter)
    files.check(file)
    return [FileRange(file.path, file.size, file.mtime_ns, "csv", a, b) for a, b in itertools.pairwise(edges) if a < b]


def _layout(where: str, names: list[str], head: bytes, columns: Sequence[str] | None, options: Options) -> _Layout:
    """Settle the types of the wanted columns, by `options` or by the beginning of the rows."""
    wanted = names if columns is None else list(columns)
    for name in [*wanted, *options.types]:
        if name not in names:
            message = f"{where} must have a column {name!r}; got {names}."
            raise MissingColumn(message)
    texts = dict.fromkeys(options.labels, "string")
    given = {name: arrow_types.named(kind) for name, kind in (texts | {**options.types}).items() if name in wanted}
    bare = _Layout(names, wanted, options.delimiter, {name: Ladder((kind,)) for name, kind in given.items()})
    if len(given) == len(wanted):
        return bare
    sound = _sound(head, options.delimiter)
    try:
        found = _parse(sound, bare, wanted, given)[0].schema if sound else pa.schema([(n, pa.null()) for n in wanted])
    except pa.ArrowException as error:
        message = f"{where} cannot be read as CSV: {_words(error)}."
        raise UnreadableInput(message) from error
    return dataclasses.replace(bare, types=ladders(found, given, options.categories))


def _sound(head: bytes, delimiter: str) -> bytes:
    """Return the lines that are text and whose quotes are closed: by others no type is inferred."""
    found = lines.records(head, delimiter)
    if found.start.size and not found.spoilt.any() and lines.is_text(head):
        return head
    parts = (head[a:b] for a, b, spoilt in zip(found.start, found.stop, found.spoilt, strict=True) if not spoilt)
    return b"".join(part for part in parts if lines.is_text(part))


def _parse(data: Any, layout: _Layout, columns: list[str], types: Types) -> tuple[pa.Table, list[int]]:
    """Parse lines; return some columns, and the numbers (from 0) of lines with too few or too many fields.

    Raises:
        ArrowInvalid: a value does not fit; or a line of too few or too many fields, where the text is not UTF-8.
    """
    bad: list[int] = []

    def skip(row: Any) -> str:
        bad.append(row.number - 1)
        return "skip"

    # pyarrow decodes a bad line before it hands it over: where that fails, it prints a traceback and gives up the text.
    handler = skip if lines.is_text(data) else None
    parse = pa.csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True, invalid_row_handler=handler)
    rows = pa.csv.read_csv(
        pa.BufferReader(data),
        read_options=pa.csv.ReadOptions(column_names=layout.names, use_threads=False, block_size=len(data) + 1),
        parse_options=parse,
        convert_options=pa.csv.ConvertOptions(include_columns=columns, column_types=types),
    )
    return rows, bad


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """Some lines, parsed: the good rows, their line numbers, and refused lines with reason and words."""

    rows: pa.Table
    lines: np.ndarray
    refused: list[tuple[int, str, str]]


def _whole(data: Any, n: int, first: int, layout: _Layout, types: Types) -> _Part | None:
    """Parse n lines at once; None where the parser sees other rows than the lines."""
    rows, bad = _parse(data, layout, list(types), types)
    if rows.num_rows + len(bad) != n:
        return None
    numbers = np.delete(np.arange(n), bad) + first
    return _Part(rows, numbers, [(first + i, _MALFORMED, "wrong number of fields") for i in bad])


def _piecewise(data: Any, start: np.ndarray, stop: np.ndarray, first: int, layout: _Layout, types: Types) -> _Part:
    """Parse lines, halving where that fails, down to the single lines that are to be refused."""
    n = start.size
    reason, words = _MALFORMED, "more than one row"
    try:
        part = _whole(data[int(start[0]) : int(stop[-1])], n, first, layout, types)
        if part is not None:
            return part
    except pa.ArrowInvalid as error:
        words = _words(error)
        reason = _MALFORMED if words.startswith("CSV parse error") else _UNPARSEABLE
    if n == 1:
        return _Part(pa.schema(types).empty_table(), np.empty(0, dtype=np.int64), [(first, reason, words)])
    half = n // 2
    a = _piecewise(data, start[:half], stop[:half], first, layout, types)
    b = _piecewise(data, start[half:], stop[half:], first + half, layout, types)
    return _Part(pa.concat_tables([a.rows, b.rows]), np.concatenate([a.lines, b.lines]), a.refused + b.refused)


def _part(data: Any, start: np.ndarray, stop: np.ndarray, layout: _Layout) -> _Part:
    """Parse lines with the strictest types that each column's values fit; lines that fit none are refused one by one."""
    types, text = layout.strict, data[int(start[0]) : int(stop[-1])]
    hopeless: set[str] = set()
    part = None
    while len(hopeless) < len(types):
        try:
            part = _whole(text, start.size, 0, layout, {name: types[name] for name in types if name not in hopeless})
            break
        except pa.ArrowInvalid as error:
            name = blamed(error, layout.names)
            if name is None:
                break
            steps = layout.types[name].steps if name in layout.types else (types[name],)
            later = steps[steps.index(types[name]) + 1 :]
            if later:
                types[name] = later[0]
            else:
                hopeless.add(name)  # other columns are looked at without it
    if part is None or hopeless:
        part = _piecewise(data, start, stop, 0, layout, types)
    return dataclasses.replace(part, rows=spelled(part.rows, layout.types))


def _sound_part(data: Any, start: np.ndarray, stop: np.ndarray, spoilt: np.ndarray, layout: _Layout) -> _Part:
    """Parse all lines but damaged ones, which are refused unseen: the parser would take later lines for theirs."""
    if spoilt.any():
        refused = [(int(i), _MALFORMED, "an unclosed quote") for i in np.flatnonzero(spoilt)]
        return _without(data, start, stop, refused, layout)
    if not lines.is_text(data[int(start[0]) : int(stop[-1])]):
        bad = _malformed(data[int(start[0]) : int(stop[-1])], start.size, layout)
        if bad:
            return _without(data, start, stop, [(i, _MALFORMED, "wrong number of fields") for i in bad], layout)
    return _part(data, start, stop, layout)


def _without(
    data: Any, start: np.ndarray, stop: np.ndarray, refused: list[tuple[int, str, str]], layout: _Layout
) -> _Part:
    """Parse all lines but those refused already."""
    sound = np.setdiff1d(np.arange(start.size), [i for i, _, _ in refused])
    if sound.size == 0:
        return dataclasses.replace(_nothing(layout), refused=refused)
    text = b"".join(data[int(a) : int(b)] for a, b in zip(start[sound], stop[sound], strict=True))
    ends = np.cumsum((stop - start)[sound])
    part = _sound_part(memoryview(text), np.concatenate([[0], ends[:-1]]), ends, np.zeros(sound.size, bool), layout)
    more = [(int(sound[i]), reason, words) for i, reason, words in part.refused]
    return _Part(part.rows, sound[part.lines], sorted(refused + more))


def _malformed(data: Any, n: int, layout: _Layout) -> list[int]:
    """Return the lines with too few or too many fields of a text that is not UTF-8, which pyarrow cannot show."""
    shown = np.frombuffer(data, np.uint8).copy()
    shown[shown > 127] = ord("?")
    first = layout.names[0]
    try:
        rows, bad = _parse(shown.tobytes(), layout, [first], {first: pa.string()})
    except pa.ArrowInvalid:
        return []
    return bad if rows.num_rows + len(bad) == n else []


def _nothing(layout: _Layout) -> _Part:
    """Return no rows of the strictest types."""
    return _Part(pa.schema(layout.strict).empty_table(), np.empty(0, dtype=np.int64), [])


def _rejects(part: _Part, data: Any, start: np.ndarray, stop: np.ndarray, offset: int) -> tuple[Reject, ...]:
    found = []
    for reason in sorted({reason for _, reason, _ in part.refused}):
        refused = [(i, words) for i, why, words in part.refused if why == reason]
        i = np.array([line for line, _ in refused], dtype=np.int64)
        texts = (bytes(data[int(start[j]) : int(stop[j])][:_DETAIL_CHARS]).decode(errors="replace").strip() for j in i)
        detail = tuple(f"{words}: {text!r}" for (_, words), text in zip(refused, texts, strict=True))
        found.append(Reject(reason, start[i] + offset, stop[i] + offset, detail))
    return tuple(found)


def _batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _blocks(
    pieces: Iterable[tuple[int, bytes]], begin: int, stop: int, layout: _Layout, max_rows: int, origin: Origin | None
) -> Iterator[Block]:
    """Decode pieces of whole lines, given with their offsets; the blocks tile [begin, stop)."""
    for offset, piece in pieces:
        data = memoryview(piece)
        found = lines.records(piece, layout.delimiter)
        for i in range(0, found.start.size, max_rows):
            group = slice(i, i + max_rows)
            low, high = found.start[group].copy(), found.stop[group]
            part = _sound_part(data, low, high, found.spoilt[group], layout)
            low[0] = begin - offset  # empty lines at the end of the piece before
            rejected = _rejects(part, data, np.maximum(low, 0), high, offset)
            end = offset + int(high[-1])
            yield Block(
                _batch(part.rows), origin, low[part.lines] + offset, high[part.lines] + offset, begin, end, rejected
            )
            begin = end
    if begin < stop:
        none = _nothing(layout)
        yield Block(_batch(none.rows), origin, none.lines, none.lines, begin, stop)


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
    names, first = _header(path, lines.header_line(path, options.delimiter), options)
    head = (
        next(lines.pieces(path, first, None, options.delimiter, _HEAD_BYTES), (first, b""))[1]
        if piece.start < piece.stop
        else b""
    )
    layout = _layout(path, names, head, columns, options)
    pieces = lines.pieces(path, piece.start, piece.stop, options.delimiter)
    yield from _blocks(pieces, piece.start, piece.stop, layout, max_rows, Origin(source, path))
    files.check(piece)


def _write(target: Any, batches: Iterable[pa.RecordBatch], options: Options) -> None:
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        message = "CSV needs at least one batch (of no rows, if need be) for the columns' names."
        raise InvalidValue(message)
    form = pa.csv.WriteOptions(include_header=options.column_names is None, delimiter=options.delimiter)
    with pa.csv.CSVWriter(target, first.schema, write_options=form) as writer:
        writer.write_batch(first)
        for batch in iterator:
            writer.write_batch(batch)


def write(path: str, batches: Iterable[pa.RecordBatch], options: Options = DEFAULT) -> None:
    """Write batches of one schema as one file, whole or not at all; compressed as its name ends (``.gz``, ``.zst``)."""
    with (
        files.replacing(path) as unfinished,
        pa.output_stream(unfinished, compression=lines.compression_of(path)) as out,
    ):
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
    names, first = _header(where, lines.first_record(data, options.delimiter), options)
    rows = data[first:]
    layout = _layout(where, names, rows, columns, options)
    blocks = list(_blocks([(first, rows)], first, len(data), layout, max(1, len(data)), None))
    if blocks:
        return blocks[0]
    none = _nothing(layout)
    return Block(_batch(none.rows), None, none.lines, none.lines, first, first)
