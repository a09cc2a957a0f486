"""One pass of the kernel over what is held and what has arrived: verdicts, emissions, and what is counted of them."""

import dataclasses
from collections import Counter

import numpy as np

from beam_ml.kernels.late_labels import resolve as kernel
from beam_ml.late_labels.arrivals import Arrived
from beam_ml.late_labels.order import ordered
from beam_ml.late_labels.spec import LateLabels
from beam_ml.late_labels.state import Items

__all__ = ["Emitted", "Settled", "settle"]

_EMITTED = {
    kernel.FIRST: "labelled",
    kernel.UNLABELLED: "unreported",
    kernel.FIRST_LATE: "labelled after maturity",
}
_REPORTED = {
    kernel.REPEATED: "report repeats what is known",
    kernel.DISAGREES: "report disagrees with another",
    kernel.CORRECTS: "report after maturity",
}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Emitted:
    """m emissions.

    Attributes:
        row: (m,) int64 number of the row.
        known: (m,) int64 when the label was known, µs.
        label: (m,) float64.
        correction: (m,) int64: −1, the label is taken back; 1, it is set in its place; else 0.
    """

    row: np.ndarray
    known: np.ndarray
    label: np.ndarray
    correction: np.ndarray

    def take(self, at: np.ndarray) -> "Emitted":
        """Return some of them."""
        return Emitted(self.row[at], self.known[at], self.label[at], self.correction[at])


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """What became of rows and reports.

    Attributes:
        rows, reports: with the status and label that they have now.
        of_rows, of_reports: numbers of rows and reports, in order of id and time, and the verdict on each.
        emitted: in order of id, time, and what happened.
        counts: of rows and reports, by what became of them; rejects are not among them.
    """

    rows: Items
    reports: Items
    of_rows: tuple[np.ndarray, np.ndarray]
    of_reports: tuple[np.ndarray, np.ndarray]
    emitted: Emitted
    counts: Counter[str]

    def numbers(self, reports: bool, verdict: int) -> np.ndarray:
        """Return the numbers of rows or reports of one verdict, in order of id and time."""
        at, verdicts = self.of_reports if reports else self.of_rows
        return at[verdicts == verdict]


def settle(spec: LateLabels, found: Arrived, clock: int) -> Settled:
    """Settle everything with an event time before the clock."""
    n, q = len(found.rows), len(found.reports)
    at, code = ordered(found.rows, found.columns, found.reports)
    time, was, label = (
        np.concatenate([getattr(found.rows, name), getattr(found.reports, name)])[at]
        for name in ("time", "status", "label")
    )
    reports, status, verdict = at >= n, was.copy(), np.zeros(n + q, dtype=np.uint8)
    room = n + 2 * q
    item, known = np.empty(room, np.int64), np.empty(room, np.int64)
    emitted, why = np.empty(room), np.empty(room, np.uint8)
    drops, genuine = (True, 0.0) if spec.unreported == "drop" else (False, spec.unreported)
    m, before = kernel.resolve(
        code, time, reports.astype(np.uint8), status, label, verdict,
        clock, spec.maturity_us, spec.memory_us, spec.ahead_us, drops, genuine,
        item, known, emitted, why,
    )  # fmt: skip
    item, why = item[:m], why[:m]
    counts = Counter({"report before its row": before})
    counts.update({name: int((why == one).sum()) for one, name in _EMITTED.items()})
    counts.update({name: int((verdict == one).sum()) for one, name in _REPORTED.items()})
    # What was dropped is so still, or has had its first label in the same call.
    waited = ~reports & (was <= kernel.WAITING)
    counts["dropped"] = int((waited & (status == kernel.DROPPED)).sum() + waited[item[why == kernel.FIRST_LATE]].sum())
    correction = np.select([why == kernel.OLD, why == kernel.NEW], [-1, 1], 0)
    return Settled(
        _now(found.rows, at[~reports], status[~reports], label[~reports]),
        _now(found.reports, at[reports] - n, status[reports], label[reports]),
        (at[~reports], verdict[~reports]),
        (at[reports] - n, verdict[reports]),
        Emitted(at[item], known[:m], emitted[:m], correction),
        counts,
    )


def _now(items: Items, at: np.ndarray, status: np.ndarray, label: np.ndarray) -> Items:
    statuses, labels = items.status.copy(), items.label.copy()
    statuses[at], labels[at] = status, label
    return dataclasses.replace(items, status=statuses, label=labels)
