"""`beam-ml new-job FILE --algorithm …`: a job by a look at the file, which is accepted and trains as it is printed."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from beam_ml import formats
from beam_ml.algorithms import ALGORITHMS
from beam_ml.beam.job import Job
from beam_ml.cli import main
from beam_ml.cli.simulate import write_days


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == code, (result.output, result.exception)
    return result


def printed(source: str, algorithm: str) -> dict[str, Any]:
    return tomllib.loads(run("new-job", source, "--algorithm", algorithm).stdout)


def test_the_job_that_is_printed_trains() -> None:
    list(write_days("data", 2, 300, 80))
    Path("job.toml").write_text(run("new-job", "data", "--algorithm", "linear.newton").stdout)
    job = tomllib.loads(Path("job.toml").read_text())
    assert job["features"] == {"numeric": ["TX_AMOUNT"], "label": "TX_FRAUD", "time": "TX_DATETIME"}
    assert (job["name"], job["spec"]["loss"], job["models"]) == ("data", "logistic", {"plain": {"kind": "classifier"}})
    run("train", "job.toml", "--close")
    assert Path("registry/data/v1/manifest.json").exists()


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name not in ("deepar", "ntm")])
def test_every_algorithm_has_a_job(algorithm: str) -> None:
    list(write_days("data", 1, 300, 80))
    job = Job.parse(printed("data", algorithm))
    assert job.algorithm_spec().algorithm == algorithm
    supervised = job.algorithm_spec().label_target != "none"
    assert (job.features.label == "TX_FRAUD") == supervised
    hashed = [one.column for one in job.features.hashed]
    assert hashed in ([], ["CUSTOMER_ID", "TERMINAL_ID"])
    assert bool(hashed) == (algorithm in ("linear.adagrad", "fm"))


@pytest.mark.parametrize(
    ("label", "loss", "wanted"),
    [
        (["paid", "fraud", "paid"], "logistic", {"column": "y", "positive": ["fraud"], "negative": "others"}),
        ([-1, 1, -1], "logistic", {"column": "y", "positive": [1], "negative": "others"}),
        ([True, False, True], "logistic", "y"),
        ([1.5, 2.5, 3.5], "squared", "y"),
    ],
)
def test_labels_as_they_are(label: list[Any], loss: str, wanted: Any) -> None:
    formats.write("rows.csv", [pa.record_batch({"x": [0.5, 1.5, 2.5], "y": label})])
    job = printed("rows.csv", "linear.newton")
    assert (job["features"]["label"], job["spec"]["loss"], job["refresh"]) == (wanted, loss, "round")


def test_counts_are_of_words() -> None:
    lines = [f"ship {i} sails to the sea with all of its {100 - i} sails set" for i in range(40)]
    formats.write("rows.csv", [pa.record_batch({"line": lines, "amount": np.arange(40.0)})])
    job = printed("rows.csv", "ntm")
    assert job["features"] == {"text": ["line"]}
    assert Job.parse(job).algorithm_spec().n_features == 65_536
    formats.write("numbers.csv", [pa.record_batch({"amount": np.arange(40.0)})])
    assert (
        "FILE must have a column of texts for ntm" in run("new-job", "numbers.csv", "--algorithm", "ntm", code=1).stderr
    )


def test_series_have_no_job_of_columns() -> None:
    formats.write("rows.csv", [pa.record_batch({"x": [0.5, 1.5]})])
    assert "whose rows are series" in run("new-job", "rows.csv", "--algorithm", "deepar", code=1).stderr


def test_a_matrix_has_the_width_that_was_seen() -> None:
    Path("rows.libsvm").write_text("1 1:5 7:2\n0 3:1\n")
    assert printed("rows.libsvm", "fm")["features"]["matrix"] == {"column": "features", "width": 7, "sparse": True}
    assert printed("rows.libsvm", "linear.newton")["features"]["matrix"] == {"column": "features", "width": 7}
    dense = pa.array(np.ones((2, 3)).tolist(), pa.list_(pa.float32()))
    formats.write("rows.rec", [pa.record_batch({"features": dense, "label": [1.0, 0.0]})])
    assert printed("rows.rec", "linear.newton")["features"]["matrix"]["width"] == 3


def test_names_that_would_end_a_comment_stay_in_it() -> None:
    table = {"x": [0.5, 1.5, 2.5], "shop\nregistry = 1": ["a", "b", "a"], "y": [0, 1, 0]}
    formats.write("rows.parquet", [pa.record_batch(table)])
    assert printed("rows.parquet", "linear.newton")["registry"] == "registry"
    assert printed("rows.parquet", "fm")["features"]["hashed"] == ["shop\nregistry = 1"]


def test_json_has_the_job_as_a_value() -> None:
    formats.write("rows.csv", [pa.record_batch({"x": [0.5, 1.5], "y": [0, 1]})])
    found = json.loads(run("new-job", "rows.csv", "--algorithm", "kmeans", "--json").stdout)["job"]
    assert (found["name"], found["source"]) == ("rows", {"path": "rows.csv", "format": "csv"})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["rows.csv", "--algorithm", "linear.newton"], "FILE must have a label for linear.newton"),
        (["rows.csv", "--algorithm", "newton"], "newton"),
        (["none.csv", "--algorithm", "fm"], "none.csv must name input files"),
        (["bad.parquet", "--algorithm", "fm"], "bad.parquet cannot be read as Parquet"),
        (["rows.csv", "--algorithm", "fm", "--source", "x"], "--source must be left out with --algorithm"),
        (["empty.csv", "--algorithm", "kmeans"], "numeric must name at least one feature"),
    ],
)
def test_what_gives_no_job_is_one_sentence(words: list[str], sentence: str) -> None:
    Path("rows.csv").write_text("a,b\n0.5,1.5\n2.5,3.5\n4.5,5.5\n")
    Path("empty.csv").write_text("a,b\n")
    Path("bad.parquet").write_bytes(b"PAR1 damaged")
    assert sentence in " ".join(run("new-job", *words, code=1).stderr.split())


def people(n: int = 200) -> pa.RecordBatch:
    rng = np.random.default_rng(0)
    words = np.array(["good", "bad", "very", "not", "so"])
    return pa.record_batch(
        {
            "x": rng.random(n),
            "colour": rng.choice(["red", 'bl"ue', "grün"], n),
            "shop_id": rng.integers(0, 3, n),
            "city": [f"c{i}" for i in rng.integers(0, 50, n)],
            "note": [" ".join(rng.choice(words, 4)) for _ in range(n)],
            "kind": rng.choice(["oak", "ash", "elm"], n),
            "y": rng.integers(0, 2, n),
        }
    )


def test_few_values_have_a_vocabulary_where_rows_are_dense_and_texts_their_words_where_they_are_sparse() -> None:
    formats.write("rows.csv", [people()])
    said = run("new-job", "rows.csv", "--algorithm", "linear.newton").stdout
    features = tomllib.loads(said)["features"]
    assert features["one_hot"] == [
        {"column": "colour", "vocabulary": ['bl"ue', "grün", "red"]},
        {"column": "shop_id", "vocabulary": [0, 1, 2]},
        {"column": "kind", "vocabulary": ["ash", "elm", "oak"]},
    ]
    assert 'which takes dense rows: ["city", "note"]' in said
    Path("job.toml").write_text(said)
    run("train", "job.toml")
    features = printed("rows.csv", "linear.adagrad")["features"]
    assert (features["hashed"], features["text"]) == (["colour", "shop_id", "city", "kind"], ["note"])
    assert "text: note: texts of 4.0 words on average" in run("inspect", "rows.csv").stdout


def test_texts_as_labels_of_more_than_two_values_are_classes() -> None:
    formats.write(
        "rows.csv", [people().drop_columns(["y"]).rename_columns(["x", "colour", "shop_id", "city", "note", "label"])]
    )
    said = run("new-job", "rows.csv", "--algorithm", "linear.adagrad").stdout
    job = tomllib.loads(said)
    assert job["features"]["label"] == {"column": "label", "classes": ["ash", "elm", "oak"]}
    assert job["spec"]["task"] == "multiclass"
    Path("job.toml").write_text(said)
    run("train", "job.toml")
    newton = run("new-job", "rows.csv", "--algorithm", "linear.newton").stdout
    assert tomllib.loads(newton)["models"] == {"plain": {"kind": "classifier"}}
    Path("newton.toml").write_text(newton.replace('name = "rows"', 'name = "newton"'))
    run("train", "newton.toml")
