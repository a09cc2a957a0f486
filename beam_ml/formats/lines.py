"""Text cut into records: lines, but for line ends inside quoted fields. Offsets count bytes of the decompressed text.

A quote opens a quoted field only where a field begins, and is closed by the next quote that is not doubled (RFC 4180);
other quotes are text. An unclosed quote damages its own line only. Records tile the text: an empty line
belongs to the record after it, so that a record's place ends where the next one's begins.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from beam_ml.errors import UnreadableInput

__all__ = [
    "Records",
    "chunks",
    "compression_of",
    "cut_points",
    "first_record",
    "header_line",
    "is_text",
    "line_cuts",
    "pieces",
    "records",
    "text_size",
    "whole_lines",
    "whole_records",
]

_CHUNK_BYTES = 4 << 20
_HEAD_BYTES = 1 << 16
_MAX_RECORD_BYTES = 16 << 20
"""A record longer than this is taken for an unclosed quote."""
_NEWLINE, _RETURN, _QUOTE = 10, 13, 34
_MARK = b"\xef\xbb\xbf"
_MOST_RATIO, _LEAST_BOUND = 1_100, 1 << 30
"""Decompressed bytes per byte of a file, above the second number of them: gzip reaches 1,032, and no text in earnest comes
near; of zstd and bzip2 a few KB may hold many GB, which would take hours to pass over."""


def compression_of(path: str) -> str | None:
    """Return ``gzip``, ``zstd`` or ``bz2`` by the file's name, or None."""
    return {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}.get(path[path.rfind(".") :].lower())


def is_text(data: bytes | memoryview) -> bool:
    """Return whether bytes are UTF-8."""
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def chunks(
    path: str, start: int, stop: int | None, chunk_bytes: int | None = None, what: str = "text"
) -> Iterator[bytes]:
    """Return the decompressed bytes from `start` to `stop` (None: the end) in pieces.

    Raises:
        UnreadableInput: a damaged or truncated file, or one that holds far more than its bytes can in earnest; `what` says
            what it cannot be read as.
    """
    compression, width = compression_of(path), chunk_bytes or _CHUNK_BYTES
    try:
        with pa.input_stream(path, compression=compression) if compression else pa.OSFile(path) as stream:
            if not compression:
                stream.seek(start)
            else:
                most = max(_LEAST_BOUND, _MOST_RATIO * os.path.getsize(path))
                for skipped in range(start, 0, -_CHUNK_BYTES):
                    stream.read_buffer(min(skipped, _CHUNK_BYTES))
            # `read` keeps the memory that it has set aside for good where a compressed file is damaged.
            while chunk := stream.read_buffer(width if stop is None else min(width, stop - start)).to_pybytes():
                start += len(chunk)
                if compression and start > most:
                    message = f"{path} cannot be read as {what}: it is compressed and holds more than {most:,} bytes."
                    raise UnreadableInput(message)
                yield chunk
    except (OSError, pa.ArrowException) as error:
        place = f", behind byte {start} of what it decompresses to" if compression else ""
        message = f"{path} cannot be read as {what}: {' '.join(str(error).split()).rstrip('.')}{place}."
        raise UnreadableInput(message) from error
    if stop is not None and start < stop:
        message = f"{path} cannot be read as {what}: it ends at byte {start}, not at byte {stop}."
        raise UnreadableInput(message)


def text_size(path: str, what: str = "text") -> int:
    """Return the number of bytes when decompressed.

    Raises:
        UnreadableInput: a damaged or truncated compressed file.
    """
    return sum(len(chunk) for chunk in chunks(path, 0, None, what=what))


def whole_lines(chunks: Iterable[bytes], offset: int, most: int) -> Iterator[tuple[int, bytes, int]]:
    r"""Yield whole lines as (offset, text, end); one of more than `most` bytes, which is not held, without its text.

    >>> list(whole_lines([b"a\nb", b"c\n", b"d" * 9, b"\n"], 0, 4))
    [(0, b'a\n', 2), (2, b'bc\n', 5), (5, b'', 15)]
    """
    rest, begin = b"", -1
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        rest = b""
        if begin >= 0:
            cut = data.find(b"\n") + 1
            if not cut:
                offset += len(data)
                continue
            yield begin, b"", offset + cut
            offset, data, begin = offset + cut, data[cut:], -1
        whole = data.rfind(b"\n") + 1
        if whole:
            yield offset, data[:whole], offset + whole
        offset, rest = offset + whole, data[whole:]
        if len(rest) > most:
            begin, offset, rest = offset, offset + len(rest), b""
    if begin >= 0:
        yield begin, b"", offset
    elif rest:
        yield offset, rest, offset + len(rest)


