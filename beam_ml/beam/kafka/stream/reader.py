"""The reader of a stream: polls of all partitions of one split, one after the other, as blocks of raw messages."""

import collections
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping

import numpy as np
from apache_beam.io.unbounded_source import UnboundedReader
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp

from beam_ml.beam import telemetry
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.poll import Polled, messages_block
from beam_ml.beam.kafka.positions import first_read, gap, refuse_recreated
from beam_ml.beam.kafka.records import Messages
from beam_ml.beam.kafka.stream import consumer
from beam_ml.beam.kafka.stream.clock import PartitionClock, topic_watermark
from beam_ml.beam.kafka.stream.lost import lost_block
from beam_ml.beam.kafka.stream.mark import StreamMark
from beam_ml.core import intervals, leaps
from beam_ml.core.spec import to_us
from beam_ml.errors import SourceUnavailable
from beam_ml.formats.block import Block
from beam_ml.formats.messages import recorded_us, with_seen

__all__ = ["Part", "StreamReader"]

_OLD_US = 10_000_000
"""Records older than this, where they are read, are a backlog."""

_MORE_S = 0.3
"""How long a poll of a backlog waits before it is taken to be at its end: longer than a broker holds an answer back."""

_BLOCKS = 30
"""Blocks of a bundle, where there are no more partitions than that. Beam measures every element's size up to the 30th;
after more it measures none at first in the bundles that follow, and then a runner that asks how far a bundle is (Prism,
after each tenth of a second without progress) is answered with NaN, which fails the bundle."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """What one split reads.

    Attributes:
        source: settings.
        starts: partition → first offset wanted; those absent begin at `source.start`.
        seen: partition → places counted before.
        part, of: it has the partitions whose number leaves the rest `part` when divided by `of`.
        read_s: s after which it ends its bundle, so that the watermark can move on.
        drain_s: the same while what comes is old and more of it waits: bundles that last longer leave fewer pauses.
        topic: ids of cluster and topic; empty if unknown.
    """

    source: KafkaSource
    starts: Mapping[int, int]
    seen: Mapping[int, np.ndarray]
    part: int
    of: int
    read_s: float
    drain_s: float
    topic: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Piece:
    """The next output: a block, or None where all of it was counted before; and its partition's position afterwards."""

    block: Block | None
    partition: int
    stop: int
    oldest: int | None
    newest: int | None


def _now() -> int:
    return time.time_ns() // 1000


