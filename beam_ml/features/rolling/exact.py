"""Exact windows: the rows of the longest one are kept, by key and time. Letters: ``q`` rows, ``c`` values, ``k`` ranks."""

import numpy as np

from beam_ml import kernels
from beam_ml.features.rolling.aggregates import FUNCTIONS
from beam_ml.features.rolling.layout import Layout, Part
from beam_ml.features.rolling.results import Arrays, Result, Sorted
from beam_ml.features.rolling.rows import NEVER, NOTHING, Rows
from beam_ml.features.rolling.spec import Aggregate, Output, Window

__all__ = ["empty", "expired", "names", "roll"]


def names(part: Part) -> dict[str, np.dtype]:
    """Return the arrays that a part keeps, each of an entry per value."""
    kept: dict[str, np.dtype] = {"key": np.dtype(np.uint64), "dated": np.dtype(np.int64)}
    if part.known >= 0:
        kept["known"] = np.dtype(np.int64)
    kept |= {f"number/{lane}": np.dtype(np.float64) for lane in part.numbers}
    return kept | {f"code/{lane}": np.dtype(np.uint64) for lane in part.codes}


def empty(part: Part) -> Arrays:
    """Return what a part keeps before the first row."""
    return {name: np.zeros(0, dtype) for name, dtype in names(part).items()}


def expired(part: Part, kept: Arrays, before: int) -> Arrays:
    """Return what rows from a time on can still need."""
    alive = kept["dated"] > max(before, part.reach_us + np.iinfo(np.int64).min) - part.reach_us
    return kept if alive.all() else {name: values[alive] for name, values in kept.items()}


def _brought(part: Part, rows: Rows) -> tuple[Arrays, np.ndarray]:
    """Return what sorted rows bring to a part, and which rows bring it, sorted by key and by the time it is dated."""
    dated = rows.time if part.dated < 0 else rows.clocks[part.dated]
    found: Arrays = {"key": rows.key, "dated": dated}
    if part.known >= 0:
        # Nothing is known before it happens.
        found["known"] = np.maximum(rows.clocks[part.known], rows.time)
    found |= {f"number/{lane}": rows.numbers[lane] for lane in part.numbers}
    found |= {f"code/{lane}": rows.codes[lane] for lane in part.codes}
    if part.in_order:
        return found, np.arange(len(rows))
    some = np.zeros(len(rows), bool)
    for lane in part.numbers:
        some |= ~np.isnan(rows.numbers[lane])
    for lane in part.codes:
        some |= rows.codes[lane] != NOTHING
    if any(output.aggregate.value is None for _, output in part.outputs):
        some[:] = True
    if part.known >= 0:
        some &= rows.clocks[part.known] != NEVER
    which = np.flatnonzero(some & (dated != NEVER))
    which = which[np.lexsort((dated[which], rows.key[which]))]
    return {name: values[which] for name, values in found.items()}, which


class _Windows:
    """Computes the outputs of one part over its values, bounds of windows once each."""

    def __init__(self, part: Part, values: Arrays, came: np.ndarray, own: np.ndarray, queries: Sorted) -> None:
        self._part, self._values, self._came, self._own = part, values, came, own
        self._time, self._number = queries.rows.time, queries.number
        q, c = len(queries.rows), came.size
        self._begin, self._end = np.empty(q, np.int64), np.empty(q, np.int64)
        kernels.rolling.bounds.spans(queries.rows.key, values["key"], self._begin, self._end)
        self._bounds: dict[tuple[int, int, bool], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self._suffix = np.empty((c, 3))
        self._known = values.get("known", values["dated"])
        self._tops: dict[tuple[int, int, int, bool], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def _window(self, window: Window, includes_row: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        key = (window.length_us, window.delay_us, includes_row)
        if key not in self._bounds:
            bounds = tuple(np.empty(self._time.size, np.int64) for _ in range(3))
            rows = (self._time, self._begin, self._end, self._own, self._values["dated"])
            kernels.rolling.bounds.window(*rows, window.length_us, window.delay_us, includes_row, *bounds)
            self._bounds[key] = bounds  # type: ignore[assignment]
        return self._bounds[key]

    def result(self, layout: Layout, output: Output) -> Result:
        one, lane = output.aggregate, layout.lane(output.aggregate)
        if FUNCTIONS[one.of].takes == "categories":
            return self._counted(one, lane, output)
        low, split, high = self._window(output.window, one.includes_row)
        if one.of == "count" and lane < 0 and self._part.in_order:
            return Result((high - low).astype(np.float64))
        code, dated = FUNCTIONS[one.of].code, self._values["dated"]
        values = self._values[f"number/{lane}"] if lane >= 0 else np.zeros(dated.size)
        out = np.empty(self._time.size)
        if self._part.in_order:
            kernels.rolling.folds.slide(
                code, values, dated, self._time, self._begin, low, split, high, self._suffix, out
            )
        else:
            known = (self._known, self._came, self._time, self._number)
            kernels.rolling.folds.scan(code, values, dated, *known, low, high, one.includes_row, out)
        return Result(out)

    def _counted(self, one: Aggregate, lane: int, output: Output) -> Result:
        key = (lane, output.window.length_us, output.window.delay_us, one.includes_row)
        k = max(
            (
                other.aggregate.k
                for _, other in self._part.outputs
                if other.aggregate.of == "top_k" and other.aggregate.value == one.value
            ),
            default=0,
        )
        if key not in self._tops:
            codes, category = np.unique(self._values[f"code/{lane}"], return_inverse=True)
            category = np.where(codes[category] == NOTHING, -1, category).astype(np.int64)
            low, _, high = self._window(output.window, one.includes_row)
            distinct, top = np.empty(self._time.size), np.empty((self._time.size, k), np.int64)
            known = (self._known, self._came, self._time, self._number)
            filtered = not self._part.in_order
            kernels.rolling.counted.counts(
                category, *known, self._begin, low, high, one.includes_row, filtered,
                np.zeros(codes.size, np.int64), distinct, top,
            )  # fmt: skip
            self._tops[key] = (distinct, top, codes)
        distinct, top, codes = self._tops[key]
        if one.of == "distinct":
            return Result(distinct)
        rank = top[:, output.rank]
        return Result(codes[np.maximum(rank, 0)] if codes.size else np.zeros(rank.size, np.uint64), rank < 0)


def roll(layout: Layout, part: Part, kept: Arrays, queries: Sorted) -> tuple[dict[int, Result], Arrays]:
    """Compute the outputs of a part for some rows.

    Args:
        layout: of the key.
        part: of the layout.
        kept: by the part, of earlier rows.
        queries: q rows.

    Returns:
        Result by number of the output, and what the part keeps with these rows, what has expired included.
    """
    new, which = _brought(part, queries.rows)
    stored = kept["key"].size
    order = np.empty(stored + which.size, np.int64)
    kernels.rolling.merging.merged(kept["key"], kept["dated"], new["key"], new["dated"], order)
    values = {name: np.concatenate([kept[name], new[name]])[order] for name in kept}
    came = np.concatenate([np.full(stored, -1), queries.number[which]])[order]
    own = np.flatnonzero(order >= stored) if part.in_order else np.zeros(0, np.int64)
    windows = _Windows(part, values, came, own, queries)
    return {number: windows.result(layout, output) for number, output in part.outputs}, values