def line_cuts(path: str, size: int, target: int, what: str = "text") -> list[int]:
    """Return where to cut a file, in which every line end ends a line, into parts of about `target` bytes.

    Both ends are included. A compressed file is one part, whatever its size.
    """
    cuts = [0]
    while not compression_of(path) and size - cuts[-1] > 2 * target:
        cuts.append(_next_line(path, cuts[-1] + target, size, what))
    return [*cuts, size] if cuts[-1] < size else cuts


def _next_line(path: str, at: int, size: int, what: str) -> int:
    """Return where the first line begins that begins at a place or behind it."""
    at -= 1
    for chunk in chunks(path, at, size, _HEAD_BYTES, what):
        found = chunk.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(chunk)
    return size


def first_record(data: bytes, delimiter: str) -> bytes:
    """Return the first record of a text, its line end and a byte order mark before it included."""
    mark = len(_MARK) if data.startswith(_MARK) else 0
    head = data[mark:_MAX_RECORD_BYTES]
    stop = records(head, delimiter).stop
    return data[: mark + int(stop[0])] if stop.size else data[:mark] + head


def header_line(path: str, delimiter: str) -> bytes:
    """Return the first record of a file, its line end included."""
    _, head = next(pieces(path, 0, None, delimiter, _HEAD_BYTES), (0, b""))
    line = first_record(head, delimiter)
    if b"\r" in line.removesuffix(b"\n").removesuffix(b"\r"):
        message = f"{path} cannot be read as text: its lines must end with \\n or \\r\\n."
        raise UnreadableInput(message)
    return line


def _regular(text: np.ndarray, quotes: np.ndarray, delimiter: int) -> bool:
    """Return whether quotes alternate between ones that begin a field (or double) and ones that end it (or double)."""
    edge = np.zeros(256, dtype=bool)
    edge[[delimiter, _NEWLINE, _RETURN, _QUOTE]] = True
    opening, closing = quotes[0::2], quotes[1::2]
    before, after = text[opening[opening > 0] - 1], text[closing[closing < text.size - 1] + 1]
    return bool(edge[before].all() and edge[after].all())


def _fields(data: bytes, quotes: np.ndarray, delimiter: int) -> tuple[np.ndarray, bool]:
    """Walk along the quotes; return the bounds of the quoted fields, flat, and whether the last one is closed."""
    bounds: list[int] = []
    places, last = quotes.tolist(), len(quotes) - 1
    i = 0
    while i <= last:
        place = places[i]
        i += 1
        if place > 0 and data[place - 1] not in (delimiter, _NEWLINE, _RETURN):
            continue
        while i < last and places[i + 1] == places[i] + 1:
            i += 2
        bounds.append(place)
        if i > last:
            return np.array(bounds, dtype=np.int64), False
        bounds.append(places[i])
        i += 1
    return np.array(bounds, dtype=np.int64), True


def _closing(data: bytes, delimiter: str) -> tuple[np.ndarray, int]:
    """Return the place after each line end outside quoted fields, and where a field never closed begins, or -1."""
    text = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(text == _NEWLINE)
    if b'"' not in data:
        return ends + 1, -1
    quotes = np.flatnonzero(text == _QUOTE)
    if _regular(text, quotes, ord(delimiter)):
        closed, bounds = quotes.size % 2 == 0, quotes
    else:
        bounds, closed = _fields(data, quotes, ord(delimiter))
    ends = ends[np.searchsorted(bounds, ends) % 2 == 0] + 1
    if closed:
        return ends, -1
    # The last opening quote may be half of a doubled one: the field begins in the last record.
    begin = int(ends[-1]) if ends.size else 0
    bounds, _ = _fields(data[begin:], quotes[quotes >= begin] - begin, ord(delimiter))
    return ends, begin + int(bounds[-1])


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Records:
    """The records of a text.

    Attributes:
        start, stop: (n,) int64 bounds; they tile the text. n = 0 where there is nothing but empty lines.
        spoilt: (n,) bool: an unclosed quoted field begins here.
    """

    start: np.ndarray
    stop: np.ndarray
    spoilt: np.ndarray


