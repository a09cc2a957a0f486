"""A job with every kind of field: checked, trained over Beam, stored, and scored from what is stored."""

import json
import tomllib
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from beam_ml import formats
from beam_ml.beam.job import load_job
from beam_ml.beam.job.schema import job_schema
from beam_ml.cli import main
from beam_ml.features import Features
from beam_ml.formats.block import Block
from beam_ml.predictor import Predictor

JOB = """
name = "fields"
registry = "registry"
source = {{ path = "data/", format = "{format}" }}

[features]
numeric = ["x", {{ column = "x", transform = "log1p", fill = 1.0 }}, {{ column = "at", transform = "hour", zone = "Europe/Paris", cyclic = true }}]
one_hot = [{{ column = "shop", vocabulary = ["s0", "s1"] }}]
bucketed = [{{ column = "x", bounds = [0.25, 0.5] }}]
{more}
label = "y"
time = "at"
key = "card"

[spec]
algorithm = "{algorithm}"

[models.m]
kind = "classifier"
"""
WIDE = """
hashed = ["card"]
crosses = [["shop", "card"], { columns = ["shop", "x"], by = "vocabulary" }]
text = ["note", { column = "shop", vocabulary = ["s0"] }]
"""


def rows(n: int = 600) -> pa.RecordBatch:
    rng = np.random.default_rng(5)
    words = np.array(["good", "bad", "not", "so"])
    return pa.record_batch(
        {
            "x": rng.random(n),
            "at": pa.array(1_700_000_000_000_000 + np.arange(n) * 600_000_000, pa.timestamp("us", tz="UTC")),
            "shop": [f"s{i}" for i in rng.integers(0, 4, n)],
            "card": rng.integers(0, 30, n),
            "note": [" ".join(rng.choice(words, 3)) for _ in range(n)],
            "y": rng.integers(0, 2, n),
        }
    )


@pytest.fixture(params=["parquet", "csv"])
def ending(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    formats.write(f"data/a.{request.param}", [rows()])
    return str(request.param)


@pytest.mark.parametrize(("algorithm", "more"), [("linear.newton", ""), ("linear.adagrad", WIDE), ("fm", WIDE)])
def test_a_job_with_fields_trains_and_its_model_scores_raw_rows(ending: str, algorithm: str, more: str) -> None:
    text = JOB.format(format=ending, algorithm=algorithm, more=more)
    if algorithm == "fm":
        text = text.replace('algorithm = "fm"', 'algorithm = "fm"\nn_factors = 2')
    Path("job.toml").write_text(text)
    jsonschema.validate(tomllib.loads(text), job_schema())
    checked = CliRunner().invoke(main, ["train", "job.toml", "--check", "--json"])
    assert checked.exit_code == 0, checked.output
    found = json.loads(checked.output)
    assert found["places"]["bucket(x)"] == 3
    assert found["batch"] == ("sparse" if more else "dense")
    assert found["rejected"] == {}
    trained = CliRunner().invoke(main, ["train", "job.toml"])
    assert trained.exit_code == 0, trained.output
    predictor = Predictor("registry", "fields")
    assert predictor.features is not None
    assert predictor.features.unsized == ()
    scored = predictor.score(rows())
    assert (len(scored.rows), scored.rejected) == (600, ())
    by_hand = predictor.features.to_batch(Block(rows()))[0]
    assert np.array_equal(predictor.predict(by_hand)["score"], scored.predictions["score"])
    again = CliRunner().invoke(main, ["train", "job.toml"])
    assert again.exit_code == 0, again.output
    changed = Path("job.toml").read_text().replace('"s0", "s1"', '"s0", "s2"')
    Path("job.toml").write_text(changed)
    refused = CliRunner().invoke(main, ["train", "job.toml"])
    assert refused.exit_code == 1
    assert "job.features must be those" in " ".join(refused.output.split())


def test_fields_that_make_rows_sparse_are_refused_of_learners_of_dense_rows_unless_it_is_said(ending: str) -> None:
    few = 'crosses = [{ columns = ["shop", "card"], buckets = 50 }]'
    Path("job.toml").write_text(JOB.format(format=ending, algorithm="linear.newton", more=few))
    refused = CliRunner().invoke(main, ["train", "job.toml", "--check"])
    assert refused.exit_code == 1
    assert "features.sparse must be false with linear.newton" in " ".join(refused.output.split())
    Path("job.toml").write_text(JOB.format(format=ending, algorithm="linear.newton", more=f"{few}\nsparse = false"))
    job = load_job("job.toml")
    assert isinstance(job.features, Features)
    assert (job.features.is_sparse, job.algorithm_spec().n_features) == (False, 4 + 3 + 3 + 50)
