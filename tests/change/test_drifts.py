"""The library of drifts: what is drawn is what is said, the same every time, and a refit of all rows can follow it."""

import dataclasses

import numpy as np
import pytest
from toy_mean import TOY_MEAN, MeanSpec
from toy_newton import TOY_NEWTON, LogisticSpec

from beam_ml.core.batch import Batch
from beam_ml.testing.change import check_drift
from beam_ml.testing.drifts import Drift, Regime, Task, draw, library, task_of
from beam_ml.testing.drifts.follow import follow, losses, standing
from beam_ml.testing.drifts.reference import constant, dense, loss_of, refit
from beam_ml.testing.subject import Subject, digest

BINARY = Task(3, "class", 2)
TASKS = (Task(1, "class", 2), Task(4, "class", 3), Task(3, "real"))
EVERYTHING = tuple(library.everything())


def named(drift):
    return str(drift).replace(" ", "_").replace(",", "") + f"_{drift.seed}"


def test_each_kind_of_change_is_there():
    text = " ".join(map(str, EVERYTHING))
    for part in (
        "move by 2 ", "move by 5 ", "move by 20 ", "jumps by +3", "jumps by +6", "jumps by -3", "jumps by -6", "at once",
        "slowly", "constant at 0,", "constant at 0.37", "constant at 7", "norm 1", "100 deviations", "1e+06 deviations", "one fold",
        "1 shards", "8 shards", "64 shards", "one label", "one row", "weight 0", "1e300", "NaN in 90%", "NaN in 100%",
    ):  # fmt: skip
        assert part in text, part
    assert len(set(map(named, EVERYTHING))) == len(EVERYTHING)


@pytest.mark.parametrize("drift", EVERYTHING, ids=named)
def test_windows_repeat_themselves_and_share_no_row(drift):
    first, second = list(drift.windows(BINARY)), list(drift.windows(BINARY))
    assert [digest(one.batch, one.held_out) for one in first] == [digest(one.batch, one.held_out) for one in second]
    places = np.concatenate([part.position for one in first for part in (one.batch, one.held_out)])
    assert len(np.unique(places)) == len(places)
    times = np.concatenate([one.batch.time for one in first])
    assert (np.diff(times) >= 0).all()
    assert [one.number for one in first if not one.judged] == list(drift.changes)
    for one in first:
        assert len(one.batch) == drift.regimes[one.number].rows
        assert np.isfinite(one.held_out.X).all()
        assert np.abs(one.held_out.X).max() < 60


def test_regimes_are_what_they_say():
    def x(regime, **options):
        return draw(BINARY, regime, 0, 0, **options)

    n = 4_000
    plain = x(Regime(n))
    deviation = plain.X.std(axis=0)
    assert np.allclose((x(Regime(n, shift=5.0)).X.mean(axis=0) - plain.X.mean(axis=0)) / deviation, 5.0, atol=0.2)
    rates = [float(x(Regime(n, level=level)).label.mean()) for level in (-3.0, 0.0, 3.0)]
    assert rates[0] < 0.15 < 0.45 < rates[1] < 0.55 < 0.85 < rates[2]
    slope = np.cov(plain.X[:, 0], plain.label)[0, 1]
    turned, gone = (x(Regime(n, turn=turn)) for turn in (1.0, 0.5))
    assert np.cov(turned.X[:, 0], turned.label)[0, 1] == pytest.approx(-slope, rel=0.1)
    assert abs(np.cov(gone.X[:, 0], gone.label)[0, 1]) < 0.1 * abs(slope)
    assert np.unique(x(Regime(n, still=0.37)).X[:, 0]).tolist() == [0.37]
    assert np.allclose(np.linalg.norm(draw(Task(40, "class", 2), Regime(50, unit=True), 0, 0).X, axis=1), 1.0)
    assert np.sort(np.abs(x(Regime(n, outlier=1e6)).X).max(axis=1))[-2:].round(-3).tolist() == [0.0, 1e6]
    assert set(x(Regime(n, only=1.0)).label) == {1.0}
    assert 0.85 < np.isnan(x(Regime(n, missing=0.9)).X[:, 0]).mean() < 0.95
    assert x(Regime(n, weights="huge")).weight.max() == 1e300
    assert not x(Regime(n, weights="absent")).weight.any()
    astray = x(Regime(n, weights="against"))
    kept = astray.weight > 0
    assert np.cov(astray.X[~kept, 0], astray.label[~kept])[0, 1] == pytest.approx(-slope, rel=0.15)
    assert digest(x(Regime(n), stream=1)) != digest(plain) != digest(x(Regime(n), held_out=True))
    sparse = x(Regime(n), sparse=True)
    assert not sparse.is_dense
    assert np.array_equal(dense(sparse), plain.X)


