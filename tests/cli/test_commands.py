"""The commands, run as a person runs them."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from beam_ml.algorithms import find
from beam_ml.artefact.records import decode_learner
from beam_ml.cli import demo, train
from beam_ml.cli.served import served
from beam_ml.cli.simulate import write_days
from beam_ml.registry import Registry

JOB = "jobs/fraud_demo.toml"


def rows(registry: Path, name: str = "fraud-demo") -> int:
    found = Registry(registry).latest(name)
    return 0 if found is None else decode_learner(found.data, find).progress.rows


def test_once_and_again(tmp_path: Path) -> None:
    files = list(write_days(str(tmp_path / "data"), 3, 400, 200))
    where = ["--source", str(tmp_path / "data"), "--registry", str(tmp_path / "registry")]
    first = CliRunner().invoke(train.main, [JOB, "--once", *where])
    assert first.exit_code == 0, first.output
    assert "2024-01-02" in first.output
    before = rows(tmp_path / "registry")
    again = CliRunner().invoke(train.main, [JOB, "--once", "--close", *where])
    assert again.exit_code == 0, again.output
    assert "2024-01-03" in again.output
    assert rows(tmp_path / "registry") > before > 0
    assert len(files) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.toml"], "UnreadableInput: job file none.toml must be readable TOML"),
        ([JOB, "--source", "nowhere"], "NoInput: nowhere must name input files"),
        ([JOB, "--source", "nowhere", "--name", "a b"], "InvalidValue: job.name"),
        (
            [JOB, "--source", "nowhere", "--onse"],
            "InvalidValue: options must be this command's (see --help) or Beam's; got --onse",
        ),
        (
            [JOB, "--source", "nowhere", "--follow", "--close"],
            "InvalidValue: close folds the windows still open at the end",
        ),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(train.main, [*arguments, "--registry", str(tmp_path / "r")], env={"COLUMNS": "300"})
    assert result.exit_code == 1
    assert sentence in result.output
    assert "Traceback" not in result.output


def test_follow_picks_up_new_files_whole_and_once_and_ends_on_sigterm(tmp_path: Path) -> None:
    staged, data, registry = tmp_path / "staged", tmp_path / "data", tmp_path / "registry"
    files = [Path(path) for path in write_days(str(staged), 3, 400, 200)]
    data.mkdir()
    command = [sys.executable, "-m", "pipelines.train", JOB, "--follow"]
    command += ["--source", str(data), "--registry", str(registry)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for number, file in enumerate(files, start=1):
            (data / f".{file.name}.tmp").write_bytes(file.read_bytes()[:100])
            shutil.move(file, data / file.name)
            until = time.monotonic() + 60
            while Registry(registry).head_number("fraud-demo") < number and time.monotonic() < until:
                assert process.poll() is None, process.stdout.read() if process.stdout else ""
                time.sleep(0.1)
        assert Registry(registry).head_number("fraud-demo") == 3
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "SIGTERM: finishing this round, then ending." in output
    assert [file for file in Registry(registry).names()] == ["fraud-demo"]
    assert Registry(registry).manifest("fraud-demo", 3).next["files"]["done"] == 3


def test_demo(tmp_path: Path) -> None:
    arguments = ["--folder", str(tmp_path / "demo"), "--days", "14", "--customers", "1500", "--terminals", "400"]
    result = CliRunner().invoke(demo.main, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "average precision (higher)" in result.output
    assert "beam-ml registry ls" in result.output
    last = Registry(tmp_path / "demo" / "registry").head("fraud")
    assert last is not None
    counts = last.extra["prepared"]
    assert counts["labels"]["labelled"] > 0 < counts["labels"]["unreported"]
    found = served(tmp_path / "demo" / "predictions", tmp_path / "demo" / "data")
    assert found is not None
    assert found.auc > 0.6
    assert found.average_precision > 3 * found.fraud
    assert found.card_precision > 1.5 * found.cards


def test_served_by_hand(tmp_path: Path) -> None:
    day = [np.datetime64("2024-01-01T01", "us")] * 4 + [np.datetime64("2024-01-02T01", "us")] * 2
    columns = {
        "TRANSACTION_ID": [*range(6)],
        "CUSTOMER_ID": [1, 1, 2, 3, 1, 2],
        "score": [0.9, 0.1, 0.8, 0.2, 0.5, 0.4],
    }
    (tmp_path / "p").mkdir()
    (tmp_path / "d").mkdir()
    pq.write_table(
        pa.table({**columns, "TX_DATETIME": pa.array(np.array(day), pa.timestamp("us", tz="UTC"))}),
        tmp_path / "p" / "a.parquet",
    )
    pq.write_table(
        pa.table({"TRANSACTION_ID": [*range(6)], "TX_FRAUD": [1, 0, 0, 1, 0, 0]}), tmp_path / "d" / "a.parquet"
    )
    found = served(tmp_path / "p", tmp_path / "d")
    assert found is not None  # the second day has no fraud, and is left out
    assert (found.auc, found.fraud) == (0.75, 0.5)
    assert found.cards == found.card_precision == pytest.approx(2 / 3)  # fewer cards than are looked into


@pytest.mark.parametrize(("folder", "program"), [("bin", "beam-ml"), ("none", ".venv/bin/beam-ml")])
def test_a_demo_of_one_day_shows_no_empty_table_and_commands_that_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, program: str
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "beam-ml").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / folder))
    arguments = ["--folder", str(tmp_path / "demo"), "--days", "1", "--customers", "200", "--terminals", "100"]
    result = CliRunner().invoke(demo.main, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "model None" not in result.output
    assert f"  {program} registry ls " in result.output


def test_the_demo_leaves_other_peoples_folders_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work")
    result = CliRunner().invoke(demo.main, ["--folder", str(tmp_path), "--days", "2"], env={"COLUMNS": "300"})
    assert result.exit_code == 1
    assert "--folder must be new, empty, or made by an earlier demo" in result.output
    assert (tmp_path / "data" / "thesis.txt").read_text() == "years of work"


def test_what_stays_open_or_was_rejected_is_said(tmp_path: Path) -> None:
    list(write_days(str(tmp_path / "data"), 2, 400, 200))
    where = ["--source", str(tmp_path / "data"), "--registry", str(tmp_path / "registry")]
    result = CliRunner().invoke(train.main, [JOB, "--once", *where], env={"COLUMNS": "200"})
    assert "windows still open" in result.output
    closed = CliRunner().invoke(train.main, [JOB, "--once", "--close", *where], env={"COLUMNS": "200"})
    assert "windows still open" not in closed.output
