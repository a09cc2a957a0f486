"""CSV: files and messages."""

from beam_ml.formats.csv.files import decode, encode, ends, ranges, read, write
from beam_ml.formats.csv.messages import message_decoder, message_encoder
from beam_ml.formats.csv.options import DEFAULT, Options

__all__ = [
    "DEFAULT",
    "Options",
    "decode",
    "encode",
    "ends",
    "message_decoder",
    "message_encoder",
    "ranges",
    "read",
    "write",
]
