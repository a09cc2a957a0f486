"""How far a fold goes: a length for each group, found on the sample."""

import numpy as np
import pytest

from beam_ml.algorithms.fm.search import choose

ENOUGH = 256


def toward(*wanted):
    """A loss that is least at a length for each group; negative: along the mean."""

    def loss(step):
        signed = np.where(step.mean, -step.length, step.length)
        return float(np.abs(signed - wanted).sum())

    return loss


def signed(step):
    return np.where(step.mean, -step.length, step.length).tolist()


def test_each_group_gets_its_own_length():
    assert signed(choose(toward(-1.0, 0.25, 1.0, 0.5, -1.0), 8, ENOUGH)) == [-1.0, 0.25, 1.0, 0.5, -1.0]
    assert signed(choose(toward(0.0625, 1.0, 0.5, 0.0625, 0.125), 8, ENOUGH)) == [0.0625, 1.0, 0.5, 0.0625, 0.125]


def test_only_linear_weights_of_rare_features_may_go_further_than_their_sum():
    assert signed(choose(toward(2.0, 2.0, 2.0, 2.0, 2.0), 8, ENOUGH)) == [1.0, 1.0, 1.0, 2.0, 1.0]
    assert signed(choose(toward(2.0, 2.0, 2.0, 2.0, 2.0), 8, ENOUGH, beyond=False)) == [1.0] * 5


def test_one_run_counts_in_full_unless_its_anchor_is_stale():
    assert signed(choose(toward(0.25, 0.25, 0.25, 0.25, 0.25), 1, ENOUGH)) == [1.0] * 5
    assert signed(choose(toward(0.25, 0.0, 1.0, 0.0, 0.5), 1, ENOUGH, stale=True)) == [0.25, 0.0, 1.0, 0.0, 0.5]
    assert signed(choose(toward(0.25, 0.25, 0.25, 0.25, 0.25), 1, ENOUGH - 1, stale=True)) == [1.0] * 5


def test_few_sampled_rows_mean_the_mean():
    assert signed(choose(toward(1.0, 1.0, 1.0, 1.0, 1.0), 8, ENOUGH - 1)) == [-1.0] * 5


@pytest.mark.parametrize(("rule", "taken"), [("mean", -1.0), ("sum", 1.0), ("curvature", 1.0)])
def test_the_other_rules_try_nothing(rule, taken):
    assert signed(choose(lambda step: 1 / 0, 8, ENOUGH, rule)) == [taken] * 5


def test_what_is_not_finite_is_worse_than_anything():
    def loss(step):
        return np.nan if step.length[2] > 0.5 and not step.mean[2] else float(9.0 - step.length.sum() + step.mean.sum())

    assert signed(choose(loss, 8, ENOUGH)) == [1.0, 1.0, 0.5, 2.0, 1.0]
    assert signed(choose(lambda step: np.inf, 8, ENOUGH)) == [-1.0] * 5


def test_no_step_is_tried_twice():
    tried = []

    def loss(step):
        tried.append(tuple(signed(step)))
        return toward(-1.0, 0.25, 1.0, 0.5, -1.0)(step)

    choose(loss, 8, ENOUGH, stale=True)
    assert len(set(tried)) == len(tried) > 7
