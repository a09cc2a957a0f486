"""Container blocks of every codec, and blocks that hold more than their bytes may claim."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable

import fastavro
import pyarrow as pa
import pytest

from beam_ml.errors import UnreadableInput
from beam_ml.formats import avro

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
