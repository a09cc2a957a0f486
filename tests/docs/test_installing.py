"""What is offered for installing is used, versions are shown, and `make` says what it does and how it ended."""

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import beam_ml
from beam_ml.cli import main

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORTED_AS = {
    "apache-beam": "apache_beam",
    "kafka-python": "kafka",
    "pillow": "PIL",
    "pysimdjson": "simdjson",
    "scikit-learn": "sklearn",
}
TOOLS = {"beam_ml", "mkdocs-material", "mypy", "ruff", "pytest", "pytest-cov", "pytest-timeout", "pytest-xdist"}
"""Run, or loaded by what runs them: never imported."""


def imports() -> set[str]:
    found = set()
    for folder in ("beam_ml", "tests", "integration", "docs"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.split(".")[0])
                elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
                    found |= {str(one.value).split(".")[0] for one in node.args if isinstance(one, ast.Constant)}
    return found


def test_nothing_is_offered_that_nothing_imports() -> None:
    offered = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[>=<]", one)[0] for one in offered} - TOOLS
    assert "numba" in names
    assert {IMPORTED_AS.get(name, name) for name in names} - imports() - {"cramjam"} == set()


def test_the_version_is_shown() -> None:
    assert beam_ml.__version__ == PROJECT["version"]
    assert PROJECT["version"] in CliRunner().invoke(main, ["--version"]).output


def make(*words: str) -> subprocess.CompletedProcess[str]:
    stamps = ["-o", ".venv/run.stamp", "-o", ".venv/dev.stamp"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    command = ["make", *stamps, *words]  # not as a part of the make that may be running these tests
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", [(), ("help",)])
def test_make_says_what_there_is_to_make(words: tuple[str, ...]) -> None:
    said = make(*words).stdout
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)[0].split()
    assert re.findall(r"^make ([a-z]+)  +\S", said, re.MULTILINE) == phony


@pytest.mark.parametrize(("code", "result"), [(0, "passed"), (1, "FAILED")])
def test_make_test_says_how_long_it_takes_and_ends_with_its_result(tmp_path: Path, code: int, result: str) -> None:
    (tmp_path / "python").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "python").chmod(0o755)
    done = make("test", f"BIN={tmp_path}")
    assert "10 to 30 minutes" in done.stdout.splitlines()[0]
    assert done.stdout.splitlines()[-1].startswith(f"make test: {result} after 0 minutes")
    assert (done.returncode == 0) is (code == 0)
