"""The group of commands: all are there, none hides behind a folder of the user's, and none imports more than it needs."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from beam_ml.cli import main
from beam_ml.cli.group import COMMANDS
from beam_ml.cli.simulate import write_days

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_found_and_says_what_it_takes(name: str) -> None:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.output
    assert COMMANDS[name].help in CliRunner().invoke(main, ["--help"], terminal_width=200).output


def test_a_misspelt_command_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(main, ["trian"])
    assert result.exit_code == 2
    assert "There is no command 'trian'. Did you mean 'train'?" in result.output
    assert "Commands: demo, new-job, inspect, convert" in CliRunner().invoke(main, ["zzz"], terminal_width=300).output


def test_a_folder_named_pipelines_hides_no_command(tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "__init__.py").write_text("raise RuntimeError('the project of the user')")
    list(write_days(str(tmp_path / "data"), 1, 100, 50))
    command = [sys.executable, "-m", "beam_ml.cli", "train", "jobs/fraud_demo.toml", "--close"]
    command += ["--source", "data", "--registry", "registry"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "registry" / "fraud-demo" / "v1" / "manifest.json").exists()


def test_commands_about_versions_do_not_wait_for_beam() -> None:
    code = "import sys; from beam_ml.cli import main; main(['registry', 'ls', '--help'], standalone_mode=False); "
    code += "sys.exit('apache_beam' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT).returncode == 0
