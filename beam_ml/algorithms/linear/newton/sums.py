"""`Partial`: the sums over rows that one Newton step needs, and how they add.

Letters: ``n`` rows, ``d`` features, ``g`` groups of rows kept apart, ``c`` classes counted, ``p`` pending rows.

For a row with features x, weight s and linear score η at the anchor, mean μ(η) and variance V(μ)::

    w = s·V(μ)      r = w·η + s·(y − μ)
    W = Σw   m = Σw(x − o)/W   S = Σw(x − o − m)(x − o − m)ᵀ   R = Σr   c = Σ(x − o − m)r
    p = s·(y − μ)      P = Σp      Q = Σ(x − o)p

around an origin o, the lexicographically smallest row. ``b = S⁻¹c``, ``b₀ = R/W − mᵀb`` is one step of iteratively
reweighted least squares, additive over rows, shards and anchors; (P, Q) is the exact slope of the rows' log likelihood at
their anchor, which the fold needs where one step is not enough. Centred sums, as in Chan, Golub and LeVeque 1979, keep
their digits at any offset of the features.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, UInt64

from beam_ml.algorithms.shared.origin import smaller_row
from beam_ml.core.arrays import array_dataclass

__all__ = ["Partial", "Point", "Sums", "block_sums", "empty", "groups", "join", "merge_sums"]

BLOCK_BYTES = 1 << 19  # a float64 block of rows that stays in the second-level cache while it is centred and multiplied
MIN_BLOCK_ROWS = 1024  # adding a (d, d) block sum costs d² whatever its rows: share it among enough of them
VARIANCE_FLOOR = 1e-12  # per unit of row weight: W is 0 only when there are no rows


@array_dataclass
class Partial:
    """Sums over some rows and the rows still pending; as State, over all rows so far.

    >>> from beam_ml import Batch, linear
    >>> spec = linear.Newton(n_features=1, loss="squared")
    >>> rows = Batch.dense([[0.0], [2.0]], label=[1.0, 3.0])
    >>> partial = linear.NEWTON.accumulate(spec, linear.NEWTON.empty(spec), rows, None)
    >>> partial.information.tolist(), partial.mean.tolist(), partial.scatter.tolist(), partial.cross.tolist()
    ([2.0], [[1.0]], [[[2.0]]], [[2.0]])
    """

    origin: Float64[np.ndarray, "d"]  # o, smallest row in lexicographic order, feature units; zeros without rows
    information: Float64[np.ndarray, "g"]  # W, Σw by group (all rows; or class 0, class 1 when balanced)
    mean: Float64[np.ndarray, "g d"]  # m, w-weighted mean relative to the origin, feature units
    scatter: Float64[np.ndarray, "g d d"]  # S, centred, w-weighted
    response: Float64[np.ndarray, "g"]  # R, Σr
    cross: Float64[np.ndarray, "g d"]  # c, Σ(x − o − m)r
    pull: Float64[np.ndarray, "g"]  # P, slope by the intercept at the anchor; a state's are 0, as it has no anchor
    pull_by: Float64[np.ndarray, "g d"]  # Q, slope by the coefficients
    start: Float64[np.ndarray, "d"]  # coefficients of the anchor; of several, their mean weighted by rows
    start_bias: Float64[np.ndarray, ""]  # its η at the origin
    started: Float64[np.ndarray, ""]  # weight of the rows linearised at an anchor
    mass: Float64[np.ndarray, "c"]  # row weight by class (squared loss: in all), pending rows included
    feature_mean: Float64[np.ndarray, "d"]  # row-weighted mean relative to the origin, pending rows included
    feature_scatter: Float64[np.ndarray, "d"]  # Σ s(x − mean)² by feature, pending rows included
    pending_x: Float64[np.ndarray, "p d"]  # rows not yet in the sums, in order of their key
    pending_label: Float64[np.ndarray, "p"]  # their labels
    pending_weight: Float64[np.ndarray, "p"]  # their row weights
    pending_key: UInt64[np.ndarray, "p"]  # hash of features and label: the canonical order
    underdetermined: Float64[np.ndarray, ""]  # row weight solved in blocks that the byte cap closed too early


@dataclasses.dataclass(frozen=True, slots=True)
class Sums:
    """The sums of one group of rows: W, m, S, R, c around an origin, and P, Q at the rows' anchor."""

    origin: np.ndarray
    information: float
    mean: np.ndarray
    scatter: np.ndarray
    response: float
    cross: np.ndarray
    pull: float = 0.0
    pull_by: np.ndarray | float = 0.0

    def scaled(self, factor: float) -> "Sums":
        """Weigh all rows by a factor."""
        return Sums(
            self.origin, self.information * factor, self.mean, self.scatter * factor, self.response * factor,
            self.cross * factor, self.pull * factor, self.pull_by * factor,
        )  # fmt: skip

    def without_pull(self) -> "Sums":
        """Return the same sums, their slope forgotten: they no longer belong to one anchor."""
        return dataclasses.replace(self, pull=0.0, pull_by=0.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """Parameters: η = intercept + (x − origin)·coefficients."""

    coefficients: np.ndarray
    intercept: float
    origin: np.ndarray

    @property
    def is_finite(self) -> bool:
        """Return whether every parameter is a finite number."""
        return bool(np.isfinite(self.coefficients).all() and np.isfinite(self.intercept))

    def at(self, origin: np.ndarray) -> "Point":
        """Return the same function written around another origin."""
        moved = self.intercept + float((origin - self.origin) @ self.coefficients)
        return Point(self.coefficients, moved, origin)


def empty(d: int, n_groups: int, n_classes: int) -> Partial:
    """Return the identity of `join`."""
    none = np.zeros(0)
    return Partial(
        origin=np.zeros(d), information=np.zeros(n_groups), mean=np.zeros((n_groups, d)),
        scatter=np.zeros((n_groups, d, d)), response=np.zeros(n_groups), cross=np.zeros((n_groups, d)),
        pull=np.zeros(n_groups), pull_by=np.zeros((n_groups, d)), start=np.zeros(d), start_bias=np.zeros(()),
        started=np.zeros(()), mass=np.zeros(n_classes), feature_mean=np.zeros(d), feature_scatter=np.zeros(d),
        pending_x=np.zeros((0, d)), pending_label=none, pending_weight=none, pending_key=none.astype(np.uint64),
        underdetermined=np.zeros(()),
    )  # fmt: skip


def groups(partial: Partial) -> list[Sums]:
    """Return the sums by group."""
    return [
        Sums(
            partial.origin, float(partial.information[g]), partial.mean[g], partial.scatter[g],
            float(partial.response[g]), partial.cross[g], float(partial.pull[g]), partial.pull_by[g],
        )
        for g in range(partial.information.size)
    ]  # fmt: skip


def no_sums(origin: np.ndarray) -> Sums:
    """Return the identity of `merge_sums`."""
    d = origin.size
    return Sums(origin, 0.0, np.zeros(d), np.zeros((d, d)), 0.0, np.zeros(d))


def merge_sums(a: Sums, b: Sums) -> Sums:
    """Merge the sums of two sets of rows.

    With δ = m_b − m_a::

        S = S_a + S_b + (W_aW_b/W)·δδᵀ      c = c_a + c_b + δ·(W_aR_b − W_bR_a)/W      m = m_a + δ·W_b/W
    """
    if b.information == 0.0:
        return a
    if a.information == 0.0:
        return b
    origin = smaller_row(a.origin, b.origin)
    total = a.information + b.information
    share_a, share_b = a.information / total, b.information / total
    m_a, m_b = a.mean + (a.origin - origin), b.mean + (b.origin - origin)
    delta = m_b - m_a
    root = delta * np.sqrt(share_a * share_b * total)
    # Symmetric in a and b to the last bit: each sum adds one term of a and one of b.
    scatter = a.scatter + b.scatter
    scatter += np.outer(root, root)
    cross = (a.cross + b.cross) + delta * (share_a * b.response - share_b * a.response)
    pull_by = _about(a, origin) + _about(b, origin)
    return Sums(
        origin, total, share_a * m_a + share_b * m_b, scatter, a.response + b.response, cross, a.pull + b.pull, pull_by
    )  # fmt: skip


def _about(one: Sums, origin: np.ndarray) -> np.ndarray | float:
    """Return Q around another origin."""
    return one.pull_by + one.pull * (one.origin - origin) if one.pull else one.pull_by


def shifted(x: np.ndarray, point: Point) -> tuple[np.ndarray, np.ndarray]:
    """Return ``z = x − o`` (n, d) float64 and the linear score η (n,) of some rows (n, d)."""
    from beam_ml.kernels.newton.rows import shift

    z, eta = np.empty(x.shape), np.empty(x.shape[0])
    shift(np.ascontiguousarray(x), point.origin, point.coefficients, point.intercept, z, eta)
    return z, eta


def linear_score(x: np.ndarray, point: Point) -> np.ndarray:
    """Return η (n,) of rows (n, d), a cache-sized block at a time."""
    out = np.empty(x.shape[0])
    for part in cuts(x.shape[0], x.shape[1]):
        out[part] = shifted(x[part], point)[1]
    return out


def cuts(n: int, d: int) -> Iterator[slice]:
    """Cut n rows into blocks that stay in the cache."""
    step = max(MIN_BLOCK_ROWS, BLOCK_BYTES // (8 * d))
    return (slice(start, start + step) for start in range(0, n, step))


def block_sums(z: np.ndarray, origin: np.ndarray, w: np.ndarray, r: np.ndarray, p: np.ndarray | None = None) -> Sums:
    """Sum one cache-sized block of rows z = x − o (n, d) float64, which is overwritten; w > 0, r and p are (n,)."""
    from beam_ml.kernels.newton.rows import whiten

    total = float(w.sum())
    if total == 0.0 or z.shape[0] == 0:
        return no_sums(origin)
    response = float(r.sum())
    pull, pull_by = (0.0, 0.0) if p is None else (float(p.sum()), p @ z)
    mean = (w / total) @ z
    root = np.sqrt(w)
    whiten(z, mean, root)
    # Σ(x − m)w = 0, so the mean response may be taken off first: the sum then keeps its digits at any label offset.
    cross = ((r - w * (response / total)) / root) @ z
    return Sums(origin, total, mean, z.T @ z, response, cross, pull, pull_by)


def moments(x: np.ndarray, origin: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean relative to the origin and Σ s(x − mean)², by feature, of rows of positive weight.

    The sums around the origin may be centred afterwards: it is a row of the data, and no row is further than √n
    standard deviations from the mean (Samuelson 1968). Only scales of penalties come from these.
    """
    from beam_ml.kernels.newton.rows import moments as add_moments

    first, second, total = np.zeros(origin.size), np.zeros(origin.size), float(weight.sum())
    add_moments(np.ascontiguousarray(x), origin, np.ascontiguousarray(weight), first, second)
    mean = first / total
    scatter: np.ndarray = np.maximum(second - total * mean * mean, 0.0)
    return mean, scatter


def with_groups(partial: Partial, sums: list[Sums]) -> Partial:
    """Return a partial whose sums are replaced (all around its own origin)."""
    moved = [one.mean + (one.origin - partial.origin) if one.information > 0 else one.mean for one in sums]
    return dataclasses.replace(
        partial,
        information=np.array([one.information for one in sums]),
        mean=np.array(moved),
        scatter=np.array([one.scatter for one in sums]),
        response=np.array([one.response for one in sums]),
        cross=np.array([one.cross for one in sums]),
        pull=np.array([one.pull for one in sums]),
        pull_by=np.array([_about(one, partial.origin) + np.zeros(partial.origin.size) for one in sums]),
    )


def join(a: Partial, b: Partial) -> Partial:
    """Merge two partials: sums, masses and moments add, pending rows are concatenated in order of their key."""
    n_a, n_b = float(a.mass.sum()), float(b.mass.sum())
    if n_b == 0.0:
        return a
    if n_a == 0.0:
        return b
    origin = smaller_row(a.origin, b.origin)
    sums = [merge_sums(x, y) for x, y in zip(groups(a), groups(b), strict=True)]
    share_a, share_b = n_a / (n_a + n_b), n_b / (n_a + n_b)
    m_a, m_b = a.feature_mean + (a.origin - origin), b.feature_mean + (b.origin - origin)
    spread = (m_b - m_a) ** 2 * (share_a * share_b * (n_a + n_b))
    start, start_bias, started = _started(a, b, origin)
    x, label, weight, key = _together(a, b)
    joined = dataclasses.replace(
        a,
        origin=origin,
        start=start,
        start_bias=start_bias,
        started=started,
        mass=a.mass + b.mass,
        feature_mean=share_a * m_a + share_b * m_b,
        feature_scatter=(a.feature_scatter + b.feature_scatter) + spread,
        pending_x=x,
        pending_label=label,
        pending_weight=weight,
        pending_key=key,
        underdetermined=np.asarray(a.underdetermined + b.underdetermined),
    )
    return with_groups(joined, sums)


def _started(a: Partial, b: Partial, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the anchor of both around an origin: the mean of theirs, weighted by the rows linearised there."""
    started = a.started + b.started
    if started == 0.0:
        return a.start, a.start_bias, np.asarray(started)
    share_a, share_b = a.started / started, b.started / started
    bias_a, bias_b = (one.start_bias + (origin - one.origin) @ one.start for one in (a, b))
    start = share_a * a.start + share_b * b.start
    return start, np.asarray(share_a * bias_a + share_b * bias_b), np.asarray(started)


def _together(a: Partial, b: Partial) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    fields = ("pending_x", "pending_label", "pending_weight", "pending_key")
    if b.pending_key.size == 0 or a.pending_key.size == 0:
        one = a if b.pending_key.size == 0 else b
        return tuple(getattr(one, field) for field in fields)
    x, label, weight, key = (np.concatenate([getattr(a, field), getattr(b, field)]) for field in fields)
    order = key_order(key, weight)
    return x[order], label[order], weight[order], key[order]


def key_order(key: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the canonical order: by key, equal rows by weight."""
    order = np.argsort(key)
    ordered = key[order]
    if np.any(ordered[1:] == ordered[:-1]):
        order = np.lexsort((weight, key))
    return order


def row_keys(x: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Hash each row's features and label (float64): (n,) uint64.

    Merging keeps pending rows in this order, so it commutes; and as the order has nothing to do with the values, any
    run of pending rows is a random sample of them.
    """
    from beam_ml.kernels.newton.rows import keys

    key = np.zeros(label.size, dtype=np.uint64)
    keys(np.ascontiguousarray(label).view(np.uint64)[:, None], key)
    keys(np.ascontiguousarray(x).view(np.uint64), key)
    return key
