"""`Progress`: what has been scanned, exactly. A commutative monoid.

It answers up to when a learner is trained, its lag, duplicates and audits. Every scanned row is in exactly one Progress,
rejected ones too, so that a file of rejects alone still advances its source.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from beam_ml.core import intervals
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.decay import later
from beam_ml.errors import RemoveRefused

__all__ = ["Progress"]


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """Counts and places of scanned rows.

    Attributes:
        rows: rows learned from.
        weight: their weight, before forgetting.
        bytes: bytes of their features.
        time_min, time_max: span of their event times, µs since the epoch; None where no row had one.
        late: rows among them whose own window was already folded.
        rejected: reason → rows scanned but not learned from.
        adjusted: what was changed → rows that were learned from with a value so changed, or by rows that stand for them.
        covered: origin → interval set of the positions scanned, rejected ones included.
        latest: origin → largest event time seen, µs.
        places: how many positions were scanned, one that was scanned twice counted twice.
    """

    rows: int = 0
    weight: float = 0.0
    bytes: int = 0
    time_min: int | None = None
    time_max: int | None = None
    late: int = 0
    rejected: Mapping[str, int] = dataclasses.field(default_factory=dict)
    adjusted: Mapping[str, int] = dataclasses.field(default_factory=dict)
    covered: Mapping[Origin, np.ndarray] = dataclasses.field(default_factory=dict)
    latest: Mapping[Origin, int] = dataclasses.field(default_factory=dict)
    places: int = 0

    @staticmethod
    def of(batch: Batch, late: int = 0) -> "Progress":
        """Count a batch's rows as learned from."""
        if len(batch) == 0:
            return Progress()
        low = high = None
        if batch.time is not None:
            low, high = int(batch.time.min()), int(batch.time.max())
        return Progress(
            rows=len(batch),
            weight=float(len(batch)) if batch.weight is None else float(batch.weight.sum()),
            bytes=batch.feature_bytes,
            time_min=low,
            time_max=high,
            late=late,
            covered=_covered(batch),
            latest={} if batch.origin is None or high is None else {batch.origin: high},
            places=_places(batch),
        )

    @staticmethod
    def of_rejected(batch: Batch, reason: str) -> "Progress":
        """Count a batch's rows as rejected; their event times move nothing."""
        if len(batch) == 0:
            return Progress()
        return Progress(rejected={reason: len(batch)}, covered=_covered(batch), places=_places(batch))

    @staticmethod
    def of_range(origin: Origin, start: int, stop: int, rejected: Mapping[str, int] | None = None) -> "Progress":
        """Count a range of positions as scanned, with rows rejected in it."""
        ranges = np.array([[start, stop]], dtype=np.int64) if start < stop else intervals.EMPTY
        return Progress.of_ranges(origin, ranges, rejected)

    @staticmethod
    def of_ranges(origin: Origin | None, ranges: np.ndarray, rejected: Mapping[str, int] | None = None) -> "Progress":
        """Count an interval set of positions as scanned, with rows rejected in it; without an origin, only the rows."""
        covered = {origin: ranges} if origin is not None and len(ranges) else {}
        return Progress(
            rejected=dict(rejected or {}), covered=covered, places=sum(map(intervals.size, covered.values()))
        )

    @property
    def scanned(self) -> int:
        """Rows learned from and rejected."""
        return self.rows + sum(self.rejected.values())

    @property
    def repeated(self) -> int:
        """Positions scanned more than once, each counted as often as that was once too many."""
        return self.places - sum(map(intervals.size, self.covered.values()))

    @property
    def nbytes(self) -> int:
        """Bytes of the interval sets: rows in no order can make them large."""
        return sum(ranges.nbytes for ranges in self.covered.values())

    def merge(self, other: "Progress") -> "Progress":
        """Return the merged counts."""
        covered = dict(self.covered)
        for origin, ranges in other.covered.items():
            covered[origin] = intervals.union(covered.get(origin, intervals.EMPTY), ranges)
        newest = dict(self.latest)
        for origin, time in other.latest.items():
            newest[origin] = max(time, newest.get(origin, time))
        earliest = [t for t in (self.time_min, other.time_min) if t is not None]
        return Progress(
            rows=self.rows + other.rows,
            weight=self.weight + other.weight,
            bytes=self.bytes + other.bytes,
            time_min=min(earliest) if earliest else None,
            time_max=later(self.time_max, other.time_max),
            late=self.late + other.late,
            rejected=_sum(self.rejected, other.rejected),
            adjusted=_sum(self.adjusted, other.adjusted),
            covered=covered,
            latest=newest,
            places=self.places + other.places,
        )

    def remove(self, part: "Progress") -> "Progress":
        """Return the counts and places without those of a part; the span of times stays that of both.

        A place that both the part and another have scanned counts as scanned by neither. Read positions are no part of this:
        what is removed is not read again.

        Raises:
            RemoveRefused: the part was not scanned, or has been removed before.

        >>> both = Progress.of_range(Origin("files", "a"), 0, 5).merge(Progress.of_range(Origin("files", "b"), 0, 7))
        >>> both.remove(Progress.of_range(Origin("files", "a"), 0, 5)).covered[Origin("files", "b")].tolist()
        [[0, 7]]
        """
        covered = dict(self.covered)
        for origin, ranges in part.covered.items():
            mine = covered.pop(origin, intervals.EMPTY)
            if len(intervals.difference(ranges, mine)):
                first = intervals.difference(ranges, mine)[0]
                where = f"{origin.source} {origin.partition}".strip()
                message = f"What is removed must have been learned: {where} from {first[0]} to {first[1]} was not."
                raise RemoveRefused(message)
            rest = intervals.difference(mine, ranges)
            if len(rest):
                covered[origin] = rest
        rows, rejected = self.rows - part.rows, _less(self.rejected, part.rejected)
        if rows < 0 or min(rejected.values(), default=0) < 0:
            message = f"What is removed must have been learned: it has {part.rows:,} rows of {self.rows:,}."
            raise RemoveRefused(message)
        return Progress(
            rows=rows,
            weight=max(self.weight - part.weight, 0.0) if rows else 0.0,
            bytes=self.bytes - part.bytes,
            time_min=self.time_min if rows else None,
            time_max=self.time_max if rows else None,
            late=self.late - part.late,
            rejected={reason: count for reason, count in rejected.items() if count},
            adjusted={what: count for what, count in _less(self.adjusted, part.adjusted).items() if count},
            covered=covered,
            latest={o: time for o, time in self.latest.items() if o in covered or o not in self.covered},
            places=self.places - part.places,
        )

    def unlearned(self, part: "Progress", reason: str) -> "Progress":
        """Return the counts with a part's rows as rejected ones: they were scanned, and are not to be read again.

        Raises:
            RemoveRefused: the part has more rows than were learned.
        """
        counts = dataclasses.replace(part, rejected={}, adjusted={}, covered={}, latest={}, places=0)
        return self.remove(counts).merge(Progress(rejected={reason: part.rows} if part.rows else {}))

    def as_rejected(self, reason: str) -> "Progress":
        """Count all rows as rejected instead: the fold that held them was dropped."""
        rejected = dict(self.rejected)
        if self.rows:
            rejected[reason] = rejected.get(reason, 0) + self.rows
        return dataclasses.replace(
            self, rows=0, weight=0.0, bytes=0, time_min=None, time_max=None, late=0, rejected=rejected, adjusted={}
        )

    def without(self, gone: Callable[[Origin], bool]) -> "Progress":
        """Forget the positions of some origins; the counts of their rows stay."""
        dropped = [origin for origin in self.covered if gone(origin)]
        return dataclasses.replace(
            self,
            covered={origin: ranges for origin, ranges in self.covered.items() if not gone(origin)},
            latest={origin: time for origin, time in self.latest.items() if not gone(origin)},
            places=self.places - sum(intervals.size(self.covered[origin]) for origin in dropped),
        )

    def overlap(self, other: "Progress") -> Mapping[Origin, np.ndarray]:
        """Return the positions that both have scanned, by origin; empty when none."""
        both = {o: intervals.intersection(r, other.covered[o]) for o, r in self.covered.items() if o in other.covered}
        return {origin: ranges for origin, ranges in both.items() if len(ranges)}

    def summary(self) -> dict[str, Any]:
        """Return the counts without positions, as plain JSON values."""
        return {
            "rows": self.rows, "weight": self.weight, "bytes": self.bytes, "time_min": self.time_min,
            "time_max": self.time_max, "late": self.late, "rejected": dict(sorted(self.rejected.items())),
            **({"adjusted": dict(sorted(self.adjusted.items()))} if self.adjusted else {}),
        }  # fmt: skip


def _sum(a: Mapping[str, int], b: Mapping[str, int]) -> Mapping[str, int]:
    if not a or not b:
        return a or b
    return {reason: a.get(reason, 0) + b.get(reason, 0) for reason in {**a, **b}}


def _less(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {reason: a.get(reason, 0) - b.get(reason, 0) for reason in {**a, **b}}


def _covered(batch: Batch) -> Mapping[Origin, np.ndarray]:
    if batch.origin is None or batch.position is None:
        return {}
    return {batch.origin: intervals.from_positions(batch.position, batch.position_end)}


def _places(batch: Batch) -> int:
    if batch.origin is None or batch.position is None:
        return 0
    return len(batch) if batch.position_end is None else int(np.maximum(batch.position_end - batch.position, 0).sum())
