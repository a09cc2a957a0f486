"""`beam-ml convert`: every format to every other, what is rejected, what cannot be held, and that a file is whole or not there."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from beam_ml import formats
from beam_ml.cli import main
from beam_ml.formats import conversion

PLAIN = pa.record_batch({"a": [0.5, 1.5, 0.0], "b": [3, 4, 0], "label": [1, 0, 1]})
MATRIX = pa.record_batch(
    {"features": pa.array([[0.5, 3.0], [1.5, 4.0], [0.0, 0.0]], pa.list_(pa.float64())), "label": [1.0, 0.0, 1.0]}
)
ENDINGS = {
    "csv": ".csv.gz",
    "json": ".jsonl.bz2",
    "parquet": ".parquet",
    "avro": ".avro",
    "libsvm": ".libsvm",
    "recordio": ".rec.zst",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["convert", *words])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def rows(path: str) -> list[dict[str, Any]]:
    file = formats.stat(path)
    return [one for piece in formats.ranges(file, 1 << 20) for block in formats.read(piece) for one in block.to_dicts()]


def numbers(path: str) -> list[list[float]]:
    """Return features and label of each row as numbers, whatever form a format has."""
    found = []
    for row in rows(path):
        values = row.pop("features", None)
        if values is not None and values and isinstance(values[0], tuple):
            values = [dict(values).get(i, 0.0) for i in range(2)]
        if values is None:
            values = [value for name, value in row.items() if name not in ("label", "qid", "uid", "metadata")]
        values = values or [0.0, 0.0]
        found.append([*map(float, values), float(row["label"])])
    return found


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(ENDINGS, 2)))
def test_every_format_becomes_every_other(one: str, other: str) -> None:
    source, target = f"one{ENDINGS[one]}", f"other{ENDINGS[other]}"
    formats.write(source, [MATRIX if one in ("libsvm", "recordio") else PLAIN])
    more = ["--width", "2"] if one == "libsvm" else []
    if (one, other) == ("libsvm", "recordio"):
        more = ["--to-options", '{"width": 2}']
    said = run(source, target, *more).stdout
    assert f"3 rows of 1 {one} file written to {target}" in said
    assert numbers(target) == [[0.5, 3.0, 1.0], [1.5, 4.0, 0.0], [0.0, 0.0, 1.0]]


def test_rows_are_the_same_there_and_back() -> None:
    kinds = {"t": pa.array([0, 1, None], pa.timestamp("us", tz="UTC")), "s": ["x", "", None], "n": [1, None, 2**60]}
    formats.write("one.parquet", [pa.record_batch(kinds)])
    run("one.parquet", "two.avro")
    run("two.avro", "three.parquet")
    assert rows("three.parquet") == rows("one.parquet")


def test_a_folder_becomes_one_file_of_the_widest_types() -> None:
    Path("in").mkdir()
    Path("in/1.csv").write_text("a,b\n1,x\n")
    Path("in/2.csv").write_text("b,a\ny,1.5\n")
    assert json.loads(run("in", "out.parquet", "--json").stdout)["rows"] == 2
    assert rows("out.parquet") == [{"a": 1.0, "b": "x"}, {"a": 1.5, "b": "y"}]


def test_a_type_that_a_later_value_widens_is_that_of_all_rows() -> None:
    """A column of 1 MiB of whole numbers and a fraction behind them: blocks differ in type."""
    lines = ["a", *(str(i % 10) for i in range(700_000)), "0.5"]
    Path("in.csv").write_text("\n".join(lines) + "\n")
    run("in.csv", "out.parquet")
    found = rows("out.parquet")
    assert len(found) == 700_001
    assert (found[3], found[-1]) == ({"a": 3.0}, {"a": 0.5})


def test_rejected_rows_are_listed_and_nothing_is_written() -> None:
    Path("in.csv").write_text("a,b\n1,2\n3\n4,5\n6,7,8\n")
    result = run("in.csv", "out.parquet", "--rejects", "bad.jsonl", code=1)
    assert "Rejected rows must be at most 0; got 2 (malformed line 2): nothing is written of the other 2." in " ".join(
        result.stderr.split()
    )
    listed = [json.loads(line) for line in Path("bad.jsonl").read_text().splitlines()]
    assert [(one["reason"], one["position"]) for one in listed] == [("malformed line", 8), ("malformed line", 14)]
    assert listed[0]["partition"].endswith("/in.csv")
    assert sorted(path.name for path in Path().iterdir()) == ["bad.jsonl", "in.csv"]


def test_rejected_rows_may_be_allowed() -> None:
    Path("in.csv").write_text("a,b\n1,2\n3\n4,5\n6,7,8\n")
    run("in.csv", "out.parquet", "--allow-rejects", "1", code=1)
    assert not Path("out.parquet").exists()
    said = run("in.csv", "out.parquet", "--allow-rejects", "2").stdout
    assert "left out: 2 rows, malformed line" in said
    assert rows("out.parquet") == [{"a": 1, "b": 2}, {"a": 4, "b": 5}]
    found = json.loads(run("in.csv", "out.avro", "--allow-rejects", "2", "--json").stdout)
    assert (found["rows"], found["rejected"]) == (2, {"malformed line": 2})


def test_rows_that_the_target_cannot_hold_are_rejects_with_their_places() -> None:
    formats.write("in.parquet", [pa.record_batch({"a": [1.0, None, 3.0], "b": [1, 2, None], "y": [0, 1, 1]})])
    words = ("in.parquet", "out.libsvm", "--label", "y", "--rejects", "bad.jsonl", "--allow-rejects", "2")
    found = json.loads(run(*words, "--json").stdout)
    assert found["rejected"] == {"no number in a": 1, "no number in b": 1}
    assert [json.loads(one)["position"] for one in Path("bad.jsonl").read_text().splitlines()] == [1, 2]
    assert Path("out.libsvm").read_text() == "0 1:1 2:1\n"


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("kind", "good", "far"),
    [
        (pa.timestamp("us"), 971_890_963_199_999_999 - 86_400_000_000, 2**62),
        (pa.timestamp("s", "UTC"), -1_096_193_779_200 + 86_400, -(2**40)),
        (pa.timestamp("us", "UTC"), 0, 2**63 - 1),  # which Arrow spells as the year 32103
        (pa.date32(), 11_248_736, 2**31 - 1),
        (pa.date64(), 0, 86_400_000 * 10**9),
        (pa.timestamp("ns"), 2**63 - 1, None),
    ],
    ids=str,
)
def test_times_that_no_text_says_are_rejects(ending: str, kind: pa.DataType, good: int, far: int | None) -> None:
    whole = pa.int32() if kind.bit_width == 32 else pa.int64()
    formats.write("in.parquet", [pa.record_batch({"t": pa.array([good, None, far], whole).view(kind), "x": [1, 2, 3]})])
    found = json.loads(run("in.parquet", f"out{ending}", "--allow-rejects", "1", "--json").stdout)
    assert found["rejected"] == ({} if far is None else {"no time that text can say in t": 1})
    assert [row["x"] for row in rows(f"out{ending}")] == ([1, 2, 3] if far is None else [1, 2])
    assert "out of range" not in Path(f"out{ending}").read_text()


def test_features_outside_the_width_are_rejects() -> None:
    Path("in.libsvm").write_text("1 1:5 3:7\n0 4:1\n")
    found = json.loads(run("in.libsvm", "out.csv", "--width", "3", "--allow-rejects", "1", "--json").stdout)
    assert found["rejected"] == {"not 3 features": 1}
    assert rows("out.csv") == [{"label": 1, "qid": None, "f0": 5, "f1": 0, "f2": 7}]


def test_columns_are_chosen() -> None:
    formats.write("in.parquet", [pa.record_batch({"a": [1.0], "name": ["x"], "label": [1]})])
    run("in.parquet", "out.libsvm", "--columns", "a,label")
    assert Path("out.libsvm").read_text() == "1 1:1\n"


def test_options_of_both_formats() -> None:
    Path("in.txt").write_text("1;2\n3;4\n")
    source = '{"delimiter": ";", "column_names": ["label", "a"]}'
    run("in.txt", "out.txt", "--from", "csv", "--from-options", source, "--to", "libsvm", "--to-options",
        '{"first_index": 0}')  # fmt: skip
    assert Path("out.txt").read_text() == "1 0:2\n3 0:4\n"


def test_csv_without_header_has_one_column_of_features() -> None:
    Path("in.libsvm").write_text("1 1:0.5 3:7\n0 2:2\n")
    by_position = '{"header": false, "width": 3}'
    run("in.libsvm", "out.csv", "--to-options", by_position)
    assert Path("out.csv").read_text() == "1,0.5,0,7\n0,0,2,0\n"
    run("out.csv", "out.rec", "--from-options", by_position)
    assert [(row["features"], row["label"]) for row in rows("out.rec")] == [([0.5, 0, 7], 1), ([0, 2, 0], 0)]
    formats.write("named.csv", [PLAIN])
    run("named.csv", "packed.csv", "--to-options", '{"header": false, "width": 2}')
    assert Path("packed.csv").read_text() == "1,0.5,3\n0,1.5,4\n1,0,0\n"
    wrong = run("named.csv", "bad.csv", "--to-options", by_position, code=1).stderr
    assert "must have 3 features" in " ".join(wrong.split())
    assert not Path("bad.csv").exists()


@pytest.mark.parametrize(
    ("batch", "words", "sentence"),
    [
        ({"a": [1.0], "s": ["x"], "label": [1]}, ["out.libsvm"], "libsvm must have features that are numbers"),
        ({"a": [1.0], "s": ["x"]}, ["out.rec"], "--label must name the label's column of recordio"),
        ({"a": [1.0]}, ["out.rec", "--label", "y"], "--label must name a column; got 'y', of ['a']."),
        ({"label": [1]}, ["out.libsvm"], "libsvm must have at least one feature"),
        ({"a": [1], "label": [1]}, ["out.libsvm", "--label", "a"], "(--columns leaves it out)"),
        ({"a": [2**60 + 1], "label": [1]}, ["out.libsvm"], "Column 'a' must hold numbers that float64 has"),
        ({"a": [{"x": 1}]}, ["out.csv"], "out.csv must be of rows that csv can hold"),
        ({"a": [{"x": 1}]}, ["out.avro"], "column 'a' must be of a type that Avro has"),
        ({"a": [[1.0]], "f0": [1.0]}, ["out.csv"], "must be free for the features"),
        ({"a": [[1.0]], "b": [[1.0]]}, ["out.csv"], "at most one column of several numbers"),
        ({"a": [1.0]}, ["out.txt"], "format must be given"),
        ({"a": [1.0]}, ["in.parquet"], "OUT must be a file that is not read"),
        ({"a": [1.0]}, ["out.csv", "--rejects", "out.csv"], "--rejects must be a file that is not read"),
        ({"a": [1.0]}, ["out.csv", "--columns", "z"], "must have one column 'z'"),
        ({"a": [1.0]}, ["out.csv", "--to-options", "[]"], "--to-options must be a JSON object"),
        ({"a": pa.array([], pa.int64())}, ["out.csv"], "must have rows to convert"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(batch: dict[str, Any], words: list[str], sentence: str) -> None:
    formats.write("in.parquet", [pa.record_batch(batch)])
    result = run("in.parquet", *words, code=1)
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert [path.name for path in Path().iterdir()] == ["in.parquet"]


def test_sparse_rows_need_a_width_to_become_columns() -> None:
    Path("in.libsvm").write_text("1 1:5 3:7\n")
    assert "--width must be 1 to 10,000" in run("in.libsvm", "out.csv", code=1).stderr.replace("\n", " ")


def test_a_query_that_the_target_cannot_hold_is_refused() -> None:
    Path("in.libsvm").write_text("1 1:5\n0 qid:3 1:5\n")
    result = run("in.libsvm", "out.rec", "--to-options", '{"width": 2}', code=1)
    assert "got 'qid' with 1 values" in " ".join(result.stderr.split())
    assert not Path("out.rec").exists()


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_damaged_input_leaves_no_file(ending: str) -> None:
    """Cut at every of some places: one sentence, or as many rows as are said; a file that was there stays as it is."""
    batch = MATRIX if "lib" in ending or "rec" in ending else PLAIN
    formats.write(f"whole{ending}", [batch])
    data = Path(f"whole{ending}").read_bytes()
    for cut in np.linspace(0, len(data) - 1, 12).astype(int).tolist():
        Path(f"in{ending}").write_bytes(data[:cut])
        Path("out.parquet").write_bytes(b"before")
        result = CliRunner().invoke(main, ["convert", f"in{ending}", "out.parquet", "--json"])
        assert result.exit_code in (0, 1)
        assert isinstance(result.exception, SystemExit | None)
        if result.exit_code:
            assert result.stderr.startswith(("UnreadableInput: ", "NoInput: ", "InvalidValue: "))
            assert Path("out.parquet").read_bytes() == b"before"
        else:
            assert json.loads(result.stdout)["rows"] == len(rows("out.parquet")) <= 3
        assert not [path for path in Path().iterdir() if path.name.startswith(".")]


def test_memory_is_that_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many blocks is never held whole: what is alive at once is a few blocks."""
    batch = pa.record_batch({"a": np.arange(65_536.0), "label": np.zeros(65_536)})
    formats.write("in.parquet", [batch] * 40)
    before, peak = pa.total_allocated_bytes(), 0
    kept = conversion.fitted

    def watched(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        nonlocal peak
        peak = max(peak, pa.total_allocated_bytes() - before)
        return kept(rows, schema)

    monkeypatch.setattr(conversion, "fitted", watched)
    run("in.parquet", "out.libsvm")
    assert 0 < peak < 8 * batch.nbytes


def test_json_rows_that_lack_columns_are_null_there_and_objects_become_paths() -> None:
    lines = [{"a": 1}, {"b": {"c": "x"}}, {"a": 2.5, "b": {"c": None}}]
    Path("in.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run("in.jsonl", "out.parquet")
    assert rows("out.parquet") == [{"a": 1, "b.c": None}, {"a": None, "b.c": "x"}, {"a": 2.5, "b.c": None}]
    Path("more.jsonl").write_text('{"z": 7}')
    run("*.jsonl", "out.csv")
    assert Path("out.csv").read_text().splitlines()[0] == '"a","b.c","z"'


def test_instances_and_series_are_converted() -> None:
    Path("in.jsonl").write_text(
        '{"features": [0, 1.5], "label": 1}\n{"data": {"features": {"values": [2, 0]}}, "label": 0}\n'
    )
    run("in.jsonl", "out.libsvm", "--from-options", '{"form": "dense"}', "--from", "json")
    assert Path("out.libsvm").read_text() == "1 2:1.5\n0 1:2\n"
    run("out.libsvm", "back.json", "--to-options", '{"form": "sparse", "width": 2}')
    instance = {"data": {"features": {"keys": [1], "shape": [2], "values": [1.5]}}, "label": 1}
    assert json.loads(Path("back.json").read_text())["instances"][0] == instance
    Path("s.json").write_text('{"start": "2024-01-01", "target": [1, null], "cat": [2]}\n')
    run("s.json", "out.parquet", "--from-options", '{"form": "series"}', "--from", "json")
    assert rows("out.parquet") == [{"start": "2024-01-01", "target": [1.0, None], "cat": [2], "dynamic_feat": None}]


def test_lists_where_columns_are_expected_are_rejects_and_not_dropped() -> None:
    Path("in.jsonl").write_text('{"a": 1}\n{"a": 2, "t": [1, 2]}\n')
    assert "unparseable value 1" in run("in.jsonl", "out.parquet", code=1).stderr


@pytest.mark.parametrize("ending", ["csv", "jsonl.gz", "parquet", "avro", "libsvm", "rec"])
def test_a_folder_that_is_not_there_is_one_sentence(ending: str) -> None:
    formats.write("in.csv", [PLAIN], "csv")
    for folder, why in (("none", "No such file or directory"), ("in.csv", "Not a directory")):
        result = run("in.csv", f"{folder}/out.{ending}", code=1)
        assert isinstance(result.exception, SystemExit)
        assert f"{folder}/out.{ending} cannot be used: {why}." in result.stderr.replace("\n", " ")
