import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.errors import InputChanged, InvalidValue, NoInput, UnreadableInput
from beam_ml.formats import FileRange, check, format_of, list_files, stat
from beam_ml.formats.files import replacing

ROWS = pa.record_batch({"x": pa.array([1.0, 2.0, 3.0]), "i": pa.array([1, 2, 3])})


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_directory_gives_its_finished_files_in_order_of_name(tmp_path: Path) -> None:
    touch(tmp_path, "2024-01-02.parquet", "2024-01-01.parquet", "2024-01-10.PARQUET")
    touch(tmp_path, ".a.parquet", "_b.parquet", "c.parquet.tmp", "d.parquet.inprogress", "notes.txt", "sub/e.parquet")
    found = [os.path.basename(file.path) for file in list_files(str(tmp_path))]
    assert found == ["2024-01-01.parquet", "2024-01-02.parquet", "2024-01-10.PARQUET"]


def test_a_pattern_goes_into_directories_and_a_file_is_itself(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.csv", "b/2.csv", "b/_3.csv")
    assert [os.path.basename(f.path) for f in list_files(str(tmp_path / "**" / "*.csv"))] == ["1.csv", "2.csv"]
    assert list_files(str(tmp_path / "a" / "1.csv"))[0].size == 1


def test_a_format_picks_its_files_of_a_directory(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv", "b.csv.gz", "c.avro", "d.parquet")
    assert [os.path.basename(f.path) for f in list_files(str(tmp_path), "csv")] == ["a.csv", "b.csv.gz"]
    assert len(list_files(str(tmp_path))) == 4


def test_paths_are_absolute_wherever_the_job_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.csv")
    absolute = list_files(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert list_files(".") == absolute == list_files("*.csv") == list_files("a.csv")


def test_an_empty_directory_or_pattern_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(NoInput, match=r"must name input files; there is no file that ends in one of"):
        list_files(str(tmp_path))
    with pytest.raises(NoInput, match=r"nothing\*\.csv must name input files; there is no file\.$"):
        list_files(str(tmp_path / "nothing*.csv"))


def test_unknown_formats_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.dat")
    with pytest.raises(InvalidValue, match=r"format must be given where .* got '.*a\.dat'\.$"):
        list_files(str(tmp_path / "a.dat"))
    assert len(list_files(str(tmp_path / "a.dat"), "csv")) == 1
    with pytest.raises(
        InvalidValue,
        match=r"format must be one of \['avro', 'csv', 'image', 'json', 'libsvm', 'parquet', 'recordio'\], or .*; got 'orc'\.$",
    ):
        list_files(str(tmp_path), "orc")
    with pytest.raises(InvalidValue, match=r"format must be one of"):
        formats.of_files("orc")


@pytest.mark.parametrize(
    ("name", "format"), [("a.pq", "parquet"), ("A.CSV.ZST", "csv"), ("x.csv.gz", "csv"), ("b.avro", "avro")]
)
def test_the_ending_tells_the_format(name: str, format: str) -> None:
    assert format_of(name) == format


def test_a_missing_file_or_a_directory_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match=r"gone cannot be read: No such file or directory\.$"):
        stat(str(tmp_path / "gone"))
    with pytest.raises(UnreadableInput, match=r"cannot be read: it is a directory\.$"):
        stat(str(tmp_path))


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.avro", "a.csv.gz"])
def test_a_range_is_json_and_back(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    formats.write(path, [ROWS])
    (piece,) = formats.ranges(stat(path), 1000)
    again = FileRange.from_dict(json.loads(json.dumps(piece.to_dict())))
    assert again == piece
    assert sum(len(block) for block in formats.read(again)) == 3


def test_a_range_of_other_fields_is_refused() -> None:
    good = FileRange("a", 1, 2, "csv", 0, 1).to_dict()
    for bad in ({**good, "start": "0"}, {**good, "more": 1}, {k: v for k, v in good.items() if k != "stop"}):
        with pytest.raises(InvalidValue, match="FileRange must have exactly the fields"):
            FileRange.from_dict(bad)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.avro"])
def test_a_file_that_changed_since_the_plan_is_refused(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    formats.write(path, [ROWS])
    file = stat(path)
    (piece,) = formats.ranges(file, 1000)
    check(file)
    formats.write(path, [ROWS, ROWS])
    for action in (lambda: check(file), lambda: list(formats.read(piece)), lambda: formats.ranges(file, 1000)):
        with pytest.raises(
            InputChanged, match=r"must not change once planned: it had \d+ bytes, modified at \d+ ns; got"
        ):
            action()


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.avro"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    formats.write(path, [ROWS])
    (piece,) = formats.ranges(stat(path), 1000)
    blocks = formats.read(piece, max_rows=2)
    next(blocks)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputChanged):
        list(blocks)


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    formats.write(path, [ROWS])
    (piece,) = formats.ranges(stat(path), 1000)
    os.unlink(path)
    with pytest.raises(UnreadableInput, match="No such file"):
        list(formats.read(piece))


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.avro"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    formats.write(path, [ROWS])
    before = Path(path).read_bytes()

    def broken():
        yield ROWS
        message = "the disk is full"
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="the disk is full"):
        formats.write(path, broken())
    assert Path(path).read_bytes() == before
    assert os.listdir(tmp_path) == [name]


def test_a_file_being_written_is_not_listed(tmp_path: Path) -> None:
    path = str(tmp_path / "a.csv")
    with replacing(path) as unfinished:
        Path(unfinished).write_bytes(b"x\n1\n")
        with pytest.raises(NoInput):
            list_files(str(tmp_path))
    assert len(list_files(str(tmp_path))) == 1


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.avro"])
def test_nothing_to_write_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidValue, match="needs at least one batch"):
        formats.write(str(tmp_path / name), [])
    assert os.listdir(tmp_path) == []
