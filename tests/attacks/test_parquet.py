"""Damaged Parquet files, and those that claim more than they hold: rows, or one sentence."""

import contextlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml import formats
from beam_ml.errors import MissingColumn, UnreadableInput
from beam_ml.formats import parquet
from beam_ml.formats.parquet import files as parquet_files
from beam_ml.formats.parquet import watch
from beam_ml.formats.parquet.watch import watched
from tests.attacks.effort import EFFORT

ROWS = 1_234_567


def varint(value: int) -> bytes:
    """Return a whole number as Parquet's footer has it: zigzag, seven bits a byte."""
    left, found = value << 1, bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    return bytes([*found, left])


def claiming(rows: int) -> bytes:
    """Return a file of ROWS rows whose footer claims others."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": pa.nulls(ROWS, pa.float64())}), sink, row_group_size=ROWS)
    data = sink.getvalue().to_pybytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    assert varint(ROWS) in footer
    footer = footer.replace(varint(ROWS), varint(rows))
    return data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("rows", [2**40, 2**60, 2**62])
def test_a_footer_that_claims_too_many_rows_is_refused(tmp_path: Path, rows: int) -> None:
    data = claiming(rows)
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with pytest.raises(UnreadableInput, match=rf"its footer claims {rows} rows in {len(data)} bytes"):
        formats.ranges(formats.stat(str(path)), 65_536)
    with pytest.raises(UnreadableInput, match="its footer claims"):
        parquet.decode(data)


def wide(rows: int, columns: int) -> bytes:
    """Return a file of a few bytes a column that holds the same value in each of many rows."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({f"x{i}": pa.nulls(rows, pa.float64()) for i in range(columns)}), sink, row_group_size=rows)
    return sink.getvalue().to_pybytes()


def read(path: Path, columns: list[str] | None = None) -> int:
    return sum(
        len(block) for one in formats.ranges(formats.stat(str(path)), 1 << 30) for block in parquet.read(one, columns)
    )


@pytest.mark.parametrize(("seconds", "most"), [(0.001, 4 << 30), (60.0, 1 << 20)])
def test_what_takes_too_long_or_too_much_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    """Bounds of no time, or no memory, stand for a file that reaches the usual ones."""
    path = tmp_path / "a.parquet"
    path.write_bytes(wide(100_000, 40))
    monkeypatch.setattr(parquet_files, "_LEAST_VALUES", 1 << 20)
    assert read(path, ["x1"]) == 100_000  # few values
    assert read(path) == 100_000  # many, which decode at once
    monkeypatch.setattr(parquet_files, "_TRIAL_S", seconds)
    monkeypatch.setattr(parquet_files, "_MOST_BYTES", most)
    with pytest.raises(UnreadableInput, match=r"a\.parquet .* the 4000000 values that it claims in \d+ bytes do not"):
        read(path)
    assert read(path, ["x1"]) == 100_000
    with pytest.raises(UnreadableInput, match="it claims 4000000 values"):
        parquet.decode(path.read_bytes())


def test_a_file_with_a_usual_number_of_values_is_tried_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(wide(100_000, 40))
    monkeypatch.setattr(parquet_files, "_TRIAL_S", 0.001)
    assert read(path) == 100_000


def test_what_never_ends_is_refused_where_a_trial_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that waits for ever stands for one that spins: its thread is left behind."""
    path, end = tmp_path / "a.parquet", threading.Event()
    path.write_bytes(wide(1_000, 3))

    def spinning(*_: Any, **__: Any) -> Iterator[pa.RecordBatch]:
        yield from (pa.record_batch({"x0": [1.0]}) for _ in iter(end.wait, None))

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spinning)
    monkeypatch.setattr(watch, "_TICK_S", 0.01)
    monkeypatch.setattr(watch, "_end_in_any_case", lambda: None)
    monkeypatch.setattr(parquet_files, "_PATIENCE_S", 2)
    monkeypatch.setattr(parquet_files, "_TRIAL_S", 0.001)
    before = {*threading.enumerate()}
    try:
        with pytest.raises(
            UnreadableInput, match=r"a\.parquet .*: its rows from 0 on in \d+ bytes do not decode within"
        ):
            read(path)
        assert "parquet" in {one.name for one in {*threading.enumerate()} - before}
    finally:
        end.set()


def test_what_takes_long_is_waited_for_where_a_trial_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_TICK_S", 0.001)
    tried, end = list[bool](), threading.Event()

    def slow() -> Iterator[int]:
        yield 1
        end.wait()
        yield 2

    def passes() -> bool:
        tried.append(True)
        end.set()
        return True

    assert list(watched(slow(), 2, passes)) == [1, 2]
    assert tried == [True]


def test_a_decoder_ends_with_its_reader_and_its_errors_are_raised() -> None:
    for items, kept in ((iter("abc"), 1), (map(int, ["1", "x"]), 2)):
        before = {*threading.enumerate()}
        reader: Any = watched(items, 30, bool)
        assert next(reader) in ("a", 1)
        if kept == 2:
            with pytest.raises(ValueError, match="invalid literal"):
                next(reader)
        reader.close()
        for thread in threading.enumerate():
            if thread.name == "parquet":
                thread.join(10)
        assert {*threading.enumerate()} <= before


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return a file with a few bytes exchanged, in footer and pages alike."""
    changed = bytearray(data)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at = rng.randrange(footer, len(data) - 8) if rng.random() < 0.4 else rng.randrange(len(data))
        changed[at] = rng.choice([0, 1, 127, 128, 255, changed[at] ^ 1 << rng.randrange(8), rng.randrange(256)])
    return bytes(changed)


def whole(compression: str, version: str, dictionary: bool) -> bytes:
    n, sink = 300, pa.BufferOutputStream()
    table = pa.table(
        {
            "x": [i * 0.5 for i in range(n)],
            "s": [f"row {i % 37}" for i in range(n)],
            "i": [i % 9 or None for i in range(n)],
            "l": [[0.5] * (i % 4) for i in range(n)],
            "m": pa.array([[(f"k{i % 3}", i)] for i in range(n)], pa.map_(pa.string(), pa.int64())),
        }
    )
    kinds = {"s": "DELTA_BYTE_ARRAY", "i": "DELTA_BINARY_PACKED", "m.key_value.key": "DELTA_LENGTH_BYTE_ARRAY"}
    pq.write_table(
        table, sink, row_group_size=100, compression=compression, data_page_version=version, use_dictionary=dictionary,
        column_encoding=None if dictionary else kinds, store_schema=False, data_page_size=200,
    )  # fmt: skip
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_damaged_files_are_rows_or_refused(tmp_path: Path, compression: str, version: str, dictionary: bool) -> None:
    rng = random.Random(f"{compression} {version} {dictionary}")
    data, path = whole(compression, version, dictionary), tmp_path / "a.parquet"
    for _ in range(42 * EFFORT):
        path.write_bytes(mutated(rng, data))
        with contextlib.suppress(UnreadableInput, MissingColumn):  # names of columns are damaged, too
            read(path, rng.choice([None, ["x", "l"], ["s", "m"]]))


def test_many_rows_of_one_value_are_no_lie() -> None:
    assert len(parquet.decode(claiming(ROWS))) == ROWS
