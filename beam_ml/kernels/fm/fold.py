"""Folding factorization machines over touched rows only, and scores along steps without computing rows again.

Letters: ``n`` rows, ``z`` stored values, ``r`` parameter rows, ``m`` columns, ``k`` factors. A step moves the features of
two bands, each along the runs' sum or their mean, so four ways in all, by lengths of their own. With the base and these
four ways as vectors 0 … 4, S_a = Σ_i v_ia z_i and ``K_ab = ½(S_a·S_b − Σ_i v_ia·v_ib z_i²)``, a row's pairs after steps
l_a, l_b of the two bands are ``Σ l_a l_b K_ab`` with l_0 = 1.
"""

# mypy: disable-error-code="untyped-decorator"

import math

import numba
import numpy as np
from numba import types

from beam_ml.kernels.shared.losses import SQUARED

__all__ = ["along", "loss_after", "stepped"]

_F8 = types.Array(types.float64, 1, "C", readonly=True)
_F82 = types.Array(types.float64, 2, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I4 = types.Array(types.int32, 1, "C", readonly=True)
_B1 = types.Array(types.boolean, 1, "C", readonly=True)
_REORDER = {"reassoc", "contract", "nsz"}


@numba.njit(
    types.boolean(
        _I8, _F82, _F82, _F82, _B1, _F8, _B1, types.float64, types.boolean, types.int64, types.float64[:, ::1],
        types.float64[:, ::1],
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)  # fmt: skip
def stepped(
    rows: np.ndarray,
    scaled: np.ndarray,
    moved: np.ndarray,
    squares: np.ndarray,
    common: np.ndarray,
    length: np.ndarray,
    mean: np.ndarray,
    faded: float,
    curved: bool,
    runs: int,
    theta: np.ndarray,
    total: np.ndarray,
) -> bool:
    """Write parameters and Σ gradient² after a step; return whether all are finite.

    Args:
        rows: (r,) touched, the bias last.
        scaled: (r, m) ΣD.
        moved: (r, m) Σ(u − u_a).
        squares: (r, m) Σg.
        common: (r,) bool: the feature's band.
        length: (5,) of each group of `beam_ml.algorithms.fm.search`.
        mean: (5,) bool: along the mean.
        faded: what `total` was multiplied by since the runs' anchor.
        curved: the summed way is scaled by the curvature; False: it is that of the moves.
        runs: P.
        theta: (p, m); updated.
        total: (p, m) Σ gradient²; updated.
    """
    finite = True
    for i in range(rows.size):
        j = rows[i]
        band = 0 if i == rows.size - 1 else (1 if common[i] else 3)
        for c in range(theta.shape[1]):
            group = band if band == 0 or c == 0 else band + 1
            before = total[j, c]
            if mean[group]:
                way = moved[i, c] / max(runs, 1)
            elif curved:
                root = math.sqrt(before / faded + 0.5 * squares[i, c])
                way = scaled[i, c] / root if root > 0.0 else 0.0
            else:
                way = moved[i, c]
            theta[j, c] += length[group] * way
            total[j, c] = before + squares[i, c]
            finite = finite and math.isfinite(theta[j, c]) and math.isfinite(total[j, c])
    return finite


@numba.njit(
    types.void(_I8, _I4, _F8, _F82, _F82, _F82, _B1, types.float64[:, ::1], types.float64[:, :, ::1]),
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath=_REORDER,
)
def along(
    indptr: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    theta: np.ndarray,
    whole: np.ndarray,
    mean: np.ndarray,
    common: np.ndarray,
    linear: np.ndarray,
    pairs: np.ndarray,
) -> None:
    """Write what tells the scores of n CSR rows after any step.

    Args:
        indptr: (n + 1,) bounds of the rows.
        place: (z,) of each value among the parameter rows.
        values: (z,).
        theta: (r, m) before.
        whole: (r, m) the summed way.
        mean: (r, m) the mean's.
        common: (r,) bool: the band.
        linear: (n, 5) Σ w z of the base, of common features along the sum and the mean, and of rare ones.
        pairs: (n, 5, 5) K, the half a ≤ b.
    """
    k = theta.shape[1] - 1
    sums = np.empty((5, k))
    for i in range(linear.shape[0]):
        sums[:] = 0.0
        linear[i] = 0.0
        pairs[i] = 0.0
        for z in range(indptr[i], indptr[i + 1]):
            j, value = place[z], values[z]
            at = 1 if common[j] else 3
            linear[i, 0] += value * theta[j, 0]
            linear[i, at] += value * whole[j, 0]
            linear[i, at + 1] += value * mean[j, 0]
            own, cross, other, first, second = 0.0, 0.0, 0.0, 0.0, 0.0
            for f in range(k):
                base, one, two = value * theta[j, 1 + f], value * whole[j, 1 + f], value * mean[j, 1 + f]
                sums[0, f] += base
                sums[at, f] += one
                sums[at + 1, f] += two
                own += base * base
                cross += base * one
                other += base * two
                first += one * one
                second += two * two
            pairs[i, 0, 0] -= own
            pairs[i, 0, at] -= cross
            pairs[i, 0, at + 1] -= other
            pairs[i, at, at] -= first
            pairs[i, at + 1, at + 1] -= second
        for a in range(5):
            for b in range(a, 5):
                inner = 0.0
                for f in range(k):
                    inner += sums[a, f] * sums[b, f]
                pairs[i, a, b] = 0.5 * (pairs[i, a, b] + inner)


@numba.njit(
    types.float64(
        _F82, types.Array(types.float64, 3, "C", readonly=True), types.float64, _F8, _F8, _F8, _F8, types.int64
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath=_REORDER,
)
def loss_after(
    linear: np.ndarray,
    pairs: np.ndarray,
    bias: float,
    of_linear: np.ndarray,
    of_factors: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray,
    code: int,
) -> float:
    """Return the summed loss of n rows after a step.

    Args:
        linear: (n, 5) as `along` writes it.
        pairs: (n, 5, 5) likewise.
        bias: after the step.
        of_linear: (5,) lengths of the linear weights along each way; first: 1.
        of_factors: (5,) those of the factors.
        label: (n,).
        weight: (n,).
        code: 0 logistic, 1 squared.
    """
    first, second, share = np.empty(15, np.int64), np.empty(15, np.int64), np.empty(15)
    held = 0
    for a in range(5):
        for b in range(a, 5):
            factor = of_factors[a] * of_factors[b] * (1.0 if a == b else 2.0)
            if factor != 0.0:
                first[held], second[held], share[held] = a, b, factor
                held += 1
    total = 0.0
    for i in range(label.size):
        eta = bias
        for a in range(5):
            eta += of_linear[a] * linear[i, a]
        for h in range(held):
            eta += share[h] * pairs[i, first[h], second[h]]
        if code == SQUARED:
            total += weight[i] * 0.5 * (eta - label[i]) ** 2
        else:  # what log1p would add to it is below the rounding of the sum
            total += weight[i] * (max(eta, 0.0) - label[i] * eta + math.log(1.0 + math.exp(-abs(eta))))
    return total
