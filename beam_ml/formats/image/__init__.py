"""Images, JPEG and PNG: files, messages, and columns of their bytes."""

from beam_ml.formats.image.files import decode, encode, ranges, read, write
from beam_ml.formats.image.messages import message_decoder, message_encoder
from beam_ml.formats.image.options import DEFAULT, Options

__all__ = [
    "DEFAULT",
    "Options",
    "decode",
    "encode",
    "message_decoder",
    "message_encoder",
    "ranges",
    "read",
    "write",
]
