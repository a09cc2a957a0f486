"""Bad input on the path that jobs take: the learner stays finite, says what it rejected and why, and recovers."""

import numpy as np
import pytest
from toy_newton import TOY_NEWTON, LogisticSpec

from beam_ml.algorithms import fm, kmeans, linear, pca
from beam_ml.core.limits import ABSOLUTE
from beam_ml.testing.change import check_drift
from beam_ml.testing.drifts import Drift, Regime, library
from beam_ml.testing.drifts.follow import follow, losses
from beam_ml.testing.subject import Subject

SUBJECTS = {
    "toy": Subject(TOY_NEWTON, LogisticSpec(n_features=3), ()),
    "newton": Subject(linear.NEWTON, linear.Newton(n_features=3), (linear.Classifier(),)),
    "squared": Subject(linear.NEWTON, linear.Newton(n_features=3, loss="squared"), (linear.Regressor(),)),
    "adagrad": Subject(linear.ADAGRAD, linear.AdaGrad(n_features=3), (linear.Variant(),)),
    "fm": Subject(fm.FM, fm.Spec(n_features=3, n_factors=2), (fm.Classifier(),)),
    "kmeans": Subject(kmeans.KMEANS, kmeans.Spec(n_features=3, k_max=3), (kmeans.Clusters(k=2),)),
    "pca": Subject(pca.PCA, pca.Spec(n_features=3), (pca.Components(n_components=2),)),
}


@pytest.fixture(params=list(SUBJECTS))
def subject(request):
    return SUBJECTS[request.param]


def last(subject, *regimes, half_life=1.0):
    return list(follow(subject, Drift("", regimes, half_life=half_life)))[-1]


def test_a_feature_that_is_nan_for_a_day_is_rejected_and_comes_back(subject):
    stage = last(subject, Regime(3_000), Regime(500, missing=1.0), Regime(700))
    assert stage.learner.progress.rejected == {"non-finite feature": 500}
    assert stage.learner.progress.rows == 3_700
    assert stage.learner.refresh == 3
    assert stage.learner.discarded == 0


def test_a_row_of_weight_1e300_is_rejected_by_weight_and_the_others_are_learned_from(subject):
    stage = last(subject, Regime(3_000), Regime(500, weights="huge"), Regime(700))
    assert stage.learner.progress.rejected == {f"weight above {ABSOLUTE.weight:g}": 1}
    assert stage.learner.progress.rows == 4_199
    assert subject.algorithm.weight(stage.learner.state) == pytest.approx(stage.weight, rel=1e-6)


def test_rows_without_weight_are_scanned_and_change_nothing(subject):
    with_them, without = (
        last(subject, Regime(3_000), *middle, half_life=None) for middle in ((Regime(500, weights="absent"),), ())
    )
    assert with_them.learner.progress.rows == 3_500
    assert subject.algorithm.weight(with_them.learner.state) == subject.algorithm.weight(without.learner.state) == 3_000
    held_out = without.window.held_out
    assert losses(subject, with_them.learner, held_out) == pytest.approx(losses(subject, without.learner, held_out))


@pytest.mark.parametrize("drift", [*library.one_class(), *library.one_row()], ids=str)
def test_a_window_of_one_label_or_one_row_leaves_the_learner_finite(subject, drift):
    check_drift(subject, drift)
    for stage in follow(subject, drift):
        assert all(np.isfinite(loss) for loss in losses(subject, stage.learner, stage.window.held_out).values())
