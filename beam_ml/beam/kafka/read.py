"""Bounded reads: ranges of offsets → blocks of raw messages whose spans tile the ranges."""

import dataclasses
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from apache_beam import ParDo, PTransform
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.typehints import with_output_types
from kafka.structs import TopicPartition

from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.poll import messages_block, poll_partition
from beam_ml.beam.steps import Step
from beam_ml.beam.transforms.read import FileRanges
from beam_ml.beam.wire import coders
from beam_ml.errors import InvalidValue, SourceError, SourceUnavailable
from beam_ml.formats.block import Block

__all__ = ["OffsetRange", "OffsetRanges", "ReadKafkaBlocks", "read_range", "split"]

_WAIT_S = 1.0
"""Longest wait of one poll."""
_ASK_S = 5.0
"""How long brokers are asked why nothing has arrived."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """Offsets [start, stop) of one partition.

    >>> OffsetRange.from_dict(OffsetRange("clicks", 3, 100, 250).to_dict()).stop
    250
    """

    topic: str
    partition: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            message = f"OffsetRange must have 0 <= start <= stop; got [{self.start}, {self.stop})."
            raise InvalidValue(message)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "OffsetRange":
        """Read the form of `to_dict`."""
        return cls(**value)


def split(offsets: OffsetRange, max_messages: int) -> list[OffsetRange]:
    """Cut a range into pieces of about equal size, to be read in parallel.

    Args:
        offsets: what to cut; an empty range yields no piece.
        max_messages: offsets in one piece at most.

    >>> [(piece.start, piece.stop) for piece in split(OffsetRange("clicks", 0, 10, 35), 10)]
    [(10, 18), (18, 26), (26, 35)]
    """
    if max_messages < 1:
        message = f"max_messages must be >= 1; got {max_messages}."
        raise InvalidValue(message)
    size = offsets.stop - offsets.start
    pieces = -(-size // max_messages)
    bounds = [offsets.start + size * i // max(1, pieces) for i in range(pieces + 1)]
    return [dataclasses.replace(offsets, start=start, stop=stop) for start, stop in itertools.pairwise(bounds)]


class OffsetRanges(PTransform):
    """Ranges of offsets as elements, spread over the workers: a root transform.

    Args:
        ranges: cut to size already (`split`).

    >>> import apache_beam as beam
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline = new_pipeline()
    >>> ranges = pipeline | OffsetRanges(split(OffsetRange("payments", 0, 0, 100), 100))
    >>> _ = ranges | beam.Map(lambda one: print(json.loads(one)))
    >>> _ = run(pipeline)
    {'partition': 0, 'start': 0, 'stop': 100, 'topic': 'payments'}
    """

    def __init__(self, ranges: Sequence[OffsetRange]) -> None:
        super().__init__()
        self._ranges = tuple(ranges)

    def expand(self, pbegin: PBegin) -> PCollection:
        """Spread the ranges as those of files are."""
        pieces: Any = self._ranges  # whatever has a `to_dict` can be spread
        return pbegin | "Offsets" >> FileRanges(pieces)


def read_range(
    connection: Connection, source_name: str, piece: OffsetRange, max_bytes: int = 8 << 20, headers: bool = False
) -> Iterator[Block]:
    """Read a range with this process's consumer of the partition.

    Args:
        connection: settings.
        source_name: names the topic in the blocks' origin (`client.source_name`).
        piece: what to read.
        max_bytes: of keys and values in one block, about.
        headers: whether to read the messages' headers too.

    Yields:
        One block per poll; their spans tile the range exactly, offsets without a message included.

    Raises:
        RowsLost: some of the range is gone.
        NoInput: the topic is gone.
        SourceUnavailable: for `timeout_s` nothing came, or brokers refuse this user.
    """
    tp = TopicPartition(piece.topic, piece.partition)
    with client.borrowed(connection, piece.topic, piece.partition, piece.start) as consumer:
        begin = at = piece.start
        moved = time.monotonic()
        while at < piece.stop:
            left_s = moved + connection.timeout_s - time.monotonic()
            records, reached = poll_partition(consumer, tp, at, piece.stop, max_bytes, max(0.0, min(_WAIT_S, left_s)))
            if reached == at:
                if left_s <= 0:
                    raise _silent(consumer, connection, piece, at)
                continue
            at = reached
            if records or at == piece.stop:
                yield messages_block(source_name, piece.partition, records, begin, at, headers)
                begin = at
            moved = time.monotonic()


def _silent(consumer: Any, connection: Connection, piece: OffsetRange, at: int) -> SourceError:
    """Return the error for a partition from which nothing arrives."""
    where = f"Partition {piece.partition} of topic {piece.topic} at {connection.brokers}"
    waited = f"nothing came for {connection.timeout_s:g} s"
    try:
        state = client.topic_state(consumer, piece.topic, _ASK_S)
    except SourceError as error:
        return type(error)(f"{where} must return offset {at}; {waited}: {error}")
    end = state.ends.get(piece.partition, 0)
    why = f"; it ends at {end}, before an open transaction or what was never written" if end < piece.stop else ""
    return SourceUnavailable(f"{where} must return offsets {at} to {piece.stop - 1}; {waited}{why}.")


@with_output_types(Block)
class _ReadOffsets(Step):
    def __init__(self, connection: str, source_name: str, max_bytes: int, headers: bool) -> None:
        self._connection, self._source_name = connection, source_name
        self._max_bytes, self._headers = max_bytes, headers

    def process(self, element: bytes) -> Iterator[Block]:
        piece = OffsetRange.from_dict(json.loads(element))
        connection = Connection.parse(self._connection)
        yield from read_range(connection, self._source_name, piece, self._max_bytes, self._headers)


class ReadKafkaBlocks(PTransform):
    """Ranges of offsets (JSON, as `OffsetRanges` yields them) → blocks of raw messages.

    Args:
        connection: how to reach the brokers; values '$NAME' are looked up by the workers.
        source_name: names the topic in the blocks' origin (`client.source_name`).
        max_bytes: of keys and values in one block, about.
        headers: whether to read the messages' headers too, as the column `headers`.

    >>> from beam_ml.beam import Decode, new_pipeline
    >>> connection = Connection(brokers="localhost:9092")
    >>> pipeline = new_pipeline()
    >>> ranges = pipeline | OffsetRanges([OffsetRange("payments", 0, 0, 100)])
    >>> rows = ranges | ReadKafkaBlocks(connection, "kafka://local/payments") | Decode("json")
    >>> rows.element_type
    <class 'beam_ml.formats.block.Block'>
    """

    def __init__(
        self, connection: Connection, source_name: str, max_bytes: int = 8 << 20, headers: bool = False
    ) -> None:
        super().__init__()
        self._fn = _ReadOffsets(connection.to_json(), source_name, max_bytes, headers)

    def expand(self, pcoll: PCollection) -> PCollection:
        """Read each range where it arrives."""
        coders.install(pcoll.pipeline)
        return pcoll | "Read" >> ParDo(self._fn)
