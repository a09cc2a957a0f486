"""Keeping closed windows: which files a publish adds to the ledger, and which it names no longer.

Spans are cut at multiples of their length since the epoch and lie within one another, so that any range of time is made of
few of them: one merge per window over the life of a ledger, O(log n) for a range of n windows.
"""

import bisect
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce

from beam_ml.artefact.records import encode_accumulation
from beam_ml.core import accumulation as accumulations
from beam_ml.core import decay
from beam_ml.core.accumulation import Accumulation, Part
from beam_ml.core.algorithm import Algorithm, LawKind
from beam_ml.core.decay import later
from beam_ml.core.progress import Progress
from beam_ml.core.spec import Spec, to_us
from beam_ml.core.thinning import thinned
from beam_ml.ledger.rules import Rules
from beam_ml.registry import Index, Kept, Window, index_of, left_of, place_of, window_of

__all__ = ["added", "covering", "merged", "refusal", "unfit", "without"]

Read = Callable[[Window], Accumulation]
_NEVER = -(2**63)


def refusal(algorithm: Algorithm, spec: Spec) -> str | None:
    """Return why windows of an algorithm cannot be merged later; None: they can."""
    law = algorithm.law(spec)
    if law.kind in (LawKind.EXACT, LawKind.SKETCH) or law.across_anchors:
        return None
    if law.kind is LawKind.GATHERED:
        return (
            f"{algorithm.name} trains on gathered rows: its windows are samples of rows, and its parameters do not add"
        )
    return (
        f"the partials of {algorithm.name} are steps from an anchor: those of different anchors do not add, so windows make "
        "no model without the ones before (the versions themselves are what can be gone back to)"
    )


def unfit(rules: Rules, algorithm: Algorithm, spec: Spec, size_us: int | None) -> str | None:
    """Return why a job cannot have a ledger of these rules, as the rest of a sentence about it; None: it can.

    Args:
        rules: of the ledger.
        algorithm: the record.
        spec: of the learner.
        size_us: length of the windows; None: windows are rounds, or are learned one after the other.
    """
    if size_us is None:
        return (
            "ledger needs refresh to be a duration, and order not to be 'in_order': it keeps what closed windows were "
            "learned from"
        )
    reason = refusal(algorithm, spec)
    return rules.wrong_for(size_us) if reason is None else f"ledger must be left out with {algorithm.name}; {reason}"


def merged(algorithm: Algorithm, spec: Spec, parts: Iterable[Accumulation], sample: int) -> Accumulation:
    """Merge windows into one part, under the number of the newest anchor, with a sample of at most so many rows."""
    total = accumulations.merge_all(algorithm, spec, parts)
    held = list(total.parts.items())
    if len(held) > 1:
        dated = reduce(lambda a, b: decay.merge(algorithm, spec, a, b), (part.dated for _, part in held))
        progress = reduce(Progress.merge, (part.progress for _, part in held))
        total = dataclasses.replace(total, parts={held[-1][0]: Part(dated, progress)})
    return dataclasses.replace(total, sample=thinned(total.sample, sample))


def covering(windows: Sequence[Window], start: int, end: int) -> list[Window]:
    """Return the fewest files whose windows lie between two times: of those within one another, the longest that fit.

    Args:
        windows: by start, the longest first.
        start: of the range, µs.
        end: of the range, µs.
    """
    chosen: list[Window] = []
    at, i = start, 0
    while (i := bisect.bisect_left(windows, (at, _NEVER), lo=i, key=place_of)) < len(windows):
        while i < len(windows) and windows[i].start < end < windows[i].end:
            i += 1
        if i == len(windows) or windows[i].start >= end:
            break
        chosen.append(windows[i])
        at = windows[i].end
    return chosen


def added(
    name: str,
    algorithm: Algorithm,
    spec: Spec,
    rules: Rules,
    index: Index,
    closed: Mapping[int, Accumulation],
    through: int,
    read: Read,
    held: dict[str, Accumulation],
) -> Kept:
    """Return what a publish adds: a file per closed window and per span that is complete now, and the index of all.

    Args:
        name: the learner's.
        algorithm: the record.
        spec: of the windows.
        rules: what is kept.
        index: of the version before.
        closed: window end, µs → its accumulation.
        through: what ends at or before this time is closed, µs.
        read: returns the accumulation of a window in `index`.
        held: path → accumulation of files that need not be read; what is new is put there too.
    """
    files: dict[str, bytes] = {}
    entries, new = list(index.windows), []

    def add(start: int, end: int, value: Accumulation, windows: int) -> None:
        data = encode_accumulation(algorithm, spec, value)
        window = window_of(name, (start, end), windows, value.progress.rows, data)
        files[window.file.path], held[window.file.path] = data, value
        bisect.insort(entries, window, key=place_of)
        new.append(window)

    for end, value in sorted(closed.items()):
        if value.progress.rows:
            kept = dataclasses.replace(value, sample=thinned(value.sample, rules.sample))
            add(end - index.size, end, kept, 1)
    for span in rules.spans(index.size):
        for start in _completed(new, span, index, through):
            parts = covering(entries, start, start + span)
            if len(parts) > 1:
                values = [held.get(one.file.path) or read(one) for one in parts]
                total = merged(algorithm, spec, values, rules.sample)
                add(start, start + span, total, sum(one.windows for one in parts))
    after = _retained(rules, dataclasses.replace(index, windows=tuple(entries), through=through), new)
    file, named, after = index_of(name, after)
    left = (one.file.path for one in new if _holds(after.windows, one))
    return Kept(file, {path: files[path] for path in left} | named, after)


