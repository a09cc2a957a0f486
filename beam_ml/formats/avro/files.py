"""Avro container files. A row's place is its row number in the file.

Container blocks say how many rows and bytes they hold, so that a plan finds every block, and its row numbers, by
hopping from header to header. Times are decoded as the integers they are stored as.
"""

import dataclasses
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import fastavro
import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileId
from beam_ml.errors import InvalidValue, MissingColumn, UnreadableInput
from beam_ml.formats import files
from beam_ml.formats.avro.codecs import unpacked
from beam_ml.formats.avro.schema import avro_schema, stored
from beam_ml.formats.avro.values import Leaf, bare, column, names, taken
from beam_ml.formats.avro.walk import walk_for
from beam_ml.formats.block import Block
from beam_ml.formats.files import FileRange

__all__ = ["decode", "encode", "ranges", "read", "write"]

_FAULTS = Exception
"""What fastavro, the codecs and the conversion raise on damaged bytes has no narrower common base."""

_MAGIC = b"Obj\x01"
_SYNC_BYTES, _MOST_NAMES = 16, 100
_MOST_EMPTY = 1 << 20
"""Rows that a block may claim without a byte each: records of nothing but nulls have none."""


def _unreadable(where: str, reason: object) -> UnreadableInput:
    message = f"{where} cannot be read as Avro: {' '.join(str(reason).split()).rstrip('.') or type(reason).__name__}."
    return UnreadableInput(message)


@dataclasses.dataclass(frozen=True, slots=True)
class _Header:
    """What a container file says about itself; `size` is where its first block starts."""

    schema: dict[str, Any]
    codec: str
    sync: bytes
    size: int


def _header(stream: BinaryIO, where: str) -> _Header:
    if stream.read(len(_MAGIC)) != _MAGIC:
        raise _unreadable(where, f"it does not begin with {_MAGIC!r}")
    stream.seek(0)
    try:
        reader = fastavro.reader(stream)  # reads the header, which ends with the sync marker, and no more
        schema, codec, size = reader.writer_schema, reader.codec, stream.tell()
        stream.seek(size - _SYNC_BYTES)
        sync = stream.read(_SYNC_BYTES)
    except KeyError as error:
        raise _unreadable(where, f"its header has no {error.args[0]!r}") from error
    except _FAULTS as error:
        raise _unreadable(where, error) from error
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise _unreadable(where, "its rows are not records")
    return _Header(schema, codec, sync, size)


def _varint(stream: BinaryIO) -> int | None:
    """Read a zigzag varint; None at the end of the file."""
    value = shift = 0
    while byte := stream.read(1):
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return (value >> 1) ^ -(value & 1)
        shift += 7
        if shift > 63:
            break
    if byte or shift:
        message = "a block's header is cut off"
        raise ValueError(message)
    return None


def _index(stream: BinaryIO, header: _Header, size: int, where: str) -> list[tuple[int, int]]:
    """Return (byte offset, number of its first row) of every container block, then the ends of both."""
    found, row, offset = [], 0, header.size
    stream.seek(offset)
    while True:
        try:
            count = _varint(stream)
            width = None if count is None else _varint(stream)
        except ValueError as error:
            raise _unreadable(where, error) from error
        found.append((offset, row))
        if count is None:
            return found
        end = -1 if width is None or width < 0 or count < 0 else stream.tell() + width
        if end < 0 or end + _SYNC_BYTES > size:
            raise _unreadable(where, f"the block at byte {offset} is cut off")
        stream.seek(end)
        if stream.read(_SYNC_BYTES) != header.sync:
            raise _unreadable(where, f"the block at byte {offset} does not end with the file's sync marker")
        row, offset = row + count, end + _SYNC_BYTES


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise _unreadable(path, error.strerror) from error


def ranges(file: FileId, target_rows: int) -> list[FileRange]:
    """Cut a file at container blocks into ranges of at least `target_rows` rows (the last may be shorter).

    Raises:
        UnreadableInput: not a whole Avro container file of records.
        InputChanged: the file is not what was listed.
    """
    with _open(file.path) as stream:
        files.check(file)
        header = _header(stream, file.path)
        index = _index(stream, header, os.fstat(stream.fileno()).st_size, file.path)
    cuts = [index[0]]
    for offset, row in index[1:]:
        if row - cuts[-1][1] >= target_rows:
            cuts.append((offset, row))
    if cuts[-1] != index[-1]:
        cuts.append(index[-1])
    return [
        FileRange(file.path, file.size, file.mtime_ns, "avro", a, b, offset, a)
        for (offset, a), (_, b) in itertools.pairwise(cuts)
        if a < b
    ]


class _Unpacked(io.RawIOBase):
    """A container file's rest from one of its blocks on, without compression, behind a header that says so."""

    def __init__(self, head: bytes, blocks: Iterator[bytes]) -> None:
        self._piece, self._blocks = memoryview(head), blocks

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._piece:
            self._piece = memoryview(next(self._blocks, b""))
        n = min(len(buffer), len(self._piece))
        buffer[:n], self._piece = self._piece[:n], self._piece[n:]
        return n


def _zigzag(value: int) -> bytes:
    left, found = value << 1, bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    return bytes([*found, left])


