r"""libsvm text, gzip, zstd and bzip2 included. A row's place is the byte offset of its line in the decompressed text.

Lines end with ``\n`` or ``\r\n``. Lines of blanks or of a comment alone are no rows: their places are counted without any.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileId
from beam_ml.core.rejects import Reject
from beam_ml.formats import files, lines
from beam_ml.formats.block import Block, chosen
from beam_ml.formats.files import FileRange
from beam_ml.formats.libsvm import text as libsvm_text
from beam_ml.formats.libsvm.text import COLUMNS, DEFAULT, LONG, Options, Rows, joined, parse, schema
from beam_ml.formats.libsvm.writing import written
from beam_ml.formats.messages import detail

__all__ = ["decode", "encode", "ends", "ranges", "read", "write"]

_WHAT = "libsvm text"
_MARK = b"\xef\xbb\xbf"
_PIECE_BYTES, _ROWS = 1 << 20, 1 << 16


def ranges(file: FileId, target_bytes: int, options: Options = DEFAULT) -> list[FileRange]:
    """Cut a file at lines into ranges of about `target_bytes`.

    A compressed one is one range, decompressed to learn its size.

    Raises:
        UnreadableInput: a damaged compressed file.
        InputChanged: the file is not what was listed.
    """
    files.check(file)
    size = lines.text_size(file.path, _WHAT) if lines.compression_of(file.path) else file.size
    cuts = lines.line_cuts(file.path, size, target_bytes, _WHAT)
    files.check(file)
    return [FileRange(file.path, file.size, file.mtime_ns, "libsvm", a, b) for a, b in itertools.pairwise(cuts)]


def ends(chunks: Iterable[bytes], offset: int, where: str, options: Options = DEFAULT) -> Iterator[int]:
    """Yield, as the pieces of a stream come, the places up to which it is whole lines.

    Args:
        chunks: the stream's bytes from a place where a line begins.
        offset: of that place.
        where: the stream, for messages.
        options: the format's own.
    """
    for _, _, end in lines.whole_lines(chunks, offset, libsvm_text.MAX_BYTES):
        yield end


def _blocks(
    chunks: Iterable[bytes], begin: int, stop: int, columns: tuple[str, ...], options: Options, max_rows: int,
    origin: Origin | None,
) -> Iterator[Block]:  # fmt: skip
    """Decode text; the blocks tile [begin, stop)."""
    none = np.empty(0, np.int64)
    empty = pa.RecordBatch.from_pylist([], schema=schema(columns))
    for offset, text, end in lines.whole_lines(chunks, begin, libsvm_text.MAX_BYTES):
        if not text:
            reject = Reject(LONG, np.array([offset]), np.array([end]), ("",))
            yield Block(empty, origin, none, none, begin, end, (reject,))
            begin = end
            continue
        mark = len(_MARK) if offset == 0 and text.startswith(_MARK) else 0
        for rows in parse(text, columns, options, max_rows, mark):
            yield _block(rows, text, offset, begin, origin)
            begin = offset + rows.end
    if begin < stop:
        yield Block(empty, origin, none, none, begin, stop)


def _block(rows: Rows, text: bytes, offset: int, begin: int, origin: Origin | None) -> Block:
    rejected = []
    for reason, at in sorted(rows.refused.items()):
        start, stop = rows.start[at], rows.stop[at]
        shown = tuple(detail(text[a:b].rstrip(b"\r\n")) for a, b in zip(start.tolist(), stop.tolist(), strict=True))
        rejected.append(Reject(reason, start + offset, stop + offset, shown))
    start, stop = rows.start[rows.good], rows.stop[rows.good]
    return Block(
        rows.batch, origin, start + offset, stop + offset, begin, offset + rows.end, tuple(rejected)
    )  # fmt: skip


def read(
    piece: FileRange,
    columns: Sequence[str] | None = None,
    max_rows: int = 65_536,
    source: str = "",
    options: Options = DEFAULT,
) -> Iterator[Block]:
    """Read a range in blocks of at most `max_rows` rows; lines that cannot be read are in `Block.rejected`.

    Raises:
        InputChanged: the file is not what the plan saw, before or after reading.
        UnreadableInput: a damaged compressed file.
        MissingColumn: a column is not there.
    """
    names = chosen(columns, COLUMNS, piece.path)
    files.check(piece)
    chunks = lines.chunks(piece.path, piece.start, piece.stop, _PIECE_BYTES, _WHAT)
    yield from _blocks(chunks, piece.start, piece.stop, names, options, max_rows, Origin(source, piece.path))
    files.check(piece)


def write(path: str, batches: Iterable[pa.RecordBatch], options: Options = DEFAULT) -> None:
    """Write batches as one file, whole or not at all; compressed as its name ends (``.gz``, ``.zst``, ``.bz2``).

    Raises:
        MissingColumn, InvalidValue: columns that lines do not have, or rows that do not fit into one.
    """
    with files.writing(path) as out:
        for batch in batches:
            for some in written(batch, options):
                out.write(b"".join(some))


def encode(batch: pa.RecordBatch, options: Options = DEFAULT) -> bytes:
    r"""Return the text of a file that holds one batch.

    >>> encode(pa.record_batch({"features": [[0.5, 0.0, 2.0]], "label": [1]}))
    b'1 1:0.5 3:2\n'
    """
    return b"".join(line for some in written(batch, options) for line in some)


def decode(data: bytes, columns: Sequence[str] | None = None, options: Options = DEFAULT) -> Block:
    r"""Return the rows of uncompressed text held in memory; places are byte offsets in it.

    Raises:
        MissingColumn: a column is not there.

    >>> decode(b"1 qid:7 1:0.5 3:2 # first\n-1\n", ["label", "features", "qid"]).batch.to_pydict()
    {'label': [1.0, -1.0], 'features': [[(0, 0.5), (2, 2.0)], []], 'qid': [7, None]}
    """
    names = chosen(columns, COLUMNS, f"<{len(data)} bytes>")
    chunks = (data[i : i + _PIECE_BYTES] for i in range(0, len(data), _PIECE_BYTES))
    blocks = list(_blocks(chunks, 0, len(data), names, options, _ROWS, None))
    if len(blocks) == 1:
        return blocks[0]
    none = np.empty(0, np.int64)
    position, end = (
        np.concatenate([none, *(getattr(one, name) for one in blocks)]) for name in ("position", "position_end")
    )  # fmt: skip
    rejected = tuple(reject for one in blocks for reject in one.rejected)
    batch = joined([one.batch for one in blocks], names)
    return Block(batch, None, position, end, 0, len(data), rejected)
