"""`Score` and `Evaluate`: the served model inside a pipeline, with its version."""

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from beam_ml import Registry, api, kmeans, pca, save
from beam_ml.algorithms import find, linear
from beam_ml.artefact.records import encode_learner, encode_model
from beam_ml.beam import Evaluate, ModelRef, Score, engine, reject_records
from beam_ml.beam.wire import coders
from beam_ml.core import metrics
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.model import Model
from beam_ml.errors import InvalidBatch, UnreadableInput, VersionNotFound
from beam_ml.features import Features
from beam_ml.formats import Block, Reject
from beam_ml.predictor import predictor_of
from tests.beam.support import Seen, batches, create, make_batch, ran

FEATURES = Features(numeric=["a", "b", "c"], label="y")
SPEC = linear.Newton(n_features=3)


@pytest.fixture(autouse=True)
def fresh():
    predictor_of.cache_clear()


def publish(where, seed, champion="plain", **kwargs):
    learner = api.fit(SPEC, batches(600, label=True, seed=seed))
    payloads = {"learner": encode_learner(find("linear.newton"), learner)}
    models = {}
    for name, chosen in {"plain": linear.Classifier(), "shrunk": linear.Classifier(l2=1.0)}.items():
        made = api.derive(learner, chosen)
        model = Model(made.spec, made.model_spec, made.arrays, {"features": FEATURES.to_dict()})
        models[name] = model
        payloads[f"models/{name}"] = encode_model(find("linear.newton"), model)
    registry = Registry(where)
    head = registry.head_number("job")
    facts = {"champion": champion}
    registry.publish("job", payloads, parent=head or None, round_id=f"{head + 1}-x", facts=facts, **kwargs)
    return models


def block(n=50, seed=0, start=0):
    batch = make_batch(start, n, label=True, seed=seed)
    columns = {name: batch.X[:, j].copy() for j, name in enumerate("abc")} | {"y": batch.label, "id": np.arange(n)}
    return Block(pa.record_batch(columns), Origin("s", "f"), np.arange(start, start + n), None, start, start + n)


def score(tmp_path, elements, step, kind=Block, coder=None):
    pipeline = engine.new_pipeline()
    out = create(pipeline, elements, kind, coder or coders.BlockCoder()) | step
    predictions, rejected = Seen(tmp_path / "p", coders.BlockCoder()), Seen(tmp_path / "x", coders.RejectCoder())
    out.predictions | predictions.sink("P")
    out.rejected | rejected.sink("X")
    assert ran(pipeline) == "FnApiRunner"
    return predictions.values(), [record for one in rejected.values() for record in reject_records(one)]


def test_blocks_keep_their_columns_and_gain_predictions(tmp_path):
    models = publish(str(tmp_path / "r"), 1)
    ((out,), rejected) = score(tmp_path, [block()], Score(str(tmp_path / "r"), "job"))
    assert out.batch.schema.names[:5] == ["a", "b", "c", "y", "id"]
    wanted = api.predict(models["plain"], make_batch(0, 50, label=True))
    assert set(out.batch.schema.names[5:]) == {*wanted, "model_version"}
    for name, values in wanted.items():
        np.testing.assert_allclose(out.batch[name].to_numpy(), values)
    assert out.batch["model_version"].to_pylist() == [1] * 50
    assert (out.origin, out.start, out.stop, rejected) == (Origin("s", "f"), 0, 50, [])


def test_rows_of_a_batch_that_cannot_be_scored_are_rejected(tmp_path):
    publish(str(tmp_path / "r"), 1)
    given = make_batch(100, 50, label=True)
    features = given.X.copy()
    features[4, 1] = np.nan
    given = given.replace(X=features, origin=Origin("s", "f"), position=np.arange(100, 150))
    ((out,), rejected) = score(tmp_path, [given], Score(str(tmp_path / "r"), "job"), Batch, coders.BatchCoder())
    assert out.position.tolist() == [p for p in range(100, 150) if p != 104]
    assert np.isfinite(out.batch["score"].to_numpy()).all()
    assert [(r["reason"], r["position"]) for r in rejected] == [("non-finite feature", 104)]


def test_rows_that_cannot_be_scored_are_rejected(tmp_path):
    publish(str(tmp_path / "r"), 1)
    given = block(start=100)
    column = given.batch["b"].to_numpy().copy()
    column[[4, 9]] = np.nan
    given = given.replace(
        batch=given.batch.set_column(1, "b", pa.array(column)), rejected=(Reject("malformed line", np.array([150])),)
    )
    ((out,), rejected) = score(tmp_path, [given], Score(str(tmp_path / "r"), "job"))
    assert len(out) == 48
    assert out.position.tolist() == [p for p in range(100, 150) if p not in (104, 109)]
    assert out.batch["id"].to_pylist() == [i for i in range(50) if i not in (4, 9)]
    found = sorted((r["reason"], r["position"]) for r in rejected)
    assert found == [("malformed line", 150), ("non-finite feature b", 104), ("non-finite feature b", 109)]


def test_which_model_of_the_version(tmp_path):
    models = publish(str(tmp_path / "r"), 1, champion="shrunk")
    rows = [make_batch(0, 20)]
    for which, name in ((None, "shrunk"), ("plain", "plain")):
        step = Score(str(tmp_path / "r"), "job", which)
        ((out,), _) = score(tmp_path / name, rows, step, Batch, coders.BatchCoder())
        np.testing.assert_allclose(out.batch["score"].to_numpy(), api.predict(models[name], rows[0])["score"])
        assert out.batch.schema.names[-1] == "model_version"
        assert out.position.tolist() == list(range(20))


