"""What a join holds between calls, as plain arrays. Letters: ``r`` rows, ``q`` reports held."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.core.rejects import Reject
from beam_ml.kernels.late_labels.resolve import AHEAD, FRESH, WAITING
from beam_ml.late_labels.spec import LateLabels

__all__ = ["NO_ORIGIN", "START", "Items", "State", "concatenated"]

START = -(1 << 62)
"""The clock before anything was settled: below any event time."""
NO_ORIGIN = -1
_DETAIL_CHARS = 200


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Rows, or reports: n of them.

    Attributes:
        id: (n,) large_string.
        time: (n,) int64 event times, µs.
        status: (n,) uint8, of `beam_ml.kernels.late_labels.resolve`.
        label: (n,) float64: of a report; of a row the one that it was last emitted with.
        place: (n,) int64 place within the origin, −1 where it is not known.
        origin: (n,) int32 number of the origin, −1 where it is not known.
    """

    id: pa.Array
    time: np.ndarray
    status: np.ndarray
    label: np.ndarray
    place: np.ndarray
    origin: np.ndarray

    @staticmethod
    def empty() -> "Items":
        """Return no items."""
        whole = np.zeros(0, dtype=np.int64)
        status, label, origin = np.zeros(0, np.uint8), np.zeros(0), np.zeros(0, np.int32)
        return Items(pa.array([], pa.large_string()), whole, status, label, whole, origin)

    def __len__(self) -> int:
        return int(self.time.size)

    def take(self, at: np.ndarray) -> "Items":
        """Return some items, by number."""
        arrays = (self.time, self.status, self.label, self.place, self.origin)
        return Items(self.id.take(pa.array(at, pa.int64())), *(one[at] for one in arrays))

    def rejects(self, at: np.ndarray, reason: str, origins: Sequence[Origin]) -> Iterator[Reject]:
        """Yield rejects of some items, one per origin, with their ids as detail."""
        for number in np.unique(self.origin[at]):
            mine = at[self.origin[at] == number]
            detail = tuple(text[:_DETAIL_CHARS] for text in self.id.take(pa.array(mine, pa.int64())).to_pylist())
            origin = None if number == NO_ORIGIN else origins[number]
            yield Reject(reason, self.place[mine], None, detail, origin)


def concatenated(items: Sequence[Items]) -> Items:
    """Return several items' rows or reports after one another."""
    arrays = ("time", "status", "label", "place", "origin")
    ids = pa.concat_arrays([one.id for one in items])
    return Items(ids, *(np.concatenate([getattr(one, name) for one in items]) for name in arrays))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class State:
    """What one shard of a join holds.

    Attributes:
        shard: its number; what is emitted has it as the partition of its origin.
        clock: everything with an event time before it is settled, µs.
        released: rows emitted so far: the place of the next one.
        counts: what became of rows and reports so far, by `beam_ml.late_labels.join`.
        rows: those that wait for their label, or may still be corrected, in order of id and time.
        columns: their r rows of columns; None before the first row.
        reports: those that wait for the clock, or for their row, in the same order.
        origins: where rows and reports come from, rising; only those that are named.

    >>> State.empty()
    State(shard 0, 0 rows, 0 reports)
    """

    shard: int
    clock: int
    released: int
    counts: Counter[str]
    rows: Items
    columns: pa.RecordBatch | None
    reports: Items
    origins: tuple[Origin, ...]

    @staticmethod
    def empty(shard: int = 0) -> "State":
        """Return the state before the first row."""
        return State(shard, START, 0, Counter(), Items.empty(), None, Items.empty(), ())

    def __repr__(self) -> str:
        return f"State(shard {self.shard}, {len(self.rows):,} rows, {len(self.reports):,} reports)"

    @property
    def n_waiting(self) -> int:
        """The number of rows that have no label yet; others are held as long as a report may come that is about them."""
        return int((self.rows.status <= WAITING).sum())

    @property
    def nbytes(self) -> int:
        """About the bytes held."""
        columns = 0 if self.columns is None else self.columns.nbytes
        arrays = sum(
            one.id.nbytes + one.time.nbytes * 3 + one.status.nbytes + one.origin.nbytes
            for one in (self.rows, self.reports)
        )
        return int(columns + arrays)

    def due(self, spec: LateLabels) -> int | None:
        """Return the watermark, µs, from which on something that is held is settled; None: nothing is held."""
        waits = self.rows.status <= WAITING
        ends = [self.rows.time[waits] + spec.maturity_us]
        ends.append(self.reports.time[self.reports.status == FRESH])
        ends.append(self.reports.time[self.reports.status == AHEAD] + spec.ahead_us)
        earliest = [int(one.min()) for one in ends if one.size]
        return min(earliest) + spec.lateness_us + 1 if earliest else None
