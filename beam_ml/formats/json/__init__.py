"""JSON: files, of lines and of documents, and messages."""

from beam_ml.formats.json.files import decode, encode, ends, ranges, read, write
from beam_ml.formats.json.messages import message_decoder, message_encoder
from beam_ml.formats.json.options import DEFAULT, Options

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
