"""What a person sees of passes and of rows that a fold rejects."""

import json
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
from beam_ml.cli.simulate import write_days
from beam_ml.core.gate import Verdict
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Refresh
from beam_ml.registry import Registry

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


def test_rows_that_a_fold_rejects_are_shown(tmp_path: Path) -> None:
    console = Screen(record=True, width=120)
    job: Any = SimpleNamespace(name="n", registry="r", source=SimpleNamespace(where="w"))
    table = RoundTable(console, job, Registry(tmp_path))
    manifest: Any = SimpleNamespace(name="n", number=1, verdict=Verdict(True))
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
    again = CliRunner().invoke(
        train.main, [str(tmp_path / "job.toml"), "--json", "--registry", str(tmp_path / "other")]
    )
    assert again.exit_code == 1
    assert "All 40 rows were rejected" in again.stderr
    assert "TrainingFailed: All 40 rows were rejected (label outside {0, 1} 40); nothing was learned." in done.output


def test_a_run_that_rejects_some_rows_or_finds_none_ends_well(tmp_path: Path) -> None:
    job: Any = SimpleNamespace(name="n", registry="r", source=SimpleNamespace(where="w"))
    manifest: Any = SimpleNamespace(name="n", number=1, verdict=Verdict(True))
    for read in (Progress(), Progress(rows=3, rejected={"late": 40})):
        table = RoundTable(Screen(record=True, width=120), job, Registry(tmp_path))
        one = Refresh(1, None, read, {}, {}, None, Verdict(True), {})
        table.show(Round(manifest, ((one, 0.1),), read, 0, 1.0, 0.5))
        table.end(1.0)


def rounds(where: Path, *verdicts: Verdict, pin: int | None = None) -> list[str]:
    """The lines of one version with a window per verdict, the last of which is the version's."""
    registry = Registry(where)
    registry.publish("n", {"learner": b"x"}, parent=None, round_id="a")
    if pin is not None:
        registry.serve("n", pin)
    last = verdicts[-1]
    manifest = registry.publish(
        "n", {"learner": b"y"}, parent=1, round_id="b", serve=last.accepted, reasons=last.reasons
    )
    job: Any = SimpleNamespace(name="n", registry="r", source=SimpleNamespace(where="w"))
    console = Screen(record=True, width=200)
    table = RoundTable(console, job, registry)
    refreshes = [Refresh(i, i, Progress(rows=3), {}, {}, None, one, {}) for i, one in enumerate(verdicts, start=1)]
    table.show(Round(manifest, tuple((one, 0.1) for one in refreshes), Progress(rows=3), 0, 1.0, 0.5))
    return [line.rpartition(" s  ")[2].strip() for line in console.export_text().splitlines()]


GOOD, BAD = Verdict(True), Verdict(False, ("no rows to derive a model from yet",))


def test_what_is_printed_is_what_the_registry_serves(tmp_path: Path) -> None:
    assert rounds(tmp_path / "a", GOOD) == ["served"]
    assert rounds(tmp_path / "b", GOOD, pin=1) == ["not served: v1 is pinned"]
    assert rounds(tmp_path / "c", BAD) == ["refused: no rows to derive a model from yet"]
    assert rounds(tmp_path / "d", GOOD, GOOD) == ["accepted, superseded", "served"]
    assert rounds(tmp_path / "e", GOOD, BAD)[1].startswith("refused: no rows")


def test_json_is_one_object_per_round(tmp_path: Path) -> None:
    list(write_days(str(tmp_path / "data"), 2, 200, 100))
    where = ["--source", str(tmp_path / "data"), "--registry", str(tmp_path / "registry")]
    done = CliRunner().invoke(train.main, ["jobs/fraud_demo.toml", "--close", "--json", *where])
    assert done.exit_code == 0, done.output
    *rounds, totals = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["version"] for one in rounds] == list(range(1, len(rounds) + 1))
    assert rounds[-1]["gate"] in ("served", "accepted") or rounds[-1]["gate"].startswith("refused")
    assert sum(one["rows"] for one in rounds) == totals["totals"]["rows"] > 0
    refreshes = [refresh for one in rounds for refresh in one["refreshes"]]
    assert len(refreshes) == totals["totals"]["refreshes"] == 2
    assert set(refreshes[0]) >= {"window_end_us", "metrics", "accepted"}
