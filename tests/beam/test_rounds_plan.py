import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml.algorithms import pca
from beam_ml.beam.job import FileSource
from beam_ml.beam.plan import SOURCE, FilePlan, Taken, forget, plan_files
from beam_ml.core.batch import Origin
from beam_ml.core.learner import new
from beam_ml.core.progress import Progress
from beam_ml.errors import InputChanged, NoInput, UnreadableInput


def write(path: Path, rows: int, group: int = 100, mtime: int | None = None) -> str:
    pq.write_table(pa.table({"x": np.arange(rows, dtype=float)}), path, row_group_size=group)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return str(path)


def drain(source: FileSource, wanted: int, taken: dict | None = None) -> list[FilePlan]:
    plans = []
    while True:
        plan = plan_files(source, taken, wanted)
        if not plan.ranges:
            return plans
        plans.append(plan)
        taken = plan.after.to_dict()


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


def test_a_change_of_round_size_loses_and_repeats_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 1000, group=1000)
    source = FileSource(path=str(tmp_path))
    first = plan_files(source, None, 130)
    second = plan_files(source, first.after.to_dict(), 300)
    rest = drain(source, 170, second.after.to_dict())
    found = places([first, second, *rest])["a.parquet"]
    assert [i for low, high in found for i in range(low, high)] == list(range(1000))


def test_new_files_are_picked_up_once(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 10)
    source = FileSource(path=str(tmp_path))
    taken = drain(source, 100)[-1].after.to_dict()
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
    taken = plan_files(source, None, 100 if part else 1000).after.to_dict()
    write(Path(path), 501)
    with pytest.raises(InputChanged, match=r"a\.parquet must not change after it was read"):
        plan_files(source, taken, 100)


def test_an_empty_folder_is_refused_unless_files_may_come(tmp_path: Path) -> None:
    source = FileSource(path=str(tmp_path))
    with pytest.raises(NoInput, match="must name input files"):
        plan_files(source, None, 10)
    assert plan_files(source, None, 10, wait=True).ranges == ()


def test_a_truncated_file(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.parquet", 500))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnreadableInput, match=r"a\.parquet cannot be read as Parquet"):
        plan_files(FileSource(path=str(tmp_path)), None, 10)


def test_old_names_are_forgotten_but_not_read_again(tmp_path: Path) -> None:
    source = FileSource(path=str(tmp_path), remember="1d")
    old, day = 1_700_000_000, 86_400
    write(tmp_path / "a.parquet", 10, mtime=old)
    write(tmp_path / "b.parquet", 10, mtime=old + 3 * day)
    after = drain(source, 1000)[-1].after
    assert [os.path.basename(path) for path in after.done] == ["b.parquet"]
    assert after.horizon_ns == (old + 2 * day) * 10**9
    assert plan_files(source, after.to_dict(), 1000).ranges == ()
    here = [Origin(SOURCE, str(tmp_path / name)) for name in ("a.parquet", "b.parquet")]
    learner = new(pca.PCA, pca.Spec(n_features=1))
    for origin in here:
        learner = learner.replace(progress=learner.progress.merge(Progress.of_range(origin, 0, 10)))
    assert list(forget(learner, after).progress.covered) == here[1:]


def test_an_unread_older_file_keeps_the_names_that_are_newer(tmp_path: Path) -> None:
    source = FileSource(path=str(tmp_path), remember="1d", round_files=1)
    old, day = 1_700_000_000, 86_400
    write(tmp_path / "a.parquet", 10, mtime=old + 9 * day)
    write(tmp_path / "z.parquet", 10, mtime=old)
    plans = drain(source, 1000)
    assert places(plans) == {"a.parquet": [[0, 10]], "z.parquet": [[0, 10]]}


def test_what_was_taken_survives_json() -> None:
    assert Taken.from_dict(Taken().to_dict()) == Taken() == Taken.from_dict(None)
