"""What passes count, who may have them, and when another one is of no use."""

from typing import Any

import numpy as np
import pytest

from beam_ml import Batch, api, fit, kmeans, linear, merge, pca
from beam_ml.algorithms import algorithm_of
from beam_ml.core.batch import Origin
from beam_ml.core.passes import EarlyStopping, check_passes, first_pass, in_pass, measured_by, stalled
from beam_ml.errors import InvalidValue, MergeRefused

ADAGRAD = linear.AdaGrad(n_features=2, learning_rates=0.1, l1=0.0, l2=0.0, halve_at=())


def batches(n: int = 400, places: bool = False) -> list[Batch]:
    X = np.random.default_rng(0).normal(size=(n, 2))
    y = (X[:, 0] + 0.3 * X[:, 1] > 0).astype(float)
    origin = {"origin": Origin("s", "a")} if places else {}
    return [
        Batch.dense(X[at : at + 100], label=y[at : at + 100], **origin)
        if not places
        else Batch.dense(X[at : at + 100], label=y[at : at + 100], position=np.arange(at, at + 100), **origin)
        for at in range(0, n, 100)
    ]


@pytest.mark.parametrize("source", ["files", "kafka://c/t", "fit", "a, pass x"])
def test_the_first_pass_is_found_again(source: str) -> None:
    assert in_pass(source, 1) == source
    assert len({in_pass(source, number) for number in range(1, 12)}) == 11
    for number in (1, 2, 10):
        assert first_pass(Origin(in_pass(source, number), "p")) == Origin(source, "p")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (pca.Spec(n_features=2), "pca: one pass is exact"),
        (kmeans.Spec(n_features=2, k_max=2), "kmeans: one pass takes in every row"),
        (linear.Newton(n_features=2), "linear.newton: it adds up what rows hold in one pass"),
        (linear.Newton(n_features=2, loss="squared"), "linear.newton: one pass is exact"),
    ],
)
def test_algorithms_that_have_no_use_for_passes_refuse_them(spec: Any, why: str) -> None:
    check_passes(algorithm_of(spec), spec, 1)
    with pytest.raises(InvalidValue, match=f"fit.passes must be 1 with {why}.*; got 2"):
        fit(spec, batches(), passes=2)


def test_a_pass_is_at_least_one() -> None:
    with pytest.raises(InvalidValue, match=r"fit\.passes must be >= 1; got 0\."):
        fit(ADAGRAD, batches(), passes=0)


@pytest.mark.parametrize("places", [True, False])
def test_each_pass_counts_each_row_once(places: bool) -> None:
    once, thrice = (fit(ADAGRAD, batches(places=places), passes=passes) for passes in (1, 3))
    assert thrice.progress.rows == 3 * once.progress.rows == 1200
    assert thrice.progress.repeated == 0
    assert sorted({origin.source for origin in thrice.progress.covered}) == (
        ["s", "s, pass 2", "s, pass 3"] if places else ["fit", "fit, pass 2", "fit, pass 3"]
    )
    assert all(ranges.tolist() == [[0, 400]] for ranges in thrice.progress.covered.values())


def test_passes_go_on_learning() -> None:
    rows = Batch.concat(batches())
    loss = {}
    for passes in (1, 8):
        learner = fit(ADAGRAD, batches(), passes=passes, refresh_rows=100)
        model = api.derive(learner, linear.Variant())
        loss[passes] = -np.mean(np.log(np.abs(1 - rows.label - api.predict(model, rows)["score"])))
    assert loss[8] < 0.8 * loss[1]


def test_the_sample_holds_a_row_once() -> None:
    once, thrice = (fit(ADAGRAD, batches(places=True), passes=passes) for passes in (1, 3))
    assert sorted(thrice.sample.identity.tolist()) == sorted(once.sample.identity.tolist())
    assert thrice.sample.mass.tolist() == (3 * once.sample.mass).tolist()


def test_what_comes_twice_in_one_pass_is_refused_in_each() -> None:
    with pytest.raises(MergeRefused, match=r"already scanned rows of s a"):
        fit(ADAGRAD, [*batches(places=True), *batches(places=True)])
    learner = fit(ADAGRAD, batches(places=True), passes=2)
    with pytest.raises(MergeRefused, match=r"already scanned rows of s a"):
        fit(ADAGRAD, batches(places=True), learner=learner)


def test_learners_that_share_rows_are_told_apart_however_many_passes_they_had() -> None:
    one, two = fit(ADAGRAD, batches(places=True)), fit(ADAGRAD, batches(places=True), passes=2)
    with pytest.raises(MergeRefused, match="both have scanned s a from 0 to 400"):
        merge(one, two)


def test_what_can_be_gone_through_once_is_refused() -> None:
    with pytest.raises(
        InvalidValue, match=r"fit\.batches must be a list, or begin again at each pass; got generator\."
    ):
        fit(ADAGRAD, (batch for batch in batches()), passes=2)
    assert fit(ADAGRAD, (batch for batch in batches())).progress.rows == 400


@pytest.mark.parametrize(
    ("values", "patience", "tolerance", "metric", "ends"),
    [
        ([], 1, 0.0, "mse", False),
        ([1.0], 1, 0.0, "mse", False),
        ([1.0, 0.9], 1, 0.05, "mse", False),
        ([1.0, 0.9], 1, 0.1, "mse", True),  # an improvement of 0.1 must be more than 0.1 of the best
        ([1.0, 0.96, 0.92], 2, 0.05, "mse", False),  # small steps add up to one that counts
        ([1.0, 0.96, 0.955], 2, 0.05, "mse", True),
        ([1.0, 1.1, 0.5, 0.6, 0.7], 3, 0.0, "mse", False),  # patience begins again with the better pass
        ([1.0, 1.1, 0.5, 0.6, 0.7, 0.5], 3, 0.0, "mse", True),
        ([0.5, 0.6, 0.7], 1, 0.0, "auc", False),
        ([0.5, 0.6, 0.6], 1, 0.0, "auc", True),
        ([0.0, 0.0], 1, 0.0, "mse", True),
    ],
)
def test_when_another_pass_is_of_no_use(
    values: list[float], patience: int, tolerance: float, metric: str, ends: bool
) -> None:
    assert stalled(values, EarlyStopping(patience=patience, tolerance=tolerance), metric) is ends


def test_the_metric_is_the_champions_loss_or_the_one_named() -> None:
    measured = {"auc": 0.9, "log_loss": 0.3}
    assert measured_by(measured, None, ("log_loss", "mse")) == ("log_loss", 0.3)
    assert measured_by(measured, "auc", ("log_loss",)) == ("auc", 0.9)
    assert measured_by({}, "auc", ()) is None
    with pytest.raises(InvalidValue, match=r"early_stopping\.metric must be one of auc, log_loss; got 'f1'\."):
        measured_by(measured, "f1", ())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"patience": 0}, r"early_stopping\.patience must be >= 1; got 0"), ({"tolerance": -1}, "tolerance must be >= 0")],
)
def test_bad_settings(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValue, match=sentence):
        EarlyStopping(**change)