def _unpacked_blocks(stream: BinaryIO, header: _Header) -> Iterator[bytes]:
    """Return container blocks from where the stream stands, without compression, once they are walked through."""
    named: dict[str, Any] = {}
    walk = walk_for(fastavro.parse_schema(bare(header.schema), named_schemas=named), named)
    while (count := _varint(stream)) is not None:
        width = _varint(stream)
        if width is None or width < 0:
            message = "a block's header is cut off"
            raise ValueError(message)
        data = unpacked(header.codec, stream.read(width))
        if count > max(len(data), _MOST_EMPTY):
            message = f"a block of {len(data)} bytes claims {count} rows"
            raise ValueError(message)
        if walk is not None:
            walk(data, rows=count)
        yield b"".join((_zigzag(count), _zigzag(len(data)), data, stream.read(_SYNC_BYTES)))


def _records(stream: BinaryIO, header: _Header, offset: int) -> Iterator[dict[str, Any]]:
    """Return the records from the container block at `offset` on, logical types as their plain integers.

    All columns are decoded: a reader's schema of fewer columns makes fastavro slower, not faster.
    """
    empty = io.BytesIO()
    fastavro.writer(empty, bare(header.schema), [], codec="null", sync_marker=header.sync)
    stream.seek(offset)
    source = _Unpacked(empty.getvalue(), _unpacked_blocks(stream, header))
    return iter(fastavro.reader(io.BufferedReader(source, 1 << 16)))


def _leaves(header: _Header, where: str, columns: Sequence[str] | None) -> dict[str, Leaf]:
    """Return the columns to read."""
    named: dict[str, Any] = {}
    try:
        record = fastavro.parse_schema(bare(header.schema), named_schemas=named)
    except _FAULTS as error:
        raise _unreadable(where, error) from error
    assert isinstance(record, dict)  # noqa: S101 the header says so
    found = {}
    for name in [field["name"] for field in record["fields"]] if columns is None else columns:
        try:
            leaf = column(record, named, name)
        except ValueError as error:
            raise _unreadable(where, error) from error
        if leaf is None:
            message = (
                f"{where} must have a column {name!r}; got {list(itertools.islice(names(record, named), _MOST_NAMES))}."
            )
            raise MissingColumn(message)
        found[name] = leaf
    return found


def _blocks(
    where: str,
    stream: BinaryIO,
    header: _Header,
    piece: FileRange,
    columns: Sequence[str] | None,
    max_rows: int,
    origin: Origin | None,
) -> Iterator[Block]:
    leaves = _leaves(header, where, columns)
    schema = pa.schema([(name, leaf.kind) for name, leaf in leaves.items()])
    records = None
    for first in range(piece.start, piece.stop, max_rows) or [piece.start]:
        last = min(first + max_rows, piece.stop)
        try:
            if records is None:
                records = _records(stream, header, piece.offset)
                records = itertools.islice(records, piece.start - piece.offset_row, None)
            rows = [next(records) for _ in range(last - first)]
            batch = pa.RecordBatch.from_arrays(
                [pa.array([taken(row, leaf) for row in rows], leaf.kind) for leaf in leaves.values()], schema=schema
            )
        except _FAULTS as error:
            raise _unreadable(where, f"rows {first} to {last - 1} do not decode ({error!r})") from error
        yield Block(batch, origin, np.arange(first, last, dtype=np.int64), None, first, last)


def read(
    piece: FileRange, columns: Sequence[str] | None = None, max_rows: int = 65_536, source: str = ""
) -> Iterator[Block]:
    """Read a range in blocks of at most `max_rows` rows; columns that are not named are dropped.

    Raises:
        InputChanged: the file is not what the plan saw, before or after reading.
        UnreadableInput: bytes that do not decode, or a column of a type that has no Arrow equal.
        MissingColumn: a column is not there.
    """
    files.check(piece)
    with _open(piece.path) as stream:
        files.check(piece)
        header = _header(stream, piece.path)
        origin = Origin(source, piece.path)
        yield from _blocks(piece.path, stream, header, piece, columns, max_rows, origin)
    files.check(piece)


def _write(target: BinaryIO, batches: Iterable[pa.RecordBatch]) -> None:
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None:
        message = "Avro needs at least one batch (of no rows, if need be) for the columns' names and types."
        raise InvalidValue(message)

    def rows() -> Iterator[dict[str, Any]]:
        batch: pa.RecordBatch | None = first
        while batch is not None:
            yield from stored(batch).to_pylist()
            batch = next(iterator, None)

    fastavro.writer(target, avro_schema(first.schema), rows(), codec="deflate")


def encode(batch: pa.RecordBatch) -> bytes:
    """Return the bytes of a container file that holds one batch.

    >>> decode(encode(pa.record_batch({"x": [1.0, 2.0]}))).batch.to_pydict()
    {'x': [1.0, 2.0]}
    """
    buffer = io.BytesIO()
    _write(buffer, [batch])
    return buffer.getvalue()


def write(path: str, batches: Iterable[pa.RecordBatch]) -> None:
    """Write batches of one schema as one file, whole or not at all."""
    with files.replacing(path) as unfinished, open(unfinished, "wb") as stream:
        _write(stream, batches)


def decode(data: bytes, columns: Sequence[str] | None = None) -> Block:
    """Return the rows of a container file held in memory.

    Raises:
        UnreadableInput: not a whole Avro container file of records.
        MissingColumn: a column is not there.
    """
    where, stream = f"<{len(data)} bytes>", io.BytesIO(data)
    header = _header(stream, where)
    n = _index(stream, header, len(data), where)[-1][1]
    piece = FileRange(where, len(data), 0, "avro", 0, n, header.size)
    return next(_blocks(where, stream, header, piece, columns, max(n, 1), None))
