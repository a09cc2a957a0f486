"""The wire contracts in `schemas/`."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from toy_mean import TOY_MEAN

from beam_ml import schemas
from beam_ml.algorithms import ALGORITHMS, find
from beam_ml.registry import Registry, manifest_schema

ROOT = Path(__file__).parents[1] / "schemas"


def test_the_committed_contracts_are_what_the_code_gives(capsys: pytest.CaptureFixture[str]) -> None:
    assert schemas.main(["--check"]) == 0, capsys.readouterr().err


def test_every_algorithm_has_its_contracts() -> None:
    expected = {"manifest.json"}
    for name in ALGORITHMS:
        expected |= {f"learner/{name}.json", *(f"model/{name}.{kind}.json" for kind in find(name).models)}
    assert {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.json")} == expected


def test_writing_then_checking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tmp_path)]
    assert schemas.main(["--check", *root]) == 1
    assert "manifest.json is missing." in capsys.readouterr().err
    (tmp_path / "learner").mkdir()
    (tmp_path / "learner" / "forgotten.json").write_text("{}")
    assert schemas.main(root) == 0
    assert not (tmp_path / "learner" / "forgotten.json").exists()
    assert schemas.main(["--check", *root]) == 0
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "model" / "old.json").write_text("{}")
    assert schemas.main(["--check", *root]) == 1
    message = capsys.readouterr().err
    assert message == (
        f"{tmp_path}/manifest.json is not what the code generates.\n{tmp_path}/model/old.json belongs to no algorithm.\n"
    )


def test_a_contract_names_arrays_and_specs() -> None:
    files = {path: json.loads(text) for path, text in schemas.schemas([TOY_MEAN]).items()}
    contract = files[f"learner/{TOY_MEAN.name}.json"]
    assert (contract["algorithm"], contract["algorithm_version"]) == (TOY_MEAN.name, TOY_MEAN.version)
    assert contract["spec"]["properties"]["n_features"]["minimum"] == 1
    for arrays in (contract["state"], contract["partial"]):
        for array in arrays.values():
            assert np.dtype(array["dtype"])
            assert isinstance(array["axes"], list)
    assert {path for path in files if path.startswith("model/")} == {
        f"model/{TOY_MEAN.name}.{kind}.json" for kind in TOY_MEAN.models
    }


def test_a_published_manifest_keeps_the_contract() -> None:
    registry = Registry("memory://")
    facts = {"refreshes": [{"refresh": 1}], "next": {"files": {"cursor": "a"}}, "spec": {"algorithm": "pca"}}
    registry.publish("fraud", {"learner": b"x"}, parent=None, round_id="1-a", facts=facts, serve=False, reasons=["r"])
    stored = json.loads(registry.objects.get("fraud/v1/manifest.json") or b"")
    jsonschema.validate(stored, manifest_schema())
    del stored["manifest"]["number"]
    with pytest.raises(jsonschema.ValidationError, match="'number' is a required property"):
        jsonschema.validate(stored, manifest_schema())
