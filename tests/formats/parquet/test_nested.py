"""Columns within columns are wanted by their path: what comes is what a walk through the rows finds."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.errors import MissingColumn
from beam_ml.formats import parquet
from beam_ml.formats.profile import head

ROWS: list[dict[str, Any]] = [
    {"id": i, "a": None if i % 5 == 0 else {"b": i / 2, "c": None if i % 3 == 0 else {"d.e": f"t{i}", "f": [i]}}}
    for i in range(40)
]
INNER = pa.struct([("d.e", pa.string()), ("f", pa.list_(pa.int64()))])
BATCH = pa.RecordBatch.from_pylist(
    ROWS, pa.schema([("id", pa.int64()), ("a", pa.struct([("b", pa.float64()), ("c", INNER)]))])
)
PATHS: dict[str, tuple[str, ...]] = {
    "id": ("id",), "a.b": ("a", "b"), "a.c.d.e": ("a", "c", "d.e"), "a.c.f": ("a", "c", "f"), "a.c": ("a", "c"),
}  # fmt: skip


def walked(row: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        row = None if row is None else row[name]
    return row


@pytest.mark.parametrize("names", [["a.b"], ["a.c.d.e", "id"], ["a.c.f", "a.b"], ["a.c", "a.c.d.e"], list(PATHS)])
def test_a_path_is_what_a_walk_finds(tmp_path: Path, names: list[str]) -> None:
    file = tmp_path / "a.parquet"
    parquet.write(str(file), [BATCH], row_group_rows=16)
    wanted = [{name: walked(row, PATHS[name]) for name in names} for row in ROWS]
    pieces = formats.ranges(formats.stat(str(file)), 10)
    blocks = [block for piece in pieces for block in formats.read(piece, names, max_rows=7)]
    assert [row for block in blocks for row in block.to_dicts()] == wanted
    assert parquet.decode(file.read_bytes(), names).to_dicts() == wanted


def test_a_column_of_that_very_name_comes_first(tmp_path: Path) -> None:
    both = pa.record_batch({"a": [{"b": 1.0}], "a.b": [2.0]})
    assert parquet.decode(parquet.encode(both), ["a.b"]).to_dicts() == [{"a.b": 2.0}]


@pytest.mark.parametrize("name", ["a.x", "a.", "id.b", "a.c.d", "b"])
def test_a_path_to_nowhere_is_no_column(name: str) -> None:
    with pytest.raises(MissingColumn, match=r"must have one column .*; got \['id', 'a'\]"):
        parquet.decode(parquet.encode(BATCH), [name])


def test_a_look_shows_each_path(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    parquet.write(str(file), [BATCH])
    found = head([formats.stat(str(file))], formats.of_files("parquet"))
    assert found.rows.column_names == ["id", "a.b", "a.c.d.e", "a.c.f"]
    assert found.rows["a.b"].to_pylist() == [walked(row, ("a", "b")) for row in ROWS]
