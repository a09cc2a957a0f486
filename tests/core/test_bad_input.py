"""A learner stays finite whatever comes, says what it rejected, and goes on learning."""

import logging
from typing import Any

import numpy as np
import pytest

from beam_ml import Batch, Learner, derive, fit, kmeans, linear, pca
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.arrays import to_arrays
from beam_ml.core.batch import Origin
from beam_ml.core.refresh import Plan, refresh
from beam_ml.core.rejects import MANY

CASES: dict[str, tuple[Any, Any]] = {
    "newton": (linear.Newton(n_features=3), linear.Classifier()),
    "line": (linear.Newton(n_features=3, loss="squared"), linear.Regressor()),
    "clusters": (kmeans.Spec(n_features=3, k_max=4), kmeans.Clusters(k=2)),
    "components": (pca.Spec(n_features=3), pca.Components(n_components=2)),
    "sketch": (pca.Spec(n_features=3, mode="sketch", sketch_rows=2), pca.Components(n_components=2)),
}


def rows(n: int, seed: int = 0, slope: float = 2.0, **columns: Any) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    label = (rng.random(n) < 1 / (1 + np.exp(-slope * x[:, 0]))).astype(float)
    return Batch.dense(x, **{"label": label, **columns})


def assert_equal(a: Any, b: Any) -> None:
    for name, values in to_arrays(a.arrays).items():
        np.testing.assert_allclose(values, getattr(b.arrays, name), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("heavy", [1e300, 1e30, 1e17])
def test_a_row_of_monstrous_weight_is_refused_and_the_rest_learned(case: str, heavy: float) -> None:
    spec, model_spec = CASES[case]
    weight = np.ones(400)
    weight[17] = heavy
    learner = fit(spec, [rows(400, weight=weight)])
    clean = rows(400).take(np.arange(400) != 17)
    assert learner.progress.rejected == {"weight above 1e+09": 1}
    assert_equal(derive(learner, model_spec), derive(fit(spec, [clean]), model_spec))


@pytest.mark.parametrize("case", CASES)
def test_rows_of_weight_0_change_nothing(case: str) -> None:
    spec, model_spec = CASES[case]
    weight = np.where(np.arange(600) % 3 == 0, 0.0, 1.5)
    with_zeros = rows(600, weight=weight)
    spoilt = with_zeros.X.copy()
    spoilt[::3] *= 1e6
    learner = fit(spec, [Batch.dense(spoilt, label=with_zeros.label, weight=weight)])
    assert learner.progress.rejected == {}
    assert_equal(derive(learner, model_spec), derive(fit(spec, [with_zeros.take(weight > 0)]), model_spec))


def window(spec: Any, learner: Learner, batch: Batch) -> tuple[Learner, Any]:
    algorithm = linear.NEWTON
    accumulator = Accumulator(algorithm, spec, learner.version, algorithm.anchor(spec, learner.state))
    accumulator.add(batch.replace(origin=Origin("files", str(learner.refresh)), position=np.arange(len(batch))))
    return refresh(algorithm, learner, None, accumulator.result(), Plan({"m": linear.Classifier()}))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        one.getMessage() for one in caplog.records if one.levelno == logging.WARNING and "rejected" in one.getMessage()
    ]


def test_a_feature_that_is_missing_for_a_day_is_said_once_and_the_learner_recovers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = linear.Newton(n_features=3)
    learner, _ = window(spec, learners.new(linear.NEWTON, spec), rows(2_000))
    assert warnings(caplog) == []
    before = learner.state
    gone = rows(300, 1)
    gone = Batch.dense(np.where([False, True, False], np.nan, gone.X), label=gone.label)
    learner, done = window(spec, learner, gone)
    assert warnings(caplog) == ["linear.newton: of 300 rows of a window 300 rejected (non-finite feature 300)."]
    assert learner.state is before
    assert repr(learner) == "Learner(linear.newton, refresh 2, 2,000 rows, 300 rejected (non-finite feature 300))"
    caplog.clear()
    learner, done = window(spec, learner, rows(2_000, 2))
    assert warnings(caplog) == []
    assert done.verdict.accepted
    assert done.measured["m"]["auc"] > 0.8


@pytest.mark.parametrize(("bad", "told"), [(10, False), (11, True)])
def test_more_than_a_hundredth_is_told(bad: int, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert MANY == 0.01
    spec = linear.Newton(n_features=3)
    label = rows(1_000).label
    assert label is not None
    label = label.copy()
    label[:bad] = np.nan
    learner, _ = window(spec, learners.new(linear.NEWTON, spec), rows(1_000, label=label))
    wanted = [f"linear.newton: of 1,000 rows of a window {bad} rejected (missing label {bad})."] if told else []
    assert warnings(caplog) == wanted
    assert f"{bad} rejected" in repr(learner)


def test_a_class_that_is_rejected_as_a_whole_is_told_however_few_its_rows(caplog: pytest.LogCaptureFixture) -> None:
    """Class 1 written as 2: three rows in a thousand, and nothing to learn from."""
    spec = linear.Newton(n_features=3)
    label = np.zeros(1_000)
    label[[5, 50, 500]] = 2.0
    window(spec, learners.new(linear.NEWTON, spec), rows(1_000, label=label))
    assert warnings(caplog) == [
        "linear.newton: of 1,000 rows of a window 3 rejected (label outside {0, 1} 3); none is left of class 1."
    ]
    caplog.clear()
    window(spec, learners.new(linear.NEWTON, spec), rows(1_000, label=np.zeros(1_000)))
    assert warnings(caplog) == []  # one class only, and no row of the other was refused


def test_a_learner_without_rejects_says_nothing_of_them() -> None:
    assert repr(fit(linear.Newton(n_features=3), [rows(50)])) == "Learner(linear.newton, refresh 1, 50 rows)"
