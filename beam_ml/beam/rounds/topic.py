"""A Kafka topic as the rounds driver reads it: what the next round reads, when it is due, and how far time has advanced.

Read positions are stored in the learner, so both are committed in one manifest; a consumer group only shows the lag.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import Connection, TopicState
from beam_ml.beam.kafka.positions import LOST, counted_of, name_of
from beam_ml.beam.rounds.topic_plan import KafkaPlan, plan_offsets
from beam_ml.core import intervals
from beam_ml.core import learner as learners
from beam_ml.core.batch import Origin
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.core.spec import to_us
from beam_ml.core.windows import watermark
from beam_ml.errors import RowsLost, SourceError, SourceRefused, SourceUnavailable
from beam_ml.formats.messages import PLACES

__all__ = ["KafkaRounds"]

_LOOK_S = 0.2, 2.0
"""Shortest and longest time between two looks at the brokers while the next round is not due."""
_LOOKS = 50
"""Looks between two rounds: brokers need not be asked five times a second by a job that refreshes once a day."""
_ASK_S = 5.0
"""How long brokers are asked before the trainer checks whether it should stop."""
_ROUND_S = 5.0
"""Between rounds where windows are rounds and the job does not say."""
_GRACE_S = 1.0
"""How long a round waits for the last rows of a window that has ended by this clock: clocks differ."""
_FIRST_MESSAGES, _FIRST_ROWS = 10_000, 100
"""The first round's size, and how many rows each message is taken to hold, which nobody knows yet: too small a first round
costs one more, too large a one costs a gradient learner its first anchors."""


class KafkaRounds:
    """One topic, all its partitions.

    Args:
        source: settings.
        refresh_s: length of the job's windows; None: rounds are windows.
        follow: continue with what arrives; False: take what is there when the run starts.
        stopping: asked while brokers do not answer: True gives up.
    """

    def __init__(
        self,
        source: KafkaSource,
        refresh_s: float | None,
        follow: bool,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._source, self._follow, self._stopping = source, follow, stopping
        self._refresh_us = None if refresh_s is None else to_us(refresh_s)
        self._period = source.every or refresh_s or _ROUND_S
        self._connection = Connection.of(source)
        self._consumer: Any = None
        self._name = ""
        self._ends: Mapping[int, int] | None = None
        self._begins: dict[int, int] = {}
        self._at: dict[int, int] = {}
        self._moved: dict[int, tuple[int | None, float]] = {}
        self._started = (-math.inf, -math.inf)
        self._planned = False
        self._drained: frozenset[int] = frozenset()
        self._counts: tuple[int, int] | None = None
        self._measured: float | None = None

    def plan(self, learner: Learner, wanted_rows: int) -> KafkaPlan | None:
        """Plan the next round; return None if nothing is waiting.

        A topic to be read from its end on is planned once with nothing to read: so the version that says where that was
        is there before the first row comes.

        Raises:
            SourceUnavailable, NoInput: the brokers or the topic cannot be reached.
            RowsLost: see `positions`.
            SourceError: the learner has read this topic in another cluster, or one of this name that was deleted since.
        """
        self._planned = False
        state = self._state()
        self._name = name_of(self._source, state, learner.cursors)
        cursor = learner.cursors.topic(self._name)
        cursor = dataclasses.replace(cursor, offsets={**self._begins, **cursor.offsets})
        if not self._follow:
            self._ends = self._ends or state.ends
            state = dataclasses.replace(
                state, ends={p: min(end, self._ends.get(p, 0)) for p, end in state.ends.items()}
            )
        counted = counted_of(learners.scanned(learner).covered, self._name)
        plan = plan_offsets(self._source, self._name, state, cursor, self._messages(learner, wanted_rows), counted)
        self._at = {partition: plan.ranges.get(partition, (at, at))[0] for partition, at in plan.after.items()}
        self._begins = self._at | self._begins  # where a partition begins is settled once: its end moves on
        self._planned = True
        settled = self._source.start == "earliest" or self._name in learner.cursors.topics
        if not plan.ranges and settled:
            return None
        self._drained = frozenset(partition for partition, at in plan.after.items() if at >= state.ends[partition])
        self._counts = self._counted(learners.scanned(learner))
        self._started = (time.monotonic(), time.time())
        return plan

    def _state(self) -> TopicState:
        if self._consumer is None:
            self._consumer = client.consumer(self._connection)
        until = time.monotonic() + self._source.timeout
        while True:
            left_s = min(_ASK_S, until - time.monotonic())
            try:
                return client.topic_state(self._consumer, self._source.topic, left_s)
            except SourceUnavailable as error:
                if isinstance(error, SourceRefused) or self._stopping() or time.monotonic() >= until:
                    raise

    def _messages(self, learner: Learner, wanted_rows: float) -> float:
        """Turn rows into messages by what those read so far have held."""
        rows = self._rows_per_message(learner)
        return max(1.0, min(_FIRST_MESSAGES, wanted_rows / _FIRST_ROWS) if rows is None else wanted_rows / rows)

    def _rows_per_message(self, learner: Learner) -> float | None:
        """Go by the learner alone, so that a round tried again is the same; by this run where it knows other sources."""
        seen = learners.scanned(learner)
        if any(origin.source != self._name for origin in seen.covered):
            return self._measured
        rows, offsets = self._counted(seen)
        return rows / offsets if rows and offsets else None

    def _counted(self, seen: Progress) -> tuple[int, int]:
        """Return rows scanned, of whatever source, and offsets of this topic; those lost to retention left out."""
        places = sum(intervals.size(at) for origin, at in seen.covered.items() if origin.source == self._name)
        lost = seen.rejected.get(LOST, 0)
        return seen.scanned - lost, places // PLACES - lost

    def wait(self, learner: Learner, stopping: Callable[[], bool]) -> None:
        """Wait until the next round is due.

        It is when `max_wait_rows` wait; `every` seconds after the last one began; else as soon as the records pass the
        end of the earliest open window, and at the latest one window's length after the last round began.

        Raises:
            SourceUnavailable: the brokers cannot be reached.
        """
        while not stopping():
            waiting = self._waiting_rows(learner)
            if waiting >= self._source.max_wait_rows or (waiting and self._due(learner)):
                return
            time.sleep(min(max(_LOOK_S[0], self._period / _LOOKS), _LOOK_S[1]))

    def _waiting_rows(self, learner: Learner) -> float:
        state = self._state()
        taken = learner.cursors.topic(self._name).offsets
        messages = 0
        for partition, end in state.ends.items():
            # The last plan may have found more counted than the learner's position says: a stream reads ahead.
            known = (state.starts[partition], taken.get(partition, 0), self._at.get(partition, 0))
            messages += max(0, end - max(known))
        return messages * (self._rows_per_message(learner) or 1.0)

    def _due(self, learner: Learner) -> bool:
        begun, begun_wall = self._started
        latest = begun + self._period
        if self._source.every is None and self._refresh_us is not None and learner.pending:
            closes_s = (min(learner.pending) + to_us(self._source.out_of_orderness)) / 1e6
            if begun_wall < closes_s:
                return self._closed(closes_s) or time.monotonic() >= latest + self._source.out_of_orderness + _GRACE_S
        return time.monotonic() >= latest

    def _closed(self, closes_s: float) -> bool:
        """Return whether a window's last rows are there: its end has come by this clock, and by the producers'."""
        if time.time() < closes_s:
            return False
        if time.time() >= closes_s + _GRACE_S:
            return True
        ahead = client.offsets_at(self._consumer, self._source.topic, math.ceil(closes_s * 1000))
        return all(offset is not None for partition, offset in ahead.items() if not self._aside(partition))

    def _aside(self, partition: int) -> bool:
        """Return whether a partition has been idle for so long that it holds back no window.

        A run that takes what is there cannot wait and see: it judges by how far the others are ahead of a partition that it
        has read to its end.
        """
        newest, since = self._moved.get(partition, (None, time.monotonic()))
        if not self._follow:
            ahead = max((one for one, _ in self._moved.values() if one is not None), default=0)
            late_us = to_us(self._source.idle_timeout)
            return newest is None or (partition in self._drained and ahead - newest >= late_us)
        return time.monotonic() - since >= self._source.idle_timeout

    def watermark(self, learner: Learner) -> float:
        """Return the slowest partition's newest event time, less the slack; idle ones are set aside."""
        seen = learners.scanned(learner).latest
        now = time.monotonic()
        for partition in self._begins:
            newest = seen.get(Origin(self._name, str(partition)))
            if partition not in self._moved or self._moved[partition][0] != newest:
                self._moved[partition] = (newest, now)
        times = [self._moved[p][0] for p in self._begins if not self._aside(p)]
        if not times:  # all are idle: what has arrived is all there is to judge by
            times = [newest for newest, _ in self._moved.values() if newest is not None]
        known = [one for one in times if one is not None]
        mark = watermark(known, to_us(self._source.out_of_orderness)) if len(known) == len(times) else None
        return float("-inf") if mark is None else mark

    def is_transient(self, error: SourceError) -> bool:
        """Return whether to retry: brokers that have answered come back; what retention took is skipped next time."""
        if isinstance(error, SourceRefused):
            return False
        if isinstance(error, RowsLost):  # a plan that has passed by what it may finds the rest gone the next time, too
            return self._source.on_gap == "skip" and self._planned
        return self._follow and bool(self._name) and isinstance(error, SourceUnavailable)

    def trim(self, learner: Learner) -> Learner:
        """Keep all: what was read of a partition is one interval."""
        return learner

    def published(self, learner: Learner) -> None:
        """Note what the round's messages have held; show the lag to those who watch the consumer group."""
        rows, messages = self._counted(learners.scanned(learner))
        if self._counts is not None and rows > self._counts[0] and messages > self._counts[1]:
            self._measured = (rows - self._counts[0]) / (messages - self._counts[1])
        if self._source.group is not None:
            offsets = learner.cursors.topic(self._name).offsets
            client.commit_lag(self._connection, self._source.group, self._source.topic, offsets)

    def close(self) -> None:
        """Close the consumer that asks the brokers."""
        if self._consumer is not None:
            self._consumer.close(autocommit=False)
            self._consumer = None
