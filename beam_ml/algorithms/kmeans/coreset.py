"""The coreset: canonical order, cells for fast look-up, and making room by merging near pairs.

Letters: ``m`` centres, ``d`` features, ``p`` cells.

Reference: Equitz, "A new vector quantization clustering algorithm" (1989), for pairwise nearest neighbours;
Ward, "Hierarchical grouping to optimize an objective function" (1963), for their cost.
"""

import dataclasses

import numpy as np

from beam_ml import kernels
from beam_ml.algorithms.kmeans.spec import Partial, Spec

__all__ = ["Cells", "canonical", "cells_of", "empty", "locate", "merge", "reduce", "stacked"]

_FLAT = 256  # centres, or rows, up to which cells do not pay off
_PROBE = 1.5  # a cell lists this many times the centres that an even share would be
_CELL_ROUNDS = 2
_SHARE = 10  # one centre in so many may offer itself in a round


@dataclasses.dataclass(frozen=True, slots=True)
class Cells:
    """Coarse cells over some centres, and for each cell the centres that its rows are compared with.

    Attributes:
        pivots: (p, d) middle of each cell.
        list_bounds: (p + 1,) where each cell starts in `lists`.
        lists: centre numbers: the cell's own and the nearest of its neighbours.
    """

    pivots: np.ndarray
    list_bounds: np.ndarray
    lists: np.ndarray


def empty(spec: Spec) -> Partial:
    """Return the coreset of no rows."""
    return Partial(centres=np.zeros((0, spec.n_features)), weight=np.zeros(0), scatter=np.zeros(0))


def stacked(*parts: Partial) -> Partial:
    """Put coresets one after another, not yet in canonical order."""
    return Partial(
        centres=np.concatenate([p.centres for p in parts]),
        weight=np.concatenate([p.weight for p in parts]),
        scatter=np.concatenate([p.scatter for p in parts]),
    )


def canonical(coreset: Partial) -> Partial:
    """Order centres by their bytes and merge equal ones: what was merged in any order has one form.

    The order of the bytes has nothing to do with where a centre lies, so every n-th centre is as good as a random one.
    """
    m, d = coreset.centres.shape
    table = np.empty((m, d + 2))
    table[:, :d] = coreset.centres + 0.0  # −0 and 0 are one place
    table[:, d] = coreset.weight
    table[:, d + 1] = coreset.scatter
    keys = table.view(np.dtype((np.void, 8 * (d + 2)))).ravel()
    table = table[np.argsort(keys, kind="stable")]
    places = table[:, :d]
    first = np.ones(m, dtype=bool)
    np.any(places[1:] != places[:-1], axis=1, out=first[1:])
    starts = np.flatnonzero(first)
    return Partial(
        centres=np.ascontiguousarray(places[starts]),
        weight=np.add.reduceat(table[:, d], starts) if m else np.zeros(0),
        scatter=np.add.reduceat(table[:, d + 1], starts) if m else np.zeros(0),
    )


def _one_cell(centres: np.ndarray) -> Cells:
    m = centres.shape[0]
    return Cells(centres.mean(axis=0, keepdims=True), np.array([0, m]), np.arange(m))


def cells_of(centres: np.ndarray, n_rows: int) -> Cells:
    """Cut at least one centre into about √m cells, or one if so many rows are not worth more."""
    m = centres.shape[0]
    if min(m, n_rows) <= _FLAT:
        return _one_cell(centres)
    p = round(np.sqrt(m))
    pivots = centres[np.linspace(0, m - 1, p).astype(np.int64)]
    ones, zeros = np.ones(m), np.zeros(m)
    for _ in range(_CELL_ROUNDS):
        cell = locate(centres, pivots, _one_cell(pivots))
        none = np.zeros(pivots.shape[0])
        pivots, mass, _ = kernels.kmeans.absorb.absorb(centres, ones, zeros, cell, pivots, none, none)
        pivots = pivots[mass > 0]
    cell = locate(centres, pivots, _one_cell(pivots))
    p = pivots.shape[0]
    # In units of a power of two near the farthest centre, so that squares fit float32.
    gaps = centres - pivots[0]
    far = -np.frexp(np.abs(gaps).max())[1]
    z, y = (np.ldexp(one, far).astype(np.float32) for one in (gaps, pivots - pivots[0]))
    apart = np.einsum("ij,ij->i", z, z) - 2.0 * (y @ z.T)
    apart[cell, np.arange(m)] = -np.inf
    apart[np.isnan(apart)] = np.inf
    size = min(m, int(np.ceil(_PROBE * m / p)))
    limit = np.partition(apart, size - 1, axis=1)[:, size - 1 : size]
    flat = np.flatnonzero(apart <= limit)
    return Cells(pivots, np.searchsorted(flat, np.arange(p + 1) * m), flat % m)


