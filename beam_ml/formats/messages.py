"""Messages ↔ rows: what a format makes of the values of a topic, and where each row stands within its partition.

A message may hold many rows, so a row's place is (offset, row in message), as one number:
``place = offset · 2²⁰ + row``. The last row of a message ends where the next offset begins, so the rows of a run of
messages tile it: a partition that was read through is one interval, whatever its messages held.
"""

import dataclasses
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from beam_ml.core import intervals
from beam_ml.errors import InvalidValue
from beam_ml.formats.block import Block, Reject

__all__ = [
    "MESSAGE_COLUMNS",
    "MESSAGE_FORMATS",
    "PLACES",
    "Decoded",
    "Decoder",
    "Refused",
    "decoder",
    "place",
    "seen_before",
    "to_blocks",
    "with_seen",
]

PLACES = 1 << 20
"""Places of one message: a message holds fewer rows than this, and a partition 2⁴³ messages."""

MESSAGE_FORMATS = ("json", "avro", "csv")

MESSAGE_COLUMNS = ("kafka.timestamp", "kafka.key", "kafka.offset")
"""Columns that a message itself gives to each of its rows."""

_SEEN = b"beam_ml.seen"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Refused:
    """Messages, or rows of messages, refused for one reason: m of them.

    Attributes:
        reason: what is counted: one of few texts, never a row's own values.
        message: (m,) int64 index of the message among those given.
        row: (m,) int64 row within the message, -1: the message as a whole; None: all of them as a whole.
        detail: one text each (its beginning, the parser's words), or empty.
    """

    reason: str
    message: np.ndarray
    row: np.ndarray | None = None
    detail: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a format made of some messages: n rows.

    Attributes:
        batch: the rows as named columns.
        message: (n,) int64 index of the message each row came from, never falling.
        row: (n,) int64 number of the row within its message, rising within each.
        refused: what could not be decoded.
    """

    batch: pa.RecordBatch
    message: np.ndarray
    row: np.ndarray
    refused: tuple[Refused, ...] = ()


class Decoder(Protocol):
    """One format's way from messages to rows; bad ones are refused, never raised."""

    def __call__(self, values: pa.Array, columns: Sequence[str] | None = None) -> Decoded:
        """Decode messages.

        Args:
            values: (m,) binary, without nulls.
            columns: the columns wanted; None: all.
        """
        ...


def decoder(format: str, options: Mapping[str, Any] | None = None) -> Decoder:
    """Give the decoder of a format: `json`, `avro`, `csv`, or one's own as ``module:attribute``.

    The module's `message_decoder(options)` (for one's own: the attribute) builds it.

    Raises:
        InvalidValue: no such format, or options it does not know.
    """
    module, _, attribute = format.partition(":")
    if format in MESSAGE_FORMATS:
        module, attribute = f"beam_ml.formats.{format}", "message_decoder"
    elif not attribute:
        message = f"source.format must be one of {list(MESSAGE_FORMATS)}, or 'module:attribute'; got {format!r}."
        raise InvalidValue(message)
    try:
        build = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        message = f"source.format must name an importable 'module:attribute'; got {format!r} ({error})."
        raise InvalidValue(message) from error
    return build(dict(options or {}))


def place(offset: Any, row: Any = 0) -> Any:
    """Give the place of a row within its partition.

    >>> divmod(place(7, 3), PLACES)
    (7, 3)
    """
    return offset * PLACES + row


