"""A bounded summary of how scores rank two classes: the distinct scores with the weight of each class at them.

Up to `MOST` distinct scores it is exact. Beyond, neighbours are merged where they matter least, in cells of equal size on

    φ = 512 · share of class 1 above + 256 · share of class 0 above + 256 · log₂(1 + 2²⁰ · share of all rows above) / 20.0

so that no cell holds more than 1/512 of class 1, 1/256 of class 0, or 6 % more than all that lies above it, except a
single score that does so alone (a tie stays one). Only the order of the scores is used: increasing transforms change
nothing. AUC is then off by at most ½ Σ cells p·n ≤ 0.001 for one such cut, whatever the scores; in practice by 1e-5, since a
cell's rows are as often in the wrong order as in the right one. Average precision is off by at most 1/512 of its variation.

Letters: ``b`` distinct scores or cells, lowest first.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["MOST", "Table", "at_k", "auc", "average_precision", "joined", "share_above", "table"]

MOST = 4096
"""Distinct scores that are kept exactly: as many as a window's sample has rows."""
_OF_ONES, _OF_ZEROS, _OF_RANK = 512.0, 256.0, 256.0
_FINEST = 2.0**20


class Table(NamedTuple):
    """Weights by distinct score, lowest first; a row of weight w adds w, and w² to the squares, which tell the noise."""

    score: np.ndarray  # (b,)
    ones: np.ndarray  # (b,) Σ w of class 1
    zeros: np.ndarray  # (b,) Σ w of class 0
    ones_squared: np.ndarray  # (b,) Σ w² of class 1
    zeros_squared: np.ndarray  # (b,) Σ w² of class 0


def table(score: np.ndarray, is_one: np.ndarray, weight: np.ndarray) -> Table:
    """Summarise rows: scores (n,), class (n,) bool, weights (n,) ≥ 0."""
    one, zero = np.where(is_one, weight, 0.0), np.where(is_one, 0.0, weight)
    return _bounded(_united(Table(np.asarray(score, dtype=np.float64), one, zero, one * one, zero * zero)))


def joined(a: Table, b: Table) -> Table:
    """Merge two summaries; symmetric to the last bit."""
    return _bounded(_united(Table(*(np.concatenate(pair) for pair in zip(a, b, strict=True)))))


def _united(rows: Table) -> Table:
    """Order by score, equal scores as one, what has no weight left out."""
    rows = _of_weight(rows)
    order = np.argsort(rows.score, kind="stable")
    score = rows.score[order]
    starts = np.flatnonzero(np.append(True, score[1:] != score[:-1])[: score.size])
    return Table(score[starts] + 0.0, *(_sums(values[order], starts) for values in rows[1:]))


def _of_weight(rows: Table) -> Table:
    present = rows.ones + rows.zeros != 0.0
    return rows if present.all() else Table(*(values[present] for values in rows))


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.asarray(np.add.reduceat(values, starts), dtype=np.float64) if starts.size else np.zeros(0)


def _bounded(rows: Table) -> Table:
    """Merge neighbours once there are more than `MOST`, each cell under the score of its heaviest member.

    A score that reaches over the end of a cell stays alone, so that a tie of many rows takes in no others.
    """
    b = rows.score.size
    if b <= MOST:
        return rows
    one, zero = (values / max(float(values.sum()), np.finfo(float).tiny) for values in (rows.ones, rows.zeros))
    share = (rows.ones + rows.zeros) / float(rows.ones.sum() + rows.zeros.sum())
    above = [np.append(np.cumsum(values[::-1])[::-1], 0.0) for values in (one, zero, share)]
    phi = _OF_ONES * above[0] + _OF_ZEROS * above[1] + _OF_RANK / 20.0 * np.log2(1.0 + _FINEST * above[2])
    cell = np.floor(phi)
    alone = cell[1:] != cell[:-1]  # from the top, a score takes up φ from its upper neighbour's end to its own
    number = np.cumsum(np.append(True, alone[1:] | alone[:-1]))
    starts = np.flatnonzero(np.append(True, number[1:] != number[:-1]))
    size = phi[:-1] - phi[1:]
    heaviest = np.lexsort((np.arange(b), -size, number))[starts]
    return Table(rows.score[heaviest], *(_sums(values, starts) for values in rows[1:]))


class _Ranked(NamedTuple):
    """A table from the highest score down, with running sums."""

    one: np.ndarray
    zero: np.ndarray
    one_squared: np.ndarray
    zero_squared: np.ndarray
    hits: np.ndarray  # weight of class 1 from the top to here, here included
    taken: np.ndarray  # weight of both classes likewise


