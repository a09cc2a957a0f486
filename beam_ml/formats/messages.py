"""Messages ↔ rows: what a format makes of the values of a topic, and the place of each row within its partition.

A message may hold many rows, so a row's place is (offset, row in message), as one number:
``place = offset · 2²⁰ + row``. The last row of a message ends where the next offset begins, so the rows of a run of
messages tile it: a partition that was read through is one interval, whatever its messages held.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from beam_ml.core import intervals
from beam_ml.core.importing import attribute_of
from beam_ml.core.rejects import Reject
from beam_ml.errors import InvalidValue
from beam_ml.formats.block import Block
from beam_ml.formats.table import MESSAGE_FORMATS

__all__ = [
    "EMPTY",
    "MALFORMED",
    "MESSAGE_COLUMNS",
    "PLACES",
    "TWICE",
    "UNPARSEABLE",
    "Decoded",
    "Decoder",
    "Encoder",
    "Refusal",
    "Refused",
    "decoder",
    "detail",
    "encoder",
    "in_order",
    "place",
    "recorded_us",
    "refusals",
    "rows_batch",
    "seen_before",
    "to_blocks",
    "with_seen",
]

PLACES = 1 << 20
"""Places of one message: a message holds fewer rows than this, and a partition 2⁴³ messages."""

MESSAGE_COLUMNS = ("kafka.timestamp", "kafka.key", "kafka.offset")
"""Columns that a message itself adds to each of its rows."""

_FURTHEST_MS = (2**63 - 1) // 1000

EMPTY = "empty message"
MALFORMED = "malformed message"
UNPARSEABLE = "unparseable value"
TWICE = "field twice in one object"
"""Reasons that the formats share."""

Refusal = tuple[str, int, int, str]
"""One refusal: reason, index of the message, row within it or -1: the message as a whole, detail."""

_SEEN = b"beam_ml.seen"
_DETAIL_CHARS = 200


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Refused:
    """Messages, or rows of messages, refused for one reason: m of them.

    It is no `Reject` yet, since a decoder knows no offsets: `to_blocks` makes it one, once the rows refused and decoded
    together tell where each place ends, and whether a message has more rows than places.

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


class Encoder(Protocol):
    """One format's way from rows to messages."""

    def __call__(self, rows: pa.RecordBatch, rows_per_message: int = 1) -> list[bytes]:
        """Encode rows, in order.

        Args:
            rows: n rows.
            rows_per_message: at least 1; the last message may hold fewer.
        """
        ...


def _build(format: str, options: Mapping[str, Any] | None, name: str) -> Any:
    path = f"beam_ml.formats.{format}:{name}" if format in MESSAGE_FORMATS else format
    if ":" not in path:
        message = f"source.format must be one of {list(MESSAGE_FORMATS)}, or 'module:attribute'; got {format!r}."
        raise InvalidValue(message)
    build = attribute_of("source.format", path)
    return build(dict(options or {}))


def decoder(format: str, options: Mapping[str, Any] | None = None) -> Decoder:
    """Return the decoder of a format (`json`, `avro`, `csv`, `recordio`, `libsvm`, `image`, or ``module:attribute``).

    The module's `message_decoder(options)` (for one's own: the attribute) builds it.

    Raises:
        InvalidValue: no such format, or options it does not know.

    >>> decoder("json")(pa.array([b'{"x": 1}', b"{"])).batch.to_pydict()
    {'x': [1]}
    """
    return _build(format, options, "message_decoder")


def encoder(format: str, options: Mapping[str, Any] | None = None) -> Encoder:
    r"""Return the encoder of a format, which takes the options of its decoder; ``module:attribute`` builds one's own.

    Raises:
        InvalidValue: no such format, or options it does not know.

    >>> encoder("json")(pa.record_batch({"x": [1, 2, 3]}), rows_per_message=2)
    [b'{"x":1}\n{"x":2}', b'{"x":3}']
    """
    return _build(format, options, "message_encoder")


def detail(value: bytes, words: str = "") -> str:
    """Say what was refused: the parser's words, if any, and the message's beginning.

    >>> detail(b"x" * 1000, "no number")[:18]
    "no number: 'xxxxxx"
    """
    text = repr(value[: 4 * _DETAIL_CHARS].decode(errors="replace")[:_DETAIL_CHARS])
    return f"{words}: {text}" if words else text


