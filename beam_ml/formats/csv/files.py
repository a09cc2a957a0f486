r"""CSV, gzip and zstd included. A row's place is the byte offset of its line in the decompressed text.

Offsets need no count from the beginning and do not depend on how a file is split; a row's place ends where the next
row's begins, so the rows of a range tile it. Lines end with ``\n`` or ``\r\n``; a quoted field may hold line ends.
"""

import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
from pydantic import Field, field_validator

from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileId
from beam_ml.core.rejects import Reject
from beam_ml.core.spec import Settings
from beam_ml.errors import InvalidValue, MissingColumn, UnreadableInput
from beam_ml.formats import arrow_types, files, lines
from beam_ml.formats.block import Block
from beam_ml.formats.files import FileRange

__all__ = ["DEFAULT", "Options", "decode", "encode", "ranges", "read", "write"]

_HEAD_BYTES = 1 << 20
_DETAIL_CHARS = 200
_MALFORMED = "malformed line"
_UNPARSEABLE = "unparseable value"

Types = dict[str, pa.DataType]


class Options(Settings):
    """How the text is parsed.

    Types of columns not named in `types` are inferred from the first MiB of the file, so that every range of it finds
    the same; where a later value does not fit, whole numbers and empty columns become float64, and dates timestamps.
    """

    called: ClassVar[str] = "csv.Options"

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    column_names: Annotated[tuple[str, ...] | None, Field(description="None: the first line holds them")] = None
    types: Annotated[Mapping[str, str], Field(description="column → Arrow type, such as 'timestamp[us]'")] = {}

    @field_validator("types")
    @classmethod
    def _known(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name in value.values():
            arrow_types.named(name)
        return value


DEFAULT = Options()


@dataclasses.dataclass(frozen=True, slots=True)
class _Layout:
    """The layout that parsing needs: all columns, the wanted ones, and their types, strictest first."""

    names: list[str]
    wanted: list[str]
    delimiter: str
    levels: list[Types]


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


def _inferred(kind: pa.DataType) -> pa.DataType:
    return pa.timestamp("ns", tz=kind.tz) if pa.types.is_timestamp(kind) else kind


def _relaxed(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_integer(kind) or pa.types.is_null(kind) or pa.types.is_boolean(kind):
        return pa.float64()
    return pa.timestamp("ns") if pa.types.is_date(kind) else kind


def _layout(where: str, names: list[str], head: bytes, columns: Sequence[str] | None, options: Options) -> _Layout:
    """Settle the types of the wanted columns, by `options` or by the beginning of the rows."""
    wanted = names if columns is None else list(columns)
    for name in [*wanted, *options.types]:
        if name not in names:
            message = f"{where} must have a column {name!r}; got {names}."
            raise MissingColumn(message)
    given = {name: arrow_types.named(kind) for name, kind in options.types.items() if name in wanted}
    bare = _Layout(names, wanted, options.delimiter, [given])
    if len(given) == len(wanted):
        return bare
    if not lines.records(head, options.delimiter).start.size:
        nothing = {name: given.get(name, pa.null()) for name in wanted}
        return dataclasses.replace(bare, levels=[nothing])
    try:
        found = _parse(head, bare, {})[0].schema
    except pa.ArrowException as error:
        message = f"{where} cannot be read as CSV: {_words(error)}."
        raise UnreadableInput(message) from error
    strict = {field.name: _inferred(field.type) for field in found} | given
    relaxed = {name: given.get(name, _relaxed(kind)) for name, kind in strict.items()}
    texts = {field.name: pa.string() for field in found if pa.types.is_null(field.type)}
    return dataclasses.replace(bare, levels=[strict, relaxed, relaxed | texts | given])


def _parse(data: Any, layout: _Layout, types: Types) -> tuple[pa.Table, list[int]]:
    """Parse lines; return the wanted columns, and the numbers (from 0) of lines with too few or too many fields."""
    bad: list[int] = []

    def skip(row: Any) -> str:
        bad.append(row.number - 1)
        return "skip"

    parse = pa.csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True, invalid_row_handler=skip)
    rows = pa.csv.read_csv(
        pa.BufferReader(data),
        read_options=pa.csv.ReadOptions(column_names=layout.names, use_threads=False, block_size=len(data) + 1),
        parse_options=parse,
        convert_options=pa.csv.ConvertOptions(include_columns=layout.wanted, column_types=types),
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
    rows, bad = _parse(data, layout, types)
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
        reason, words = _UNPARSEABLE, _words(error)
    if n == 1:
        schema = pa.schema([(name, types.get(name, pa.null())) for name in layout.wanted])
        return _Part(schema.empty_table(), np.empty(0, dtype=np.int64), [(first, reason, words)])
    half = n // 2
    a = _piecewise(data, start[:half], stop[:half], first, layout, types)
    b = _piecewise(data, start[half:], stop[half:], first + half, layout, types)
    return _Part(pa.concat_tables([a.rows, b.rows]), np.concatenate([a.lines, b.lines]), a.refused + b.refused)


def _part(data: Any, start: np.ndarray, stop: np.ndarray, layout: _Layout) -> _Part:
    """Parse lines with the strictest types that all their values fit; lines that fit none are refused one by one."""
    for types in layout.levels:
        try:
            part = _whole(data[int(start[0]) : int(stop[-1])], start.size, 0, layout, types)
        except pa.ArrowInvalid:
            continue
        if part is not None:
            return part
        break
    return _piecewise(data, start, stop, 0, layout, layout.levels[min(1, len(layout.levels) - 1)])


def _sound_part(data: Any, start: np.ndarray, stop: np.ndarray, spoilt: np.ndarray, layout: _Layout) -> _Part:
    """Parse all lines but damaged ones, which are refused unseen: the parser would take later lines for theirs."""
    if not spoilt.any():
        return _part(data, start, stop, layout)
    refused = [(int(i), _MALFORMED, "an unclosed quote") for i in np.flatnonzero(spoilt)]
    sound = np.flatnonzero(~spoilt)
    if sound.size == 0:
        return dataclasses.replace(_nothing(layout), refused=refused)
    text = b"".join(data[int(a) : int(b)] for a, b in zip(start[sound], stop[sound], strict=True))
    ends = np.cumsum((stop - start)[sound])
    part = _part(memoryview(text), np.concatenate([[0], ends[:-1]]), ends, layout)
    more = [(int(sound[i]), reason, words) for i, reason, words in part.refused]
    return _Part(part.rows, sound[part.lines], sorted(refused + more))


def _nothing(layout: _Layout) -> _Part:
    """Return no rows of the strictest types."""
    schema = pa.schema([(name, layout.levels[0].get(name, pa.null())) for name in layout.wanted])
    return _Part(schema.empty_table(), np.empty(0, dtype=np.int64), [])


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
