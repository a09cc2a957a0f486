"""A world that changes: never worse than the constant rate for more than one window, and nothing lost while it stands still."""

import numpy as np
import pytest

from beam_ml import Batch, derive, fit, fm, predict
from tests.algorithms.fm.support import FM, grown

WINDOW, WINDOWS, CHANGE = 1_200, 16, 7


def rows(kind, rng, number):
    x = rng.normal(size=(WINDOW, 3))
    after = number >= CHANGE
    slope, level, shift = 1.8, 0.0, 0.0
    if kind.startswith("moves by"):
        shift = float(kind.split()[-1]) * after
    elif kind.startswith("rate"):
        before, then = (float(one) for one in kind.split()[1:])
        level = then if after else before
    elif kind == "turns":
        slope *= -1 if after else 1
    elif kind == "turns slowly":
        slope *= np.cos(np.pi * min(max((number - CHANGE) / 7, 0.0), 1.0))
    chance = 1 / (1 + np.exp(-(slope * x[:, 0] - x[:, 1] + 0.5 * x[:, 1] * x[:, 2] + level)))
    x[:, 0] += shift
    time = (number * WINDOW + np.arange(WINDOW)) * 1_000_000
    return Batch.dense(x, label=(rng.random(WINDOW) < chance).astype(float), time=time)


def loss(learner, batch):
    p = np.clip(predict(derive(learner, fm.Classifier()), batch)["score"], 1e-15, 1 - 1e-15)
    return -np.mean(np.log(np.where(batch.label > 0, p, 1 - p)))


def prior(batch):
    rate = np.clip(batch.label.mean(), 1e-6, 1 - 1e-6)
    return -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))


def followed(kind, half_life):
    rng, learner, found = np.random.default_rng(70), None, []
    spec = fm.Spec(n_features=3, n_factors=4, half_life=half_life)
    for number in range(WINDOWS):
        batch = rows(kind, rng, number)
        if learner is not None:
            found.append((loss(learner, batch), prior(batch)))
        learner = fit(spec, [batch], learner=learner)
    return np.array(found)


@pytest.mark.parametrize("half_life", [None, 2.5 * WINDOW])
@pytest.mark.parametrize("kind", ["moves by 4", "moves by -20", "rate -4 1.5", "rate 0.5 -5", "turns", "turns slowly"])
def test_it_is_worse_than_the_constant_rate_for_one_window_at_most(kind, half_life):
    found = followed(kind, half_life)
    worse = found[CHANGE - 1 :, 0] > 1.02 * found[CHANGE - 1 :, 1] + 0.02
    assert worse.sum() <= 1
    if kind != "moves by -20":
        assert found[-1, 0] < found[-1, 1]


def test_where_nothing_changes_nothing_is_corrected():
    found = followed("stands still", None)
    assert found[-1, 0] < 0.47
    rng = np.random.default_rng(71)
    spec, changed = fm.Spec(n_features=3, n_factors=4), 0
    state = FM.init(spec)
    for number in range(12):
        batch = rows("stands still", rng, number)
        partial = grown(spec, batch, FM.anchor(spec, state))
        plain, judged = FM.fold(spec, state, partial, None), FM.fold(spec, state, partial, batch)
        changed += number > 2 and not np.array_equal(plain.theta, judged.theta)
        state = judged
    assert changed <= 2


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_jump_of_the_level_is_followed_within_a_window(task):
    rng = np.random.default_rng(72)
    learner, spec = None, fm.Spec(n_features=3, n_factors=4, task=task)
    for number in range(10):
        x = rng.normal(size=(900, 3))
        told = x[:, 0] - x[:, 1] + (0.0 if number < 8 else -4.0)
        label = (rng.random(900) < 1 / (1 + np.exp(-told))) if task == "binary" else told + 0.3 * rng.normal(size=900)
        learner = fit(spec, [Batch.dense(x, label=label.astype(float))], learner=learner)
        kind = fm.Classifier() if task == "binary" else fm.Regressor()
        score = predict(derive(learner, kind), Batch.dense(x))["score"]
    assert score.mean() == pytest.approx(label.mean(), abs=0.02 if task == "binary" else 0.2)