def rows_batch(columns: Mapping[str, pa.Array], n: int) -> pa.RecordBatch:
    """Return a batch of n rows, even of no columns.

    >>> rows_batch({}, 3).num_rows
    3
    """
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * n, pa.struct([])))
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def refusals(found: Iterable[Refusal]) -> tuple[Refused, ...]:
    """Gather single refusals by reason.

    >>> [(one.reason, one.message.tolist()) for one in refusals([("b", 3, -1, ""), ("a", 1, 0, ""), ("b", 4, -1, "")])]
    [('a', [1]), ('b', [3, 4])]
    """
    by_reason: dict[str, list[tuple[int, int, str]]] = {}
    for reason, message, row, text in found:
        by_reason.setdefault(reason, []).append((message, row, text))
    return tuple(
        Refused(
            reason,
            np.array([message for message, _, _ in mine], dtype=np.int64),
            np.array([row for _, row, _ in mine], dtype=np.int64),
            tuple(text for _, _, text in mine),
        )
        for reason, mine in sorted(by_reason.items())
    )


def in_order(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, pa.Array | None]:
    """Put the rows of parts, which a format decoded one behind the other, into the order of their messages.

    Args:
        parts: index of the message, and row within it, of each row of a part.

    Returns:
        (message, row, order): both of all rows, ordered; and what to take of the parts' columns, concatenated, so that they
        are. None: they are in order already.

    >>> message, row, order = in_order([(np.array([0, 2]), np.array([0, 0])), (np.array([1, 1]), np.array([0, 1]))])
    >>> message.tolist(), row.tolist(), order.to_pylist()
    ([0, 1, 1, 2], [0, 0, 1, 0], [0, 2, 3, 1])
    """
    pieces = [(np.empty(0, np.int64), np.empty(0, np.int64)), *parts]
    message, row = (np.concatenate([piece[i] for piece in pieces]) for i in (0, 1))
    if np.all(message[1:] >= message[:-1]):
        return message, row, None
    order = np.argsort(message, kind="stable")
    return message[order], row[order], pa.array(order)


def place(offset: Any, row: Any = 0) -> Any:
    """Return the place of a row within its partition.

    >>> divmod(place(7, 3), PLACES)
    (7, 3)
    """
    return offset * PLACES + row


def to_blocks(raw: Block, decode: Decoder, columns: Sequence[str] | None = None) -> Iterator[Block]:
    """Decode a block of messages into blocks of rows that tile its span, less what has been seen before.

    The rows and refused rows of a message tile its places; a message without any is refused as empty.

    Args:
        raw: m messages as columns `value`, `key` (binary) and `timestamp`; `position` holds each message's place.
        decode: the format's.
        columns: what to decode; those in MESSAGE_COLUMNS are taken from the messages themselves; None: all of both.

    Yields:
        One block, or one for each stretch of places that `seen_before` leaves.
    """
    assert raw.position is not None  # noqa: S101 a source of messages sets it
    values = raw.batch.column("value")
    kept = np.arange(len(values))
    tombstones: tuple[Refused, ...] = ()
    if values.null_count:
        null = values.is_null().to_numpy(zero_copy_only=False)
        tombstones = (Refused("tombstone", np.flatnonzero(null)),)
        kept = np.flatnonzero(~null)
        values = values.drop_null()
    wanted = None if columns is None else [name for name in columns if name not in MESSAGE_COLUMNS]
    decoded = _bounded(decode(values, wanted))
    of = kept[decoded.message]
    refused = (*tombstones, *(dataclasses.replace(one, message=kept[one.message]) for one in decoded.refused))
    position = raw.position[of] + decoded.row
    bare = np.ones(len(raw.position), dtype=bool)
    for message in (of, *(one.message for one in refused)):
        bare[message] = False
    if bare.any():
        refused = (*refused, Refused(EMPTY, np.flatnonzero(bare)))
    starts = [raw.position[one.message] + (0 if one.row is None else np.maximum(one.row, 0)) for one in refused]
    starts.insert(0, position)
    ends = _ends(np.concatenate(starts))
    split = np.split(ends, np.cumsum([len(one) for one in starts])[:-1])
    rejects = tuple(
        Reject(one.reason, start, end, one.detail)
        for one, start, end in zip(refused, starts[1:], split[1:], strict=True)
        if len(start)
    )
    stamps = recorded_us(raw.batch.column("timestamp").cast(pa.int64()).to_numpy(zero_copy_only=False)[of])
    batch = _with_message_columns(raw, decoded.batch, of, columns)
    block = Block(batch, raw.origin, position, split[0], raw.start, raw.stop, rejects, stamps)
    seen = seen_before(raw)
    if seen is None:
        yield block
        return
    for start, stop in intervals.difference(np.array([[raw.start, raw.stop]], dtype=np.int64), seen).tolist():
        yield _stretch(block, start, stop)


