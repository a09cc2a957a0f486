"""Standard errors are those that repeated draws show, and bounds hold the true score as often as they say."""

from typing import Any

import numpy as np
import pytest

from beam_ml import Batch, Learner, Model, derive, fit, linear, load, pca, predict, save
from beam_ml.artefact.records import encode_model
from beam_ml.core.arrays import nbytes
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue

DRAWS, ROWS = 300, 400
MEAN, SCALE = np.array([0.0, 1e4, -3.0]), np.array([1.0, 10.0, 0.1])
SLOPE, BIAS = np.array([0.8, -0.5, 0.0]) / SCALE, 0.3
KINDS: dict[str, Any] = {"logistic": linear.ClassifierWithErrors(), "squared": linear.RegressorWithErrors()}


def drawn(rng: np.random.Generator, rows: int) -> np.ndarray:
    return np.asarray(MEAN + SCALE * rng.normal(size=(rows, 3)))


def eta(x: np.ndarray) -> np.ndarray:
    return np.asarray((x - MEAN) @ SLOPE + BIAS)


def mean(loss: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-eta(x))) if loss == "logistic" else eta(x))


def learned(loss: str, rng: np.random.Generator, rows: int = ROWS, **settings: Any) -> Learner:
    x = drawn(rng, rows)
    label = (rng.random(rows) < mean(loss, x)) * 1.0 if loss == "logistic" else eta(x) + 2.0 * rng.normal(size=rows)
    time = np.arange(rows) * 1_000_000 if "half_life" in settings else None
    return fit(linear.Newton(n_features=3, loss=loss, **settings), [Batch.dense(x, label=label, time=time)])


def covered(loss: str, draws: int, rows: int, **settings: Any) -> tuple[np.ndarray, float]:
    """Return how often coefficients and intercept (4,) lie within 1.96 errors, and true scores within their bounds."""
    rng, hits, held = np.random.default_rng(7), np.zeros(4), 0.0
    truth = np.append(SLOPE, eta(np.zeros((1, 3))))
    for _ in range(draws):
        model = derive(learned(loss, rng, rows, **settings), KINDS[loss])
        found = model.coefficients
        assert found.errors is not None
        assert found.intercept_error is not None
        off = np.append(found.values, found.intercept) - truth
        hits += np.abs(off) < 1.96 * np.append(found.errors, found.intercept_error)
        x = drawn(rng, 20)
        bounds, true = predict(model, x, interval=0.95), mean(loss, x)
        held += float(np.mean((bounds["lower"] <= true) & (true <= bounds["upper"])))
    return hits / draws, held / draws


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_intervals_hold_the_truth_as_often_as_they_say(loss: str) -> None:
    coefficients, scores = covered(loss, DRAWS, ROWS)
    assert 0.92 <= scores <= 0.98
    assert ((coefficients >= 0.91) & (coefficients <= 0.985)).all()  # 3 standard deviations of 300 draws


def test_few_rows_have_the_wider_intervals_of_student() -> None:
    assert 0.92 <= covered("squared", 200, 12)[1] <= 0.98  # the normal quantile holds 0.91


def test_forgetting_makes_errors_too_large_by_the_root_of_two_at_most() -> None:
    _, scores = covered("squared", 60, ROWS, half_life="40s")
    assert scores >= 0.98  # 1.96·√2 deviations hold 0.994


def test_errors_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = drawn(rng, 100)
    y = eta(x) + rng.normal(size=100)
    model = derive(fit(linear.Newton(n_features=3, loss="squared"), [Batch.dense(x, label=y)]), KINDS["squared"])
    design = np.column_stack([np.ones(100), x - MEAN])
    solution, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    covariance = residual[0] / 96 * np.linalg.inv(design.T @ design)
    found, at = model.coefficients, drawn(rng, 5)
    np.testing.assert_allclose(found.errors, np.sqrt(np.diagonal(covariance))[1:], rtol=1e-8)
    rows = np.column_stack([np.ones(5), at - MEAN])
    wanted = np.sqrt(np.einsum("ni,ij,nj->n", rows, covariance, rows))
    bounds = predict(model, at, interval=0.5)
    np.testing.assert_allclose(bounds["standard_error"], wanted, rtol=1e-8)
    np.testing.assert_allclose(bounds["score"], rows @ solution, rtol=1e-8)
    np.testing.assert_allclose(bounds["upper"] - bounds["score"], 0.6770 * wanted, rtol=1e-3)  # t of 96 at 3/4
    assert "x0 0." in repr(found)
    assert " ± 0." in repr(found)


