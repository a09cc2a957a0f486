"""What a partial says of rows that were solved too few at a time: it adds up, fades with its rows, and is no more than they are."""

from functools import reduce

import numpy as np
import pytest

from beam_ml.algorithms.linear import NEWTON, Newton
from beam_ml.algorithms.linear.newton.blocks import Rows, distance, squared_sums
from beam_ml.algorithms.linear.newton.sums import Point, linear_score
from beam_ml.core.batch import Batch

SPEC = Newton(n_features=6, pending_bytes=1 << 16)


def early(seed: int, n: int = 2_000, weight: float = 1.0) -> object:
    """One worker's partial of rows among which hardly one is of class 1, so that blocks close before there are enough."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6))
    label = np.zeros(n)
    label[rng.integers(0, n, 3)] = 1.0
    partial = NEWTON.empty(SPEC)
    for piece in np.array_split(np.arange(n), 25):
        batch = Batch.dense(x[piece], label=label[piece], weight=np.full(piece.size, weight))
        partial = NEWTON.accumulate(SPEC, partial, batch, None)
    assert 0.0 < float(partial.underdetermined) < weight * n
    return partial


def flagged(partial: object) -> float:
    return float(partial.underdetermined)


def test_each_early_block_adds_to_those_before() -> None:
    partial = early(0, weight=2.0)
    summed = NEWTON.weight(partial) - float(partial.pending_weight.sum())
    assert flagged(partial) == pytest.approx(summed)
    assert summed > 2.0 * 1_000  # more than a buffer of rows holds


def test_what_two_workers_say_adds_up() -> None:
    a, b = early(0), early(1, weight=2.5)
    room = SPEC.pending_bytes // (8 * 9)
    assert a.pending_key.size + b.pending_key.size <= room  # so that the merge closes no block of its own
    for one, other in ((a, b), (b, a)):
        assert flagged(NEWTON.merge(SPEC, one, other)) == flagged(a) + flagged(b)


def test_any_order_and_grouping_says_the_same() -> None:
    parts = [early(seed, n=1_000) for seed in range(3)]
    left = reduce(lambda a, b: NEWTON.merge(SPEC, a, b), parts)
    right = reduce(lambda a, b: NEWTON.merge(SPEC, b, a), parts[::-1])
    assert flagged(left) == flagged(right) >= sum(map(flagged, parts))


@pytest.mark.parametrize("factor", [0.5, 1e-3, 3.0])
def test_it_fades_with_its_rows(factor: float) -> None:
    partial = early(2)
    scaled = NEWTON.scale(SPEC, partial, factor)
    assert flagged(scaled) == pytest.approx(factor * flagged(partial), rel=1e-12)
    assert flagged(scaled) / NEWTON.weight(scaled) == pytest.approx(flagged(partial) / NEWTON.weight(partial), rel=1e-9)


def test_a_state_goes_on_saying_it() -> None:
    partial = early(3)
    state = NEWTON.fold(SPEC, NEWTON.init(SPEC), partial, None)
    for _ in range(4):
        state = NEWTON.fold(SPEC, NEWTON.scale(SPEC, state, 0.25), partial, None)
        assert flagged(partial) < flagged(state) <= NEWTON.weight(state)


def test_how_far_points_are_apart_does_not_depend_on_their_origins():
    rng = np.random.default_rng(4)
    x, weight = rng.normal(size=(50, 3)) + 2.0, rng.random(50)
    sums = squared_sums(x[0], Rows(x, np.zeros(50), weight))
    a, b = (Point(rng.normal(size=3), float(rng.normal()), rng.normal(size=3)) for _ in range(2))
    wanted = weight @ np.square(linear_score(x, a) - linear_score(x, b))
    for one, other in ((a, b), (a.at(x[3]), b), (a, b.at(a.origin)), (b.at(x[9]), a.at(x[0]))):
        assert distance(sums, one, other) == pytest.approx(wanted, rel=1e-9)
