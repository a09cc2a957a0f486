"""What a stored model says of itself."""

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import Batch, derive, fit, linear, predict
from beam_ml.beam.versions.contents import model_facts
from beam_ml.core.model import Model
from beam_ml.errors import MissingColumn
from beam_ml.features import Features

LEARNER = fit(linear.Newton(n_features=2), Batch.dense(np.eye(2).repeat(9, axis=0), label=np.arange(18) % 2))


def test_models_of_numbers_know_their_names_and_models_of_hashed_columns_do_not() -> None:
    numbers = Features(numeric=["a", {"column": "b", "transform": "log1p"}])
    facts = model_facts(LEARNER, None, numbers.to_dict())
    assert facts["names"] == ["a", "log1p(b)"]
    assert "names" not in model_facts(LEARNER, None, Features(numeric=["a"], hashed=["b"]).to_dict())
    assert "names" not in model_facts(LEARNER, None, None)
    derived = derive(LEARNER, "classifier")
    model = Model(derived.spec, derived.model_spec, derived.arrays, facts)
    assert model.coefficients.names == ("a", "log1p(b)")
    raw, made = predict(model, pa.table({"a": [1.0], "b": [2.0]})), predict(model, Batch.dense([[1.0, np.log1p(2.0)]]))
    assert raw["score"].tolist() == made["score"].tolist()
    with pytest.raises(MissingColumn, match=r"'b'"):
        predict(model, pa.table({"a": [1.0], "log1p(b)": [2.0]}))
