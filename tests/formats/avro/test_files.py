import datetime
import io
from decimal import Decimal
from pathlib import Path

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.core.batch import Origin
from beam_ml.errors import BeamMLError, InvalidValue, MissingColumn, UnreadableInput
from beam_ml.formats import avro
from beam_ml.formats.avro.values import arrow_type
from beam_ml.formats.files import FileRange, stat

SCHEMA = {
    "type": "record",
    "name": "payment",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "amount", "type": ["null", "double"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}


def put(path: Path, n: int, **options) -> str:
    records = [{"id": i, "amount": None if i % 7 == 0 else i / 2, "at": i * 1_000_000} for i in range(n)]
    with path.open("wb") as stream:
        fastavro.writer(stream, SCHEMA, records, **options)
    return str(path)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(0, 200), sync=st.integers(20, 400), target=st.integers(1, 90), max_rows=st.integers(1, 70))
def test_ranges_and_blocks_tile_the_rows(
    tmp_path_factory: pytest.TempPathFactory, n: int, sync: int, target: int, max_rows: int
) -> None:
    path = put(tmp_path_factory.mktemp("a") / "a.avro", n, sync_interval=sync)
    place = 0
    for piece in avro.ranges(stat(path), target):
        assert piece.start == place
        for block in avro.read(piece, ["at", "id"], max_rows, "payments"):
            assert (block.start, len(block)) == (place, block.stop - block.start)
            assert 0 < len(block) <= max_rows
            assert block.position is not None
            assert block.batch["id"].to_pylist() == block.position.tolist() == list(range(place, block.stop))
            assert block.origin == Origin("payments", path)
            place = block.stop
        assert piece.stop == place
    assert place == n


def test_a_range_cut_later_reads_from_its_own_start(tmp_path: Path) -> None:
    path = put(tmp_path / "a.avro", 500, sync_interval=300)
    pieces = avro.ranges(stat(path), 100)
    assert len(pieces) > 3
    second = pieces[1].to_dict()
    cut = FileRange.from_dict({**second, "start": second["start"] + 13})
    (block,) = avro.read(cut)
    assert block.batch["id"].to_pylist() == list(range(cut.start, cut.stop))


def test_columns_keep_their_types(tmp_path: Path) -> None:
    path = put(tmp_path / "a.avro", 10, codec="deflate")
    (piece,) = avro.ranges(stat(path), 100)
    (block,) = avro.read(piece)
    assert block.batch.schema.types == [pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC")]
    assert block.batch["amount"].to_pylist()[:2] == [None, 0.5]
    assert block.batch["at"][3].as_py() == datetime.datetime(1970, 1, 1, 0, 0, 3, tzinfo=datetime.UTC)


BATCH = pa.record_batch(
    {
        "bool": pa.array([True, None]),
        "int8": pa.array([1, 2], pa.int8()),
        "uint32": pa.array([1, 2**32 - 1], pa.uint32()),
        "float": pa.array([0.5, None], pa.float32()),
        "text": pa.array(["é", ""]),
        "bytes": pa.array([b"\0", b""]),
        "ns": pa.array([1, 2], pa.timestamp("ns", tz="UTC")),
        "local": pa.array([1, 2], pa.timestamp("ms")),
        "seconds": pa.array([1, 2], pa.timestamp("s", tz="UTC")),
        "date": pa.array([1, None], pa.date32()),
        "decimal": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
        "list": pa.array([[1, 2], []], pa.list_(pa.int64())),
        "category": pa.array(["a", "b"]).dictionary_encode(),
    }
)


def test_bytes_and_back() -> None:
    block = avro.decode(avro.encode(BATCH))
    assert block.batch["ns"].equals(BATCH["ns"])
    assert block.batch.drop_columns("ns").to_pydict() == BATCH.drop_columns("ns").to_pydict()
    assert block.batch["local"].type == pa.timestamp("ms")
    assert len(avro.decode(avro.encode(BATCH.slice(0, 0)), ["text"])) == 0
    assert avro.decode(avro.encode(BATCH), ["text"]).batch.schema.names == ["text"]


def test_many_batches_make_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "a.avro")
    avro.write(path, [BATCH, BATCH.slice(1)])
    (piece,) = avro.ranges(stat(path), 100)
    (block,) = avro.read(piece, ["text"])
    assert block.batch["text"].to_pylist() == ["é", "", ""]


