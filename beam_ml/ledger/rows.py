"""Windows without some of their rows: these are given, since a ledger holds no row but those of its samples."""

import dataclasses
import hashlib

import numpy as np

from beam_ml.core import decay
from beam_ml.core.accumulation import Accumulation, Accumulator, Part
from beam_ml.core.admit import admit
from beam_ml.core.algorithm import LawKind
from beam_ml.core.batch import Batch
from beam_ml.core.removal import sample_without_rows
from beam_ml.core.threads import one_thread
from beam_ml.errors import InvalidValue, RemoveRefused
from beam_ml.ledger.book import covering
from beam_ml.ledger.ledger import Ledger, shown
from beam_ml.registry import Window

__all__ = ["Taken", "digest_of", "taken"]

REASON = "removed"
"""Why rows count as rejected that were learned before."""


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What windows are without some rows.

    Attributes:
        windows: that held them.
        left: path of each → what it is without them; one that held no others is not among them.
        parts: the rows themselves, as their windows learned them.
    """

    windows: list[Window]
    left: dict[str, Accumulation]
    parts: list[Accumulation]


def digest_of(rows: Batch) -> str:
    """Return the SHA-256 of rows in any order: which were removed is known by it."""
    each = sorted(hashlib.sha256(key).digest() for key in _keys(rows))
    return hashlib.sha256(b"".join(each)).hexdigest()


def _keys(rows: Batch) -> list[bytes]:
    columns = [one for one in (rows.label, rows.weight, rows.time) if one is not None]
    beside = [np.ascontiguousarray(one) for one in columns]
    found = []
    for i in range(len(rows)):
        one = rows.take(slice(i, i + 1))
        features = (one.X,) if one.X is not None else (one.indices, one.values)
        found.append(b"".join(np.ascontiguousarray(a).tobytes() for a in (*features, *(b[i : i + 1] for b in beside))))
    return found


def taken(ledger: Ledger, rows: Batch) -> Taken:
    """Take rows out of the windows that their times lie in, at the anchor that each window was learned at.

    Args:
        ledger: as of the newest version.
        rows: as they were learned: features, label, weight and time. Those that training rejects are passed over.

    Raises:
        InvalidValue: there is no row, or no window of a row's time.
        RemoveRefused: the rows are not a window's, or have been solved with others, or the algorithm has no sums.
    """
    algorithm, spec = ledger.algorithm, ledger.spec
    law = algorithm.law(spec)
    if algorithm.remove is None or not (law.kind is LawKind.EXACT or law.across_anchors):
        message = f"Rows are taken off sums, which {algorithm.name} has none of: windows and sources can be removed."
        raise RemoveRefused(message)
    rows = admit(spec, rows).rows
    if len(rows) == 0:
        message = "Rows to remove must hold at least one that was learned; got none that can be."
        raise InvalidValue(message)
    if rows.time is None:
        message = "Rows to remove must have event times, which say their windows; got rows without."
        raise InvalidValue(message)
    size = ledger.index.size
    starts = rows.time // size * size
    found = Taken([], {}, [])
    for start in np.unique(starts).tolist():
        window = _window(ledger, start)
        left, part = _without(ledger, window, rows.take(starts == start))
        found.windows.append(window)
        found.parts.append(part)
        if left.progress.rows:
            found.left[window.file.path] = left
    return found


def _window(ledger: Ledger, start: int) -> Window:
    entries, end = ledger.index.windows, start + ledger.index.size
    for one in covering(entries, start, end):
        if one.windows == 1:
            return one
    span = next((one for one in entries if one.start <= start and end <= one.end), None)
    if span is not None and not covering([one for one in entries if one != span], span.start, span.end):
        message = (
            f"The window at {shown(start)} is kept only merged with others, from {shown(span.start)} to "
            f"{shown(span.end)}: its rows can no longer be taken out."
        )
        raise RemoveRefused(message)
    message = (
        f"The ledger of {ledger.name} has no window at {shown(start)}, where a row to remove lies: it was not learned."
    )
    raise InvalidValue(message)


def _without(ledger: Ledger, window: Window, rows: Batch) -> tuple[Accumulation, Accumulation]:
    """Return what is left of a window, and the rows as it learned them."""
    algorithm, spec = ledger.algorithm, ledger.spec
    assert algorithm.remove is not None  # noqa: S101 checked before
    value = ledger.accumulation(window)
    if len(value.parts) != 1:
        message = (
            f"The rows of the window at {shown(window.start)} were learned from {len(value.parts)} anchors, and which row "
            "from which is not known: remove the window, and add the others as new rows."
        )
        raise RemoveRefused(message)
    ((number, part),) = value.parts.items()
    newest = part.progress.time_max
    if len(rows) > part.progress.rows or (newest is not None and rows.time is not None and rows.time.max() > newest):
        message = (
            f"The window at {shown(window.start)} learned {part.progress.rows:,} rows"
            + ("" if newest is None else f" until {shown(newest)}")
            + f"; the {len(rows):,} to remove are not among them."
        )
        raise RemoveRefused(message)
    with one_thread():
        anchor = None if algorithm.grown_from is None else algorithm.grown_from(spec, part.dated.summary)
        accumulator = Accumulator(algorithm, spec, number, anchor, sampling=False)
        accumulator.add_admitted(rows)
        gone = accumulator.result()
        ((_, mine),) = gone.parts.items()
        aged = decay.advance(algorithm, spec, mine.dated, part.dated.time)
        rest = algorithm.remove(spec, part.dated.summary, aged.summary)
    progress = part.progress.unlearned(mine.progress, REASON)
    left = dataclasses.replace(
        value,
        parts={number: Part(decay.AsOf(rest, part.dated.time), progress)},
        sample=sample_without_rows(spec, value.sample, rows),
    )
    return left, gone
