"""Tables of `linear.adagrad` row by row: sums of moments, units, and where runs start. Letters as in `run`.

``p`` parameter rows held, ``r`` some of them, ``m`` live columns, ``w`` all columns; moments have six columns: weight W,
mean, Σz², Σz³, Σz⁴ and moving weight.
"""

# mypy: disable-error-code="untyped-decorator"

import math

import numba
import numpy as np
from numba import types

__all__ = ["add_moments", "lifted", "proximal", "scales", "sizes", "started", "stopped", "units"]

_F8 = types.Array(types.float64, 1, "C", readonly=True)
_F82 = types.Array(types.float64, 2, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I4 = types.Array(types.int32, 1, "C", readonly=True)
_CONSTANT = 4.0 * np.finfo(np.float64).eps
_DEVIATIONS = 3.0
_ALL = 1.0 - 1e-9  # of the weight of all rows: sums of the same weights in another order


@numba.njit(types.void(_F82, _F82, types.float64[:, ::1]), cache=True, nogil=True, error_model="numpy")
def add_moments(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Write the sums of two tables (r, 6) of the same rows to `out`, which may be one of them."""
    for i in range(a.shape[0]):
        w_a, w_b = a[i, 0], b[i, 0]
        if w_b == 0.0 or w_a == 0.0:
            # What has no weight may have a moment all the same, of weights that were too small to add up.
            heavier = a if w_b == 0.0 else b
            mean = heavier[i, 1]
            for c in range(2, 6):
                out[i, c] = a[i, c] + b[i, c]
            out[i, 0], out[i, 1] = w_a + w_b, mean
            continue
        w = w_a + w_b
        share_a, share_b = w_a / w, w_b / w
        cross = share_a * share_b * w  # W_aW_b/W
        mean_a, mean_b = a[i, 1], b[i, 1]
        delta = mean_b - mean_a
        a2, a3, a4, b2, b3, b4 = a[i, 2], a[i, 3], a[i, 4], b[i, 2], b[i, 3], b[i, 4]
        mixed = share_a * b2 - share_b * a2
        spread = share_a * share_a + share_b * share_b - share_a * share_b
        both = share_a * share_a * b2 + share_b * share_b * a2
        third = share_a * b3 - share_b * a3
        square = delta * delta
        out[i, 0] = w
        # Shares may sum to 1 ± ε: equal means stay to the bit, so that a constant column does not seem to vary.
        out[i, 1] = mean_a if delta == 0.0 else share_a * mean_a + share_b * mean_b
        out[i, 2] = (a2 + b2) + square * cross
        out[i, 3] = (a3 + b3) + square * delta * cross * (share_a - share_b) + 3.0 * delta * mixed
        fourth = (a4 + b4) + square * square * cross * spread + 6.0 * square * both + 4.0 * delta * third
        out[i, 4] = max(fourth, 0.0)
        out[i, 5] = a[i, 5] + b[i, 5]


@numba.njit(inline="always", error_model="numpy")
def _scale(weight: float, mean: float, second: float, fourth: float, moving: float) -> float:
    """Return min(√(Σz⁴/Σz²), 3√(Σz²/A)), the first where A is 0; 0 where nothing varies."""
    if not math.sqrt(second / weight) > _CONSTANT * abs(mean):
        return 0.0
    scale = math.sqrt(fourth / second)
    if moving > 0.0:
        most = _DEVIATIONS * math.sqrt(second / moving)
        scale = most if scale > most else scale
    return scale if math.isfinite(scale) else 0.0


@numba.njit(types.void(_F82, types.float64[::1]), cache=True, nogil=True, error_model="numpy")
def scales(table: np.ndarray, out: np.ndarray) -> None:
    """Write the scale of each row of a table (r, 6) to `out` (r,)."""
    for i in range(table.shape[0]):
        out[i] = _scale(table[i, 0], table[i, 1], table[i, 2], table[i, 4], table[i, 5])


@numba.njit(
    types.void(_F82, types.float64, types.int64, types.float64[::1], types.float64[::1]),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def units(table: np.ndarray, mass: float, around: int, scale: np.ndarray, centre: np.ndarray) -> None:
    """Write scales and centres (r,) of features with moments (r, 6), of rows that weigh `mass`.

    Args:
        table: moments; of sparse rows, of their stored values other than 0.
        mass: Σ row weight.
        around: 2: features are measured around their means; 1: those that every row has and that vary; 0: none of them.
            The others are measured around 0, of which every stored value is away.
        scale: (r,) written.
        centre: (r,) written.
    """
    for i in range(table.shape[0]):
        weight, mean, second, third, fourth = table[i, 0], table[i, 1], table[i, 2], table[i, 3], table[i, 4]
        own = 0.0
        if around == 2 or (around == 1 and weight >= _ALL * mass and weight > 0.0):
            own = _scale(weight, mean, second, fourth, table[i, 5])
        if around == 2 or own > 0.0:
            scale[i], centre[i] = own, mean
            continue
        first = weight * mean
        square = mean * mean
        second0 = second + first * mean
        fourth0 = max(fourth + 4.0 * mean * third + 6.0 * square * second + first * square * mean, 0.0)
        scale[i], centre[i] = _scale(weight, 0.0, second0, fourth0, weight), 0.0


@numba.njit(inline="always", error_model="numpy")
def lifted(
    start: np.ndarray,
    base: np.ndarray,
    square: float,
    behind: np.ndarray,
    side: np.ndarray,
    rate: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    total: float,
    inverse_unit: float,
) -> None:
    """Overwrite θ (m,) of one parameter row with u; `side` (m,) holds its slack, and is 0 afterwards."""
    for c in range(start.size):
        if start[c] > 0.0:
            side[c] = 1.0
        if start[c] < 0.0:
            side[c] = -1.0
    for c in range(start.size):
        root = math.sqrt(base[c] + square * behind[c])
        reach = rate[c] * total * (1.0 / root if root > 0.0 else 0.0)
        start[c] *= 1.0 + reach * l2[c] * inverse_unit
        side[c] *= reach * l1[c]
    for c in range(start.size):
        start[c] += side[c]
        side[c] = 0.0


@numba.njit(
    types.void(
        *(_I4, _I4, _I8, types.boolean),
        *(_F82, _F82, _F82, _F82, _F82),
        *(_F8, _F8, _F8, types.float64, _F8, _F8, _F8, _F8, _F8),
        *(types.float64[:, ::1], types.float64[:, ::1], types.float64[:, ::1], types.float64[:, ::1]),
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def started(
    slot: np.ndarray,
    home: np.ndarray,
    columns: np.ndarray,
    penalised: bool,
    moved: np.ndarray,
    gained: np.ndarray,
    theta: np.ndarray,
    slack: np.ndarray,
    squares: np.ndarray,
    rate: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    total: float,
    inverse_unit: np.ndarray,
    behind: np.ndarray,
    behind_now: np.ndarray,
    square: np.ndarray,
    square_now: np.ndarray,
    begin: np.ndarray,
    u: np.ndarray,
    own: np.ndarray,
    floor: np.ndarray,
) -> None:
    """Write where a run is at some parameter rows, the bias last, from where it has moved since its anchor.

    Args:
        slot: (r,) places in the run's tables.
        home: (r,) places in the anchor's tables; −1: it does not hold the row.
        columns: (m,) places of the live columns among all.
        penalised: whether any penalty is not 0.
        moved: (room, m) u − u_a of the run.
        gained: (room, m) its Σ gradient².
        theta: (p, w) of the anchor.
        slack: (p, w) of the anchor, or no rows.
        squares: (p, w) of the anchor.
        rate: (m,) learning rates.
        l1: (m,) penalties, in units of the pace and the label.
        l2: (m,) as l1.
        total: W of the anchor.
        inverse_unit: (r,) what its L2 penalties are relative to.
        behind: (m,) what is added to the anchor's Σ gradient², by squared scale.
        behind_now: (m,) the same behind the run's.
        square: (r,) squared scales at the anchor.
        square_now: (r,) squared scales of the run.
        begin: (r, m) written: u_a.
        u: (r, m) written.
        own: (r, m) written: Σ gradient² of the run.
        floor: (r, m) written: Σ gradient² before the run, and what is added to it.
    """
    bias, dead_zone, m = slot.size - 1, slack.shape[0] > 0, rate.size
    start, base, side = np.empty(m), np.empty(m), np.zeros(m)
    # Short loops over few arrays each, so that they run in vector registers.
    for i in range(slot.size):
        s, h, square_i = slot[i], home[i], square_now[i]
        for c in range(m):
            own[i, c] = gained[s, c]
        if h < 0:
            for c in range(m):
                begin[i, c] = 0.0
                u[i, c] = moved[s, c]
            for c in range(m):
                floor[i, c] = square_i * behind_now[c]
            continue
        for c in range(m):
            start[c] = theta[h, columns[c]]
            base[c] = squares[h, columns[c]]
        if penalised and i < bias:
            if dead_zone:
                for c in range(m):
                    side[c] = slack[h, columns[c]]
            lifted(start, base, square[i], behind, side, rate, l1, l2, total, inverse_unit[i])
        for c in range(m):
            begin[i, c] = start[c]
        for c in range(m):
            u[i, c] = moved[s, c] + start[c]
        for c in range(m):
            floor[i, c] = base[c] + square_i * behind_now[c]


@numba.njit(types.void(_I4, _F82, _F82, _F82, types.float64[:, ::1], types.float64[:, ::1]), cache=True, nogil=True)
def stopped(
    slot: np.ndarray, begin: np.ndarray, u: np.ndarray, own: np.ndarray, moved: np.ndarray, gained: np.ndarray
) -> None:
    """Write where a run is now (r, m) back to its tables; see `started`."""
    for i in range(slot.size):
        s = slot[i]
        for c in range(u.shape[1]):
            moved[s, c] = u[i, c] - begin[i, c]
        for c in range(u.shape[1]):
            gained[s, c] = own[i, c]


@numba.njit(types.void(_F82, _F8, types.float64[::1], types.float64[::1]), cache=True, nogil=True)
def sizes(theta: np.ndarray, inverse_unit: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Add Σ|θ|/b and Σ(θ/b)² (m,) over parameter rows (r, m), the bias left out, to `first` and `second`."""
    for j in range(theta.shape[0] - 1):
        inverse = inverse_unit[j]
        for c in range(first.size):
            size = abs(theta[j, c]) * inverse
            first[c] += size
            second[c] += size * size


@numba.njit(
    types.void(_F82, _F82, _F8, _F8, _F8, _F8, types.float64[:, ::1]), cache=True, nogil=True, error_model="numpy"
)
def proximal(
    u: np.ndarray,
    squares: np.ndarray,
    reach: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    inverse_unit: np.ndarray,
    theta: np.ndarray,
) -> None:
    """Write θ (r, m) of u (r, m), ``soft(u, κ) / (1 + ρ)``, the bias, which is last, as it is.

    Args:
        u: parameters before the map.
        squares: (r, m) Σ gradient².
        reach: (m,) a·W, so that ``κ = reach·λ₁/√G`` and ``ρ = reach·λ₂/(b·√G)``; both 0 where G is.
        l1: (m,) λ₁.
        l2: (m,) λ₂.
        inverse_unit: (r,) 1/b.
        theta: written.
    """
    last = u.shape[0] - 1
    for j in range(last):
        for c in range(reach.size):
            root = math.sqrt(squares[j, c])
            at = reach[c] / root if root > 0.0 else 0.0
            size = max(abs(u[j, c]) - at * l1[c], 0.0) / (1.0 + at * l2[c] * inverse_unit[j])
            theta[j, c] = size if u[j, c] >= 0.0 else -size
    theta[last] = u[last]
