"""Second-order factorization machines by AdaGrad, a step a row, over a table of the parameter rows that are touched.

Letters: ``n`` rows, ``z`` stored values, ``k`` factors, ``m`` = k + 1 columns of a parameter row (its linear weight, then
its factors), ``s`` slots of the table. With z_i = x_i / scale_i and S_f = Σ_i v_if z_i (Rendle 2010)::

    η = w0 + Σ_i w_i z_i + ½ Σ_f [S_f² − Σ_i v_if² z_i²]      ∂η/∂w_i = z_i      ∂η/∂v_if = z_i(S_f − v_if z_i)
    g = weight · (clip(∂loss/∂η · ∂η/∂θ) + λ·θ)      G' = G + g²      θ' = θ − a·g/√G'

A table's row is ``θ (m), Σ g² of the run (m), Σ g² before it (m), Σ weight and Σ weight·x² before it, the same of the run``;
row 0 is the bias, in its first column.
"""

# mypy: disable-error-code="untyped-decorator"

import math

import numba
import numpy as np
from numba import types

from beam_ml.kernels.losses import pull

__all__ = ["EXTRA", "assign", "fill", "gather", "run", "scores"]

EXTRA = 4
"""Columns of a table's row besides 3m: the weights and squares of a feature's values."""

_TINY = 1e-300  # where no gradient has come yet, 0/√tiny is the step
_F8 = types.Array(types.float64, 1, "C", readonly=True)
_F82 = types.Array(types.float64, 2, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I4 = types.Array(types.int32, 1, "C", readonly=True)
_KINDS = (types.float32, types.float64)
_REORDER = {"reassoc", "contract", "nsz"}  # sums over factors may be taken in any order: vectors


@numba.njit(inline="always", error_model="numpy")
def _step(flat: np.ndarray, at: int, m: int, grad: float, w: float, rate: float, l2: float) -> None:
    """Take one step of the entry at a table's place."""
    g = w * (grad + l2 * flat[at])
    total = flat[at + m] + g * g
    flat[at + m] = total
    flat[at] -= rate * g / math.sqrt(flat[at + 2 * m] + total + _TINY)


@numba.njit(types.int64(_I4, types.int32[::1], types.int64[::1], types.int64, types.int32[::1]), cache=True, nogil=True)
def assign(indices: np.ndarray, slot: np.ndarray, rows: np.ndarray, count: int, out: np.ndarray) -> int:
    """Write each value's slot, giving new features the next ones; give the number of slots after.

    Args:
        indices: (z,) features.
        slot: (d,) slot of each feature, 0: none yet; updated.
        rows: feature of each slot, with room for all; updated.
        count: slots so far, the bias's included.
        out: (z,).
    """
    for z in range(indices.size):
        j = indices[z]
        if slot[j] == 0:
            slot[j] = count
            rows[count] = j
            count += 1
        out[z] = slot[j]
    return count


@numba.njit(types.void(_I8, _F82, _F82, _F82, types.float64[:, ::1]), cache=True, nogil=True)
def fill(rows: np.ndarray, theta: np.ndarray, squares: np.ndarray, sums: np.ndarray, out: np.ndarray) -> None:
    """Write what an anchor holds of some parameter rows into new rows of a table, and zeros for the run's own.

    Args:
        rows: (s,).
        theta: (p, m), as the next two.
        squares: Σ gradient².
        sums: (p, 2) Σ weight and Σ weight·x².
        out: (s, 3m + 4).
    """
    m = theta.shape[1]
    for s in range(rows.size):
        j = rows[s]
        for c in range(m):
            out[s, c] = theta[j, c]
            out[s, m + c] = 0.0
            out[s, 2 * m + c] = squares[j, c]
        out[s, 3 * m], out[s, 3 * m + 1] = sums[j, 0], sums[j, 1]
        out[s, 3 * m + 2], out[s, 3 * m + 3] = 0.0, 0.0


@numba.njit(types.void(_F82, _I8, _F82, _I8, *[types.float64[:, ::1]] * 4), cache=True, nogil=True, error_model="numpy")
def gather(
    table: np.ndarray,
    order: np.ndarray,
    start: np.ndarray,
    at: np.ndarray,
    scaled: np.ndarray,
    moved: np.ndarray,
    squares: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Write what a run has come to: its move, scaled by curvature too, its Σ gradient², and its features' sums.

    Args:
        table: (s, 3m + 4).
        order: (r,) rows of the table to write.
        start: parameters (…, m) before the run.
        at: (r,) rows of `start` for those.
        scaled: (r, m) D = moved·√(G + g/2).
        moved: (r, m) θ less its start.
        squares: (r, m) g.
        sums: (r, 2) Σ weight and Σ weight·x² of the run.
    """
    m = moved.shape[1]
    for i in range(order.size):
        s, j = order[i], at[i]
        for c in range(m):
            gone, g = table[s, c] - start[j, c], table[s, m + c]
            moved[i, c], squares[i, c] = gone, g
            scaled[i, c] = gone * math.sqrt(table[s, 2 * m + c] + 0.5 * g)
        sums[i, 0], sums[i, 1] = table[s, 3 * m + 2], table[s, 3 * m + 3]


@numba.njit(
    [
        types.void(
            _I8, _I4, types.Array(kind, 1, "C", readonly=True), _F8, _F8, types.int64, _F8, _F8, types.float64,
            types.boolean, types.int64, types.float64[:, ::1],
        )
        for kind in _KINDS
    ],
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath=_REORDER,
)  # fmt: skip
def run(
    indptr: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    code: int,
    rate: np.ndarray,
    l2: np.ndarray,
    clip: float,
    normalize: bool,
    m: int,
    table: np.ndarray,
) -> None:
    """Run over n CSR rows.

    Args:
        indptr: (n + 1,) bounds of the rows.
        place: (z,) slot of each value, none twice in a row.
        values: (z,).
        y: (n,) labels.
        weight: (n,) > 0.
        code: of the loss; see `beam_ml.kernels.losses`.
        rate: (3,) learning rates of bias, linear weights and factors; 0 holds still.
        l2: (3,) penalties, counted at every row for the features that it has.
        clip: largest magnitude of a gradient before its penalty.
        normalize: divide values by their feature's √(Σ weight·x² / Σ weight), this row included.
        m: k + 1.
        table: (s, 3m + 4); updated.
    """
    k = m - 1
    widest = 0
    for i in range(y.size):
        widest = max(widest, indptr[i + 1] - indptr[i])
    x = np.empty(widest)
    sums, score, slope = np.empty(k), np.empty(1), np.empty(1)
    flat = table.reshape(-1)
    width = table.shape[1]
    for i in range(y.size):
        begin, end, w = indptr[i], indptr[i + 1], weight[i]
        sums[:] = 0.0
        eta, pairs = flat[0], 0.0
        for z in range(begin, end):
            at = place[z] * width
            value = np.float64(values[z])
            if normalize and value != 0.0:
                seen = at + 3 * m
                flat[seen + 2] += w
                flat[seen + 3] += w * value * value
                squares, met = flat[seen + 1] + flat[seen + 3], flat[seen] + flat[seen + 2]
                if squares != met:  # an indicator is its own scale
                    value /= math.sqrt(squares / met)
            x[z - begin] = value
            eta += value * flat[at]
            for f in range(k):
                part = value * flat[at + 1 + f]
                sums[f] += part
                pairs -= part * part
        for f in range(k):
            pairs += sums[f] * sums[f]
        score[0] = eta + 0.5 * pairs
        pull(code, score, y[i], 1.0, 1, 0.0, 1.0, slope)
        e = slope[0]
        _step(flat, 0, m, min(max(e, -clip), clip), w, rate[0], l2[0])
        for z in range(begin, end):
            value = x[z - begin]
            if value == 0.0:
                continue
            at = place[z] * width
            pulled = e * value
            _step(flat, at, m, min(max(pulled, -clip), clip), w, rate[1], l2[1])
            u, g, base = flat[at + 1 : at + m], flat[at + m + 1 : at + 2 * m], flat[at + 2 * m + 1 : at + 3 * m]
            for f in range(k):
                v = u[f]
                grad = w * (min(max(pulled * (sums[f] - v * value), -clip), clip) + l2[2] * v)
                total = g[f] + grad * grad
                g[f] = total
                u[f] = v - rate[2] * grad / math.sqrt(base[f] + total + _TINY)


@numba.njit(
    [
        types.void(
            _I8, _I4, types.Array(kind, 1, "C", readonly=True), types.float64, _F8, _F82, types.float64[::1]
        )
        for kind in _KINDS
    ],
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath=_REORDER,
)  # fmt: skip
def scores(
    indptr: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    intercept: float,
    linear: np.ndarray,
    factors: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write η of n CSR rows with the parameters linear (r,) and factors (r, k)."""
    k = factors.shape[1]
    sums = np.empty(k)
    for i in range(out.size):
        sums[:] = 0.0
        eta, pairs = intercept, 0.0
        for z in range(indptr[i], indptr[i + 1]):
            j, value = place[z], np.float64(values[z])
            eta += value * linear[j]
            for f in range(k):
                part = value * factors[j, f]
                sums[f] += part
                pairs -= part * part
        for f in range(k):
            pairs += sums[f] * sums[f]
        out[i] = eta + 0.5 * pairs
