"""Coefficients are those of the features as they were given: they repeat the model's own scores."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import Batch, Model, derive, fit, linear, load, pca, predict, save
from beam_ml.errors import InvalidValue

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2_000, 3)) * [1.0, 10.0, 0.1] + [0.0, 500.0, -3.0]
SLOPE = np.array([2.0, -0.1, 5.0])
VALUE = X @ SLOPE + 7.0
CLASS = (RNG.random(2_000) < 1 / (1 + np.exp(-(VALUE - VALUE.mean()) / 2))).astype(float)
TABLE = pa.table({name: X[:, j] for j, name in enumerate("abc")})


def made(spec: Any, kind: str, label: np.ndarray) -> Model:
    return derive(fit(spec, [Batch.dense(TABLE, label=label)]), kind)


@pytest.mark.parametrize(
    ("spec", "kind", "label"),
    [
        (linear.Newton(n_features=3, loss="squared"), "regressor", VALUE),
        (linear.Newton(n_features=3), "classifier", CLASS),
        (linear.AdaGrad(n_features=3), "classifier", CLASS),
        (linear.AdaGrad(n_features=3, task="regression"), "regressor", VALUE),
    ],
)
def test_they_repeat_the_scores_of_the_model(spec: Any, kind: str, label: np.ndarray) -> None:
    model = made(spec, kind, label)
    found = model.coefficients
    assert found.names == ("a", "b", "c")
    assert found.values.shape == (3,)
    assert found.intercept.shape == ()
    eta = float(found.intercept) + X @ found.values
    score = predict(model, X)["score"]
    wanted = np.log(score) - np.log1p(-score) if kind == "classifier" else score
    np.testing.assert_allclose(eta, wanted, rtol=1e-6, atol=1e-6 * np.abs(wanted).max())


def test_a_regression_finds_the_slope_in_the_units_of_the_features() -> None:
    found = made(linear.Newton(n_features=3, loss="squared"), "regressor", VALUE).coefficients
    np.testing.assert_allclose(found.values, SLOPE, rtol=1e-6)
    np.testing.assert_allclose(found.intercept, 7.0, rtol=1e-6)
    assert found["b"] == found.to_dict()["b"] == pytest.approx(-0.1)
    assert repr(found).startswith("Coefficients(intercept 7.")
    assert "b -0.1" in repr(found)


def test_each_class_has_its_own() -> None:
    three = np.digitize(VALUE, np.quantile(VALUE, [0.3, 0.6])).astype(float)
    found = made(linear.AdaGrad(n_features=3, task="multiclass", n_classes=3), "classifier", three).coefficients
    assert found.values.shape == (3, 3)
    assert found.intercept.shape == (3,)
    assert len(found["a"]) == 3


def test_names_are_counted_where_they_are_unknown(tmp_path: Any) -> None:
    model = derive(fit(linear.Newton(n_features=3), [Batch.dense(X, label=CLASS)]), "classifier")
    assert model.coefficients.names == ("x0", "x1", "x2")
    named = made(linear.Newton(n_features=3), "classifier", CLASS)
    save(named, tmp_path / "m")
    again = load(tmp_path / "m")
    assert isinstance(again, Model)
    assert again.coefficients.to_dict() == named.coefficients.to_dict()


def test_what_is_not_linear_has_none() -> None:
    model = derive(fit(pca.Spec(n_features=3), X), pca.Components(n_components=1))
    with pytest.raises(
        InvalidValue, match=r"^model\.coefficients must be asked of a linear model; got pca components\.$"
    ):
        _ = model.coefficients
    with pytest.raises(InvalidValue, match=r"^Coefficients have the names \['a', 'b', 'c'\]; got 'd'\.$"):
        made(linear.Newton(n_features=3), "classifier", CLASS).coefficients["d"]
