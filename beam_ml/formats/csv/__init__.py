"""CSV: files and messages."""

from beam_ml.formats.csv.files import (
    DEFAULT,
    Options,
    decode,
    encode,
    message_decoder,
    message_encoder,
    ranges,
    read,
    write,
)

__all__ = ["DEFAULT", "Options", "decode", "encode", "message_decoder", "message_encoder", "ranges", "read", "write"]
