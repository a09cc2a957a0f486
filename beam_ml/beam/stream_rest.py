"""What a stream has not counted yet, as a bounded read: from where a version stands to where the topic ends now."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam import DoFn, ParDo, PTransform
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.transforms.window import TimestampedValue
from apache_beam.typehints import with_input_types, with_output_types
from apache_beam.utils.timestamp import Timestamp

from beam_ml.beam.decode import Decode
from beam_ml.beam.kafka.connection import Connection
from beam_ml.beam.kafka.read import OffsetRange, OffsetRanges, ReadKafkaBlocks, split
from beam_ml.beam.sources import KafkaSource
from beam_ml.beam.stream_start import Start
from beam_ml.core import intervals
from beam_ml.formats.block import Block
from beam_ml.formats.messages import with_seen

__all__ = ["ReadRest"]

_PIECE = 10_000
"""Messages of one piece that is read on its own."""


@with_input_types(Block)
@with_output_types(Block)
class _Unseen(DoFn):
    """Notes on blocks which places were counted before, and gives them their records' time."""

    def __init__(self, seen: Mapping[int, Sequence[Sequence[int]]]) -> None:
        self._seen = {str(partition): [list(one) for one in ranges] for partition, ranges in seen.items()}

    def process(self, element: Block) -> Iterator[Any]:
        assert element.origin is not None  # noqa: S101 a source of messages gives it
        seen = np.array(self._seen.get(element.origin.partition, []), dtype=np.int64).reshape(-1, 2)
        span = np.array([[element.start, element.stop]], dtype=np.int64)
        if not len(intervals.difference(span, seen)):
            return
        times = element.batch.column("timestamp").cast(pa.int64()).to_numpy(zero_copy_only=False)
        oldest_ms = int(times.min()) if times.size else 0
        yield TimestampedValue(with_seen(element, seen), Timestamp(micros=max(0, oldest_ms) * 1000))


class ReadRest(PTransform):
    """A topic's messages from a start on → blocks of rows.

    Args:
        source: the topic.
        start: where each partition is read from, and what was counted beyond.
        ends: partition → offset behind the last message.
        columns: what to decode.
    """

    def __init__(self, source: KafkaSource, start: Start, ends: Mapping[int, int], columns: Sequence[str]) -> None:
        super().__init__()
        self._source, self._start, self._ends, self._columns = source, start, dict(ends), columns

    def expand(self, pbegin: PBegin) -> PCollection:
        """Build the steps."""
        source, start = self._source, self._start
        pieces = [
            piece
            for partition, at in start.offsets.items()
            for piece in split(OffsetRange(source.topic, partition, at, max(at, self._ends[partition])), _PIECE)
        ]
        read = ReadKafkaBlocks(Connection.of(source), start.source)
        raw = pbegin | OffsetRanges(pieces) | read | "Unseen" >> ParDo(_Unseen(start.seen))
        return raw | Decode(source.format, source.options, self._columns)
