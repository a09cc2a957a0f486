"""Laws of weight: forgetting is scaling, no weight is no row, weight k is k rows."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from beam_ml.core import decay as clock
from beam_ml.core.algorithm import LawKind
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch
from beam_ml.testing.subject import Scenario, Subject, additive, difference, require

__all__ = ["decay", "half_life", "integer_weight", "zero_weight"]

_FACTORS = (0.5, 0.25, 0.9, 1e-3)
_HALF_LIFE_S = 6 * 3600.0  # generated rows span a day: the oldest weigh a sixteenth


def decay(subject: Subject) -> None:
    """Scaling multiplies weight, composes, keeps the empty partial and spreads over merge: decay in closed form."""
    algorithm, spec = subject.algorithm, subject.spec

    def scale(summary: object, factor: float) -> object:
        return algorithm.scale(spec, summary, factor)

    def check(drawn: tuple[Scenario, float]) -> None:
        case, f = drawn
        a, b = (subject.accumulate([batch], case.anchor) for batch in case.batches)
        empty = algorithm.empty(spec)
        subject.same(scale(empty, f), empty, "scale(empty) = empty")
        subject.same(scale(a, 1.0), a, "scale(p, 1) = p")
        subject.same(scale(scale(a, 0.5), 0.5), scale(a, 0.25), "scaled by 0.5 twice = scaled by 0.25")
        subject.same_weight(algorithm.weight(scale(a, f)), f * algorithm.weight(a), "scale of a partial")
        whole = algorithm.weight(scale(subject.merge(a, b), 0.5))
        subject.same_weight(algorithm.weight(subject.merge(scale(a, 0.5), scale(b, 0.5))), whole, "scale over merge")
        if subject.law.kind is not LawKind.SKETCH:
            both = subject.merge(scale(a, 0.5), scale(b, 0.5))
            subject.same(both, scale(subject.merge(a, b), 0.5), "merge of the scaled = scale of the merged")
        state = subject.fold(case.state, subject.merge(a, b), case.batches)
        require(type(scale(state, f)) is type(state), "scale of a state returns a state")
        subject.same_weight(algorithm.weight(scale(state, f)), f * algorithm.weight(state), "scale of a state")
        subject.same(scale(scale(state, 0.5), 0.5), scale(state, 0.25), "state scaled by 0.5 twice = scaled by 0.25")
        if additive(subject.law):
            aged = case.batches[0].replace(weight=case.batches[0].weights * f)
            subject.same(
                subject.accumulate([aged], case.anchor),
                scale(a, f),
                "accumulate(rows of weight w·f) = scale(accumulate, f)",
            )

    subject.examine(st.tuples(subject.scenarios(count=2), st.sampled_from(_FACTORS)), check)


def half_life(subject: Subject) -> None:
    """With a half-life, rows weigh 2^(−age / half_life), however they were cut, sharded and ordered on arrival."""
    spec = subject.algorithm.spec.parse({**subject.spec.to_dict(), "half_life": _HALF_LIFE_S})
    aging = dataclasses.replace(subject, spec=spec)
    algorithm = subject.algorithm

    def check(drawn: tuple[Scenario, Sequence[int]]) -> None:
        case, order = drawn
        newest = max(
            (int(batch.time.max()) for batch in case.batches if batch.time is not None and len(batch)), default=0
        )
        dated = clock.empty(algorithm, spec)
        for i in order:
            shard = clock.accumulate(algorithm, spec, clock.empty(algorithm, spec), case.batches[i], case.anchor)
            dated = clock.merge(algorithm, spec, dated, shard)
        rows = case.rows
        age_s = (newest - (rows.time if rows.time is not None else newest)) * 1e-6
        closed = rows.replace(weight=rows.weights * np.exp2(-age_s / _HALF_LIFE_S))
        aging.same(dated.summary, aging.accumulate([closed], case.anchor), "aged shards in any order = the closed form")
        require(dated.time in (None, newest), f"weights are relative to {dated.time}, not to the newest row, {newest}")

    aging.examine(st.tuples(aging.scenarios(count=4), st.permutations(range(4))), check)


def zero_weight(subject: Subject) -> None:
    """A row of weight 0 equals an absent row."""
    rtol = subject.law.rtol

    def check(case: Scenario) -> None:
        bare = [batch.take(batch.weights > 0) for batch in case.batches]
        found, expected = (subject.accumulate(batches, case.anchor) for batches in (case.batches, bare))
        require(
            close(found, expected, rtol=rtol),
            f"with and without the rows of weight 0: {difference(found, expected, rtol)}",
        )

    subject.examine(subject.scenarios(weights=("some zero", "all zero", "whole")), check)


def integer_weight(subject: Subject) -> None:
    """A row of weight k equals k rows of weight 1 (ANCHORED: at an anchor; cold rows may be kept as they came)."""

    def repeated(batch: Batch) -> Batch:
        return batch.take(np.repeat(np.arange(len(batch)), batch.weights.astype(np.int64))).replace(weight=None)

    def check(case: Scenario) -> None:
        copies = [repeated(batch) for batch in case.batches]
        found, expected = (subject.accumulate(batches, case.anchor) for batches in (case.batches, copies))
        subject.same(found, expected, "weight k = k duplicates")

    subject.examine(subject.scenarios(cold=False, weights=("whole", "none")), check)
