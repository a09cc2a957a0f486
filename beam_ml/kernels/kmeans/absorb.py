"""Moving rows into centres, and centres into each other. Letters: ``n`` rows, ``d`` features, ``m`` centres.

Sums run in row order, so equal arguments yield equal bits. Arrays may be read-only.
"""

import numba
import numpy as np
from numba import types

__all__ = ["absorb", "pair_up", "squared_to"]

_F8 = types.float64
_MATRIX8 = types.Array(_F8, 2, "C", readonly=True)
_MATRIX4 = types.Array(types.float32, 2, "C", readonly=True)
_VECTOR8 = types.Array(_F8, 1, "C", readonly=True)
_VECTOR_I = types.Array(types.int64, 1, "C", readonly=True)


def _signatures(*tail: types.Type) -> list[types.Tuple]:
    return [(rows, *tail) for rows in (_MATRIX8, _MATRIX4)]


@numba.njit(_signatures(_MATRIX8, _VECTOR_I), cache=True, nogil=True)
def squared_to(x: np.ndarray, centres: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return each row's squared distance to the centre that `index` names, in float64."""
    n, d = x.shape
    squared = np.empty(n)
    for i in range(n):
        c = index[i]
        total = 0.0
        for j in range(d):
            gap = x[i, j] - centres[c, j]
            total += gap * gap
        squared[i] = total
    return squared


@numba.njit(_signatures(_VECTOR8, _VECTOR8, _VECTOR_I, _MATRIX8, _VECTOR8, _VECTOR8), cache=True, nogil=True)
def absorb(
    x: np.ndarray,
    row_weight: np.ndarray,
    row_scatter: np.ndarray,
    index: np.ndarray,
    centres: np.ndarray,
    weight: np.ndarray,
    scatter: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Move centres to the means of what they take in, and keep the scatter about them exact.

    With residuals r = x − c of the rows of weight w that a centre of weight W takes in::

        Δ = Σwr / (W + Σw)     c' = c + Δ     s' = s + Σ(w‖r‖² + row scatter) − (W + Σw)‖Δ‖²

    Args:
        x: (n, d) rows.
        row_weight: (n,).
        row_scatter: (n,) scatter that the rows bring.
        index: (n,) the centre that takes each row in; −1: none does.
        centres: (m, d).
        weight: (m,) of the centres.
        scatter: (m,) about the centres.

    Returns:
        New centres, weight and scatter.
    """
    n, d = x.shape
    m = centres.shape[0]
    moved = np.zeros((m, d))
    mass = weight.copy()
    spread = scatter.copy()
    touched = np.zeros(m, np.bool_)
    for i in range(n):
        c = index[i]
        if c < 0:
            continue
        touched[c] = True
        w = row_weight[i]
        total = 0.0
        line = moved[c]
        for j in range(d):
            gap = x[i, j] - centres[c, j]
            total += gap * gap
            line[j] += w * gap
        mass[c] += w
        spread[c] += w * total + row_scatter[i]
    for c in range(m):
        line = moved[c]
        if touched[c] and mass[c] > 0.0:
            total = 0.0
            for j in range(d):
                step = line[j] / mass[c]
                total += step * step
                line[j] = centres[c, j] + step
            spread[c] = max(spread[c] - mass[c] * total, 0.0)
        else:
            line[:] = centres[c]
    return moved, mass, spread


@numba.njit([(_VECTOR_I, _VECTOR_I, types.int64)], cache=True, nogil=True)
def pair_up(partner: np.ndarray, by_cost: np.ndarray, count: int) -> np.ndarray:
    """Match centres with their partners, cheapest first, each at most once, until `count` pairs are made.

    Args:
        partner: (m,) the centre that each would merge with; itself: none.
        by_cost: (m,) centre numbers by rising cost.
        count: pairs to make at most.

    Returns:
        (m,) int64: the number of each centre afterwards, the lower of the pair's.
    """
    m = partner.size
    target = np.arange(m)
    free = np.ones(m, np.bool_)
    for a in by_cost:
        if count <= 0:
            break
        b = partner[a]
        if a != b and free[a] and free[b]:
            free[a] = False
            free[b] = False
            target[a] = min(a, b)
            target[b] = min(a, b)
            count -= 1
    return target
