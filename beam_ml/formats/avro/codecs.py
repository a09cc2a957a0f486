"""Blocks of Avro container files without their compression: every codec of the specification, bounded by a block's bytes."""

import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

__all__ = ["CODECS", "unpacked"]

_LEAST_BOUND, _RATIO = 64 << 20, 64
"""A block may hold this many bytes, or this many times its own where that is more: a few hundred may claim gigabytes."""


def _null(data: bytes, most: int) -> bytes:
    del most
    return data


def _by(new: Callable[[], Any]) -> Callable[[bytes, int], bytes]:
    def unpack(data: bytes, most: int) -> bytes:
        decompressor = new()
        found: bytes = decompressor.decompress(data, most + 1)
        if len(found) <= most and not decompressor.eof:
            message = "a compressed block is cut off"
            raise ValueError(message)
        return found

    return unpack


def _snappy(data: bytes, most: int) -> bytes:
    """Read a block of snappy, whose last four bytes are the CRC of what it holds."""
    packed, size, shift = data[:-4], 0, 0
    for byte in packed[:5]:
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    if size > most:
        message = f"a block of {len(data)} bytes must hold at most {most}; it claims {size}"
        raise ValueError(message)
    found: bytes = pa.decompress(packed, size, codec="snappy", asbytes=True)
    if zlib.crc32(found) != int.from_bytes(data[-4:], "big"):
        message = "a block of snappy does not match its checksum"
        raise ValueError(message)
    return found


def _zstandard(data: bytes, most: int) -> bytes:
    # `read` keeps the memory that it has set aside for good where the block is damaged.
    found: bytes = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read_buffer(most + 1).to_pybytes()
    return found


CODECS: Mapping[str, Callable[[bytes, int], bytes]] = MappingProxyType(
    {
        "null": _null,
        "deflate": _by(lambda: zlib.decompressobj(-15)),
        "bzip2": _by(bz2.BZ2Decompressor),
        "xz": _by(lzma.LZMADecompressor),
        "snappy": _snappy,
        "zstandard": _zstandard,
    }
)
"""Name → function from a block's bytes and the most that it may hold to what it holds; one byte more than that: too much."""


def unpacked(codec: str, data: bytes) -> bytes:
    """Return what a container block holds.

    Raises:
        ValueError: it is damaged, of no codec of the specification, or holds more than its bytes may claim.

    >>> unpacked("bzip2", bz2.compress(b"rows"))
    b'rows'
    """
    if codec not in CODECS:
        message = f"its codec must be one of {list(CODECS)}; got {codec!r}"
        raise ValueError(message)
    most = max(_LEAST_BOUND, _RATIO * len(data))
    found = CODECS[codec](data, most)
    if len(found) > most:
        message = f"a block of {len(data)} bytes must hold at most {most}; it holds more"
        raise ValueError(message)
    return found
