"""Avro: container files, and messages with or without a schema registry."""

from beam_ml.formats.avro.files import decode, encode, ranges, read, write
from beam_ml.formats.avro.messages import message_decoder, message_encoder

__all__ = ["decode", "encode", "message_decoder", "message_encoder", "ranges", "read", "write"]
