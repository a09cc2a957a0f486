"""A fold's step of all tables of `linear.adagrad` in one pass; the sums a run leaves. Letters as in `adagrad_tables`."""

# mypy: disable-error-code="untyped-decorator"

import math

import numba
import numpy as np
from numba import types

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
    """Write a run's sums (r, w) of all columns, 0 of those that do not learn; see `beam_ml.algorithms.anchored.move_of`.

    Args:
        slot: (r,) places in the run's tables.
        home: (r,) places in the anchor's; −1: it does not hold the row.
        columns: (m,) places of the live columns.
        moved: (room, m) u − u_a.
        gained: (room, m) Σ gradient² of the run.
        squares: (p, w) of the anchor.
        square: (r,) squared scales at the anchor.
        behind: (m,) what stands behind the anchor's Σ gradient², by squared scale.
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
def _landed(
    last: bool,
    penalised: bool,
    square: float,
    square_after: float,
    inverse: float,
    inverse_after: float,
    total: float,
    runs: float,
    scaled_sum: bool,
    faded: float,
    settings: np.ndarray,
    length: np.ndarray,
    along_mean: np.ndarray,
    here: np.ndarray,
) -> None:
    """Step one parameter row; columns of `here` (8, m): θ, slack, Σ gradient², ΣD, Σ moved, Σ g, then u and θ written.

    The rows 1 and 2 are written too: slack, and Σ gradient² with what stands behind it.
    """
    for c in range(here.shape[1]):
        start, g = here[0, c], here[5, c]
        plain = here[2, c] / faded
        base = plain + square * settings[3, c]
        rate, l1, l2 = settings[0, c], settings[1, c], settings[2, c]
        if penalised and not last:
            root = math.sqrt(base)
            at = rate * total * (1.0 / root if root > 0.0 else 0.0)
            side = 1.0 if start > 0.0 else (-1.0 if start < 0.0 else here[1, c])
            start = start * (1.0 + at * l2 * inverse) + at * l1 * side
        sum_root = math.sqrt(base + 0.5 * g)
        scaled = here[3, c] * (1.0 / sum_root if sum_root > 0.0 else 0.0)
        way = scaled if scaled_sum else here[4, c]
        u = start + (here[4, c] / runs if along_mean[c] else way) * length[c]
        after = plain + g + square_after * settings[4, c]
        theta, slack = u, 0.0
        if penalised and not last:
            root = math.sqrt(after)
            at = rate * settings[5, c] * (1.0 / root if root > 0.0 else 0.0)
            kappa = at * l1
            size = max(abs(u) - kappa, 0.0) / (1.0 + at * l2 * inverse_after)
            theta = size if u > 0.0 else -size
            slack = min(max(u * (1.0 / kappa if kappa > 0.0 else 0.0), -1.0), 1.0) if theta == 0.0 else 0.0
        here[1, c], here[2, c], here[6, c], here[7, c] = slack, after, u, theta


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
        touched: (p,) whether the row takes a step; if not, it stays as it is.
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
        settings: (6, m) rates, L1, L2, what stands behind Σ gradient² before and after by squared scale, and the W after.
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
    here = np.zeros((8, m))
    for i in range(old.size):
        h, at = old[i], place[i]
        for c in range(w):
            out_theta[i, c] = theta[h, c] * kept[i] if h >= 0 else 0.0
            out_squares[i, c] = squares[h, c] if h >= 0 else 0.0
        if dead_zone:
            for c in range(w):
                out_slack[i, c] = slack[h, c] if h >= 0 else 0.0
        if averaged:
            for c in range(w):
                out_average[i, c] = average[h, c] * kept[i] if h >= 0 else 0.0
        if touched[i]:
            for c in range(m):
                k = columns[c]
                here[0, c], here[2, c] = out_theta[i, k], out_squares[i, k]
                here[1, c] = out_slack[i, k] if dead_zone else 0.0
                here[3, c] = scaled[at, k] if at >= 0 else 0.0
                here[4, c] = moved[at, k] if at >= 0 else 0.0
                here[5, c] = gained[at, k] if at >= 0 else 0.0
            _landed(
                i == bias, penalised, square[i], square_after[i], inverse[i], inverse_after[i], total, runs, scaled_sum,
                faded, settings, lengths[1] if i == bias else lengths[0],
                along_mean_bias if i == bias else along_mean, here,
            )  # fmt: skip
            for c in range(m):
                k = columns[c]
                if not (math.isfinite(here[7, c]) and math.isfinite(here[2, c])):
                    finite[c] = False
                out_theta[i, k] = here[7, c]
                out_squares[i, k] += here[5, c]
                if dead_zone:
                    out_slack[i, k] = here[1, c]
        found = spot[i] if replaced else -1
        for c in range(m):
            k = columns[c]
            if found >= 0:
                out_theta[i, k] = found_theta[found, c]
            elif again[c]:
                out_theta[i, k] = 0.0
            else:
                continue
            if dead_zone:
                u = found_u[found, c] if found >= 0 else 0.0
                after = here[2, c]
                kappa = 0.0
                if i != bias and after > 0.0:
                    kappa = settings[0, c] * settings[5, c] / math.sqrt(after) * settings[1, c]
                ahead = min(max(u / kappa, -1.0), 1.0) if kappa > 0.0 else 0.0
                out_slack[i, k] = ahead if out_theta[i, k] == 0.0 else 0.0
        if averaged and share > 0.0:
            for c in range(m):
                k = columns[c]
                mean = out_average[i, k]
                out_average[i, k] = mean + share * (out_theta[i, k] - mean)
