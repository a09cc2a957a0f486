"""What a feature's values are measured from and divided by. Letters: ``r`` features, ``p`` parameter rows, ``m`` columns.

The frame of a feature is its centre c and its scale s; steps are taken for z = (x − c)/s. Indicators and rare features have
the centre 0, so that zeros stay zeros, and the root mean square of their values other than 0 as scale, which is 1 for an
indicator. A number that at least half of the rows have has their mean and standard deviation. A constant does not vary: c is
its value and s = 0. A feature that no row has had has neither, (0, 0).

Rows of many features start louder than rows of few: their steps add up, and so does the noise that factors start as. All
scales are therefore multiplied by ρ = √(features that a row has / 8), at least 1.

Frames are fixed between folds, and a fold that changes them changes the parameters with them, so that scores stay as they
are: what was learned does not move when inputs do.
"""

import numpy as np

from beam_ml.algorithms.fm.spec import Spec

__all__ = ["FARTHEST", "STAYS", "added", "centred", "frames", "held_by", "reframed", "settled", "spread_of", "tamed"]

FARTHEST = 10.0
"""Scales from its centre at which a value stops counting for more, in steps and in moments."""

_EQUAL = 4.0 * np.finfo(np.float64).eps
_ALL = 1.0 - 1e-9
STAYS = 0.25
"""Share of rows from which a number may keep its centre."""
_MOST = 0.5
_NARROWEST = 0.1
_WILD, _ENOUGH = 3.0, 32
_LOUD = 8.0
_SPREADS = 1.5
_SETTLED = (0.8, 1.25, 0.25)


def centred(spec: Spec) -> bool:
    """Return whether features may have a centre: not where the bias or the linear weights, which carry it, must be 0."""
    return spec.normalize and spec.use_bias and spec.use_linear


