"""Windows learned one after the other: each from the state that the one before left, and no row lost or doubled."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from beam_ml.algorithms import fm, linear
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import COLD, Accumulator
from beam_ml.core.arrays import array_fields, close
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.in_order import FIRST_PIECE_ROWS, learn_in_order
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import compute
from beam_ml.core.refresh import Plan, refresh
from beam_ml.errors import MergeRefused

SECOND = 1_000_000
ALGORITHM = linear.ADAGRAD
SPEC = linear.AdaGrad(n_features=3, learning_rates=(0.1, 0.5), l1=0.0, l2=0.0, halve_at=())
PLAN = Plan({"best": linear.Variant()})
NAMES = ("a", "b", "c")


def window(number: int, rows: int, place: int) -> Batch:
    rng = np.random.default_rng(number)
    x = rng.normal(size=(rows, 3))
    label = (rng.random(rows) < 1 / (1 + np.exp(-2 * x[:, 0] + x[:, 1]))).astype(float)
    time = number * SECOND + np.arange(rows)
    return Batch.dense(x, label=label, time=time, origin=Origin("files", "a"), position=np.arange(place, place + rows))


def windows(*sizes: int) -> dict[int, list[tuple[Batch, int]]]:
    places = np.cumsum([0, *sizes])
    return {(i + 1) * SECOND: [(window(i, n, int(places[i])), 0)] for i, n in enumerate(sizes)}


def start() -> Learner:
    return learners.new(ALGORITHM, SPEC)


def by_hand(learner: Learner, end: int, rows: list[Batch]) -> Learner:
    """Learn a window in one piece, as a worker and a fold do."""
    anchor = ALGORITHM.anchor(learner.spec, learner.state)
    accumulator = Accumulator(ALGORITHM, learner.spec, learner.version, anchor)
    for batch in rows:
        accumulator.add(batch)
    return refresh(ALGORITHM, learner, end, accumulator.result(), PLAN)[0]


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name), equal_nan=True) for f in array_fields(a))


def test_each_window_starts_from_the_state_behind_the_one_before() -> None:
    given = windows(900, 800, 700)
    steps = list(learn_in_order(ALGORITHM, start(), given, PLAN))
    expected = start()
    for end, rows in given.items():
        expected = by_hand(expected, end, [batch for batch, _ in rows])
    learner, last = steps[-1]
    assert last is None
    assert same(learner.state, expected.state)
    assert [one.number for _, one in steps[:-1] if one is not None] == [1, 2, 3]
    assert learner.progress.summary() == expected.progress.summary()
    assert learner.version == 1, "all go into one version"
    assert learner.sample.top is not None
    assert expected.sample.top is not None
    assert np.array_equal(learner.sample.top.importance, expected.sample.top.importance), "scored at the same anchors"


def test_each_window_is_measured_with_the_models_of_the_one_before() -> None:
    given = windows(900, 800, 700)
    (first, one), _ = learn_in_order(ALGORITHM, start(), {SECOND: given.pop(SECOND)}, PLAN)
    assert one is not None
    known, derived = (
        [
            found.measured
            for _, found in learn_in_order(ALGORITHM, first, given, PLAN, previous=models)
            if found is not None
        ]
        for models in (one.models, None)
    )
    assert known == derived
    assert len(known) == 2


def test_a_large_window_of_a_cold_learner_is_learned_in_pieces() -> None:
    rows = window(0, 6_000, 0)
    pieces = [rows.take(slice(a, b)) for a, b in ((0, 1_000), (1_000, 2_000), (2_000, 4_000), (4_000, 6_000))]
    assert FIRST_PIECE_ROWS == len(pieces[0])
    cut = {SECOND: [(rows.take(slice(a, a + 500)), 0) for a in range(0, 6_000, 500)]}
    (learner, one), (after, _) = learn_in_order(ALGORITHM, start(), cut, PLAN)
    assert one is not None
    assert one.progress.rows == learner.progress.rows == 6_000
    assert learner.progress.covered[Origin("files", "a")].tolist() == [[0, 6_000]]
    assert learner.refresh == after.refresh == 1
    assert float(learner.state.mass.sum()) == 6_000
    assert int(learner.state.folds) == len(pieces)
    whole = by_hand(start(), SECOND, [rows])
    assert np.array_equal(np.sort(learner.sample.identity), np.sort(whole.sample.identity))
    loss = [loss_of(a) for a in (learner, whole)]
    assert loss[0] < loss[1]


def test_a_window_of_many_rows_is_learned_in_two_runs() -> None:
    folded = []

    def fold(spec: Any, state: Any, partial: Any, *samples: Any) -> Any:
        folded.append(int(partial.runs))
        return ALGORITHM.fold(spec, state, partial, *samples)

    watched = dataclasses.replace(ALGORITHM, fold=fold)
    found = list(learn_in_order(watched, start(), windows(4_100, 2_050, 1_900), PLAN))[-1][0]
    assert folded == [1, 1, 2, 2, 1], "pieces of the first window; then by size"
    assert found.progress.rows == 8_050
    assert found.progress.covered[Origin("files", "a")].tolist() == [[0, 8_050]]


def test_an_algorithm_that_looks_back_sees_the_pieces_before() -> None:
    past = []

    def fold(spec: Any, state: Any, partial: Any, sample: Any, before: Batch | None) -> Any:
        past.append(0.0 if before is None else float(before.weights.sum()))
        return ALGORITHM.fold(spec, state, partial, sample)

    watched = dataclasses.replace(ALGORITHM, fold=fold, looks_back=True)
    list(learn_in_order(watched, start(), windows(6_000), PLAN))
    assert past[:3] == pytest.approx([0, 1_000, 2_000])


def test_a_window_with_a_piece_that_fails_is_learned_whole_from_the_state_before() -> None:
    calls = []

    def fold(spec: Any, state: Any, partial: Any, *samples: Any) -> Any:
        calls.append(float(state.mass.sum()))
        if len(calls) == 2:
            raise FloatingPointError
        return ALGORITHM.fold(spec, state, partial, *samples)

    watched = dataclasses.replace(ALGORITHM, fold=fold)
    learner = list(learn_in_order(watched, start(), windows(6_000), PLAN))[-1][0]
    assert calls == [0, 1_000, 0]
    assert int(learner.state.folds) == 1
    assert float(learner.state.mass.sum()) == learner.progress.rows == 6_000


def loss_of(learner: Learner) -> float:
    """Return the log loss on rows that were not learned from."""
    fresh = window(99, 20_000, 50_000)
    kind = ALGORITHM.models["variant"]
    model = kind.derive(learner.spec, linear.Variant(), learner.state, learner.sample.ranked(learner.spec))
    return compute(kind.measure(model, fresh))["log_loss"]


def test_windows_that_an_earlier_round_began_keep_its_anchor() -> None:
    given = windows(600, 500, 400, 300)
    first = {end: rows for end, rows in given.items() if end <= 2 * SECOND}
    (learner, one), (held, none) = learn_in_order(ALGORITHM, start(), first, PLAN, through=SECOND)
    assert one is not None
    assert none is None
    assert learner.version == 1
    assert set(held.pending) == {2 * SECOND}
    assert set(held.pending[2 * SECOND].parts) == {1}
    more = window(1, 200, 10_000)
    second = {2 * SECOND: [(more, 0)], **{end: rows for end, rows in given.items() if end > 2 * SECOND}}
    *folds, (last, _) = learn_in_order(ALGORITHM, held, second, PLAN, through=3 * SECOND)
    assert [found.behind for _, found in folds if found is not None] == [{0: 700}, {0: 400}]
    assert set(last.pending) == {4 * SECOND}
    assert set(last.pending[4 * SECOND].parts) == {last.version} == {2}
    assert last.progress.rows == 600 + 700 + 400
    assert learners.scanned(last).rows == 2_000


@pytest.mark.parametrize("later", [1, 3])
def test_a_window_far_ahead_waits_in_the_same_parts(later: int) -> None:
    """Versions count rounds, not windows: a window that stays open while many are folded is not stale."""
    given = windows(*[100] * 70)
    far = 1_000 * SECOND
    held = list(learn_in_order(ALGORITHM, start(), {far: [(window(999, 50, 90_000), 0)]}, PLAN, through=0))[-1][0]
    assert set(held.pending[far].parts) == {COLD}
    share = 70 // later
    for i in range(later):
        some = dict(list(given.items())[i * share : (i + 1) * share])
        held = list(learn_in_order(ALGORITHM, held, some, PLAN, through=100 * SECOND))[-1][0]
    assert held.version == later
    closed, _ = next(learn_in_order(ALGORITHM, held, {}, PLAN))
    assert closed.progress.rejected == {}
    assert closed.progress.rows == later * share * 100 + 50


def test_a_fold_that_fails_leaves_the_state_before_the_window() -> None:
    calls = []

    def fold(spec: Any, state: Any, partial: Any, *samples: Any) -> Any:
        calls.append(float(state.mass.sum()))
        if len(calls) > 2:
            message = "no"
            raise FloatingPointError(message)
        return ALGORITHM.fold(spec, state, partial, *samples)

    broken = dataclasses.replace(ALGORITHM, fold=fold)
    given = {SECOND: [(window(0, 900, 0), 0)], 2 * SECOND: [(window(1, 4_000, 900), 0)]}
    (first, _), (second, one), _ = learn_in_order(broken, start(), given, PLAN)
    assert one is not None
    assert one.discarded == "no"
    assert same(second.state, first.state)
    assert second.progress.rejected == {"fold discarded": 4_000}
    assert second.progress.scanned == 4_900


def test_states_that_add_are_the_same_however_they_are_learned() -> None:
    spec = linear.Newton(n_features=3, loss="squared")
    given = windows(2_000, 1_500)
    plan = Plan({"plain": linear.Regressor()})
    ordered = list(learn_in_order(linear.NEWTON, learners.new(linear.NEWTON, spec), given, plan))[-1][0]
    accumulator = Accumulator(linear.NEWTON, spec)
    for rows in given.values():
        accumulator.add(rows[0][0])
    whole, _ = refresh(linear.NEWTON, learners.new(linear.NEWTON, spec), 2 * SECOND, accumulator.result(), plan)
    assert close(ordered.state, whole.state, rtol=1e-9)


def test_late_rows_are_counted_in_the_pieces() -> None:
    rows = window(0, 3_000, 0)
    given = {SECOND: [(rows.take(slice(0, 1_500)), 1_500), (rows.take(slice(1_500, 3_000)), 0)]}
    learner = list(learn_in_order(ALGORITHM, start(), given, PLAN))[-1][0]
    assert (learner.progress.rows, learner.progress.late) == (3_000, 1_500)


def test_factorization_machines_too() -> None:
    spec = fm.Spec(n_features=3, n_factors=2)
    given = windows(900, 800)
    learner = list(learn_in_order(fm.FM, learners.new(fm.FM, spec), given, Plan({"plain": fm.Classifier()})))[-1][0]
    assert learner.progress.rows == 1_700
    assert int(learner.state.folds) == 2


@pytest.mark.parametrize("named", [0, 1])
def test_the_names_of_the_features_are_those_of_every_piece(named: int) -> None:
    first, last = window(0, FIRST_PIECE_ROWS, 0), window(0, FIRST_PIECE_ROWS, FIRST_PIECE_ROWS)
    batches = [(one.replace(names=NAMES if i == named else None), 0) for i, one in enumerate((first, last))]
    *_, (learner, _) = learn_in_order(ALGORITHM, start(), {SECOND: batches}, PLAN)
    assert learner.names == NAMES


def test_pieces_whose_features_have_other_names_are_refused() -> None:
    first, last = window(0, FIRST_PIECE_ROWS, 0), window(0, FIRST_PIECE_ROWS, FIRST_PIECE_ROWS)
    batches = [(first.replace(names=NAMES), 0), (last.replace(names=NAMES[::-1]), 0)]
    with pytest.raises(MergeRefused, match="features are the same in order"):
        list(learn_in_order(ALGORITHM, start(), {SECOND: batches}, PLAN))
