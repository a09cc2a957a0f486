"""Jobs over JSON files: rows of columns, and instances dense and sparse; the model is that of the same rows in Parquet."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import train
from beam_ml.errors import InvalidValue
from beam_ml.predictor import Predictor
from beam_ml.registry import Registry

D, N = 4, 1_500
COLUMNS = "numeric = ['a', 'b', 'c.d']"
MATRIX = f"matrix = {{ width = {D} }}"


def table() -> pa.RecordBatch:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 3))
    y = (x @ np.array([2.0, -1.0, 0.5]) + 0.3 * rng.normal(size=N) > 0).astype(np.int64)
    return pa.record_batch({"a": x[:, 0], "b": x[:, 1], "c.d": x[:, 2], "label": y})


def matrix() -> pa.RecordBatch:
    rng = np.random.default_rng(1)
    x = np.where(rng.random((N, D)) < 0.5, rng.normal(size=(N, D)), 0.0)
    y = (x @ np.array([2.0, -1.0, 0.5, 1.0]) > 0).astype(np.int64)
    return pa.record_batch({"features": pa.array(x.tolist(), pa.list_(pa.float64())), "label": y})


def trained(tmp_path: Path, name: str, source: str, features: str) -> tuple[Predictor, list[Any]]:
    path = tmp_path / f"{name}.toml"
    path.write_text(f"""
name = "{name}"
registry = "{tmp_path / "registry"}"
[source]
{source}
round_rows = 500
[features]
{features}
label = "label"
[spec]
algorithm = "linear.newton"
[models.plain]
kind = "classifier"
""")
    registry = Registry(str(tmp_path / "registry"))
    rounds = list(train(load_job(path), registry))
    return Predictor(registry, name), rounds


def same(one: Predictor, two: Predictor, rows: pa.RecordBatch) -> None:
    ours, theirs = one.predict(rows), two.predict(rows)
    np.testing.assert_allclose(ours["score"], theirs["score"], rtol=1e-6)


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".jsonl.zst", ".json.bz2"])
def test_rows_of_columns_are_learned_as_from_parquet(tmp_path: Path, ending: str) -> None:
    rows = table()
    for folder, end in (("one", ending), ("two", ".parquet")):
        (tmp_path / folder).mkdir()
        formats.write(str(tmp_path / folder / f"a{end}"), [rows.slice(0, 900)])
        formats.write(str(tmp_path / folder / f"b{end}"), [rows.slice(900)])
    if ending == ".jsonl":
        with open(tmp_path / "one" / "b.jsonl", "a") as out:
            out.write('{"a": 1, "b": [2]}\n{"a": 1\n')
    one, rounds = trained(tmp_path, "one", f'path = "{tmp_path / "one"}"', COLUMNS)
    two, _ = trained(tmp_path, "two", f'path = "{tmp_path / "two"}"', COLUMNS)
    assert sum(each.progress.rows for each in rounds) == N
    rejected = {why: n for each in rounds for why, n in each.progress.rejected.items()}
    assert rejected == ({"unparseable value": 1, "malformed message": 1} if ending == ".jsonl" else {})
    x = np.random.default_rng(5).normal(size=(20, 3))
    same(one, two, pa.record_batch(dict(zip(["a", "b", "c.d"], x.T, strict=True))))


@pytest.mark.parametrize(
    ("form", "ending", "options"),
    [
        ("dense", ".jsonl", 'options = { form = "dense" }'),
        ("dense", ".json.gz", 'options = { form = "dense" }'),
        ("sparse", ".jsonl", f'options = {{ form = "sparse", width = {D} }}'),
        ("sparse", ".json", f'options = {{ form = "sparse", width = {D} }}'),
    ],
)
def test_instances_are_learned_as_from_parquet(tmp_path: Path, form: str, ending: str, options: str) -> None:
    known = formats.TABLE["json"].options({"form": form, "width": D})
    for folder, end, given in (("one", ending, known), ("two", ".parquet", None)):
        (tmp_path / folder).mkdir()
        formats.write(str(tmp_path / folder / f"a{end}"), [matrix()], options=given)
    one, _ = trained(tmp_path, "one", f'path = "{tmp_path / "one"}"\nformat = "json"\n{options}', MATRIX)
    two, _ = trained(tmp_path, "two", f'path = "{tmp_path / "two"}"\nformat = "parquet"', MATRIX)
    x = np.random.default_rng(5).normal(size=(20, D))
    same(one, two, pa.record_batch({"features": pa.array(x.tolist(), pa.list_(pa.float64()))}))


def test_a_matrix_needs_a_form(tmp_path: Path) -> None:
    formats.write(str(tmp_path / "a.jsonl"), [table()])
    with pytest.raises(InvalidValue, match=r"'json' with options\.form = 'dense' or 'sparse'; got 'json'"):
        trained(tmp_path, "one", f'path = "{tmp_path}"\nformat = "json"', MATRIX)


def test_rows_may_lack_columns(tmp_path: Path) -> None:
    lines = [json.dumps({"a": i} if i % 2 else {"a": i, "z": i / 2}) for i in range(10)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = formats.of_files("json")
    assert found.ragged
    (piece,) = formats.ranges(formats.stat(str(tmp_path / "a.jsonl")), 1 << 20)
    names = [block.batch.schema.names for block in formats.read(piece, max_rows=1)]
    assert names[:2] == [["a", "z"], ["a"]]
