"""No text of a user's is taken for markup, wherever it is printed, and errors go to standard error."""

import ast
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from beam_ml.beam.rounds import Round
from beam_ml.cli import main
from beam_ml.cli.console import Screen
from beam_ml.cli.report import RoundTable
from beam_ml.core.gate import Verdict
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Refresh
from beam_ml.registry import Registry

ROOM = Path(__file__).parents[2] / "beam_ml" / "cli"
ODD = ("tx_[a-c]", "[/x]", "[bold]x[/bold]", ":smile:", "[link=x]")
JOB = "jobs/fraud_demo.toml"


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "words",
    [
        ["train", JOB, "--source", "ODD.parquet"],
        ["train", "ODD.toml"],
        ["stream", "ODD.toml"],
        ["replay", "ODD.csv", "--brokers", "b:1", "--topic", "t", "--time", "ts"],
        ["registry", "ls", "ODD"],
        ["score", "ODD.safetensors", "--source", "ODD.csv", "--out", "x"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_an_error_is_printed_as_it_is_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], odd: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, [word.replace("ODD", odd) for word in words])
    assert result.exit_code == 1, result.exception
    assert odd in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_reasons_paths_and_names_in_tables_are_printed_as_they_are(tmp_path: Path) -> None:
    said = io.StringIO()
    job: Any = SimpleNamespace(name="n", registry="[/x]", source=SimpleNamespace(where="tx_[a-c]"))
    manifest: Any = SimpleNamespace(name="n", number=1, verdict=Verdict(False, ("the rule [/x] is :smile:",)))
    table = RoundTable(Screen(file=said, width=300), job, Registry(tmp_path))
    table.end(1.0)
    refresh = Refresh(1, None, Progress(rows=3), {}, {}, None, Verdict(False, ("the rule [/x] is :smile:",)), {})
    table.show(Round(manifest, ((refresh, 0.1),), Progress(rows=3, rejected={"missing category [i]": 1}), 0, 1.0, 0.5))
    table.end(1.0)
    for text in ("Nothing new to read in tx_[a-c].", "the rule [/x] is :smile:", "missing category [i]", "[/x]/n"):
        assert text in said.getvalue()


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.name)
def test_one_place_decides_how_text_is_printed(path: Path) -> None:
    """Rich's console, and its texts of markup, are made in one module alone."""
    taken = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    if path.name != "console.py":
        assert not taken & {"rich.console.Console", "rich.print", "rich.markup.escape"}
        assert "from_markup" not in path.read_text(encoding="utf-8")
