"""Rows of a log in shares by a hash of their id, on disk: one share at a time fits into memory."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from beam_ml.core.mixing import GOLDEN, mix64
from beam_ml.features.hashing import codes_of
from beam_ml.formats.arrow_bytes import from_stream, to_stream

__all__ = ["FAN", "ID", "Shares"]

FAN = 64
"""Shares that rows are cut into, at most."""
ID = "\0id"
"""Column of the ids, as texts: no column of a file is called so."""
_LENGTH = struct.Struct(">Q")


class Shares:
    """The shares of one log, files in a folder; a share may be cut again.

    Args:
        folder: for its files, which must not be there yet.
        level: how often the rows have been cut before: each level cuts by another hash.
        n: how many shares.
    """

    def __init__(self, folder: Path, level: int = 0, n: int = FAN) -> None:
        folder.mkdir(parents=True)
        self._folder, self.level = folder, level
        self._names = [folder / str(number) for number in range(n)]

    def __len__(self) -> int:
        return len(self._names)

    def add(self, rows: pa.RecordBatch) -> None:
        """Add rows to the files of their shares."""
        share = _shares(rows, self.level, len(self))
        order = np.argsort(share, kind="stable")
        cut = rows.take(pa.array(order))
        ends = np.searchsorted(share[order], np.arange(len(self) + 1))
        for number in np.unique(share).tolist():
            piece = cut.slice(int(ends[number]), int(ends[number + 1] - ends[number]))
            data = to_stream(piece)
            with open(self._names[number], "ab") as stream:
                stream.write(_LENGTH.pack(data.size))
                stream.write(data.data)

    def size(self, number: int) -> int:
        """Return the bytes of a share."""
        return self._names[number].stat().st_size if self._names[number].exists() else 0

    def read(self, number: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a share, in the order in which they came."""
        if not self._names[number].exists():
            return
        with open(self._names[number], "rb") as stream:
            while head := stream.read(_LENGTH.size):
                data = stream.read(_LENGTH.unpack(head)[0])
                yield from_stream(np.frombuffer(data, dtype=np.uint8), "share")

    def again(self, number: int, n: int) -> "Shares":
        """Return a share cut into n shares, and remove its file."""
        finer = Shares(self._folder / f"{number}-again", self.level + 1, n)
        for rows in self.read(number):
            finer.add(rows)
        self.remove(number)
        return finer

    def remove(self, number: int) -> None:
        """Remove a share's file."""
        if self._names[number].exists():
            os.unlink(self._names[number])


def _shares(rows: pa.RecordBatch, level: int, n: int) -> np.ndarray:
    codes, _ = codes_of(rows.select([ID]), ID, "--id")
    with np.errstate(over="ignore"):
        mixed = mix64(codes + np.uint64(level + 1) * GOLDEN)
    return (mixed % np.uint64(n)).astype(np.int64)
