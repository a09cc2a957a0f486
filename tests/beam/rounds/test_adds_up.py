"""What a round has read is what its plan says, what is lost is counted, and no file's rows are passed over or read twice."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml import formats
from beam_ml.beam.job.sources import FileSource
from beam_ml.beam.kafka.positions import LOST
from beam_ml.beam.rounds import Mode, files
from beam_ml.beam.rounds.file_plan import FilePlan, plan_files
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import FileCursor
from beam_ml.core.progress import Progress
from beam_ml.errors import RoundAbandoned
from beam_ml.registry import Registry
from tests.beam.rounds.test_driver import job, learner, run, write

DAY = 86_400
BEGIN = 1_690_000_000


@pytest.mark.parametrize("off", [-1, 1, 40])
def test_rows_that_are_missing_or_too_many_for_the_plan_abandon_the_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: int
) -> None:
    """Every place was covered, and yet there were fewer rows than the file said, or more."""
    write(tmp_path / "data", 0, rows=120)
    one = job(tmp_path)
    monkeypatch.setattr(FilePlan, "rows", lambda plan: 120 + off)
    with pytest.raises(RoundAbandoned, match=rf"exactly the {120 + off} rows of its plan; it scanned 120\."):
        run(one, Mode("once"))
    assert Registry(one.registry).versions("test") == []


def test_what_a_plan_gives_up_is_in_the_learner_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker whose retention runs ahead of a slow trainer, without a broker."""
    gone = Progress.of_range(Origin("kafka://c/t", "4"), 70, 950, {LOST: 11})
    write(tmp_path / "data", 0, rows=120)
    one = job(tmp_path)
    plan_files = files.plan_files
    monkeypatch.setattr(
        files, "plan_files", lambda *given, **more: dataclasses.replace(plan_files(*given, **more), lost=gone)
    )
    (done,) = run(one, Mode("once"))
    after = learner(one).progress
    assert after.rejected == {LOST: 11}
    assert after.covered[Origin("kafka://c/t", "4")].tolist() == [[70, 950]]
    assert done.progress.rejected == {LOST: 11}
    assert done.progress.scanned == 131


def rows_of(path: Path, rows: int, days: float, group: int = 40) -> None:
    """A Parquet file modified so many days after the first one."""
    pq.write_table(pa.table({"x": np.arange(rows, dtype=float)}), path, row_group_size=group)
    at = BEGIN + int(days * DAY)
    os.utime(path, (at, at))


def planned(
    source: FileSource, wanted: int, taken: FileCursor | None = None
) -> tuple[list[FilePlan], FileCursor | None]:
    plans: list[FilePlan] = []
    while True:
        plan = plan_files(source, taken or FileCursor(), wanted)
        if not plan.ranges:
            return plans, taken
        plans.append(plan)
        taken = plan.after


@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("wanted", [40, 80, 130])
def test_no_range_is_planned_without_a_row(tmp_path: Path, format: str, wanted: int) -> None:
    """Rounds that end where a row group or a block does: the next one begins behind it."""
    rows = pa.table({"x": np.arange(20_000, dtype=float)})
    if format == "csv":
        formats.write(str(tmp_path / "a.csv"), rows.to_batches())
    else:
        rows_of(tmp_path / "a.parquet", 400, 0)
    plans, _ = planned(FileSource(path=str(tmp_path)), wanted)
    assert len(plans) > 2
    ranges = [one for plan in plans for one in plan.ranges]
    assert all(one.start < one.stop for one in ranges)
    assert [one.start for one in ranges[1:]] == [one.stop for one in ranges[:-1]]


@pytest.mark.parametrize("remember", [1, 3])
def test_a_file_modified_at_the_horizon_is_not_read_again(tmp_path: Path, remember: int) -> None:
    """It is as far behind the newest as names are remembered: not passed over as older, so its name must be known."""
    source = FileSource(path=str(tmp_path), remember=f"{remember}d")
    for number, days in enumerate((0, 2, 2, 2 + remember)):
        rows_of(tmp_path / f"{number}.parquet", 30 + number, days)
    plans, taken = planned(source, 1_000)
    assert sum(plan.rows() or 0 for plan in plans) == 126
    assert [os.path.basename(path) for path in plans[-1].after.done] == ["1.parquet", "2.parquet", "3.parquet"]
    assert planned(source, 1_000, taken)[0] == []
    rows_of(tmp_path / "4.parquet", 5, 2 + remember)
    assert sum(plan.rows() or 0 for plan in planned(source, 1_000, taken)[0]) == 5


def test_while_an_old_file_is_read_in_part_others_of_its_age_are_read(tmp_path: Path) -> None:
    """The horizon does not pass a file that is not read to its end: what was late with it comes late as well."""
    source = FileSource(path=str(tmp_path), remember="1d")
    rows_of(tmp_path / "a.parquet", 50, 30)
    rows_of(tmp_path / "b.parquet", 400, 2)
    rows_of(tmp_path / "c.parquet", 60, 0)
    first = plan_files(source, FileCursor(), 450)
    second = plan_files(source, first.after, 20)
    assert [Path(path).name for path in second.after.part] == ["c.parquet"]
    assert second.after.horizon_ns <= BEGIN * 10**9
    rows_of(tmp_path / "d.parquet", 7, 5)
    plans, _ = planned(source, 1_000, second.after)
    assert sorted({Path(one.path).name for plan in plans for one in plan.ranges}) == ["c.parquet", "d.parquet"]
    assert sum(plan.rows() or 0 for plan in [first, second, *plans]) == 50 + 400 + 60 + 7
