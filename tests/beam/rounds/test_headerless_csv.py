"""A job over CSV without header: the model is that of the same numbers by name, and a header is not learned from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beam_ml import Batch, formats
from beam_ml.beam.job import load_job
from beam_ml.beam.rounds import train
from beam_ml.formats import csv
from beam_ml.predictor import Predictor
from beam_ml.registry import Registry

N, D = 2_000, 4
OPTIONS = f"header = false, width = {D}"
NAMED = ", ".join(f'"f{i}"' for i in range(D))


def lines() -> list[str]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, D))
    y = (X @ np.array([2.0, -1.0, 0.5, 0.0]) + 0.3 * rng.normal(size=N) > 0).astype(int)
    return [",".join(map(repr, [label, *row])) for label, row in zip(y.tolist(), X.tolist(), strict=True)]


def trained(
    folder: Path, files: dict[str, list[str]], options: str, features: str, label: str = '"label"'
) -> tuple[Any, dict[str, int]]:
    (folder / "in").mkdir(parents=True)
    for name, text in files.items():
        (folder / "in" / name).write_text("\n".join(text) + "\n")
    path = folder / "one.toml"
    path.write_text(f"""
name = "one"
registry = "{folder / "registry"}"
[source]
path = "{folder / "in"}"
format = "csv"
options = {{ {options} }}
[features]
{features}
label = {label}
[spec]
algorithm = "linear.newton"
[models.plain]
kind = "classifier"
""")
    one = load_job(path)
    (done,) = train(one, Registry(one.registry))
    assert done.progress.rows == N
    return Predictor(one.registry, "one"), dict(done.progress.rejected)


@pytest.mark.parametrize("header", [[], ["y,a,b,c,d"]])
def test_a_job_learns_the_rows_and_never_the_header(tmp_path: Path, header: list[str]) -> None:
    text = lines()
    files = {"a.csv": [*header, *text[:1_200]], "b.csv": [*header, *text[1_200:]]}
    predictor, rejected = trained(tmp_path / "positions", files, OPTIONS, f"matrix = {{ width = {D} }}")
    assert rejected == ({"unparseable value, perhaps a header": 2} if header else {})
    names = ["label,f0,f1,f2,f3"]
    files = {"a.csv": [*names, *text[:1_200]], "b.csv": [*names, *text[1_200:]]}
    named, none = trained(tmp_path / "names", files, "", f"numeric = [{NAMED}]")
    assert none == {}
    for name in predictor.model.arrays.__dataclass_fields__:
        assert np.array_equal(getattr(predictor.model.arrays, name), getattr(named.model.arrays, name))
    block = csv.decode("\n".join(text).encode(), None, csv.Options(header=False, width=D))
    scored = predictor.score(block)
    assert np.mean(scored.predictions["predicted_label"] == block.batch["label"].to_numpy()) > 0.9


def test_rows_without_labels_are_scored_alike(tmp_path: Path) -> None:
    predictor, _ = trained(tmp_path, {"a.csv": lines()}, OPTIONS, f"matrix = {{ width = {D} }}")
    labelled = csv.decode("\n".join(lines()).encode(), ["features"], csv.Options(header=False, width=D))
    bare = "\n".join(line.split(",", 1)[1] for line in lines()).encode()
    unlabelled = csv.decode(bare, None, csv.Options(header=False, width=D, label_size=0))
    a, b = predictor.score(labelled), predictor.score(unlabelled)
    assert len(a.predictions["score"]) == N
    assert np.array_equal(a.predictions["score"], b.predictions["score"])


@pytest.mark.parametrize("header", [[], ["y,a,b,c,d"]])
def test_columns_by_their_places_are_those_by_name(tmp_path: Path, header: list[str]) -> None:
    text = lines()
    files = {"a.csv": [*header, *text[:1_200]], "b.csv": [*header, *text[1_200:]]}
    predictor, rejected = trained(tmp_path / "places", files, "header = false", "numeric = [1, 2, 3, 4]", "0")
    assert rejected == ({"feature column 1 is not a number": 2} if header else {})
    names = ["label,f0,f1,f2,f3"]
    named, _ = trained(tmp_path / "names", {"a.csv": [*names, *text]}, "header = true", f"numeric = [{NAMED}]")
    rows = np.array([[float(x) for x in line.split(",")[1:]] for line in text])
    a = predictor.predict(Batch.dense(rows))["score"]
    np.testing.assert_allclose(a, named.predict(Batch.dense(rows))["score"], rtol=1e-9)
    found = formats.read(
        formats.ranges(formats.list_files(str(tmp_path / "places/in/b.csv"))[0], 1 << 20, "csv", NUMBERED)[0],
        None,
        10,
        options=NUMBERED,
    )
    assert next(found).batch.schema.names == ["0", "1", "2", "3", "4"]


NUMBERED = csv.Options(header=False)