def to_blocks(raw: Block, decode: Decoder, columns: Sequence[str] | None = None) -> Iterator[Block]:
    """Decode a block of messages into blocks of rows that tile its span, less what has been seen before.

    Args:
        raw: m messages as columns `value`, `key` (binary) and `timestamp`; `position` holds each message's place.
        decode: the format's.
        columns: what to decode; those in MESSAGE_COLUMNS are taken from the messages themselves; None: all of both.

    Yields:
        One block, or one for each stretch of places that `seen_before` leaves.
    """
    assert raw.position is not None  # noqa: S101 a source of messages gives it
    values = raw.batch.column("value")
    rejects: list[Reject] = []
    kept = np.arange(len(values))
    if values.null_count:
        null = values.is_null().to_numpy(zero_copy_only=False)
        rejects.append(Reject("tombstone", raw.position[null], raw.position[null] + PLACES))
        kept = np.flatnonzero(~null)
        values = values.drop_null()
    wanted = None if columns is None else [name for name in columns if name not in MESSAGE_COLUMNS]
    decoded = _bounded(decode(values, wanted))
    of = kept[decoded.message]
    position = raw.position[of] + decoded.row
    last = np.ones(len(of), dtype=bool)
    last[:-1] = of[1:] != of[:-1]
    position_end = np.where(last, raw.position[of] + PLACES, position + 1)
    for one in decoded.refused:
        at = raw.position[kept[one.message]]
        row = np.full(len(at), -1) if one.row is None else one.row
        start = np.where(row < 0, at, at + row)
        rejects.append(Reject(one.reason, start, np.where(row < 0, at + PLACES, start + 1), one.detail))
    stamps = raw.batch.column("timestamp").cast(pa.int64()).to_numpy(zero_copy_only=False)[of] * 1000
    batch = _with_message_columns(raw, decoded.batch, of, columns)
    block = Block(batch, raw.origin, position, position_end, raw.start, raw.stop, tuple(rejects), stamps)
    seen = seen_before(raw)
    if seen is None:
        yield block
        return
    for start, stop in intervals.difference(np.array([[raw.start, raw.stop]], dtype=np.int64), seen).tolist():
        yield _stretch(block, start, stop)


def _bounded(decoded: Decoded) -> Decoded:
    """Refuse messages of more rows than have places."""
    if len(decoded.row) == 0 or int(decoded.row.max()) < PLACES:
        return decoded
    huge = np.unique(decoded.message[decoded.row >= PLACES])
    good = ~np.isin(decoded.message, huge)
    refused = (*decoded.refused, Refused("too many rows in one message", huge))
    return Decoded(decoded.batch.filter(pa.array(good)), decoded.message[good], decoded.row[good], refused)


def _with_message_columns(
    raw: Block, batch: pa.RecordBatch, of: np.ndarray, columns: Sequence[str] | None
) -> pa.RecordBatch:
    for name in MESSAGE_COLUMNS if columns is None else [name for name in columns if name in MESSAGE_COLUMNS]:
        if name == "kafka.offset":
            assert raw.position is not None  # noqa: S101
            value = pa.array(raw.position[of] // PLACES)
        else:
            value = raw.batch.column(name.removeprefix("kafka.")).take(pa.array(of))
        batch = batch.append_column(name, value)
    return batch


def _stretch(block: Block, start: int, stop: int) -> Block:
    """Give the part of a block that lies within a stretch of places."""

    def within(places: np.ndarray) -> np.ndarray:
        return (places >= start) & (places < stop)

    assert block.position is not None  # noqa: S101
    assert block.position_end is not None  # noqa: S101
    assert block.recorded is not None  # noqa: S101
    rows = within(block.position)
    rejected = []
    for one in block.rejected:
        mine = within(one.position)
        if mine.any():
            end = None if one.position_end is None else one.position_end[mine]
            detail = tuple(text for text, here in zip(one.detail, mine, strict=True) if here) if one.detail else ()
            rejected.append(Reject(one.reason, one.position[mine], end, detail))
    return Block(
        block.batch.filter(pa.array(rows)), block.origin, block.position[rows],
        np.minimum(block.position_end[rows], stop), start, stop, tuple(rejected), block.recorded[rows],
    )  # fmt: skip


def with_seen(raw: Block, seen: np.ndarray) -> Block:
    """Note on a block of messages which of its places have been counted before: (k, 2) int64 intervals."""
    mine = intervals.intersection(np.array([[raw.start, raw.stop]], dtype=np.int64), seen)
    if not len(mine):
        return raw
    return raw.replace(batch=raw.batch.replace_schema_metadata({_SEEN: json.dumps(mine.tolist()).encode()}))


def seen_before(raw: Block) -> np.ndarray | None:
    """Give the places noted by `with_seen`; None: none."""
    noted = (raw.batch.schema.metadata or {}).get(_SEEN)
    return None if noted is None else np.array(json.loads(noted), dtype=np.int64).reshape(-1, 2)
