"""Laws of addition: a partial is a commutative monoid, and rows keep their weight on the way."""

import dataclasses
import itertools
import statistics
from functools import reduce
from typing import Any

import numpy as np
from hypothesis import strategies as st

from beam_ml.core.algorithm import LawKind
from beam_ml.core.arrays import close, identical
from beam_ml.testing.strategies import splits
from beam_ml.testing.subject import Scenario, Subject, difference, over, require

__all__ = [
    "anchors",
    "associative",
    "commutative",
    "conservation",
    "homomorphism",
    "identity",
    "sketch_bound",
    "state_is_partial",
]

_SKETCH_SEEDS = 5
_SKETCH_SHARDS = 16
_SKETCH_ROWS = 6_400


def identity(subject: Subject) -> None:
    """The empty partial, an empty batch and a fold of nothing change nothing."""
    algorithm, spec, rtol = subject.algorithm, subject.spec, subject.law.rtol

    def check(case: Scenario) -> None:
        empty, partial = algorithm.empty(spec), subject.accumulate(case.batches, case.anchor)
        nothing = case.world.batch(spec, 0)
        equal = {
            "merge(empty, p) = p": (subject.merge(empty, partial), partial),
            "merge(p, empty) = p": (subject.merge(partial, empty), partial),
            "merge(empty, empty) = empty": (subject.merge(empty, empty), empty),
            "accumulate(p, no rows) = p": (algorithm.accumulate(spec, partial, nothing, case.anchor), partial),
            "accumulate(empty, no rows) = empty": (algorithm.accumulate(spec, empty, nothing, case.anchor), empty),
            "fold(state, empty) = state": (subject.fold(case.state, empty, []), case.state),
        }
        for what, (found, expected) in equal.items():
            require(close(found, expected, rtol=rtol), f"{what}: {difference(found, expected, rtol)}")
        require(algorithm.weight(empty) == 0.0, "weight(empty) = 0")

    subject.examine(subject.scenarios(), check)


def commutative(subject: Subject) -> None:
    """merge(a, b) = merge(b, a)."""

    def check(case: Scenario) -> None:
        a, b = (subject.accumulate([batch], case.anchor) for batch in case.batches)
        _same_sum(subject, subject.merge(a, b), subject.merge(b, a), "merge(a, b) = merge(b, a)")

    subject.examine(subject.scenarios(count=2), check)


def associative(subject: Subject) -> None:
    """merge(merge(a, b), c) = merge(a, merge(b, c))."""

    def check(case: Scenario) -> None:
        a, b, c = (subject.accumulate([batch], case.anchor) for batch in case.batches)
        left = subject.merge(subject.merge(a, b), c)
        right = subject.merge(a, subject.merge(b, c))
        _same_sum(subject, left, right, "merge(merge(a, b), c) = merge(a, merge(b, c))")

    subject.examine(subject.scenarios(count=3), check)


def _same_sum(subject: Subject, a: Any, b: Any, what: str) -> None:
    """Require equal sums; a sketch's arrays may differ, so its weight counts here and its loss in `sketch_bound`."""
    if subject.law.kind is LawKind.SKETCH:
        subject.same_weight(subject.algorithm.weight(a), subject.algorithm.weight(b), what)
    else:
        subject.same(a, b, what)


def conservation(subject: Subject) -> None:
    """Accumulate, merge and fold lose no weight and invent none."""
    algorithm, spec = subject.algorithm, subject.spec

    def check(case: Scenario) -> None:
        total = 0.0
        merged = algorithm.empty(spec)
        for batch in case.batches:
            partial = subject.accumulate([batch], case.anchor)
            subject.same_weight(algorithm.weight(partial), float(batch.weights.sum()), "accumulate of one batch")
            merged = subject.merge(merged, partial)
            total += float(batch.weights.sum())
            subject.same_weight(algorithm.weight(merged), total, "merge")
        running = subject.accumulate(case.batches, case.anchor)
        subject.same_weight(algorithm.weight(running), total, "accumulate of all batches in turn")
        before = algorithm.weight(case.state)
        folded = subject.fold(case.state, merged, case.batches)
        subject.same_weight(algorithm.weight(folded), before + total, "fold")
        if algorithm.merge_states is not None:
            both = algorithm.merge_states(spec, folded, case.state)
            subject.same_weight(algorithm.weight(both), 2 * before + total, "merge of states")

    subject.examine(subject.scenarios(), check)


