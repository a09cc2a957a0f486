"""`pipelines` is a thin layer: its modules run the commands of the package, and its jobs are found by them."""

import ast
import importlib
from pathlib import Path

import pytest

from beam_ml.cli.jobs import SHIPPED, find_job

FOLDER = Path(__file__).parents[2] / "pipelines"
MODULES = sorted(path for path in FOLDER.glob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_runs_the_command_of_its_name(path: Path) -> None:
    module = importlib.import_module(f"pipelines.{path.stem}")
    assert module.main is importlib.import_module(f"beam_ml.cli.{path.stem}").main
    defined = (ast.FunctionDef, ast.ClassDef)
    assert not [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, defined)]


def test_the_commands_of_a_pipeline_are_all_there() -> None:
    assert {path.stem for path in MODULES} == {"demo", "evaluate", "replay", "score", "simulate", "stream", "train"}


def test_jobs_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert SHIPPED == FOLDER
    assert find_job("jobs/fraud_replay.toml") == FOLDER / "jobs" / "fraud_replay.toml"
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "fraud_replay.toml").touch()
    assert find_job("jobs/fraud_replay.toml") == Path("jobs/fraud_replay.toml")
