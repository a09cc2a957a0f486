"""RecordIO-protobuf, as SageMaker's algorithms read it: files and messages."""

from beam_ml.formats.recordio.files import decode, encode, ends, ranges, read, write
from beam_ml.formats.recordio.messages import message_decoder, message_encoder
from beam_ml.formats.recordio.records import DEFAULT, Options

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