def test_bounds_are_of_the_linear_score_through_the_logistic_function(tmp_path: Any) -> None:
    rng = np.random.default_rng(1)
    learner = learned("logistic", rng, 20_000)  # rows enough that folds, and no block alone, have learned them
    model, plain = derive(learner, KINDS["logistic"]), derive(learner, linear.Classifier())
    x = drawn(rng, 50)
    bounds, without = predict(model, x, interval=0.9), predict(plain, x)
    for name, values in without.items():
        np.testing.assert_array_equal(bounds[name], values)
        np.testing.assert_array_equal(predict(model, x)[name], values)
    score, lower, upper = (np.log(bounds[name] / (1.0 - bounds[name])) for name in ("score", "lower", "upper"))
    np.testing.assert_allclose(score - lower, 1.644854 * bounds["standard_error"], rtol=1e-6)
    np.testing.assert_allclose(upper - score, 1.644854 * bounds["standard_error"], rtol=1e-6)
    curvature = without["score"].mean() * (1.0 - without["score"].mean()) * 20_000
    assert 0.8 < model.arrays.centre_error * np.sqrt(curvature) < 1.3
    save(model, tmp_path / "m")
    again = load(tmp_path / "m")
    assert isinstance(again, Model)
    np.testing.assert_array_equal(predict(again, x, interval=0.9)["lower"], bounds["lower"])


def test_columns_that_do_not_vary_or_add_up_to_others_leave_the_bounds_of_the_rest() -> None:
    rng = np.random.default_rng(2)
    x = drawn(rng, ROWS)
    y = eta(x) + rng.normal(size=ROWS)
    both = np.column_stack([x, np.full(ROWS, 5.0), x[:, 0] + x[:, 2]])
    one = derive(fit(linear.Newton(n_features=3, loss="squared"), [Batch.dense(x, label=y)]), KINDS["squared"])
    two = derive(fit(linear.Newton(n_features=5, loss="squared"), [Batch.dense(both, label=y)]), KINDS["squared"])
    assert two.coefficients.errors is not None
    assert np.isnan(two.coefficients.errors).tolist() == [False, False, False, True, False]
    a, b = (predict(m, rows, interval=0.95)["standard_error"] for m, rows in ((one, x), (two, both)))
    np.testing.assert_allclose(b * np.sqrt(394 / 396), a, rtol=1e-6)


def test_only_models_derived_with_errors_have_their_size() -> None:
    learner = learned("squared", np.random.default_rng(3))
    plain, model = derive(learner, linear.Regressor()), derive(learner, linear.RegressorWithErrors())
    assert nbytes(model.arrays) - nbytes(plain.arrays) == 8 * (3 * 3 + 3 + 2)
    assert plain.coefficients.errors is None
    assert len(encode_model(linear.NEWTON, plain)) < len(encode_model(linear.NEWTON, model))


@pytest.mark.parametrize("interval", [0.0, 1.0, 95, -0.5, float("nan"), "0.95", True])
def test_an_interval_is_a_level(interval: Any) -> None:
    model = derive(learned("squared", np.random.default_rng(3)), linear.RegressorWithErrors())
    with pytest.raises(InvalidValue, match=r"^predict\.interval must be between 0 and 1, such as 0\.95; got .*\.$"):
        predict(model, drawn(np.random.default_rng(0), 2), interval=interval)


def test_models_whose_errors_are_not_known_have_no_interval() -> None:
    x, label = drawn(np.random.default_rng(0), 200), np.tile([0.0, 1.0], 100)
    rows = [Batch.dense(x, label=label)]
    for model, called in (
        (derive(fit(linear.Newton(n_features=3), rows), linear.Classifier(l2=0.1)), r"linear\.Classifier"),
        (derive(fit(linear.AdaGrad(n_features=3), rows), "classifier"), r"linear\.Classifier"),
        (derive(fit(pca.Spec(n_features=3), x), pca.Components(n_components=1)), r"pca\.Components"),
    ):
        wanted = rf"^predict\.interval must be asked of a model whose errors are known, .*; got {called}\.$"
        with pytest.raises(InvalidValue, match=wanted):
            predict(model, x, interval=0.95)


def test_errors_that_are_not_known_are_refused() -> None:
    rng = np.random.default_rng(4)
    with pytest.raises(
        DeriveRefused, match=r"^linear\.Newton with loss 'squared' derives linear\.RegressorWithErrors; "
    ):
        derive(learned("squared", rng), linear.ClassifierWithErrors())
    with pytest.raises(DeriveRefused, match=r"^linear\.Newton with loss 'logistic' derives linear\.ClassifierWithErr"):
        derive(learned("logistic", rng), linear.RegressorWithErrors())
    with pytest.raises(DeriveRefused, match=r"positive_weight must be 1\.$"):
        derive(learned("logistic", rng, positive_weight="balanced"), linear.ClassifierWithErrors())
    few = derive(learned("squared", rng, rows=4), linear.RegressorWithErrors())
    assert few.coefficients.errors is few.coefficients.intercept_error is None
    assert predict(few, drawn(rng, 2))["score"].shape == (2,)
    with pytest.raises(InvalidValue, match=r"^predict\.interval must .* errors are known; of squared loss, more rows"):
        predict(few, drawn(rng, 2), interval=0.95)
    with pytest.raises(InvalidValue, match="l2"):
        linear.ClassifierWithErrors.parse({"l2": 0.1})
    with pytest.raises(InvalidBatch, match=r"^ModelWithErrors\.freedom must be >= -1; got -2\.$"):
        linear.ModelWithErrors(
            np.zeros(1), np.zeros(()), np.zeros(1), np.zeros(()), np.asarray(1), np.zeros(1), np.zeros(()),
            np.zeros((1, 1)), np.asarray(-2),
        )  # fmt: skip
