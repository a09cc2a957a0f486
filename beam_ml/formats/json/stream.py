"""Text of JSON files → the values that are rows, as bytes with their places: one per line, or those of a document.

No more is held than a chunk and one value; a value that is too long is passed over. Offsets count decompressed bytes.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator

import numpy as np

from beam_ml.errors import UnreadableInput
from beam_ml.formats import lines
from beam_ml.formats.json import text as json_text
from beam_ml.formats.json.options import Options
from beam_ml.kernels.json import values as kernel

__all__ = ["HEAD_BYTES", "MAX_BYTES", "Values", "in_document", "in_lines", "is_document"]

MAX_BYTES = 16 << 20
"""A longer value is refused."""
HEAD_BYTES = 1 << 16
"""The beginning of a file, by which its layout is found out."""
_TAIL_BYTES, _AT_ONCE = 1 << 20, 1 << 14
_MARK, _SPACE = b"\xef\xbb\xbf", b" \t\r\n"
_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[")
_INSTANCES = re.compile(rb'(?:\xef\xbb\xbf)?\s*\{\s*"instances"\s*:\s*\[')
_OF_LINES = (".jsonl", ".ndjson", ".jsonlines")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Values that follow one another.

    Attributes:
        texts: each as bytes; b"" where it is too long.
        start, stop: (n,) int64 bounds.
        end: where reading has come to.
    """

    texts: list[bytes]
    start: np.ndarray
    stop: np.ndarray
    end: int


def is_document(path: str, head: bytes, options: Options) -> bool:
    """Return whether a file is one document: by the options, its name, or how it begins.

    >>> from beam_ml.formats.json.options import DEFAULT
    >>> [is_document("a.json", head, DEFAULT) for head in (b'[{"x": 1}]', b'{"x": 1}', b'{"instances": [', b'{')]
    [True, False, True, False]
    """
    if options.layout is not None:
        return options.layout == "document"
    bare = path[: path.rfind(".")] if lines.compression_of(path) else path
    if bare.lower().endswith(_OF_LINES):
        return False
    if _ARRAY.match(head) or _INSTANCES.match(head):
        return True
    first, end, _ = head.removeprefix(_MARK).lstrip(_SPACE).partition(b"\n")
    return bool(end) and first[:1] == b"{" and not json_text.is_one(first.rstrip(_SPACE))


def in_lines(chunks: Iterable[bytes], offset: int) -> Iterator[Values]:
    """Yield the lines that are not blank."""
    for begin, text, end in lines.whole_lines(chunks, offset, MAX_BYTES):
        if not text:
            yield Values([b""], np.array([begin]), np.array([end]), end)
            continue
        mark = len(_MARK) if begin == 0 and text.startswith(_MARK) else 0
        breaks = np.flatnonzero(np.frombuffer(text, np.uint8) == 10) + 1
        stop = breaks if breaks.size and breaks[-1] == len(text) else np.append(breaks, len(text))
        start = np.concatenate([[mark], stop[:-1]])
        texts = [text[a:b].strip(_SPACE) for a, b in zip(start.tolist(), stop.tolist(), strict=True)]
        there = [i for i, one in enumerate(texts) if one]
        yield Values([texts[i] for i in there], start[there] + begin, stop[there] + begin, end)


def in_document(chunks: Iterable[bytes], where: str) -> Iterator[Values]:
    """Yield the values of a document from its beginning.

    Args:
        chunks: all of it.
        where: the source, for messages.

    Raises:
        UnreadableInput: the array is not closed, or something stands between its values, or behind it.
    """
    head, array, tail, left = b"", False, b"", iter(chunks)
    for chunk in left:
        head += chunk
        if len(head) >= HEAD_BYTES:
            break
    found = _ARRAY.match(head) or _INSTANCES.match(head)
    if found is not None:
        array, tail = True, b"" if found[0][-1:] == b"[" and b"{" not in found[0] else b'{"instances":[]'
    at = found.end() if found is not None else len(_MARK) if head.startswith(_MARK) else 0
    scan = _Scan(array, at, where)
    rest: Iterator[bytes] = _chained(head[at:], left)
    for chunk in rest:
        yield from scan.more(chunk)
        if scan.closed:
            break
    yield from scan.last()
    behind = scan.rest
    for chunk in rest:
        behind += chunk if len(behind) <= _TAIL_BYTES else b""
    _check_tail(tail + behind, tail, scan.end, where)


def _chained(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from others


def _check_tail(text: bytes, opening: bytes, at: int, where: str) -> None:
    """Refuse what stands behind an array that is no end of its object, or no white space."""
    try:
        sound = not text.strip(_SPACE) if not opening else len(text) <= _TAIL_BYTES and bool(json.loads(text))
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        message = f"{where} cannot be read as a JSON document: what follows its array at byte {at} does not end it."
        raise UnreadableInput(message)


class _Scan:
    """The values of a document, chunk by chunk."""

    def __init__(self, array: bool, offset: int, where: str) -> None:
        self._array, self._where = array, where
        self._state = np.zeros(len(kernel.STATE), np.int64)
        self._held, self._base, self._at, self._dropped = b"", offset, 0, -1
        self.closed, self.rest, self.end = False, b"", offset

    def more(self, chunk: bytes) -> Iterator[Values]:
        """Yield the values that end in a chunk."""
        text = self._held + chunk
        data, at = np.frombuffer(text, np.uint8), self._at
        room = np.empty((2, min(_AT_ONCE, len(text) + 1)), np.int64)
        while True:
            n, at, why = kernel.bounds(data, at, self._array, self._state, room)
            if n:
                yield self._values(text, room[:, :n].copy(), at)
            if why == kernel.BROKEN:
                message = (
                    f"{self._where} cannot be read as a JSON document: no value or comma is at byte {self._base + at}."
                )
                raise UnreadableInput(message)
            if why == kernel.CLOSED:
                self.closed, self.rest, self.end = True, text[at:], self._base + at
                return
            if n < room.shape[1]:
                break
        inside = self._state[0] >= 3
        begin = int(self._state[4]) if inside else at
        if self._dropped >= 0 or at - begin > MAX_BYTES:
            self._dropped = self._base + begin if self._dropped < 0 else self._dropped
            begin = at
        self._held, self._base, self._at = text[begin:], self._base + begin, at - begin
        self._state[4] -= begin
        self.end = self._base + self._at

    def _values(self, text: bytes, bounds: np.ndarray, at: int) -> Values:
        start, stop = bounds
        texts = [text[a:b] if b - a <= MAX_BYTES else b"" for a, b in zip(start.tolist(), stop.tolist(), strict=True)]
        start, stop = start + self._base, stop + self._base
        if self._dropped >= 0:
            texts[0], start[0], self._dropped = b"", self._dropped, -1
        return Values(texts, start, stop, int(stop[-1]))

    def last(self) -> Iterator[Values]:
        """Yield what stands alone at the end of the text.

        Raises:
            UnreadableInput: the array is not closed.
        """
        if self.closed:
            return
        if self._array:
            message = f"{self._where} cannot be read as a JSON document: it ends at byte {self.end}, within its array."
            raise UnreadableInput(message)
        if self._held or self._dropped >= 0:
            start = self._base if self._dropped < 0 else self._dropped
            yield Values([b"" if self._dropped >= 0 else self._held], np.array([start]), np.array([self.end]), self.end)
