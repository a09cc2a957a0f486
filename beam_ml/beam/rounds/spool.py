"""What was read of a pipe and is not learned yet: in a file, at the places that the bytes have in their stream.

A round reads it as any file. Its beginning is that of the stream, which says what columns there are; between the two is a
hole. Written in order of place, the file is as good as its length after a kill at any instant.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from beam_ml import formats
from beam_ml.core.cursors import FileId
from beam_ml.errors import InvalidValue, SourceUnavailable

__all__ = ["HEAD", "Spool", "locked"]

HEAD = 2 << 20
"""Bytes of the beginning of a stream that stay with it: as many as any format looks at."""
_ENDED = ".ended"


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"source.spool must be a folder that can be written; got {path}: {error.strerror}."
        raise InvalidValue(message) from error


def locked(folder: Path, where: str) -> int:
    """Make a folder that one process at a time uses; return the open lock.

    Raises:
        SourceUnavailable: another one does.
        InvalidValue: it cannot be made.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        message = f"{where} must be read by one run of the job at a time; another one has locked {folder}."
        raise SourceUnavailable(message) from error
    return lock


class Spool:
    """The bytes from `start` to `stop` of one stream, and its first ones.

    Args:
        path: of the file; `begin` and `found` make it.
        start: where the bytes begin that are not learned.
        stop: how far the stream has been read.
        head: its beginning, `HEAD` bytes at most.

    Attributes:
        ended: the stream ends at `stop`.
    """

    def __init__(self, path: Path, start: int, stop: int, head: bytes) -> None:
        self.path, self.start, self.stop, self.head, self.ended = path, start, stop, head, False
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    @classmethod
    def begin(cls, stem: Path, ending: str, start: int = 0, head: bytes = b"") -> Self:
        """Begin a file in a folder that may not be there yet.

        Args:
            stem: its path without place and ending.
            ending: of the format's files.
            start: the first byte's place.
            head: what comes before it, `HEAD` bytes at most.

        Raises:
            InvalidValue: it cannot be written.
        """
        path = stem.with_name(f"{stem.name}.{start}{ending}")
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.unlink(missing_ok=True)
            _mark(path).unlink(missing_ok=True)
            made = cls(path, start, start, head)
            _write(made._fd, head, 0)
        return made

    @classmethod
    def found(cls, stem: Path, ending: str, place: int) -> Self | None:
        """Return what an earlier run has left of a stream that is learned up to `place`; drop what is of no more use."""
        useful, name = list[tuple[int, int, Path]](), re.compile(re.escape(stem.name) + r"\.(\d+)" + re.escape(ending))
        for path in sorted(stem.parent.iterdir()) if stem.parent.is_dir() else ():
            match = name.fullmatch(path.name)
            if match is None:
                continue
            start, stop = int(match[1]), path.stat().st_size
            if start <= place <= stop and (stop > place or _mark(path).exists()) and (stop > start or not start):
                useful.append((stop, start, path))
            else:
                path.unlink()
        if not useful:
            return None
        stop, start, path = max(useful)
        with path.open("rb") as file:
            found = cls(path, start, stop, file.read(HEAD))
        found.ended = _mark(path).exists()
        return found

    def end(self) -> None:
        """Note that the stream ends here."""
        with _writing(self.path):
            _mark(self.path).touch()
        self.ended = True

    def append(self, data: bytes) -> None:
        """Write the bytes that come next.

        Raises:
            InvalidValue: they cannot be written.
        """
        with _writing(self.path):
            _write(self._fd, data, self.stop)
        self.stop += len(data)
        if len(self.head) < HEAD:
            self.head += data[: HEAD - len(self.head)]

    def read(self, place: int, most: int) -> bytes:
        """Return bytes from a place on."""
        return os.pread(self._fd, min(most, self.stop - place), place)

    def identity(self) -> FileId:
        """Return the file as it now is, for a round to read; it is on disk before its rows count."""
        with _writing(self.path):
            os.fsync(self._fd)
        return formats.stat(str(self.path))

    def moved_on(self, stem: Path, ending: str, place: int) -> "Spool":
        """Return a file of what lies behind a place, and remove this one."""
        rest = Spool.begin(stem, ending, place, self.head[:place])
        for at in range(place, self.stop, HEAD):
            rest.append(self.read(at, HEAD))
        if self.ended:
            rest.end()
        self.drop()
        return rest

    def close(self) -> None:
        """Close the file, which stays."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def drop(self) -> None:
        """Remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)
        _mark(self.path).unlink(missing_ok=True)


def _mark(path: Path) -> Path:
    """Return the path of the empty file that says that the stream ends with a spool."""
    return path.with_name(path.name + _ENDED)


def _write(fd: int, data: bytes, place: int) -> None:
    left = memoryview(data)
    while left:
        n = os.pwrite(fd, left, place)
        left, place = left[n:], place + n
