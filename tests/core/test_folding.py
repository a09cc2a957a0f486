"""Parts into a state: in which order, how much of each by then, which are too old, and what a failed fold leaves."""

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import toy_sgd
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_sgd import SgdPartial, SgdSpec, SgdState

from beam_ml.core import accumulation
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import COLD, Part
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.decay import AsOf
from beam_ml.core.folding import STALE, Together, fold_parts, fresh_parts
from beam_ml.core.progress import Progress
from beam_ml.core.sample import Sample

HALF_LIFE = 20.0
SPEC = SgdSpec(n_features=1, half_life=HALF_LIFE)
TIMES = st.none() | st.integers(0, 200_000_000)


def telling(spec: SgdSpec, state: SgdState, partial: SgdPartial, *samples: Batch | None) -> SgdState:
    """A fold whose result tells the order of its calls and the weights at each."""
    theta = 2.0 * state.theta + partial.moved + float(state.weight)
    return SgdState(theta=theta, weight=np.asarray(state.weight + partial.weight))


TELLING = dataclasses.replace(toy_sgd.TOY_SGD, fold=telling)


def part(value: float, weight: float) -> SgdPartial:
    return SgdPartial(
        moved=np.full(2, float(value)), weight=np.asarray(weight), run=np.zeros(2), run_weight=np.zeros(())
    )  # fmt: skip


def state(value: float = 1.0, weight: float = 4.0) -> SgdState:
    return SgdState(theta=np.full(2, value), weight=np.asarray(weight))


def together(base: AsOf, parts: dict[int, AsOf]) -> Together:
    return Together(7, base, parts, Sample.empty(SPEC))


@given(TIMES, st.dictionaries(st.integers(0, 9), st.tuples(st.integers(-5, 5), TIMES), max_size=4))
@settings(deadline=None)
def test_parts_are_folded_by_ascending_anchor_each_at_the_newest_time_by_then(
    time: int | None, drawn: dict[int, tuple[int, int | None]]
) -> None:
    base = AsOf(state(), time)
    parts = {number: AsOf(part(value, 2.0), at) for number, (value, at) in drawn.items()}
    found, failure = fold_parts(TELLING, SPEC, together(base, parts), ())
    theta, weight, now = 1.0, 4.0, time
    for _, (value, at) in sorted(drawn.items()):
        then, now = now, max((one for one in (now, at) if one is not None), default=None)
        if now is not None:
            weight *= 1.0 if then is None else 0.5 ** ((now - then) * 1e-6 / HALF_LIFE)
        kept = 1.0 if now is None or at is None else 0.5 ** ((now - at) * 1e-6 / HALF_LIFE)
        theta, weight = 2.0 * theta + kept * value + weight, weight + 2.0 * kept
    assert failure is None
    assert found.time == now
    np.testing.assert_allclose(found.summary.theta, theta, rtol=1e-12)
    assert float(found.summary.weight) == pytest.approx(weight, rel=1e-12)


def test_a_fold_hears_its_samples_in_their_order() -> None:
    heard: list[Batch | None] = []

    def fold(spec: SgdSpec, before: SgdState, partial: SgdPartial, *samples: Batch | None) -> SgdState:
        heard.extend(samples)
        return before

    samples = (Batch.dense([[1.0]]), None)
    algorithm = dataclasses.replace(toy_sgd.TOY_SGD, fold=fold)
    fold_parts(algorithm, SPEC, together(AsOf(state()), {3: AsOf(part(1.0, 1.0))}), samples)
    assert heard[0] is samples[0]
    assert heard[1:] == [None]


def failing(error: Exception | None, theta: float, weight: float) -> Algorithm:
    """An algorithm whose second fold fails, or leaves these numbers."""
    calls = 0

    def fold(spec: SgdSpec, before: SgdState, partial: SgdPartial, *samples: Batch | None) -> SgdState:
        nonlocal calls
        calls += 1
        if calls == 2 and error is not None:
            raise error
        return state(theta, weight) if calls == 2 else telling(spec, before, partial)

    return dataclasses.replace(toy_sgd.TOY_SGD, fold=fold)


