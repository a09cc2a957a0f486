"""JSON files, gzip, zstd and bzip2 included: JSON Lines, and documents. A row's place is the byte offset of its value.

Offsets are those of the decompressed text. A file of lines is cut at line ends, and read by many; a document, whose rows no
byte shows where they begin, is one range, read value by value.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileId
from beam_ml.core.rejects import Reject
from beam_ml.errors import InvalidValue
from beam_ml.formats import files, lines
from beam_ml.formats.block import Block, chosen
from beam_ml.formats.files import FileRange
from beam_ml.formats.json import text as json_text
from beam_ml.formats.json.messages import message_decoder
from beam_ml.formats.json.options import DEFAULT, Options
from beam_ml.formats.json.stream import HEAD_BYTES, MAX_BYTES, Values, in_document, in_lines, is_document
from beam_ml.formats.json.writing import written
from beam_ml.formats.messages import EMPTY, MALFORMED, Decoded, Decoder, Refusal, detail, refusals

__all__ = ["decode", "encode", "ends", "ranges", "read", "write"]

_WHAT = "JSON"
_PIECE_BYTES, _ROWS = 1 << 20, 1 << 16
LONG = f"a row of more than {MAX_BYTES >> 20} MiB"
_SEVERAL = "several rows in one"


def _document(path: str, options: Options) -> bool:
    head = next(iter(lines.chunks(path, 0, None, HEAD_BYTES, _WHAT)), b"")
    return is_document(path, head, options)


def ranges(file: FileId, target_bytes: int, options: Options = DEFAULT) -> list[FileRange]:
    """Cut a file at lines into ranges of about `target_bytes`.

    A compressed one is one range, decompressed to learn its size, and so is a document.

    Raises:
        UnreadableInput: a damaged compressed file.
        InputChanged: the file is not what was listed.
    """
    files.check(file)
    size = lines.text_size(file.path, _WHAT) if lines.compression_of(file.path) else file.size
    document = size > 0 and _document(file.path, options)
    cuts = ([0, size] if size else [0]) if document else lines.line_cuts(file.path, size, target_bytes, _WHAT)
    files.check(file)
    return [FileRange(file.path, file.size, file.mtime_ns, "json", a, b) for a, b in itertools.pairwise(cuts)]


def read(
    piece: FileRange,
    columns: Sequence[str] | None = None,
    max_rows: int = 65_536,
    source: str = "",
    options: Options = DEFAULT,
) -> Iterator[Block]:
    """Read a range in blocks of at most `max_rows` rows; rows that cannot be read are in `Block.rejected`.

    Raises:
        InputChanged: the file is not what the plan saw, before or after reading.
        UnreadableInput: a damaged compressed file, or a document that is damaged between its rows.
        MissingColumn: a column that the form does not have.
    """
    _check_columns(columns, options, piece.path)
    files.check(piece)
    chunks = lines.chunks(piece.path, piece.start, piece.stop, _PIECE_BYTES, _WHAT)
    document = piece.start == 0 and _document(piece.path, options)
    found = in_document(chunks, piece.path) if document else in_lines(chunks, piece.start)
    yield from _blocks(found, piece.start, piece.stop, columns, options, max_rows, Origin(source, piece.path))
    files.check(piece)


def ends(chunks: Iterable[bytes], offset: int, where: str, options: Options = DEFAULT) -> Iterator[int]:
    r"""Yield, as the pieces of a stream come, the places up to which it is whole lines.

    Args:
        chunks: the stream's bytes from a place where a line begins.
        offset: of that place.
        where: the stream, for messages.
        options: the format's own.

    Raises:
        InvalidValue: `options.layout` is that of a document.

    >>> list(ends([b'{"x": 1}\n{"x"', b": 2}\n"], 0, "stdin"))
    [9, 18]
    """
    if options.layout == "document":
        message = f"{where} must be JSON Lines, of which each is a row; options.layout is 'document'."
        raise InvalidValue(message)
    for _, _, end in lines.whole_lines(chunks, offset, MAX_BYTES):
        yield end


def _check_columns(columns: Sequence[str] | None, options: Options, where: str) -> None:
    if options.record_columns:
        chosen(columns, options.record_columns, where)


def _blocks(
    found: Iterable[Values], begin: int, stop: int, columns: Sequence[str] | None, options: Options, max_rows: int,
    origin: Origin | None,
) -> Iterator[Block]:  # fmt: skip
    """Decode values; the blocks tile [begin, stop)."""
    decode = message_decoder(options.to_dict())
    for some in found:
        for i in range(0, len(some.texts), max_rows):
            group = slice(i, i + max_rows)
            end = int(some.stop[group][-1])
            yield _block(some, group, columns, options, decode).replace(origin=origin, start=begin, stop=end)
            begin = end
    if begin < stop:
        none, empty = np.empty(0, np.int64), _named(decode, [], columns, options).batch
        yield Block(empty, origin, none, none, begin, stop)


def _block(
    some: Values, group: slice, columns: Sequence[str] | None, options: Options, decode: Decoder
) -> Block:  # fmt: skip
    texts, start, stop = some.texts[group], some.start[group], some.stop[group]
    objects = [i for i, one in enumerate(texts) if one[:1] == b"{"]
    refused: list[Refusal] = []
    if len(objects) < len(texts):
        other = sorted(set(range(len(texts))) - set(objects))
        refused = [(MALFORMED, i, -1, detail(texts[i], "no object")) if texts[i] else (LONG, i, -1, "") for i in other]
    found = _single(_named(decode, [texts[i] for i in objects], columns, options), len(objects))
    of = np.array(objects, np.int64)
    rejects = [(one.reason, of[one.message], one.detail) for one in found.refused]
    rejects += [(one.reason, one.message, one.detail) for one in refusals(refused)]
    rows = of[found.message]
    return Block(
        found.batch, None, start[rows], stop[rows], 0, 0,
        tuple(Reject(why, start[at], stop[at], words) for why, at, words in sorted(rejects, key=lambda one: one[0])),
    )  # fmt: skip


def _named(decode: Decoder, texts: list[bytes], columns: Sequence[str] | None, options: Options) -> Decoded:
    """Decode objects; where all columns are wanted, those that they have, one within another by its path."""
    values = pa.array(texts, pa.binary())
    if columns is not None or options.record_columns or options.envelope != "none":
        return decode(values, columns)
    names = dict.fromkeys(name for one in texts for name in _names(one) if json_text.is_text(name))
    return decode(values, [*names, *(name for name in options.types if name not in names)])


def _names(text: bytes) -> Iterator[str]:
    try:
        (row,) = json_text.values(text)
    except ValueError:
        return
    if isinstance(row, dict):
        yield from json_text.names(row)


def _single(found: Decoded, n: int) -> Decoded:
    """Refuse values that are several rows, or none."""
    rows = np.bincount(found.message, minlength=n)
    listed = np.zeros(n, bool)
    for one in found.refused:
        listed[one.message] = True
    more = np.flatnonzero((rows > 1) | (listed & (rows > 0)))
    none = np.flatnonzero((rows == 0) & ~listed)
    if not more.size and not none.size and sum(len(one.message) for one in found.refused) == np.count_nonzero(listed):
        return found
    kept = ~np.isin(found.message, more)
    refused = [(_SEVERAL, int(i), -1, "") for i in more] + [(EMPTY, int(i), -1, "") for i in none]
    taken = set(more.tolist())
    for one in found.refused:
        for k, i in enumerate(one.message.tolist()):
            if i not in taken:
                taken.add(i)
                refused.append((one.reason, i, -1, one.detail[k] if one.detail else ""))
    return Decoded(found.batch.filter(pa.array(kept)), found.message[kept], found.row[kept], refusals(refused))


def write(path: str, batches: Iterable[pa.RecordBatch], options: Options = DEFAULT) -> None:
    """Write batches as one file, whole or not at all; compressed as its name ends (``.gz``, ``.zst``, ``.bz2``).

    A document where `options.layout` or a name that ends in .json says so: an array of rows, of instances an object with
    them; else a row per line.

    Raises:
        MissingColumn, InvalidValue: columns that the form does not have, or that have no JSON equal.
    """
    with files.writing(path) as out:
        for text in _texts(batches, options, is_document(path, b"[", options)):
            out.write(text)


def _texts(batches: Iterable[pa.RecordBatch], options: Options, document: bool) -> Iterator[bytes]:
    opening, closing = (b'{"instances":[', b"]}\n") if options.record_columns else (b"[", b"]\n")
    first = True
    for batch in batches:
        for some in written(batch, options):
            long = max(map(len, some), default=0)
            if long > MAX_BYTES:
                message = f"Rows of JSON must have at most {MAX_BYTES} bytes; got {long}."
                raise InvalidValue(message)
            if not document:
                yield b"".join(one + b"\n" for one in some)
            elif some:
                yield (opening + b"\n" if first else b",\n") + b",\n".join(some)
                first = False
    if document:
        yield (opening if first else b"\n") + closing


def encode(batch: pa.RecordBatch, options: Options = DEFAULT) -> bytes:
    r"""Return the text of a file that holds one batch: JSON Lines, unless `options.layout` says otherwise.

    >>> encode(pa.record_batch({"x": [1, 2]}))
    b'{"x":1}\n{"x":2}\n'
    """
    return b"".join(_texts([batch], options, options.layout == "document"))


def decode(data: bytes, columns: Sequence[str] | None = None, options: Options = DEFAULT) -> Block:
    r"""Return the rows of uncompressed text held in memory; places are byte offsets in it.

    Raises:
        UnreadableInput: a document that is damaged between its rows.
        MissingColumn: a column that the form does not have.

    >>> decode(b'{"x": 1, "y": {"z": "a"}}\n{"x": 2}\n').batch.to_pydict()
    {'x': [1, 2], 'y.z': ['a', None]}
    """
    where = f"<{len(data)} bytes>"
    _check_columns(columns, options, where)
    document = is_document("", data[:HEAD_BYTES], options)
    chunks = (data[i : i + _PIECE_BYTES] for i in range(0, len(data), _PIECE_BYTES))
    found = list(in_document(chunks, where) if document else in_lines(chunks, 0))
    texts = [text for some in found for text in some.texts]
    none = [np.empty(0, np.int64)]
    start, stop = (np.concatenate([*none, *(getattr(one, name) for one in found)]) for name in ("start", "stop"))
    whole = [Values(texts, start, stop, len(data))] if texts else []
    blocks = list(_blocks(whole, 0, len(data), columns, options, max(1, len(texts)), None))
    if blocks:
        return blocks[0].replace(stop=len(data))
    return Block(_named(message_decoder(options.to_dict()), [], columns, options).batch, None, none[0], none[0], 0, 0)