def records(data: bytes, delimiter: str) -> Records:
    """Cut a text that starts at a record."""
    parts: list[np.ndarray] = []
    spoilt_at: list[int] = []
    begin, unclosed = 0, 0
    while unclosed >= 0 and begin < len(data):
        rest = data[begin:] if begin else data
        ends, unclosed = _closing(rest, delimiter)
        parts.append(ends + begin)
        if unclosed >= 0:  # every later quote is doubled: this happens at most once or twice
            spoilt_at.append(begin + unclosed)
            begin = data.find(b"\n", begin + unclosed) + 1 or len(data)
            parts.append(np.array([begin]))
    ends = np.concatenate([*parts, [len(data)]]).astype(np.int64)
    if ends.size > 1 and ends[-2] == len(data):
        ends = ends[:-1]
    ends = _without_blank(np.frombuffer(data, dtype=np.uint8), ends) if data else ends[:0]
    if ends.size:
        ends[-1] = len(data)
    spoilt = np.zeros(ends.size, dtype=bool)
    spoilt[np.searchsorted(ends, np.array(spoilt_at, dtype=np.int64), side="right")] = True
    return Records(np.concatenate([[0], ends[:-1]]).astype(np.int64) if ends.size else ends, ends, spoilt)


def _unmarked(data: bytes, delimiter: str) -> bytes:
    """Return a file's beginning with its byte order mark as empty fields, so that a quote behind it opens a field."""
    return delimiter.encode() * len(_MARK) + data[len(_MARK) :] if data.startswith(_MARK) else data


def _without_blank(text: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Drop the ends of empty lines."""
    width = np.diff(ends, prepend=0)
    short = np.flatnonzero(width <= 2)
    if short.size == 0:
        return ends
    first, last = text[ends[short] - width[short]], text[ends[short] - 1]
    blank = np.zeros(ends.size, dtype=bool)
    blank[short] = (last == _NEWLINE) & ((width[short] == 1) | (first == _RETURN))
    return ends[~blank]


def whole_records(
    chunks: Iterable[bytes], offset: int, stop: int | None, delimiter: str
) -> Iterator[tuple[int, bytes]]:
    r"""Yield whole records as (offset, text) of a text that comes in pieces; what is left at the end is one, too.

    Args:
        chunks: the text, from a place where a record starts.
        offset: of that place.
        stop: of its end, None: unknown; up to there the last piece is whole.
        delimiter: between fields.

    >>> list(whole_records([b'a,"b', b'\n"\nc,', b"d"], 0, None, ","))
    [(0, b'a,"b\n"\n'), (7, b'c,d')]
    """
    rest = b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        whole = len(data)
        if stop is None or offset + whole < stop:
            if b'"' in data:
                closing, _ = _closing(_unmarked(data, delimiter) if offset == 0 else data, delimiter)
                whole = int(closing[-1]) if closing.size else 0
            else:
                whole = data.rfind(b"\n") + 1
            if whole == 0 and len(data) > _MAX_RECORD_BYTES:
                whole = data.rfind(b"\n") + 1 or len(data)
        if whole:
            yield offset, data[:whole]
        offset, rest = offset + whole, data[whole:]
    if rest:
        yield offset, rest


def pieces(
    path: str, start: int, stop: int | None, delimiter: str, chunk_bytes: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Return the text from `start`, where a record starts, to `stop` (None: the end) as (offset, whole records)."""
    return whole_records(chunks(path, start, stop, chunk_bytes), start, stop, delimiter)


def cut_points(path: str, start: int, stop: int, target_bytes: int, delimiter: str) -> list[int]:
    """Return where to cut the text from `start` to `stop` into parts of about `target_bytes`, both ends included."""
    cuts, goal = [start], start + target_bytes
    if stop - start <= 2 * target_bytes:
        return [start, stop]
    for offset, piece in pieces(path, start, stop, delimiter):
        closing = _closing(piece, delimiter)[0] if b'"' in piece and goal < offset + len(piece) else None
        while goal < min(offset + len(piece), stop - target_bytes):
            if closing is None:
                at = piece.find(b"\n", max(goal - offset - 1, 0)) + 1 or len(piece)
            else:
                i = np.searchsorted(closing, goal - offset)
                at = int(closing[i]) if i < closing.size else len(piece)
            cuts.append(offset + at)
            goal = offset + at + target_bytes
    return [*[cut for cut in cuts if cut < stop], stop]
