"""Sources and sinks: the same rows out as in, whole files or none."""

import os

import numpy as np
import pyarrow as pa
import pytest
import toy_lines

from beam_ml import formats
from beam_ml.beam import (
    ReadAvro,
    ReadCsv,
    ReadFiles,
    ReadParquet,
    WriteAvro,
    WriteCsv,
    WriteFiles,
    WriteParquet,
    engine,
)
from beam_ml.beam.wire import coders
from beam_ml.core.batch import Origin
from beam_ml.errors import BeamMLError, InvalidValue, NoInput
from beam_ml.formats import Block
from beam_ml.formats.csv import Options
from tests.beam.support import Seen, create, ran

KINDS = {"parquet": (ReadParquet, WriteParquet), "csv": (ReadCsv, WriteCsv), "avro": (ReadAvro, WriteAvro)}


def table(first, n):
    place = np.arange(first, first + n)
    return pa.record_batch({"id": place, "x": np.sqrt(place), "name": [f"row {i}" for i in place]})


def read(tmp_path, source):
    pipeline = engine.new_pipeline()
    seen = Seen(tmp_path / "seen", coders.BlockCoder())
    pipeline | source | seen.sink()
    assert ran(pipeline) == "FnApiRunner"
    return seen.values()


def rows_of(blocks):
    return sorted((row for block in blocks for row in block.batch.to_pylist()), key=lambda row: row["id"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_through_files(kind, tmp_path):
    source, sink = KINDS[kind]
    pipeline = engine.new_pipeline()
    given = [Block(table(40 * i, 40)) for i in range(6)]
    paths = Seen(tmp_path / "paths", coders.BlockCoder())
    assert paths.values() == []
    create(pipeline, given, Block, coders.BlockCoder()) | sink(str(tmp_path / "out" / "rows"))
    assert ran(pipeline) == "FnApiRunner"
    names = sorted(os.listdir(tmp_path / "out"))
    assert names == [f"rows-00000-of-00001.{kind}"]  # nothing hidden is left
    blocks = read(tmp_path, source(str(tmp_path / "out"), max_rows=50))
    assert rows_of(blocks) == rows_of(given)
    assert all(len(block) <= 50 for block in blocks)
    assert {block.origin for block in blocks} == {Origin("files", str(tmp_path / "out" / names[0]))}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_and_ranges(kind, tmp_path):
    for i in range(3):
        formats.write(str(tmp_path / f"{i}.{kind}"), [table(100 * i, 100)])
    (tmp_path / "_SUCCESS").write_text("")
    blocks = read(tmp_path, KINDS[kind][0](str(tmp_path / f"*.{kind}"), columns=["id"], source="mine"))
    assert [row["id"] for row in rows_of(blocks)] == list(range(300))
    assert {tuple(block.batch.schema.names) for block in blocks} == {("id",)}
    assert {block.origin.source for block in blocks} == {"mine"}


def test_options_of_a_format_reach_the_workers(tmp_path):
    options = Options(delimiter=";")
    pipeline = engine.new_pipeline()
    create(pipeline, [Block(table(0, 5))], Block, coders.BlockCoder()) | WriteCsv(str(tmp_path / "o"), options)
    ran(pipeline)
    assert (tmp_path / "o-00000-of-00001.csv").read_text().splitlines()[0].count(";") == 2
    assert rows_of(read(tmp_path, ReadCsv(str(tmp_path), options=options))) == table(0, 5).to_pylist()


@pytest.mark.parametrize("options", [None, toy_lines.Options(separator=";")])
def test_a_format_from_outside_the_package(tmp_path, options):
    name = toy_lines.FORMAT.name
    rows = pa.record_batch({"id": np.arange(90.0), "x": np.sqrt(np.arange(90.0))})
    pipeline = engine.new_pipeline()
    blocks = create(pipeline, [Block(rows)], Block, coders.BlockCoder())
    blocks | WriteFiles(str(tmp_path / "out" / "rows"), options, name)
    ran(pipeline)
    assert os.listdir(tmp_path / "out") == ["rows-00000-of-00001.lines"]
    found = read(tmp_path, ReadFiles(str(tmp_path / "out"), ["x", "id"], 40, options=options, format=name))
    assert rows_of(found) == rows.select(["x", "id"]).to_pylist()
    assert sorted(len(block) for block in found) == [10, 40, 40]


def test_a_format_must_be_named():
    for transform in (ReadFiles, WriteFiles):
        with pytest.raises(InvalidValue, match="format must be one of"):
            transform("there")


def test_shards_of_several_schemas_and_of_a_full_buffer(tmp_path, monkeypatch):
    from beam_ml.beam.transforms import write

    monkeypatch.setattr(write, "_SHARD_BYTES", 2000)
    pipeline = engine.new_pipeline()
    other = Block(pa.record_batch({"z": [1.0]}))
    given = [*(Block(table(100 * i, 100)) for i in range(3)), other]
    create(pipeline, given, Block, coders.BlockCoder()) | WriteParquet(str(tmp_path / "rows"))
    ran(pipeline)
    names = sorted(name for name in os.listdir(tmp_path))
    assert names == [f"rows-{i:05d}-of-00004.parquet" for i in range(4)]


def test_a_failed_run_leaves_no_named_file(tmp_path):
    list_column = Block(pa.record_batch({"id": [1], "x": [[1.0, 2.0]]}))
    pipeline = engine.new_pipeline()
    create(pipeline, [list_column], Block, coders.BlockCoder()) | WriteCsv(str(tmp_path / "rows"))
    with pytest.raises(Exception, match=r"(?i)csv|list"):
        engine.run(pipeline)
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == []


def test_no_file_is_a_typed_error(tmp_path):
    with pytest.raises(NoInput, match="there is no file"):
        read(tmp_path, ReadParquet(str(tmp_path / "*.parquet")))
    assert issubclass(NoInput, BeamMLError)
