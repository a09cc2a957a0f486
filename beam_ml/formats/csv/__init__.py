"""CSV: files and messages."""

from beam_ml.formats.csv.files import DEFAULT, Options, decode, encode, ranges, read, write
from beam_ml.formats.csv.messages import message_decoder, message_encoder

__all__ = ["DEFAULT", "Options", "decode", "encode", "message_decoder", "message_encoder", "ranges", "read", "write"]
