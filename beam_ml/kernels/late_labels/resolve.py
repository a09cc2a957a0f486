"""What becomes of rows and of the reports of their labels: one pass over all of them, id by id, in order of event time.

Letters: ``n`` items, rows and reports; ``m`` emissions. An item before the clock is settled, one at or after it waits, so
that the result is the same however the items are cut into calls.
"""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

__all__ = [
    "AHEAD",
    "CORRECTS",
    "DISAGREES",
    "DROPPED",
    "DUPLICATE",
    "FIRST",
    "FIRST_LATE",
    "FORGOTTEN",
    "FRESH",
    "KEPT",
    "LABELLED",
    "NEW",
    "OLD",
    "REPEATED",
    "UNLABELLED",
    "UNMATCHED",
    "UNREPORTED",
    "USED",
    "WAITING",
    "resolve",
]

FRESH, WAITING, LABELLED, UNREPORTED, DROPPED, AHEAD = range(6)
"""Status of an item: not settled yet; a row without a label, with that of a report, mature without one, dropped; a report
that waits for its row."""
KEPT, FORGOTTEN, DUPLICATE, USED, REPEATED, UNMATCHED, DISAGREES, CORRECTS = range(8)
"""Verdicts: of any item; of rows; of reports. A row that is DROPPED is kept, too, as long as it can be corrected."""
FIRST, UNLABELLED, FIRST_LATE, OLD, NEW = range(5)
"""Why a row is emitted: with its first label; as mature without one; with its first label, once it had been dropped; with
the label that a correction takes back, and with the one that it sets."""

_I8 = types.Array(types.int64, 1, "C", readonly=True)
_U1 = types.Array(types.uint8, 1, "C", readonly=True)


@numba.njit(cache=True, nogil=True)
def _emit(
    count: int, at: np.ndarray, known: np.ndarray, label: np.ndarray, why: np.ndarray, i: int, t: int, y: float, w: int
) -> int:
    at[count], known[count], label[count], why[count] = i, t, y, w
    return count + 1


@numba.njit(
    types.UniTuple(types.int64, 2)(
        _I8, _I8, _U1, types.uint8[::1], types.float64[::1], types.uint8[::1],
        types.int64, types.int64, types.int64, types.int64, types.boolean, types.float64,
        types.int64[::1], types.int64[::1], types.float64[::1], types.uint8[::1],
    ),
    cache=True, nogil=True,
)  # fmt: skip
def resolve(
    code: np.ndarray,
    time: np.ndarray,
    is_report: np.ndarray,
    status: np.ndarray,
    label: np.ndarray,
    verdict: np.ndarray,
    clock: int,
    maturity: int,
    memory: int,
    ahead: int,
    drops: bool,
    genuine: float,
    at: np.ndarray,
    known: np.ndarray,
    emitted: np.ndarray,
    why: np.ndarray,
) -> tuple[int, int]:
    """Settle what lies before the clock; return how many emissions there are, and how many reports came before their row.

    Args:
        code: (n,) whose item it is; equal ones stand together, in order of time, rows before reports of the same time.
        time: (n,) event time, µs.
        is_report: (n,) 1 for a report, 0 for a row.
        status: (n,) of each item, changed in place.
        label: (n,) of a report; of a row the one that it was emitted with, changed in place.
        verdict: (n,) zeros, written.
        clock: nothing with an earlier time is missing.
        maturity: µs from a row's time on, within which a report is in time.
        memory: µs behind maturity, for which a row is remembered.
        ahead: µs for which a report waits for a row of a later time.
        drops: whether a mature row without a report is dropped.
        genuine: the label that it has otherwise.
        at: (m,) items emitted, with room for each row once and each report twice.
        known: (m,) when the label was known, µs.
        emitted: (m,) labels.
        why: (m,) why it is emitted.
    """
    n, count, before, i = code.size, 0, 0, 0
    while i < n:
        stop = i + 1
        while stop < n and code[stop] == code[i]:
            stop += 1
        row, since = -1, i  # the row that is remembered; where reports may stand that wait for one
        for j in range(i, stop):
            t = time[j]
            if t >= clock:
                break
            if row >= 0:
                due = time[row] + maturity
                if status[row] == WAITING and t >= due:
                    status[row] = DROPPED if drops else UNREPORTED
                    label[row] = genuine
                    if not drops:
                        count = _emit(count, at, known, emitted, why, row, due, genuine, UNLABELLED)
                if t >= due + memory:
                    verdict[row] = FORGOTTEN
                    row, since = -1, j
            if is_report[j] == 0:
                if row >= 0:
                    verdict[j] = DUPLICATE
                    continue
                row = j
                if status[j] == FRESH:
                    status[j] = WAITING
                first, last = since, j
                since = j + 1
            elif row < 0:
                status[j] = AHEAD
                continue
            else:
                first, last = j, j + 1
            for q in range(first, last):
                if is_report[q] == 0 or verdict[q] != KEPT:
                    continue
                if q < row:
                    if time[q] + ahead < t:
                        verdict[q] = UNMATCHED
                        continue
                    before += 1
                if status[row] == WAITING or status[row] == DROPPED:
                    reason = FIRST if status[row] == WAITING else FIRST_LATE
                    verdict[q] = USED if reason == FIRST else CORRECTS
                    status[row] = LABELLED
                    count = _emit(count, at, known, emitted, why, row, t, label[q], reason)
                elif label[q] == label[row]:
                    verdict[q] = REPEATED
                    continue
                else:
                    verdict[q] = DISAGREES if status[row] == LABELLED else CORRECTS
                    status[row] = LABELLED
                    count = _emit(count, at, known, emitted, why, row, t, label[row], OLD)
                    count = _emit(count, at, known, emitted, why, row, t, label[q], NEW)
                label[row] = label[q]
        if row >= 0:
            due = time[row] + maturity
            if status[row] == WAITING and due < clock:
                status[row] = DROPPED if drops else UNREPORTED
                label[row] = genuine
                if not drops:
                    count = _emit(count, at, known, emitted, why, row, due, genuine, UNLABELLED)
            if due + memory < clock:
                verdict[row] = FORGOTTEN
        else:
            for q in range(since, stop):
                if is_report[q] == 1 and status[q] == AHEAD and verdict[q] == KEPT and time[q] + ahead < clock:
                    verdict[q] = UNMATCHED
        i = stop
    return count, before
