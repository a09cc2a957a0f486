"""Second-order factorization machines by AdaGrad, a step per row, over a table of the parameter rows that are touched.

Letters: ``n`` rows, ``z`` stored values, ``k`` factors, ``m`` = k + 1 columns of a parameter row (its linear weight, then
its factors), ``s`` slots of the table. With z_i = (x_i − c_i) / (s_i·ρ) and S_f = Σ_i v_if z_i (Rendle 2010)::

    η = w0 + Σ_i w_i z_i + ½ Σ_f [S_f² − Σ_i v_if² z_i²]      ∂η/∂w_i = z_i      ∂η/∂v_if = z_i(S_f − v_if z_i)
    g = weight · (clip(∂loss/∂η · ∂η/∂θ) + λ·θ)      G' = G + g²      θ' = θ − τ_i·a·g/√G'

A row's steps together move its own score by ``a Σ g/√G' ∂η/∂θ``: much where many features are new, more than its label
asks for. They are held back to a half of what a Newton step on this row alone would do, each feature by its newness ν, the
share of Σ g² of its linear weight that is this row's: ``τ_i = 1 − κ·ν_i``, κ as small as does it, 0 for most rows,
or 1 where that is not enough. So the steps of the bias and of well-known features stay whole. Held back alike, they would
draw the level to the rarer of two classes, whose rows' steps are seldom too long, while those of nearly every row of the
other are.

The rate a of a feature's linear weight and factors is ``1 + λ/(1 + G_w/τ)`` times the one that is set, G_w the G of its
linear weight: see `beam_ml.algorithms.fm.steps`.

A feature's frame is (c, s): (0, s) of most, whose zeros are zeros; (c ≠ 0, s) of numbers that most rows have, and a row
that lacks one has the value 0; (c ≠ 0, 0) of a constant, which teaches nothing; (0, 0) of a feature that is new, which is
divided by the root mean square of the run's values other than 0. A value counts with at most ``farthest`` scales.
ρ, the same for all features, is there for rows of many features: they start no louder than rows of two.

A table's row is ``θ (m), Σ g² of the run (m), Σ g² before it (m), c, s``, then of the run's values other than 0 weight,
mean and Σ weight·(x − mean)², and the rows' weight per pass that the feature was in before. Row 0 is the bias, in its first
column: its weight is that of all rows, its mean that of the squared slopes of the loss, measured before each row is learned,
and its last column their sum. A residual far beyond those is a stranger: its step is as long as any, but later steps are
not shorter for it.
"""

# mypy: disable-error-code="untyped-decorator"

import math

import numba
import numpy as np
from numba import types

from beam_ml.kernels.fm.frames import count, within
from beam_ml.kernels.shared.losses import SQUARED, pull

__all__ = ["EXTRA", "assign", "fill", "gather", "run", "scores"]

EXTRA = 6
"""Columns of a table's row besides 3m: a feature's frame, and the moments of its values."""
_ENOUGH = 16.0  # rows' weight from which a new feature's scale tells what is far

