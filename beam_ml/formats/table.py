"""The table of formats. What a format does is defined in the package of its name."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

__all__ = ["FORMATS", "MESSAGE_FORMATS", "TABLE", "Format"]


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """A format, and what its package offers.

    Attributes:
        name: of the format, and of its package in `beam_ml.formats`.
        endings: of its files' names; none: there are no files of it. With any, the package offers ``ranges``, ``read``,
            ``write``, ``encode`` and ``decode``.
        counts: what a range of a file counts, and a row's place is: rows, or bytes of the text.
        messages: whether messages come in it. If so, the package offers ``message_decoder`` and ``message_encoder``.
    """

    name: str
    endings: tuple[str, ...] = ()
    counts: Literal["rows", "bytes"] = "rows"
    messages: bool = False


TABLE: Mapping[str, Format] = MappingProxyType(
    {
        one.name: one
        for one in (
            Format("parquet", (".parquet", ".pq")),
            Format("json", messages=True),
            Format("avro", (".avro",), messages=True),
            Format("csv", (".csv", ".csv.gz", ".csv.zst"), counts="bytes", messages=True),
        )
    }
)
"""Every format by its name: a new one is a line here and a package."""

FORMATS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {one.name: one.endings for one in TABLE.values() if one.endings}
)
"""Format of files → the endings of their names."""

MESSAGE_FORMATS = tuple(one.name for one in TABLE.values() if one.messages)
"""Formats of messages."""
