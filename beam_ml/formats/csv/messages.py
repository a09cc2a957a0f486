"""Messages of CSV: one or more lines, without a line of names. Each line is a row; a byte order mark before it is none.

Many messages are parsed as one text; where a line would reach across the end of its message (an unclosed
quote), they are halved.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.errors import InvalidValue, MissingColumn, UnreadableInput
from beam_ml.formats import lines
from beam_ml.formats.csv import files
from beam_ml.formats.csv.options import Options
from beam_ml.formats.messages import (
    EMPTY,
    MALFORMED,
    Decoded,
    Decoder,
    Encoder,
    Refusal,
    detail,
    in_order,
    refusals,
    rows_batch,
)

__all__ = ["message_decoder", "message_encoder"]

_MAX_BYTES = 64 << 20
_MARK = b"\xef\xbb\xbf"


def _names(options: Options) -> list[str]:
    """Return the columns of a message."""
    return list(options.record_columns or options.column_names or ())


def _options(options: dict[str, Any]) -> Options:
    found = Options.parse(options)
    if found.by_position:
        return found
    names = found.column_names
    if not names or len(set(names)) != len(names):
        message = f"csv.Options.column_names must name each column of a message once; got {names and list(names)!r}."
        raise InvalidValue(message)
    for name in found.types:
        if name not in names:
            message = f"csv.Options.types must name columns of column_names, {list(names)}; got {name!r}."
            raise InvalidValue(message)
    return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Rows and refused lines of some messages, with the message and row number of each."""

    batch: pa.RecordBatch
    message: np.ndarray
    row: np.ndarray
    refused: list[Refusal]


def _joined(values: list[bytes], columns: Sequence[str], options: Options) -> _Part | None:
    """Parse messages as one text; None where a line reaches across the end of its message."""
    # Each has lost its mark already: what is in its place is to be passed over, and nothing of the first message.
    block = files.decode(b"\n".join([_MARK + values[0], *values[1:]]), columns, options)
    starts = np.cumsum([0, len(_MARK) + len(values[0]) + 1, *(len(value) + 1 for value in values[1:])])
    assert block.position is not None  # noqa: S101
    place = np.concatenate([block.position, *(one.position for one in block.rejected)])
    end = np.concatenate([block.position_end, *(one.position_end for one in block.rejected)])
    message = np.searchsorted(starts, place, side="right") - 1
    if np.any(end > starts[message + 1]) or np.any(np.bincount(message, minlength=len(values)) == 0):
        return None
    order = np.argsort(place, kind="stable")
    of = message[order]
    row = np.empty_like(place)
    row[order] = np.arange(len(of)) - np.searchsorted(of, of, side="left")
    bounds = np.cumsum([len(block), *(len(one) for one in block.rejected)])
    refused = [
        (one.reason, *found)
        for one, a, b in zip(block.rejected, bounds[:-1], bounds[1:], strict=True)
        for found in zip(message[a:b].tolist(), row[a:b].tolist(), one.detail, strict=True)
    ]
    return _Part(block.batch, message[: bounds[0]], row[: bounds[0]], refused)


class _Run:
    """One decoding of some messages; the types that the first of them have hold for all."""

    def __init__(self, columns: Sequence[str], options: Options) -> None:
        self._columns, self._options = columns, options
        self.malformed: list[tuple[int, str]] = []

    def parts(self, values: list[bytes], numbers: np.ndarray) -> Iterator[_Part]:
        """Decode messages, halving them where they cannot be parsed as one text."""
        words = "a line that does not end with the message"
        if sum(map(len, values)) <= _MAX_BYTES or len(values) == 1:
            try:
                part = _joined(values, self._columns, self._options)
            except (UnreadableInput, pa.ArrowException) as error:
                part, words = None, str(error)
            if part is not None:
                self._settle(part.batch.schema)
                refused = [(reason, int(numbers[i]), j, text) for reason, i, j, text in part.refused]
                yield dataclasses.replace(part, message=numbers[part.message], refused=refused)
                return
        if len(values) == 1:
            self.malformed.append((int(numbers[0]), detail(values[0], words)))
            return
        half = len(values) // 2
        yield from self.parts(values[:half], numbers[:half])
        yield from self.parts(values[half:], numbers[half:])

    def _settle(self, schema: pa.Schema) -> None:
        if self._options.by_position:
            return
        known = [
            field for field in schema if not pa.types.is_null(field.type) and field.name not in self._options.categories
        ]
        found = {field.name: str(field.type) for field in known}
        self._options = self._options.model_copy(update={"types": found | dict(self._options.types)})