def _ranked(rows: Table) -> _Ranked:
    one, zero, one_squared, zero_squared = (values[::-1] for values in rows[1:])
    hits = np.cumsum(one)
    return _Ranked(one, zero, one_squared, zero_squared, hits, hits + np.cumsum(zero))


def _spread(value: np.ndarray, weight: np.ndarray, squared: np.ndarray, unknown: float) -> float:
    """Return the variance of ``Σ w·value``, its total weight known: Σ w² (value − mean)², by linearisation.

    Half a row of the mean weight and of a value that knows nothing counts too: else three rows of one value, such as the
    positives of a perfect ranking, would have no noise.
    """
    total = float(weight.sum())
    mean = float(weight @ value) / total
    typical = float(squared.sum()) / total
    return float(squared @ (value - mean) ** 2) + 0.5 * (typical * (unknown - mean)) ** 2


def auc(rows: Table) -> tuple[float, float]:
    """Return the area under the ROC curve, ties by half, and its standard error.

    DeLong, DeLong and Clarke-Pearson 1988, with weights: each row's share of the other class that it is ranked against
    rightly is its influence.
    """
    ranked = _ranked(rows)
    ones, zeros = float(ranked.one.sum()), float(ranked.zero.sum())
    one_above = (ranked.hits - 0.5 * ranked.one) / ones  # of class 1 above a row, ties by half
    zero_below = 1.0 - (np.cumsum(ranked.zero) - 0.5 * ranked.zero) / zeros
    value = float(ranked.zero @ one_above) / zeros
    variance = _spread(zero_below, ranked.one, ranked.one_squared, 0.5) / ones**2
    variance += _spread(one_above, ranked.zero, ranked.zero_squared, 0.5) / zeros**2
    return value, float(np.sqrt(variance))


def average_precision(rows: Table) -> tuple[float, float]:
    """Return Σ recall gained · precision there, as scikit-learn does with ties, and its standard error.

    A row of class 1 counts by the precision at its place and by what it adds to the precision of all below, one of class 0
    by what it takes from theirs; the masses of the classes are known.
    """
    ranked = _ranked(rows)
    ones, total = float(ranked.one.sum()), float(ranked.taken[-1])
    precision = ranked.hits / ranked.taken
    value = float(ranked.one @ precision) / ones
    below = np.cumsum((ranked.one / ranked.taken)[::-1])[::-1]  # Σ over class 1 at or below a row, per row taken
    lost = np.cumsum((ranked.one * precision / ranked.taken)[::-1])[::-1]
    variance = _spread(precision + below - lost, ranked.one, ranked.one_squared, ones / total)
    if total > ones:
        variance += _spread(-lost, ranked.zero, ranked.zero_squared, 0.0)
    return value, float(np.sqrt(variance)) / ones


def share_above(above: float, above_squared: float, total: float, squared: float) -> float:
    """Return the variance of the weight above a cut, of a class whose mass is known; half a row more on either side.

    Args:
        above: Σ w of the class's rows above the cut.
        above_squared: Σ w² of them.
        total: Σ w of the class.
        squared: Σ w² of the class.
    """
    if total <= 0.0:
        return 0.0
    half = 0.5 * (squared / total) ** 2
    share = (above + 0.5 * squared / total) / (total + squared / total)
    below = max(squared - above_squared, 0.0)
    return (above_squared + half) * (1.0 - share) ** 2 + (below + half) * share**2


def at_k(rows: Table, k: float) -> tuple[float, float]:
    """Return the weight of class 1 among the k heaviest-scored weight, and its standard error.

    Ties at the cut are taken in proportion: their order is not known. A row more above the cut pushes out others, of
    class 1 as often as rows around the cut are (from k/1.25 to 1.25·k).
    """
    ranked = _ranked(rows)
    mine = ranked.one + ranked.zero
    share = np.clip((k - (ranked.taken - mine)) / mine, 0.0, 1.0)
    hits = float(ranked.one @ share)
    total = float(ranked.taken[-1])
    if k >= total:
        return hits, 0.0
    near = (ranked.taken >= k / 1.25) & (ranked.taken - mine <= 1.25 * k)
    rate = float(ranked.one[near].sum() / mine[near].sum())
    gained = share_above(
        hits, float(ranked.one_squared @ share), float(ranked.one.sum()), float(ranked.one_squared.sum())
    )
    pushed = share_above(
        k - hits, float(ranked.zero_squared @ share), float(ranked.zero.sum()), float(ranked.zero_squared.sum())
    )
    return hits, float(np.sqrt((1.0 - rate) ** 2 * gained + rate**2 * pushed))
