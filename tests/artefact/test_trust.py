"""Stored bytes have nothing imported: only built-in algorithms are taken, and those that the caller names."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import SetupOptions
from click.testing import CliRunner
from toy_mean import MeanSpec

import beam_ml
from beam_ml import Batch, Learner, fit, load, save
from beam_ml.algorithms import VARIABLE, at_hand, find, finder
from beam_ml.artefact import records
from beam_ml.artefact.envelope import decode, encode
from beam_ml.beam import Accumulate
from beam_ml.beam.wire.coders import AccumulationCoder, LearnerCoder, ModelCoder
from beam_ml.beam.wire.elements import Slice
from beam_ml.cli import main
from beam_ml.errors import ArtefactError, InvalidValue, MissingAlgorithm
from beam_ml.formats.messages import decoder
from beam_ml.predictor import Predictor
from beam_ml.registry import Registry
from tests.artefact import literals

EVIL = ["unittest.__main__:x", "evil_module:RECORD", "test.__main__:x", "os:system", "antigravity:x", "this:s"]
NAME = "toy_mean:TOY_MEAN"


def renamed(data: bytes, name: Any) -> bytes:
    """Return an artefact of pca as one of an algorithm of that name, with a right digest."""
    whole = decode(data)
    return encode(whole.kind, {**whole.meta, "algorithm": name}, whole.arrays)


LEARNER = records.encode_learner(*literals.learner("pca"))
MODEL = records.encode_model(*literals.model("pca.components"))
PCA, SPEC = find("pca"), literals.learner("pca")[1].spec
ACCUMULATION = records.encode_accumulation(PCA, SPEC, literals.accumulation(PCA, SPEC))


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a module where it can be imported that leaves a mark when it is."""
    mark = tmp_path / "imported"
    (tmp_path / "evil_module.py").write_text(f"open({str(mark)!r}, 'w').close()\nraise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    return mark


@pytest.fixture
def mean(tmp_path: Path) -> Path:
    """Return a learner of an algorithm outside the package, in a file."""
    path = tmp_path / "mean.safetensors"
    save(fit(MeanSpec(n_features=1), [Batch.dense([[1.0], [2.0]])]), path)
    return path


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("data", [LEARNER, MODEL], ids=["learner", "model"])
def test_a_file_has_nothing_imported(data: bytes, name: str, evil: Path, tmp_path: Path) -> None:
    before = set(sys.modules)
    path = tmp_path / "forged.safetensors"
    path.write_bytes(renamed(data, name))
    with pytest.raises(MissingAlgorithm, match="not built in and was not named: nothing was imported"):
        load(path)
    with pytest.raises(ArtefactError):
        Predictor(path)
    assert not evil.exists()
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", EVIL)
def test_an_element_has_nothing_imported(name: str, evil: Path) -> None:
    before = set(sys.modules)
    for coder, data in ((LearnerCoder(), LEARNER), (ModelCoder(), MODEL)):
        with pytest.raises(MissingAlgorithm):
            coder.decode(renamed(data, name))
    with pytest.raises(MissingAlgorithm):
        AccumulationCoder().decode(renamed(ACCUMULATION, name))
    assert not evil.exists()
    assert set(sys.modules) == before


@pytest.mark.parametrize("name", EVIL)
def test_a_registry_has_nothing_imported(name: str, evil: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    payloads = {"learner": renamed(LEARNER, name), "models/m": renamed(MODEL, name)}
    registry.publish("job", payloads, parent=None, round_id="1-a", facts={"champion": "m"})
    with pytest.raises(MissingAlgorithm):
        Predictor(registry, "job")
    out = str(tmp_path / "out.safetensors")
    model = '{"kind": "components", "n_components": 1}'
    found = CliRunner().invoke(main, ["derive", str(tmp_path / "registry"), "job", "--model", model, "--out", out])
    assert found.exit_code == 1
    assert "MissingAlgorithm" in found.output
    assert not evil.exists()


def test_a_name_of_no_module_is_damage() -> None:
    for name in ("no.such", "..:x", ":", "a b:c", "pca:", 5, None, ["pca"], {}, "pca\0:x", "__import__('os'):x"):
        with pytest.raises(ArtefactError):
            records.decode_learner(renamed(LEARNER, name), finder())


def test_what_the_caller_names_is_taken(mean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingAlgorithm):
        load(mean)
    with pytest.raises(MissingAlgorithm):
        load(mean, algorithms=["toy_sgd:TOY_SGD"])
    for named in ([NAME], NAME, iter([NAME])):
        found = load(mean, algorithms=named)
        assert isinstance(found, Learner)
        assert found.progress.rows == 2
    assert load(mean, algorithms=[find(NAME)]).spec == found.spec
    assert load(mean, algorithms=NAME).spec == found.spec
    monkeypatch.setenv(VARIABLE, f"other:THING, {NAME}")
    assert load(mean).spec == found.spec


def test_a_model_of_ones_own_is_served_when_named(mean: Path, tmp_path: Path) -> None:
    learner = load(mean, algorithms=[NAME])
    assert isinstance(learner, Learner)
    path = tmp_path / "model.safetensors"
    save(beam_ml.derive(learner, find(NAME).models["centre"].spec()), path)
    with pytest.raises(MissingAlgorithm):
        Predictor(path)
    assert Predictor(path, algorithms=[NAME]).model.spec == learner.spec


def test_the_command_takes_what_it_is_told(mean: Path, tmp_path: Path) -> None:
    registry, out = Registry(tmp_path / "registry"), str(tmp_path / "out.safetensors")
    registry.publish("job", {"learner": mean.read_bytes()}, parent=None, round_id="1-a")
    words = ["derive", str(tmp_path / "registry"), "job", "--model", '{"kind": "centre"}', "--out", out]
    assert CliRunner().invoke(main, words).exit_code == 1
    found = CliRunner().invoke(main, ["--algorithm", NAME, *words])
    assert found.exit_code == 0, found.output


def test_a_spec_of_another_algorithm_than_the_header_says_is_damage(mean: Path) -> None:
    whole = decode(mean.read_bytes())
    data = encode("learner", {**whole.meta, "algorithm": "tests.toy.toy_mean:TOY_MEAN"}, whole.arrays)
    with pytest.raises(ArtefactError, match="must hold a spec of"):
        records.decode_learner(data, lambda name: dataclasses.replace(find(NAME), name=name))


def test_elements_are_of_what_the_process_has_imported(mean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LearnerCoder().decode(mean.read_bytes()).progress.rows == 2
    monkeypatch.delitem(sys.modules, "toy_mean")
    with pytest.raises(MissingAlgorithm):
        LearnerCoder().decode(mean.read_bytes())
    assert "toy_mean" not in sys.modules


def test_a_module_that_makes_up_its_attributes_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    module = type(sys)("makes_up")
    module.__getattr__ = asked.append  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "makes_up", module)
    with pytest.raises(MissingAlgorithm):
        at_hand("makes_up:anything")
    assert asked == []


def test_workers_import_the_algorithms_that_a_pipeline_names() -> None:
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create([(0, Slice(Batch.dense([[1.0]]), 0))]) | Accumulate(find(NAME).spec(n_features=1))
    plugins = pipeline.options.view_as(SetupOptions).beam_plugins
    assert plugins == ["beam_ml.beam.wire.coders", "toy_mean"]


@pytest.mark.parametrize("name", ["evil_module:x", "no_such_module:x", "json:no_such", "..:x"])
def test_a_module_that_ends_the_process_is_refused(name: str, evil: Path) -> None:
    """Named by the caller, it is imported; what it does then becomes a sentence."""
    for import_it in (find, decoder):
        with pytest.raises(InvalidValue, match="must name an importable"):
            import_it(name)
