"""`fit` and `predict` over raw rows: the features are kept in learner, model and file, and make the same batches everywhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from beam_ml import Batch, Learner, Model, derive, fit, linear, load, merge, pca, predict, save
from beam_ml.artefact.envelope import decode, encode
from beam_ml.errors import CorruptArtefact, InvalidBatch, InvalidValue, MergeRefused, MissingColumn
from beam_ml.features import Features
from beam_ml.formats.block import Block
from beam_ml.predictor import Predictor

FEATURES = Features(
    numeric=["amount", {"column": "at", "transform": "hour", "zone": "Europe/Paris"}],
    one_hot=[{"column": "shop", "vocabulary": ["a", "b"]}],
    label={"column": "kind", "positive": ["fraud"], "negative": ["paid"]},
)
SPEC = linear.Newton(n_features=5)


def frame(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame({"amount": rng.normal(size=n), "shop": rng.choice(["a", "b", "c"], n)})
    rows["at"] = pd.Timestamp("2024-03-30") + pd.to_timedelta(np.arange(n), unit="min")
    rows["kind"] = np.where(rows.amount + (rows["shop"] == "a") > 0.3, "fraud", "paid")
    return rows.set_index(pd.Index([f"r{i}" for i in range(n)]))


LEARNER = fit(SPEC, frame(), features=FEATURES)
MODEL = derive(LEARNER, "classifier")
WANTED = FEATURES.to_batch(Block(pa.RecordBatch.from_pandas(frame(), preserve_index=False)))[0]


def test_raw_rows_are_learned_as_their_batches_are() -> None:
    by_hand = derive(fit(SPEC, WANTED.replace(names=FEATURES.names)), "classifier")
    np.testing.assert_array_equal(predict(MODEL, frame())["score"], predict(by_hand, WANTED)["score"])
    assert (LEARNER.progress.rows, LEARNER.names) == (400, FEATURES.names)
    assert MODEL.names == FEATURES.names
    assert Features.parse(dict(MODEL.facts["features"])) == FEATURES


@pytest.mark.parametrize(
    "rows",
    [
        pa.Table.from_pandas(frame()),
        pa.RecordBatch.from_pandas(frame()),
        Block(pa.RecordBatch.from_pandas(frame())),
        frame().to_dict("records"),
        [frame()[:100], pa.Table.from_pandas(frame()[100:])],
        iter([frame()[:7], frame()[7:]]),
        (frame()[i : i + 50] for i in range(0, 400, 50)),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_raw_rows_of_every_form(rows: Any) -> None:
    learner = fit(SPEC, rows, features=FEATURES.to_dict())
    assert learner.progress.rows == 400
    found = predict(derive(learner, "classifier"), frame())["score"]
    np.testing.assert_allclose(found, predict(MODEL, frame())["score"], rtol=1e-6)


def test_predictions_are_a_frame_with_the_names_of_the_classes() -> None:
    found = predict(MODEL, frame()).to_pandas(index=frame().index)
    assert list(found.columns) == ["score", "predicted_label", "predicted_class"]
    assert found.index.equals(frame().index)
    assert (found.predicted_class == np.where(found.predicted_label == 1, "fraud", "paid")).all()
    assert (found.predicted_class == frame().kind).mean() > 0.9
    wide = predict(
        derive(fit(pca.Spec(n_features=2), np.eye(2)), pca.Components(n_components=1)), np.eye(2)
    ).to_pandas()
    assert len(wide.projection[0]) == 1


def test_a_file_keeps_the_features(tmp_path: Path) -> None:
    save(LEARNER, tmp_path / "learner.safetensors")
    save(MODEL, tmp_path / "model.safetensors")
    learner, model = load(tmp_path / "learner.safetensors"), load(tmp_path / "model.safetensors")
    assert isinstance(learner, Learner)
    assert isinstance(model, Model)
    assert learner.features == LEARNER.features
    wanted = predict(MODEL, frame())
    for found in (
        predict(model, frame()),
        Predictor(tmp_path / "model.safetensors").predict(pa.RecordBatch.from_pandas(frame())),
    ):
        np.testing.assert_array_equal(found["score"], wanted["score"])
        assert found["predicted_class"].tolist() == wanted["predicted_class"].tolist()
    more = fit(SPEC, frame(seed=1), learner=learner)  # whose features they are
    assert (more.progress.rows, more.features) == (800, LEARNER.features)
    whole = decode((tmp_path / "learner.safetensors").read_bytes())
    (tmp_path / "bad").write_bytes(encode("learner", {**whole.meta, "features": 3}, dict(whole.arrays)))
    with pytest.raises(CorruptArtefact, match="must hold settings as features; got 3"):
        load(tmp_path / "bad")
    assert "features" not in decode(_bytes_without(tmp_path)).meta


def _bytes_without(folder: Path) -> bytes:
    save(fit(SPEC, WANTED), folder / "plain")
    return (folder / "plain").read_bytes()


def test_rows_that_are_set_aside_are_counted_once_per_pass_and_named_when_predicted() -> None:
    rows = frame()
    rows.loc["r3", "amount"] = np.nan
    rows.loc["r5", "kind"] = "lost"
    for given, count in ((rows, 1), ([rows[:200], rows[200:]], 1), (iter([rows]), 1)):
        learner = fit(SPEC, given, features=FEATURES)
        assert learner.progress.rows == 398
        assert learner.progress.rejected == {
            "non-finite feature amount": count,
            "label is neither positive nor negative": count,
        }
    spec = linear.AdaGrad(n_features=5)
    twice = fit(spec, [rows], features=FEATURES, passes=2)
    assert (twice.progress.rows, twice.progress.rejected["non-finite feature amount"]) == (796, 2)
    with pytest.raises(
        InvalidBatch, match=r"^every row must be predictable; row 3 is not: non-finite feature amount\.$"
    ):
        predict(MODEL, rows)


def test_sparse_features_and_labels_of_several_classes() -> None:
    features = Features(
        numeric=["amount"],
        hashed=["shop"],
        text=[{"column": "note", "buckets": 64}],
        label={"column": "kind", "classes": ["a", "b", "c"]},
    ).sized({"shop": 1024})
    rows = frame().assign(note="some words", kind=lambda rows: rows["shop"])
    spec = linear.AdaGrad(n_features=features.n_features, task="multiclass", n_classes=3, sparse=True)
    model = derive(fit(spec, rows, features=features, passes=3), "classifier")
    assert (predict(model, rows)["predicted_class"] == rows["shop"]).mean() > 0.95
    assert predict(model, rows.drop(columns="shop").assign(shop=None))["score"].shape == (400, 3)


def test_learners_of_other_features_do_not_merge() -> None:
    assert merge(LEARNER, fit(SPEC, frame(seed=2), features=FEATURES)).features == LEARNER.features
    turned = FEATURES.model_copy(update={"numeric": FEATURES.numeric[::-1]})
    other = fit(SPEC, frame(seed=2), features=turned)
    with pytest.raises(MergeRefused, match=r"their features differ in numeric\.$"):
        merge(LEARNER.replace(names=None), other.replace(names=None))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: fit(SPEC, frame(), features=3), InvalidValue, r"^fit\.features must be Features, or a mapping of their settings; got int\.$"),
        (lambda: fit(SPEC, frame(), features={"numerc": ["a"]}), InvalidValue, r"Did you mean 'numeric'\?"),
        (lambda: fit(SPEC, 3, features=FEATURES), InvalidValue, r"^fit\.batches must be frames, blocks or dicts of the columns that its features name; got int\."),
        (lambda: fit(SPEC, [WANTED], features=FEATURES), InvalidValue, r"^fit\.batches must be frames, blocks or dicts .*; got Batch\."),
        (lambda: fit(linear.Newton(n_features=4), frame(), features=FEATURES), InvalidValue, r"^fit\.spec\.n_features must be that of the features, 5; got 4\."),
        (lambda: fit(SPEC, frame(), features=FEATURES.model_copy(update={"label": None})), InvalidValue, r"^fit\.features\.label must name the column"),
        (lambda: fit(SPEC, frame().drop(columns="shop"), features=FEATURES), MissingColumn, r"names the column 'shop'"),
        (lambda: predict(MODEL, frame().drop(columns="shop")), MissingColumn, r"names the column 'shop'"),
        (lambda: fit(SPEC, frame(), features=FEATURES, learner=fit(SPEC, WANTED)), InvalidValue, r"^fit\.features must be absent with a learner that has learned from batches"),
        (lambda: fit(SPEC, frame(), features=FEATURES.model_copy(update={"weight": "amount"}), learner=LEARNER), InvalidValue, r"^fit\.features must be those that the learner has learned by"),
        (lambda: fit(linear.AdaGrad(n_features=5), iter([frame()]), features=FEATURES, passes=2), InvalidValue, r"^fit\.batches must be a list, or begin again at each pass"),
        (lambda: fit(SPEC, frame().assign(shop=[1, "a"] * 200), features=FEATURES), InvalidBatch, r"^Rows must be a frame whose columns are of one kind each; got DataFrame"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_batch_is_predicted_as_it_is_and_its_classes_are_named() -> None:
    found = predict(MODEL, Batch.dense(WANTED.dense_x))
    assert found["predicted_class"].tolist() == predict(MODEL, frame())["predicted_class"].tolist()
