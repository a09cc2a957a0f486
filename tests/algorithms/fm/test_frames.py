"""Numbers far from 0, columns that stand still, outliers, rows of many features, and half-lives of few rows."""

import numpy as np
import pytest

from beam_ml import Batch, derive, fit, fm, predict
from beam_ml.algorithms.fm.frames import added, frames, held_by, settled, spread_of, tamed
from beam_ml.algorithms.fm.rows import tempered

SECOND = 1_000_000


def log_loss(label, score):
    p = np.clip(score, 1e-15, 1 - 1e-15)
    return -np.mean(np.log(np.where(label > 0, p, 1 - p)))


def in_full(x, label, **more):
    """CSR rows that store every value, zeros too."""
    n, d = x.shape
    return Batch.csr(np.arange(n + 1) * d, np.tile(np.arange(d), n), x.ravel(), d, label=label, **more)


def rows_of(rng, n):
    x = rng.normal(size=(n, 3))
    return x, (rng.random(n) < 1 / (1 + np.exp(-(1.2 * x[:, 0] + x[:, 1] * x[:, 2])))).astype(float)


def loss_after(spec, batches, test):
    return log_loss(test.label, predict(derive(fit(spec, batches), fm.Classifier()), test)["score"])


@pytest.mark.parametrize("form", [Batch.dense, in_full], ids=["dense", "csr"])
@pytest.mark.parametrize("level", [30.0, -2e3, 3e8])
def test_numbers_far_from_zero_are_learned_as_those_around_it(form, level):
    x, y = rows_of(np.random.default_rng(40), 12_000)
    found = []
    for at in (0.0, level):
        moved = x + at * np.array([1.0, -1.0, 1.0])
        parts = [form(moved[i : i + 1_000], label=y[i : i + 1_000]) for i in range(0, 8_000, 1_000)]
        test = form(moved[8_000:], label=y[8_000:])
        found.append(loss_after(fm.Spec(n_features=3, n_factors=4), parts, test))
    assert found[0] < 0.58
    assert found[1] == pytest.approx(found[0], abs=2e-3)


