"""Parquet. A row's place is its row number in the file. A column within another is wanted by its path, `a.b`."""

import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileId
from beam_ml.core.threads import threads
from beam_ml.errors import InvalidValue, MissingColumn, UnreadableInput
from beam_ml.formats import files
from beam_ml.formats.block import Block
from beam_ml.formats.files import FileRange
from beam_ml.formats.nested import field_path, picked
from beam_ml.formats.parquet import trial
from beam_ml.formats.parquet.claims import claimed, needed
from beam_ml.formats.parquet.watch import Stuck, watched
from beam_ml.formats.stacked import stacked

__all__ = ["decode", "encode", "ranges", "read", "write"]

_FAULTS = (pa.ArrowException, OSError, ValueError)

_ROWS_PER_BYTE, _LEAST_BOUND = 1024, 1 << 26
"""More rows than these a footer does not claim in earnest: a column of one value takes some bytes per page of it."""

_LOOKED_AT = 4096
"""First rows of a file by which the writer decides which columns repeat themselves."""

_VALUES_PER_BYTE, _LEAST_VALUES = 256, 1 << 28
"""More values than these are decoded on trial first: no file of another kind has as many, and fewer take about a second."""

_TRIAL_S, _BYTES_PER_S = 60, 1 << 20
"""What a trial may take of the processor's time; of large files, a second per so many bytes."""

_MOST_BYTES, _TIMES_ITS_BYTES = 1 << 30, 16
"""What decoding a range may take of memory, or so many times the bytes of its file."""

_HELD = 1 << 26
"""Bytes of decoded rows at which what was decoded in smaller parts is passed on."""

_FEWEST_ROWS = 256
"""Rows that are decoded at once where as many as are wanted might take too much memory: fewer cost more than they hold."""

_PATIENCE_S = 30
"""How long one block may take to decode before its range is tried out."""

_READING: dict[str, Any] = {"page_checksum_verification": True, "coerce_int96_timestamp_unit": "us"}
"""INT96 holds days and ns of a day: as int64 ns it would wrap around after 2262, so that the year 9999 became 1816."""


def _unreadable(path: str, error: Exception) -> UnreadableInput:
    reason = " ".join(str(error).split()).rstrip(".")
    message = f"{path} cannot be read as Parquet: {reason or type(error).__name__}."
    return UnreadableInput(message)


def _open(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, **_READING)
    except _FAULTS as error:
        raise _unreadable(path, error) from error


def _bounds(parquet: pq.ParquetFile, path: str, n_bytes: int) -> np.ndarray:
    """Return the row number at which each row group starts, and the number of rows.

    Raises:
        UnreadableInput: the footer claims more rows than a file of so many bytes holds: reading them would not end.
    """
    metadata = parquet.metadata
    rows = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
    most = max(_LEAST_BOUND, n_bytes * _ROWS_PER_BYTE)
    if min(rows, default=0) < 0 or sum(rows) > most:
        message = f"{path} cannot be read as Parquet: its footer claims {sum(rows)} rows in {n_bytes} bytes."
        raise UnreadableInput(message)
    return np.cumsum([0, *rows])


def ranges(file: FileId, target_rows: int) -> list[FileRange]:
    """Cut a file into ranges of about `target_rows` rows, at row groups where they are not larger than twice that.

    A larger group is cut inside; reading a later part decodes the group's earlier rows and drops them.

    Raises:
        UnreadableInput: not a whole Parquet file.
        InputChanged: the file is not what was listed.
    """
    with _open(file.path) as parquet:
        files.check(file)
        bounds = _bounds(parquet, file.path, file.size).tolist()
    cuts, start = [0], 0
    for low, high in itertools.pairwise(bounds):
        if high - low > 2 * target_rows:
            cuts += range(max(low, cuts[-1]), high, target_rows)
            start = high
            cuts.append(high)
        elif high - start >= target_rows:
            start = high
            cuts.append(high)
    edges = sorted({*cuts, bounds[-1]})
    return [FileRange(file.path, file.size, file.mtime_ns, "parquet", a, b) for a, b in itertools.pairwise(edges)]


def _check_columns(path: str, parquet: pq.ParquetFile, columns: Sequence[str] | None) -> list[str] | None:
    if columns is None:
        return None
    for name in columns:
        if field_path(parquet.schema_arrow, name) is None:
            message = f"{path} must have one column {name!r}; got {parquet.schema_arrow.names}."
            raise MissingColumn(message)
    return list(columns)


def _named(batch: pa.RecordBatch, columns: list[str] | None) -> pa.RecordBatch:
    """Return what was wanted by path under that name: the reader leaves it in its column."""
    return batch if columns is None or set(columns) == set(batch.schema.names) else picked(batch, columns)