def test_nested_types() -> None:
    data = io.BytesIO()
    inner = {"type": "record", "name": "inner", "fields": [{"name": "v", "type": "int"}]}
    fields = [
        {"name": "map", "type": {"type": "map", "values": "double"}},
        {"name": "record", "type": inner},
        {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["x", "y"]}},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "key", "type": {"type": "fixed", "name": "key", "size": 2}},
        {"name": "wrapped", "type": {"type": "long"}},
    ]
    record = {"map": {"a": 1.0}, "record": {"v": 1}, "kind": "y", "id": "u", "key": b"ab", "wrapped": 5}
    fastavro.writer(data, {"type": "record", "name": "outer", "fields": fields}, [])
    plain = [f if f["name"] != "id" else {"name": "id", "type": "string"} for f in fields]
    data = io.BytesIO()
    fastavro.writer(data, {"type": "record", "name": "outer", "fields": plain}, [record])
    assert avro.decode(data.getvalue()).batch.to_pylist() == [{**record, "map": [("a", 1.0)]}]
    assert arrow_type(fields[3]["type"]) == pa.string()


@pytest.mark.parametrize("schema", [["int", "bytes"], "elsewhere"])
def test_types_without_an_equal_are_refused(schema: object) -> None:
    with pytest.raises(ValueError, match="has no Arrow equivalent"):
        arrow_type(schema)


def test_a_column_of_another_type_is_refused_only_when_it_is_read() -> None:
    fields = [{"name": "a", "type": "int"}, {"name": "b", "type": ["int", "bytes"]}]
    data = io.BytesIO()
    fastavro.writer(data, {"type": "record", "name": "r", "fields": fields}, [{"a": 1, "b": b"x"}, {"a": 2, "b": 3}])
    assert avro.decode(data.getvalue(), ["a"]).batch["a"].to_pylist() == [1, 2]
    with pytest.raises(UnreadableInput, match=r"cannot be read as Avro: a union of 2 types has no Arrow equivalent\.$"):
        avro.decode(data.getvalue())


def test_a_type_that_avro_lacks_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"column 'u' must be of a type that Avro has; got uint64\.$"):
        avro.encode(pa.record_batch({"u": pa.array([1], pa.uint64())}))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "a.avro", 3)
    (piece,) = avro.ranges(stat(path), 10)
    with pytest.raises(MissingColumn, match=r"a\.avro must have a column 'zz'; got \['id', 'amount', 'at'\]\.$"):
        list(avro.read(piece, ["zz"]))


@pytest.mark.parametrize("keep", [0, 2, 40, -1, -17])
def test_a_file_cut_short_is_unreadable(tmp_path: Path, keep: int) -> None:
    path = Path(put(tmp_path / "a.avro", 100))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnreadableInput, match=rf"{path} cannot be read as Avro: .+\.$"):
        avro.ranges(stat(str(path)), 10)


def test_rows_that_are_no_records_are_unreadable() -> None:
    data = io.BytesIO()
    fastavro.writer(data, "int", [1, 2])
    with pytest.raises(UnreadableInput, match=r"its rows are not records\.$"):
        avro.decode(data.getvalue())


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_flipped_bytes_give_rows_or_a_typed_error(tmp_path: Path, codec: str) -> None:
    good = Path(put(tmp_path / "a.avro", 60, codec=codec, sync_interval=200)).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(good), 200):
        data = bytearray(good)
        data[place] ^= int(rng.integers(1, 256))
        try:
            assert len(avro.decode(bytes(data))) >= 0
        except BeamMLError:
            refused += 1
    assert refused > 50
