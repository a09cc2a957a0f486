from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.core.batch import Origin
from beam_ml.errors import MissingColumn, UnreadableInput
from beam_ml.formats import parquet
from beam_ml.formats.files import FileRange, stat


def rows(n: int, start: int = 0) -> pa.RecordBatch:
    i = np.arange(start, start + n)
    return pa.record_batch({"i": i, "x": i * 0.5, "s": pa.array([str(v) for v in i], pa.string())})


@settings(max_examples=40, deadline=None)
@given(
    groups=st.lists(st.integers(0, 60), min_size=1, max_size=6),
    target=st.integers(1, 80),
    max_rows=st.integers(1, 70),
)
def test_ranges_and_blocks_tile_the_rows_however_the_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], target: int, max_rows: int
) -> None:
    path = str(tmp_path_factory.mktemp("p") / "a.parquet")
    starts = np.cumsum([0, *groups])
    parquet.write(path, [rows(n, int(start)) for n, start in zip(groups, starts[:-1], strict=True)])
    pieces = parquet.ranges(stat(path), target)
    assert [piece.start for piece in pieces] == [0, *[piece.stop for piece in pieces[:-1]]] or starts[-1] == 0
    place = 0
    for piece in pieces:
        assert piece.n_rows is not None
        assert 0 < piece.n_rows <= max(2 * target, target + max(groups))
        assert piece.start == place
        for block in parquet.read(piece, ["x", "i"], max_rows):
            assert (block.start, len(block)) == (place, block.stop - block.start)
            assert 0 < len(block) <= max_rows
            assert block.position is not None
            assert block.batch["i"].to_pylist() == block.position.tolist() == list(range(place, block.stop))
            assert block.batch.schema.names == ["x", "i"]
            place = block.stop
        assert place == piece.stop
    assert place == starts[-1]


def test_ranges_keep_row_groups_whole_unless_they_are_large(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    parquet.write(path, [rows(100), rows(100), rows(100), rows(1000)], row_group_rows=2000)
    pieces = parquet.ranges(stat(path), 200)
    assert [piece.stop for piece in pieces] == [200, 300, 500, 700, 900, 1100, 1300]


def test_a_range_may_begin_and_end_anywhere(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    parquet.write(path, [rows(100), rows(100, 100)])
    file = stat(path)
    blocks = list(
        parquet.read(FileRange(path, file.size, file.mtime_ns, "parquet", 37, 141), max_rows=20, source="cards")
    )
    assert pa.Table.from_batches([b.batch for b in blocks])["i"].to_pylist() == list(range(37, 141))
    assert blocks[0].origin == Origin("cards", path)


def test_a_file_without_rows_has_no_range(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    parquet.write(path, [rows(0)])
    assert parquet.ranges(stat(path), 10) == []


@pytest.mark.parametrize("keep", [0, 3, 500, -1, -9])
def test_a_file_cut_short_is_unreadable(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.parquet"
    parquet.write(str(path), [rows(1000)])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnreadableInput, match=rf"{path} cannot be read as Parquet: .+\.$") as caught:
        parquet.ranges(stat(str(path)), 10)
    assert "\n" not in str(caught.value)


def test_another_format_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text("a,b\n1,2\n" * 10)
    with pytest.raises(UnreadableInput, match="Parquet magic bytes not found"):
        parquet.ranges(stat(str(path)), 10)


def test_damaged_pages_are_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write(str(path), [rows(5000)])
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(255 - byte for byte in data[200:260])
    path.write_bytes(data)
    (piece,) = parquet.ranges(stat(str(path)), 10_000)
    with pytest.raises(UnreadableInput, match=r"cannot be read as Parquet: .+\.$"):
        list(parquet.read(piece))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    parquet.write(path, [rows(5)])
    (piece,) = parquet.ranges(stat(path), 10)
    with pytest.raises(MissingColumn, match=r"a\.parquet must have one column 'y'; got \['i', 'x', 's'\]\.$"):
        list(parquet.read(piece, ["x", "y"]))


def test_a_range_past_the_end_is_unreadable(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    parquet.write(path, [rows(5)])
    file = stat(path)
    with pytest.raises(UnreadableInput, match="it ends at row 5, not at row 9"):
        list(parquet.read(FileRange(path, file.size, file.mtime_ns, "parquet", 0, 9)))


def test_bytes_and_back() -> None:
    batch = rows(1000)
    block = parquet.decode(parquet.encode(batch))
    assert block.batch.equals(batch)
    assert block.position is not None
    assert block.position.tolist() == list(range(1000))
    assert parquet.decode(parquet.encode(rows(0)), ["x"]).batch.schema.names == ["x"]
    with pytest.raises(UnreadableInput, match=r"<9 bytes> cannot be read as Parquet"):
        parquet.decode(b"no parquet"[:9])
    with pytest.raises(MissingColumn):
        parquet.decode(parquet.encode(batch), ["z"])


def test_files_of_other_writers_are_read(tmp_path: Path) -> None:
    path = str(tmp_path / "a.parquet")
    table = pa.Table.from_batches([rows(1000)])
    pq.write_table(table, path, row_group_size=130, compression="snappy", use_dictionary=True)
    pieces = parquet.ranges(stat(path), 100)
    blocks = [block for piece in pieces for block in parquet.read(piece)]
    assert len(pieces) == 8
    assert pa.Table.from_batches([b.batch for b in blocks]).equals(table)


def test_columns_of_measurements_are_written_without_a_dictionary(tmp_path: Path) -> None:
    n = 20_000
    rng = np.random.default_rng(0)
    columns = {"measured": rng.normal(size=n), "flag": rng.integers(2, size=n).astype(float), "id": rng.permutation(n)}
    batch = pa.record_batch({**columns, "name": [f"a{i % 7}" for i in range(n)]})
    parquet.write(str(tmp_path / "a.parquet"), [batch])
    group = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0)
    found = {group.column(j).path_in_schema: group.column(j).has_dictionary_page for j in range(4)}
    assert found == {"measured": False, "flag": True, "id": True, "name": True}
    assert parquet.decode(parquet.encode(batch)).batch.equals(batch)
