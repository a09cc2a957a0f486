"""libsvm text, as SVMlight, LIBSVM and XGBoost read it: files and messages."""

from beam_ml.formats.libsvm.files import decode, encode, ends, ranges, read, write
from beam_ml.formats.libsvm.messages import message_decoder, message_encoder
from beam_ml.formats.libsvm.text import DEFAULT, Options

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
