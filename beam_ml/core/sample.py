"""`Sample`: a bounded, mergeable, class-stratified random sample of rows. A commutative monoid.

For each class alone it keeps the longest prefix, in hash order, that fits the class's caps, and τ, the smallest order it
refused; merging unites by position, takes the smaller τ and cuts again, so the result does not depend on how rows were
split or merged. The order of a row with weight w and event time t is

    log(−ln u) − ln w − t · ln 2 / half_life,   u uniform in (0, 1), a hash of (seed, origin, position),

the logarithm of an exponential clock with the row's (decayed) weight as its rate: weighted sampling without replacement
(Efraimidis & Spirakis 2006; bottom-k sketches of Cohen & Kaplan 2007). Exact (decayed) class masses stand beside it.
"""

import dataclasses
import hashlib

import numpy as np

from beam_ml.core.batch import Batch, Origin
from beam_ml.core.decay import factor, latest
from beam_ml.core.spec import Spec

__all__ = ["MAX_BYTES", "MAX_ROWS", "Sample"]

MAX_ROWS = 4096
MAX_BYTES = 4 << 20
_MAX_CLASSES = 256
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Sampled rows in canonical order (class, order, identity), thresholds and masses.

    Attributes:
        rows: n sampled rows with their original weight and time (no positions), or None when n is 0.
        order: (n,) float64 place in hash order, ascending within a class.
        identity: (n,) uint64 hash of (seed, origin, position): the same row has the same one.
        kind: (n,) int32 class of each row.
        tau: (c,) float64 smallest order refused, by class; +inf while nothing was.
        mass: (c,) float64 weight of all rows seen, by class, relative to `time`.
        time: newest event time seen, µs; None without half-life.
        too_wide: rows left out because one of them is over 1/64 of the byte cap.
    """

    rows: Batch | None
    order: np.ndarray
    identity: np.ndarray
    kind: np.ndarray
    tau: np.ndarray
    mass: np.ndarray
    time: int | None = None
    too_wide: int = 0

    @staticmethod
    def empty(spec: Spec) -> "Sample":
        """Give the identity of `merge`."""
        c = classes(spec)
        none = np.zeros(0)
        return Sample(
            None, none, none.astype(np.uint64), none.astype(np.int32), np.full(c, np.inf), np.zeros(c)
        )  # fmt: skip

    @staticmethod
    def of(spec: Spec, batch: Batch, below: np.ndarray | None = None) -> "Sample":
        """Sample one batch of admitted rows.

        Args:
            spec: seed, half-life and classes.
            batch: n rows with positions (without: they count as rows 0 … n − 1 of no origin).
            below: (c,) thresholds already reached elsewhere: rows at or above them need no look (they would be cut).
        """
        c = classes(spec)
        n = len(batch)
        if n == 0:
            return Sample.empty(spec)
        kind = _kinds(spec, batch)
        time = None if spec.half_life is None or batch.time is None else int(batch.time.max())
        weight = batch.weight
        now = weight
        if time is not None and batch.time is not None and spec.half_life is not None:
            aged = np.exp2((batch.time - np.int64(time)) * (1e-6 / spec.half_life))
            now = aged if weight is None else weight * aged
        if kind is None:
            mass = np.array([float(n) if now is None else float(now.sum())])
        else:
            mass = np.bincount(kind, weights=now, minlength=c).astype(np.float64)
        identity = _identities(spec.seed, batch)
        u = ((identity >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        tau = np.full(c, np.inf) if below is None else below
        if time is None and weight is None:
            limit = np.exp(-np.exp(np.minimum(tau, 700.0)))
            keep = np.flatnonzero(u > (limit[0] if kind is None else limit[kind]))
            order = np.log(-np.log(u[keep]))
        else:
            rate = _log_rate(spec, batch.weight, batch.time, n)
            order = np.log(-np.log(u)) - rate
            keep = np.flatnonzero((order < (tau[0] if kind is None else tau[kind])) & (rate > -np.inf))
            order = order[keep]
        kept_kind = np.zeros(keep.size, np.int32) if kind is None else kind[keep]
        rows: Batch | None = None
        too_wide = 0
        if keep.size:
            keep, order, kept_kind = _shortlist(keep, order, kept_kind, c)
            rows = batch.take(keep).replace(origin=None, position=None, position_end=None)
            if not rows.is_dense or _row_bytes(rows)[0] > MAX_BYTES // 64:
                wide = _row_bytes(rows) > MAX_BYTES // 64
                too_wide = int(wide.sum())
                if too_wide:
                    rows, keep = rows.take(~wide), keep[~wide]
                    order, kept_kind = order[~wide], kept_kind[~wide]
        return _cut(rows, order, identity[keep], kept_kind, tau.copy(), mass, time, too_wide)

    def merge(self, other: "Sample", spec: Spec) -> "Sample":
        """Add two samples of one spec."""
        time = latest(self.time, other.time)
        mass = self._mass_at(spec, time) + other._mass_at(spec, time)
        tau = np.minimum(self.tau, other.tau)
        wide = self.too_wide + other.too_wide
        if self.rows is None or other.rows is None:
            one = other if self.rows is None else self
            if one.rows is None or bool(np.all(one.tau <= tau)):
                return dataclasses.replace(one, tau=tau, mass=mass, time=time, too_wide=wide)
            return _cut(one.rows, one.order, one.identity, one.kind, tau, mass, time, wide)
        rows = Batch.concat([self.rows, other.rows])
        order, identity, kind = (
            np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("order", "identity", "kind")
        )
        return _cut(rows, order, identity, kind, tau, mass, time, wide)

    def estimate(self, spec: Spec) -> Batch | None:
        """Give the rows weighted so that weighted sums estimate sums over all rows seen, each class to its exact mass.

        A row's weight is its (decayed) weight over its probability of inclusion, 1 − exp(−e^(τ + ln rate)).
        """
        if self.rows is None:
            return None
        n = len(self.rows)
        log_rate = _log_rate(spec, self.rows.weight, self.rows.time, n)
        with np.errstate(over="ignore"):
            chance = -np.expm1(-np.exp(self.tau[self.kind] + log_rate))
        weight = np.exp(log_rate - log_rate.max()) / np.maximum(chance, 1e-300)
        sums = np.bincount(self.kind, weights=weight, minlength=self.mass.size)
        scale = np.divide(self.mass, sums, out=np.zeros_like(sums), where=sums > 0)
        return self.rows.replace(weight=weight * scale[self.kind])

    def scale_mass_to(self, spec: Spec, time: int | None) -> "Sample":
        """Bring the masses forward to `time`."""
        return dataclasses.replace(self, mass=self._mass_at(spec, time), time=latest(self.time, time))

    def _mass_at(self, spec: Spec, time: int | None) -> np.ndarray:
        if time is None or self.time is None or time <= self.time:
            return self.mass
        return self.mass * factor(spec.half_life, time - self.time)

    @property
    def nbytes(self) -> int:
        """Give the bytes held."""
        rows = 0 if self.rows is None else self.rows.nbytes
        return rows + self.order.nbytes + self.identity.nbytes + self.kind.nbytes


def classes(spec: Spec) -> int:
    """Give the number of classes kept apart: above 256 the caps would be too small, so none are."""
    return spec.n_label_classes if 1 < spec.n_label_classes <= _MAX_CLASSES else 1


def _kinds(spec: Spec, batch: Batch) -> np.ndarray | None:
    if classes(spec) == 1 or batch.label is None:
        return None
    return batch.label.astype(np.int32)


def _log_rate(spec: Spec, weight: np.ndarray | None, time: np.ndarray | None, n: int) -> np.ndarray:
    """Give ln w + t ln 2 / half_life of each row."""
    rate = np.zeros(n)
    if weight is not None:
        with np.errstate(divide="ignore"):
            rate = np.log(weight)
    if spec.half_life is not None and time is not None:
        rate = rate + time * (1e-6 * np.log(2.0) / spec.half_life)
    return rate


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): a bijection of uint64 that leaves no visible pattern."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _identities(seed: int, batch: Batch) -> np.ndarray:
    origin = batch.origin or Origin("", "")
    text = f"{seed}\0{origin.source}\0{origin.partition}".encode()
    salt = np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))
    place = np.arange(len(batch), dtype=np.int64) if batch.position is None else batch.position
    with np.errstate(over="ignore"):
        return _mix((place.astype(np.uint64) + np.uint64(1)) * _GOLDEN + salt)


def _row_bytes(rows: Batch) -> np.ndarray:
    """Bytes of each row, its bookkeeping included: the same number however the row was batched."""
    if rows.X is not None:
        return np.full(len(rows), rows.X.shape[1] * rows.X.itemsize + 40)
    assert rows.indptr is not None  # noqa: S101
    assert rows.values is not None  # noqa: S101
    return np.diff(rows.indptr) * (rows.values.itemsize + 4) + 48


def _shortlist(
    keep: np.ndarray, order: np.ndarray, kind: np.ndarray, c: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drop rows that cannot fit any class's caps before their features are copied; one more than fits stays, for τ."""
    cap = MAX_ROWS // c + 1
    if keep.size <= cap:
        return keep, order, kind
    if c == 1:
        best = np.argpartition(order, cap - 1)[:cap]
        return keep[best], order[best], kind[best]
    chosen = []
    for k in range(c):
        mine = np.flatnonzero(kind == k)
        if mine.size > cap:
            mine = mine[np.argpartition(order[mine], cap - 1)[:cap]]
        chosen.append(mine)
    best = np.concatenate(chosen)
    return keep[best], order[best], kind[best]


