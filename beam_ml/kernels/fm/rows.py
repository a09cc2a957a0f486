"""Scores of CSR rows by an anchor's own tables, of which only what the rows have is read.

Letters: ``n`` rows, ``z`` stored values, ``p`` parameter rows, the bias last, ``m`` columns, ``k`` factors, ``q`` features.
"""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

__all__ = ["anchored"]

_F8 = types.Array(types.float64, 1, "C", readonly=True)
_F82 = types.Array(types.float64, 2, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I4 = types.Array(types.int32, 1, "C", readonly=True)
_KINDS = (types.float32, types.float64)
_REORDER = {"reassoc", "contract", "nsz"}


@numba.njit(inline="always", error_model="numpy")
def _known(squares: np.ndarray, scale: np.ndarray, j: int, asked: int) -> bool:
    """Return whether any row has had a feature: its parameters are still what they started as otherwise."""
    if scale[j] <= 0.0:
        return False
    for c in range(asked):
        if squares[j, c] != 0.0:
            return True
    return False


@numba.njit(
    [
        types.void(
            _I8, _I4, types.Array(kind, 1, "C", readonly=True), _F82, _F82, _F8, _F8, types.float64, types.int64, _I8,
            types.float64[::1],
        )
        for kind in _KINDS
    ],
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath=_REORDER,
)  # fmt: skip
def anchored(
    indptr: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    theta: np.ndarray,
    squares: np.ndarray,
    centre: np.ndarray,
    scale: np.ndarray,
    spread: float,
    asked: int,
    everywhere: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write η of n CSR rows, places rising within each.

    Args:
        indptr: (n + 1,) bounds of the rows.
        place: (z,) of each value among the parameter rows; −1: it is not, and counts for nothing.
        values: (z,).
        theta: (p, m), the bias last.
        squares: (p, m) Σ gradient².
        centre: (p,) of the features' frames.
        scale: (p,); 0: the feature does not vary.
        spread: ρ.
        asked: columns of `squares` that tell whether any row has had a feature.
        everywhere: (q,) places of features with a centre, rising: rows without them have the value 0.
        out: (n,).
    """
    k = theta.shape[1] - 1
    sums = np.empty(k)
    for i in range(out.size):
        sums[:] = 0.0
        eta, pairs = theta[theta.shape[0] - 1, 0], 0.0
        z, end, q = indptr[i], indptr[i + 1], 0
        while z < end or q < everywhere.size:
            if z < end and place[z] < 0:
                z += 1
                continue
            # The next feature: one of the row's, or one that it lacks.
            if z < end and (q >= everywhere.size or place[z] <= everywhere[q]):
                j, value = np.int64(place[z]), np.float64(values[z])
                q += q < everywhere.size and everywhere[q] == j
                z += 1
            else:
                j, value = everywhere[q], np.float64(0.0)
                q += 1
            if (value == 0.0 and centre[j] == 0.0) or not _known(squares, scale, j, asked):
                continue
            x = (value - centre[j]) / scale[j] / spread
            eta += x * theta[j, 0]
            for f in range(k):
                part = x * theta[j, 1 + f]
                sums[f] += part
                pairs -= part * part
        for f in range(k):
            pairs += sums[f] * sums[f]
        out[i] = eta + 0.5 * pairs
