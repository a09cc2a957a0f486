"""Memory that decoding takes: bounded, however few bytes claim however much."""

import contextlib
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml import formats
from beam_ml.errors import UnreadableInput
from beam_ml.formats import parquet
from beam_ml.formats.parquet import claims, thrift, trial
from beam_ml.formats.parquet import files as parquet_files

MB = 1 << 20


KEPT: list[pa.MemoryPool] = []
"""Pools that buffers may still be of."""


@contextlib.contextmanager
def watched_pool() -> Iterator[pa.MemoryPool]:
    """Return a pool that knows what has been taken of it at most."""
    before = pa.default_memory_pool()
    KEPT.append(pa.proxy_memory_pool(before))
    pa.set_memory_pool(KEPT[-1])
    try:
        yield KEPT[-1]
    finally:
        pa.set_memory_pool(before)


def written(path: Path, table: pa.Table, **settings: Any) -> Path:
    pq.write_table(table, path, **settings)
    return path


def lists(values: int, rows: int = 1) -> pa.Table:
    """Return a column of lists of which the last row holds all values."""
    offsets = pa.array([0] * rows + [values], pa.int32())
    return pa.table({"x": range(rows), "l": pa.ListArray.from_arrays(offsets, pa.nulls(values, pa.float64()))})


def words(rows: int, size: int) -> pa.Table:
    """Return a long text that stands in each row."""
    return pa.table({"s": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int8()), ["a" * size])})


def read(path: Path, columns: list[str] | None = None, rows: int = 65_536) -> list[int]:
    return [
        len(block)
        for one in formats.ranges(formats.stat(str(path)), 1 << 30)
        for block in parquet.read(one, columns, rows)
    ]


def test_a_list_of_very_many_values_in_one_row_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_files, "_MOST_BYTES", 64 * MB)
    path = written(tmp_path / "a.parquet", lists(1 << 24, 3))
    assert path.stat().st_size < MB // 4
    with watched_pool() as pool:
        with pytest.raises(
            UnreadableInput, match=r"the values that its pages claim in \d+ bytes do not decode .* 64 MiB"
        ):
            read(path)
        with pytest.raises(UnreadableInput, match="may take more than 64 MiB"):
            parquet.decode(path.read_bytes())
        assert pool.max_memory() <= 64 * MB
    assert read(path, ["x"]) == [3]  # the other column is as good as ever


@pytest.mark.parametrize("as_dictionary", [True, False])
def test_a_long_text_in_every_row_is_decoded_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_dictionary: bool
) -> None:
    monkeypatch.setattr(parquet_files, "_MOST_BYTES", 256 * MB)
    path = written(tmp_path / "a.parquet", words(1000, MB // 4), store_schema=as_dictionary)
    monkeypatch.setattr(trial, "passes", None)  # nothing is in doubt
    with watched_pool() as pool:
        assert sum(read(path)) == 1000
        assert 64 * MB < pool.max_memory() <= 256 * MB
    with pytest.raises(UnreadableInput, match="may take more than 256 MiB"):
        parquet.decode(path.read_bytes())


def test_a_page_that_unpacks_to_very_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "_MOST_BYTES", 64 * MB)
    table = pa.table({"s": ["a" * 128 * MB]})
    path = written(tmp_path / "a.parquet", table, compression="zstd", use_dictionary=False, write_statistics=False)
    assert path.stat().st_size < MB
    with pytest.raises(UnreadableInput, match="64 MiB"):
        read(path)


def test_what_fits_by_its_headers_is_tried_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "passes", None)
    rng, n = random.Random(1), 40_000
    table = pa.table(
        {
            "x": [rng.random() for _ in range(n)],
            "s": [f"user {rng.randrange(30_000)}" for _ in range(n)],
            "l": [[0.5, 1.5]] * n,
            "t": [["a", "b"]] * n,
            "m": pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int64())),
        }
    )
    path = written(tmp_path / "a.parquet", table, row_group_size=10_000)
    assert read(path) == [n]
    assert read(path, ["s"], 1000) == [1000] * 40