_FEW = 4.0
_STRANGE = 16.0  # times the mean square of residuals beyond which one counts no further in Σ gradient²
_MOST = (2.0, 0.5)  # how far a row may move its own score per unit of ∂loss/∂η: logistic, squared
_TINY = 1e-300  # where no gradient has come yet, 0/√tiny is the step
_F8 = types.Array(types.float64, 1, "C", readonly=True)
_F82 = types.Array(types.float64, 2, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I4 = types.Array(types.int32, 1, "C", readonly=True)
_KINDS = (types.float32, types.float64)
_REORDER = {"reassoc", "contract", "nsz"}  # sums over factors may be taken in any order: vectors


@numba.njit(inline="always", error_model="numpy")
def _moved(flat: np.ndarray, at: int, m: int, grad: float, w: float, rate: float, l2: float, tame: float) -> float:
    """Add an entry's gradient to its sum, and return the step that it asks for."""
    g = w * (grad + l2 * flat[at])
    total = flat[at + m]
    flat[at + m] = total + tame * g * g
    return rate * g / math.sqrt(flat[at + 2 * m] + total + g * g + _TINY)


@numba.njit(inline="always", error_model="numpy")
def _newness(flat: np.ndarray, at: int, m: int, g: float) -> float:
    """Return the share of Σ g² of a feature's linear weight that is this row's."""
    return min(1.0, g * g / (flat[at + m] + flat[at + 2 * m] + _TINY))


@numba.njit(types.int64(_I4, types.int32[::1], types.int64[::1], types.int64, types.int32[::1]), cache=True, nogil=True)
def assign(indices: np.ndarray, slot: np.ndarray, rows: np.ndarray, count: int, out: np.ndarray) -> int:
    """Write each value's slot, new features getting the next ones; return the number of slots after.

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


@numba.njit(types.void(_I8, _F82, _F82, _F8, _F8, _F8, types.float64[:, ::1]), cache=True, nogil=True)
def fill(
    rows: np.ndarray,
    theta: np.ndarray,
    squares: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray,
    often: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write what an anchor holds of some parameter rows into new rows of a table, and zeros for the run's own.

    Args:
        rows: (s,) places among the anchor's; −1: it does not hold the row, and the table's is left as it is.
        theta: (p, m), as the next two.
        squares: Σ gradient².
        centre: (p,) c.
        scale: (p,) s.
        often: (p,) rows' weight that a feature is in, in one pass.
        out: (s, 3m + 6).
    """
    m = theta.shape[1]
    for s in range(rows.size):
        j = rows[s]
        if j < 0:
            continue
        for c in range(m):
            out[s, c] = theta[j, c]
            out[s, m + c] = 0.0
            out[s, 2 * m + c] = squares[j, c]
        out[s, 3 * m], out[s, 3 * m + 1] = centre[j], scale[j]
        out[s, 3 * m + 2 :] = 0.0
        out[s, 3 * m + 5] = often[j]


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
        table: (s, 3m + 6).
        order: (r,) rows of the table to write.
        start: parameters (…, m) before the run.
        at: (r,) rows of `start` for those.
        scaled: (r, m) D = moved·√(G + g/2).
        moved: (r, m) θ less its start.
        squares: (r, m) g.
        sums: (r, 3) weight, mean and Σ weight·(x − mean)² of the run's values other than 0.
    """
    m = moved.shape[1]
    for i in range(order.size):
        s, j = order[i], at[i]
        for c in range(m):
            gone, g = table[s, c] - start[j, c], table[s, m + c]
            moved[i, c], squares[i, c] = gone, g
            scaled[i, c] = gone * math.sqrt(table[s, 2 * m + c] + 0.5 * g)
        sums[i] = table[s, 3 * m + 2 : 3 * m + 5]


@numba.njit(
    [
        types.void(
            _I8, _I4, types.Array(kind, 1, "C", readonly=True), _F8, _F82, types.int64, _F8, _F8, types.float64,
            _F8, _F8, types.float64, types.float64, types.int64, _I8, types.float64[:, ::1],
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
    prior: np.ndarray,
    longer: np.ndarray,
    farthest: float,
    spread: float,
    m: int,
    everywhere: np.ndarray,
    table: np.ndarray,
) -> None:
    """Run over n CSR rows.

    Args:
        indptr: (n + 1,) bounds of the rows.
        place: (z,) slot of each value, none twice in a row.
        values: (z,).
        y: (n,) labels.
        weight: (n, 2) > 0, of the row in steps and in moments.
        code: of the loss; see `beam_ml.kernels.shared.losses`.
        rate: (3,) learning rates of bias, linear weights and factors; 0 holds still.
        l2: (3,) penalties, counted at every row for the features that it has.
        clip: largest magnitude of a gradient before its penalty.
        prior: (5,) of adaptive penalties: noise/σ² of linear weights; of factors 1/σ², 1/(noise²·passes), noise/σ² and the
            share of doubt; 0: no such penalty.
        longer: (3,) λ of linear weights and of factors, and 1/τ, by which steps are longer where little is known.
        farthest: scales from its centre at which a value stops counting for more, in steps and in moments.
        spread: ρ.
        m: k + 1.
        everywhere: (q,) slots of features with a centre: rows without them have the value 0.
        table: (s, 3m + 6); updated.
    """
    k, inverse = m - 1, 1.0 / spread
    widest = 0
    for i in range(y.size):
        widest = max(widest, indptr[i + 1] - indptr[i])
    widest += everywhere.size
    x, ats = np.empty(widest), np.empty(widest, np.int64)
    steps, parts, new = np.empty((widest, m)), np.empty(widest + 1), np.empty(widest + 1)
    known, doubt, doubts = prior[2], np.zeros((widest, k)), np.zeros(k)
    adapts = known > 0.0 or prior[0] > 0.0
    sums, score, slope = np.empty(k), np.empty(1), np.empty(1)
    flat = table.reshape(-1)
    width = table.shape[1]
    met = np.zeros(table.shape[0] if everywhere.size else 0, np.int64)
    seen_all = 3 * m + 2
    for i in range(y.size):
        w, counted = weight[i, 0], weight[i, 1]
        held = 0
        for z in range(indptr[i], indptr[i + 1]):
            at = place[z] * width
            value = np.float64(values[z])
            centre, scale, seen = flat[at + 3 * m], flat[at + 3 * m + 1], at + 3 * m + 2
            if centre != 0.0:
                met[place[z]] = i + 1
            if value != 0.0:
                if scale > 0.0:
                    count(flat, seen, within(value, centre, farthest * scale), counted)
                    value = within((value - centre) / scale, 0.0, farthest) * inverse
                elif centre != 0.0:
                    count(flat, seen, value, counted)
                    continue
                else:
                    reach = math.inf
                    if flat[seen] >= _ENOUGH * counted:
                        square = flat[seen + 1] * flat[seen + 1] + flat[seen + 2] / flat[seen]
                        reach = float(farthest * math.sqrt(square))
                    count(flat, seen, within(value, 0.0, reach), counted)
                    if flat[seen + 2] == 0.0:  # an indicator
                        value = np.float64(inverse if value > 0.0 else -inverse)
                    else:
                        square = flat[seen + 1] * flat[seen + 1] + flat[seen + 2] / flat[seen]
                        value = within(value / math.sqrt(square), 0.0, farthest) * inverse
            elif centre != 0.0 and scale > 0.0:
                value = within(-centre / scale, 0.0, farthest) * inverse
            if value != 0.0:
                x[held], ats[held] = value, at
                held += 1
        for q in range(everywhere.size):
            slot = everywhere[q]
            at = slot * width
            scale = flat[at + 3 * m + 1]
            if met[slot] != i + 1 and scale > 0.0:
                x[held], ats[held] = within(-flat[at + 3 * m] / scale, 0.0, farthest) * inverse, at
                held += 1
        sums[:] = 0.0
        eta, pairs = flat[0], 0.0
        if known > 0.0:
            doubts[:] = 0.0
            for h in range(held):
                at, square, own = ats[h], x[h] * x[h], doubt[h]
                g, base = flat[at + m + 1 : at + 2 * m], flat[at + 2 * m + 1 : at + 3 * m]
                for f in range(k):
                    mine = square / (prior[1] + known * (base[f] + g[f]))
                    own[f] = mine
                    doubts[f] += mine
        for h in range(held):
            at, value = ats[h], x[h]
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
        tame = 1.0
        if code == SQUARED and flat[seen_all] >= _ENOUGH * counted:
            far = _STRANGE * flat[seen_all + 1]
            tame = far / max(e * e, far)
        flat[seen_all] += counted
        flat[seen_all + 3] += counted * tame * e * e
        flat[seen_all + 1] += (tame * e * e - flat[seen_all + 1]) * (counted / flat[seen_all])
        bias = _moved(flat, 0, m, min(max(e, -clip), clip), w, rate[0], l2[0], tame)
        gone = bias
        parts[widest] = bias
        bend = 1.0 if code == SQUARED else abs(e) * (1.0 - abs(e))
        for h in range(held):
            at, value, step, own = ats[h], x[h], steps[h], doubt[h]
            pulled = e * value
            linear, factors, unsure = l2[1], l2[2], 0.0
            if adapts:
                share = 1.0 / (flat[at + 3 * m + 5] + flat[at + 3 * m + 2] / counted + _FEW)
                linear += prior[0] * share
                factors += prior[3] * share
                unsure = prior[4] * bend * value * value
            little = 1.0 / (1.0 + longer[2] * (flat[at + m] + flat[at + 2 * m]))
            of_linear, of_factors = (1.0 + longer[0] * little) * rate[1], (1.0 + longer[1] * little) * rate[2]
            step[0] = _moved(flat, at, m, min(max(pulled, -clip), clip), w, of_linear, linear, tame)
            part = step[0] * value
            u, g, base = flat[at + 1 : at + m], flat[at + m + 1 : at + 2 * m], flat[at + 2 * m + 1 : at + 3 * m]
            for f in range(k):
                v = u[f]
                slopes = sums[f] - v * value
                less = factors + unsure * (doubts[f] - own[f])
                grad = w * (min(max(pulled * slopes, -clip), clip) + less * v)
                square, total = grad * grad, g[f]
                g[f] = total + tame * square
                taken = of_factors * grad / math.sqrt(base[f] + total + square + _TINY)
                step[1 + f] = taken
                part += taken * value * slopes
            parts[h] = part
            gone += part
        most = _MOST[code] * abs(e)
        if abs(gone) <= most:
            flat[0] -= bias
            for h in range(held):
                at, step = ats[h], steps[h]
                for c in range(m):
                    flat[at + c] -= step[c]
        else:
            new[widest] = _newness(flat, 0, m, w * min(max(e, -clip), clip))
            young = new[widest] * bias
            for h in range(held):
                new[h] = _newness(flat, ats[h], m, w * min(max(e * x[h], -clip), clip))
                young += new[h] * parts[h]
            over = min((abs(gone) - most) / abs(young), 1.0) if young != 0.0 else 0.0
            flat[0] -= (1.0 - over * new[widest]) * bias
            for h in range(held):
                at, step, share = ats[h], steps[h], 1.0 - over * new[h]
                for c in range(m):
                    flat[at + c] -= share * step[c]


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
    """Write η of n CSR rows with the parameters linear (r,) and factors (r, k); a place of −1 counts for nothing."""
    k = factors.shape[1]
    sums = np.empty(k)
    for i in range(out.size):
        sums[:] = 0.0
        eta, pairs = intercept, 0.0
        for z in range(indptr[i], indptr[i + 1]):
            j, value = place[z], np.float64(values[z])
            if j < 0:
                continue
            eta += value * linear[j]
            for f in range(k):
                part = value * factors[j, f]
                sums[f] += part
                pairs -= part * part
        for f in range(k):
            pairs += sums[f] * sums[f]
        out[i] = eta + 0.5 * pairs
