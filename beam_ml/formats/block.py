"""`Block`: decoded rows, still columns with names, and where each row came from."""

import dataclasses
import itertools
import reprlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.rejects import Reject
from beam_ml.errors import MissingColumn
from beam_ml.formats.plain import plain_rows

__all__ = ["Block", "chosen"]

_SHOWN = 5
"""Rows that are shown of a block."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
"""How long the values are that are shown."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)
class Block:
    """Rows of one origin. Reading a range yields blocks whose spans tile the range exactly.

    Attributes:
        batch: n rows as named columns.
        origin: the source and file that they came from, or None.
        position: (n,) int64 place of each row within its origin, rising; None if unknown.
        position_end: (n,) int64 where each place ends, or None: + 1.
        start, stop: the span of places that this block accounts for, its rejects (and blank lines) included.
        rejected: rows that could not be decoded, by reason.
        recorded: (n,) int64 when each row was recorded, µs since the epoch (a message's timestamp), or None.

    >>> print(Block(pa.record_batch({"x": [1.0, 2.0]}), Origin("files", "a.csv"), np.array([0, 4])))
    Block of 2 rows from files a.csv
      at 0: x=1.0
      at 4: x=2.0
    """

    batch: pa.RecordBatch
    origin: Origin | None = None
    position: np.ndarray | None = None
    position_end: np.ndarray | None = None
    start: int = 0
    stop: int = 0
    rejected: tuple[Reject, ...] = ()
    recorded: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def __repr__(self) -> str:
        """Return its size, its first rows by place, and how many more and how many rejects there are."""
        origin = "" if self.origin is None else f" from {self.origin.source} {self.origin.partition}"
        lines = [f"Block of {len(self):,} rows{origin}"]
        for i, row in enumerate(plain_rows(self.batch.slice(0, _SHOWN))):
            place = f"row {i}" if self.position is None else f"at {self.position[i]}"
            lines.append(f"  {place}: " + ", ".join(f"{name}={_SHORT.repr(value)}" for name, value in row.items()))
        if len(self) > _SHOWN:
            lines.append(f"  … {len(self) - _SHOWN:,} more")
        lines += [f"  {len(reject):,} rejected: {reject.reason}" for reject in self.rejected]
        return "\n".join(lines)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts of plain values, by column; times that Python has no year for are numbers.

        >>> Block(pa.record_batch({"x": [1.0, 2.0]})).to_dicts()
        [{'x': 1.0}, {'x': 2.0}]
        """
        return plain_rows(self.batch)

    @property
    def scanned(self) -> int:
        """The number of rows and rejects."""
        return len(self) + sum(len(reject) for reject in self.rejected)

    def pieces(self, rows: int) -> Iterator["Block"]:
        """Yield blocks of at most so many rows whose spans tile this one's; its rejects are the first one's.

        >>> block = Block(pa.record_batch({"x": [1, 2, 3]}), None, np.array([0, 4, 8]), None, 0, 12)
        >>> [(len(one), one.start, one.stop) for one in block.pieces(2)]
        [(2, 0, 8), (1, 8, 12)]
        """
        if len(self) <= rows or self.position is None:
            yield self
            return
        cuts = [self.start, *self.position[rows::rows].tolist(), self.stop]
        for i, (start, stop) in enumerate(itertools.pairwise(cuts)):
            part = slice(i * rows, (i + 1) * rows)
            yield Block(
                self.batch.slice(i * rows, rows),
                self.origin,
                self.position[part],
                None if self.position_end is None else self.position_end[part],
                start,
                stop,
                () if i else self.rejected,
                None if self.recorded is None else self.recorded[part],
            )

    def replace(self, **changes: Any) -> "Block":
        """Return a copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)


def chosen(columns: Sequence[str] | None, having: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the columns to read, of a format whose columns are the same everywhere, each once; None: all of them.

    Raises:
        MissingColumn: there is no such column.
    """
    for name in columns or ():
        if name not in having:
            message = f"{where} must have a column {name!r}; got {list(having)}."
            raise MissingColumn(message)
    return tuple(having if columns is None else dict.fromkeys(columns))
