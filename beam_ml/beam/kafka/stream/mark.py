"""The part of a stream's checkpoint that is of its source: the read positions, and how far time had advanced. As JSON."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from apache_beam.coders import Coder
from apache_beam.io.unbounded_source import CheckpointMark

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import Connection
from beam_ml.beam.kafka.stream.clock import PartitionClock
from beam_ml.core.spec import canonical_json

__all__ = ["MarkCoder", "StreamMark"]


@dataclasses.dataclass(frozen=True, eq=False)
class StreamMark(CheckpointMark):
    """The position of a stream's reader.

    Attributes:
        offsets: partition → next offset.
        clocks: partition → what is known of its time.
        watermark: reported last, µs; None before the first.
        silent_since: wall clock since which the brokers do not answer, µs; None: they do.
        source: whose consumer group shows the lag; None: no group does.
    """

    offsets: Mapping[int, int]
    clocks: Mapping[int, PartitionClock]
    watermark: int | None = None
    silent_since: int | None = None
    source: KafkaSource | None = None

    def finalize_checkpoint(self) -> None:
        """Show the lag in the consumer group. Reading resumes from the mark, so a failure is only warned of."""
        if self.source is not None and self.source.group is not None:
            client.commit_lag(Connection.of(self.source), self.source.group, self.source.topic, self.offsets)


class MarkCoder(Coder):
    """A mark as JSON: partition → [next offset, newest record time, since when nothing new came]."""

    def encode(self, value: StreamMark) -> bytes:
        """Return the mark as bytes: equal marks, equal bytes."""
        clocks = value.clocks
        partitions = {str(p): [at, clocks[p].newest, clocks[p].since] for p, at in sorted(value.offsets.items())}
        mark = {"partitions": partitions, "watermark": value.watermark, "silent_since": value.silent_since}
        return canonical_json(mark).encode()

    def decode(self, encoded: bytes) -> StreamMark:
        """Return the mark. Nothing is known of the partitions' ends any more."""
        mark: dict[str, Any] = json.loads(encoded)
        found = {int(p): entry for p, entry in mark["partitions"].items()}
        return StreamMark(
            {p: at for p, (at, _, _) in found.items()},
            {p: PartitionClock(newest, since, False) for p, (_, newest, since) in found.items()},
            mark["watermark"],
            mark["silent_since"],
        )

    def is_deterministic(self) -> bool:
        """Return True: equal marks yield equal bytes."""
        return True