def recorded_us(times_ms: np.ndarray) -> np.ndarray:
    """Return times of record, ms, in µs: those that int64 does not hold, which no clock has shown, as the furthest it does.

    >>> recorded_us(np.array([1, 2**62])).tolist()
    [1000, 9223372036854775000]
    """
    return np.clip(times_ms, -_FURTHEST_MS, _FURTHEST_MS) * 1000


def _ends(start: np.ndarray) -> np.ndarray:
    """Return where places end: at the next one of their message, or with the message."""
    order = np.argsort(start, kind="stable")
    ordered = start[order]
    message_end = (ordered // PLACES + 1) * PLACES
    end = np.empty_like(start)
    end[order] = np.minimum(np.append(ordered[1:], np.iinfo(np.int64).max), message_end)
    return end


def _bounded(decoded: Decoded) -> Decoded:
    """Refuse messages of more rows than have places."""
    counted = [(decoded.message, decoded.row), *((o.message, o.row) for o in decoded.refused if o.row is not None)]
    huge = np.unique(np.concatenate([message[row >= PLACES] for message, row in counted]))
    if not len(huge):
        return decoded
    good = ~np.isin(decoded.message, huge)
    refused = [_only(one, ~np.isin(one.message, huge)) for one in decoded.refused]
    refused.append(Refused("too many rows in one message", huge))
    return Decoded(decoded.batch.filter(pa.array(good)), decoded.message[good], decoded.row[good], tuple(refused))


def _only(refused: Refused, mine: np.ndarray) -> Refused:
    texts = tuple(text for text, here in zip(refused.detail, mine, strict=True) if here) if refused.detail else ()
    row = None if refused.row is None else refused.row[mine]
    return Refused(refused.reason, refused.message[mine], row, texts)


def _with_message_columns(
    raw: Block, batch: pa.RecordBatch, of: np.ndarray, columns: Sequence[str] | None
) -> pa.RecordBatch:
    named = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name in MESSAGE_COLUMNS if columns is None else [name for name in columns if name in MESSAGE_COLUMNS]:
        if name == "kafka.offset":
            assert raw.position is not None  # noqa: S101
            named[name] = pa.array(raw.position[of] // PLACES)
        else:
            named[name] = raw.batch.column(name.removeprefix("kafka.")).take(pa.array(of))
    return rows_batch(named, len(of))


def _stretch(block: Block, start: int, stop: int) -> Block:
    """Return the part of a block that lies within a stretch of places."""
    assert block.position is not None  # noqa: S101
    assert block.position_end is not None  # noqa: S101
    assert block.recorded is not None  # noqa: S101
    rows = (block.position >= start) & (block.position < stop)
    rejected = []
    for one in block.rejected:
        assert one.position_end is not None  # noqa: S101
        mine = (one.position >= start) & (one.position < stop)
        if mine.any():
            texts = tuple(text for text, here in zip(one.detail, mine, strict=True) if here) if one.detail else ()
            end = np.minimum(one.position_end[mine], stop)
            rejected.append(Reject(one.reason, one.position[mine], end, texts))
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
    """Return the places noted by `with_seen`; None if there are none."""
    noted = (raw.batch.schema.metadata or {}).get(_SEEN)
    return None if noted is None else np.array(json.loads(noted), dtype=np.int64).reshape(-1, 2)