def rows_so_far(drift, task):
    """All rows up to each window that may be learned from, weighed by age; and the window."""
    seen = []
    for window in drift.windows(task):
        batch = window.batch
        seen.append(batch.take(np.isfinite(batch.X).all(axis=1) & (batch.weights < 1e200)))
        rows = Batch.concat(seen)
        if drift.half_life is not None:
            age = (rows.time.max() - rows.time) / (drift.half_life * 86_400e6)
            rows = rows.replace(weight=rows.weights * np.exp2(-age))
        yield rows, window


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_refit_of_all_rows_keeps_the_law_on_every_drift(task):
    """What the law asks for can be had: the refit is no worse than the best constant in any window that is judged."""
    for drift in EVERYTHING:
        mine = drift.task(task)
        for rows, window in rows_so_far(drift, task):
            prior, anew = (
                loss_of(mine, fit(mine, rows)(window.held_out), window.held_out) for fit in (constant, refit)
            )
            if window.judged:
                assert anew <= 1.03 * prior + 0.01, (str(drift), window.number)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_refit_is_scikit_learns(task):
    linear_model = pytest.importorskip("sklearn.linear_model")
    rows = draw(task, Regime(2_000, weights="uneven", level=0.5), 0, 3)
    test = draw(task, Regime(500), 0, 3, held_out=True)
    found = refit(task, rows)(test)
    if task.target == "real":
        model = linear_model.LinearRegression().fit(rows.X, rows.label, rows.weight)
        expected = model.predict(test.X)[:, None]
    else:
        model = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
        expected = model.fit(rows.X, rows.label, rows.weight).predict_proba(test.X)
    assert found == pytest.approx(expected, abs=2e-5)


def test_the_refit_has_an_optimum_where_a_plane_parts_the_classes_or_one_is_missing():
    x = np.linspace(-1.0, 1.0, 200)[:, None]
    parted = Batch.dense(x, label=x[:, 0] > 0)
    task = Task(1, "class", 2)
    assert loss_of(task, refit(task, parted)(parted), parted) < 1e-3
    alone = Batch.dense(x, label=np.ones(200))
    assert loss_of(task, refit(task, alone)(alone), alone) < 1e-3


def test_the_loss_is_that_of_the_metrics():
    subject = Subject(TOY_NEWTON, LogisticSpec(n_features=2), ())
    drift = Drift("", (Regime(500),))
    (stage,) = follow(subject, drift)
    rows, held_out = standing(stage)
    task = task_of(stage.spec)
    theta = stage.learner.state.theta
    score = 1.0 / (1.0 + np.exp(-(held_out.X @ theta[:-1] + theta[-1])))
    mine = loss_of(task, np.column_stack([1.0 - score, score]), held_out)
    assert losses(subject, stage.learner, held_out) == {"plane": pytest.approx(mine)}
    assert len(rows) == 500


def test_rejected_rows_are_counted_by_reason_and_left_out_of_what_is_held_against_the_learner():
    subject = Subject(TOY_NEWTON, LogisticSpec(n_features=2), ())
    drift = Drift("", (Regime(400), Regime(400, missing=1.0), Regime(400)), half_life=1.0)
    stages = list(follow(subject, drift))
    assert [stage.learner.progress.rows for stage in stages] == [400, 400, 800]
    assert stages[-1].learner.progress.rejected == {"non-finite feature": 400}
    assert len(standing(stages[-1])[0]) == 800
    assert stages[-1].weight == pytest.approx(float(TOY_NEWTON.weight(stages[-1].learner.state)))


def test_drifts_that_begin_alike_learn_the_common_windows_once():
    calls = []

    def fold(spec, state, partial, sample):
        calls.append(len(calls))
        return TOY_MEAN.fold(spec, state, partial, sample)

    subject = Subject(dataclasses.replace(TOY_MEAN, fold=fold), MeanSpec(n_features=2), ())
    for shift in (2.0, 5.0):
        check_drift(subject, Drift("moves", (Regime(200), Regime(200, shift=shift)), changes=(0, 1)))
    assert len(calls) == 3


def test_classes_are_weighed_as_the_spec_says():
    class Weighed(LogisticSpec):
        positive_weight: float | str = "balanced"

    weighed = dataclasses.replace(TOY_NEWTON, spec=Weighed)
    subject = Subject(weighed, Weighed(n_features=2), ())
    (stage,) = follow(subject, Drift("", (Regime(2_000, level=-2.0),)))
    rows, held_out = standing(stage)
    for batch in (rows, held_out):
        ones = float(batch.weights @ batch.label)
        assert ones / float(batch.weights.sum()) == pytest.approx(0.5, abs=0.06)
    factor = Subject(weighed, Weighed(n_features=2, positive_weight=3.0), ())
    (stage,) = follow(factor, Drift("", (Regime(2_000, level=-2.0),)))
    assert set(standing(stage)[0].weights) == {1.0, 3.0}
