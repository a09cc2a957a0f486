import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml.algorithms import pca
from beam_ml.artefact.cursors import summary_of
from beam_ml.beam.job.sources import FileSource
from beam_ml.beam.rounds.file_plan import SOURCE, FilePlan, forget, plan_files
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import Cursors, FileCursor, FileId
from beam_ml.core.learner import new
from beam_ml.core.progress import Progress
from beam_ml.errors import InputChanged, InvalidValue, NoInput, UnreadableInput

NOTHING = FileCursor()


def write(path: Path, rows: int, group: int = 100, mtime: int | None = None) -> str:
    pq.write_table(pa.table({"x": np.arange(rows, dtype=float)}), path, row_group_size=group)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return str(path)


def drain(source: FileSource, wanted: int, taken: FileCursor = NOTHING) -> list[FilePlan]:
    plans: list[FilePlan] = []
    while True:
        plan = plan_files(source, taken, wanted)
        if not plan.ranges:
            return plans
        plans.append(plan)
        taken = plan.after


def places(plans: list[FilePlan]) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = {}
    for plan in plans:
        for origin, ranges in plan.covered().items():
            assert origin.source == SOURCE
            found.setdefault(Path(origin.partition).name, []).extend(ranges)
    return found


@pytest.mark.parametrize("wanted", [1, 70, 100, 250, 10_000])
def test_every_row_is_planned_once_in_order_of_path(tmp_path: Path, wanted: int) -> None:
    write(tmp_path / "b.parquet", 250)
    write(tmp_path / "a.parquet", 100)
    plans = drain(FileSource(path=str(tmp_path)), wanted)
    found = places(plans)
    assert list(found) == ["a.parquet", "b.parquet"]
    for name, rows in (("a.parquet", 100), ("b.parquet", 250)):
        assert [i for low, high in found[name] for i in range(low, high)] == list(range(rows))
    assert sum(plan.rows() or 0 for plan in plans) == 350
    assert all((plan.rows() or 0) < wanted + 200 for plan in plans)
    last = plans[-1].after
    assert sorted(map(os.path.basename, last.done)) == ["a.parquet", "b.parquet"]
    assert last.part == {}
    assert all(one.start < one.stop for plan in plans for one in plan.ranges)
    assert [plan.last for plan in plans] == [*(False for _ in plans[1:]), True]
    assert not plan_files(FileSource(path=str(tmp_path)), last, wanted).last, "a round of nothing ends no pass"


def test_a_change_of_round_size_loses_and_repeats_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 1000, group=1000)
    source = FileSource(path=str(tmp_path))
    first = plan_files(source, FileCursor(), 130)
    second = plan_files(source, first.after, 300)
    rest = drain(source, 170, second.after)
    found = places([first, second, *rest])["a.parquet"]
    assert [i for low, high in found for i in range(low, high)] == list(range(1000))


def test_new_files_are_picked_up_once(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 10)
    source = FileSource(path=str(tmp_path))
    taken = drain(source, 100)[-1].after
    assert plan_files(source, taken, 100).ranges == ()
    write(tmp_path / "0.parquet", 7)
    plans = drain(source, 100, taken)
    assert places(plans) == {"0.parquet": [[0, 7]]}