def test_a_running_worker_goes_over_to_a_new_version(tmp_path):
    where = str(tmp_path / "r")
    publish(where, 1)
    step = Score(where, "job", refresh_s=0.0)
    ((first,), _) = score(tmp_path / "1", [block()], step)
    publish(where, 2, serve=False)
    ((second,), _) = score(tmp_path / "2", [block()], step)
    publish(where, 3)
    ((third,), _) = score(tmp_path / "3", [block()], step)
    assert [one.batch["model_version"][0].as_py() for one in (first, second, third)] == [1, 1, 3]


def test_a_model_file(tmp_path):
    learner = api.fit(pca.Spec(n_features=3), batches(200))
    model = api.derive(learner, pca.Components(n_components=2))
    save(model, tmp_path / "m.safetensors")
    rows = [make_batch(0, 20)]
    ((out,), _) = score(tmp_path, rows, Score(tmp_path / "m.safetensors"), Batch, coders.BatchCoder())
    wanted = api.predict(model, rows[0])["projection"]
    np.testing.assert_allclose(np.array(out.batch["projection"].to_pylist()), wanted)
    assert out.batch["model_version"].to_pylist() == [0] * 20
    with pytest.raises(InvalidBatch, match="stored without features"):
        score(tmp_path / "b", [block()], Score(tmp_path / "m.safetensors"))
    with pytest.raises(UnreadableInput, match="No such file"):
        score(tmp_path / "c", [block()], Score(tmp_path / "nothing.safetensors"))


def test_nothing_served_is_one_sentence(tmp_path):
    Registry(str(tmp_path / "r"))
    with pytest.raises(VersionNotFound, match=r"^job has no accepted version to serve\.$"):
        score(tmp_path, [block()], Score(ModelRef(str(tmp_path / "r"), "job")))


def evaluate(tmp_path, elements, step, kind=Block, coder=None):
    pipeline = engine.new_pipeline()
    seen = Seen(tmp_path / "e", coders.MeasuredCoder())
    create(pipeline, elements, kind, coder or coders.BlockCoder()) | step | seen.sink()
    assert ran(pipeline) == "FnApiRunner"
    return seen.values()


def test_evaluate_equals_measuring_all_rows_at_once(tmp_path):
    models = publish(str(tmp_path / "r"), 1)
    step = Evaluate(str(tmp_path / "r"), "job")
    (found,) = evaluate(tmp_path, [block(50, start=50 * i) for i in range(5)], step)
    rows = make_batch(0, 250, label=True)
    kind = find("linear.newton").models["classifier"]
    wanted = metrics.compute(kind.measure(models["plain"].arrays, rows))
    assert metrics.compute(found.metrics) == pytest.approx(wanted)
    assert found.versions == {1: 250}
    assert wanted["auc"] > 0.8


def test_evaluate_leaves_unusable_rows_out(tmp_path):
    publish(str(tmp_path / "r"), 1)
    rows = make_batch(0, 40, label=True)
    label = rows.label.copy()
    label[:10] = np.nan
    step = Evaluate(str(tmp_path / "r"), "job")
    given = [rows.replace(label=label)]
    (found,) = evaluate(tmp_path, given, step, Batch, coders.BatchCoder())
    assert found.versions == {1: 30}
    assert evaluate(tmp_path / "none", [], step) == []


@pytest.mark.parametrize("pair", [(-1.0, 1.0), (1.0, 2.0)])
def test_evaluate_takes_labels_as_they_were_learned(tmp_path, pair):
    given = batches(600, label=True)
    written = [one.replace(label=np.where(one.label == 1, pair[1], pair[0])) for one in given]
    model = api.derive(api.fit(SPEC, written), linear.Classifier())
    assert model.labels == pair
    save(model, tmp_path / "m.safetensors")
    (found,) = evaluate(tmp_path, written, Evaluate(tmp_path / "m.safetensors"), Batch, coders.BatchCoder())
    kind = find("linear.newton").models["classifier"]
    wanted = metrics.compute(kind.measure(model.arrays, Batch.concat(given)))
    assert metrics.compute(found.metrics) == pytest.approx(wanted)
    assert found.versions == {0: 600}


def test_evaluate_clusters(tmp_path):
    learner = api.fit(kmeans.Spec(n_features=3, k_max=8), batches(400))
    model = api.derive(learner, kmeans.Clusters(k=4))
    save(model, tmp_path / "k.safetensors")
    values = batches(400)
    (found,) = evaluate(tmp_path, values, Evaluate(tmp_path / "k.safetensors"), Batch, coders.BatchCoder())
    distance = np.concatenate([api.predict(model, one)["distance_to_cluster"] for one in values])
    assert metrics.compute(found.metrics)["sse"] == pytest.approx(float(np.sum(distance**2)), rel=1e-6)


def test_scoring_inside_beam_windows(tmp_path):
    publish(str(tmp_path / "r"), 1)
    pipeline = engine.new_pipeline()
    seen = Seen(tmp_path / "p", coders.BlockCoder())
    blocks = create(pipeline, [block(), block()], Block, coders.BlockCoder(), timestamps=[0, 90])
    windowed = blocks | beam.WindowInto(beam.window.FixedWindows(60))
    (windowed | Score(str(tmp_path / "r"), "job")).predictions | seen.sink()
    ran(pipeline)
    assert [window for _, window, _ in seen.items()] == [(0, 60_000_000), (60_000_000, 120_000_000)]