def without(
    name: str,
    algorithm: Algorithm,
    spec: Spec,
    index: Index,
    gone: Sequence[Window],
    read: Read,
    left: Mapping[str, Accumulation],
    digest: str | None = None,
) -> Kept:
    """Return what is kept without some windows: spans that hold one are merged again from what is left of them.

    Args:
        name: the learner's.
        algorithm: the record.
        spec: of the windows.
        index: of the version before, with the rules for the samples of what is merged again.
        gone: files of `index` to leave out, with all that lies within them.
        read: returns the accumulation of a window in `index`.
        left: path of a file in `gone` → what stands in its place.
        digest: of the rows that were removed; None: whole windows were.
    """
    files: dict[str, bytes] = {}
    held: dict[str, Accumulation] = {}
    sample = Rules.parse(dict(index.rules)).sample

    def touched(one: Window) -> bool:
        return any(one.start < other.end and other.start < one.end for other in gone)

    def add(start: int, end: int, value: Accumulation, windows: int) -> None:
        data = encode_accumulation(algorithm, spec, value)
        window = window_of(name, (start, end), windows, value.progress.rows, data)
        files[window.file.path], held[window.file.path] = data, value
        bisect.insort(entries, window, key=place_of)

    entries = [one for one in index.windows if not touched(one)]
    spans = [one for one in index.windows if touched(one) and not any(_within(one, other) for other in gone)]
    for one in gone:
        if one.file.path in left:
            add(one.start, one.end, left[one.file.path], one.windows)
    for span in sorted(spans, key=lambda one: one.end - one.start):
        parts = covering(entries, span.start, span.end)
        if len(parts) > 1:
            values = [held.get(one.file.path) or read(one) for one in parts]
            total = merged(algorithm, spec, values, sample)
            add(span.start, span.end, total, sum(one.windows for one in parts))
    known = index.removed if digest is None else (*index.removed, digest)
    rest = tuple(entries)
    after = dataclasses.replace(index, windows=rest, removed=known, sealed=(), fresh=rest)
    file, named, after = index_of(name, after)
    return Kept(file, {**files, **named}, after)


def _within(inner: Window, outer: Window) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def _holds(windows: Sequence[Window], one: Window) -> bool:
    i = bisect.bisect_left(windows, place_of(one), key=place_of)
    return i < len(windows) and windows[i] == one


def _completed(new: Sequence[Window], span: int, index: Index, through: int) -> list[int]:
    """Return the starts of the spans of a length that have become complete since the index, and may hold windows.

    They hold what is new, or were open as of the index.
    """
    starts = {index.through // span * span, *(one.start // span * span for one in new)}
    since = index.since
    return sorted(
        start
        for start in starts
        if index.through < start + span <= through and (since is None or start >= since)
    )  # fmt: skip


def _retained(rules: Rules, index: Index, new: Sequence[Window]) -> Index:
    """Return the index with what is new, without what is kept no longer; a span stays whole until all of it is too old."""
    since, kept_from, fine_from, windows = index.since, index.kept_from, index.fine_from, index.windows
    if rules.keep is not None:
        kept_from = later(kept_from, index.through - to_us(rules.keep))
    if rules.fine is not None:
        fine_from = later(fine_from, index.through - to_us(rules.fine))
    # Only what starts before a bound can be too old for it.
    old = bisect.bisect_left(windows, max(kept_from or _NEVER, fine_from or _NEVER), key=lambda one: one.start)
    left = left_of(windows[:old], kept_from, fine_from)
    if kept_from is not None:
        gone = [one.end for one in windows[:old] if one.end <= kept_from]
        since = max([*gone, *([] if since is None else [since])], default=None)
    alive = left + windows[old:]
    fresh = tuple(one for one in (*index.fresh, *new) if kept_from is None or one.end > kept_from)
    return dataclasses.replace(
        index, rules=rules.to_dict(), since=since, kept_from=kept_from, fine_from=fine_from, windows=alive, fresh=fresh
    )  # fmt: skip
