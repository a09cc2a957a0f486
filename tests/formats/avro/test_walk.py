"""Few bytes of Avro may not mean much: nesting without end, items that take no bytes, decimals of a megabyte."""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from beam_ml.errors import UnreadableInput
from beam_ml.formats import list_files, ranges, read
from beam_ml.formats.avro.schema import plain
from beam_ml.formats.avro.walk import Walk, walk_for
from beam_ml.formats.messages import decoder

TREE = {
    "type": "record",
    "name": "node",
    "namespace": "a.b",
    "fields": [{"name": "x", "type": "double"}, {"name": "next", "type": ["null", "node"]}],
}
NULLS = {
    "type": "record",
    "name": "row",
    "fields": [{"name": "x", "type": "double"}, {"name": "none", "type": {"type": "array", "items": "null"}}],
}
DECIMAL = {
    "type": "record",
    "name": "row",
    "fields": [
        {"name": "x", "type": "double"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 2}},
    ],
}
EVERYTHING: dict[str, Any] = {
    "type": "record",
    "name": "all",
    "namespace": "n",
    "fields": [
        {"name": "tree", "type": TREE},
        {"name": "again", "type": {"type": "array", "items": "a.b.node"}},
        {"name": "many", "type": {"type": "map", "values": ["null", "int", {"type": "array", "items": "string"}]}},
        {"name": "kind", "type": {"type": "enum", "name": "kinds", "symbols": ["A", "B"]}},
        {"name": "key", "type": {"type": "fixed", "name": "key", "size": 3}},
        {"name": "plain", "type": {"type": "record", "name": "inner", "fields": [{"name": "b", "type": "boolean"}]}},
        {"name": "one", "type": ["n.inner", "float", "bytes"]},
    ],
}


def walk_of(schema: Any) -> Walk | None:
    named: dict[str, Any] = {}
    return walk_for(fastavro.parse_schema(plain(schema), named_schemas=named), named)


def written(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), value)
    return out.getvalue()


def nested(levels: int) -> bytes:
    """Return a node within a node and so on, without recursion."""
    return (np.float64(1.0).tobytes() + b"\x02") * levels + np.float64(1.0).tobytes() + b"\x00"


def varint(value: int) -> bytes:
    zigzag, out = (value << 1) ^ (value >> 63), bytearray()
    while zigzag >= 0x80:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def decoded(schema: Any, values: list[bytes], column: str = "x") -> tuple[int, int]:
    """Return how many messages were rows, and how many were refused."""
    decode = decoder("avro", {"framing": "none", "schema_text": json.dumps(schema)})
    found = decode(pa.array(values, pa.binary()), [column])
    return sum(len(batch) for batch in [found.batch] if batch is not None), len(values) - len(found.batch)


@pytest.mark.parametrize("seed", range(20))
def test_a_walk_ends_where_the_value_does(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def node(levels: int) -> dict[str, Any]:
        return {"x": float(rng.normal()), "next": None if levels == 0 else node(levels - 1)}

    value = {
        "tree": node(int(rng.integers(5))),
        "again": [node(1) for _ in range(rng.integers(4))],
        "many": {
            f"k{i}": [None, int(rng.integers(-(2**31), 2**31)), ["a", "é" * i]][i % 3] for i in range(rng.integers(6))
        },
        "kind": "B",
        "key": b"abc",
        "plain": {"b": True},
        "one": [{"b": False}, 1.5, b"\x00" * int(rng.integers(300))][seed % 3],
    }
    data = written(EVERYTHING, value)
    walk = walk_of(EVERYTHING)
    assert walk is not None
    assert walk(data) == len(data)
    assert walk(b"??" + data + data, at=2, rows=2) == 2 * len(data) + 2
    for end in range(0, len(data), 7):
        with pytest.raises(ValueError, match="cut off"):
            walk(data[:end])


@pytest.mark.parametrize(
    ("schema", "needed"),
    [
        ("long", False),
        ({"type": "array", "items": "long"}, False),
        ({"type": "array", "items": "null"}, True),
        ({"type": "array", "items": {"type": "record", "name": "e", "fields": []}}, True),
        ({"type": "array", "items": {"type": "fixed", "name": "f", "size": 0}}, True),
        ({"type": "array", "items": ["null"]}, False),
        (TREE, True),
        (NULLS, True),
        (DECIMAL, False),  # read as bytes, and converted where it is wanted
    ],
)
def test_which_schemas_are_walked(schema: Any, needed: bool) -> None:
    assert (walk_of(schema) is not None) == needed


def test_a_schema_of_many_names_is_looked_at_once_a_name() -> None:
    schema: Any = {"type": "record", "name": "r0", "fields": []}
    for i in range(1, 60):
        fields = [{"name": "a", "type": schema}, {"name": "b", "type": f"r{i - 1}"}]
        schema = {"type": "record", "name": f"r{i}", "fields": fields}
    assert walk_of({"type": "array", "items": schema}) is not None


def test_messages_that_nest_without_end_are_rejects() -> None:
    assert decoded(TREE, [nested(2), nested(200_000), nested(50)]) == (2, 1)


def test_messages_that_claim_nulls_without_end_are_rejects() -> None:
    x = np.float64(1.0).tobytes()
    good, bad = x + varint(3) + varint(0), x + varint(2**60) + varint(0)
    sized = x + varint(-(2**60)) + varint(0) + varint(0)
    assert decoded(NULLS, [good, bad, sized, good]) == (2, 2)


def test_decimals_of_a_megabyte_are_rejects_and_those_that_no_column_holds_are_not_made() -> None:
    x, long = np.float64(1.0).tobytes(), varint(1 << 20) + b"\x7f" * (1 << 20)
    for digits in ("30", "60", "2000"):
        schema = json.loads(json.dumps(DECIMAL).replace("30", digits))
        assert decoded(schema, [x + varint(2) + b"\x01\x02", x + long], "price") == (1, 1)
        assert decoded(schema, [x + long]) == (1, 0)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (TREE, nested(3), nested(100_000)),
        (NULLS, np.float64(1.0).tobytes() + varint(0), np.float64(1.0).tobytes() + varint(2**60) + varint(0)),
    ],
)
def test_files_of_such_rows_are_refused(tmp_path: Path, schema: Any, good: bytes, bad: bytes) -> None:
    for name, rows in (("good", [good, good]), ("bad", [good, bad])):
        out = io.BytesIO()
        fastavro.writer(out, json.loads(json.dumps(schema)), [], sync_marker=b"0" * 16)
        data = b"".join(rows)
        out.write(varint(len(rows)) + varint(len(data)) + data + b"0" * 16)
        (tmp_path / f"{name}.avro").write_bytes(out.getvalue())
    (file,) = list_files(str(tmp_path / "good.avro"))
    assert sum(len(block) for piece in ranges(file, 1 << 20) for block in read(piece, ["x"], 10)) == 2
    (file,) = list_files(str(tmp_path / "bad.avro"))
    with pytest.raises(UnreadableInput, match=r"nested deeper than|claims 1152921504606846976 items"):
        [list(read(piece, ["x"], 10)) for piece in ranges(file, 1 << 20)]