def test_files_a_round(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.parquet", 10)
    assert len(drain(FileSource(path=str(tmp_path), round_files=1), 1000)) == 3


@pytest.mark.parametrize("part", [False, True])
def test_a_file_that_changes_after_it_was_read(tmp_path: Path, part: bool) -> None:
    path = write(tmp_path / "a.parquet", 500)
    source = FileSource(path=str(tmp_path))
    taken = plan_files(source, FileCursor(), 100 if part else 1000).after
    write(Path(path), 501)
    with pytest.raises(InputChanged, match=r"a\.parquet must not change after it was read"):
        plan_files(source, taken, 100)


def test_an_empty_folder_is_refused_unless_files_may_come(tmp_path: Path) -> None:
    source = FileSource(path=str(tmp_path))
    with pytest.raises(NoInput, match="must name input files"):
        plan_files(source, FileCursor(), 10)
    assert plan_files(source, FileCursor(), 10, wait=True).ranges == ()


def test_a_truncated_file(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.parquet", 500))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnreadableInput, match=r"a\.parquet cannot be read as Parquet"):
        plan_files(FileSource(path=str(tmp_path)), FileCursor(), 10)


def test_old_names_are_forgotten_but_not_read_again(tmp_path: Path) -> None:
    source = FileSource(path=str(tmp_path), remember="1d")
    old, day = 1_700_000_000, 86_400
    write(tmp_path / "a.parquet", 10, mtime=old)
    write(tmp_path / "b.parquet", 10, mtime=old + 3 * day)
    after = drain(source, 1000)[-1].after
    assert [os.path.basename(path) for path in after.done] == ["b.parquet"]
    assert after.horizon_ns == (old + 2 * day) * 10**9
    assert plan_files(source, after, 1000).ranges == ()
    here = [Origin(SOURCE, str(tmp_path / name)) for name in ("a.parquet", "b.parquet")]
    learner = new(pca.PCA, pca.Spec(n_features=1))
    for origin in here:
        learner = learner.replace(progress=learner.progress.merge(Progress.of_range(origin, 0, 10)))
    assert list(forget(learner, after).progress.covered) == here[1:]


def test_no_name_is_forgotten_unless_it_is_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = FileSource(path=str(tmp_path))
    now, day = 1_700_000_000, 86_400
    consumed = [write(tmp_path / f"{day}.parquet", 10, mtime=now + day) for day in (0, 400 * day)]
    after = drain(source, 1000)[-1].after
    assert sorted(after.done) == sorted(consumed)
    assert after.horizon_ns == 0
    write(tmp_path / "restored.parquet", 7, mtime=now - 4000 * day)
    plans = drain(source, 1000, after)
    assert places(plans) == {"restored.parquet": [[0, 7]]}
    os.utime(consumed[0], (now + 800 * day, now + 800 * day))
    with pytest.raises(InputChanged, match="must not change after it was read"):
        plan_files(source, plans[-1].after, 1000)
    assert caplog.records == []


def test_files_older_than_the_horizon_are_warned_of_once_a_plan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = FileSource(path=str(tmp_path), remember="1d")
    old, day = 1_700_000_000, 86_400
    write(tmp_path / "a.parquet", 10, mtime=old)
    write(tmp_path / "b.parquet", 10, mtime=old + 3 * day)
    taken = drain(source, 1000)[-1].after
    first = write(tmp_path / "0.parquet", 10, mtime=old - day)
    caplog.clear()
    plan = plan_files(source, taken, 1000)
    assert plan.ranges == ()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    said = caplog.records[0].getMessage()
    assert said.startswith(
        f"2 file(s) modified before 2023-11-16T22:13:20+00:00 were passed over, the first of them {first}:"
    )
    assert "new ones with an old modification time, which are never read (source.remember)" in said
    # A look that finds nothing says nothing, there is one every second; the next plan that reads does.
    caplog.clear()
    assert plan_files(source, taken, 1000, wait=True).ranges == ()
    assert caplog.records == []
    write(tmp_path / "c.parquet", 10, mtime=old + 4 * day)
    assert places([plan_files(source, taken, 1000, wait=True)]) == {"c.parquet": [[0, 10]]}
    assert len(caplog.records) == 1


def test_an_unread_older_file_keeps_the_names_that_are_newer(tmp_path: Path) -> None:
    source = FileSource(path=str(tmp_path), remember="1d", round_files=1)
    old, day = 1_700_000_000, 86_400
    write(tmp_path / "a.parquet", 10, mtime=old + 9 * day)
    write(tmp_path / "z.parquet", 10, mtime=old)
    plans = drain(source, 1000)
    assert places(plans) == {"a.parquet": [[0, 10]], "z.parquet": [[0, 10]]}


@pytest.mark.parametrize("format", ["parquet", "csv"])
@pytest.mark.parametrize("empty", [(0,), (1,), (0, 1, 3), (4,)])
def test_files_without_rows_do_not_count_for_a_round(tmp_path: Path, format: str, empty: tuple[int, ...]) -> None:
    for number in range(5):
        rows = 0 if number in empty else 3
        if format == "csv":
            (tmp_path / f"{number}.csv").write_text("x\n" + "1\n" * rows)
        else:
            write(tmp_path / f"{number}.parquet", rows)
    plans = drain(FileSource(path=str(tmp_path), round_files=1), 1000)
    assert [list(places([plan])) for plan in plans] == [[f"{n}.{format}"] for n in range(5) if n not in empty]
    # Those before the last file with rows are done with it; any behind it wait for a round to be done in.
    assert {os.path.basename(path) for path in plans[-1].after.done} >= {f"{n}.{format}" for n in range(4)}
    assert plan_files(FileSource(path=str(tmp_path)), plans[-1].after, 1000).ranges == ()


@pytest.mark.parametrize("others", [False, True])
@pytest.mark.parametrize("wait", [False, True])
def test_a_file_that_is_gone_before_it_was_read_to_its_end(tmp_path: Path, others: bool, wait: bool) -> None:
    path = Path(write(tmp_path / "a.parquet", 500))
    if others:
        write(tmp_path / "b.parquet", 10)
    source = FileSource(path=str(tmp_path))
    taken = plan_files(source, FileCursor(), 200).after
    path.unlink()
    sentence = rf"a\.parquet must stay until it has been read to its end: its \d+ bytes were read up to place 200 .* {tmp_path}"
    with pytest.raises(InputChanged, match=sentence):
        plan_files(source, taken, 200, wait=wait)


def test_a_file_may_be_moved_away_once_it_was_read_to_its_end(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.parquet", 10))
    source = FileSource(path=str(tmp_path))
    after = plan_files(source, FileCursor(), 1000).after
    path.unlink()
    assert plan_files(source, after, 1000) == FilePlan((), after)
    with pytest.raises(NoInput, match="must name input files"):
        plan_files(source, FileCursor(), 1000)


def aged(path: Path, rows: int, seconds: float) -> None:
    write(path, rows)
    ns = time.time_ns() - int(seconds * 1e9)
    os.utime(path, ns=(ns, ns))


@pytest.mark.parametrize(
    ("settle", "age", "is_taken"),
    [
        ("1h", 1800, False),
        ("1h", 3700, True),
        (0, -30, True),  # whatever the clock says
        ("1h", -1800, False),  # a file server's clock ahead of ours
        ("1h", -7200, True),  # set by hand: waiting would not end
    ],
)
def test_a_file_is_followed_once_it_has_settled(tmp_path: Path, settle: object, age: float, is_taken: bool) -> None:
    aged(tmp_path / "a.parquet", 10, age)
    aged(tmp_path / "b.parquet", 20, 86_400)
    source = FileSource.parse({"path": str(tmp_path), "settle": settle})
    plan = plan_files(source, FileCursor(), 1000, wait=True)
    assert places([plan]) == ({"a.parquet": [[0, 10]]} if is_taken else {}) | {"b.parquet": [[0, 20]]}
    assert len(plan.after.done) == 1 + is_taken
    assert list(places([plan_files(source, FileCursor(), 1000)])) == ["a.parquet", "b.parquet"]


def test_a_file_that_is_being_written_is_left_until_it_is_whole(tmp_path: Path) -> None:
    source = FileSource(path=str(tmp_path), settle="1h")
    whole = Path(write(tmp_path / "a.parquet", 500)).read_bytes()
    path = tmp_path / "a.parquet"
    path.write_bytes(whole[:-100])
    first = plan_files(source, FileCursor(), 1000, wait=True)
    assert first == FilePlan((), FileCursor())
    path.write_bytes(whole)
    os.utime(path, (time.time() - 7200,) * 2)
    second = plan_files(source, first.after, 200, wait=True)
    third = plan_files(source, second.after, 1000, wait=True)
    assert places([second, third]) == {"a.parquet": [[0, 200], [200, 500]]}


def test_a_file_that_was_begun_is_gone_on_with_however_new_it_is(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 500)
    source = FileSource(path=str(tmp_path), settle="1h")
    taken = plan_files(source, FileCursor(), 200).after
    assert places([plan_files(source, taken, 1000, wait=True)]) == {"a.parquet": [[200, 500]]}


def test_a_file_that_has_not_settled_is_never_older_than_the_horizon(tmp_path: Path) -> None:
    source = FileSource(path=str(tmp_path), remember="1m", settle="1h")
    aged(tmp_path / "a.parquet", 10, 1800)
    aged(tmp_path / "b.parquet", 10, 86_400)
    aged(tmp_path / "c.parquet", 10, -7200)
    plan = plan_files(source, FileCursor(), 1000, wait=True)
    assert sorted(places([plan])) == ["b.parquet", "c.parquet"]
    assert places(drain(source, 1000, plan.after)) == {"a.parquet": [[0, 10]]}


def test_the_default_settling_time_is_short_and_none_is_allowed() -> None:
    assert FileSource().settle == 2.0
    assert FileSource(settle="500ms").settle == 0.5
    with pytest.raises(InvalidValue, match=r"source\.settle"):
        FileSource(settle=-1)


def test_a_summary_stays_small_and_tells_contents_apart(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / f"{number:02}.parquet", 10)
    source = FileSource(path=str(tmp_path))
    last = drain(source, 1000)[-1].after
    part = plan_files(source, FileCursor(), 4).after
    assert {**summary(last), "digest": ""} == {
        "done": 30, "part": {}, "horizon_ns": 0, "pass": 1, "batch": None, "again": 0, "digest": "",
    }  # fmt: skip
    assert summary(part)["part"] == {str(tmp_path / "00.parquet"): 4}
    assert len(json.dumps(summary(last))) < 200
    moved = FileCursor({**last.done, "x": FileId("x", 1, 1)})
    assert len({summary(one)["digest"] for one in (FileCursor(), part, last, moved)}) == 4


def summary(cursor: FileCursor) -> dict[str, Any]:
    found: dict[str, Any] = summary_of(Cursors(cursor))["files"]
    return found
