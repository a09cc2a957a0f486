"""Mistakes of users end in one sentence on standard error, never in a traceback, wherever they are noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from beam_ml import Batch, fit, load, pca, save
from beam_ml.cli import main
from beam_ml.errors import CorruptArtefact, InvalidValue, UnreadableInput

ROOT = Path(__file__).parents[2]
JOB = """
name = "n"
registry = "r"
features = { numeric = ["COLUMN"], label = "y" }
spec.algorithm = "linear.newton"
models.m.kind = "classifier"
source.path = "x.csv"
"""
REPLAY = ["replay", "x.csv", "--brokers", "127.0.0.1:1", "--topic", "t", "--time", "ts"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("ts,a,y\n2026-01-01T00:00:00,1,0\n2026-01-01T00:00:01,2,1\n")
    (tmp_path / "job.toml").write_text(JOB.replace("COLUMN", "a"))
    (tmp_path / "wrong.toml").write_text(JOB.replace("COLUMN", "nope"))
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["train", "job.toml", "--runner=NoSuch"], "--runner must be one that Beam knows"),
        (["train", "job.toml", "--runner=no.such.Runner"], "--runner must be one that Beam knows"),
        (["train", "job.toml", "--direct_num_workers=x"], "options must be Beam's; got --direct_num_workers=x"),
        (["train", "job.toml", "--registry", "file"], "The registry at file cannot be opened"),
        (["train", "."], "must be readable TOML"),
        ([*REPLAY, "--columns", "nope"], "must have a column 'nope'"),
        ([*REPLAY, "--key", "nope"], "must have the column of --key, 'nope'"),
        (["demo", "--folder", "file", "--days", "1"], "file cannot be used"),
        (["simulate", "file"], "There is no command 'simulate'"),
        (["demo", "--days", "0"], "0 is not in the range x>=1"),
        (["stream", "job.toml", "--shards", "0"], "0 is not in the range x>=1"),
        (["registry", "show", "r", "n", "v0"], "cannot be opened"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_a_mistake_is_one_sentence(here: Path, words: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code in (1, 2), (result.output, result.exception)
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_column_that_is_not_there_leaves_no_traceback_in_the_log(here: Path) -> None:
    """Beam logs what a step raised, with its traceback, from the thread of the worker: seen in a process of its own."""
    command = [sys.executable, "-m", "beam_ml.cli", "train", "wrong.toml"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("MissingColumn: ")
    assert "must have a column 'nope'; got ['ts', 'a', 'y']" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("version", ["v0", "0", "-1", "²", "9" * 5000, "newest"])
def test_odd_versions_are_refused(here: Path, version: str) -> None:
    train = CliRunner().invoke(main, ["train", "job.toml"])
    assert train.exit_code == 0, train.output
    result = CliRunner().invoke(main, ["registry", "show", "r", "n", "--", version])
    assert result.exit_code == 1
    assert "version must be a number such as 12 or v12" in result.stderr


def test_save_and_load_name_the_path(here: Path) -> None:
    learner = fit(pca.Spec(n_features=1), [Batch.dense([[0.0], [1.0]])])
    with pytest.raises(InvalidValue, match=r"save.path must be a file in a folder .* got gone/a.safetensors"):
        save(learner, "gone/a.safetensors")
    with pytest.raises(InvalidValue, match=r"save\.path"):
        save(learner, "file/a.safetensors")
    with pytest.raises(UnreadableInput, match=r"gone\.safetensors cannot be read: No such file"):
        load("gone.safetensors")
    with pytest.raises(CorruptArtefact, match=r"^file: "):
        load("file")
