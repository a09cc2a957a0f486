"""`Sample`: a bounded, mergeable, class-stratified random sample of rows. A commutative monoid.

For each class alone it keeps the longest prefix, in hash order, that fits the class's caps, and τ, the smallest order it
refused; merging unites by position, takes the smaller τ and cuts again, so the result does not depend on how rows were
split or merged. A row's order is its clock's (`beam_ml.core.clocks`), u a hash of (seed, origin, position). Exact
(decayed) class masses are kept beside it.

Where class 1 is rare, each sampled row of class 0 stands for hundreds, and the top of a ranking rests on two or three
of them. Workers that know a model therefore draw a second sample of class 0, `top`, in which a row's rate is times
its importance ``1 + 512·p``, p its probability of class 1 by that model (close to local case-control sampling, Fithian and
Hastie 2014); rows that came before any model are of importance 16, since some of them may rank high. One hash decides on
both, so a row is in either exactly when its clock is below the later of two thresholds, and the merged rows of both count
by that chance (`ranked`): no fewer spread evenly than without a model, and of the highest nearly all.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.core.clocks import Known, candidates, chances, classes, log_clocks, log_rate, prefix, row_bytes
from beam_ml.core.decay import factor, later
from beam_ml.core.identity import sorted_places
from beam_ml.core.spec import Spec

__all__ = ["MAX_BYTES", "MAX_ROWS", "Sample"]

MAX_ROWS = 4096
MAX_BYTES = 4 << 20
Scorer = Callable[[Batch], np.ndarray]
Rate = Callable[[np.ndarray], np.ndarray]
_UNKNOWN = 16.0
_IMPORTANCE = 512.0
"""How many times likelier, plus one, a row of class 0 is kept in `top` that a model is sure is of class 1."""


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
        importance: (n,) float64 importance of each row; None: no model was known of any.
        top: sample of the rows of class 0 by rate times importance; None: those of this sample are one.
    """

    rows: Batch | None
    order: np.ndarray
    identity: np.ndarray
    kind: np.ndarray
    tau: np.ndarray
    mass: np.ndarray
    time: int | None = None
    too_wide: int = 0
    importance: np.ndarray | None = None
    top: "Sample | None" = None

    @staticmethod
    def empty(spec: Spec) -> "Sample":
        """Return the identity of `merge`."""
        c = classes(spec)
        none = np.zeros(0)
        return Sample(
            None, none, none.astype(np.uint64), none.astype(np.int32), np.full(c, np.inf), np.zeros(c)
        )  # fmt: skip

    @staticmethod
    def of(spec: Spec, batch: Batch, below: "Sample | None" = None, scorer: Scorer | None = None) -> "Sample":
        """Sample one batch of admitted rows.

        Args:
            spec: seed, half-life and classes.
            batch: n rows with positions (without: they count as rows 0 … n − 1 of no origin).
            below: sample so far: rows at or above its thresholds need no look (they would be cut).
            scorer: rows → probabilities of class 1 by some model, of two classes; None: no model is known. It is asked
                about rows that may be kept, no others.
        """
        if len(batch) == 0:
            return Sample.empty(spec)
        known = Known.of(spec, batch)
        tau = None if below is None else below.tau
        if classes(spec) != 2 or (scorer is None and (below is None or below.top is None)):
            return _drawn(spec, batch, known, tau, None)
        rate = _importances(scorer, batch)
        tau_top = None if below is None else below.as_top(rows=False).tau
        most = _UNKNOWN if scorer is None else 1.0 + _IMPORTANCE
        top = _drawn(spec, batch, known, tau_top, rate, most)
        return dataclasses.replace(_drawn(spec, batch, known, tau, rate), top=top)

    def merge(self, other: "Sample", spec: Spec) -> "Sample":
        """Merge two samples of one spec."""
        return Sample.merge_all([self, other], spec)

    @staticmethod
    def merge_all(samples: Sequence["Sample"], spec: Spec) -> "Sample":
        """Merge any number of samples of one spec at once: cut once instead of after each."""
        if not samples:
            return Sample.empty(spec)
        whole = _merged(samples, spec)
        if all(one.top is None for one in samples):
            return whole
        return dataclasses.replace(whole, top=_merged([one.as_top() for one in samples], spec))

    def as_top(self, rows: bool = True) -> "Sample":
        """Return `top`, or where no model was known the rows of class 0 as one; `rows` says whether they are needed."""
        if self.top is not None:
            return self.top
        zeros, known = (self.kind == 0) & rows, np.log(_UNKNOWN)
        mine = None if self.rows is None or not zeros.any() else self.rows.take(zeros)
        return dataclasses.replace(
            self, rows=mine, order=self.order[zeros] - known, identity=self.identity[zeros], kind=self.kind[zeros],
            tau=np.append(self.tau[0] - known, np.full(self.tau.size - 1, np.inf)), importance=_given(self)[zeros],
        )  # fmt: skip

    def estimate(self, spec: Spec) -> Batch | None:
        """Return the rows weighted so that weighted sums estimate sums over all rows seen, each class to its exact mass.

        A row's weight is its (decayed) weight over its probability of inclusion, 1 − exp(−e^(τ + ln rate)).
        """
        if self.rows is None:
            return None
        rates = log_rate(spec, self.rows)
        return _standing(self.rows, rates, self.tau[self.kind] + rates, self.kind, self.mass)

    def ranked(self, spec: Spec) -> Batch | None:
        """Return rows that stand for all rows seen, as `estimate` does, with those of `top` among them.

        What models are chosen, measured and cut off by: the rows that rank highest stand for few others.
        """
        base, top = self.estimate(spec), self.top
        if self.rows is None or base is None or top is None or top.rows is None:
            return base
        zeros = self.kind == 0
        rows = Batch.concat([self.rows.take(zeros), top.rows])
        identity = np.concatenate([self.identity[zeros], top.identity])
        importance = np.concatenate([_given(self)[zeros], _given(top)])
        _, once = np.unique(identity, return_index=True)
        once.sort()  # identities differ between equal fits; the order of the rows may not
        rows, importance = rows.take(once), importance[once]
        rates = log_rate(spec, rows)
        reached = rates + np.maximum(self.tau[0], top.tau[0] + np.log(importance))
        drawn = _standing(rows, rates, reached, np.zeros(once.size, np.intp), self.mass)
        return drawn if zeros.all() else Batch.concat([base.take(~zeros), drawn])

    def scale_mass_to(self, spec: Spec, time: int | None) -> "Sample":
        """Bring the masses forward to `time`."""
        top = None if self.top is None else self.top.scale_mass_to(spec, time)
        return dataclasses.replace(self, mass=self._mass_at(spec, time), time=later(self.time, time), top=top)

    def _mass_at(self, spec: Spec, time: int | None) -> np.ndarray:
        if time is None or self.time is None or time <= self.time:
            return self.mass
        return self.mass * factor(spec.half_life, time - self.time)

    @property
    def nbytes(self) -> int:
        """Return the bytes held."""
        rows = 0 if self.rows is None else self.rows.nbytes
        importance = 0 if self.importance is None else self.importance.nbytes
        top = 0 if self.top is None else self.top.nbytes
        return rows + self.order.nbytes + self.identity.nbytes + self.kind.nbytes + importance + top


