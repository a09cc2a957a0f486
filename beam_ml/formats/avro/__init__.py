"""Avro: container files, and messages with or without a schema registry."""

from beam_ml.formats.avro.files import decode, encode, message_decoder, message_encoder, ranges, read, write

__all__ = ["decode", "encode", "message_decoder", "message_encoder", "ranges", "read", "write"]
