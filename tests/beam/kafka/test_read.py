"""Ranges of offsets, and how a poll moves through a partition: brokers' part is played by a list."""

import itertools
from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.errors import (
    KafkaTimeoutError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from kafka.structs import TopicPartition

from beam_ml.beam.kafka.poll import poll_partition, poll_partitions
from beam_ml.beam.kafka.read import OffsetRange, split
from beam_ml.beam.kafka.records import _Batches
from beam_ml.errors import InvalidValue, RowsLost, SourceRefused
from tests.beam.kafka.test_client import TP, fetched, unpacked


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(1, 300))
def test_pieces_tile_the_range(start: int, size: int, most: int) -> None:
    whole = OffsetRange("t", 1, start, start + size)
    pieces = split(whole, most)
    assert [one.start for one in pieces] + [whole.stop] == [whole.start] + [one.stop for one in pieces]
    sizes = [one.stop - one.start for one in pieces]
    assert all(0 < one <= most for one in sizes)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert all(OffsetRange.from_dict(one.to_dict()) == one for one in pieces)


def test_bad_ranges_are_refused() -> None:
    for start, stop in ((-1, 5), (5, 4)):
        with pytest.raises(InvalidValue, match="0 <= start <= stop"):
            OffsetRange("t", 0, start, stop)
    with pytest.raises(InvalidValue, match="max_messages must be >= 1; got 0"):
        split(OffsetRange("t", 0, 0, 5), 0)


class Log:
    """One partition, polled as the library does: whole batches, and a position that moves past holes by itself."""

    config = {"bootstrap_servers": ["a:1"]}  # noqa: RUF012

    def __init__(self, batches: list, first: int = 100) -> None:
        self.data, self.end = fetched(batches)
        self.first, self.at, self.seeks = first, None, 0
        self.trouble: list[Callable[[], None]] = []

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.at, self.seeks = offset, self.seeks + 1

    def position(self, tp: TopicPartition, timeout_ms: float) -> int:
        if self.at is None:
            raise NoOffsetForPartitionError(tp)
        return self.at

    def beginning_offsets(self, tps: list, timeout_ms: float) -> dict:
        return {tp: self.first for tp in tps}

    def poll(self, timeout_ms: float, max_records: int) -> dict:
        if self.trouble:
            self.trouble.pop()()
        assert self.at is not None
        if not self.first <= self.at <= self.end:
            raise OffsetOutOfRangeError({TP: self.at})
        runs, _ = unpacked(_Batches, self.data, self.at)
        if not runs:
            self.at = self.end
            return {}
        self.at = runs[0].offset + 1
        return {TP: runs[:1]}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 3)), min_size=1, max_size=6),
    st.data(),
)
def test_polls_tile_a_range_whatever_is_missing(shape: list, data: st.DataObject) -> None:
    number = itertools.count()
    batches = [([(gap, 0, None, b"%d" % next(number), []) for gap in gaps], 0, hole) for gaps, hole in shape]
    log = Log(batches)
    everything, _ = unpacked(_Batches, log.data, 100)
    offsets = [offset for run in everything for offset in run.fields[0].tolist()]
    start = data.draw(st.integers(100, log.end))
    stop = data.draw(st.integers(start, log.end))
    at, found = start, []
    while at < stop:
        messages, reached = poll_partition(log, TP, at, stop, max_bytes=data.draw(st.integers(1, 20)), timeout_s=0)
        assert at < reached <= stop
        assert all(at <= offset < reached for offset in messages.offsets.tolist())
        found += messages.offsets.tolist()
        at = reached
    assert found == [offset for offset in offsets if start <= offset < stop]


def test_a_consumer_that_stands_there_is_not_sought() -> None:
    log = Log([([(0, 0, None, b"x", [])], 0, 0)] * 5)
    _, at = poll_partition(log, TP, 100, 105, max_bytes=1)
    assert log.seeks == 1
    _, at = poll_partition(log, TP, at, 105, max_bytes=1)
    assert (at, log.seeks) == (102, 1)
    poll_partition(log, TP, 100, 105, max_bytes=1)
    assert log.seeks == 2


def test_what_is_gone_is_an_error_and_what_is_late_is_not() -> None:
    log = Log([([(0, 0, None, b"x", [])], 0, 0)] * 5, first=103)
    with pytest.raises(
        RowsLost, match=r"Partition 0 of topic t at a:1 must still hold offset 101; it begins at 103: .* 2 "
    ):
        poll_partition(log, TP, 101, 105)
    with pytest.raises(RowsLost, match="must reach offset 999"):
        poll_partition(log, TP, 999, None)

    def late() -> None:
        raise KafkaTimeoutError

    log.trouble = [late]
    messages, at = poll_partition(log, TP, 103, 105, timeout_s=0)
    assert (len(messages), at) == (0, 103)
    log.trouble = [late]
    messages, at = poll_partition(log, TP, 103, 105, timeout_s=5)
    assert (len(messages), at) == (2, 105)


def test_polls_that_fail_at_once_are_not_repeated_at_once(caplog: pytest.LogCaptureFixture) -> None:
    log = Log([([(0, 0, None, b"x", [])], 0, 0)] * 5)

    def late() -> None:
        raise KafkaTimeoutError

    log.trouble = [late] * 10_000
    assert poll_partition(log, TP, 100, 105, timeout_s=0.2)[1] == 100
    assert 1 < len(caplog.records) < 30


def test_a_poll_passes_markers_of_one_partition_while_another_has_messages() -> None:
    """An aborted transaction is the last of partition 1: not read past, it would never be at its end."""

    class Consumer:
        config: ClassVar = {"bootstrap_servers": ["a:1"]}
        at: ClassVar = {0: 0, 1: 2}

        def position(self, one: TopicPartition, timeout_ms: float) -> int:
            return self.at[one.partition]

        def poll(self, timeout_ms: float, max_records: int) -> dict:
            self.at.update({0: 5, 1: 4})
            return {TopicPartition("t", 0): ["run of five"]}

    found, gone = poll_partitions(Consumer(), "t", {0: 0, 1: 2}, 0.0, 10)
    assert [(one.partition, one.start, one.stop, bool(one.messages)) for one in found] == [
        (0, 0, 5, True),
        (1, 2, 4, False),
    ]
    assert gone == {}


def test_partitions_that_are_not_there_any_more_are_named_and_the_others_wait() -> None:
    log = Log([([(0, 0, None, b"x", [])], 0, 0)] * 5, first=103)
    assert poll_partitions(log, "t", {0: 101}, 0.0, 10) == ([], {0: 101})

    def cut_off() -> None:
        raise LogTruncationError({TP: 104})

    log.trouble = [cut_off]
    with pytest.raises(RowsLost, match=r"Topic t at a:1 must still hold what was read .* partitions \[0\]"):
        poll_partitions(log, "t", {0: 104}, 0.0, 10)

    def may_not() -> None:
        raise TopicAuthorizationFailedError({"t"})

    log.trouble = [may_not]
    with pytest.raises(SourceRefused, match="must authorise this user for the topic"):
        poll_partitions(log, "t", {0: 104}, 0.0, 10)
