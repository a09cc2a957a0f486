"""What a person sees of passes and of rows that a fold rejects."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

from beam_ml.beam.rounds import Round
from beam_ml.cli import train
from beam_ml.cli.console import Screen
from beam_ml.cli.report import RoundTable
from beam_ml.core.gate import Verdict
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Refresh

JOB = """
name = "n"
registry = "{place}/registry"
passes = 4
spec.algorithm = "toy_sgd:TOY_SGD"
features = {{ numeric = ["x"], label = "y" }}
models.line.kind = "line"
source.path = "{place}/a.parquet"
early_stopping = {{ patience = 1, tolerance = 0.9 }}
"""


def test_passes_and_their_early_end_are_shown(tmp_path: Path) -> None:
    x, noise = np.random.default_rng(0).normal(size=(2, 40))
    pq.write_table(pa.table({"x": x, "y": 2 * x + 0.1 * noise}), tmp_path / "a.parquet", row_group_size=10)
    (tmp_path / "job.toml").write_text(JOB.format(place=tmp_path))
    run = [str(tmp_path / "job.toml"), "--once"]
    done = CliRunner().invoke(train.main, run, env={"COLUMNS": "300"})
    assert done.exit_code == 0, done.output
    assert "pass 2 of 4" in done.output
    assert "stopped after pass 3 of 4: mse is " in done.output
    assert "Nothing new to read" in CliRunner().invoke(train.main, run).output
    more = CliRunner().invoke(train.main, [*run, "--passes", "5"])
    assert "pass 4 of 5" in more.output
    wrong = CliRunner().invoke(train.main, [*run, "--passes", "0"], env={"COLUMNS": "300"})
    assert wrong.exit_code == 1
    assert "InvalidValue: job.passes must be >= 1; got 0." in wrong.output


def test_rows_that_a_fold_rejects_are_shown() -> None:
    console = Screen(record=True, width=120)
    job: Any = SimpleNamespace(name="n", registry="r", source=SimpleNamespace(where="w"))
    table = RoundTable(console, job)
    manifest: Any = SimpleNamespace(number=1)
    read = Progress(rows=50, rejected={"late": 2})
    folded = Progress(rows=30, rejected={"late": 2, "stale anchor": 20})
    one = Refresh(1, None, folded, {}, {}, None, Verdict(True), {})
    table.show(Round(manifest, ((one, 0.1),), read, 0, 1.0, 0.5))
    table.end(1.0)
    shown = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "rows rejected: late 2" in shown
    assert "rows rejected: stale anchor 20" in shown
    assert not any("fold discarded" in line for line in shown)


def test_a_job_whose_rows_are_all_rejected_ends_with_an_error(tmp_path: Path) -> None:
    labels = np.array(["1", "2"] * 20)
    pq.write_table(pa.table({"x": np.arange(40.0), "y": labels.astype(float) + 5}), tmp_path / "a.parquet")
    job = JOB.format(place=tmp_path).replace("toy_sgd:TOY_SGD", "linear.newton").replace("passes = 4", "")
    job = job.replace("early_stopping = { patience = 1, tolerance = 0.9 }", "").replace('"line"', '"classifier"')
    (tmp_path / "job.toml").write_text(job)
    done = CliRunner().invoke(train.main, [str(tmp_path / "job.toml"), "--once"], env={"COLUMNS": "300"})
    assert done.exit_code == 1, done.output
    assert "TrainingFailed: All 40 rows were rejected (label outside {0, 1} 40); nothing was learned." in done.output


def test_a_run_that_rejects_some_rows_or_finds_none_ends_well() -> None:
    job: Any = SimpleNamespace(name="n", registry="r", source=SimpleNamespace(where="w"))
    manifest: Any = SimpleNamespace(number=1)
    for read in (Progress(), Progress(rows=3, rejected={"late": 40})):
        table = RoundTable(Console(record=True, width=120), job)
        one = Refresh(1, None, read, {}, {}, None, Verdict(True), {})
        table.show(Round(manifest, ((one, 0.1),), read, 0, 1.0, 0.5))
        table.end(1.0)