def added(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Add two tables (r, 3) of weight, mean and Σ weight·(x − mean)² (Chan, Golub and LeVeque 1983).

    >>> added(np.array([[1.0, 2.0, 0.0]]), np.array([[1.0, 4.0, 0.0]])).tolist()
    [[2.0, 3.0, 2.0]]
    """
    out = np.empty(np.broadcast_shapes(a.shape, b.shape))
    total = a[:, 0] + b[:, 0]
    share = np.divide(b[:, 0], total, out=np.zeros_like(total), where=total > 0)
    gap = np.where((a[:, 0] > 0) & (b[:, 0] > 0), b[:, 1] - a[:, 1], 0.0)
    out[:, 0] = total
    out[:, 1] = np.where(a[:, 0] > 0, a[:, 1], b[:, 1]) + gap * share
    out[:, 2] = a[:, 2] + b[:, 2] + gap * gap * a[:, 0] * share
    return out


def frames(
    spec: Spec,
    sums: np.ndarray,
    mass: float,
    centre: np.ndarray,
    scale: np.ndarray,
    widest: np.ndarray | float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres and scales (r,) of features.

    A scale never falls below a tenth of the widest: a number that does not vary for a while keeps some of its scale, so
    that its next move is not taken for a huge one.

    Args:
        spec: the spec.
        sums: (r, 3) weight, mean and Σ weight·(x − mean)² of values other than 0.
        mass: weight of all rows that these are of.
        centre: (r,) so far.
        scale: (r,) so far; 0: not known.
        widest: (r,) scale so far.
    """
    if not spec.normalize:
        return np.zeros_like(centre), np.ones_like(scale)
    weight, mean, squares = sums.T
    seen = weight > 0
    spread = np.divide(squares, weight, out=np.zeros_like(weight), where=seen)
    equal = np.sqrt(spread) <= _EQUAL * np.abs(mean)
    new_centre, new_scale = np.zeros_like(centre), np.hypot(mean, np.sqrt(np.where(equal, 0.0, spread)))
    if centred(spec) and mass > 0:
        share = weight / mass
        number = ~equal & ((share >= _MOST) | ((centre != 0) & (share >= STAYS)))
        # The rows without it have the value 0.
        absent = np.maximum(mass - weight, 0.0)
        deviation = np.sqrt((squares + np.square(mean) * weight * (absent / mass)) / mass)
        new_centre[number], new_scale[number] = (mean * np.minimum(share, 1.0))[number], deviation[number]
        constant = equal & (share >= _ALL) & ((centre != 0) | (scale == 0))
        new_centre[constant], new_scale[constant] = mean[constant], 0.0
    new_scale = np.maximum(new_scale, _NARROWEST * np.asarray(widest))
    return np.where(seen, new_centre, centre), np.where(seen, new_scale, scale)


def tamed(
    spec: Spec, sums: np.ndarray, mass: float, new: np.ndarray, place: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Return moments without the outliers of a feature's first window: no scale was known by which to hold them back.

    Where the scale is beyond three times that of the sampled values without the farthest thousandth, these take the
    moments' place.

    Args:
        spec: the spec.
        sums: (r, 3) moments of values other than 0.
        mass: weight of all rows.
        new: (r,) bool: features of this window.
        place: (z,) number of the feature of each sampled value.
        values: (z,).
    """
    asked = np.flatnonzero(new & (sums[:, 2] > 0))
    if not spec.normalize or asked.size == 0:
        return sums
    held = (values != 0) & np.isin(place, asked)
    place, values = place[held], values[held].astype(np.float64)
    n, nothing = sums.shape[0], np.zeros(sums.shape[0])
    order = np.lexsort((values, place))
    count = np.bincount(place, minlength=n)
    first = np.cumsum(count) - count
    middle = np.zeros(n)
    middle[count > 0] = values[order][(first + count // 2)[count > 0]]
    order = np.lexsort((np.abs(values - middle[place]), place))
    place, values = place[order], values[order]
    near = np.arange(place.size) - first[place] < (count - 1 - count // 1000)[place]
    place, values = place[near], values[near]
    left = np.maximum(np.bincount(place, minlength=n), 1)
    mean = np.bincount(place, weights=values - middle[place], minlength=n) / left + middle
    scatter = np.bincount(place, weights=np.square(values - mean[place]), minlength=n) / left
    calm = np.stack([sums[:, 0], mean, sums[:, 0] * scatter], axis=1)
    scale, calmer = (frames(spec, one, mass, nothing, nothing)[1] for one in (sums, calm))
    wild = (count >= _ENOUGH) & (calmer > 0) & (scale > _WILD * calmer)
    return np.where(wild[:, None], calm, sums)


def spread_of(spec: Spec, held: float, before: float = 0.0) -> float:
    """Return ρ, or what it was where it is nearly the same.

    Args:
        spec: the spec.
        held: features that a row has on average, constants aside.
        before: ρ so far; 0: not known.

    >>> spread_of(Spec(n_features=40, n_factors=2), 32.0)
    2.0
    """
    if not spec.normalize:
        return 1.0
    new = float(np.sqrt(max(1.0, held / _LOUD)))
    return before if before > 0 and 1.0 / _SPREADS <= new / before <= _SPREADS else new


def held_by(sums: np.ndarray, mass: float, scale: np.ndarray) -> float:
    """Return how many features a row has, constants aside, from moments (r, 3) and the scales (r,)."""
    return float(sums[scale > 0, 0].sum() / mass) if mass > 0 else 0.0


def settled(old: tuple[np.ndarray, np.ndarray], new: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the new centres and scales (r,), or the old ones where they are nearly the same."""
    (centre, scale), (to, by) = old, new
    low, high, off = _SETTLED
    same = (scale > 0) & (by >= low * scale) & (by <= high * scale) & (np.abs(to - centre) <= off * scale)
    same &= (centre == 0) == (to == 0)
    return np.where(same, centre, to), np.where(same, scale, by)


def reframed(
    theta: np.ndarray, squares: np.ndarray, rows: np.ndarray, old: tuple[np.ndarray, np.ndarray],
    new: tuple[np.ndarray, np.ndarray],
) -> None:  # fmt: skip
    """Write parameters and Σ gradient² for other frames of some features; the scores of rows stay as they are.

    With z = z'·s'/s + δ, δ = (c' − c)/s and Δ = Σ v_i δ_i: w_i' = (w_i + v_i·(Δ − v_i δ_i))·s'/s, v' = v·s'/s and
    w0' = w0 + Σ w_i δ_i + ½(|Δ|² − Σ |v_i|² δ_i²).

    Args:
        theta: (p, m), the bias last; updated.
        squares: (p, m); updated.
        rows: (r,) features.
        old: their centres and scales (r,); a scale of 0: what they have is not for any frame.
        new: theirs now.
    """
    (centre, scale), (to, by) = old, new
    known = (scale > 0) & (by > 0) & ((scale != by) | (centre != to))
    rows, centre, scale, to, by = rows[known], centre[known], scale[known], to[known], by[known]
    if rows.size == 0:
        return
    moved = (to - centre) / scale
    far = np.flatnonzero(moved)
    if far.size:
        at, delta = rows[far], moved[far]
        linear, factors = theta[at, 0], theta[at, 1:]
        both = delta @ factors
        own = np.square(factors).sum(axis=1) * delta
        theta[-1, 0] += delta @ linear + 0.5 * (both @ both - own @ delta)
        theta[:-1, 0] += theta[:-1, 1:] @ both
        theta[at, 0] -= own
    ratio = (by / scale)[:, None]
    theta[rows] *= ratio
    squares[rows] /= np.square(ratio)