def test_what_is_in_doubt_and_decodes_in_a_trial_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of one long text in each row could hold it many times: that it does not shows when it is decoded."""
    monkeypatch.setattr(parquet_files, "_MOST_BYTES", 256 * MB)
    tried = list[bool]()
    passes = trial.passes

    def noted(*given: Any) -> bool:
        tried.append(passes(*given))
        return tried[-1]

    monkeypatch.setattr(trial, "passes", noted)
    table = pa.table({"l": [["b"] * 9] * 300 + [["a" * MB, "b"]]})
    assert read(written(tmp_path / "a.parquet", table)) == [301]
    assert tried == [True]


@pytest.mark.parametrize("rows", [1, 7, 100])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_no_rows_take_more_than_their_headers_let_expect(
    tmp_path: Path, rows: int, version: str, dictionary: bool
) -> None:
    rng = random.Random(f"{rows} {version} {dictionary}")
    encodings = {"s": "DELTA_BYTE_ARRAY", "d": "DELTA_BINARY_PACKED", "l.list.element": "DELTA_LENGTH_BYTE_ARRAY"}
    table = pa.table(
        {
            "x": [rng.random() for _ in range(500)],
            "s": [rng.choice("abc") * rng.randrange(3000) for _ in range(500)],
            "d": [rng.choice([None, 1, 2**40]) for _ in range(500)],
            "l": [["x" * rng.randrange(50)] * rng.randrange(200) for _ in range(500)],
            "n": [[[1.0] * rng.randrange(30)] * rng.randrange(9) or None for _ in range(500)],
            "f": pa.array([b"12345678901"] * 500, pa.binary(11)),
        }
    )
    path = written(
        tmp_path / "a.parquet", table, row_group_size=90, data_page_version=version, use_dictionary=dictionary,
        column_encoding=None if dictionary else encodings, store_schema=False,
    )  # fmt: skip
    with pq.ParquetFile(path) as file, path.open("rb") as stream:
        groups = list(range(file.num_row_groups))
        held = [file.metadata.row_group(g).num_rows for g in groups]
        for name in [*table.schema.names, None]:
            found = claims.claimed(stream, groups, None if name is None else [name])
            assert found is not None
            most = claims.needed(found, held, rows)
            batches = file.iter_batches(rows, columns=None if name is None else [name], use_threads=False)
            assert max(batch.get_total_buffer_size() for batch in batches) <= most


def test_claims_are_those_of_the_columns_asked_for(tmp_path: Path) -> None:
    table = pa.table({"a": [{"b": [1, 2], "c": 0.5}], "d": ["x"]})
    path = written(tmp_path / "a.parquet", table)
    with path.open("rb") as stream:

        def values(columns: list[str] | None) -> list[int]:
            found = claims.claimed(stream, [0], columns)
            assert found is not None
            return [one.values for one in found[0]]

        assert values(None) == [2, 1, 1]
        assert values(["a"]) == [2, 1]
        assert values(["a.b"]) == [2]
        assert values(["d", "a.c"]) == [1, 1]
        assert values(["misspelt"]) == [2, 1, 1]


def test_pages_without_end_are_not_followed_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.parquet", lists(3), data_page_size=100)
    monkeypatch.setattr(claims, "_MOST_PAGES", 2)
    with path.open("rb") as stream:
        assert claims.claimed(stream, [0], None) is None
    assert read(path) == [1]  # after a trial


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"\x15", IndexError),
        (b"\x18\x05ab", IndexError),
        (b"\x1d\x00", ValueError),
        (b"\x15" + b"\xff" * 11, ValueError),
    ],
)
def test_bytes_that_are_no_struct_are_refused(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        thrift.struct(data, {})


def test_of_a_footer_nothing_is_kept_that_is_not_wanted() -> None:
    count = 1 << 20
    structs = b"\xfc" + bytes([count & 127 | 128, count >> 7 & 127 | 128, count >> 14]) + bytes(count)
    data = b"\x19" + structs + b"\x18\x01a" + b"\x00"
    tracemalloc.start()
    try:
        assert thrift.struct(data, {2: {}}) == ({2: b"a"}, len(data))
        assert tracemalloc.get_traced_memory()[1] < count // 16
    finally:
        tracemalloc.stop()


def test_a_footer_is_followed_once_for_all_ranges_of_a_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", pa.table({"x": range(1_000)}), row_group_size=100)
    pieces = formats.ranges(formats.stat(str(path)), 100)
    claims._followed.cache_clear()
    assert [len(block) for one in pieces for block in parquet.read(one)] == [100] * 10
    assert claims._followed.cache_info().misses == 1


@pytest.mark.parametrize("deep", [b"\x1c" * 99, b"\x19" + b"\x19" * 99])
def test_what_is_nested_too_deep_is_no_struct(deep: bytes) -> None:
    with pytest.raises(ValueError, match="too deep"):
        thrift.struct(deep + b"\x00", {})


@pytest.mark.parametrize(("rows", "most"), [(1, 2), (2, 2), (10, 3), (100, 4)])
def test_rows_next_to_one_another_are_in_as_many_groups_as_they_reach(rows: int, most: int) -> None:
    claim = claims.Claim(0, False, 0, 1, 0, 0)  # of two bytes
    assert claims.needed([[claim]] * 4, [9] * 4, rows) == 2 * most