def _cut(
    rows: Batch | None,
    order: np.ndarray,
    identity: np.ndarray,
    kind: np.ndarray,
    tau: np.ndarray,
    mass: np.ndarray,
    time: int | None,
    too_wide: int,
) -> Sample:
    """Put rows into canonical order, each once, and cut every class to its caps and τ."""
    if rows is None or len(rows) == 0:
        return Sample(None, order[:0], identity[:0], kind[:0], tau, mass, time, too_wide)
    c = tau.size
    place = np.lexsort((identity, order, kind))
    repeated = np.zeros(place.size, dtype=bool)
    repeated[1:] = (identity[place][1:] == identity[place][:-1]) & (kind[place][1:] == kind[place][:-1])
    place = place[~repeated & (order[place] < tau[kind[place]])]
    size = _row_bytes(rows)
    tau = tau.copy()
    kept = []
    for k in range(c):
        mine = place[kind[place] == k] if c > 1 else place
        fits = np.cumsum(size[mine]) <= MAX_BYTES // c
        fits[MAX_ROWS // c :] = False
        if not fits.all():
            tau[k] = min(tau[k], float(order[mine[np.argmin(fits)]]))
        kept.append(mine[fits])
    final = np.concatenate(kept)
    if final.size == 0:
        return Sample(None, order[:0], identity[:0], kind[:0], tau, mass, time, too_wide)
    return Sample(rows.take(final), order[final], identity[final], kind[final], tau, mass, time, too_wide)
