"""A job that learns classes with names: rows with other labels are rejects, and predictions name the class."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from beam_ml import formats
from beam_ml.cli import main
from beam_ml.predictor import Predictor

JOB = """
name = "trees"
registry = "registry"
source = { path = "a.csv", format = "csv" }

[features]
numeric = ["height", "width"]
label = { column = "kind", classes = ["oak", "ash", "elm"] }

[spec]
algorithm = "linear.adagrad"
task = "multiclass"

[models.m]
kind = "classifier"
"""


def rows(n: int) -> pa.RecordBatch:
    rng = np.random.default_rng(2)
    kind = rng.integers(0, 3, n)
    centres = np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    X = centres[kind] + rng.normal(size=(n, 2))
    return pa.record_batch({"height": X[:, 0], "width": X[:, 1], "kind": np.array(["oak", "ash", "elm"])[kind]})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    foreign = pa.record_batch({"height": [1.0], "width": [1.0], "kind": ["yew"]})
    formats.write("a.csv", [rows(3000), foreign])
    Path("job.toml").write_text(JOB)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def test_predictions_name_the_class() -> None:
    assert json.loads(run("train", "job.toml", "--check", "--json"))["rejected"] == {"label is no listed class": 1}
    run("train", "job.toml")
    predictor, truth = Predictor("registry", "trees"), rows(3000)
    found = predictor.predict(truth)
    assert predictor.model.spec.n_label_classes == 3
    assert np.array_equal(np.array(["oak", "ash", "elm"])[found["predicted_label"]], found["predicted_class"])
    assert np.mean(found["predicted_class"] == truth["kind"].to_numpy(zero_copy_only=False)) > 0.99
    formats.write("b.parquet", [truth])
    run("score", "registry", "trees", "--source", "b.parquet", "--out", "out/part")
    scored = pq.read_table("out/")
    assert scored["predicted_class"].to_pylist() == found["predicted_class"].tolist()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('task = "multiclass"', ""), "features.label.classes must be as many as linear.adagrad learns (spec.task = 'multiclass'), 2 classes; got 3."),
        (('task = "multiclass"', 'task = "regression"'), "features.label.classes must be as many as linear.adagrad learns, numbers; got 3."),
        (('task = "multiclass"', 'task = "multiclass"\nn_classes = 4'), "4 classes; got 3."),
        (('classes = ["oak", "ash", "elm"]', 'clases = ["oak", "ash"]'), "Did you mean 'classes'?"),
    ],
    ids=str,
)  # fmt: skip
def test_classes_are_as_many_as_are_learned(change: tuple[str, str], words: str) -> None:
    Path("job.toml").write_text(JOB.replace(*change))
    done = CliRunner().invoke(main, ["train", "job.toml", "--check"])
    assert done.exit_code == 1
    assert words in " ".join(done.output.split())
