"""`Reject`: rows refused, and why; and what is said of them where they are too many to be chance, or all of one class."""

import dataclasses

import numpy as np

from beam_ml.core.batch import Batch, Origin
from beam_ml.core.clocks import classes
from beam_ml.core.leaps import FAR
from beam_ml.core.limits import FAR_BEYOND
from beam_ml.core.progress import Progress
from beam_ml.core.sample import Sample
from beam_ml.core.spec import Spec

__all__ = ["MANY", "UNPLACED", "Reject", "said", "warning"]

MANY = 0.01
"""Share of the rows that may be rejected without a word."""

UNPLACED = -1
"""The place of a row whose place is not known."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Reject:
    """Rows of one origin refused for one reason: m of them.

    Attributes:
        reason: what is counted: one of few texts, never a row's own values.
        position: (m,) int64 places of the rows within their origin; UNPLACED where not known.
        position_end: (m,) int64 where each place ends, or None: + 1.
        detail: one text per row (its beginning, the parser's words), or empty.
        origin: where the rows came from; None: not known, or that of the block that holds the reject.

    >>> len(Reject("malformed line", np.array([3, 8])))
    2
    """

    reason: str
    position: np.ndarray
    position_end: np.ndarray | None = None
    detail: tuple[str, ...] = ()
    origin: Origin | None = None

    def __len__(self) -> int:
        return int(self.position.size)

    @staticmethod
    def of_batch(rows: Batch, reason: str) -> "Reject":
        """Return the reject of all rows of a batch.

        >>> Reject.of_batch(Batch.dense([[1.0], [2.0]]), "late").position
        array([-1, -1])
        """
        if rows.position is None:
            return Reject(reason, np.full(len(rows), UNPLACED, dtype=np.int64), origin=rows.origin)
        return Reject(reason, rows.position, rows.position_end, origin=rows.origin)

    def of(self, origin: Origin | None) -> "Reject":
        """Return the same rows with their origin noted, so that the reject can leave its block."""
        return dataclasses.replace(self, origin=origin)


def said(progress: Progress) -> str:
    """Return the counts of rejected and adjusted rows and why, most frequent first; empty without any.

    >>> said(Progress(rows=9, rejected={"late": 1, "missing label": 2}, adjusted={"label clipped to what was seen": 1}))
    '3 rejected (missing label 2, late 1), 1 adjusted (label clipped to what was seen 1)'
    """
    found = []
    for what, counts in (("rejected", progress.rejected), ("adjusted", progress.adjusted)):
        total = sum(counts.values())
        if total:
            ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
            found.append(f"{total:,} {what} ({', '.join(f'{reason} {rows:,}' for reason, rows in ordered if rows)})")
    return ", ".join(found)


def warning(spec: Spec, progress: Progress, sample: Sample) -> str | None:
    """Say what is wrong with a window's rows: more than 1 % rejected, one unlike all others, or a class with none left.

    Args:
        spec: of the learner.
        progress: of the window.
        sample: of its admitted rows.
    """
    rejected = sum(progress.rejected.values())
    if rejected == 0 and not progress.adjusted:
        return None
    gone = [k for k, mass in enumerate(sample.mass) if mass <= 0.0] if classes(spec) > 1 else []
    by_label = any("label" in reason for reason in progress.rejected)
    odd = bool(progress.adjusted) or any(reason.endswith((FAR, FAR_BEYOND)) for reason in progress.rejected)
    if rejected <= MANY * progress.scanned and not odd and not (gone and by_label):
        return None
    lost = f"; none is left of class {', '.join(map(str, gone[:8]))}" if gone and by_label else ""
    return f"{spec.algorithm}: of {progress.scanned:,} rows of a window {said(progress)}{lost}."
