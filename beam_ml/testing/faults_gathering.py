"""Faults of gathered rows; as `beam_ml.testing.faults`."""

import dataclasses
from typing import Any

import numpy as np

from beam_ml.core.algorithm import Algorithm
from beam_ml.core.batch import Batch
from beam_ml.core.decay import weight_at
from beam_ml.testing.faults import Mutate, replaced

__all__ = ["ages_on_arrival", "counts_the_kept", "forgets_the_threshold", "keeps", "only_counts"]


def ages_on_arrival(algorithm: Algorithm) -> Any:
    """Rows are weighed as of the newest one of their batch."""

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        if len(batch) and batch.time is not None:
            batch = weight_at(spec, batch, int(batch.time.max()))
        return algorithm.accumulate(spec, partial, batch, anchor)

    return accumulate


def keeps(share: float) -> Mutate:
    """More or fewer rows are kept than the spec says."""

    def mutate(algorithm: Algorithm) -> Algorithm:
        def other(spec: Any) -> Any:
            return spec.model_copy(update={"gather_bytes": int(spec.gather_bytes * share)})

        own: Any = algorithm
        return dataclasses.replace(
            algorithm,
            accumulate=lambda spec, partial, batch, anchor: own.accumulate(other(spec), partial, batch, anchor),
            merge=lambda spec, a, b: own.merge(other(spec), a, b),
            grow=None,
        )

    return mutate


def counts_the_kept(algorithm: Algorithm) -> Any:
    """Rows that are left out at a merge are forgotten."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        merged = algorithm.merge(spec, a, b)
        return dataclasses.replace(merged, seen=np.asarray(merged.order.size, np.int64))

    return merge


def forgets_the_threshold(algorithm: Algorithm) -> Algorithm:
    """What was refused is not known any more, so that kept rows stand for themselves."""

    def forgotten(partial: Any) -> Any:
        return dataclasses.replace(partial, tau=np.asarray(np.inf))

    own: Any = algorithm
    return replaced(
        accumulate=lambda _: (
            lambda spec, partial, batch, anchor: forgotten(own.accumulate(spec, partial, batch, anchor))
        ),
        merge=lambda _: lambda spec, a, b: forgotten(own.merge(spec, a, b)),
        grow=lambda _: None,
    )(algorithm)


def only_counts(algorithm: Algorithm) -> Any:
    """After the first fold, rows add to the weight and nothing is learned from them."""

    def fold(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
        before, more = algorithm.weight(state), algorithm.weight(partial)
        if before == 0.0:
            return algorithm.fold(spec, state, partial, sample)
        return algorithm.scale(spec, state, (before + more) / before)

    return fold
