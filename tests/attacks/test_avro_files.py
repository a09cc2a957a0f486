"""Container blocks of every codec, and blocks that hold more than their bytes may claim."""

import bz2
import io
import lzma
import random
import tracemalloc
import zlib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from beam_ml.errors import MissingColumn, UnreadableInput
from beam_ml.formats import avro
from tests.attacks.effort import EFFORT

SYNC = bytes(range(16))
SCHEMA = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "long"}, {"name": "s", "type": "string"}]}
ROWS = [{"x": i, "s": f"row {i}"} for i in range(300)]


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": deflated,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "snappy": lambda data: pa.compress(data, "snappy", asbytes=True) + zlib.crc32(data).to_bytes(4, "big"),
    "zstandard": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def varint(value: int) -> bytes:
    left, found = value << 1, bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    return bytes([*found, left])


def container(codec: str, rows: int, packed: bytes, schema: object = SCHEMA) -> bytes:
    """Return a file of one block; its header is fastavro's, with the codec's name put in."""
    head = io.BytesIO()
    fastavro.writer(head, schema, [], codec="null", sync_marker=SYNC)
    name = bytes([2 * len(codec)]) + codec.encode()
    start = head.getvalue().replace(b"\x14avro.codec\x08null", b"\x14avro.codec" + name)
    return start + varint(rows) + varint(len(packed)) + packed + SYNC


NESTED = {
    "type": "record",
    "name": "r",
    "fields": [
        {"name": "x", "type": ["null", "double", "long"]},
        {"name": "s", "type": ["null", "string"]},
        {"name": "l", "type": {"type": "array", "items": "float"}},
        {"name": "m", "type": {"type": "map", "values": "long"}},
        {"name": "d", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
        {"name": "e", "type": {"type": "enum", "name": "kind", "symbols": ["a", "b"]}},
        {"name": "f", "type": {"type": "fixed", "name": "four", "size": 4}},
        {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "n", "type": {"type": "record", "name": "inner", "fields": [{"name": "z", "type": "int"}]}},
    ],
}
PIECES = [
    b"\xff" * 9 + b"\x01",
    b"\x80" * 9,
    b"\0",
    b"\x01",
    b"\xfe\xff\xff\xff\x0f",
    b"avro.codec",
    b"\xff",
    SYNC,
    b'{"type":"r"}',
]


def nested_rows(n: int) -> list[dict[str, Any]]:
    return [
        {
            "x": [None, i * 0.5, i][i % 3], "s": f"row {i}", "l": [0.5] * (i % 4), "m": {"a": i}, "d": Decimal(i).scaleb(-2),
            "e": "ab"[i % 2], "f": b"four", "t": i, "n": {"z": i},
        }
        for i in range(n)
    ]  # fmt: skip


def mutated(rng: random.Random, one: bytes) -> bytes:
    out = bytearray(one)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1) if rng.random() < 0.5 else rng.randrange(len(out) // 2, len(out) + 1)
        what = rng.randrange(4)
        if what == 0 and at < len(out):
            out[at] = rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF, out[at] ^ (1 << rng.randrange(8))])
        elif what == 1:
            del out[at : at + rng.randrange(1, 5)]
        elif what == 2:
            out[at:at] = rng.choice(PIECES)
        else:
            out[at : at + 1] = rng.randbytes(rng.randrange(1, 4))
    return bytes(out)


def raw_rows() -> bytes:
    stream = io.BytesIO()
    for row in ROWS:
        fastavro.schemaless_writer(stream, fastavro.parse_schema(SCHEMA), row)
    return stream.getvalue()


@pytest.mark.parametrize("codec", PACKED)
def test_every_codec_is_read(codec: str) -> None:
    block = avro.decode(container(codec, len(ROWS), PACKED[codec](raw_rows())))
    assert block.batch.to_pylist() == ROWS


@pytest.mark.parametrize("codec", ["deflate", "bzip2", "xz", "zstandard", "snappy"])
def test_a_block_that_holds_gigabytes_is_refused(codec: str) -> None:
    bomb = PACKED[codec](bytes(80 << 20)) if codec != "snappy" else b"\xff\xff\xff\xff\x07" + bytes(100)
    with pytest.raises(UnreadableInput, match="must hold at most"):
        avro.decode(container(codec, 1, bomb))


@pytest.mark.parametrize("codec", [name for name in PACKED if name != "null"])
def test_a_damaged_block_is_refused(codec: str) -> None:
    packed = PACKED[codec](raw_rows())
    for wrong in (packed[: len(packed) // 2], packed[:-6], b"", bytes(50)):
        with pytest.raises(UnreadableInput):
            avro.decode(container(codec, len(ROWS), wrong))


def test_a_codec_that_there_is_not() -> None:
    with pytest.raises(UnreadableInput, match="its codec must be one of"):
        avro.decode(container("brotli", len(ROWS), raw_rows()))


def test_a_block_that_claims_more_rows_than_it_has_bytes_is_refused() -> None:
    nothing = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "null"}]}
    with pytest.raises(UnreadableInput):
        avro.decode(container("null", 2**50, b"", nothing))


@pytest.mark.parametrize("codec", ["null", "deflate", "zstandard"])
def test_any_file_is_rows_or_one_sentence(codec: str) -> None:
    rng, stream = random.Random(codec), io.BytesIO()
    for row in nested_rows(9):
        fastavro.schemaless_writer(stream, fastavro.parse_schema(NESTED), row)
    seeds = [container(codec, 9, PACKED[codec](stream.getvalue()), NESTED), container("null", 300, raw_rows())]

    def damaged() -> bytes:
        if rng.random() < 0.4:
            return container(codec, 9, PACKED[codec](mutated(rng, stream.getvalue())), NESTED)
        return mutated(rng, seeds[rng.random() < 0.2])

    n_read, said = 0, list[str]()
    tracemalloc.start()
    try:
        for _ in range(170 * EFFORT):
            columns = rng.choice([None, ["x", "s"], ["l", "n.z"], ["x"]])
            try:
                block = avro.decode(damaged(), columns)
            except (UnreadableInput, MissingColumn) as error:
                said.append(str(error))
                continue
            block.batch.validate(full=True)
            n_read += 1
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()
    assert n_read > 10
    assert len(said) > 10
    assert not any("\n" in one for one in said)
