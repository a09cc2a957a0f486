"""Absorbs rows: each is added to its nearest centre, or becomes a centre where the coreset is too coarse.

A row of weight w at squared distance D of its nearest centre opens a centre of its own with the rate ``min(1, w·D / f)``,
where f is the scatter that a centre of a coreset of the target size has on average: the facility price of online
k-means. Rates are spent systematically (one centre each time their running sum passes a whole number), so no random
numbers are needed. When the capacity is reached, near pairs are merged until the target size is left.

Reference: Liberty, Sriharsha and Sviridenko, "An algorithm for online k-means clustering" (2016).
"""

import numpy as np

from beam_ml import kernels
from beam_ml.algorithms.kmeans.coreset import canonical, cells_of, locate, reduce, stacked
from beam_ml.algorithms.kmeans.spec import Partial, Spec

__all__ = ["take_in"]

_FEWEST_ROWS = 2048  # a step while the coreset fills
_MOST_ROWS = 32768


def take_in(spec: Spec, coreset: Partial, x: np.ndarray, weight: np.ndarray) -> Partial:
    """Return the coreset with rows (n, d) of weight (n,) > 0 added."""
    n = x.shape[0]
    start, step = 0, _MOST_ROWS if coreset.weight.size >= spec.target else _FEWEST_ROWS
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large to square turns infinite, as fold refuses
        while start < n:
            rows = slice(start, min(n, start + step))
            coreset, used = _step(spec, coreset, x[rows], weight[rows])
            start += used
            # Rows located in vain when the coreset fills up early are the price of large steps.
            step = min(_MOST_ROWS, 2 * step) if start == rows.stop else max(_FEWEST_ROWS, used)
    return coreset


def _step(spec: Spec, coreset: Partial, x: np.ndarray, weight: np.ndarray) -> tuple[Partial, int]:
    """Take in as many of the first rows as there is room to open centres for; return how many those were (≥ 1)."""
    m = coreset.weight.size
    if m == 0:
        used = min(spec.capacity, x.shape[0])
        return canonical(_opened(x[:used], weight[:used])), used
    if m >= spec.capacity:
        coreset = reduce(coreset, spec.target)
        m = coreset.weight.size
    index = locate(x, coreset.centres, cells_of(coreset.centres, x.shape[0]))
    cost = weight * kernels.kmeans.absorb.squared_to(x, coreset.centres, index)
    price = float(coreset.scatter.sum()) / spec.target if m >= spec.target else 0.0
    rate = np.minimum(cost / price, 1.0) if price > 0 else (cost > 0).astype(np.float64)
    spent = np.floor(np.cumsum(np.nan_to_num(rate, nan=1.0)) + 0.5)
    used = int(np.searchsorted(spent, spec.capacity - m, side="right"))
    opens = np.diff(spent[:used], prepend=0.0) > 0
    index = np.where(opens, -1, index[:used])
    x, weight = x[:used], weight[:used]
    joined = Partial(
        *kernels.kmeans.absorb.absorb(
            x, weight, np.zeros(used), index, coreset.centres, coreset.weight, coreset.scatter
        )
    )
    if not opens.any():
        return joined, used
    return stacked(joined, canonical(_opened(x[opens], weight[opens]))), used


def _opened(x: np.ndarray, weight: np.ndarray) -> Partial:
    return Partial(centres=x.astype(np.float64), weight=weight.astype(np.float64), scatter=np.zeros(weight.size))
