"""What travels between the steps of rolling windows: blocks that wait for their aggregates, and pieces of those."""

import json

import numpy as np

from beam_ml.artefact.envelope import decode, encode
from beam_ml.beam.wire.codec import decode_block, encode_block
from beam_ml.features.rolling.blocks import OpenBlock, Piece
from beam_ml.features.rolling.rows import Tag
from beam_ml.formats.arrow_bytes import from_stream, to_stream

__all__ = ["decode_open", "decode_piece", "encode_open", "encode_piece", "is_open", "tag_bytes"]

_OPEN, _PIECE = b"o", b"p"


def tag_bytes(tag: Tag) -> bytes:
    """Return a block's tag as the bytes of a key."""
    return json.dumps(tag).encode()


def is_open(data: bytes) -> bool:
    """Return whether bytes are a block, and no piece."""
    return data[:1] == _OPEN


def encode_open(value: OpenBlock) -> bytes:
    """Return a block as bytes; it has no pieces yet."""
    block = value.block.replace(rejected=(*value.block.rejected, *value.rejected))
    arrays = {"block": np.frombuffer(encode_block(block), np.uint8), "good": value.good}
    return _OPEN + encode("rolling_block", {}, arrays)


def decode_open(data: bytes) -> OpenBlock:
    """Read the bytes of `encode_open`; what was rejected is in the block."""
    arrays = decode(data[1:], "rolling_block").arrays
    return OpenBlock(decode_block(arrays["block"].tobytes()), arrays["good"], ())


def encode_piece(value: Piece) -> bytes:
    """Return a piece as bytes."""
    arrays = {"row": value.row}
    if value.columns is not None:
        arrays["columns"] = to_stream(value.columns)
    return _PIECE + encode("rolling_piece", {"key": value.key}, arrays)


def decode_piece(data: bytes) -> Piece:
    """Read the bytes of `encode_piece`."""
    found = decode(data[1:], "rolling_piece")
    columns = found.arrays.get("columns")
    return Piece(found.meta["key"], found.arrays["row"], None if columns is None else from_stream(columns, "piece"))
