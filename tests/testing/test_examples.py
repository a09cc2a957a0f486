"""The shipped examples keep every law, and work from `fit` to a stored model like the algorithms of the package."""

from pathlib import Path

import numpy as np
import pytest

from beam_ml import Batch, derive, fit, load, merge, predict, save
from beam_ml.testing.examples import outliers
from beam_ml.testing.laws import laws_for


@pytest.mark.parametrize("width", [1, 4])
def test_every_law_holds(width: int) -> None:
    for _, law in laws_for(outliers.OUTLIERS, outliers.Spec(n_features=width), examples=10):
        law()


def test_a_stored_learner_merges_and_finds_outliers(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal([100.0, -3.0], [10.0, 0.1], (4_000, 2))
    spec = outliers.Spec(n_features=2)
    save(fit(spec, [Batch.dense(x[:2_500])]), tmp_path / "first")
    both = merge(load(tmp_path / "first", [spec.algorithm]), fit(spec, [Batch.dense(x[2_500:])]))
    model = derive(both, outliers.Outliers(threshold=5.0))
    np.testing.assert_allclose(model.arrays.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.arrays.deviation, x.std(axis=0), rtol=1e-12)
    found = predict(model, Batch.dense([[100.0, -3.0], [160.0, -3.0], [100.0, -2.4]]))
    assert found["is_outlier"].tolist() == [False, True, True]
