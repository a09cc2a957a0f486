"""`beam-ml score` and `beam-ml evaluate`: the served model, and a model file, on files."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from beam_ml import Batch, Registry, derive, fit, linear, predictor, save
from beam_ml.algorithms.linear import NEWTON
from beam_ml.artefact.records import decode_model, encode_learner, encode_model
from beam_ml.cli import main
from beam_ml.core.model import Model
from beam_ml.features import Features
from beam_ml.registry import new_round_id

FEATURES = Features(numeric=["a", "b"], label="y")


def rows(n: int, seed: int = 0) -> pa.Table:
    x = np.random.default_rng(seed).normal(size=(n, 2))
    return pa.table({"a": x[:, 0], "b": x[:, 1], "y": (x[:, 0] > 0).astype(np.int64), "id": np.arange(n)})


@pytest.fixture
def where(tmp_path: Path) -> Path:
    table = rows(500)
    x = np.column_stack([table["a"], table["b"]])
    learner = fit(linear.Newton(n_features=2), [Batch.dense(x, label=table["y"].to_numpy().astype(float))])
    model = derive(learner, linear.Classifier())
    model = Model(model.spec, model.model_spec, model.arrays, {**model.facts, "features": FEATURES.to_dict()})
    save(model, tmp_path / "model.safetensors")
    payloads = {"learner": encode_learner(NEWTON, learner), "models/plain": encode_model(NEWTON, model)}
    Registry(tmp_path / "registry").publish(
        "n", payloads, parent=None, round_id=new_round_id(0), facts={"champion": "plain"}
    )
    (tmp_path / "new").mkdir()
    pq.write_table(rows(100, 1), tmp_path / "new" / "a.parquet")
    odd = rows(20, 2)
    values = odd["a"].to_numpy().copy()
    values[3] = np.nan
    pq.write_table(odd.set_column(0, "a", pa.array(values)), tmp_path / "new" / "b.parquet")
    return tmp_path


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(one) for one in arguments], env={"COLUMNS": "250"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_score_adds_columns_and_counts_what_it_leaves_out(where: Path) -> None:
    said = run("score", where / "registry", "n", "--source", where / "new", "--out", where / "scored" / "part").stdout
    assert "119 rows predicted into" in said
    assert "left out: 1 rows, non-finite feature a" in said
    found = pa.concat_tables([pq.read_table(path) for path in sorted((where / "scored").glob("*.parquet"))])
    assert found.num_rows == 119
    assert set(found["model_version"].to_pylist()) == {1}
    assert {"id", "a", "score", "predicted_label"} <= set(found.column_names)
    right = np.mean(np.asarray(found["predicted_label"]) == np.asarray(found["y"]))
    assert right > 0.9


def test_score_by_a_model_file_in_another_format(where: Path) -> None:
    out = where / "by-file"
    run("score", where / "model.safetensors", "--source", where / "new" / "a.parquet", "--out", out, "--out-format", "csv", "--type_check_strictness=DEFAULT_TO_ANY")  # fmt: skip
    (written,) = where.glob("by-file-*.csv")
    assert len(written.read_text().splitlines()) == 101


@pytest.mark.parametrize("command", [["score", "--out", "scored/part"], ["evaluate"]])
def test_the_model_is_read_once(where: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.chdir(where)
    (where / "scored").mkdir()
    read = []
    monkeypatch.setattr(predictor, "decode_model", lambda *given: read.append(given) or decode_model(*given))
    run(command[0], where / "model.safetensors", "--source", "new", *command[1:])
    assert len(read) == 1


def test_evaluate_prints_figures_and_json(where: Path) -> None:
    said = run("evaluate", where / "registry", "n", "--source", where / "new").stdout
    assert "119 rows measured by v1" in said
    (auc,) = [line.split() for line in said.splitlines() if line.split()[0] == "auc"]
    assert float(auc[1]) > 0.95
    found = json.loads(run("evaluate", where / "model.safetensors", "--source", where / "new", "--json").stdout)
    assert found["versions"] == {"0": 119}
    assert found["metrics"]["auc"] == pytest.approx(float(auc[1]), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["score", "registry", "m", "--source", "new", "--out", "x"], "m has no accepted version to serve"),
        (["score", "registry", "n", "--source", "none", "--out", "x"], "none must name input files"),
        (["score", "registry", "n", "--source", "new", "--out", "x", "--nois"], "got --nois"),
        (["score", "registry", "n", "--source", "new", "--out", "x", "--model", "z"], "has the models ['plain']"),
        (["evaluate", "gone.safetensors", "--source", "new"], "gone.safetensors cannot be read"),
        (["evaluate", "registry", "n", "--source", "unlabelled"], "must hold rows with a label"),
    ],
)
def test_a_mistake_is_one_sentence(
    where: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(where)
    (where / "unlabelled").mkdir()
    nothing = rows(3).set_column(2, "y", pa.nulls(3, pa.int64()))
    pq.write_table(nothing, where / "unlabelled" / "a.parquet")
    result = run(*arguments, code=1)
    assert sentence in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