class StreamReader(UnboundedReader):
    """Reads the partitions of one split, for one bundle or more.

    Args:
        part: what to read.
        mark: the position of an earlier reader; None: the beginning of the stream.
        now: the wall clock, µs.
    """

    def __init__(self, part: Part, mark: StreamMark | None, now: Callable[[], int] = _now) -> None:
        self._part, self._source, self._now, self._resumed = part, part.source, now, mark is not None
        self._offsets: dict[int, int] = dict(mark.offsets) if mark else {}
        self._clocks: dict[int, PartitionClock] = dict(mark.clocks) if mark else {}
        self._watermark: int | None = mark.watermark if mark else None
        self._silent_since: int | None = mark.silent_since if mark else None
        self._waiting: collections.deque[_Piece] = collections.deque()
        self._current: _Piece | None = None
        self._began: float | None = None
        self._given = 0
        self._looked = self._read = self._behind = self._aside = False
        self._name = ""

    def start(self) -> bool:
        """Find the partitions, and the first block.

        Raises:
            SourceUnavailable, NoInput: the brokers or the topic cannot be reached.
            RowsLost: messages still to be read are gone, and `source.on_gap` is "fail"; or the topic was recreated.
        """
        state = consumer.known_topic(self._source, afresh=not self._resumed)
        refuse_recreated(self._source.where, self._part.topic, state.identity)
        self._name = client.source_name(self._source.cluster or state.cluster, self._source.topic)
        for partition in sorted(state.starts):
            if partition % self._part.of != self._part.part or partition in self._offsets:
                continue
            self._clocks[partition] = PartitionClock(None, self._now(), False)
            at = self._part.starts.get(partition)
            if at is None:
                first, end = state.starts[partition], state.ends[partition]
                at = first_read(first, end, self._source.start, before=self._resumed)
                if self._part.starts and at == first > 0:
                    # It came with its beginning gone already, which nobody is to look for: those places count as read.
                    gone = messages_block(self._name, partition, Messages(), 0, at)
                    self._waiting.append(_Piece(gone, partition, at, None, None))
                    continue  # a reader that is stopped before that was sent begins the partition again
            self._offsets[partition] = at
        return self.advance()

    def advance(self) -> bool:
        """Advance to the next block; False ends the bundle: it has lasted `read_s`, or `drain_s` in a backlog."""
        if self._began is None:
            self._began, self._given = time.monotonic(), 0
            self._looked = self._read = self._behind = False
            self._aside = not self._clocks  # one without partitions holds nobody back
            self._clocks = {p: dataclasses.replace(clock, at_end=False) for p, clock in self._clocks.items()}
        while True:
            while self._waiting:
                piece = self._waiting.popleft()
                self._offsets[piece.partition] = piece.stop
                if piece.newest is not None:
                    self._clocks[piece.partition] = self._clocks[piece.partition].read(piece.newest, self._now())
                if piece.block is not None:
                    self._current, self._given = piece, self._given + 1
                    return True
            most = max(_BLOCKS, len(self._offsets))
            full = self._given > 0 and self._given + len(self._offsets) > most
            left_s = self._left_s()
            if not self._behind and self._given:  # gather: what comes in trickles is to be few blocks
                time.sleep(max(0.0, min(left_s, left_s if full else self._part.read_s * len(self._offsets) / most)))
            if full or left_s <= 0 or not self._offsets:
                self._look()
                return False
            self._poll(max(0.0, min(self._left_s(), max(_MORE_S, self._left_s(self._part.read_s)))))

    def _left_s(self, whole_s: float | None = None) -> float:
        """Return what is left of the bundle's time, or of `whole_s` since it began."""
        assert self._began is not None  # noqa: S101 `advance` sets it
        if whole_s is None:
            whole_s = self._part.drain_s if self._behind else self._part.read_s
        return self._began + whole_s - time.monotonic()

    def get_current(self) -> Block:
        """Return the block."""
        assert self._current is not None  # noqa: S101 Beam asks after a True only
        assert self._current.block is not None  # noqa: S101
        return self._current.block

    def get_current_timestamp(self) -> Timestamp:
        """Return the block's smallest record time less the slack; without any, how far time has come.

        Its rows may be dated as early as that: an engine's time must not pass them while the block is on its way.
        """
        assert self._current is not None  # noqa: S101
        if self._current.oldest is not None:
            return Timestamp(micros=self._current.oldest - to_us(self._source.out_of_orderness))
        return MIN_TIMESTAMP if self._watermark is None else Timestamp(micros=self._watermark)

    def get_watermark(self) -> Timestamp:
        """Return how far time has come; it never falls."""
        slack, idle = to_us(self._source.out_of_orderness), to_us(self._source.idle_timeout)
        reached = topic_watermark(self._clocks, self._now(), slack, idle)
        if reached is None and self._aside:
            reached = self._now() - slack
        if reached is not None and (self._watermark is None or reached > self._watermark):
            self._watermark = reached
        return MIN_TIMESTAMP if self._watermark is None else Timestamp(micros=self._watermark)

    def get_checkpoint_mark(self) -> StreamMark:
        """Return where to resume: behind the last block that was returned. This ends the bundle."""
        self._began = None
        return StreamMark(dict(self._offsets), dict(self._clocks), self._watermark, self._silent_since, self._source)

    def _poll(self, wait_s: float) -> None:
        found, gone = consumer.poll(self._source, self._offsets, wait_s)
        for partition, offset in gone.items():
            self._pass_gap(partition, offset)
        self._behind = False
        for one in found:
            piece = self._piece(one)
            self._read = True
            self._behind |= piece.newest is not None and self._now() - piece.newest > _OLD_US
            self._waiting.append(piece)

    def _piece(self, one: Polled) -> _Piece:
        times = recorded_us(one.messages.times[one.messages.times >= 0])  # -1: a message without
        oldest = newest = None
        if times.size:
            known, leap = self._clocks[one.partition].newest, self._source.max_leap
            oldest = min(int(times.min()), self._now())  # a fast clock, or a wrong one: no engine has a time beyond
            newest = leaps.newest(times, None if leap is None else to_us(leap), known)
        block: Block | None = messages_block(self._name, one.partition, one.messages, one.start, one.stop)
        seen = self._part.seen.get(one.partition)
        if block is not None and seen is not None:
            left = intervals.difference(np.array([[block.start, block.stop]], dtype=np.int64), seen)
            block = with_seen(block, seen) if len(left) else None
        telemetry.count("messages", len(one.messages))
        return _Piece(block, one.partition, one.stop, oldest, newest)

    def _pass_gap(self, partition: int, offset: int) -> None:
        """Resume behind what retention has removed, if the job wants that."""
        state = consumer.look(self._source)
        first, end = state.starts[partition], state.ends[partition]
        where = f"Partition {partition} of {self._source.where}"
        seen = self._part.seen.get(partition, intervals.EMPTY)
        gone, messages = gap(where, offset, first, end, seen, self._source.on_gap)
        telemetry.count("lost", messages)
        if offset < first:
            block = lost_block(self._name, partition, gone, messages) if messages else None
            self._waiting.append(_Piece(block, partition, first, None, None))

    def _look(self) -> None:
        """See, at most once per bundle, which partitions are at their end, where it matters; and whether anybody answers.

        Raises:
            SourceUnavailable: no broker has answered for `source.timeout`.
        """
        now, idle_us = self._now(), to_us(self._source.idle_timeout)
        still = any(now - clock.since >= idle_us for clock in self._clocks.values())
        if self._looked or not self._offsets or (self._read and not still):
            return
        self._looked = True
        ends = consumer.topic_ends(self._source, self._offsets)
        if ends is None:
            self._silent_since = self._silent_since or now
            silent_s = (now - self._silent_since) / 1e6
            if silent_s >= self._source.timeout:
                message = (
                    f"The brokers of {self._source.where} must answer within source.timeout = "
                    f"{self._source.timeout:g} s; they have been silent for {silent_s:.0f} s."
                )
                raise SourceUnavailable(message)
            return
        self._silent_since = None
        for partition, offset in self._offsets.items():
            at_end = offset >= ends.get(partition, offset + 1)
            self._clocks[partition] = dataclasses.replace(self._clocks[partition], at_end=at_end)
        self._aside = self._beside_others(now, idle_us)

    def _beside_others(self, now: int, idle_us: int) -> bool:
        """Return whether this split of several is idle while the topic has records elsewhere.

        One that has read none would hold back all others forever: they cannot set it aside, as a reader does with one of
        its partitions.
        """
        if not all(clock.idle(now, idle_us) for clock in self._clocks.values()):
            return False
        state = consumer.known_topic(self._source, afresh=False)
        return any(end > state.starts[p] for p, end in state.ends.items() if p not in self._offsets)
