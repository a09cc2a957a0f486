import json
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from beam_ml import Batch, Registry, fit, load, pca
from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner, encode_learner
from beam_ml.cli import main
from beam_ml.cli.group import COMMANDS
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.registry import new_round_id

SPEC = pca.Spec(n_features=3)


def learner(seed: int, rows: int = 100) -> Learner:
    return fit(SPEC, [Batch.dense(np.random.default_rng(seed).normal(size=(rows, 3)))])


def publish(
    where: Path, name: str, one: Learner, accepted: bool = True, reason: str = "auc is 0.5, must be >= 0.9"
) -> None:
    store = Registry(where)
    head = store.head_number(name)
    metrics = {"auc": 0.5 + head / 10, "auc_se": 0.0125, "log_loss": 0.1}
    facts = {
        "spec": SPEC.to_dict(),
        "progress": one.progress.summary(),
        "champion": "m",
        "refreshes": [{"number": head + 1, "progressive": {"m": metrics}}],
        "features": {"numeric": ["a", "b", "c"]},
    }
    reasons = () if accepted else (reason,)
    payloads = {"learner": encode_learner(pca.PCA, one)}
    parent = head or None
    store.publish(
        name, payloads, parent=parent, round_id=new_round_id(head), facts=facts, serve=accepted, reasons=reasons
    )


@pytest.fixture
def where(tmp_path: Path) -> Path:
    root = tmp_path / "registry"
    publish(root, "north", learner(0))
    publish(root, "north", learner(1, 300))
    publish(root, "north", learner(2), accepted=False)
    publish(root, "south", learner(3))
    return root


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(a) for a in arguments], env={"COLUMNS": "250"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_ls(where: Path) -> None:
    names = run("registry", "ls", where).output
    assert "north" in names
    assert "south" in names
    lines = run("registry", "ls", where, "north").output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["v1", "v2", "v3"]
    assert lines[1].endswith("accepted")
    assert lines[2].endswith("served")
    assert "0.6000" in lines[2]
    assert "refused: auc is 0.5, must be >= 0.9" in lines[3]
    assert "0.7000 ±0.0125" in lines[3]
    assert "0.1000 ±" not in lines[3]


def test_ls_shows_a_pin(where: Path) -> None:
    assert "pinned" not in run("registry", "ls", where).output
    run("registry", "serve", where, "north", "v1")
    assert "v1 (pinned)" in run("registry", "ls", where).output
    lines = run("registry", "ls", where, "north").output.splitlines()
    assert lines[1].endswith("served, pinned")
    assert lines[2].endswith("not served: v1 is pinned")
    (where / "north" / "v1" / "manifest.json").unlink()
    assert "(v1 is pinned)" in run("registry", "ls", where).output


def test_serving_a_refused_version_says_so(where: Path) -> None:
    said = run("registry", "serve", where, "north", "v3").output
    assert "v3 is served, pinned, though refused: auc is 0.5, must be >= 0.9" in said
    assert "Newer versions are not served until" in said
    assert "refused" not in run("registry", "serve", where, "north", "--newest").output
    found = json.loads(run("registry", "serve", where, "north", "v3", "--json").output)
    assert (found["served"], found["pinned"], found["accepted"]) == (3, 3, False)


@pytest.mark.parametrize("columns", ["80", "60", "40"])
def test_ls_is_one_line_per_version_at_any_width(where: Path, columns: str) -> None:
    result = CliRunner().invoke(main, ["registry", "ls", str(where), "north"], env={"COLUMNS": columns})
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["v1", "v2", "v3"]
    assert max(map(len, lines)) <= int(columns)
    assert "served" in lines[2]
    assert "refused" in lines[3]
    assert "0.7000 ±0.0125" in lines[3] or int(columns) < 80


def test_ls_in_a_pipe_cuts_nothing(where: Path) -> None:
    publish(where, "north", learner(4), accepted=False, reason="x" * 300)
    result = CliRunner().invoke(main, ["registry", "ls", str(where), "north"], env={"COLUMNS": ""})
    assert result.output.splitlines()[-1].endswith("x" * 300)


def test_every_command_has_json(where: Path) -> None:
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        leaves = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        assert all("--json" in [o for p in leaf.params for o in p.opts] for leaf in leaves if leaf), name
    names = json.loads(run("registry", "ls", where, "--json").output)
    assert names[0] == {"name": "north", "versions": 3, "served": 2, "pinned": None, "rows": 100}
    versions = json.loads(run("registry", "ls", where, "north", "--json").output)
    assert [one["served"] for one in versions] == [False, True, False]
    assert versions[2]["reasons"] == ["auc is 0.5, must be >= 0.9"]
    assert json.loads(run("registry", "diff", where, "north", "1", "2", "--json").output)["progress.rows"] == {
        "a": 100,
        "b": 300,
    }
    assert json.loads(run("registry", "show", where, "north", "--json").output)["number"] == 3
    setting = '{"kind": "components", "n_components": 2}'
    assert json.loads(run("derive", where, "north", "--model", setting, "--out", "d", "--json").output)["version"] == 1
    assert json.loads(run("merge", where, "north", "south", "--out", "m", "--json").output)["name"] == "m"


def test_ls_steps_over_a_damaged_version(where: Path) -> None:
    path = where / "north" / "v2" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"300", b"301", 1))
    lines = run("registry", "ls", where, "north").output.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["v1", "v2", "v3"]
    assert "damaged" in lines[2]


