"""Forgetting by event time, in one place: a summary with the time its weights are relative to.

A row of age a weighs 2^(−a / half_life) relative to the newest event time seen. Algorithms never see time: weights are
scaled before `accumulate`, and the older summary is scaled before `merge`. Hence the result does not depend on bundles,
batches, parallelism or order of arrival. Cormode et al. 2009 call this forward decay.

Rows that are gathered (`beam_ml.core.gathered`) keep weight and time as they came, so that any order of merges yields the
same bytes; they are weighed once, at the fold (`due`).
"""

import dataclasses
from typing import Any

import numpy as np

from beam_ml.core import gathered
from beam_ml.core.admit import LEAST_WEIGHT
from beam_ml.core.algorithm import Algorithm, Growing
from beam_ml.core.arrays import nbytes
from beam_ml.core.batch import Batch
from beam_ml.core.gathered import Gathered
from beam_ml.core.spec import Spec
from beam_ml.errors import InvalidBatch

__all__ = [
    "AsOf",
    "Growth",
    "accumulate",
    "advance",
    "due",
    "empty",
    "factor",
    "gathers",
    "later",
    "merge",
    "weight_at",
]

_US = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class AsOf:
    """A Partial or State as of an event time (µs since the epoch) that its weights are relative to; None before any row."""

    summary: Any
    time: int | None = None


def factor(half_life_s: float | None, age_us: int | float) -> float:
    """Return 2^(−age / half_life); 1 without a half-life.

    >>> factor(10.0, 20_000_000)
    0.25
    """
    return 1.0 if half_life_s is None else float(np.exp2(-age_us * _US / half_life_s))


def later(a: int | None, b: int | None) -> int | None:
    """Return the later of two times; None is earlier than any."""
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)


def gathers(algorithm: Algorithm) -> bool:
    """Return whether partials are gathered rows, which are not scaled on the way."""
    return algorithm.partial is Gathered


def empty(algorithm: Algorithm, spec: Spec) -> AsOf:
    """Return the identity of `merge`."""
    return AsOf(algorithm.empty(spec))


def advance(algorithm: Algorithm, spec: Spec, dated: AsOf, time: int | None) -> AsOf:
    """Bring the weights forward to `time`; an earlier time or no half-life changes nothing."""
    if spec.half_life is None or time is None:
        return dated
    if dated.time is None:
        return AsOf(dated.summary, time)
    if time <= dated.time:
        return dated
    by = _factor(spec.half_life, time - dated.time)
    if algorithm.weight(dated.summary) * by < LEAST_WEIGHT:
        by = 0.0
    return AsOf(algorithm.scale(spec, dated.summary, by), time)


def due(algorithm: Algorithm, spec: Spec, part: AsOf, time: int | None) -> AsOf:
    """Return a partial as the fold takes it, its weights relative to `time`."""
    if not gathers(algorithm):
        return advance(algorithm, spec, part, time)
    return AsOf(gathered.aged(spec, part.summary, time), later(part.time, time))


def _factor(half_life_s: float, age_us: int) -> float:
    by = factor(half_life_s, age_us)
    return by if by >= LEAST_WEIGHT else 0.0


def weight_at(spec: Spec, batch: Batch, time: int) -> Batch:
    """Scale the row weights to be relative to `time` (not before any row's own)."""
    if spec.half_life is None:
        return batch
    if batch.time is None:
        message = f"{spec.called or type(spec).__name__}.half_life needs event times; got a batch without time."
        raise InvalidBatch(message)
    aged = np.exp2((batch.time - np.int64(time)) * (_US / spec.half_life))
    weight = aged if batch.weight is None else batch.weight * aged
    weight[weight < LEAST_WEIGHT] = 0.0
    return batch.replace(weight=weight)


def _newest(spec: Spec, dated: int | None, batch: Batch) -> int:
    """Return the time that weights are relative to once a batch of at least one row is in."""
    if batch.time is None:
        weight_at(spec, batch, 0)  # raises, with the reason
    assert batch.time is not None  # noqa: S101
    time = later(dated, int(batch.time.max()))
    assert time is not None  # noqa: S101
    return time


def accumulate(algorithm: Algorithm, spec: Spec, dated: AsOf, batch: Batch, anchor: Any) -> AsOf:
    """Add a batch's rows, each weighted by its age."""
    if spec.half_life is None:
        return AsOf(algorithm.accumulate(spec, dated.summary, batch, anchor))
    if len(batch) == 0:
        return dated
    time = _newest(spec, dated.time, batch)
    if gathers(algorithm):
        return AsOf(algorithm.accumulate(spec, dated.summary, batch, anchor), time)
    moved = advance(algorithm, spec, dated, time)
    return AsOf(algorithm.accumulate(spec, moved.summary, weight_at(spec, batch, time), anchor), time)


class Growth:
    """The mutable twin of `accumulate`: one worker's partial over many batches.

    An algorithm with `grow` updates memory of its own in place; of any other, partials follow one another. Either way
    the partial that was begun with, those given on the way, and all batches stay as they are.
    """

    def __init__(self, algorithm: Algorithm, spec: Spec, start: AsOf, anchor: Any) -> None:
        self._algorithm, self._spec, self._anchor = algorithm, spec, anchor
        self._dated = start
        self._growing: Growing | None = None

    def add(self, batch: Batch) -> None:
        """Add a batch's rows, each weighted by its age."""
        if self._algorithm.grow is None:
            self._dated = accumulate(self._algorithm, self._spec, self._dated, batch, self._anchor)
            return
        if len(batch) == 0:
            return
        if self._growing is None:
            self._growing = self._algorithm.grow(self._spec, self._dated.summary, self._anchor)
        if self._spec.half_life is None:
            self._growing.add(batch)
            return
        before, time = self._dated.time, _newest(self._spec, self._dated.time, batch)
        if gathers(self._algorithm):
            self._growing.add(batch)
        else:
            if before is not None and time > before:
                self._growing.scale(_factor(self._spec.half_life, time - before))
            self._growing.add(weight_at(self._spec, batch, time))
        self._dated = AsOf(self._dated.summary, time)

    def dated(self) -> AsOf:
        """Return the partial so far and its time; more may be added afterwards."""
        return self._dated if self._growing is None else AsOf(self._growing.partial(), self._dated.time)

    @property
    def nbytes(self) -> int:
        """The bytes of the arrays that the partial has."""
        return nbytes(self._dated.summary) if self._growing is None else self._growing.nbytes


def merge(algorithm: Algorithm, spec: Spec, a: AsOf, b: AsOf) -> AsOf:
    """Merge two partials, the older scaled to the newer's time."""
    time = later(a.time, b.time)
    if gathers(algorithm):
        return AsOf(algorithm.merge(spec, a.summary, b.summary), time)
    left, right = advance(algorithm, spec, a, time), advance(algorithm, spec, b, time)
    return AsOf(algorithm.merge(spec, left.summary, right.summary), time)
