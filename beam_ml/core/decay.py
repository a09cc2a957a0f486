"""Forgetting by event time, in one place: a summary with the time its weights are relative to.

A row of age a weighs 2^(−a / half_life) relative to the newest event time seen. Algorithms never see time: weights are
scaled before `accumulate`, and the older summary is scaled before `merge`. Hence the result does not depend on bundles,
batches, parallelism or order of arrival. Cormode et al. 2009 call this forward decay.
"""

import dataclasses
from typing import Any

import numpy as np

from beam_ml.core.algorithm import Algorithm
from beam_ml.core.batch import Batch
from beam_ml.core.spec import Spec
from beam_ml.errors import InvalidBatch

__all__ = ["Dated", "accumulate", "advance", "empty", "factor", "latest", "merge", "weigh"]

_US = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Dated:
    """A Partial or State and the event time (µs since the epoch) its weights are relative to; None: no dated row yet."""

    summary: Any
    time: int | None = None


def factor(half_life_s: float | None, age_us: int | float) -> float:
    """Give 2^(−age / half_life); 1 without a half-life.

    >>> factor(10.0, 20_000_000)
    0.25
    """
    return 1.0 if half_life_s is None else float(np.exp2(-age_us * _US / half_life_s))


def latest(a: int | None, b: int | None) -> int | None:
    """Give the later of two times, None counting as never."""
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)


def empty(algorithm: Algorithm, spec: Spec) -> Dated:
    """Give the identity of `merge`."""
    return Dated(algorithm.empty(spec))


def advance(algorithm: Algorithm, spec: Spec, dated: Dated, time: int | None) -> Dated:
    """Bring the weights forward to `time`; an earlier time or no half-life changes nothing."""
    if spec.half_life is None or time is None:
        return dated
    if dated.time is None:
        return Dated(dated.summary, time)
    if time <= dated.time:
        return dated
    return Dated(algorithm.scale(spec, dated.summary, factor(spec.half_life, time - dated.time)), time)


def weigh(spec: Spec, batch: Batch, time: int) -> Batch:
    """Scale the row weights to be relative to `time` (not before any row's own)."""
    if spec.half_life is None:
        return batch
    if batch.time is None:
        message = f"{type(spec).__name__}.half_life needs event times; got a batch without time."
        raise InvalidBatch(message)
    aged = np.exp2((batch.time - np.int64(time)) * (_US / spec.half_life))
    return batch.replace(weight=aged if batch.weight is None else batch.weight * aged)


def accumulate(algorithm: Algorithm, spec: Spec, dated: Dated, batch: Batch, anchor: Any) -> Dated:
    """Add a batch's rows, each weighed by its age."""
    if spec.half_life is None:
        return Dated(algorithm.accumulate(spec, dated.summary, batch, anchor))
    if len(batch) == 0:
        return dated
    if batch.time is None:
        weigh(spec, batch, 0)  # raises, with the reason
    assert batch.time is not None  # noqa: S101
    time = latest(dated.time, int(batch.time.max()))
    assert time is not None  # noqa: S101
    moved = advance(algorithm, spec, dated, time)
    return Dated(algorithm.accumulate(spec, moved.summary, weigh(spec, batch, time), anchor), time)


def merge(algorithm: Algorithm, spec: Spec, a: Dated, b: Dated) -> Dated:
    """Add two partials, the older scaled to the newer's time."""
    time = latest(a.time, b.time)
    left, right = advance(algorithm, spec, a, time), advance(algorithm, spec, b, time)
    return Dated(algorithm.merge(spec, left.summary, right.summary), time)
