"""`linear.AdaGrad`: means of parameters over folds, and runs that grow in place."""

import dataclasses
import tracemalloc
from functools import reduce
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from beam_ml import Batch, linear
from beam_ml.algorithms.linear.adagrad import fold
from beam_ml.algorithms.linear.adagrad import window as adagrad_window
from beam_ml.algorithms.linear.adagrad.shape import lift, shape_of_tables, taken
from beam_ml.algorithms.shared.moves import Step, choose_step
from beam_ml.core.arrays import nbytes
from beam_ml.testing.strategies import World
from tests.algorithms.linear.adagrad.support import (
    ALGORITHM,
    PLAIN,
    SPECS,
    binary,
    grown,
    learned,
    measured,
    model_of,
    sparse_of,
)


def at_zero(spec: linear.AdaGrad, state: Any, theta: np.ndarray) -> np.ndarray:
    """Return parameters (p, v, o) of a state whose bias is where features are 0, not at their centres."""
    numbers = np.arange(spec.n_features + 1)
    centre = shape_of_tables(spec, state.moments, numbers, ALGORITHM.weight(state)).centre
    out = theta.copy()
    out[-1] -= np.tensordot(centre, theta[:-1], axes=1)
    return out


class TestAveraging:
    def test_the_mean_weighs_folds_by_the_rows_seen(self) -> None:
        spec = linear.AdaGrad(n_features=4, sparse=True, learning_rates=(0.5, 1.0), l1=0.0, l2=0.0, halve_at=())
        rows, thetas = binary(2_000), []
        for end in (500, 1_000, 1_500, 2_000):
            state = learned(spec, rows, list(range(0, end + 1, 500)))
            thetas.append(at_zero(spec, state, state.theta))
        expected = np.tensordot(np.array([1, 2, 3, 4]) / 10, np.stack(thetas), axes=1)
        np.testing.assert_allclose(at_zero(spec, state, state.average), expected, rtol=1e-12)

    def test_the_mean_of_centred_parameters_scores_as_the_mean_of_their_scores(self) -> None:
        spec = linear.AdaGrad(n_features=4, **PLAIN)
        rows = binary(1_500, offset=50.0)
        scores = []
        for end in (500, 1_000, 1_500):
            state = learned(spec, rows, list(range(0, end + 1, 500)))
            scores.append((rows.dense_x - state.moments[:-1, 1]) @ state.theta[:-1, 0, 0] + state.theta[-1, 0, 0])
        mean = (rows.dense_x - state.moments[:-1, 1]) @ state.average[:-1, 0, 0] + state.average[-1, 0, 0]
        np.testing.assert_allclose(mean, np.array([1, 2, 3]) / 6 @ np.stack(scores), rtol=1e-9, atol=1e-9)

    def test_noisy_steps_are_averaged_out(self) -> None:
        rows, held_out = binary(8_000, d=20), binary(20_000, d=20, seed=5)
        losses = []
        for averaging in (True, False):
            spec = linear.AdaGrad(n_features=20, learning_rates=1.0, l1=0.0, l2=0.0, averaging=averaging)
            state = learned(spec, rows, list(range(0, 8_001, 500)))
            assert linear.variants(spec, state)[0]["averaged"] is averaging
            losses.append(measured(model_of(spec, state), held_out)["log_loss"])
        assert losses[0] < 0.99 * losses[1]

    def test_without_it_nothing_is_kept_and_learning_is_the_same(self) -> None:
        specs = [linear.AdaGrad(n_features=4, averaging=a, learning_rates=0.3, l1=1e-3, l2=0.0) for a in (True, False)]
        with_mean, without = (learned(spec, binary(2_000), [0, 500, 2_000], 4) for spec in specs)
        np.testing.assert_array_equal(with_mean.theta, without.theta)
        assert without.average.size == 0
        assert not without.average_loss.any()

    def test_where_the_world_moves_the_last_parameters_are_taken(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(40_000, 2))
        turn = np.linspace(0.0, np.pi, 40_000)
        y = rng.random(40_000) < expit(4.0 * (x[:, 0] * np.cos(turn) + x[:, 1] * np.sin(turn)))
        spec = linear.AdaGrad(n_features=2, learning_rates=1.0, l1=0.0, l2=0.0)
        state = learned(spec, Batch.dense(x, label=y), list(range(0, 40_001, 2_000)))
        assert linear.variants(spec, state)[0]["averaged"] is False

    def test_zeros_of_l1_stay_zeros_in_the_mean(self) -> None:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(8_000, 20))
        y = rng.random(8_000) < expit(2.0 * x[:, 0] - x[:, 1])
        spec = linear.AdaGrad(n_features=20, learning_rates=3.0, l1=0.01, l2=0.0)
        state = learned(spec, Batch.dense(x, label=y), list(range(0, 8_001, 500)), 4)
        assert linear.variants(spec, state)[0]["averaged"] is True
        zero = state.theta[:-1, 0, 0] == 0.0
        assert zero.sum() >= 10
        assert np.any(state.average[:-1, 0, 0][zero] != 0.0)
        model = model_of(spec, state)
        np.testing.assert_array_equal(model.coefficients[:, 0] == 0.0, zero)
        window = binary(200, d=20, seed=7)  # its loss, before it is learned from, is that of this model
        partial = grown(spec, window, ALGORITHM.anchor(spec, state))
        after = ALGORITHM.fold(spec, state, partial, window)
        found = (after.average_loss[0] - state.average_loss[0]) / len(window)
        assert found == pytest.approx(measured(model, window)["log_loss"], rel=1e-9)
        assert after.average_loss[0] != after.loss[0]

    def test_rows_that_fade_weigh_less_in_the_mean(self) -> None:
        spec = linear.AdaGrad(n_features=4, sparse=True, **PLAIN)
        old = learned(spec, binary(2_000), [0, 500, 1_000])
        aged = ALGORITHM.scale(spec, old, 0.25)
        assert aged.average_loss[0] / aged.loss_weight == pytest.approx(
            old.average_loss[0] / old.loss_weight, rel=1e-12
        )
        new = learned(spec, binary(2_000), [1_000, 1_500], state=aged)
        share = 2 * 500 / (0.25 * 1_000 + 2 * 500)
        expected = (1.0 - share) * at_zero(spec, old, old.average) + share * at_zero(spec, new, new.theta)
        np.testing.assert_allclose(at_zero(spec, new, new.average), expected, rtol=1e-12)

    def test_a_variant_is_as_good_as_the_better_of_its_two(self) -> None:
        spec = linear.AdaGrad(n_features=4, sparse=True, learning_rates=(0.1, 0.2), l1=0.0, l2=0.0, halve_at=(750,))
        rows = binary(1_000)
        state = dataclasses.replace(
            learned(spec, rows, [0, 500]),
            loss=np.array([2e3, 5e3]), average_loss=np.array([3e3, 1e3]), loss_weight=np.asarray(1e4),
            run_loss=np.zeros(2), run_weight=np.zeros(()),
        )  # fmt: skip
        report = linear.variants(spec, state)
        assert [(entry["loss"], entry["averaged"]) for entry in report] == [(0.2, False), (0.1, True)]
        assert int(model_of(spec, state).variant) == 1
        after = learned(spec, rows, [500, 1_000], state=state)
        assert after.status.tolist() == [1, 0]
        assert [entry.get("loss", 1.0) < 1.0 for entry in linear.variants(spec, after)] == [False, True]
        later = learned(spec, rows, [0, 500], state=after)
        same = later.average[:-1] == after.average[:-1]
        np.testing.assert_array_equal(same.all(axis=(0, 2)), [True, False])
        biases = [at_zero(spec, one, one.average)[-1, 0, 0] for one in (later, after)]
        assert biases[0] == pytest.approx(biases[1], rel=1e-12)  # it follows the means

    @pytest.mark.parametrize("l2", [0.0, 1e-2])
    def test_a_feature_that_a_window_lacks_shrinks_and_is_averaged_all_the_same(self, l2: float) -> None:
        spec = linear.AdaGrad(n_features=4, sparse=True, learning_rates=0.1, l1=0.0, l2=l2)
        rows = binary(1_920)
        x = rows.dense_x.copy()
        x[960:, 0] = 0.0
        rows = rows.replace(X=x)
        at_once, first = (learned(spec, rows, bounds) for bounds in ([0, 1_920], [0, 960]))
        second = learned(spec, rows, [960, 1_920], state=first)
        np.testing.assert_allclose(second.theta, at_once.theta, rtol=1e-7)
        assert bool(abs(second.theta[0, 0, 0]) < 0.99 * abs(first.theta[0, 0, 0])) is (l2 > 0.0)
        expected = (at_zero(spec, first, first.theta) + 2.0 * at_zero(spec, second, second.theta)) / 3.0
        np.testing.assert_allclose(at_zero(spec, second, second.average), expected, rtol=1e-12)

    def test_means_of_two_learners_add_as_their_parameters_do(self) -> None:
        spec = linear.AdaGrad(n_features=4, sparse=True, **PLAIN)
        rows = binary(2_000)
        halves = [rows.replace(X=rows.dense_x * np.isin(np.arange(4), mine)) for mine in ((0, 1), (2, 3))]
        a, b = (learned(spec, half, [0, 500, 1_000, 2_000]) for half in halves)
        both = ALGORITHM.merge_states(spec, a, b)
        assert (a.rows.tolist(), b.rows.tolist()) == ([0, 1, 4], [2, 3, 4])
        np.testing.assert_array_equal(both.average[:4], np.concatenate([a.average[:2], b.average[:2]]))
        least, most = sorted([float(a.average[-1, 0, 0]), float(b.average[-1, 0, 0])])
        assert least <= both.average[-1, 0, 0] <= most
        assert both.average_loss[0] == a.average_loss[0] + b.average_loss[0] > 0.0
        dense = linear.AdaGrad(n_features=4, **PLAIN)  # whose biases are at means, which differ
        a, b = (learned(dense, binary(1_000, offset=offset), [0, 1_000]) for offset in (0.0, 5.0))
        both = ALGORITHM.merge_states(dense, *(dataclasses.replace(one, average=one.theta) for one in (a, b)))
        np.testing.assert_array_equal(both.average, both.theta)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("l1", [0.0, 0.01])