def _too_many(values: int, n_bytes: int) -> bool:
    return values > max(_LEAST_VALUES, n_bytes * _VALUES_PER_BYTE)


def _most_bytes(n_bytes: int) -> int:
    return max(_MOST_BYTES, _TIMES_ITS_BYTES * n_bytes)


def _at_once(
    stream: BinaryIO, n_bytes: int, bounds: np.ndarray, groups: Sequence[int], columns: list[str] | None, rows: int
) -> tuple[int, bool]:
    """Return how many rows to decode at once, at most as many as asked for, and whether they are sure to fit in memory.

    Raises:
        Unfollowed: the headers of the pages are not as Parquet writes them.
    """
    claims = claimed(stream, groups, columns)
    if claims is not None:
        held = np.diff(bounds)[list(groups)].tolist()
        for fewer in (rows, rows // 4, rows // 16, rows // 64, _FEWEST_ROWS):
            most = min(rows, max(_FEWEST_ROWS, fewer))
            if needed(claims, held, most) <= _most_bytes(n_bytes):
                return most, True
    return min(rows, _FEWEST_ROWS), False


@dataclasses.dataclass(frozen=True, slots=True)
class _Trial:
    """What is decoded in a process that is ended at a bound, where it is in doubt.

    Attributes:
        path: of the file.
        n_bytes: its size.
        groups: the row groups that a range is in.
        rows: from the first one's beginning to the range's end.
        columns: to decode.
        at_once: rows to decode at once.
    """

    path: str
    n_bytes: int
    groups: Sequence[int]
    rows: int
    columns: Sequence[str]
    at_once: int

    @property
    def seconds(self) -> float:
        """What it may take of the processor's time."""
        return max(_TRIAL_S, self.n_bytes / _BYTES_PER_S)

    def passes(self) -> bool:
        """Return whether the rows decode within the bounds."""
        most = _most_bytes(self.n_bytes)
        return trial.passes(self.path, self.groups, self.rows, self.columns, self.at_once, self.seconds, most)

    def refusal(self, what: str) -> UnreadableInput:
        message = (
            f"{self.path} cannot be read as Parquet: {what} in {self.n_bytes} bytes do not decode within {self.seconds:g} s "
            f"and {_most_bytes(self.n_bytes) >> 20} MiB."
        )
        return UnreadableInput(message)


def _try_out(one: _Trial, sure: bool) -> None:
    """Decode on trial first what holds far more values than the file has bytes, or may take too much memory.

    Raises:
        UnreadableInput: the rows do not decode, or not within the bounds.
    """
    values = one.rows * len(one.columns)
    if (not sure or _too_many(values, one.n_bytes)) and not one.passes():
        what = f"the {values} values that it claims" if sure else "the values that its pages claim"
        raise one.refusal(what)


def _together(decoded: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches of as many rows as are wanted, or of fewer where they are large, from smaller ones."""
    parts, n, size = list[pa.RecordBatch](), 0, 0
    for one in decoded:
        batch = stacked([one])  # words of a dictionary are small until they stand in each row
        if parts and (n + batch.num_rows > rows or size + batch.nbytes > _HELD):
            yield stacked(parts)
            parts, n, size = [], 0, 0
        parts.append(batch)
        n, size = n + batch.num_rows, size + batch.nbytes
    if parts:
        yield stacked(parts)


def _blocks(
    path: str,
    n_bytes: int,
    parquet: pq.ParquetFile,
    start: int,
    stop: int,
    columns: list[str] | None,
    rows: int,
    origin: Origin,
) -> Iterator[Block]:
    bounds = _bounds(parquet, path, n_bytes)
    groups = [g for g in range(len(bounds) - 1) if bounds[g] < stop and bounds[g + 1] > start]
    place = int(bounds[groups[0]]) if groups else start
    names = parquet.schema_arrow.names if columns is None else columns
    try:
        with open(path, "rb") as stream:
            at_once, sure = _at_once(stream, n_bytes, bounds, groups, columns, rows)
    except _FAULTS as error:
        raise _unreadable(path, error) from error
    doubtful = _Trial(path, n_bytes, groups, stop - place, names, at_once)
    _try_out(doubtful, sure)
    batches = parquet.iter_batches(batch_size=at_once, row_groups=groups, columns=columns, use_threads=threads() > 1)
    decoded = watched(batches, _PATIENCE_S, doubtful.passes)
    if at_once < rows:
        decoded = _together(decoded, rows)
    while place < stop:
        try:
            batch = next(decoded, None)
        except Stuck:
            what = f"its rows from {place} on"
            raise doubtful.refusal(what) from None
        except _FAULTS as error:
            raise _unreadable(path, error) from error
        if batch is None:
            message = f"{path} cannot be read as Parquet: it ends at row {place}, not at row {stop}."
            raise UnreadableInput(message)
        batch = _named(batch, columns)
        low, high = max(start - place, 0), min(stop - place, batch.num_rows)
        if low < high:
            first, last = place + low, place + high
            position = np.arange(first, last, dtype=np.int64)
            yield Block(batch.slice(low, high - low), origin, position, None, first, last)
        place += batch.num_rows


def read(
    piece: FileRange, columns: Sequence[str] | None = None, max_rows: int = 65_536, source: str = ""
) -> Iterator[Block]:
    """Read a range in blocks of at most `max_rows` rows; only the named columns are decoded.

    Raises:
        InputChanged: the file is not what the plan saw, before or after reading.
        UnreadableInput: bytes that do not decode.
        MissingColumn: a column is not there.
    """
    files.check(piece)
    with _open(piece.path) as parquet:
        files.check(piece)
        wanted = _check_columns(piece.path, parquet, columns)
        origin = Origin(source, piece.path)
        yield from _blocks(piece.path, piece.size, parquet, piece.start, piece.stop, wanted, max_rows, origin)
    files.check(piece)


def _repeating(batch: pa.RecordBatch) -> list[str]:
    """Return the columns to write by dictionary: not those of measurements, which it makes larger and slower to read."""
    some = batch.slice(0, _LOOKED_AT)
    rare = [pa.types.is_floating(one.type) and 2 * pc.count_distinct(one).as_py() > len(one) for one in some.columns]
    return [name for name, alone in zip(batch.schema.names, rare, strict=True) if not alone]


def _write(target: str | io.BytesIO, batches: Iterable[pa.RecordBatch], row_group_rows: int) -> None:
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        message = "Parquet needs at least one batch (of no rows, if need be) for the columns' names and types."
        raise InvalidValue(message)
    settings: dict[str, Any] = {"compression": "zstd", "use_dictionary": _repeating(first), "write_page_checksum": True}
    with pq.ParquetWriter(target, first.schema, **settings) as writer:
        writer.write_batch(first, row_group_size=row_group_rows)
        for batch in iterator:
            writer.write_batch(batch, row_group_size=row_group_rows)


def write(path: str, batches: Iterable[pa.RecordBatch], row_group_rows: int = 131_072) -> None:
    """Write batches of one schema as one file, whole or not at all; each batch starts a row group."""
    with files.replacing(path) as unfinished:
        _write(unfinished, batches, row_group_rows)


def encode(batch: pa.RecordBatch) -> bytes:
    """Return the bytes of a file that holds one batch.

    >>> decode(encode(pa.record_batch({"x": [1.0, 2.0]}))).batch.to_pydict()
    {'x': [1.0, 2.0]}
    """
    buffer = io.BytesIO()
    _write(buffer, [batch], max(1, batch.num_rows))
    return buffer.getvalue()


def _whole(parquet: pq.ParquetFile, data: bytes, bounds: np.ndarray, columns: list[str] | None) -> pa.RecordBatch:
    """Return all rows of a file held in memory, decoded in parts that fit there."""
    rows, most = max(1, int(bounds[-1])), _most_bytes(len(data))
    at_once, sure = _at_once(io.BytesIO(data), len(data), bounds, range(len(bounds) - 1), columns, rows)
    parts, size = list[pa.RecordBatch](), 0
    for one in parquet.iter_batches(at_once, columns=columns, use_threads=False) if sure else ():
        parts.append(one if at_once == rows else stacked([one]))
        size += parts[-1].nbytes
        sure = 2 * size <= most  # once more when they are concatenated
        if not sure:
            break
    if not sure:
        message = f"what its pages claim in {len(data)} bytes may take more than {most >> 20} MiB"
        raise ValueError(message)
    if not parts:
        return pa.RecordBatch.from_pylist([], schema=parquet.read_row_groups([], columns=columns).schema)
    return parts[0] if len(parts) == 1 else stacked(parts)


def decode(data: bytes, columns: Sequence[str] | None = None) -> Block:
    """Return the rows of a file held in memory.

    Raises:
        UnreadableInput: not a whole Parquet file.
        MissingColumn: a column is not there.
    """
    where = f"<{len(data)} bytes>"
    try:
        parquet = pq.ParquetFile(pa.BufferReader(data), **_READING)
        bounds = _bounds(parquet, where, len(data))
        rows = int(bounds[-1])
        wanted = _check_columns(where, parquet, columns)
        values = rows * (parquet.metadata.num_columns if wanted is None else len(wanted))
        if _too_many(values, len(data)):
            raise _unreadable(where, ValueError(f"it claims {values} values in {len(data)} bytes"))
        batch = _named(_whole(parquet, data, bounds, wanted), wanted)
    except _FAULTS as error:
        raise _unreadable(where, error) from error
    n = batch.num_rows
    return Block(batch, None, np.arange(n, dtype=np.int64), None, 0, n)
