"""`Predictor`: a name or a file → predictions, and new versions as they are served."""

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import Batch, Registry, api, fit, pca, save
from beam_ml.algorithms import find
from beam_ml.artefact.records import encode_model
from beam_ml.core.model import Model
from beam_ml.errors import CorruptArtefact, InvalidBatch, InvalidValue, MissingColumn, VersionNotFound
from beam_ml.features import Features
from beam_ml.formats import Block
from beam_ml.predictor import ModelRef, Predictor, as_reference, predictor_of

FEATURES = Features(numeric=["a", {"column": "b", "transform": "log1p"}])


def batch(seed):
    return Batch.dense(np.random.default_rng(seed).gamma(2.0, size=(200, 2)))


def model(seed, k=1, features=True):
    made = api.derive(fit(pca.Spec(n_features=2), [batch(seed)]), pca.Components(n_components=k))
    facts = {"features": FEATURES.to_dict()} if features else {}
    return Model(made.spec, made.model_spec, made.arrays, facts)


def publish(registry, models, **kwargs):
    head = registry.head_number("job")
    payloads = {f"models/{name}": encode_model(find("pca"), one) for name, one in models.items()}
    payloads["learner"] = b"learner"
    registry.publish("job", payloads, parent=head or None, round_id=f"{head + 1}-x", **kwargs)


def records(a, b):
    return pa.record_batch({"a": a, "b": b})


def test_raw_records_go_through_the_features_of_the_model(tmp_path):
    registry = Registry(str(tmp_path))
    one = model(1)
    publish(registry, {"m": one})
    predictor = Predictor(str(tmp_path), "job")
    out = predictor.predict(records([1.0, 2.0], [3.0, 4.0]))
    wanted = api.predict(one, Batch.dense(np.array([[1.0, np.log1p(3.0)], [2.0, np.log1p(4.0)]])))
    np.testing.assert_allclose(out["projection"], wanted["projection"])
    np.testing.assert_allclose(predictor.predict(Block(records([1.0], [3.0])))["projection"], wanted["projection"][:1])
    assert (predictor.version, predictor.features) == (1, FEATURES)


def test_rows_that_cannot_be_predicted_are_told_apart(tmp_path):
    publish(Registry(str(tmp_path)), {"m": model(1)})
    predictor = Predictor(Registry(str(tmp_path)), "job")
    rows = records([1.0, None, 3.0, 4.0], [1.0, 1.0, float("nan"), 1.0])
    scored = predictor.score(rows)
    assert scored.rows.tolist() == [0, 3]
    assert scored.predictions["projection"].shape == (2, 1)
    assert {(r.reason, tuple(r.position)) for r in scored.rejected} == {
        ("non-finite feature a", (1,)),
        ("non-finite feature log1p(b)", (2,)),
    }
    with pytest.raises(InvalidBatch, match=r"^every row must be predictable; row 1 is not: non-finite feature a\.$"):
        predictor.predict(rows)
    positioned = Block(rows, position=np.arange(100, 104))
    assert predictor.score(positioned).rows.tolist() == [0, 3]


def test_a_new_served_version_is_picked_up(tmp_path):
    registry = Registry(str(tmp_path))
    publish(registry, {"m": model(1)})
    predictor = Predictor(registry, "job")
    assert not predictor.refresh()
    publish(registry, {"m": model(2)}, serve=False)
    assert not predictor.refresh()
    assert predictor.version == 1
    second = model(3)
    publish(registry, {"m": second})
    assert predictor.refresh()
    assert predictor.version == 3
    rows = batch(9)
    np.testing.assert_array_equal(predictor.predict(rows)["projection"], api.predict(second, rows)["projection"])
    registry.serve("job", 1)
    assert predictor.refresh()
    assert predictor.version == 1


def test_a_damaged_version_is_stepped_over(tmp_path, caplog):
    registry = Registry(str(tmp_path))
    publish(registry, {"m": model(1)})
    predictor = Predictor(registry, "job")
    publish(registry, {"m": model(2)})
    file = registry.manifest("job", 2).files["models/m"]
    damaged = tmp_path / "job" / "v2" / file.path if not (tmp_path / file.path).exists() else tmp_path / file.path
    (found,) = [p for p in tmp_path.rglob("*.safetensors") if p.name == damaged.name]
    found.write_bytes(found.read_bytes()[:-1])
    predictor.refresh()
    assert predictor.version == 1
    assert Predictor(registry, "job").version == 1


def test_a_file(tmp_path):
    save(model(1, features=False), tmp_path / "m.safetensors")
    predictor = Predictor(tmp_path / "m.safetensors")
    assert predictor.version == 0
    assert not predictor.refresh()
    with pytest.raises(InvalidBatch, match="stored without features"):
        predictor.predict(records([1.0], [1.0]))
    (tmp_path / "bad").write_bytes(b"nonsense")
    with pytest.raises(CorruptArtefact):
        Predictor(tmp_path / "bad")


def test_wrong_input_is_one_sentence(tmp_path):
    registry = Registry(str(tmp_path))
    with pytest.raises(VersionNotFound, match="job has no accepted version"):
        Predictor(registry, "job")
    publish(registry, {"m": model(1)})
    with pytest.raises(VersionNotFound, match=r"job v1 has the models \['m'\]; got 'other'\."):
        Predictor(registry, "job", "other")
    with pytest.raises(InvalidValue, match=r"Predictor\.name must be given with a registry\."):
        Predictor(registry)
    predictor = Predictor(registry, "job")
    with pytest.raises(InvalidBatch, match=r"^pca\.Spec\.n_features is 2; got a batch of 3\.$"):
        predictor.predict(Batch.dense(np.zeros((1, 3))))
    with pytest.raises(MissingColumn, match="names the column 'b'"):
        predictor.predict(pa.record_batch({"a": [1.0]}))


def test_no_rows_no_predictions(tmp_path):
    publish(Registry(str(tmp_path)), {"m": model(1)})
    out = Predictor(str(tmp_path), "job").score(records([1.0], [1.0]).slice(0, 0))
    assert out.rows.size == 0
    assert out.predictions["projection"].shape == (0, 1)


def test_a_process_shares_one_predictor(tmp_path):
    predictor_of.cache_clear()
    publish(Registry(str(tmp_path)), {"m": model(1)})
    reference = ModelRef(str(tmp_path), "job")
    assert predictor_of(reference) is predictor_of(ModelRef(str(tmp_path), "job"))
    assert as_reference(reference) is reference
    assert as_reference(tmp_path / "m", None) == ModelRef(str(tmp_path / "m"))
    assert as_reference("m", algorithms="toy:RECORD") == as_reference("m", algorithms=["toy:RECORD"])