@pytest.mark.parametrize(
    ("error", "theta", "weight", "reason"),
    [
        (np.linalg.LinAlgError("singular"), 0.0, 1.0, "singular"),
        (FloatingPointError("diverged"), 0.0, 1.0, "diverged"),
        (None, np.nan, 1.0, "theta of the state is not finite"),
        (None, np.inf, 1.0, "theta of the state is not finite"),
        (None, 0.0, np.inf, "weight of the state is not finite"),
    ],
)
def test_where_one_part_cannot_be_folded_none_is(
    error: Exception | None, theta: float, weight: float, reason: str
) -> None:
    base = AsOf(state(), 5)
    parts = {number: AsOf(part(1.0, 1.0), 5 + number) for number in (1, 2, 3)}
    found, failure = fold_parts(failing(error, theta, weight), SPEC, together(base, parts), ())
    assert found is base
    assert failure == reason


def test_finite_numbers_whose_squares_are_not_are_kept() -> None:
    found, failure = fold_parts(
        failing(None, 1e200, 1e300), SPEC, together(AsOf(state()), {n: AsOf(part(1.0, 1.0)) for n in (1, 2)}), ()
    )
    assert failure is None
    assert found.summary.theta.tolist() == [1e200, 1e200]


def test_windows_of_one_version_add_by_anchor_and_so_do_their_samples() -> None:
    rows = Batch.dense([[0.0], [1.0], [2.0]], label=np.zeros(3), origin=Origin("s", "p"), position=np.arange(3))
    samples = [Sample.of(SPEC, rows.take(slice(i, i + 1))) for i in range(3)]
    windows: list[tuple[dict[int, SgdPartial], Sample]] = [
        ({4: part(1.0, 1.0), 5: part(2.0, 3.0)}, samples[0]), ({4: part(8.0, 5.0)}, samples[1]), ({}, samples[2]),
    ]  # fmt: skip
    whole = together(AsOf(state()), {})
    for parts, sample in windows:
        whole = whole.add(TELLING, SPEC, {n: Part(AsOf(one), Progress()) for n, one in parts.items()}, sample)
    assert {n: (one.summary.moved[0], float(one.summary.weight)) for n, one in whole.parts.items()} == {
        4: (9.0, 6.0),
        5: (2.0, 3.0),
    }
    assert whole.sample.rows is not None
    assert sorted(whole.sample.rows.dense_x[:, 0].tolist()) == [0.0, 1.0, 2.0]


@given(
    version=st.integers(0, 6),
    last_cold=st.integers(0, 8),
    drawn=st.dictionaries(st.integers(0, 6), st.integers(1, 9), max_size=5),
)
@settings(deadline=None)
def test_rows_of_parts_too_old_are_rejected_and_all_are_told_by_age(
    version: int, last_cold: int, drawn: dict[int, int]
) -> None:
    algorithm, limit = toy_sgd.TOY_SGD, SPEC.anchor_staleness
    assert limit is not None
    held: Any = dataclasses.replace(
        accumulation.empty(SPEC),
        parts={number: Part(AsOf(part(1.0, 1.0)), Progress(rows=rows)) for number, rows in drawn.items()},
    )
    learner = learners.new(algorithm, SPEC).replace(last_cold_version=last_cold)
    kept, dropped, behind = fresh_parts(algorithm, learner, held, version)
    age = {number: max(0, version - (last_cold if number == COLD else number)) for number in drawn}
    assert kept == {number: one for number, one in held.parts.items() if age[number] <= limit}
    old = sum(rows for number, rows in drawn.items() if age[number] > limit)
    assert dropped.rejected == ({STALE: old} if old else {})
    assert dropped.rows == 0
    assert behind == functools.reduce(
        lambda sums, number: {**sums, age[number]: sums.get(age[number], 0) + drawn[number]}, drawn, {}
    )
