"""`beam-ml new-job` and `beam-ml train --check`, and the schema by which editors complete a job."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from beam_ml.beam.job import load_job
from beam_ml.beam.job.schema import job_schema
from beam_ml.cli import main
from beam_ml.cli.jobs import SHIPPED
from beam_ml.cli.simulate import write_days
from tests.lines import learn_words

JOBS = sorted((SHIPPED / "jobs").glob("*.toml"))
SCHEMA = job_schema()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    list(write_days("data", 2, 400, 200))
    return tmp_path


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_the_examples_keep_the_schema(path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(tomllib.loads(path.read_text(encoding="utf-8")), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        {"refresh": "1 day"},
        {"refesh": "1d"},
        {"order": "inorder"},
        {"spec": {"algorithm": "linear.newton", "los": "squared"}},
        {"spec": {"algorithm": "linear.newtn"}},
        {"spec": {}},
        {"models": {"m": {"kind": "classifier", "l2": "x"}}},
        {"source": {"pth": "x"}},
        {"passes": 0},
    ],
    ids=str,
)
def test_the_schema_finds_mistakes(change: dict[str, Any]) -> None:
    job = tomllib.loads((SHIPPED / "jobs" / "fraud_replay.toml").read_text(encoding="utf-8"))
    jsonschema.validate(job, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**job, **change}, SCHEMA)


@pytest.mark.parametrize("algorithm", ["toy_sgd:TOY_SGD"])
def test_algorithms_of_others_keep_the_schema(algorithm: str) -> None:
    job = tomllib.loads((SHIPPED / "jobs" / "fraud_replay.toml").read_text(encoding="utf-8"))
    jsonschema.validate({**job, "spec": {"algorithm": algorithm}, "models": {"m": {"kind": "line"}}}, SCHEMA)


def test_a_new_job_is_checked_and_trained(here: Path) -> None:
    said = CliRunner().invoke(main, ["new-job", "mine.toml", "--source", "data"])
    assert said.exit_code == 0, said.output
    text = Path("mine.toml").read_text()
    assert text.startswith("#:schema ./job.schema.json\n")
    assert "TX_AMOUNT double" in text
    assert json.loads(Path("job.schema.json").read_text()) == json.loads(json.dumps(SCHEMA))
    job = load_job("mine.toml")
    assert (job.name, job.source.where) == ("mine", "data")
    checked = CliRunner().invoke(main, ["train", "--check", "mine.toml"])
    assert checked.exit_code == 0, checked.output
    assert "TX_FRAUD (int32)" in checked.output
    assert not Path("registry").exists()
    assert CliRunner().invoke(main, ["train", "mine.toml"]).exit_code == 0
    again = CliRunner().invoke(main, ["new-job", "mine.toml"])
    assert again.exit_code == 1
    assert "PATH must be new: mine.toml is there already." in again.stderr


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_every_example_makes_a_new_job(here: Path, path: Path) -> None:
    if path.stem == "topics":
        learn_words()
    assert CliRunner().invoke(main, ["new-job", "mine.toml", "--like", path.stem]).exit_code == 0
    assert load_job("mine.toml").name == "mine"


def test_check_says_what_would_be_used(here: Path) -> None:
    words = ["train", "--check", "jobs/fraud_demo.toml", "--source", "data", "--json"]
    found = json.loads(CliRunner().invoke(main, words).stdout)
    assert found["files"] == 2
    assert found["rows_looked_at"] == found["rows_learned"] > 100
    assert set(found["columns"]) == set(load_job(SHIPPED / "jobs" / "fraud_demo.toml").features.columns())
    assert found["windows"] == 1
    assert found["state_bytes"] > found["empty_state_bytes"] > 0
    assert "first_rejects" not in found


def test_check_of_a_topic_that_cannot_be_reached_is_one_sentence(here: Path) -> None:
    job = (SHIPPED / "jobs" / "fraud_kafka.toml").read_text(encoding="utf-8")
    Path("topic.toml").write_text(job.replace("[source]", '[source]\ntimeout = "1s"', 1), encoding="utf-8")
    result = CliRunner().invoke(main, ["train", "--check", "topic.toml", "--brokers", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "Brokers 127.0.0.1:1: brokers must answer; got " in result.stderr
    assert "Traceback" not in result.output


def test_check_rejects_what_the_job_would_reject(here: Path) -> None:
    table = pq.read_table("data/2024-01-01.parquet")
    column = table.schema.get_field_index("TX_FRAUD")
    signed = pc.if_else(pc.equal(table["TX_FRAUD"], 1), 1, -1).cast("int32")
    Path("signed").mkdir()
    pq.write_table(table.set_column(column, "TX_FRAUD", signed), "signed/a.parquet")
    words = ["train", "--check", "jobs/fraud_demo.toml", "--source", "signed", "--json"]
    found = json.loads(CliRunner().invoke(main, words).stdout)
    assert sum(found["rejected"].values()) == found["rows_looked_at"] - found["rows_learned"]
    assert found["rows_learned"] == pc.sum(table["TX_FRAUD"][: found["rows_looked_at"]]).as_py()


def test_check_shows_the_first_rejected_rows(here: Path) -> None:
    lines = ["x,status", *(f"{i % 5},{('paid', 'fraud')[i % 2]}" for i in range(100))]
    lines[8] = "1,odd"
    Path("rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    job = {
        "name": "n", "registry": "r", "source.path": "rows.csv", "features.numeric": ["x"],
        "spec.algorithm": "linear.newton", "models.m.kind": "classifier",
    }  # fmt: skip
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in job.items())
    Path("j.toml").write_text(
        text + '\nfeatures.label = { column = "status", positive = ["fraud"], negative = ["paid"] }'
    )
    found = json.loads(CliRunner().invoke(main, ["train", "--check", "j.toml", "--json"]).stdout)
    place = len("\n".join(lines[:8])) + 1
    file = Path("rows.csv").resolve()
    assert found["first_rejects"] == [f"{file} position {place}: label is neither positive nor negative: odd"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "--check", "jobs/fraud_demo.toml", "--source", "none"], "none must name input files"),
        (["new-job", "x.toml", "--like", "fraud_kafk"], "Did you mean 'fraud_kafka'?"),
        (["new-job", "x.toml", "--source", "none"], "none must name input files"),
        (["new-job", "x.toml", "--like", "fraud_kafka", "--source", "data"], "source.path must not be given"),
        (["new-job", "my x.toml"], "job.name must be valid"),
        (["new-job", '"x.toml'], "job.name must be valid"),
    ],
)
def test_a_mistake_is_one_sentence(here: Path, words: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert sorted(Path().glob("*.toml")) == []
