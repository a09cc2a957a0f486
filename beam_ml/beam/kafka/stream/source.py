"""A topic as a stream that never ends, on Beam's experimental `UnboundedSource`.

The watermark of an engine moves only while no bundle is in progress, so the reader ends its bundles itself, and Beam puts
whole seconds between two of them. What an engine keeps of the source is a mark: next offsets and how far time had advanced.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from apache_beam import Flatten, PTransform
from apache_beam.coders import Coder
from apache_beam.io.unbounded_source import ReadFromUnboundedSource, UnboundedSource
from apache_beam.pvalue import PBegin, PCollection

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka.stream.mark import MarkCoder, StreamMark
from beam_ml.beam.kafka.stream.reader import Part, StreamReader
from beam_ml.beam.wire import coders
from beam_ml.core.spec import canonical_json
from beam_ml.errors import InvalidValue
from beam_ml.formats.block import Block

__all__ = ["KafkaStream", "ReadKafkaStream"]

# Each bundle leaves a state name of about 3.7 KB in Flink's checkpoints: these come to less than 100 KB a minute.
_READ_S = 1.5
_PAUSE_S = 2
_DRAIN_S = 5.0
_MAX_READ_S = 10.0


class KafkaStream(UnboundedSource):
    """All partitions of a topic, or a part of them. Engines keep it in their checkpoints: it is text and numbers.

    An engine makes no parts of it: `ReadKafkaStream` says why.

    Args:
        source: settings, as JSON.
        starts: partition → first offset, as JSON.
        seen: partition → places counted before, as JSON.
        read_s: s after which a reader ends its bundle.
        part, of: which part this is; of 1: all of it.
        topic: ids of cluster and topic; empty if unknown.
    """

    def __init__(
        self,
        source: str,
        starts: str,
        seen: str,
        read_s: float = _READ_S,
        part: int = 0,
        of: int = 1,
        topic: str = "",
    ) -> None:
        self._source, self._starts, self._seen, self._read_s = source, starts, seen, read_s
        self._part, self._of, self._topic = part, of, topic

    def split(self, desired_num_splits: int, options: Any = None) -> Iterable["KafkaStream"]:
        """Return this source alone."""
        return [self]

    def create_reader(self, options: Any, checkpoint_mark: StreamMark | None) -> StreamReader:
        """Return a reader that resumes at a mark."""
        starts, seen = _places(self._starts, self._seen)
        drain_s = max(self._read_s, _DRAIN_S)
        part = Part(_parsed(self._source), starts, seen, self._part, self._of, self._read_s, drain_s, self._topic)
        return StreamReader(part, checkpoint_mark)

    def get_checkpoint_mark_coder(self) -> Coder:
        """Return the coder of marks."""
        return MarkCoder()

    def default_output_coder(self) -> Coder:
        """Return the coder of blocks."""
        return coders.BlockCoder()


@functools.lru_cache(maxsize=64)
def _parsed(source: str) -> KafkaSource:
    return KafkaSource.parse(json.loads(source))


@functools.lru_cache(maxsize=64)
def _places(starts: str, seen: str) -> tuple[dict[int, int], dict[int, np.ndarray]]:
    return (
        {int(partition): int(offset) for partition, offset in json.loads(starts).items()},
        {int(p): np.array(ranges, dtype=np.int64).reshape(-1, 2) for p, ranges in json.loads(seen).items()},
    )


class ReadKafkaStream(PTransform):
    """A topic → raw blocks of messages, forever: one poll of one partition each.

    A block's Beam timestamp is its smallest record time less the slack; the watermark follows record times, see
    `clock`. Blocks that hold places counted before have them noted (`formats.messages.with_seen`); those that
    hold nothing else are left out. What retention removed is a block of no rows, see `lost`.

    Args:
        source: the topic.
        starts: partition → first offset; partitions that are absent begin at `source.start`.
        seen: partition → places counted before, as [start, stop) pairs that rise and do not touch.
        splits: steps that each read a share of the partitions; more steps than partitions are of no use. They are steps
            and not parts of one: of a step that holds time back for two parts at once, Flink lets time pass that of the
            part which it has just begun to read.
        read_s: s after which a reader ends its bundle. The engine's watermark moves then, and not before.
        pause_s: whole s until the next bundle, of which Beam takes one off: with less than 2 Flink starts the next one at
            once, and its watermark does not move while the topic is busy.
        topic: ids of cluster and topic, `cluster/topic`: another one of that name is refused; empty if unknown.

    >>> from beam_ml.beam import Decode, new_pipeline
    >>> source = KafkaSource(kind="kafka", brokers="localhost:9092", topic="payments")
    >>> rows = new_pipeline() | ReadKafkaStream(source) | Decode("json")
    >>> rows.is_bounded
    False
    """

    def __init__(
        self,
        source: KafkaSource,
        starts: Mapping[int, int] | None = None,
        seen: Mapping[int, Sequence[Sequence[int]]] | None = None,
        splits: int = 1,
        read_s: float = _READ_S,
        pause_s: int = _PAUSE_S,
        topic: str = "",
    ) -> None:
        super().__init__()
        if splits < 1:
            message = f"splits must be >= 1; got {splits}."
            raise InvalidValue(message)
        if pause_s < 0 or pause_s != int(pause_s):
            message = f"pause_s must be whole seconds, >= 0: Beam cuts off the rest; got {pause_s}."
            raise InvalidValue(message)
        if not 0 < read_s < _MAX_READ_S:
            message = f"read_s must be in (0, {_MAX_READ_S:g}); got {read_s}."
            raise InvalidValue(message)
        self._pause_s = int(pause_s)
        given = (
            source.to_json(),
            canonical_json({str(partition): int(offset) for partition, offset in (starts or {}).items()}),
            canonical_json({str(p): [[int(a), int(b)] for a, b in ranges] for p, ranges in (seen or {}).items()}),
            read_s,
        )
        self._streams = [KafkaStream(*given, part, splits, topic) for part in range(splits)]

    def expand(self, pbegin: PBegin) -> PCollection:
        """Read each share of the partitions by a step of its own, and flatten them."""
        coders.install(pbegin.pipeline)
        found = []
        for number, stream in enumerate(self._streams):
            read = ReadFromUnboundedSource(stream, self._pause_s, max_read_time_seconds=_MAX_READ_S)
            blocks = pbegin | f"Read{number}" >> read
            blocks.element_type = Block
            found.append(blocks)
        return found[0] if len(found) == 1 else found | Flatten()