def _given(sample: Sample) -> np.ndarray:
    return np.full(sample.order.size, _UNKNOWN) if sample.importance is None else sample.importance


def _standing(rows: Batch, rates: np.ndarray, reached: np.ndarray, kind: np.ndarray, mass: np.ndarray) -> Batch:
    """Weigh rows by 1 / chance, each class to its mass.

    Args:
        rows: n sampled rows.
        rates: (n,) ln of their own (decayed) weight.
        reached: (n,) ln of rate times threshold: what a unit exponential clock must be below.
        kind: (n,) class.
        mass: (c,) of the classes.
    """
    weight = np.exp(rates - rates.max()) / np.maximum(chances(reached), 1e-300)
    sums = np.bincount(kind, weights=weight, minlength=mass.size)
    scale = np.divide(mass, sums, out=np.zeros_like(sums), where=sums > 0)
    return rows.replace(weight=weight * scale[kind])


def _importance(scorer: Scorer | None, rows: Batch) -> np.ndarray:
    if scorer is None:
        return np.full(len(rows), _UNKNOWN)
    probability = scorer(rows)
    known = np.isfinite(probability)  # an anchor run off to infinity says nothing
    return 1.0 + _IMPORTANCE * (probability if known.all() else np.where(known, probability, 0.0))


def _importances(scorer: Scorer | None, batch: Batch) -> Rate:
    """Return a function from row numbers to the rows' importance; each row is scored once."""
    known = np.full(len(batch), np.nan)

    def rate(rows: np.ndarray) -> np.ndarray:
        if (asked := rows[np.isnan(known[rows])]).size:
            known[asked] = _importance(scorer, batch if asked.size == len(batch) else batch.take(asked))
        return known[rows]

    return rate