def _by_cell(cell: np.ndarray, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers ordered by cell, and where each cell starts."""
    order = np.argsort(cell.astype(np.uint16) if p < 65536 else cell, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(cell, minlength=p))])
    return order, bounds


def locate(x: np.ndarray, centres: np.ndarray, cells: Cells) -> np.ndarray:
    """Return each row's nearest centre among those its cell lists, (n,) int64: seldom not the nearest of all."""
    n, p = x.shape[0], cells.pivots.shape[0]
    if p == 1:
        order, bounds = np.arange(n), np.array([0, n])
    else:
        order, bounds = _by_cell(locate(x, cells.pivots, _one_cell(cells.pivots)), p)
    return kernels.kmeans.nearest.nearest_in_cells(
        x, order, bounds, cells.pivots, centres, cells.list_bounds, cells.lists
    )


def reduce(coreset: Partial, size: int) -> Partial:
    """Merge near pairs until at most `size` centres are left; weight, mean and scatter stay exact.

    Merging a and b adds ``w_a w_b / (w_a + w_b) · ‖a − b‖²`` to the sum of squares. A round looks at the cheapest offers
    only, since far centres must not be merged while near ones wait for their next partner.
    """
    m, built = coreset.weight.size, 0
    cells, cell = Cells(coreset.centres[:0], np.zeros(1, np.int64), np.zeros(0, np.int64)), np.zeros(m, np.int64)
    partner, cost, stale = np.arange(m), np.full(m, np.inf), np.ones(m, dtype=bool)
    while m > size:
        if 2 * m <= built or not built:
            cells, built = cells_of(coreset.centres, m), m
            cell = locate(coreset.centres, cells.pivots, _one_cell(cells.pivots))
            stale[:] = True
        rows = np.flatnonzero(stale)
        order, bounds = _by_cell(cell[rows], cells.pivots.shape[0])
        found, price = kernels.kmeans.nearest.nearest_partner(
            coreset.centres, coreset.weight, rows[order], bounds, cells.list_bounds, cells.lists
        )
        partner, cost = np.where(stale, found, partner), np.where(stale, price, cost)
        if not np.isfinite(cost).any():  # centres too far apart to square: any pair will do, the state is lost anyway
            partner = np.minimum(np.arange(m) ^ 1, m - 1)
        offers = np.argsort(cost, kind="stable")[: max((m - size) // 2, m // _SHARE, 1)]
        target = kernels.kmeans.absorb.pair_up(partner, offers, m - size)
        kept = target == np.arange(m)
        coreset = _joined(coreset, target, kept)
        # Merging only makes offers dearer (Ward's cost is reducible): those to unchanged centres stay the cheapest.
        changed = np.zeros(m, dtype=bool)
        changed[target[~kept]] = True
        stale = (changed | changed[target[partner]])[kept]
        number = np.cumsum(kept) - 1
        partner, cost = number[target[partner]][kept], cost[kept]
        cells, cell, m = _thinned(cells, kept), cell[kept], coreset.weight.size
    return coreset


def _joined(coreset: Partial, target: np.ndarray, kept: np.ndarray) -> Partial:
    """Move each centre that is not kept into the one that replaces it."""
    number = np.cumsum(kept) - 1
    centres, weight, scatter = kernels.kmeans.absorb.absorb(
        coreset.centres[~kept], coreset.weight[~kept], coreset.scatter[~kept], number[target[~kept]],
        coreset.centres[kept], coreset.weight[kept], coreset.scatter[kept],
    )  # fmt: skip
    return Partial(centres=centres, weight=weight, scatter=scatter)


def _thinned(cells: Cells, kept: np.ndarray) -> Cells:
    """Return the same cells over the centres that were kept."""
    stay = kept[cells.lists]
    before = np.concatenate([[0], np.cumsum(stay)])
    return Cells(cells.pivots, before[cells.list_bounds], (np.cumsum(kept) - 1)[cells.lists[stay]])


def merge(spec: Spec, a: Partial, b: Partial) -> Partial:
    """Merge two coresets; more centres than the capacity are reduced to it. The same bits either way round."""
    if b.weight.size == 0:
        return a
    if a.weight.size == 0:
        return b
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large to square turns infinite, as fold refuses
        return reduce(canonical(stacked(a, b)), spec.capacity)
