"""RecordIO-protobuf, also compressed (gzip, zstd, bzip2). A row's place is the byte offset of its record when decompressed.

Frames are found by hopping from header to header, so that any file can be cut between two records, though a scan for the
magic number could not do it: payloads may hold it. A record that cannot be decoded is a reject; where the chain of
frames breaks, nothing behind it can be found, and the file is unreadable.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileId
from beam_ml.core.rejects import Reject
from beam_ml.errors import UnreadableInput
from beam_ml.formats import files, lines
from beam_ml.formats.block import Block, chosen
from beam_ml.formats.files import FileRange
from beam_ml.formats.recordio.records import COLUMNS, DEFAULT, Layout, Options, Records, first_of, layout_of
from beam_ml.formats.recordio.records import decode as decode_records
from beam_ml.formats.recordio.stream import Frames, frames
from beam_ml.formats.recordio.writing import framed

__all__ = ["decode", "encode", "ends", "ranges", "read", "write"]

_WHAT = "RecordIO"
_HEAD_BYTES = 1 << 16
_WRITTEN_ROWS = 1 << 16


def _frames(path: str, start: int, stop: int, width: int | None = None) -> Iterator[Frames]:
    return frames(lines.chunks(path, start, stop, width, _WHAT), start, stop, path)


def ranges(file: FileId, target_bytes: int, options: Options = DEFAULT) -> list[FileRange]:
    """Cut a file into ranges of about `target_bytes`, each of whole records.

    A file larger than twice that is gone through for its frames; a compressed one is one range, decompressed to learn
    its size.

    Raises:
        UnreadableInput: the chain of frames breaks, in a file that is gone through; or a damaged compressed file.
        InputChanged: the file is not what was listed.
    """
    files.check(file)
    compressed = lines.compression_of(file.path)
    size = lines.text_size(file.path, _WHAT) if compressed else file.size
    cuts = [0]
    if not compressed and size > 2 * target_bytes:
        for some in _frames(file.path, 0, size):
            while some.end[-1] - cuts[-1] >= target_bytes:
                cuts.append(int(some.end[np.searchsorted(some.end, cuts[-1] + target_bytes)]))
    if cuts[-1] < size:
        cuts.append(size)
    files.check(file)
    return [FileRange(file.path, file.size, file.mtime_ns, "recordio", a, b) for a, b in itertools.pairwise(cuts)]


def ends(chunks: Iterable[bytes], offset: int, where: str, options: Options = DEFAULT) -> Iterator[int]:
    """Yield, as the pieces of a stream come, the places up to which it is whole records.

    Args:
        chunks: the stream's bytes from a place where a record begins.
        offset: of that place.
        where: the stream, for messages.
        options: the format's own.

    Raises:
        UnreadableInput: the chain of frames breaks.
    """
    came, over = offset, False

    def counted() -> Iterator[bytes]:
        nonlocal came, over
        for chunk in chunks:
            came += len(chunk)
            yield chunk
        over = True

    for some in frames(counted(), offset, sys.maxsize, where):
        end = int(some.end[-1])
        if end <= came and not over:  # else a record too long to be kept, or cut off, whose end has not come
            yield end


def _settled(path: str, size: int, columns: tuple[str, ...], options: Options) -> Layout:
    """Return the layout of a file, by its first good record where the options do not say."""
    if options.form is not None and options.values is not None:
        return layout_of(options, columns)
    first = _first(_frames(path, 0, size, _HEAD_BYTES), options)
    return layout_of(options, columns, first)


def _first(found: Iterator[Frames], options: Options) -> tuple[bool, bool]:
    try:
        for some in found:
            first = first_of(some.data, some.start, some.size, options)
            if first is not None:
                return first
    except UnreadableInput:  # for whoever reads that far to say
        pass
    return False, False


def _blocks(
    found: Iterable[Frames], begin: int, stop: int, layout: Layout, max_rows: int, origin: Origin | None
) -> Iterator[Block]:
    for some in found:
        for i in range(0, len(some.offset), max_rows):
            group = slice(i, i + max_rows)
            block = _block(some, group, layout, origin)
            yield block.replace(start=begin)
            begin = block.stop
    if begin < stop:
        none = np.empty(0, np.int64)
        yield Block(_empty(layout), origin, none, none, begin, stop)


def _empty(layout: Layout) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=layout.schema())


def _block(some: Frames, group: slice, layout: Layout, origin: Origin | None) -> Block:
    offset, end = some.offset[group], some.end[group]
    unread = {why: at[(at >= group.start) & (at < group.stop)] - group.start for why, at in some.fault.items()}
    if not any(map(len, unread.values())):
        found = decode_records(some.data, some.start[group], some.size[group], layout)
    else:
        readable = np.setdiff1d(np.arange(len(offset)), np.concatenate([*unread.values()]))
        found = decode_records(some.data, some.start[group][readable], some.size[group][readable], layout)
        good, refused = readable[found.good], {why: readable[at] for why, at in found.refused.items()}
        found = Records(found.batch, good, {**refused, **{why: at for why, at in unread.items() if len(at)}})
    rejected = tuple(Reject(why, offset[at], end[at]) for why, at in sorted(found.refused.items()))
    return Block(
        found.batch, origin, offset[found.good], end[found.good], int(offset[0]), int(end[-1]), rejected
    )  # fmt: skip


def read(
    piece: FileRange,
    columns: Sequence[str] | None = None,
    max_rows: int = 65_536,
    source: str = "",
    options: Options = DEFAULT,
) -> Iterator[Block]:
    """Read a range in blocks of at most `max_rows` rows; only the named columns are kept.

    Records that are no protobuf `Record`, or that do not fit the options, are in `Block.rejected`.

    Raises:
        InputChanged: the file is not what the plan saw, before or after reading.
        UnreadableInput: the chain of frames breaks, or a damaged compressed file.
        MissingColumn: a column is not there.
    """
    names = chosen(columns, COLUMNS, piece.path)
    files.check(piece)
    size = piece.size if not lines.compression_of(piece.path) else piece.stop
    layout = _settled(piece.path, size, names, options)
    yield from _blocks(
        _frames(piece.path, piece.start, piece.stop), piece.start, piece.stop, layout, max_rows,
        Origin(source, piece.path),
    )  # fmt: skip
    files.check(piece)


def write(path: str, batches: Iterable[pa.RecordBatch], options: Options = DEFAULT) -> None:
    """Write batches as one file, whole or not at all; compressed as its name ends (``.gz``, ``.zst``, ``.bz2``).

    Raises:
        MissingColumn, InvalidValue: columns that records do not have, or rows that do not fit into one.
    """
    with files.writing(path) as out:
        for batch in batches:
            for i in range(0, batch.num_rows, _WRITTEN_ROWS):
                out.write(framed(batch.slice(i, _WRITTEN_ROWS), options)[0])


def encode(batch: pa.RecordBatch, options: Options = DEFAULT) -> bytes:
    """Return the bytes of a file that holds one batch.

    >>> rows = pa.record_batch({"features": pa.array([[1.5, -2.0]], pa.list_(pa.float32())), "label": [1.0]})
    >>> decode(encode(rows), ["features", "label"]).batch.to_pydict()
    {'features': [[1.5, -2.0]], 'label': [1.0]}
    """
    return framed(batch, options)[0].tobytes()


def decode(data: bytes, columns: Sequence[str] | None = None, options: Options = DEFAULT) -> Block:
    """Return the rows of uncompressed bytes held in memory; places are byte offsets in them.

    Raises:
        UnreadableInput: the chain of frames breaks.
        MissingColumn: a column is not there.
    """
    where = f"<{len(data)} bytes>"
    names = chosen(columns, COLUMNS, where)
    first = _first(frames([data], 0, len(data), where), options)
    layout = layout_of(options, names, first)
    blocks = list(_blocks(frames([data], 0, len(data), where), 0, len(data), layout, 1 << 16, None))
    if not blocks:
        none = np.empty(0, np.int64)
        return Block(_empty(layout), None, none, none)
    return _one(blocks)


def _one(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    table = pa.Table.from_batches([one.batch for one in blocks]).combine_chunks()
    position, end = (
        np.concatenate([getattr(one, name) for one in blocks]) for name in ("position", "position_end")
    )  # fmt: skip
    rejected = tuple(reject for one in blocks for reject in one.rejected)
    batch = table.to_batches()[0] if table.num_rows else blocks[0].batch
    return Block(batch, None, position, end, blocks[0].start, blocks[-1].stop, rejected)