def homomorphism(subject: Subject) -> None:
    """accumulate(x ++ y) = merge(accumulate x, accumulate y) = accumulate(accumulate x, y), wherever rows are cut."""

    @st.composite
    def build(draw: st.DrawFn) -> Scenario:
        case = draw(subject.scenarios(count=draw(st.integers(1, 3))))
        return dataclasses.replace(case, batches=tuple(draw(splits(case.rows))))

    def check(case: Scenario) -> None:
        whole = subject.accumulate([case.rows], case.anchor)
        merged = reduce(subject.merge, (subject.accumulate([piece], case.anchor) for piece in case.batches))
        subject.same(merged, whole, "merge of the pieces' partials = partial of the whole")
        subject.same(subject.accumulate(case.batches, case.anchor), whole, "pieces one after another = the whole")

    subject.examine(build(), check)


def state_is_partial(subject: Subject) -> None:
    """The state is a partial: init is empty and fold is merge, to the bit."""
    algorithm, spec = subject.algorithm, subject.spec

    def check(case: Scenario) -> None:
        first, second = (subject.accumulate([batch]) for batch in case.batches)
        state = subject.fold(case.state, first, case.batches[:1])
        folded, merged = subject.fold(state, second, case.batches[1:]), subject.merge(state, second)
        require(identical(folded, merged), f"fold(state, p) = merge(state, p): {difference(folded, merged)}")

    require(algorithm.state is algorithm.partial, "the record names one class for state and partial")
    require(identical(algorithm.init(spec), algorithm.empty(spec)), "init = empty")
    subject.examine(subject.scenarios(count=2), check)


def sketch_bound(subject: Subject) -> None:
    """Whatever the shards and their order, the derived model's loss is within the bound of a single shard's."""
    spec, bound = subject.spec, subject.law.bound
    excess: dict[str, list[float]] = {}
    for seed in range(_SKETCH_SEEDS):
        world = subject.world(seed=seed)
        rows = world.batch(spec, _SKETCH_ROWS, weights="uniform")
        # Shards that differ: each holds another region of space (CSR: another range of weights).
        rows = rows.take(np.argsort(rows.weights if rows.X is None else rows.X[:, 0], kind="stable"))
        step = _SKETCH_ROWS // _SKETCH_SHARDS
        shards = [subject.accumulate([rows.take(slice(i, i + step))]) for i in range(0, _SKETCH_ROWS, step)]
        pairs = [subject.merge(a, b) for a, b in itertools.pairwise(shards)][::2]
        single = subject.loss(subject.accumulate([rows]), rows)
        for name, partial in {
            "one shard after another": reduce(subject.merge, shards),
            "in reverse": reduce(subject.merge, shards[::-1]),
            "pairs first": reduce(subject.merge, pairs),
            "small batches in one shard": subject.accumulate(
                rows.take(slice(i, i + 100)) for i in range(0, _SKETCH_ROWS, 100)
            ),
        }.items():
            excess.setdefault(name, []).append(over(subject.loss(partial, rows), single))
            subject.same_weight(subject.algorithm.weight(partial), float(rows.weights.sum()), name)
    for name, values in excess.items():
        found = statistics.median(values)
        require(found <= bound, f"{name}: loss exceeds a single shard's by {found:.4f}, the bound is {bound}")


def anchors(subject: Subject) -> None:
    """Partials of different anchors add up at fold if the law says so; if not, the spec bounds how stale one may be.

    Rows that have waited for an anchor are settled there as if it had come before them: ``settle(A(x, none), a) = A(x, a)``.
    """
    algorithm, spec, across = subject.algorithm, subject.spec, subject.law.across_anchors
    require(algorithm.anchor_type is not None, "an ANCHORED algorithm names its anchor_type")
    bounded = spec.anchor_staleness is not None
    require(across or bounded, "parts of different anchors do not add, so the spec must bound max_staleness")

    def check(case: Scenario) -> None:
        first, second = case.batches
        early = subject.accumulate([first], case.anchor)
        anchor = algorithm.anchor(spec, subject.fold(case.state, early, [first]))
        late = subject.accumulate([second], anchor)
        subject.same_weight(algorithm.weight(late), float(second.weights.sum()), "accumulate at a later anchor")
        in_turn = subject.fold(subject.fold(case.state, early, []), late, [])
        total = algorithm.weight(case.state) + float(first.weights.sum() + second.weights.sum())
        subject.same_weight(algorithm.weight(in_turn), total, "folds at two anchors")
        if across:
            both = subject.merge(early, late)
            subject.same(subject.merge(late, early), both, "merge across anchors commutes")
            together = subject.fold(case.state, both, [])
            subject.same(together, in_turn, "fold of partials of two anchors together = one after the other")
        if algorithm.settle is not None and anchor is not None:
            waiting = subject.accumulate([first])
            settled = algorithm.settle(spec, waiting, anchor)
            subject.same(settled, subject.accumulate([first], anchor), "settle(A(x, none), anchor) = A(x, anchor)")

    subject.examine(subject.scenarios(count=2), check)
