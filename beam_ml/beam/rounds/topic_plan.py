"""What one round reads of a topic: offset ranges of all partitions, in proportion to what waits there."""

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from apache_beam import PTransform
from apache_beam.pvalue import PBegin, PCollection

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka.client import Connection, TopicState
from beam_ml.beam.kafka.positions import lost_progress, positions
from beam_ml.beam.kafka.read import OffsetRange, OffsetRanges, ReadKafkaBlocks, split
from beam_ml.beam.rounds.dividing import even
from beam_ml.beam.rounds.seen import NoteSeen, in_text, within
from beam_ml.beam.rounds.source import RoundPlan
from beam_ml.beam.transforms.decode import Decode
from beam_ml.beam.transforms.read import in_json
from beam_ml.core import intervals
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import Cursors, TopicCursor
from beam_ml.core.progress import Progress
from beam_ml.formats.messages import place

__all__ = ["KafkaPlan", "plan_offsets"]

_PIECES = 4
"""Pieces that a round's reading is cut into at least, so that workers share it."""


@dataclasses.dataclass(frozen=True, slots=True)
class KafkaPlan:
    """The offsets that a round reads of each partition.

    Attributes:
        source: settings of the source.
        name: what rows' origins call the source: cluster and topic.
        ranges: partition → [start, stop) in offsets; those with nothing to read left out.
        after: partition → its read position afterwards.
        lost: what retention has removed unread.
        seen: partition → places in its range that were counted before: a stream reads some windows ahead.
        topic: ids of cluster and topic, kept in the learner: a recreated topic has another one. Empty if unknown.
    """

    source: KafkaSource
    name: str
    ranges: Mapping[int, tuple[int, int]]
    after: Mapping[int, int]
    lost: Progress = dataclasses.field(default_factory=Progress)
    seen: Mapping[int, list[list[int]]] = dataclasses.field(default_factory=dict)
    topic: str = ""

    @property
    def messages(self) -> int:
        """Offsets in the ranges, those without a message included."""
        return sum(stop - start for start, stop in self.ranges.values())

    def covered(self) -> dict[Origin, list[list[int]]]:
        """Return the places that the round must cover, by origin."""
        wanted: dict[Origin, list[list[int]]] = {}
        for partition, (start, stop) in self.ranges.items():
            whole = np.array([[place(start), place(stop)]], dtype=np.int64)
            left = intervals.difference(whole, np.array(self.seen.get(partition, []), dtype=np.int64).reshape(-1, 2))
            if len(left):
                wanted[Origin(self.name, str(partition))] = left.tolist()
        return wanted

    def rows(self) -> int | None:
        """Nobody knows what messages hold before they are read."""
        return None

    def read(self, columns: Sequence[str]) -> PTransform:
        """Return the root transform that reads and decodes the ranges."""
        return _ReadPlanned(self, columns)

    def shape(self) -> Hashable:
        """Return what the transform that reads depends on."""
        return self.name, bool(self.seen)

    def renewed(self) -> Mapping[str, Any]:
        """Return the pieces of the ranges, and the places seen before, as the steps hold them."""
        return {"ranges": in_json(self.pieces()), "seen": in_text(self.seen)}

    def pieces(self, size: int | None = None) -> list[OffsetRange]:
        """Return the ranges, cut into pieces of so many messages; None: so that workers share them."""
        size = max(1, math.ceil(self.messages / _PIECES)) if size is None else size
        return [
            piece
            for partition, (start, stop) in sorted(self.ranges.items())
            for piece in split(OffsetRange(self.source.topic, partition, start, stop), size)
        ]

    def size(self) -> int:
        """Return the messages: how many rows they hold nobody knows yet, and most hold one."""
        return self.messages

    def parts(self, number: int, in_turn: bool = False) -> list[RoundPlan]:
        """Return plans of about as many messages each; a partition is cut where one part ends and the next begins."""
        size = max(1, math.ceil(self.messages / (_PIECES * number)))
        return [self._part(some) for some in even(self.pieces(size), number, lambda one: one.stop - one.start)]

    def _part(self, pieces: Sequence[OffsetRange]) -> "KafkaPlan":
        """Return the plan of some neighbouring pieces."""
        ranges = dict[int, tuple[int, int]]()
        for one in pieces:
            ranges[one.partition] = (ranges.get(one.partition, (one.start, 0))[0], one.stop)
        seen = {partition: places for partition, places in self.seen.items() if partition in ranges}
        return dataclasses.replace(self, ranges=ranges, seen=seen)

    def to_dict(self) -> dict[str, Any]:
        """Return what the ranges are and which places in them were seen, as plain JSON values."""
        ranges = [[partition, start, stop] for partition, (start, stop) in sorted(self.ranges.items())]
        return {"name": self.name, "ranges": ranges, "seen": sorted(self.seen.items())}

    @classmethod
    def from_dict(cls, source: KafkaSource, value: Mapping[str, Any]) -> "KafkaPlan":
        """Return a plan that reads what `to_dict` says; where it leaves off is left to the trainer."""
        ranges = {partition: (start, stop) for partition, start, stop in value["ranges"]}
        return cls(source, value["name"], ranges, {}, seen=dict(value["seen"]))

    def advance(self, cursors: Cursors) -> Cursors:
        """Return the learner's cursors once the round is published."""
        before = cursors.topic(self.name)
        return cursors.with_topic(self.name, TopicCursor(dict(self.after), before.begun, self.topic or before.id))


class _ReadPlanned(PTransform):
    def __init__(self, plan: KafkaPlan, columns: Sequence[str]) -> None:
        super().__init__()
        self._plan, self._columns = plan, columns

    def expand(self, pbegin: PBegin) -> PCollection:
        plan, source = self._plan, self._plan.source
        raw = pbegin | OffsetRanges(plan.pieces()) | ReadKafkaBlocks(Connection.of(source), plan.name)
        if plan.seen:
            raw = raw | NoteSeen(plan.seen)
        return raw | Decode(source.format, source.options, self._columns)


def plan_offsets(
    source: KafkaSource,
    name: str,
    state: TopicState,
    cursor: TopicCursor,
    wanted_messages: float,
    counted: Mapping[int, np.ndarray] = MappingProxyType({}),
) -> KafkaPlan:
    """Share a round among the partitions, each in proportion to what waits there: so they stay abreast in time.

    Args:
        source: settings.
        name: what rows' origins call the source.
        state: where the partitions begin and end now.
        cursor: what was read of it.
        wanted_messages: size of the round.
        counted: partition → places that the learner has scanned already.

    Raises:
        RowsLost: see `positions`.
    """
    found = positions(f"topic {source.topic} at {source.brokers}", state, cursor, counted, source.start, source.on_gap)
    after = {partition: one.at for partition, one in found.items()}
    lost = Progress()
    for partition, one in found.items():
        if one.lost:
            lost = lost.merge(lost_progress(Origin(name, str(partition)), one.gone, one.lost))
    waiting = {partition: max(0, state.ends[partition] - at) for partition, at in after.items()}
    total = sum(waiting.values())
    share = min(1.0, wanted_messages / total) if total else 0.0
    ranges = {}
    for partition, messages in waiting.items():
        taking = min(messages, math.ceil(messages * share))
        if taking:
            ranges[partition] = (after[partition], after[partition] + taking)
            after[partition] += taking
    seen_before = {
        partition: seen
        for partition, (start, stop) in ranges.items()
        if (seen := within(found[partition].seen, place(start), place(stop)))
    }
    return KafkaPlan(source, name, ranges, after, lost, seen_before, state.identity)
