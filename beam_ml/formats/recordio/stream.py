"""The frames of a stream of bytes → payloads. Offsets count decompressed bytes.

A frame is found from the one before it alone: payloads may hold the magic number, so that it does not show where one begins.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from beam_ml.errors import UnreadableInput
from beam_ml.formats.recordio.records import BROKEN, LONG, MAX_BYTES
from beam_ml.kernels.recordio import frames as kernel

__all__ = ["Frames", "frames"]

_AT_ONCE = 1 << 16
"""Records that are looked at together."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Records that follow one another.

    Attributes:
        data: uint8 with their payloads.
        offset: (n,) int64 where each begins in the stream, with its frames.
        end: (n,) int64 where it ends there.
        start, size: (n,) int64 where its payload begins in `data`, and its bytes.
        fault: reason → records without payload that can be read.
    """

    data: np.ndarray
    offset: np.ndarray
    end: np.ndarray
    start: np.ndarray
    size: np.ndarray
    fault: dict[str, np.ndarray]


def _of(data: np.ndarray, base: int, found: np.ndarray) -> Frames:
    begin, end, start, size, form = found.copy()
    broken = np.flatnonzero(form == kernel.BROKEN)
    size[broken] = 0
    split = np.flatnonzero(form == kernel.SPLIT)
    if split.size:
        data, start = _joined(data, begin, end, start, size, split)
    return Frames(data, begin + base, end + base, start, size, {BROKEN: broken} if broken.size else {})


def _joined(
    data: np.ndarray, begin: np.ndarray, end: np.ndarray, start: np.ndarray, size: np.ndarray, split: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the payloads one behind the other, those of split records joined, and where each begins."""
    parts, is_split = [], set(split.tolist())
    magic = kernel.MAGIC.to_bytes(4, "little")
    for i in range(len(start)):
        if i not in is_split:
            parts.append(data[start[i] : start[i] + size[i]].tobytes())
            continue
        pieces, at = [], int(begin[i])
        while at < end[i]:
            n = int.from_bytes(data[at + 4 : at + 8].tobytes(), "little") & 0x1FFFFFFF
            pieces.append(data[at + 8 : at + 8 + n].tobytes())
            at += 8 + n + (-n & 3)
        parts.append(magic.join(pieces))
    starts = np.cumsum([0, *map(len, parts)])[:-1].astype(np.int64)
    return np.frombuffer(b"".join(parts), np.uint8), starts


def frames(chunks: Iterable[bytes], offset: int, stop: int, where: str, most: int = MAX_BYTES) -> Iterator[Frames]:
    """Yield the records between two offsets, at both of which a record begins or the stream ends.

    Args:
        chunks: the bytes from `offset` to `stop`.
        offset: where the first one begins in the stream.
        stop: where the last one ends.
        where: the source, for messages.
        most: bytes of a record with its frames; a longer one is passed over unread.

    Raises:
        UnreadableInput: what follows a record is no frame, or one that the stream ends within.
    """
    rest, skip = b"", 0
    for chunk in chunks:
        if skip:
            passed = min(skip, len(chunk))
            skip, chunk = skip - passed, chunk[passed:]
            if not chunk:
                continue
        rest = rest + chunk if rest else chunk
        data, at = np.frombuffer(rest, np.uint8), 0
        while True:
            found = np.empty((len(kernel.COLUMNS), min(_AT_ONCE, len(rest) // 8 + 1)), np.int64)
            n, done, why, end = kernel.index(data, at, len(data), most, found)
            if n:
                yield _of(data, offset, found[:, :n])
            at = done
            if why == kernel.NO_FRAME:
                message = f"{where} cannot be read as RecordIO: no record begins at byte {offset + end}."
                raise UnreadableInput(message)
            if end + offset > stop:
                message = f"{where} cannot be read as RecordIO: the record at byte {offset + at} is cut off."
                raise UnreadableInput(message)
            if why == kernel.LONG:
                yield _long(offset + at, offset + end)
                skip = max(0, end - len(data))
                at = min(end, len(data))
                if not skip:
                    continue
                break
            if n < found.shape[1]:
                break
        rest, offset = rest[at:], offset + at
        if skip:
            offset += skip
    if rest:  # parts whose last one never came
        nothing, place = np.zeros(1, np.int64), np.array([offset], np.int64)
        none = np.empty(0, np.uint8)
        yield Frames(none, place, place + len(rest), nothing, nothing, {BROKEN: np.array([0])})


def _long(offset: int, end: int) -> Frames:
    nothing = np.zeros(1, np.int64)
    return Frames(
        np.empty(0, np.uint8), np.array([offset]), np.array([end]), nothing, nothing, {LONG: np.array([0])}
    )  # fmt: skip
