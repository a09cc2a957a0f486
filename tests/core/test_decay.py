import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.algorithms import pca
from beam_ml.core import decay
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidBatch

SPEC = pca.Spec(n_features=3, half_life=60.0)
ALGORITHM = pca.PCA


def batch(n: int = 200, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    time = 1_700_000_000_000_000 + rng.integers(0, 600_000_000, n)
    return Batch.dense(rng.normal(size=(n, 3)) + 5.0, time=time, weight=rng.uniform(0.5, 2.0, n))


def closed_form(rows: Batch) -> Batch:
    assert rows.time is not None
    return rows.replace(weight=rows.weights * 2.0 ** (-(rows.time.max() - rows.time) / 60e6))


@given(cuts=st.lists(st.integers(0, 200), max_size=5), seed=st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_any_split_and_order_equals_the_closed_form(cuts: list[int], seed: int) -> None:
    rows = batch(seed=seed)
    rng = np.random.default_rng(seed)
    bounds = [0, *sorted(cuts), 200]
    parts = [rows.take(slice(a, b)) for a, b in itertools.pairwise(bounds)]
    rng.shuffle(parts)  # type: ignore[arg-type]
    start = decay.empty(ALGORITHM, SPEC)
    total = start
    for part in parts:
        total = decay.merge(ALGORITHM, SPEC, total, decay.accumulate(ALGORITHM, SPEC, start, part, None))
    running = start
    for part in parts:
        running = decay.accumulate(ALGORITHM, SPEC, running, part, None)
    wanted = ALGORITHM.accumulate(SPEC, ALGORITHM.empty(SPEC), closed_form(rows), None)
    assert close(total.summary, ALGORITHM.merge(SPEC, wanted, ALGORITHM.empty(SPEC)), rtol=1e-9)
    assert ALGORITHM.weight(running.summary) == pytest.approx(ALGORITHM.weight(wanted), rel=1e-9)
    assert rows.time is not None
    assert total.time == running.time == rows.time.max()


def test_advance_halves_once_a_half_life() -> None:
    dated = decay.accumulate(ALGORITHM, SPEC, decay.empty(ALGORITHM, SPEC), batch(), None)
    assert dated.time is not None
    later = decay.advance(ALGORITHM, SPEC, dated, dated.time + 120_000_000)
    assert ALGORITHM.weight(later.summary) == pytest.approx(ALGORITHM.weight(dated.summary) / 4)
    assert decay.advance(ALGORITHM, SPEC, dated, dated.time - 5) is dated


def test_without_half_life_time_is_not_needed() -> None:
    spec = pca.Spec(n_features=3)
    dated = decay.accumulate(ALGORITHM, spec, decay.empty(ALGORITHM, spec), Batch.dense(np.ones((2, 3))), None)
    assert dated.time is None
    assert ALGORITHM.weight(dated.summary) == 2


def test_half_life_needs_times() -> None:
    with pytest.raises(InvalidBatch, match="half_life needs event times"):
        decay.accumulate(ALGORITHM, SPEC, decay.empty(ALGORITHM, SPEC), Batch.dense(np.ones((2, 3))), None)


class Grown:
    """A partial of any algorithm in memory of its own."""

    nbytes = 0

    def __init__(self, spec: pca.Spec, partial: Any, anchor: Any) -> None:
        self._held = partial

    def add(self, rows: Batch) -> None:
        self._held = ALGORITHM.accumulate(SPEC, self._held, rows, None)

    def scale(self, factor: float) -> None:
        self._held = ALGORITHM.scale(SPEC, self._held, factor)

    def partial(self) -> Any:
        return self._held


GROWN = dataclasses.replace(ALGORITHM, grow=Grown)


@pytest.mark.parametrize("algorithm", [ALGORITHM, GROWN], ids=["one after the other", "in place"])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_what_grows_equals_the_closed_form_in_any_order(
    algorithm: Algorithm, begun: bool, order: tuple[int, ...]
) -> None:
    """Batches follow one another by a second or a minute, in any order, and are asked for on the way."""
    rows = batch(120)
    assert rows.time is not None
    rows = rows.replace(time=np.sort(rows.time) // 60_000_000 * 60_000_000 + np.repeat([0, 500_000, 1_400_000], 40))
    parts = [rows.take(slice(at, at + 40)) for at in (0, 40, 80)]
    start = decay.empty(ALGORITHM, SPEC)
    left = [parts[at] for at in order]
    if begun:
        start = decay.accumulate(ALGORITHM, SPEC, start, left.pop(0), None)
    growth = decay.Growth(algorithm, SPEC, start, None)
    for part in left:
        growth.add(part)
        growth.add(part.take(slice(0, 0)))
        growth.dated()
    found = growth.dated()
    assert rows.time is not None
    assert found.time == rows.time.max()
    wanted = ALGORITHM.accumulate(SPEC, ALGORITHM.empty(SPEC), closed_form(rows), None)
    assert close(ALGORITHM.merge(SPEC, found.summary, ALGORITHM.empty(SPEC)), wanted, rtol=1e-9)


def test_what_is_forgotten_is_gone_and_leaves_no_trace_of_a_weight() -> None:
    """Weights below 10⁻¹⁰⁰ would underflow in the products of sums: they are 0, wherever they come from."""
    rows = batch()
    assert rows.time is not None
    old, new = int(rows.time.max()), int(rows.time.max()) + 334 * 60_000_000  # 2⁻³³⁴ < 10⁻¹⁰⁰ < 2⁻³²⁵
    near = int(rows.time.max()) + 325 * 60_000_000
    dated = decay.accumulate(ALGORITHM, SPEC, decay.empty(ALGORITHM, SPEC), rows, None)
    assert ALGORITHM.weight(decay.advance(ALGORITHM, SPEC, dated, near).summary) > 0.0
    assert ALGORITHM.weight(decay.advance(ALGORITHM, SPEC, dated, new).summary) == 0.0
    light = decay.AsOf(ALGORITHM.scale(SPEC, dated.summary, 1e-60), old)
    assert ALGORITHM.weight(decay.advance(ALGORITHM, SPEC, light, old + 150 * 60_000_000).summary) == 0.0
    aged = decay.weight_at(SPEC, rows, new).weights
    assert ((aged == 0.0) | (aged >= 1e-100)).all()
    assert aged.max() == 0.0
    growth = decay.Growth(GROWN, SPEC, dated, None)
    growth.add(Batch.dense(np.ones((1, 3)), time=[new]))
    assert ALGORITHM.weight(growth.dated().summary) == 1.0


def test_what_has_no_time_yet_gets_one_and_the_same_time_changes_nothing() -> None:
    nothing = decay.empty(ALGORITHM, SPEC)
    assert decay.advance(ALGORITHM, SPEC, nothing, 7).time == 7
    dated = decay.accumulate(ALGORITHM, SPEC, nothing, batch(), None)
    assert decay.advance(ALGORITHM, SPEC, dated, dated.time) is dated
