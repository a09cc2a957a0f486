"""The typed contract: mypy finds an algorithm whose functions do not fit it, and what may be left out is filled in."""

import dataclasses
import re
import textwrap
from pathlib import Path

import pytest
from mypy import api

from beam_ml.algorithms import fm, kmeans, linear, pca
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidValue

ROOT = Path(__file__).parent.parent.parent
PLAIN = """
from typing import Any, Literal
import numpy as np
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind, Predictions
from beam_ml.core.batch import Batch
from beam_ml.core.spec import ModelSpec, Spec as Base

class Spec(Base):
    algorithm: Literal["sums:SUMS"] = "sums:SUMS"
class Total(ModelSpec):
    kind: Literal["total"] = "total"
class Sums: ...
class Model: ...

def law(spec: Spec) -> Law:
    return Law(LawKind.EXACT)
def empty(spec: Spec) -> Sums:
    return Sums()
def accumulate(spec: Spec, partial: Sums, batch: Batch, anchor: None = None) -> Sums:
    return partial
def merge(spec: Spec, a: Sums, b: Sums) -> Sums:
    return a
def scale(spec: Spec, summary: Sums, factor: float) -> Sums:
    return summary
def weight(summary: Sums) -> float:
    return 0.0
def derive(spec: Spec, model_spec: Total, state: Sums, sample: Batch | None) -> Model:
    return Model()
def predict(model: Model, batch: Batch) -> Predictions:
    return {"score": np.zeros(len(batch))}
def measure(model: Model, batch: Batch) -> Any:
    return None

SUMS: Algorithm[Spec, Sums, Sums, None] = Algorithm(
    name="sums:SUMS", version=1, spec=Spec, partial=Sums, law=law, empty=empty, accumulate=accumulate, merge=merge,
    scale=scale, weight=weight, models={"total": ModelKind(Total, Model, derive, predict, measure)},
)
"""
WRONG = {
    "accumulate": ("partial: Sums, batch: Batch, anchor", "batch: Batch, partial: Sums, anchor"),
    "merge": ("def merge(spec: Spec, a: Sums, b: Sums)", "def merge(a: Sums, spec: Spec, b: Sums)"),
    "scale": ("summary: Sums, factor: float", "factor: float, summary: Sums"),
    "weight": (
        "def weight(summary: Sums) -> float:\n    return 0.0",
        "def weight(summary: Sums) -> str:\n    return ''",
    ),
    "derive": ("model_spec: Total, state: Sums", "state: Sums, model_spec: Total"),
    "predict": ("def predict(model: Model, batch: Batch)", "def predict(batch: Batch, model: Model)"),
}


def test_mypy_finds_swapped_arguments(tmp_path: Path) -> None:
    """One file per mistake, and one without: all checked in one run, behind one that fills the cache."""
    files = {}
    for name, (right, wrong) in {"none": ("", ""), **WRONG}.items():
        assert right in PLAIN
        files[name] = tmp_path / f"of_{name}.py"
        files[name].write_text(textwrap.dedent(PLAIN.replace(right, wrong, 1) if right else PLAIN), encoding="utf-8")
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache" / "contract")]
    # In the run that analyses the protocols themselves, mypy takes any function for `Predict[Any]` and `Measure[Any]`.
    api.run([*config, str(files["none"])])
    said, problems, _ = api.run([*config, *map(str, files.values())])
    assert not problems
    errors = [line for line in said.splitlines() if ": error: " in line]
    at = {name: [line for line in errors if f"of_{name}.py" in line] for name in files}
    assert not at.pop("none"), said
    for name, lines in at.items():
        assert any(re.search(rf'Argument (\d+|"{name}") to "(Algorithm|ModelKind)"', line) for line in lines), said


def test_an_algorithm_whose_state_is_a_partial_needs_no_more() -> None:
    assert pca.PCA.state is pca.PCA.partial
    assert pca.PCA.init is pca.PCA.empty
    spec, rows = pca.Spec(n_features=2), Batch.dense([[1.0, 2.0], [3.0, 5.0]])
    partial = pca.PCA.accumulate(spec, pca.PCA.empty(spec), rows, None)
    state = pca.PCA.fold(spec, pca.PCA.init(spec), partial, None)
    assert pca.PCA.weight(pca.PCA.fold(spec, state, partial, rows)) == 4.0
    assert kmeans.KMEANS.fold is not pca.PCA.fold  # its own refuses what is not finite


@pytest.mark.parametrize("missing", ["init", "fold"])
@pytest.mark.parametrize("algorithm", [linear.ADAGRAD, fm.FM])
def test_a_state_of_its_own_needs_its_functions(algorithm: object, missing: str) -> None:
    with pytest.raises(InvalidValue, match=f"Algorithm.{missing} is required where state is not the partial"):
        dataclasses.replace(algorithm, **{missing: None})