def _concat(batches: list[pa.RecordBatch]) -> dict[str, pa.Array]:
    if len(batches) == 1:
        return dict(zip(batches[0].schema.names, batches[0].columns, strict=True))
    table = pa.concat_tables([pa.Table.from_batches([one]) for one in batches], promote_options="permissive")
    return {name: table.column(name).combine_chunks() for name in table.column_names}


def message_decoder(options: dict[str, Any]) -> Decoder:
    r"""Return the decoder of CSV messages.

    Args:
        options: fields of `csv.Options`; `column_names`, or `header` = false and `width`, must be given. The types of named
            columns not in `types` are inferred from each block.

    Raises:
        InvalidValue: options it does not know, or no column names.

    >>> decode = message_decoder({"column_names": ["x", "y"], "types": {"x": "float64"}})
    >>> found = decode(pa.array([b"1,a", b"2,b\n?,c"]), ["x"])
    >>> found.batch.to_pydict(), found.message.tolist(), found.row.tolist(), found.refused[0].row.tolist()
    ({'x': [1.0, 2.0]}, [0, 1], [0, 0], [1])
    """
    known = _options(options)
    names = _names(known)

    def decode(values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        wanted = names if columns is None else list(dict.fromkeys(columns))
        for name in wanted:
            if name not in names:
                message = f"csv.Options.column_names must hold {name!r}; got {names}."
                raise MissingColumn(message)
        return _decode(values.to_pylist(), wanted, known)

    return decode


def _decode(values: list[bytes], wanted: list[str], options: Options) -> Decoded:
    # pyarrow counts lines by the columns that it converts: where none is wanted, one is converted all the same
    asked = wanted or _names(options)[:1]
    trimmed = [value.removeprefix(_MARK).strip(b"\r\n") for value in values]
    empty = [i for i, value in enumerate(trimmed) if not value]
    foreign = [] if b"".join(trimmed).isascii() else [i for i, value in enumerate(trimmed) if not lines.is_text(value)]
    # an odd number of quotes may leave one open, so that lines reach into the next message: parse each alone
    odd = np.setdiff1d(_odd(trimmed), foreign).astype(np.int64).tolist()
    good = np.setdiff1d(np.arange(len(values)), [*empty, *foreign, *odd])
    run = _Run(asked, options)
    parts = list(run.parts([trimmed[i] for i in good], good)) if len(good) else []
    for i in odd:
        parts += run.parts([trimmed[i]], np.array([i]))
    refused = [one for part in parts for one in part.refused]
    refused += [(EMPTY, i, -1, "") for i in empty]
    refused += [(MALFORMED, i, -1, detail(values[i], "not UTF-8")) for i in foreign]
    refused += [(MALFORMED, i, -1, text) for i, text in run.malformed]
    message, row, order = in_order((part.message, part.row) for part in parts)
    found = _concat([part.batch for part in parts]) if parts else {name: pa.nulls(0) for name in wanted}
    batch = rows_batch({name: found[name] for name in wanted}, len(message))
    return Decoded(batch if order is None else batch.take(order), message, row, refusals(refused))


def _odd(values: list[bytes]) -> list[int]:
    return [i for i, value in enumerate(values) if b'"' in value and value.count(b'"') % 2]


def message_encoder(options: dict[str, Any]) -> Encoder:
    r"""Return the encoder of CSV messages: one line per row, several separated by line ends, without names.

    Args:
        options: fields of `csv.Options`; `column_names` is required and names the columns to write, but where lines are
            numbers by position (`header` = false).

    Raises:
        InvalidValue: options it does not know, or no column names.

    >>> message_encoder({"column_names": ["y", "x"]})(pa.record_batch({"x": [1, 2, 3], "y": ["a", "b", "c"]}), 2)
    [b'"a",1\n"b",2', b'"c",3']
    """
    known = _options(options)
    names = _names(known)

    def encode(rows: pa.RecordBatch, rows_per_message: int = 1) -> list[bytes]:
        for name in names:
            if name not in rows.schema.names:
                message = f"csv.Options.column_names must be columns of the rows, {rows.schema.names}; got {name!r}."
                raise MissingColumn(message)
        if not rows.num_rows:
            return []
        text = files.encode(rows.select(names), known)
        found = lines.records(text, known.delimiter)
        starts = [*found.start[::rows_per_message].tolist(), len(text)]
        return [text[a:b].removesuffix(b"\n") for a, b in itertools.pairwise(starts)]

    return encode
