"""Predictions of a stream: a message per row, by the version served when it is released."""

import json

import numpy as np
import pyarrow as pa

from beam_ml import Batch, derive, fit, linear
from beam_ml.algorithms import algorithm_of
from beam_ml.artefact.records import encode_learner, encode_model
from beam_ml.beam.stream.predict import _objects, _Predict
from beam_ml.formats.block import Block
from beam_ml.registry import Registry
from tests.beam.stream.test_raw import raw_job


def published(job):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 3))
    learner = fit(job.algorithm_spec(), [Batch.dense(x, label=(x[:, 0] > 0).astype(float))])
    model = derive(learner, linear.Classifier())
    facts = {**model.facts, "features": job.features.to_dict()}
    model = type(model)(model.spec, model.model_spec, model.arrays, facts)
    algorithm = algorithm_of(learner.spec)
    payloads = {"learner": encode_learner(algorithm, learner), "models/one": encode_model(algorithm, model)}
    Registry(job.registry).publish(
        job.name, payloads, parent=None, round_id="1-a", facts={"champion": "one", "features": job.features.to_dict()}
    )


def test_rows_are_scored_from_the_first_version_on(tmp_path):
    job = raw_job(tmp_path, predictions={"topic": "scores", "columns": ["card"], "features": True})
    step = _Predict(job.to_json(), job.registry, 0.0)
    step.setup()
    rows = pa.record_batch(
        {"tx": [7, 8], "card": ["a", "b"], "amount": [1.5, np.nan], "n_20s": [1, 2], "risk_30s": [0.0, 0.25]}
    )
    assert list(step.process(Block(rows))) == []
    published(job)
    [(key, value)] = step.process(Block(rows))
    assert key == b"7"
    found = json.loads(value)
    assert 0 < found.pop("score") < 1
    assert found == {
        "tx": 7,
        "card": "a",
        "n_20s": 1,
        "risk_30s": 0.0,
        "predicted_label": found["predicted_label"],
        "model_version": 1,
    }


def test_rows_without_ids_have_no_key(tmp_path):
    job = raw_job(
        tmp_path,
        labels=None,
        rolling=None,
        predictions={"topic": "scores", "columns": ["card"]},
        features={"numeric": ["amount"], "label": "fraud", "time": {"column": "at", "unit": "us"}},
    )
    step = _Predict(job.to_json(), job.registry, 3600.0)
    step.setup()
    assert list(step.process(Block(pa.record_batch({"card": ["a"], "amount": [1.0]})))) == []
    assert step._id is None


def test_several_numbers_of_a_prediction_are_a_list():
    pairs = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, 3.0, 0.1]), 2)
    assert _objects(pa.record_batch({"a": [1.5, 2.0], "p": pairs})) == [
        b'{"a":1.5,"p":[1.0, 2.0]}',
        b'{"a":2.0,"p":[3.0, 0.1]}',
    ]