def test_ls_reads_manifests_alone(where: Path) -> None:
    for path in (where / "south").rglob("*.safetensors"):
        path.unlink()
    names = json.loads(run("registry", "ls", where, "--json").output)
    assert [(one["name"], one["rows"]) for one in names] == [("north", 100), ("south", 100)]


def test_merge_refuses_learners_of_different_columns(where: Path) -> None:
    store = Registry(where)
    facts = {"features": {"numeric": ["c", "b", "a"]}}
    payload = {"learner": encode_learner(pca.PCA, learner(9))}
    store.publish("odd", payload, parent=None, round_id=new_round_id(0), facts=facts)
    assert "trained on different columns" in run("merge", where, "north", "odd", "--out", "x", code=1).output


def test_show(where: Path) -> None:
    assert json.loads(run("registry", "show", where, "north").output)["number"] == 3
    assert json.loads(run("registry", "show", where, "north", "v1").output)["number"] == 1


def test_diff(where: Path) -> None:
    out = run("registry", "diff", where, "north", "v1", "2").output
    assert "progress.rows" in out
    assert "+200" in out
    assert "metrics.auc" in out


def test_serve_rolls_back_and_forward(where: Path) -> None:
    assert "v1 is served" in run("registry", "serve", where, "north", "v1").output
    served = Registry(where).served("north")
    assert served is not None
    assert served.number == 1
    assert "v2 is served" in run("registry", "serve", where, "north", "--newest").output
    assert "either a version or --newest" in run("registry", "serve", where, "north", code=1).output


def test_derive_to_a_file_and_to_a_name(where: Path, tmp_path: Path) -> None:
    setting = '{"kind": "components", "n_components": 2}'
    path = tmp_path / "m.safetensors"
    run("derive", where, "north", "--version", "v2", "--model", setting, "--out", path)
    model = load(path)
    assert isinstance(model, Model)
    assert model.facts["features"] == {"numeric": ["a", "b", "c"]}
    assert model.facts["from"] == "north v2"
    run("derive", where, "north", "--model", setting, "--out", "small")
    store = Registry(where)
    assert store.head_number("north") == 3
    assert sorted(store.manifest("small", 1).files) == ["learner", "models/derived"]
    assert "must be a new name" in run("derive", where, "north", "--model", setting, "--out", "small", code=1).output


def test_merge(where: Path, tmp_path: Path) -> None:
    run("merge", where, "north:v2", "south", "--out", "both")
    merged = decode_learner(Registry(where).read("both"), find)
    assert merged.progress.rows == 400
    again = run("merge", where, "both", "south", "--out", "thrice", code=1).output
    assert "must not share rows" in again
    run("merge", where, "both", "south", "--allow-overlap", "--out", tmp_path / "l.safetensors")
    assert load(tmp_path / "l.safetensors").progress.rows == 500  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["registry", "show", "WHERE", "north", "v9"], "VersionNotFound: north has no version 9"),
        (
            ["registry", "show", "WHERE", "east"],
            "VersionNotFound: The registry has no version of east. Its names: north",
        ),
        (["registry", "ls", "WHERE", "nort"], "The registry has no version of nort. Did you mean 'north'?"),
        (["registry", "serve", "WHERE", "nort", "--newest"], "The registry has no version of nort."),
        (["registry", "diff", "WHERE", "nort", "1", "2"], "Did you mean 'north'?"),
        (["registry", "show", "WHERE", "north", "newest"], "version must be a number such as 12 or v12; got 'newest'"),
        (["registry", "ls", "NOWHERE"], "RegistryError"),
        (["derive", "WHERE", "north", "--model", "{", "--out", "x"], "--model must be JSON"),
        (["derive", "WHERE", "north", "--model", "[]", "--out", "x"], "--model must be a JSON object"),
        (["derive", "WHERE", "north", "--model", '{"kind": "clusters"}', "--out", "x"], "model.kind must be one of"),
    ],
)
def test_one_sentence_and_code_1(where: Path, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    given = [str(where) if a == "WHERE" else str(tmp_path / "none") if a == "NOWHERE" else a for a in arguments]
    output = run(*given, code=1).output
    assert sentence in output
    assert "Traceback" not in output
