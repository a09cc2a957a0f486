"""A fold's step of all tables of `linear.adagrad` in one pass; the sums a run leaves. Letters as in `tables`."""

# mypy: disable-error-code="untyped-decorator"

import math

import numba
import numpy as np
from numba import types

from beam_ml.kernels.adagrad.tables import lifted

__all__ = ["ended", "stepped"]

_F8 = types.Array(types.float64, 1, "C", readonly=True)
_F82 = types.Array(types.float64, 2, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I4 = types.Array(types.int32, 1, "C", readonly=True)
_B1 = types.Array(types.boolean, 1, "C", readonly=True)
_OUT2 = types.float64[:, ::1]


@numba.njit(
    types.void(_I4, _I4, _I8, _F82, _F82, _F82, _F8, _F8, _OUT2, _OUT2, _OUT2),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def ended(
    slot: np.ndarray,
    home: np.ndarray,
    columns: np.ndarray,
    moved: np.ndarray,
    gained: np.ndarray,
    squares: np.ndarray,
    square: np.ndarray,
    behind: np.ndarray,
    out_scaled: np.ndarray,
    out_moved: np.ndarray,
    out_squares: np.ndarray,
) -> None:
    """Write a run's sums (r, w) of all columns, 0 of those that do not learn; D = moved·√(G + g/2).

    Args:
        slot: (r,) places in the run's tables.
        home: (r,) places in the anchor's; −1: it does not hold the row.
        columns: (m,) places of the live columns.
        moved: (room, m) u − u_a.
        gained: (room, m) Σ gradient² of the run.
        squares: (p, w) of the anchor.
        square: (r,) squared scales at the anchor.
        behind: (m,) what is added to the anchor's Σ gradient², by squared scale.
        out_scaled: written.
        out_moved: written.
        out_squares: written.
    """
    m, w = columns.size, out_moved.shape[1]
    for i in range(slot.size):
        s, h = slot[i], home[i]
        if m < w:
            for c in range(w):
                out_scaled[i, c] = 0.0
                out_moved[i, c] = 0.0
                out_squares[i, c] = 0.0
        for c in range(m):
            base = (squares[h, columns[c]] if h >= 0 else 0.0) + square[i] * behind[c]
            move, g = moved[s, c], gained[s, c]
            out_scaled[i, columns[c]] = move * math.sqrt(base + 0.5 * g)
            out_moved[i, columns[c]] = move
            out_squares[i, columns[c]] = g


@numba.njit(inline="always", error_model="numpy")
def _scaled(base: np.ndarray, scaled: np.ndarray, gained: np.ndarray, way: np.ndarray) -> None:
    """Write ΣD / √(G + Σg/2) (m,) of one parameter row."""
    for c in range(way.size):
        root = math.sqrt(base[c] + 0.5 * gained[c])
        way[c] = scaled[c] * (1.0 / root if root > 0.0 else 0.0)


@numba.njit(inline="always", error_model="numpy")
def _shrunk(
    u: np.ndarray,
    after: np.ndarray,
    rate: np.ndarray,
    counted: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    inverse: float,
    reach: np.ndarray,
    theta: np.ndarray,
) -> None:
    """Write θ (m,) of one parameter row after the proximal map, and κ to `reach` (m,)."""
    for c in range(u.size):
        root = math.sqrt(after[c])
        reach[c] = rate[c] * counted[c] * (1.0 / root if root > 0.0 else 0.0)
    for c in range(u.size):
        kappa = reach[c] * l1[c]
        size = max(abs(u[c]) - kappa, 0.0) / (1.0 + reach[c] * l2[c] * inverse)
        theta[c] = size if u[c] > 0.0 else -size
        reach[c] = kappa


@numba.njit(inline="always", error_model="numpy")
def _slack(u: np.ndarray, kappa: np.ndarray, theta: np.ndarray, slack: np.ndarray) -> None:
    """Write u/κ within [−1, 1] (m,) where θ is 0, 0 elsewhere."""
    for c in range(u.size):
        ahead = min(max(u[c] * (1.0 / kappa[c] if kappa[c] > 0.0 else 0.0), -1.0), 1.0)
        slack[c] = ahead if theta[c] == 0.0 else 0.0


@numba.njit(
    types.void(
        *(_I4, _I4, _B1, _I8, types.boolean),
        *(_F82, _F82, _F82, _F82),
        *(_F82, _F82, _F82),
        *(_F8, _F8, _F8, _F8, _F8),
        *(types.float64, types.float64, types.boolean, types.float64, types.float64),
        *(_F82, _F82, _B1, _B1),
        *(_I4, _F82, _F82, _B1),
        *(_OUT2, _OUT2, _OUT2, _OUT2, types.boolean[::1]),
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def stepped(
    old: np.ndarray,
    place: np.ndarray,
    touched: np.ndarray,
    columns: np.ndarray,
    penalised: bool,
    theta: np.ndarray,
    slack: np.ndarray,
    average: np.ndarray,
    squares: np.ndarray,
    scaled: np.ndarray,
    moved: np.ndarray,
    gained: np.ndarray,
    kept: np.ndarray,
    square: np.ndarray,
    square_after: np.ndarray,
    inverse: np.ndarray,
    inverse_after: np.ndarray,
    total: float,
    runs: float,
    scaled_sum: bool,
    faded: float,
    share: float,
    settings: np.ndarray,
    lengths: np.ndarray,
    along_mean: np.ndarray,
    along_mean_bias: np.ndarray,
    spot: np.ndarray,
    found_u: np.ndarray,
    found_theta: np.ndarray,
    again: np.ndarray,
    out_theta: np.ndarray,
    out_slack: np.ndarray,
    out_average: np.ndarray,
    out_squares: np.ndarray,
    finite: np.ndarray,
) -> None:
    """Write the tables of a state after a step, and which columns are finite in all rows.

    Args:
        old: (p,) places of the parameter rows, the bias last, in the state's tables; −1: it does not hold them.
        place: (p,) places in the tables of moves; −1: none.
        touched: (p,) whether the row takes a step.
        columns: (m,) places of the live columns among all w.
        penalised: whether any penalty is not 0.
        theta: (…, w) of the state, as the tables that follow.
        slack: no rows: there is none.
        average: no rows: there is none.
        squares: Σ gradient².
        scaled: (…, w) ΣD of the window.
        moved: (…, w) its Σ(u − u_a).
        gained: (…, w) its Σ gradient².
        kept: (p,) share of θ that is kept.
        square: (p,) squared scales before.
        square_after: (p,) the same after.
        inverse: (p,) what L2 penalties are relative to, before.
        inverse_after: (p,) the same after.
        total: W before, in units of the pace and the label.
        runs: P.
        scaled_sum: whether the way is the sum of moves scaled by curvature.
        faded: what Σ gradient² was multiplied by since the last fold.
        share: of the mean that is for the newest parameters.
        settings: (6, m) rates, L1, L2, what is added to Σ gradient² before and after by squared scale, and the W after.
        lengths: (2, m) of the step: of features, of the bias.
        along_mean: (m,) whether features go along the mean of the moves.
        along_mean_bias: (m,) the same for the bias.
        spot: (p,) places in what follows, −1: none; no rows: there is nothing.
        found_u: (…, m) u that replaces the step's, but for the check that all is finite.
        found_theta: (…, m) θ that does.
        again: (m,) columns that start from 0 where nothing replaces them.
        out_theta: (p, w) written.
        out_slack: (p, w) written, or no rows.
        out_average: (p, w) written, or no rows.
        out_squares: (p, w) written.
        finite: (m,) set to False where a column is not.
    """
    m, w, bias = columns.size, theta.shape[1], old.size - 1
    dead_zone, averaged, replaced = out_slack.shape[0] > 0, out_average.shape[0] > 0, spot.size > 0
    rate, l1, l2, counted = settings[0], settings[1], settings[2], settings[5]
    behind, behind_after, fade = settings[3], settings[4], 1.0 / faded
    some_again = again.any()
    start, base, after, side, u, reach = np.empty(m), np.empty(m), np.empty(m), np.zeros(m), np.empty(m), np.zeros(m)
    way, mean_way, g, d = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    # Short loops over few arrays each, so that they run in vector registers.
    for i in range(old.size):
        h, at, last = old[i], place[i], i == bias
        if h >= 0:
            for c in range(w):
                out_theta[i, c] = theta[h, c] * kept[i]
            for c in range(w):
                out_squares[i, c] = squares[h, c]
        else:
            out_theta[i] = 0.0
            out_squares[i] = 0.0
        if dead_zone:
            for c in range(w):
                out_slack[i, c] = slack[h, c] if h >= 0 else 0.0
        if averaged:
            for c in range(w):
                out_average[i, c] = average[h, c] * kept[i] if h >= 0 else 0.0
        found = spot[i] if replaced else -1
        if touched[i]:
            for c in range(m):
                start[c] = out_theta[i, columns[c]]
                base[c] = out_squares[i, columns[c]] * fade
            for c in range(m):
                after[c] = base[c] + square_after[i] * behind_after[c]
            if penalised and not last:
                if dead_zone:
                    for c in range(m):
                        side[c] = out_slack[i, columns[c]]
                lifted(start, base, square[i], behind, side, rate, l1, l2, total, inverse[i])
            length = lengths[1] if last else lengths[0]
            if at >= 0:
                for c in range(m):
                    way[c] = moved[at, columns[c]]
                    g[c] = gained[at, columns[c]]
                    out_squares[i, columns[c]] += g[c]
                for c in range(m):
                    after[c] += g[c]
                if scaled_sum:
                    mean = along_mean_bias if last else along_mean
                    for c in range(m):
                        base[c] += square[i] * behind[c]
                        d[c] = scaled[at, columns[c]]
                        mean_way[c] = way[c] / runs
                    _scaled(base, d, g, way)
                    for c in range(m):
                        way[c] = mean_way[c] if mean[c] else way[c]
                elif runs > 1.0:
                    mean = along_mean_bias if last else along_mean
                    for c in range(m):
                        way[c] = way[c] / runs if mean[c] else way[c]
                for c in range(m):
                    u[c] = start[c] + way[c] * length[c]
            else:
                for c in range(m):
                    u[c] = start[c]
            if penalised and not last:
                _shrunk(u, after, rate, counted, l1, l2, inverse_after[i], reach, start)
            else:
                for c in range(m):
                    start[c] = u[c]
                    reach[c] = 0.0
            for c in range(m):
                if not (math.isfinite(start[c]) and math.isfinite(after[c])):
                    finite[c] = False
            if some_again:
                for c in range(m):
                    if again[c]:
                        u[c] = 0.0
                        start[c] = 0.0
            if found >= 0:
                for c in range(m):
                    start[c] = found_theta[found, c]
                    u[c] = found_u[found, c]
            for c in range(m):
                out_theta[i, columns[c]] = start[c]
            if dead_zone:
                _slack(u, reach, start, side)
                for c in range(m):
                    out_slack[i, columns[c]] = side[c]
                    side[c] = 0.0
        else:
            for c in range(m):
                if found >= 0:
                    out_theta[i, columns[c]] = found_theta[found, c]
                elif again[c]:
                    out_theta[i, columns[c]] = 0.0
        if averaged and share > 0.0:
            for c in range(m):
                k = columns[c]
                mean_now = out_average[i, k]
                out_average[i, k] = mean_now + share * (out_theta[i, k] - mean_now)
