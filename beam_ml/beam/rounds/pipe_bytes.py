"""The bytes of a FIFO or of stdin, as they come: each can be read once, and ends when its last writer closes it."""

import abc
import bz2
import os
import select
import stat
import time
import zlib
from collections.abc import Callable
from typing import Any

from beam_ml.beam.job.sources import STDIN, PipeSource
from beam_ml.errors import InvalidValue, NoInput, SourceError, UnreadableInput

__all__ = ["CHUNK", "Pipe", "Stopped", "open_pipe"]

CHUNK = 1 << 16
"""Bytes that are read at once: what a pipe holds by default."""
_LOOK_S = 0.1
"""Between two questions whether to stop."""
_STDIN = 0
_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_BZIP2, _BZIP2_BLOCK, _BZIP2_EMPTY = b"BZh", b"1AY&SY", b"\x17rE8P\x90"
_MARK = 10
"""Bytes at the beginning that show whether a stream is compressed."""


class Stopped(Exception):
    """The run is to end while a pipe is waited for."""


class Pipe:
    """One stream, decompressed where its beginning says that it is compressed.

    Args:
        fd: the open file.
        where: its name, for messages.
    """

    def __init__(self, fd: int, where: str) -> None:
        self._fd, self._where = fd, where
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN | select.POLLHUP)
        self._over, self._begun = False, False
        self._held = b""
        self._codec: _Codec | None = None
        self._came = 0

    def read(self, wait_s: float) -> bytes | None:
        """Return the next bytes, about `CHUNK` at most: empty at the end; None where none come in so many seconds.

        Raises:
            UnreadableInput: damaged or truncated compressed bytes.
        """
        if not self._begun and not self._begins(wait_s):
            return None
        if self._codec is None:
            data, self._held = self._held, b""
            found = data or self._raw(wait_s)
        else:
            found = self._unpacked(self._codec, wait_s)
        self._came += len(found or b"")
        return found

    def _begins(self, wait_s: float) -> bool:
        """Look at the first bytes; False where too few have come."""
        while len(self._held) < _MARK and not self._over:
            data = self._raw(wait_s)
            if data is None:
                return False
            self._held += data
        self._begun = True
        head = self._held
        if head.startswith(_GZIP):
            self._codec = _Gzip()
        elif head.startswith(_BZIP2) and head[4:10] in (_BZIP2_BLOCK, _BZIP2_EMPTY):
            self._codec = _Bzip2()
        elif head.startswith(_ZSTD):
            message = f"{self._where} cannot be read: zstd is not decompressed from a pipe (gzip and bzip2 are)."
            raise UnreadableInput(message)
        return True

    def _raw(self, wait_s: float) -> bytes | None:
        parts, n = list[bytes](), 0
        try:
            while not self._over and n < CHUNK:
                if not self._poll.poll(0 if n else wait_s * 1000):
                    return b"".join(parts) if n else None
                data = os.read(self._fd, CHUNK - n)
                self._over = not data
                parts.append(data)
                n += len(data)
        except BlockingIOError:  # another writer has opened it between the look and the read
            return b"".join(parts) if n else None
        except OSError as error:
            message = f"{self._where} cannot be read: {error.strerror}."
            raise UnreadableInput(message) from error
        return b"".join(parts)

    def _unpacked(self, codec: "_Codec", wait_s: float) -> bytes | None:
        try:
            while True:
                found = codec.take(self._held)
                self._held = b""
                if found:
                    return found
                data = self._raw(wait_s)
                if not data:
                    if data is not None and not codec.whole:
                        message = "it ends within its compressed bytes"
                        raise EOFError(message)
                    return data
                self._held = data
        except (zlib.error, OSError, EOFError, ValueError) as error:
            words = str(error).rstrip(".")
            message = f"{self._where} cannot be read as {codec.name}: {words}, after {self._came:,} decompressed bytes."
            raise UnreadableInput(message) from error

    def close(self) -> None:
        """Close it; what its writer still writes is refused there."""
        if self._fd != _STDIN:
            os.close(self._fd)


class _Codec(abc.ABC):
    """Compressed members that follow one another, taken apart bit by bit."""

    name = ""

    def __init__(self) -> None:
        self._one = self._new()
        self._left = b""
        self._fresh = True

    @property
    def whole(self) -> bool:
        """Whether what has come so far is whole members."""
        return self._fresh and not self._left

    def take(self, data: bytes) -> bytes:
        """Return about `CHUNK` bytes at most of what has come, with `data` behind it; empty: more must come."""
        self._left = self._left + data if self._left else data
        while True:
            if self._fresh:
                self._left = self._left.lstrip(b"\0")  # what tape drives and dd leave behind a member
            if self._fresh and not self._left:
                return b""
            found = self._step()
            if self._one.eof:
                self._left, self._one, self._fresh = self._one.unused_data, self._new(), True
            if found or not (self._fresh and self._left):
                return found

    @abc.abstractmethod
    def _step(self) -> bytes:
        """Decompress some of what is left; return it."""

    @abc.abstractmethod
    def _new(self) -> Any:
        """Return what decompresses one member."""


class _Gzip(_Codec):
    name = "gzip"

    def _new(self) -> Any:
        return zlib.decompressobj(wbits=31)

    def _step(self) -> bytes:
        found: bytes = self._one.decompress(self._left, CHUNK)
        self._left, self._fresh = self._one.unconsumed_tail, False
        return found


class _Bzip2(_Codec):
    name = "bzip2"

    def _new(self) -> Any:
        return bz2.BZ2Decompressor()

    def _step(self) -> bytes:
        found: bytes = self._one.decompress(self._left, CHUNK)
        self._left, self._fresh = b"", False
        return found


def open_pipe(source: PipeSource, epoch: int, stopping: Callable[[], bool]) -> Pipe:
    """Open an epoch's FIFO, once it is there and somebody has written to it or closed it; or stdin.

    Args:
        source: the job's.
        epoch: 0 the first.
        stopping: asked while it is waited for.

    Raises:
        NoInput: there is no FIFO, or nobody writes to it, within `source.timeout`.
        InvalidValue: it is something else than a FIFO.
        SourceError: it may not be read.
        Stopped: the run is to end.
    """
    path = source.path(epoch)
    if source.pipe == STDIN:
        return Pipe(_STDIN, path)
    until = time.monotonic() + source.timeout

    def wait(what: str, seconds: float) -> None:
        if stopping():
            raise Stopped
        if time.monotonic() >= until:
            message = (
                f"{path} must be a FIFO that somebody writes: {what} within {source.timeout:g} s (source.timeout)."
            )
            raise NoInput(message)
        time.sleep(seconds)

    try:
        while not os.path.lexists(path):
            wait("it was not there", _LOOK_S)
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            message = f"source.pipe must be the prefix of FIFOs; {path} is none (files are read by source.path)."
            raise InvalidValue(message)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}."
        raise SourceError(message) from error
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN | select.POLLHUP)
        while not poll.poll(_LOOK_S * 1000):
            wait("nobody did", 0.0)
    except BaseException:
        os.close(fd)
        raise
    return Pipe(fd, path)
