"""Text cut into records: lines, but for line ends inside quotes. Offsets count bytes of the decompressed text.

A line end closes a record when the number of quotes before it is even (RFC 4180: a quote inside a quoted field is
doubled). A stray quote can only glue lines together; they are then cut at every line end, and the parser judges each.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from beam_ml.errors import UnreadableInput

__all__ = ["compression_of", "cut_points", "first_record", "header_line", "pieces", "records", "text_size"]

_CHUNK_BYTES = 4 << 20
_MAX_RECORD_BYTES = 16 << 20
"""A record longer than this is taken for a stray quote."""
_NEWLINE, _RETURN, _QUOTE = 10, 13, 34


def compression_of(path: str) -> str | None:
    """Give ``gzip`` or ``zstd`` by the file's name, or None."""
    return {".gz": "gzip", ".zst": "zstd"}.get(path[path.rfind(".") :].lower())


def _fault(path: str, error: Exception) -> UnreadableInput:
    message = f"{path} cannot be read as text: {' '.join(str(error).split()).rstrip('.')}."
    return UnreadableInput(message)


def _chunks(path: str, start: int, stop: int | None, chunk_bytes: int = _CHUNK_BYTES) -> Iterator[bytes]:
    """Give the bytes from `start` to `stop` (None: the end) in pieces."""
    compression = compression_of(path)
    try:
        with pa.input_stream(path, compression=compression) if compression else pa.OSFile(path) as stream:
            if not compression:
                stream.seek(start)
            else:
                for skipped in range(start, 0, -_CHUNK_BYTES):
                    stream.read(min(skipped, _CHUNK_BYTES))
            while chunk := stream.read(chunk_bytes if stop is None else min(chunk_bytes, stop - start)):
                start += len(chunk)
                yield chunk
    except (OSError, pa.ArrowException) as error:
        raise _fault(path, error) from error
    if stop is not None and start < stop:
        message = f"{path} cannot be read as text: it ends at byte {start}, not at byte {stop}."
        raise UnreadableInput(message)


def text_size(path: str) -> int:
    """Give the number of bytes of decompressed text.

    Raises:
        UnreadableInput: a damaged or truncated compressed file.
    """
    return sum(len(chunk) for chunk in _chunks(path, 0, None))


def header_line(path: str) -> bytes:
    """Give the first record, its line end included."""
    line = first_record(next(_chunks(path, 0, None), b""))
    if b"\r" in line.removesuffix(b"\n").removesuffix(b"\r"):
        message = f"{path} cannot be read as text: its lines must end with \\n or \\r\\n."
        raise UnreadableInput(message)
    return line


def first_record(data: bytes) -> bytes:
    """Give the first record of a text, its line end included."""
    _, stop = records(data[:_MAX_RECORD_BYTES])
    return data[: int(stop[0])] if stop.size else data[:_MAX_RECORD_BYTES]


def _closing(data: bytes) -> np.ndarray:
    """Give the place after each line end that is not inside quotes."""
    text = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(text == _NEWLINE)
    if b'"' in data:
        quotes = np.flatnonzero(text == _QUOTE)
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return ends + 1


def records(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Give where each record starts and stops; together they tile `data`, empty lines going to the record after them.

    Args:
        data: text that starts at a record.

    Returns:
        Two (n,) int64 arrays; n = 0 where there is nothing but empty lines.
    """
    ends = _closing(data)
    done = int(ends[-1]) if ends.size else 0
    if done < len(data):
        tail = np.frombuffer(data, dtype=np.uint8)[done:]
        inside = np.flatnonzero(tail == _NEWLINE) + 1 + done  # only a stray quote leaves line ends here
        ends = np.concatenate([ends, inside, [] if data.endswith(b"\n") else [len(data)]]).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    width = ends - starts
    blank = width == 1
    pairs = np.flatnonzero(width <= 2)
    if pairs.size:
        text = np.frombuffer(data, dtype=np.uint8)
        closed = text[ends[pairs] - 1] == _NEWLINE
        blank[pairs] = closed & ((width[pairs] == 1) | (text[starts[pairs]] == _RETURN))
    ends = ends[~blank]
    if ends.size:
        ends[-1] = len(data)
    return np.concatenate([[0], ends[:-1]]).astype(np.int64) if ends.size else ends, ends


def pieces(path: str, start: int, stop: int | None, chunk_bytes: int = _CHUNK_BYTES) -> Iterator[tuple[int, bytes]]:
    """Give the text from `start`, a record's first byte, to `stop` (None: the end) as (offset, whole records)."""
    offset, rest = start, b""
    for chunk in _chunks(path, start, stop, chunk_bytes):
        data = rest + chunk
        whole = len(data)
        if stop is None or offset + whole < stop:
            closing = _closing(data)
            whole = int(closing[-1]) if closing.size else 0
            if whole == 0 and len(data) > _MAX_RECORD_BYTES:
                whole = data.rfind(b"\n") + 1 or len(data)
        if whole:
            yield offset, data[:whole]
        offset, rest = offset + whole, data[whole:]
    if rest:
        yield offset, rest


def cut_points(path: str, start: int, stop: int, target_bytes: int) -> list[int]:
    """Give where to cut the text from `start` to `stop` into parts of about `target_bytes`, both ends included."""
    cuts, offset, even, goal = [start], start, True, start + target_bytes
    if stop - start <= 2 * target_bytes:
        return [start, stop]
    for chunk in _chunks(path, start, stop):
        done = 0
        while goal < offset + len(chunk) and goal < stop - target_bytes:
            at = chunk.find(b"\n", max(goal - offset - 1, done))
            if at < 0:
                break
            even ^= bool(chunk.count(b'"', done, at) % 2)
            done = at + 1
            if even:
                cuts.append(offset + done)
                goal = offset + done + target_bytes
        even ^= bool(chunk.count(b'"', done) % 2)
        offset += len(chunk)
    return [*cuts, stop]