def _drawn(
    spec: Spec,
    batch: Batch,
    known: Known,
    below: np.ndarray | None,
    importance: Rate | None,
    most: float = 0.0,
) -> Sample:
    """Sample at least one row.

    Args:
        spec: seed, half-life and classes.
        batch: the rows.
        known: what is known of them.
        below: (c,) thresholds so far.
        importance: row numbers → importance of each.
        most: largest importance, by which rows of class 0 alone are drawn; 0: all rows are, by their own rate.
    """
    c, top = classes(spec), most > 0.0
    labels = batch.label if c > 1 else None
    tau = np.full(c, np.inf) if below is None else below
    # No class but 0 ever has a threshold in `top`.
    keep = candidates(spec, batch, known.drawn, float(tau[0] if top else tau.max()), known.time, most if top else 1.0)
    if top and labels is not None:
        keep = keep[labels[keep] == 0]
    wide = _too_wide(batch)
    too_wide = 0 if wide is None else int(np.count_nonzero(wide))
    if wide is not None:
        keep = keep[~wide[keep]]
    identity, drawn, rate = known.identity[keep], known.drawn[keep], log_rate(spec, batch, keep)
    factor = None
    if top and importance is not None:
        factor = importance(keep)
        rate = rate + np.log(factor)
    order = log_clocks(drawn) - rate
    kept_kind = np.zeros(keep.size, np.int32) if labels is None else labels[keep].astype(np.int32)
    chosen = np.flatnonzero((order < tau[kept_kind]) & (rate > -np.inf))
    chosen = chosen[_shortlist(order[chosen], kept_kind[chosen], c)]
    chosen = chosen[sorted_places(order[chosen], identity[chosen], kept_kind[chosen])]
    keep, order, identity, kept_kind = keep[chosen], order[chosen], identity[chosen], kept_kind[chosen]
    rows = batch.take(keep).replace(origin=None, position=None, position_end=None) if keep.size else None
    if factor is not None:
        factor = factor[chosen]
    elif importance is not None:
        factor = importance(keep)
    rest = Sample(None, order, identity, kept_kind, tau, known.mass, known.time, too_wide)
    return _cut(rows, order, identity, kept_kind, factor, rest)


def _merged(samples: Sequence[Sample], spec: Spec) -> Sample:
    """Merge samples, their `top` aside."""
    time = functools.reduce(later, (one.time for one in samples))
    mass = functools.reduce(np.add, (one._mass_at(spec, time) for one in samples))
    tau = functools.reduce(np.minimum, (one.tau for one in samples))
    wide = sum(one.too_wide for one in samples)
    held = [one for one in samples if one.rows is not None]
    if not held or (len(held) == 1 and bool(np.all(held[0].tau <= tau))):
        one = held[0] if held else samples[0]
        return dataclasses.replace(one, tau=tau, mass=mass, time=time, too_wide=wide, top=None)
    rows = Batch.concat([one.rows for one in held if one.rows is not None])
    order, identity, kind = (
        np.concatenate([getattr(one, name) for one in held]) for name in ("order", "identity", "kind")
    )
    known = any(one.importance is not None for one in held)
    importance = np.concatenate([_given(one) for one in held]) if known else None
    return _cut(rows, order, identity, kind, importance, Sample(None, order, identity, kind, tau, mass, time, wide))


def _too_wide(rows: Batch) -> np.ndarray | None:
    """Mark the rows over 1/64 of the byte cap; None when there are none. Dense rows all have one width."""
    some = rows if rows.X is None else rows.take(slice(0, 1))
    wide = row_bytes(some) > MAX_BYTES // 64
    if not wide.any():
        return None
    return wide if rows.X is None else np.ones(len(rows), dtype=bool)


def _shortlist(order: np.ndarray, kind: np.ndarray, c: int) -> np.ndarray:
    """Return the rows that may fit their class's caps, and one more for τ: only their features need to be copied."""
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
    importance: np.ndarray | None,
    other: Sample,
) -> Sample:
    """Put rows into canonical order, each once, and cut every class to its caps and τ; all else is the other's."""
    mass, time, too_wide = other.mass, other.time, other.too_wide

    def sample(rows: Batch | None, final: np.ndarray, tau: np.ndarray) -> Sample:
        factor = None if importance is None else importance[final]
        return Sample(rows, order[final], identity[final], kind[final], tau, mass, time, too_wide, factor)

    if rows is None or len(rows) == 0:
        return sample(None, np.zeros(0, np.intp), other.tau)
    tau = other.tau.copy()
    place = sorted_places(order, identity, kind)
    repeated = np.zeros(place.size, dtype=bool)
    repeated[1:] = (identity[place][1:] == identity[place][:-1]) & (kind[place][1:] == kind[place][:-1])
    place = place[~repeated & (order[place] < tau[kind[place]])]
    size, c = row_bytes(rows), tau.size
    kept = []
    for k in range(c):
        mine = place[kind[place] == k] if c > 1 else place
        fits = prefix(size[mine], MAX_BYTES // c, MAX_ROWS // c)
        if not fits.all():
            tau[k] = min(tau[k], float(order[mine[np.argmin(fits)]]))
        kept.append(mine[fits])
    final = np.concatenate(kept)
    same = final.size == len(rows) and bool((final[1:] > final[:-1]).all())
    return sample(rows if same else rows.take(final) if final.size else None, final, tau)
