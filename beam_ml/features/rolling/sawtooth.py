"""Sawtooth windows: partials per key and tile of a hop's length. Letters: ``q`` rows, ``e`` tiles, ``w`` windows.

A window (t − W, t] has all of the tile that t − W lies in: its tail reaches back up to a hop further. With a delay it also
ends with the last whole hop before t − delay, since the rows themselves are gone.
"""

import numpy as np

from beam_ml import kernels
from beam_ml.features.rolling.layout import Cell, Layout, Part
from beam_ml.features.rolling.results import Arrays, Result, Sorted
from beam_ml.features.rolling.rows import NEVER, NOTHING

__all__ = ["empty", "expired", "names", "roll"]


def _width(cell: Cell) -> int:
    return 1 << cell.precision if cell.code < 0 else 3


def names(layout: Layout, part: Part) -> dict[str, tuple[np.dtype, int]]:
    """Return the arrays that a part keeps, each of an entry per tile: dtype and width, 0 of a vector."""
    kept: dict[str, tuple[np.dtype, int]] = {"key": (np.dtype(np.uint64), 0), "tile": (np.dtype(np.int64), 0)}
    for i, cell in enumerate(layout.cells(part)):
        kept[f"cell/{i}"] = (np.dtype(np.uint8 if cell.code < 0 else np.float64), _width(cell))
    return kept


def empty(layout: Layout, part: Part) -> Arrays:
    """Return what a part keeps before the first row."""
    return {name: np.zeros((0, width) if width else 0, dtype) for name, (dtype, width) in names(layout, part).items()}


def expired(part: Part, kept: Arrays, before: int) -> Arrays:
    """Return what rows from a time on can still need."""
    longest = part.reach_us - part.hop_us
    alive = kept["tile"] >= (max(before, longest + np.iinfo(np.int64).min) - longest) // part.hop_us
    return kept if alive.all() else {name: values[alive] for name, values in kept.items()}


def _table(kept: Arrays, key: np.ndarray, tile: np.ndarray) -> tuple[Arrays, np.ndarray]:
    """Return the tiles with those of some rows among them, and the number of each row's tile; new ones are empty."""
    order = np.lexsort((tile, key))
    first = np.ones(order.size, bool)
    first[1:] = (key[order[1:]] != key[order[:-1]]) | (tile[order[1:]] != tile[order[:-1]])
    inverse = np.empty(order.size, np.int64)
    inverse[order] = np.cumsum(first) - 1
    new_key, new_tile = key[order[first]], tile[order[first]]
    stored = kept["key"].size
    both = np.empty(stored + new_key.size, np.int64)
    kernels.rolling.merging.merged(kept["key"], kept["tile"], new_key, new_tile, both)
    all_key, all_tile = np.concatenate([kept["key"], new_key])[both], np.concatenate([kept["tile"], new_tile])[both]
    fresh = np.ones(both.size, bool)
    fresh[1:] = (all_key[1:] != all_key[:-1]) | (all_tile[1:] != all_tile[:-1])
    number, old = np.cumsum(fresh) - 1, both < stored
    table: Arrays = {"key": all_key[fresh], "tile": all_tile[fresh]}
    for name, values in kept.items():
        if name.startswith("cell/"):
            table[name] = np.zeros((table["key"].size, values.shape[1]), values.dtype)
            table[name][number[old]] = values
    return table, number[~old][inverse]


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
    rows = queries.rows
    dated = rows.time if part.dated < 0 else rows.clocks[part.dated]
    whole = np.flatnonzero(dated != NEVER)
    table, number = _table(kept, rows.key[whole], dated[whole] // part.hop_us)
    into = np.full(len(rows), -1)
    into[whole] = number
    begin, end = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    kernels.rolling.bounds.spans(rows.key, table["key"], begin, end)
    found: dict[int, Result] = {}
    for i, cell in enumerate(layout.cells(part)):
        outputs = [(n, output) for n, output in part.outputs if layout.cell(output.aggregate) == cell]
        low, high = (np.empty((len(outputs), len(rows)), np.int64) for _ in range(2))
        for w, (_, output) in enumerate(outputs):
            of = (output.window.length_us, output.window.delay_us, part.hop_us)
            kernels.rolling.bounds.tiles(rows.time, begin, end, table["tile"], *of, low[w], high[w])
        out, tiles = np.empty(low.shape), table[f"cell/{i}"]
        if cell.code < 0:
            codes = rows.codes[cell.lane]
            kernels.rolling.registers.roll(codes, NOTHING, into, begin, low, high, cell.includes_row, tiles, out)
        else:
            values = rows.numbers[cell.lane] if cell.lane >= 0 else np.zeros(len(rows))
            where = (rows.time, into, begin, low, high, cell.includes_row)
            kernels.rolling.tiles.roll(cell.code, values, dated, *where, tiles, out)
        found |= {n: Result(out[w]) for w, (n, _) in enumerate(outputs)}
    return found, table
