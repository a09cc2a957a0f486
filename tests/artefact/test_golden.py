"""Golden bytes: artefacts of every released version decode to the literals they were made from, and are made again equal.

``BEAM_ML_WRITE_GOLDEN=1 pytest tests/artefact/test_golden.py`` writes those that are missing; a released one never changes.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_ml.algorithms import ALGORITHMS, find
from beam_ml.artefact import envelope, records
from tests.artefact import literals

FOLDER = Path(__file__).parent / "golden"
CASES: dict[str, Callable[[], bytes]] = {
    **{f"learner-{name}": lambda name=name: records.encode_learner(*literals.learner(name)) for name in literals.SPECS},
    **{f"model-{name}": lambda name=name: records.encode_model(*literals.model(name)) for name in literals.MODELS},
    **{
        f"accumulation-{name}": lambda name=name: records.encode_accumulation(
            literals.learner(name)[0],
            literals.learner(name)[1].spec,
            literals.accumulation(literals.learner(name)[0], literals.learner(name)[1].spec),
        )
        for name in literals.SPECS
    },
}
VERSIONS = sorted(path.name for path in FOLDER.iterdir()) if FOLDER.exists() else []


def test_every_algorithm_and_model_kind_has_a_literal() -> None:
    assert set(literals.SPECS) == set(ALGORITHMS)
    assert set(literals.MODELS) == {f"{name}.{kind}" for name in ALGORITHMS for kind in find(name).models}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", VERSIONS or ["0.1.0"])
def test_golden_bytes(version: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = FOLDER / version / f"{case}.safetensors"
    monkeypatch.setattr(envelope, "library_version", lambda: version)
    made = CASES[case]()
    if os.environ.get("BEAM_ML_WRITE_GOLDEN") and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made)
    stored = path.read_bytes()
    kind = case.partition("-")[0]
    if kind == "learner":
        again = records.encode_learner(find(case.partition("-")[2]), records.decode_learner(stored, find))
    elif kind == "model":
        one = records.decode_model(stored, find)
        again = records.encode_model(find(one.spec.algorithm), one)
    else:
        spec, value = records.decode_accumulation(stored, find)
        again = records.encode_accumulation(find(spec.algorithm), spec, value)
    assert made == stored
    assert again == stored