@pytest.mark.parametrize("half_life", [None, "6h"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("constant", [0.0, 0.41, -1e6])
def test_a_column_that_stands_still_and_then_moves_changes_nothing(half_life, weighted, constant):
    rng = np.random.default_rng(41)
    spec = fm.Spec(n_features=2, n_factors=2, half_life=half_life)
    learner, worst = None, 0.0
    for hour in range(120):
        x = np.column_stack([rng.normal(size=80), np.full(80, constant)])
        if hour >= 100:
            x[:, 1] += 0.03 * rng.normal(size=80)
        y = (rng.random(80) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(float)
        weight = rng.uniform(0.1, 7.0, 80) if weighted else None
        batch = in_full(x, y, time=(hour * 3_600 + np.arange(80)) * SECOND, weight=weight)
        if learner is not None and hour >= 90:
            worst = max(worst, log_loss(y, predict(derive(learner, fm.Classifier()), batch)["score"]))
        learner = fit(spec, [batch], learner=learner)
    assert worst < 0.69
    if constant:
        assert learner.state.scale[1] == pytest.approx(0.03, rel=0.7)
        assert learner.state.centre[1] == pytest.approx(constant, abs=0.03)


def test_a_number_that_stands_still_for_a_while_keeps_its_scale():
    rng = np.random.default_rng(42)
    spec = fm.Spec(n_features=2, n_factors=2, half_life="1h")
    learner = None
    for hour in range(60):
        x = rng.normal(size=(100, 2))
        x[:, 1] = 3.0 + (x[:, 1] if hour < 20 else 0.0)
        y = (rng.random(100) < 1 / (1 + np.exp(-x[:, 0]))).astype(float)
        learner = fit(spec, [in_full(x, y, time=(hour * 3_600 + np.arange(100)) * SECOND)], learner=learner)
    assert 0.1 < learner.state.scale[1] < 2.0


@pytest.mark.parametrize("size", [120.0, -1e6])
@pytest.mark.parametrize("at", [0, 33, 640, 2_500])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_an_outlier_is_forgotten_within_a_few_windows(size, at, task):
    rng = np.random.default_rng(43)
    x, y = rows_of(rng, 12_000)
    if task == "regression":
        y = 1.2 * x[:, 0] + x[:, 1] * x[:, 2] + 0.3 * rng.normal(size=12_000)
    spec, kind = fm.Spec(n_features=3, n_factors=4, task=task), fm.Classifier if task == "binary" else fm.Regressor
    found = []
    for spoiled in (False, True):
        seen = x.copy()
        if spoiled:
            seen[at, 0] = size
        parts = [Batch.dense(seen[i : i + 1_000], label=y[i : i + 1_000]) for i in range(0, 6_000, 1_000)]
        score = predict(derive(fit(spec, parts), kind()), Batch.dense(x[6_000:]))["score"]
        found.append(log_loss(y[6_000:], score) if task == "binary" else np.mean((score - y[6_000:]) ** 2))
    assert found[1] < 1.15 * found[0]


@pytest.mark.parametrize("refresh_rows", [250, 2_500])
def test_few_rows_of_unit_length_and_many_words_beat_the_constant_rate(refresh_rows):
    rng = np.random.default_rng(44)
    n, d, words = 2_500, 15_000, 45
    popularity = 1 / np.arange(3, d + 3)
    popularity /= popularity.sum()
    indices = np.sort(rng.choice(d, size=(2 * n, words), p=popularity), axis=1)
    values = rng.uniform(0.5, 1.5, size=indices.shape) * np.log(1 / popularity[indices])
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    score = 11 * (values * (rng.normal(size=d) * (rng.random(d) < 0.25))[indices]).sum(axis=1)
    y = (rng.random(2 * n) < 1 / (1 + np.exp(-(score - np.median(score))))).astype(float)
    rows = Batch.csr(np.arange(2 * n + 1) * words, indices.ravel(), values.ravel(), d, label=y)
    learner = fit(fm.Spec(n_features=d, n_factors=4), [rows.take(slice(n))], refresh_rows=refresh_rows)
    found = log_loss(y[n:], predict(derive(learner, fm.Classifier()), rows.take(slice(n, None)))["score"])
    assert found < 0.97 * log_loss(y[n:], np.full(n, y[:n].mean()))


@pytest.mark.parametrize("half_life", [4.0, 10.0, 100.0, 1_000.0])
@pytest.mark.parametrize("window", [150, 1_500])
def test_short_half_lives_do_not_let_steps_run_off(half_life, window):
    rng = np.random.default_rng(45)
    spec = fm.Spec(n_features=153, n_factors=4, half_life=half_life)
    shops, learner, found = rng.normal(size=150), None, []
    for number in range(16):
        x, shop = rng.normal(size=(window, 3)), rng.integers(0, 150, window)
        y = (rng.random(window) < 1 / (1 + np.exp(-(2 * x[:, 0] - x[:, 1] + shops[shop])))).astype(float)
        columns, values = np.c_[np.tile([0, 1, 2], (window, 1)), 3 + shop], np.c_[x, np.ones(window)]
        time = (number * window + np.arange(window)) * SECOND  # a row per second
        batch = Batch.csr(np.arange(window + 1) * 4, columns.ravel(), values.ravel(), 153, label=y, time=time)
        if number >= 2:
            found.append(log_loss(y, predict(derive(learner, fm.Classifier()), batch)["score"]))
        learner = fit(spec, [batch], learner=learner)
    assert max(found) < 0.69
    assert np.mean(found[-8:]) < 0.53


def test_age_counts_less_where_few_rows_would_be_left():
    spec = fm.Spec(n_features=1, n_factors=2, half_life=10.0)
    weight = np.exp2(-np.arange(3_000)[::-1] / 10) * np.where(np.arange(3_000) % 2, 3.0, 1.0)
    weight[5] = 0.0
    rows = Batch.dense(np.ones((3_000, 1)), label=np.ones(3_000), weight=weight, time=np.arange(3_000) * SECOND)
    found = tempered(spec, rows)
    assert found.size == np.count_nonzero(weight > 0)
    own = np.where(np.arange(3_000) % 2, 3.0, 1.0)[weight > 0]
    assert (found / own).sum() == pytest.approx(256, rel=0.02)
    assert found[-1] == pytest.approx(3.0, rel=1e-12)
    long = spec.model_copy(update={"half_life": 1e6})
    np.testing.assert_array_equal(tempered(long, rows), weight[weight > 0])


def test_frames_of_numbers_indicators_constants_and_rare_features():
    spec = fm.Spec(n_features=5, n_factors=2)
    # a number in 80 of 100 rows, an indicator, a constant, a rare number, nothing
    sums = np.array([[80.0, 5.0, 320.0], [30.0, 1.0, 0.0], [100.0, 0.3, 0.0], [4.0, 3.0, 64.0], [0.0, 0.0, 0.0]])
    none = np.zeros(5)
    centre, scale = frames(spec, sums, 100.0, none, none)
    np.testing.assert_allclose(centre, [4.0, 0.0, 0.3, 0.0, 0.0])
    np.testing.assert_allclose(scale, [np.sqrt(3.2 + 4.0), 1.0, 0.0, 5.0, 0.0])
    stuck = frames(spec, np.array([[100.0, 5.0, 0.0]] * 5), 100.0, centre, scale, scale)
    np.testing.assert_allclose(stuck[1], 0.1 * scale * [1, 0, 1, 0, 0] + [0, 5.0, 0, 5.0, 0.0], atol=1e-12)
    kept = settled((centre, scale), (centre + 0.1 * scale, 1.1 * scale))
    np.testing.assert_array_equal(kept[0][[0, 2]], centre[[0, 2]] + [0.0, 0.0])
    for free in ({"use_bias": False}, {"use_linear": False}):
        assert not frames(spec.model_copy(update=free), sums, 100.0, none, none)[0].any()
    plain = frames(spec.model_copy(update={"normalize": False}), sums, 100.0, none, none)
    assert plain[0].tolist() == [0.0] * 5
    assert plain[1].tolist() == [1.0] * 5


def test_moments_add_and_constants_stay_exact():
    rng = np.random.default_rng(46)
    x, w = 1e6 + rng.normal(size=(2, 50)), rng.uniform(0.1, 2.0, (2, 50))

    def table(values, weight):
        mean = np.average(values, weights=weight)
        return np.array([[weight.sum(), mean, weight @ (values - mean) ** 2]])

    np.testing.assert_allclose(added(table(x[0], w[0]), table(x[1], w[1])), table(x.ravel(), w.ravel()), rtol=1e-9)
    constant = np.array([[3.0, 0.1, 0.0]])
    assert added(constant, constant * [7.0, 1.0, 1.0]).tolist() == [[24.0, 0.1, 0.0]]
    assert added(np.zeros((1, 3)), constant).tolist() == constant.tolist()


def test_rows_of_many_features_are_spread_out():
    spec = fm.Spec(n_features=50, n_factors=2)
    assert spread_of(spec, 50.0) == 2.5
    assert spread_of(spec, 8.0) == spread_of(spec, 1.0) == 1.0
    assert spread_of(spec, 50.0, before=2.0) == 2.0
    assert spread_of(spec, 50.0, before=1.0) == 2.5
    sums = np.tile([[10.0, 1.0, 0.0]], (50, 1))
    assert held_by(sums, 10.0, np.arange(50) % 2) == 25.0


def test_the_first_windows_outliers_are_not_taken_into_the_moments():
    spec = fm.Spec(n_features=2, n_factors=2)
    rng = np.random.default_rng(47)
    values = rng.normal(4.0, 2.0, 400)
    wild = np.append(values, -1e9)
    sums = np.array([[401.0, wild.mean(), 401 * wild.var()], [401.0, 1.0, 0.0]])
    place, both = np.repeat([0, 1], 401), np.append(wild, np.ones(401))
    found = tamed(spec, sums, 401.0, np.ones(2, bool), place, both)
    assert found[0, 1] == pytest.approx(4.0, abs=0.3)
    assert np.sqrt(found[0, 2] / 401) == pytest.approx(2.0, rel=0.15)
    np.testing.assert_array_equal(found[1], sums[1])
    np.testing.assert_array_equal(tamed(spec, sums, 401.0, np.zeros(2, bool), place, both), sums)