@pytest.mark.parametrize("shards", [1, 3])
def test_whole_tables_take_the_step_that_single_rows_are_judged_by(
    shards: int, l1: float, sparse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled pass over all tables beside the module's equations; sparse rows see new features in every window."""
    checked = []

    class Checked(fold._Tables):
        def __init__(self, window: Any, step: Step, tested: Any, more: Any, gained: float) -> None:
            super().__init__(window, step, tested, more, gained)
            assert more is None
            columns, everything = window.columns, np.arange(window.old.size)
            own = Step(step.length * 0.5, step.mean, step.length, step.mean) if checked else step
            super().__init__(window, own, tested, more, gained)
            u, theta, squares, counted = window.line(everything).stepped(own)
            found = columns.rows(self.theta, everything)
            np.testing.assert_allclose(found, theta, rtol=1e-9, atol=1e-12)
            gained = columns.rows(window.moves.squares, window.moved)
            expected = columns.rows(window.state.squares, window.old) + gained
            np.testing.assert_array_equal(columns.rows(self.squares, everything), expected)
            if columns.penalised:
                slack = columns.rows(self.slack, everything) if self.slack.size else None
                lifted = lift(found, slack, squares, columns, window.shape, counted)
                np.testing.assert_allclose(lifted, u, rtol=1e-9, atol=1e-12)
            lost = np.setdiff1d(np.arange(columns.shape[0]), columns.live)
            for name in ("theta", "squares", "average", "slack"):
                mine, former = getattr(self, name), getattr(window.state, name)
                there = window.old >= 0
                kept = 1.0 if name in ("squares", "slack") else window.kept[there, None, None]
                if mine.size and former.size:
                    expected = former[window.old[there]] * kept
                    np.testing.assert_array_equal(mine[there][:, lost], expected[:, lost])
            checked.append(lost.size)

    monkeypatch.setattr(fold, "_Tables", Checked)
    spec = linear.AdaGrad(
        n_features=20, learning_rates=(0.1, 0.5), l1=l1, l2=(0.0, 0.1), halve_at=(1_200,), sparse=sparse
    )
    rows = binary(3_000, d=20)
    state = ALGORITHM.init(spec)
    for begin in range(0, 3_000, 1_000):
        some = rows.take(slice(begin, begin + 1_000))
        window = some.replace(X=some.dense_x * (np.arange(20) >= 12 - begin // 250))
        anchor = ALGORITHM.anchor(spec, state)
        parts = [
            grown(spec, sparse_of(window.take(one)) if sparse else window.take(one), anchor)
            for one in np.array_split(np.arange(1_000), shards)
        ]
        state = ALGORITHM.fold(spec, state, reduce(lambda a, b: ALGORITHM.merge(spec, a, b), parts), None)
    assert checked == [0, 0, 2]
    assert state.theta.shape[0] == (17 if sparse else 21)


@pytest.mark.parametrize("l1", [0.0, 1e-4])
def test_what_the_sample_adds_stands_in_the_tables(l1: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters found on the sample, variants that start again, and the means of both, over sparse rows."""
    found, again = [], []

    class Checked(fold._Tables):
        def __init__(self, window: Any, step: Step, tested: Any, more: Any, gained: float) -> None:
            super().__init__(window, step, tested, more, gained)
            if more is None or tested is None or more.found is None:
                return
            columns, everything = window.columns, np.arange(window.old.size)
            theta = window.line(everything).stepped(step)[1]
            theta[:, more.again] = 0.0
            theta[tested.rows] = more.found.theta
            np.testing.assert_allclose(columns.rows(self.theta, everything), theta, rtol=1e-9, atol=1e-12)
            former = taken(window.state.average, window.old)
            before = columns.rows(former * window.kept[:, None, None], everything)
            share = 2.0 * gained / (float(window.state.total) + 2.0 * gained)
            mean = np.where(more.again, theta, before + share * (theta - before))
            np.testing.assert_allclose(columns.rows(self.average, everything), mean, rtol=1e-9, atol=1e-12)
            if l1 and tested.rows.size:
                slack = columns.rows(self.slack, everything)
                np.testing.assert_array_equal(slack[:-1][theta[:-1] != 0.0], 0.0)
            squares = columns.rows(self.squares, everything)
            others = np.setdiff1d(everything, tested.rows)
            assert not squares[np.ix_(others, np.flatnonzero(more.again))].any()
            found.append(int(tested.rows.size))
            again.append(int(more.again.sum()) * others.size)

    monkeypatch.setattr(fold, "_Tables", Checked)
    spec = linear.AdaGrad(n_features=20, learning_rates=(0.1, 0.5), l1=l1, l2=0.0, halve_at=(), sparse=True)
    rows = binary(6_000, d=20)
    often = (np.arange(20) < 18) | (
        np.arange(6_000)[:, None] % 2 == 0
    )  # what is in every row is centred, and in every sample
    rows = rows.replace(X=rows.dense_x * often)
    state = ALGORITHM.init(spec)
    for begin in range(0, 6_000, 1_000):
        if begin == 4_000:  # worse than a constant, and its steps too short to come back
            state = dataclasses.replace(state, theta=-20.0 * state.theta, squares=1e6 * state.squares)
        some = sparse_of(rows.take(slice(begin, begin + 1_000)))
        anchor = ALGORITHM.anchor(spec, state)
        parts = [grown(spec, some.take(one), anchor) for one in np.array_split(np.arange(1_000), 2)]
        drawn = rows.take(slice(begin, begin + 400))
        drawn = drawn.replace(X=drawn.dense_x * (np.arange(20) < 18))  # two features are in no row of it
        sample = sparse_of(drawn).replace(weight=np.full(400, 2.5))
        state = ALGORITHM.fold(spec, state, ALGORITHM.merge(spec, *parts), sample)
    assert len(found) >= 3
    assert any(0 < one for one in again)


def test_lengths_are_judged_alike_with_scores_that_are_linear_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without penalties from two tables of scores, with one of next to nothing from parameters at every length."""
    tried: list[list[np.ndarray]] = []

    def choose(loss: Any, variants: int, *rest: Any) -> Step:
        own, none = np.array([0.5, 4.0]), np.zeros(2, dtype=bool)
        steps = [Step(own, none), Step(own, ~none), Step(own, none, own[::-1], ~none), Step(own, ~none, own, none)]
        tried.append([loss(step) for step in steps])
        return choose_step(loss, variants, *rest)

    monkeypatch.setattr(adagrad_window.anchored, "choose_step", choose)
    for penalty in (0.0, 1e-13):
        spec = linear.AdaGrad(n_features=20, learning_rates=(0.1, 0.5), l1=0.0, l2=penalty)
        learned(spec, binary(2_000, d=20), [0, 1_000, 2_000], shards=3)
    assert len(tried) == 4
    np.testing.assert_allclose(tried[:2], tried[2:], rtol=1e-9)


class TestGrowing:
    """In memory of its own, batch after batch, a run is what `accumulate` makes of the same batches."""

    @pytest.mark.parametrize("cold", [True, False])
    @pytest.mark.parametrize("spec", SPECS, ids=["packed", "regression", "multiclass", "sparse"])
    def test_growing_in_place_is_accumulating(self, spec: linear.AdaGrad, cold: bool) -> None:
        rows = World(seed=2, sparse=spec.sparse).batch(spec, 900)
        anchor = None if cold else ALGORITHM.anchor(spec, learned(spec, rows, [0, 300]))
        parts = [rows.take(slice(i, i + 100)) for i in range(300, 900, 100)]
        pure = ALGORITHM.merge(spec, *(grown(spec, part, anchor) for part in parts[:2]))
        run = ALGORITHM.grow(spec, pure, anchor)
        assert run.partial() is pure
        seen, factors = [], (1.0, 0.25, 1e-9)
        for i, part in enumerate(parts[2:]):
            pure = ALGORITHM.accumulate(spec, pure, part, anchor)
            run.add(part)
            if 0 < i < 3:
                pure = ALGORITHM.scale(spec, pure, factors[i])
                run.scale(factors[i])
            seen.append((pure, run.partial()))
            assert run.nbytes == nbytes(pure)
        for expected, found in seen:  # those given on the way have stayed as they were
            for field in dataclasses.fields(expected):
                a, b = getattr(expected, field.name), getattr(found, field.name)
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300, err_msg=field.name)

    def test_a_table_grows_with_the_columns_that_come(self) -> None:
        d, rng = 20_000, np.random.default_rng(0)
        spec = linear.AdaGrad(n_features=d, sparse=True, learning_rates=0.1, l1=0.0, l2=1e-3)
        parts = []
        for _ in range(6):
            columns = np.sort(rng.choice(d, (100, 12)), axis=1)
            parts.append(
                Batch.csr(np.arange(101) * 12, columns.ravel(), rng.random(1_200), d, label=rng.integers(0, 2, 100))
            )
        pure = ALGORITHM.merge(spec, *(grown(spec, part) for part in parts[:2]))
        run = ALGORITHM.grow(spec, pure, None)
        for part in parts[2:]:
            pure = ALGORITHM.accumulate(spec, pure, part, None)
            run.add(part)
            assert run.nbytes == nbytes(pure)
        assert 1_024 < pure.open_rows.size < pure.moment_rows.size
        for field in dataclasses.fields(pure):
            a, b = getattr(pure, field.name), getattr(run.partial(), field.name)
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-300, err_msg=field.name)

    def test_the_rows_of_a_wide_table_rise_whichever_came_first(self) -> None:
        d = 1_000_000
        spec = linear.AdaGrad(n_features=d, sparse=True, learning_rates=0.1, l1=0.0, l2=0.0)
        run = ALGORITHM.grow(spec, ALGORITHM.empty(spec), None)
        for column in (700_000, 3):
            run.add(Batch.csr([0, 1], [column], [1.0], d, label=[1]))
        found = run.partial()
        assert found.open_rows.tolist() == [3, 700_000, d]
        assert found.moment_rows.tolist() == [3, 700_000]
        whole = Batch.csr([0, 1, 2], [700_000, 3], [1.0, 1.0], d, label=[1, 1])
        assert found.open_squares[:2].all()
        np.testing.assert_allclose(found.moments, grown(spec, whole).moments)

    def test_rows_that_no_longer_count_are_forgotten(self) -> None:
        spec = linear.AdaGrad(n_features=4, half_life="1d", **PLAIN)
        run = ALGORITHM.grow(spec, ALGORITHM.empty(spec), None)
        run.add(binary(100))
        run.scale(0.5)
        run.scale(0.0)
        fresh = grown(spec, binary(100, seed=1))
        run.add(binary(100, seed=1))
        np.testing.assert_array_equal(run.partial().open_moved, fresh.open_moved)
        np.testing.assert_array_equal(run.partial().moments, fresh.moments)
        assert int(run.partial().runs) == 1

    def test_a_batch_costs_its_own_columns(self) -> None:
        """Of a table of 200,000 columns, of which nearly all are touched already, a batch of one row touches two."""
        d = 200_000
        spec = linear.AdaGrad(n_features=d, sparse=True, learning_rates=(0.1, 0.2), l1=(0.0, 1e-5), l2=0.0)
        run = ALGORITHM.grow(spec, ALGORITHM.empty(spec), None)
        run.add(Batch.csr([0, d], np.arange(d), np.ones(d), d, label=[1]))
        one = Batch.csr([0, 2], [5, 7], [1.0, 1.0], d, label=[0])
        run.add(one)
        tracemalloc.start()
        run.add(one)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < d
        assert run.partial().open_rows.size == d + 1
