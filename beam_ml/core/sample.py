"""`Sample`: a bounded, mergeable, class-stratified random sample of rows. A commutative monoid.

For each class alone it keeps the longest prefix, in hash order, that fits the class's caps, and τ, the smallest order it
refused; merging unites by position, takes the smaller τ and cuts again, so the result does not depend on how rows were
split or merged. The order of a row with weight w and event time t is

    log(−ln u) − ln w − t · ln 2 / half_life,   u uniform in (0, 1), a hash of (seed, origin, position),

the logarithm of an exponential clock with the row's (decayed) weight as its rate: weighted sampling without replacement
(Efraimidis & Spirakis 2006; bottom-k sketches of Cohen & Kaplan 2007). Exact (decayed) class masses stand beside it.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np

from beam_ml.core.batch import FIT, Batch, Origin
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
        labels = batch.label if c > 1 else None
        time = None if spec.half_life is None or batch.time is None else int(batch.time.max())
        mass = _masses(spec, batch, labels, time, c)
        tau = np.full(c, np.inf) if below is None else below
        origin = batch.origin or Origin("", "")
        identity = drawn = _hashes(spec.seed, batch, f"{origin.source}\0{origin.partition}")
        if origin.source == FIT:
            drawn = _hashes(spec.seed, batch, origin.drawn_as)
        keep = _candidates(spec, batch, drawn, float(tau.max()), time)
        wide = _too_wide(batch)
        too_wide = 0 if wide is None else int(np.count_nonzero(wide))
        if wide is not None:
            keep = keep[~wide[keep]]
        identity = identity[keep]
        rate = _log_rate(spec, batch, keep)
        u = ((drawn[keep] >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        order = np.log(-np.log(u)) - rate
        kept_kind = np.zeros(keep.size, np.int32) if labels is None else labels[keep].astype(np.int32)
        chosen = np.flatnonzero((order < tau[kept_kind]) & (rate > -np.inf))
        chosen = chosen[_shortlist(order[chosen], kept_kind[chosen], c)]
        keep, order, identity, kept_kind = keep[chosen], order[chosen], identity[chosen], kept_kind[chosen]
        if keep.size == 0:
            return Sample(None, order, identity, kept_kind, tau, mass, time, too_wide)
        rows = batch.take(keep).replace(origin=None, position=None, position_end=None)
        return _cut(rows, order, identity, kept_kind, tau, mass, time, too_wide)

    def merge(self, other: "Sample", spec: Spec) -> "Sample":
        """Add two samples of one spec."""
        return Sample.merge_all([self, other], spec)

    @staticmethod
    def merge_all(samples: Sequence["Sample"], spec: Spec) -> "Sample":
        """Add any number of samples of one spec at once: cut once instead of after each."""
        if not samples:
            return Sample.empty(spec)
        time = functools.reduce(latest, (one.time for one in samples))
        mass = functools.reduce(np.add, (one._mass_at(spec, time) for one in samples))
        tau = functools.reduce(np.minimum, (one.tau for one in samples))
        wide = sum(one.too_wide for one in samples)
        held = [one for one in samples if one.rows is not None]
        if not held or (len(held) == 1 and bool(np.all(held[0].tau <= tau))):
            one = held[0] if held else samples[0]
            return dataclasses.replace(one, tau=tau, mass=mass, time=time, too_wide=wide)
        rows = Batch.concat([one.rows for one in held if one.rows is not None])
        order, identity, kind = (
            np.concatenate([getattr(one, name) for one in held]) for name in ("order", "identity", "kind")
        )
        return _cut(rows, order, identity, kind, tau, mass, time, wide)

    def estimate(self, spec: Spec) -> Batch | None:
        """Give the rows weighted so that weighted sums estimate sums over all rows seen, each class to its exact mass.

        A row's weight is its (decayed) weight over its probability of inclusion, 1 − exp(−e^(τ + ln rate)).
        """
        if self.rows is None:
            return None
        log_rate = _log_rate(spec, self.rows)
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


def _masses(spec: Spec, batch: Batch, labels: np.ndarray | None, time: int | None, c: int) -> np.ndarray:
    """Give the (decayed) weight of the rows by class, relative to `time`."""
    now = batch.weight
    if time is not None and batch.time is not None and spec.half_life is not None:
        aged = np.exp2((batch.time - np.int64(time)) * (1e-6 / spec.half_life))
        now = aged if now is None else now * aged
    if labels is None:
        return np.array([float(len(batch)) if now is None else float(now.sum())])
    if c == 2:
        ones = float(np.count_nonzero(labels)) if now is None else float(now @ labels)
        return np.array([(float(len(batch)) if now is None else float(now.sum())) - ones, ones])
    return np.bincount(labels.astype(np.intp), weights=now, minlength=c).astype(np.float64)


def _log_rate(spec: Spec, batch: Batch, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    """Give ln w + t ln 2 / half_life of some rows."""
    rate = np.zeros(len(batch))[rows]
    if batch.weight is not None:
        with np.errstate(divide="ignore"):
            rate = np.log(batch.weight[rows])
    if spec.half_life is not None and batch.time is not None:
        rate = rate + batch.time[rows] * (1e-6 * np.log(2.0) / spec.half_life)
    return rate


def _candidates(spec: Spec, batch: Batch, drawn: np.ndarray, tau: float, time: int | None) -> np.ndarray:
    """Give the rows whose hash could come before τ if they had the batch's largest rate: mostly few, by one comparison."""
    if tau == np.inf:
        return np.arange(len(batch))
    top = 0.0 if batch.weight is None else float(np.log(max(batch.weight.max(), 1e-300)))
    if time is not None and spec.half_life is not None:
        top += time * (1e-6 * np.log(2.0) / spec.half_life)
    least = np.exp(-np.exp(min(tau + top, 700.0)))
    # Two units of slack: the exact comparison follows, this one must only not lose a row to rounding.
    limit = max(0, int(least * 2.0**53) - 2) << 11
    return np.flatnonzero(drawn >= np.uint64(limit))


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014), a bijection of uint64 that leaves no visible pattern; in place."""
    shifted = x >> np.uint64(30)
    x ^= shifted
    x *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(x, np.uint64(27), out=shifted)
    x ^= shifted
    x *= np.uint64(0x94D049BB133111EB)
    np.right_shift(x, np.uint64(31), out=shifted)
    x ^= shifted
    return x


def _hashes(seed: int, batch: Batch, origin: str) -> np.ndarray:
    text = f"{seed}\0{origin}".encode()
    salt = np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))
    place = np.arange(len(batch), dtype=np.int64) if batch.position is None else batch.position
    with np.errstate(over="ignore"):
        x = place.astype(np.uint64)
        x += np.uint64(1)
        x *= _GOLDEN
        x += salt
        return _mix(x)


def _row_bytes(rows: Batch) -> np.ndarray:
    """Bytes of each row, its bookkeeping included: the same number however the row was batched."""
    if rows.X is not None:
        return np.full(len(rows), rows.X.shape[1] * rows.X.itemsize + 40)
    assert rows.indptr is not None  # noqa: S101
    assert rows.values is not None  # noqa: S101
    return np.diff(rows.indptr) * (rows.values.itemsize + 4) + 48


def _too_wide(rows: Batch) -> np.ndarray | None:
    """Mark the rows over 1/64 of the byte cap; None when there are none. Dense rows all have one width."""
    some = rows if rows.X is None else rows.take(slice(0, 1))
    wide = _row_bytes(some) > MAX_BYTES // 64
    if not wide.any():
        return None
    return wide if rows.X is None else np.ones(len(rows), dtype=bool)


def _shortlist(order: np.ndarray, kind: np.ndarray, c: int) -> np.ndarray:
    """Give the rows that may fit their class's caps, and one more for τ: only their features need to be copied."""
    cap = MAX_ROWS // c + 1
    if order.size <= cap:
        return np.arange(order.size)
    chosen = []
    for k in range(c):
        mine = np.flatnonzero(kind == k)
        chosen.append(mine if mine.size <= cap else mine[np.argpartition(order[mine], cap - 1)[:cap]])
    return np.concatenate(chosen)


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
