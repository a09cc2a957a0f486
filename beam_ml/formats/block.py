"""`Block`: decoded rows, still columns with names, and where each row came from."""

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.rejects import Reject

__all__ = ["Block"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
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

    >>> len(Block(pa.record_batch({"x": [1.0, 2.0]})))
    2
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

    @property
    def scanned(self) -> int:
        """The number of rows and rejects."""
        return len(self) + sum(len(reject) for reject in self.rejected)

    def replace(self, **changes: Any) -> "Block":
        """Return a copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)
