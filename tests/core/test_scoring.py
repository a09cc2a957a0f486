"""A row without a finite score is never answered, wherever it is predicted."""

from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from beam_ml import Batch, Model, derive, fit, kmeans, linear, pca, predict, save
from beam_ml.core import scoring
from beam_ml.errors import InvalidBatch
from beam_ml.predictor import Predictor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 3))
ROWS = Batch.dense(X, label=(X[:, 0] > 0).astype(float))
MODELS = {
    "classifier": derive(fit(linear.Newton(n_features=3), [ROWS]), linear.Classifier()),
    "regressor": derive(fit(linear.Newton(n_features=3, loss="squared"), [ROWS]), linear.Regressor()),
    "clusters": derive(fit(kmeans.Spec(n_features=3, k_max=3), [ROWS]), kmeans.Clusters(k=2)),
    "components": derive(fit(pca.Spec(n_features=3), [ROWS]), pca.Components(n_components=1)),
}


def csr(values: np.ndarray) -> Batch:
    n, d = values.shape
    return Batch.csr(np.arange(n + 1) * d, np.tile(np.arange(d), n), values.ravel(), d)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_with_a_feature_that_is_not_finite_is_refused_by_number(name: str, value: float, tmp_path: Path) -> None:
    rows = X[:5].copy()
    rows[3, 1] = value
    sentence = r"^every row must be predictable; row 3 is not: non-finite feature\.$"
    with pytest.raises(InvalidBatch, match=sentence):
        predict(MODELS[name], Batch.dense(rows))
    save(MODELS[name], tmp_path / "m")
    predictor = Predictor(tmp_path / "m")
    with pytest.raises(InvalidBatch, match=sentence):
        predictor.predict(Batch.dense(rows))
    scored = predictor.score(Batch.dense(rows))
    assert scored.rows.tolist() == [0, 1, 2, 4]
    assert [(one.reason, one.position.tolist()) for one in scored.rejected] == [("non-finite feature", [3])]
    whole = predict(MODELS[name], Batch.dense(X[[0, 1, 2, 4]]))
    assert all(np.array_equal(scored.predictions[key], whole[key]) for key in whole)


def test_a_sparse_row_is_set_aside_too(tmp_path: Path) -> None:
    rows = X[:5].copy()
    rows[2, 0] = np.nan
    model = derive(fit(linear.AdaGrad(n_features=3), [csr(X).replace(label=ROWS.label)]), linear.Classifier())
    with pytest.raises(InvalidBatch, match="row 2 is not"):
        predict(model, csr(rows))
    save(model, tmp_path / "m")
    assert Predictor(tmp_path / "m").score(csr(rows)).rows.tolist() == [0, 1, 3, 4]


def test_a_prediction_that_overflows_is_set_aside() -> None:
    rows = X[:3].copy()
    rows[1] = 1.7e308
    with pytest.raises(InvalidBatch, match=r"row 1 is not: non-finite prediction\.$"):
        predict(MODELS["clusters"], Batch.dense(rows))


@pytest.mark.parametrize("name", MODELS)
def test_no_rows_have_no_predictions(name: str) -> None:
    assert all(len(values) == 0 for values in predict(MODELS[name], Batch.dense(X[:0])).values())


def test_a_batch_of_another_width_is_refused() -> None:
    model: Model = MODELS["classifier"]
    with pytest.raises(InvalidBatch, match="n_features is 3; got a batch of 2"):
        predict(model, Batch.dense(X[:, :2]))


def test_rows_are_predicted_with_one_thread_of_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads would wait for each other far longer than they compute."""
    used, real = [], scoring.bad_features

    def watched(batch: Batch) -> np.ndarray | None:
        used.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")
        return real(batch)

    monkeypatch.setattr(scoring, "bad_features", watched)
    predict(MODELS["classifier"], Batch.dense(X))
    assert used
    assert set(used) == {1}
