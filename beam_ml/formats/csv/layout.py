"""The layout of CSV text: its columns, those that are wanted, and their types; and the parser that follows it."""

import dataclasses
import functools
import logging
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv

from beam_ml.errors import MissingColumn, UnreadableInput
from beam_ml.formats import arrow_types, lines
from beam_ml.formats.csv import by_position
from beam_ml.formats.csv.options import Options
from beam_ml.formats.csv.types import Ladder, Types, ladders

__all__ = ["Layout", "header", "parsed", "settled", "words_of"]

_log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
"""What is parsed at a time stays in the processor's cache: twice as fast as all at once."""
_LONG = re.compile("straddling")
"""What the parser says of a record that is longer than a block."""
_MARK = b"\xef\xbb\xbf"
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """The layout that parsing needs: all fields of a line, the wanted ones, and the types of these.

    Where fields have no names, `columns` are what the wanted ones become, and `first` is where a header would be.
    """

    names: list[str]
    wanted: list[str]
    delimiter: str
    types: dict[str, Ladder]
    columns: list[str] | None = None
    first: int = -1

    @property
    def strict(self) -> Types:
        """The strictest types."""
        return {name: self.types[name].steps[0] if name in self.types else pa.null() for name in self.wanted}

    def later(self, name: str, kind: pa.DataType) -> tuple[pa.DataType, ...]:
        """Return the types that a column may have when its values do not fit one."""
        steps = self.types[name].steps if name in self.types else (kind,)
        return steps[steps.index(kind) + 1 :]


def words_of(error: Exception) -> str:
    """Return the parser's words as one sentence without its stop."""
    return " ".join(str(error).split()).rstrip(".")


def header(where: str, line: bytes, options: Options) -> tuple[list[str], int]:
    """Return the column names and the bytes before the first row: of their line, or of a byte order mark."""
    mark = len(_MARK) if line.startswith(_MARK) else 0
    if options.by_position:
        return list(options.record_columns), mark
    if options.column_names is not None:
        return list(options.column_names), mark
    text = line[mark:].strip(b"\r\n") + b"\n"
    try:
        parse = pa.csv.ParseOptions(delimiter=options.delimiter, newlines_in_values=True)
        if options.by_number:
            numbered = pa.csv.ReadOptions(autogenerate_column_names=True)
            first = pa.csv.read_csv(pa.BufferReader(text), read_options=numbered, parse_options=parse)
            return [str(i) for i in range(first.num_columns)], mark
        names = pa.csv.read_csv(pa.BufferReader(text), parse_options=parse).column_names
    except (pa.ArrowException, ValueError):
        names = []
    if not names or len(set(names)) != len(names):
        message = f"{where} must start with a line that names each column once; got {line[:80]!r}."
        raise UnreadableInput(message)
    if all(map(_NUMBER.fullmatch, names)) and names != [str(i) for i in range(len(names))]:
        _say_that_names_are_numbers(where, ", ".join(names)[:80])
    return names, len(line)


@functools.lru_cache(maxsize=1024)
def _say_that_names_are_numbers(where: str, names: str) -> None:
    """Warn, once per file, of what looks like a row; 0, 1, 2 … are the names of a frame without any."""
    _log.warning(
        "%s begins with a line of numbers, which is taken for the names of its columns: %s. Where it is a row, "
        "options.header = false reads it as one.",
        where,
        names,
    )


def settled(where: str, names: list[str], head: bytes, columns: Sequence[str] | None, options: Options) -> Layout:
    """Settle the types of the wanted columns, by `options` or by the beginning of the rows."""
    wanted = names if columns is None else list(columns)
    for name in [*wanted, *options.types]:
        if name not in names:
            message = f"{where} must have a column {name!r}; got {names}."
            raise MissingColumn(message)
    texts = dict.fromkeys(options.labels, "string")
    if options.by_position:
        columns = list(dict.fromkeys(wanted)) or names
        asked = by_position.fields(options, columns)
        kinds = dict.fromkeys(asked, "float64") | texts | {**options.types}
        types = {name: Ladder((arrow_types.named(kinds[name]),)) for name in asked}
        return Layout(by_position.fields(options, names), asked, options.delimiter, types, columns)
    given = {name: arrow_types.named(kind) for name, kind in (texts | {**options.types}).items() if name in wanted}
    bare = Layout(names, wanted, options.delimiter, {name: Ladder((kind,)) for name, kind in given.items()})
    if len(given) == len(wanted):
        return bare
    sound = _sound(head, options.delimiter)
    try:
        found = parsed(sound, bare, wanted, given)[0].schema if sound else pa.schema([(n, pa.null()) for n in wanted])
    except pa.ArrowException as error:
        message = f"{where} cannot be read as CSV: {words_of(error)}."
        raise UnreadableInput(message) from error
    return dataclasses.replace(bare, types=ladders(found, given, options.categories))


def _sound(head: bytes, delimiter: str) -> bytes:
    """Return the lines that are text and whose quotes are closed: by others no type is inferred."""
    found = lines.records(head, delimiter)
    if found.start.size and not found.spoilt.any() and lines.is_text(head):
        return head
    parts = (head[a:b] for a, b, spoilt in zip(found.start, found.stop, found.spoilt, strict=True) if not spoilt)
    return b"".join(part for part in parts if lines.is_text(part))


def parsed(data: Any, layout: Layout, columns: list[str], types: Types) -> tuple[pa.Table, list[int]]:
    """Parse lines; return some columns, and the numbers (from 0) of lines with too few or too many fields.

    Raises:
        ArrowInvalid: a value does not fit; or a line of too few or too many fields, where the text is not UTF-8.
    """
    bad: list[int] = []

    def skip(row: Any) -> str:
        bad.append(row.number - 1)
        return "skip"

    if data[: len(_MARK)] == _MARK:
        data = _MARK + bytes(data)  # the parser passes over one mark; the other is of the first line's first field
    # pyarrow decodes a bad line before it hands it over: where that fails, it prints a traceback and gives up the text.
    handler = skip if lines.is_text(data) else None
    parse = pa.csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True, invalid_row_handler=handler)
    convert = pa.csv.ConvertOptions(include_columns=columns, column_types=types)
    whole = len(data) + 1
    # Types are inferred from one block, and a record may be longer than one.
    sizes = [_BLOCK_BYTES, whole] if whole > _BLOCK_BYTES and all(name in types for name in columns) else [whole]
    for size in sizes:
        bad.clear()
        form = pa.csv.ReadOptions(column_names=layout.names, use_threads=False, block_size=size)
        try:
            rows = pa.csv.read_csv(
                pa.BufferReader(data), read_options=form, parse_options=parse, convert_options=convert
            )
            break
        except pa.ArrowInvalid as error:
            if size == whole or not _LONG.search(str(error)):
                raise
    return rows, bad
