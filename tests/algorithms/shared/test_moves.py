"""How far a fold of linear models goes: a length for each variant's coefficients, and one for its bias."""

import numpy as np
import pytest

from beam_ml import linear
from beam_ml.algorithms.shared import moves
from beam_ml.algorithms.shared.moves import MIN_SAMPLE_ROWS, Moves, Step, choose_step, directions
from tests.algorithms.linear.adagrad.support import binary, sparse_of

ENOUGH = MIN_SAMPLE_ROWS


def signed(length, mean):
    return np.where(mean, -length, length)


def toward(features, bias):
    """A loss (v,) that is least at these lengths; negative: along the mean."""

    def loss(step):
        mine = signed(step.length, step.mean)
        its = mine if step.bias is None else signed(step.bias, step.bias_mean)
        return np.abs(mine - features) + np.abs(its - bias)

    return loss


@pytest.mark.parametrize("stale", [False, True])
def test_each_variant_gets_a_length_and_its_bias_another(stale):
    step = choose_step(toward(np.array([1.0, 0.25]), np.array([0.0625, -1.0])), 2, 8, ENOUGH, stale=stale)
    assert signed(step.length, step.mean).tolist() == [1.0, 0.25]
    assert signed(step.bias, step.bias_mean).tolist() == [0.0625, -1.0]
    assert step.share(8).tolist() == [1.0, 0.25]


def test_stale_runs_may_not_count_at_all():
    step = choose_step(toward(np.array([0.0]), np.array([0.0])), 1, 8, ENOUGH, stale=True)
    assert (step.length.tolist(), step.bias.tolist()) == ([0.0], [0.0])


def test_one_run_counts_in_full_and_few_rows_mean_the_mean():
    wanted = toward(np.array([0.25]), np.array([0.25]))
    whole, few = choose_step(wanted, 1, 1, ENOUGH), choose_step(wanted, 1, 8, ENOUGH - 1)
    assert (whole.length.tolist(), whole.mean.tolist(), whole.bias) == ([1.0], [False], None)
    assert (few.length.tolist(), few.mean.tolist(), few.bias) == ([1.0], [True], None)


def test_where_no_loss_is_finite_the_mean_is_taken():
    step = choose_step(lambda step: np.full(1, np.nan), 1, 8, ENOUGH)
    assert (step.length.tolist(), step.mean.tolist()) == ([1.0], [True])
    assert (step.bias.tolist(), step.bias_mean.tolist()) == ([1.0], [True])


def test_the_fold_moves_the_bias_by_its_own_length(monkeypatch):
    rows = sparse_of(binary(2_000))
    spec = linear.AdaGrad(n_features=4, sparse=True, learning_rates=0.1, l1=0.0, l2=0.0)
    algorithm = linear.ADAGRAD
    start = algorithm.init(spec)
    runs = [algorithm.accumulate(spec, algorithm.empty(spec), rows.take(slice(i, i + 500)), None) for i in (0, 500)]
    merged, sample = algorithm.merge(spec, *runs), rows.take(slice(200))  # too few to learn from once more

    def folded(bias):
        step = Step(np.ones(1), np.zeros(1, dtype=bool), np.full(1, bias), np.zeros(1, dtype=bool))
        monkeypatch.setattr(moves, "choose_step", lambda *given: step)
        return algorithm.fold(spec, start, merged, sample).theta[:, 0, 0]

    still, half, whole = map(folded, (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(still[:-1], whole[:-1])
    assert still[-1] == 0.0 != whole[-1]
    assert half[-1] == pytest.approx(0.5 * whole[-1], rel=1e-12)


def test_lengths_tried_go_with_the_number_of_runs() -> None:
    """What two runs agree on is at most their plain sum, and at least its half: no more lengths cost a look."""
    tried: list[float] = []

    def loss(step: Step) -> np.ndarray:
        tried.append(float(step.length[0]))
        return np.zeros(1)

    found = {}
    for runs in (2, 4, 64):
        tried.clear()
        choose_step(loss, 1, runs, ENOUGH, longer=(2.0, 4.0, 8.0))
        found[runs] = sorted(set(tried))
    assert found[2] == [0.25, 0.5, 1.0, 2.0]
    assert found[4] == [0.125, 0.25, 0.5, 1.0, 2.0, 4.0]
    assert found[64] == [0.0625, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


def test_directions_are_those_of_the_definition():
    moved, scaled = np.array([[2.0, -4.0], [6.0, 1.0]]), np.array([[3.0, 5.0], [-9.0, 1.0]])
    squares = np.array([[8.0, 2.0], [0.0, 1.0]])
    moves = Moves(np.array([1, 3]), scaled, moved, squares)
    rows, before = np.array([3, 0, 1]), np.full((3, 2), 5.0)
    at = np.array([1, -1, 0])
    of = [np.where((at >= 0)[:, None], table[at], 0.0) for table in (moved, scaled, squares)]
    by_curvature = of[1] / np.sqrt(before + of[2] / 2)
    for runs, stale, rule, total in (
        (4, False, "search", by_curvature),
        (1, True, "search", by_curvature),
        (1, False, "search", of[0]),
        (4, False, "sum", of[0]),
        (4, True, "sum", of[0]),
    ):
        found, mean = directions(moves, rows, before, runs, rule, stale)
        np.testing.assert_allclose(found, total, rtol=1e-15)
        np.testing.assert_array_equal(mean, of[0] / runs)
    without, _ = directions(moves, rows, np.zeros((3, 2)), 4)
    assert without[0].tolist() == [0.0, 1.0 / np.sqrt(0.5)]  # no gradient has come, no step is taken


def test_a_step_along_the_mean_stands_for_a_share_of_the_rows():
    step = Step(np.array([0.5, 1.0]), np.array([False, True]))
    assert step.share(4).tolist() == [0.5, 0.25]
    assert step.share(0).tolist() == [0.5, 1.0]


def test_a_length_whose_loss_is_no_number_is_never_taken():
    def loss(step):
        return np.where(step.length == 1.0, np.nan, step.length)

    step = choose_step(loss, 2, 2, 1000)
    assert not step.mean.any()
    assert step.length.tolist() == [0.25, 0.25]
