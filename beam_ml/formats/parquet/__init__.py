"""Parquet: files."""

from beam_ml.formats.parquet.files import decode, encode, ranges, read, write

__all__ = ["decode", "encode", "ranges", "read", "write"]
