"""The stream's source as far as it is pure: time, marks, seen places, gaps, pacing. Brokers are in integration/."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from apache_beam import Create, Map
from apache_beam.coders import NullableCoder
from apache_beam.io.unbounded_source import _UnboundedSourceRestriction, _UnboundedSourceRestrictionCoder
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp

from beam_ml.beam import engine
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka.client import TopicState
from beam_ml.beam.kafka.poll import Polled, messages_block
from beam_ml.beam.kafka.positions import LOST
from beam_ml.beam.kafka.records import Messages, Run
from beam_ml.beam.kafka.stream import consumer
from beam_ml.beam.kafka.stream import reader as unbounded_reader
from beam_ml.beam.kafka.stream.clock import PartitionClock, partition_watermarks, topic_watermark
from beam_ml.beam.kafka.stream.lost import SetLostAside, lost_block, lost_messages
from beam_ml.beam.kafka.stream.mark import MarkCoder, StreamMark
from beam_ml.beam.kafka.stream.reader import Part, StreamReader
from beam_ml.beam.kafka.stream.source import KafkaStream, ReadKafkaStream
from beam_ml.beam.wire.coders import BlockCoder
from beam_ml.core.batch import Origin
from beam_ml.core.progress import Progress
from beam_ml.core.spec import to_us
from beam_ml.errors import EngineRefused, InvalidValue, RowsLost, SourceUnavailable
from beam_ml.formats.messages import decoder, place, seen_before, to_blocks

S = 1_000_000
NOW = 1_700_000_000 * S


def settings(**changes: object) -> KafkaSource:
    return KafkaSource.parse(
        {"kind": "kafka", "brokers": "b:9092", "topic": "t", "idle_timeout": 10.0, "timeout": 30.0, **changes}
    )


# --- time -------------------------------------------------------------------------------------------------------------


def test_the_slowest_partition_decides():
    clocks = {0: PartitionClock(50 * S, 99 * S, False), 1: PartitionClock(30 * S, 99 * S, False)}
    assert partition_watermarks(clocks, 100 * S, 2 * S, 10 * S) == {0: 48 * S, 1: 28 * S}
    assert topic_watermark(clocks, 100 * S, 2 * S, 10 * S) == 28 * S


@pytest.mark.parametrize(
    ("since", "at_end", "expected"), [(90, True, 50), (91, True, 30), (0, False, 30)], ids=["idle", "recent", "unread"]
)
def test_a_partition_is_set_aside_only_at_its_end_and_only_after_the_timeout(since: int, at_end: bool, expected: int):
    clocks = {0: PartitionClock(50 * S, 99 * S, False), 1: PartitionClock(30 * S, since * S, at_end)}
    assert topic_watermark(clocks, 100 * S, 0, 10 * S) == expected * S


def test_a_partition_never_read_holds_time_back_until_it_is_idle():
    clocks = {0: PartitionClock(50 * S, 99 * S, False), 1: PartitionClock(None, 95 * S, True)}
    assert topic_watermark(clocks, 100 * S, 0, 10 * S) is None
    assert topic_watermark(clocks, 105 * S, 0, 10 * S) == 50 * S
    unread = {**clocks, 1: PartitionClock(None, 0, False)}
    assert topic_watermark(unread, 10_000 * S, 0, 10 * S) is None


def test_when_all_stand_still_time_goes_on_from_the_newest_record_at_the_clocks_pace():
    # a replay of old records: time must not jump to today
    clocks = {0: PartitionClock(5 * S, 1000 * S, True), 1: PartitionClock(7 * S, 990 * S, True)}
    assert topic_watermark(clocks, 1009 * S, S, 10 * S) == 4 * S  # partition 0 counts still
    assert topic_watermark(clocks, 1010 * S, S, 10 * S) == (7 + 10 - 1) * S
    assert topic_watermark(clocks, 1060 * S, S, 10 * S) == (7 + 60 - 1) * S


def test_an_empty_topic_has_no_time():
    assert topic_watermark({}, NOW, 0, S) is None
    assert topic_watermark({0: PartitionClock(None, 0, True), 1: PartitionClock(None, 0, True)}, NOW, 0, S) is None


def test_a_fast_producers_clock_moves_time_no_further_than_now():
    clock = PartitionClock(5 * S, 0, True).read(100 * S, 60 * S)
    assert clock == PartitionClock(60 * S, 60 * S, False)
    assert clock.read(50 * S, 61 * S).newest == 60 * S
    assert clock.read(None, 62 * S) == PartitionClock(60 * S, 62 * S, False)


# --- the mark ---------------------------------------------------------------------------------------------------------


def test_a_mark_comes_back_and_equal_marks_are_equal_bytes():
    coder = MarkCoder()
    one = StreamMark({0: 7, 10: 9, 2: 0}, {p: PartitionClock(p * S or None, NOW, True) for p in (0, 2, 10)}, 5, 6)
    other = StreamMark({10: 9, 2: 0, 0: 7}, {p: PartitionClock(p * S or None, NOW, False) for p in (10, 0, 2)}, 5, 6)
    assert coder.encode(one) == coder.encode(other)
    assert coder.is_deterministic()
    back = coder.decode(coder.encode(one))
    assert (back.offsets, back.watermark, back.silent_since) == (one.offsets, 5, 6)
    assert back.clocks == {
        p: PartitionClock(p * S or None, NOW, False) for p in (0, 2, 10)
    }  # the end is looked up again


def test_a_mark_travels_in_beams_restriction():
    stream = ReadKafkaStream(settings(), {0: 5}, {0: [[0, 9]]})._streams[0]
    coder = _UnboundedSourceRestrictionCoder()
    mark = StreamMark({0: 7}, {0: PartitionClock(None, 3, False)})
    back = coder.decode(coder.encode(_UnboundedSourceRestriction(stream, mark)))
    assert back.checkpoint_mark.offsets == {0: 7}
    assert back.source._starts == '{"0":5}'
    nothing = NullableCoder(stream.get_checkpoint_mark_coder())
    assert nothing.decode(nothing.encode(None)) is None


def test_finalizing_shows_the_lag_of_a_group_and_only_of_a_group(monkeypatch: pytest.MonkeyPatch):
    shown = []
    monkeypatch.setattr("beam_ml.beam.kafka.client.commit_lag", lambda *args: shown.append(args[1:]))
    clocks = {0: PartitionClock(None, 0, False)}
    StreamMark({0: 7}, clocks, source=settings()).finalize_checkpoint()
    StreamMark({0: 7}, clocks).finalize_checkpoint()
    assert shown == []
    mark = StreamMark({0: 7}, clocks, source=settings(group="g"))
    mark.finalize_checkpoint()
    mark.finalize_checkpoint()
    assert shown == [("g", "t", {0: 7})] * 2  # by position: again is the same


# --- what retention removed -------------------------------------------------------------------------------------------


def test_lost_messages_are_counted_by_the_million_without_an_entry_each():
    gap = lost_block("kafka://c/t", 3, np.array([[place(5), place(5_000_005)]]), 5_000_000)
    raw = messages_block("kafka://c/t", 3, Messages(), 5_000_005, 5_000_005)
    assert (lost_messages(gap), lost_messages(raw), len(gap)) == (5_000_000, 0, 0)
    coder = BlockCoder()
    pipeline = engine.new_pipeline()
    found = pipeline | Create([coder.encode(gap), coder.encode(raw)]) | Map(coder.decode) | SetLostAside()
    counted = Progress.of_range(Origin("kafka://c/t", "3"), place(5), place(5_000_005), {LOST: 5_000_000})
    assert_that(
        found.blocks | "Blocks" >> Map(lambda block: (block.start, block.stop)), equal_to([(raw.start, raw.stop)])
    )
    assert_that(
        found.lost | "Lost" >> Map(lambda one: (dict(one.rejected), one.places)),
        equal_to([({LOST: 5_000_000}, counted.places)]),
        label="Lost",
    )
    engine.run(pipeline)


def test_places_counted_before_within_a_gap_are_not_counted_again():
    places = np.array([[place(5), place(7)], [place(7, 3), place(9)]])
    coder = BlockCoder()
    pipeline = engine.new_pipeline()
    given = pipeline | Create([coder.encode(lost_block("kafka://c/t", 3, places, 4))]) | Map(coder.decode)
    lost = (given | SetLostAside()).lost
    wanted = (places.tolist(), {LOST: 4}, place(4) - 3)
    assert_that(lost | Map(lambda one: (_only(one.covered), dict(one.rejected), one.places)), equal_to([wanted]))
    engine.run(pipeline)


def _only(covered: dict) -> list:
    (ranges,) = covered.values()
    return ranges.tolist()


# --- the reader, on a made-up log -------------------------------------------------------------------------------------


class Log:
    """Partitions as lists of (offset, time in ms); what the reader asks of brokers."""

    def __init__(self, partitions: dict[int, list[tuple[int, int]]], starts: dict[int, int] | None = None) -> None:
        self.partitions, self.starts = partitions, starts or dict.fromkeys(partitions, 0)
        self.ends = {p: (log[-1][0] + 1 if log else self.starts[p]) for p, log in partitions.items()}
        self.silent, self.most, self.asked = False, 2, 0

    def look(self, source: KafkaSource) -> TopicState:
        return TopicState("c", dict(self.starts), dict(self.ends), "first")

    def poll(self, source: KafkaSource, at: dict[int, int], wait_s: float) -> tuple[list[Polled], dict[int, int]]:
        if self.silent:
            return [], {}
        gone = {p: offset for p, offset in at.items() if not self.starts[p] <= offset <= self.ends[p]}
        if gone:
            return [], gone
        found = []
        for partition, offset in sorted(at.items()):
            taken = [one for one in self.partitions[partition] if one[0] >= offset][: self.most]
            stop = taken[-1][0] + 1 if taken else self.ends[partition]
            if stop > offset:
                records = [SimpleNamespace(offset=at, timestamp=ms, key=None, value=b"%d" % at) for at, ms in taken]
                found.append(Polled(partition, Messages([Run.of_records(records)] if records else []), offset, stop))
        return found, {}

    def topic_ends(self, source: KafkaSource, at: dict[int, int]) -> dict[int, int] | None:
        self.asked += 1
        return None if self.silent else dict(self.ends)


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def __call__(self) -> int:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch, clock: Clock):
    """Return a function that makes a reader of a made-up log; its bundles last as many looks at the clock as in 0.05 s."""
    ticks = itertools.count()
    monkeypatch.setattr(unbounded_reader.time, "monotonic", lambda: next(ticks) * 0.001)
    monkeypatch.setattr(unbounded_reader.time, "sleep", lambda seconds: None)

    def start(
        log: Log, mark: StreamMark | None = None, seen=None, starts=None, part=0, of=1, made="", **changes
    ) -> StreamReader:
        for name in ("look", "poll", "topic_ends"):
            monkeypatch.setattr(consumer, name, getattr(log, name))
        monkeypatch.setattr(consumer, "known_topic", lambda source, afresh: log.look(source))
        ranges = {p: np.array(one, dtype=np.int64) for p, one in (seen or {}).items()}
        return StreamReader(Part(settings(**changes), starts or {}, ranges, part, of, 0.05, 0.1, made), mark, clock)

    return start


def drained(reader: StreamReader, first: bool = True) -> list:
    """Return the blocks of one bundle."""
    blocks, more = [], reader.start() if first else reader.advance()
    while more:
        blocks.append(reader.get_current())
        more = reader.advance()
    return blocks


def offsets(blocks: list) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for block in blocks:
        found.setdefault(block.origin.partition, []).extend((block.position // (1 << 20)).tolist())
    return found


def spans(blocks: list, partition: int) -> list[tuple[int, int]]:
    return [(b.start >> 20, b.stop >> 20) for b in blocks if b.origin.partition == str(partition)]


TIME_MS = NOW // 1000


def test_blocks_tile_each_partition_and_a_new_reader_goes_on_at_the_mark(reading):
    log = Log({0: [(i, TIME_MS + i) for i in (0, 1, 4, 5, 6)], 1: [(i, TIME_MS + i) for i in range(3)]})
    log.ends[0] = 9  # markers behind the last message
    reader = reading(log)
    assert reader.start()
    first = reader.get_current()
    assert spans([first], 0) == [(0, 2)]
    assert reader.get_current_timestamp() == Timestamp(micros=TIME_MS * 1000)
    coder = MarkCoder()
    mark = coder.decode(coder.encode(reader.get_checkpoint_mark()))
    assert mark.offsets == {0: 2, 1: 0}  # what waits in the reader is not in the mark
    rest = drained(reading(log, mark))
    assert offsets([first, *rest]) == {"0": [0, 1, 4, 5, 6], "1": [0, 1, 2]}
    assert spans([first, *rest], 0) == [(0, 2), (2, 6), (6, 7), (7, 9)]
    assert spans(rest, 1) == [(0, 2), (2, 3)]


def test_a_parked_reader_goes_on_without_another_start(reading):
    log = Log({0: [(i, TIME_MS) for i in range(5)]})
    reader = reading(log)
    assert reader.start()
    reader.get_checkpoint_mark()
    assert offsets(drained(reader, first=False)) == {"0": [2, 3, 4]}
    reader.get_checkpoint_mark()
    log.partitions[0].append((5, TIME_MS))
    log.ends[0] = 6
    assert offsets(drained(reader, first=False)) == {"0": [5]}


@pytest.mark.parametrize(("start", "expected"), [("earliest", [3, 4]), ("latest", [])])
def test_partitions_begin_where_the_job_says(reading, start: str, expected: list[int]):
    log = Log({0: [(3, TIME_MS), (4, TIME_MS)], 1: [(i, TIME_MS) for i in range(4)]}, {0: 3, 1: 0})
    reader = reading(log, starts={1: 2}, start=start)
    assert offsets(drained(reader)) == {"1": [2, 3], **({"0": expected} if expected else {})}
    assert reader.get_checkpoint_mark().offsets == {0: 5, 1: 4}


def test_a_partition_made_while_the_stream_ran_is_read_from_its_first_message(reading):
    log = Log({0: [(0, TIME_MS)], 1: [(0, TIME_MS), (1, TIME_MS)]})
    mark = StreamMark({0: 1}, {0: PartitionClock(TIME_MS * 1000, NOW, False)}, 77)
    reader = reading(log, mark, start="latest")
    assert offsets(drained(reader)) == {"1": [0, 1]}


def test_a_partition_that_came_with_its_beginning_gone_counts_that_as_read(reading):
    """Else it would be taken to have been read from 0, and the next start to miss messages that nobody could read."""
    log = Log({p: [(i, TIME_MS) for i in range(first, first + 3)] for p, first in ((0, 0), (1, 100), (2, 50))})
    log.starts = {0: 0, 1: 100, 2: 50}
    reader = reading(log, starts={0: 0})
    assert reader.start()
    assert spans([reader.get_current()], 1) == [(0, 100)]
    mark = MarkCoder().decode(MarkCoder().encode(reader.get_checkpoint_mark()))
    blocks = drained(reading(log, mark, starts={0: 0}))
    assert spans(blocks, 1)[0][0] == 100
    assert spans(blocks, 2)[0] == (0, 50)
    assert offsets(blocks) == {"0": [0, 1, 2], "1": [100, 101, 102], "2": [50, 51, 52]}
    (decoded,) = to_blocks(next(one for one in blocks if one.origin.partition == "2"), decoder("json"))
    assert (len(decoded), decoded.start, decoded.stop) == (0, 0, 50 << 20)
    untold = drained(reading(log, start="earliest"))  # nobody noted where the topic was begun
    assert spans(untold, 1)[0][0] == 100


def test_splits_share_the_partitions(reading):
    log = Log({p: [(0, TIME_MS + p)] for p in range(5)})
    found = [offsets(drained(reading(log, part=part, of=2))) for part in range(2)]
    assert [sorted(one) for one in found] == [["0", "2", "4"], ["1", "3"]]


def test_what_was_counted_before_is_noted_or_left_out(reading):
    log = Log({0: [(i, TIME_MS + i) for i in range(6)]})
    seen = {0: [[place(0), place(2)], [place(3), place(3) + 7]]}
    reader = reading(log, seen=seen)
    blocks = drained(reader)
    assert spans(blocks, 0) == [(2, 4), (4, 6)]
    assert seen_before(blocks[0]).tolist() == [[place(3), place(3) + 7]]
    assert seen_before(blocks[1]) is None
    assert reader.get_checkpoint_mark().clocks[0].newest == (TIME_MS + 5) * 1000 - 5000  # cut to now


def test_time_follows_the_slowest_partition_and_never_falls(reading, clock: Clock):
    log = Log({0: [(0, TIME_MS - 9000), (1, TIME_MS - 1000)], 1: [(0, TIME_MS - 5000)]})
    reader = reading(log, out_of_orderness=2.0)
    assert reader.start()
    assert reader.get_watermark() == MIN_TIMESTAMP  # of partition 1 nothing is known
    drained(reader, first=False)
    assert reader.get_watermark() == Timestamp(micros=NOW - 7 * S)
    mark = reader.get_checkpoint_mark()
    clock.at += 10 * S
    late = reading(log, mark, out_of_orderness=60.0)
    assert not late.start()
    assert late.get_watermark() == Timestamp(micros=NOW - 7 * S)


def test_one_record_dated_far_ahead_of_the_others_moves_no_time(reading):
    """A replay: all of it is before now, so that only the records themselves can say that one is far."""
    ms = [TIME_MS - 400 * 86_400_000 + i * 1000 for i in range(10)]
    ms[4] += 270 * 86_400_000
    log = Log({0: list(enumerate(ms))})
    log.most = 10
    for leap, newest in (("1d", ms[-1]), (None, ms[4])):
        reader = reading(log, max_leap=leap)
        assert offsets(drained(reader)) == {"0": list(range(10))}
        assert reader.get_watermark() == Timestamp(micros=newest * 1000)


@pytest.mark.parametrize("ms", [2**62, 2**63 - 1])
def test_a_time_that_microseconds_do_not_hold_is_one_far_ahead(reading, clock: Clock, ms: int):
    log = Log({0: [(0, ms)], 1: [(0, TIME_MS - 9000)]})
    reader = reading(log)
    assert reader.start()
    assert reader.get_current_timestamp() == Timestamp(micros=NOW - to_us(settings().out_of_orderness))
    record = SimpleNamespace(offset=0, timestamp=ms, key=None, value=b'{"x": 1}')
    raw = messages_block("s", 0, Messages([Run.of_records([record])]), 0, 1)
    (block,) = to_blocks(raw, decoder("json", {}))
    assert block.recorded.tolist() == [(2**63 - 1) // 1000 * 1000]


def test_a_silent_partition_is_set_aside_and_a_silent_topic_keeps_the_clocks_pace(reading, clock: Clock):
    log = Log({0: [(0, TIME_MS - 9000)], 1: []})
    reader = reading(log)
    drained(reader)
    assert reader.get_watermark() == MIN_TIMESTAMP
    reader.get_checkpoint_mark()
    clock.at += 10 * S
    log.partitions[0].append((1, TIME_MS - 1000))
    log.ends[0] = 2
    drained(reader, first=False)
    assert reader.get_watermark() == Timestamp(micros=NOW - 1 * S)
    mark = reader.get_checkpoint_mark()
    clock.at += 25 * S
    again = reading(log, mark)
    assert not again.start()
    assert again.get_watermark() == Timestamp(micros=NOW - 1 * S + 25 * S)


def test_a_partition_with_unread_messages_counts_however_old_its_last_one_is(reading, clock: Clock):
    log = Log({0: [(0, TIME_MS - 9000)], 1: [(0, TIME_MS - 8000)]})
    reader = reading(log)
    drained(reader)
    mark = reader.get_checkpoint_mark()
    clock.at += 60 * S
    log.ends[0] = 2  # something is there that does not come
    log.poll = lambda source, at, wait_s: ([], {})
    again = reading(log, mark)
    assert not again.start()
    assert again.get_watermark() == Timestamp(micros=NOW - 9 * S)


def test_silent_brokers_are_waited_for_and_then_an_error(reading, clock: Clock):
    log = Log({0: [(0, TIME_MS)]})
    reader = reading(log)
    drained(reader)
    mark = reader.get_checkpoint_mark()
    log.silent = True
    for _ in range(3):
        clock.at += 9 * S
        reader = reading(log, mark)
        assert not reader.start()
        mark = reader.get_checkpoint_mark()
    assert mark.clocks[0].at_end is False
    clock.at += 12 * S
    with pytest.raises(SourceUnavailable, match=r"topic t at b:9092 must answer within source.timeout = 30 s; .* 30 s"):
        reading(log, mark).start()
    log.silent = False
    reader = reading(log, mark)
    assert not reader.start()
    assert reader.get_checkpoint_mark().silent_since is None


def test_what_retention_removed_fails_or_is_counted(reading, caplog: pytest.LogCaptureFixture):
    log = Log({0: [(i, TIME_MS) for i in range(5, 8)]}, {0: 5})
    with pytest.raises(RowsLost, match=r"Partition 0 of topic t .* offset 2, .* begins at 5: .* 3 messages"):
        reading(log, starts={0: 2}).start()
    reader = reading(log, starts={0: 2}, on_gap="skip")
    blocks = drained(reader)
    assert spans(blocks, 0) == [(2, 5), (5, 7), (7, 8)]
    assert [lost_messages(block) for block in blocks] == [3, 0, 0]
    assert "removed 3 messages unread, offsets 2 to 4" in caplog.text
    counted = reading(log, starts={0: 1}, seen={0: [[place(0), place(3)]]}, on_gap="skip")
    blocks = drained(counted)  # what was counted before is not lost
    assert (spans(blocks, 0), lost_messages(blocks[0])) == ([(3, 5), (5, 7), (7, 8)], 2)
    with pytest.raises(RowsLost, match=r"ends at 8, before offset 9, which was already read; was it recreated"):
        reading(log, starts={0: 9}, on_gap="skip").start()


def test_a_reader_that_is_stopped_behind_a_gap_does_not_count_it_again(reading):
    """The gap has a place in its midst that was counted before."""
    log = Log({0: [(i, TIME_MS) for i in range(9, 11)]}, {0: 9})
    seen = {0: [[place(4), place(5)], [place(6), place(6, 2)]]}
    reader = reading(log, starts={0: 2}, seen=seen, on_gap="skip")
    assert reader.start()
    first = reader.get_current()
    assert lost_messages(first) == 6
    assert seen_before(first).tolist() == seen[0]
    mark = MarkCoder().decode(MarkCoder().encode(reader.get_checkpoint_mark()))
    assert mark.offsets == {0: 9}
    rest = drained(reading(log, mark, seen=seen, on_gap="skip"))
    assert spans([first, *rest], 0) == [(2, 9), (9, 11)]
    assert [lost_messages(block) for block in rest] == [0]


def test_a_split_without_rows_does_not_hold_back_the_others_for_ever(reading, clock: Clock):
    """A topic by key, whose second partition has nothing new: an engine's time is that of its slowest split."""
    log = Log({0: [(0, TIME_MS - 9000)], 1: []})
    reader = reading(log, part=1, of=2, out_of_orderness=2.0)
    drained(reader)
    assert reader.get_watermark() == MIN_TIMESTAMP
    mark = reader.get_checkpoint_mark()
    clock.at += 10 * S
    later = reading(log, mark, part=1, of=2, out_of_orderness=2.0)
    assert not later.start()
    assert later.get_watermark() == Timestamp(micros=NOW + 8 * S)
    mark = later.get_checkpoint_mark()
    log.partitions[1].append((0, TIME_MS + 10_500))
    log.ends[1] = 1
    clock.at += 1 * S
    again = reading(log, mark, part=1, of=2, out_of_orderness=2.0)
    assert offsets(drained(again)) == {"1": [0]}
    assert again.get_watermark() == Timestamp(micros=NOW + 8 * S + S // 2)


@pytest.mark.parametrize(("of", "read"), [(1, []), (2, []), (1, [(0, TIME_MS)]), (2, [(0, TIME_MS)])])
def test_a_topic_with_nothing_new_has_no_time_however_it_is_split(reading, clock: Clock, of: int, read: list):
    """A replay of old records may be about to go on."""
    log = Log({0: [], 1: read})
    mark = None
    for _ in range(3):
        reader = reading(log, mark, starts={0: 0, 1: len(read)}, part=of - 1, of=of)
        drained(reader)
        mark = reader.get_checkpoint_mark()
        clock.at += 60 * S
    assert reader.get_watermark() == MIN_TIMESTAMP


def test_a_topic_recreated_is_refused_though_it_is_longer(reading):
    log = Log({0: [(i, TIME_MS) for i in range(9)]})
    mark = StreamMark({0: 2}, {0: PartitionClock(TIME_MS * 1000, NOW, False)}, 77)
    with pytest.raises(RowsLost, match=r"topic t at b:9092 must be the one that was read, of id old; .* id first"):
        reading(log, mark, made="c/old").start()
    for same in ("c/first", "", "d/old"):  # d: it has moved to another cluster, with its offsets
        assert reading(log, mark, made=same).start()


def test_partitions_that_come_are_found_while_the_stream_runs(monkeypatch, caplog):
    now, log = [0.0], Log({0: []})
    consumer._known_topic.cache_clear()

    def look(source, timeout_s=None):
        if log.silent:
            message = "The brokers are silent."
            raise SourceUnavailable(message)
        log.asked += 1
        return log.look(source)

    monkeypatch.setattr(consumer, "look", look)
    monkeypatch.setattr(consumer.time, "monotonic", lambda: now[0])
    given = settings()
    assert sorted(consumer.known_topic(given, afresh=True).starts) == [0]
    log.starts[1] = log.ends[1] = 0
    now[0] = 29.0
    assert sorted(consumer.known_topic(given).starts) == [0]
    log.silent, now[0] = True, 30.0
    assert sorted(consumer.known_topic(given).starts) == [0]
    assert "looking for new partitions failed: The brokers are silent." in caplog.text
    log.silent, now[0] = False, 59.0
    assert sorted(consumer.known_topic(given).starts) == [0]
    now[0] = 60.0
    assert sorted(consumer.known_topic(given).starts) == [0, 1]
    assert log.asked == 2
    consumer._known_topic.cache_clear()


def test_a_bundle_of_old_records_lasts_longer_than_one_of_new_ones(reading, monkeypatch: pytest.MonkeyPatch):
    def polls(age_ms: int, messages: int) -> int:
        ticks = itertools.count()
        monkeypatch.setattr(unbounded_reader.time, "monotonic", lambda: next(ticks) * 0.01)
        log = Log({0: [(i, TIME_MS - age_ms) for i in range(messages)]})
        log.most = 1
        return len(drained(reading(log)))

    live, old = polls(0, 100), polls(60_000, 100)  # bundles of 5 and of 10 ticks
    assert 0 < live < old < 100
    assert polls(60_000, live) == live  # nothing more is there: no longer than a live one


@pytest.mark.parametrize(("partitions", "blocks"), [(1, 30), (4, 28), (40, 40)])
def test_a_bundle_has_few_blocks_and_none_that_the_next_reader_would_fetch_again(
    reading, monkeypatch: pytest.MonkeyPatch, partitions: int, blocks: int
):
    monkeypatch.setattr(unbounded_reader.time, "monotonic", lambda: 0.0)
    log = Log({p: [(i, TIME_MS - 60_000) for i in range(100)] for p in range(partitions)})
    log.most = 1
    reader = reading(log)
    assert len(drained(reader)) == blocks
    assert set(reader.get_checkpoint_mark().offsets.values()) == {blocks // partitions}


# --- the transform ----------------------------------------------------------------------------------------------------


def test_a_stream_ships_text_and_is_refused_where_nothing_would_come_out():
    pipeline = engine.new_pipeline()
    blocks = pipeline | ReadKafkaStream(settings(client={"sasl_plain_password": "$SECRET"}))
    assert not blocks.is_bounded
    assert blocks.element_type.__name__ == "Block"
    with pytest.raises(EngineRefused, match="never emits from an unbounded source"):
        engine.run(pipeline)


@pytest.mark.parametrize(
    "bad", [{"splits": 0}, {"pause_s": 1.5}, {"pause_s": -1}, {"read_s": 0.0}, {"read_s": 10.0}], ids=str
)
def test_bad_pace_is_refused(bad: dict):
    with pytest.raises(InvalidValue, match=next(iter(bad))):
        ReadKafkaStream(settings(), **bad)


def test_a_split_is_a_step_of_its_own_that_no_engine_splits():
    pipeline = engine.new_pipeline()
    _ = pipeline | "In" >> ReadKafkaStream(settings(), splits=3, topic="c/first")
    steps = {one.unique_name for one in pipeline.to_runner_api().components.transforms.values()}
    assert {"In/Read0", "In/Read1", "In/Read2"} <= steps
    parts = ReadKafkaStream(settings(), splits=3, topic="c/first")._streams
    assert [(part._part, part._of) for part in parts] == [(0, 3), (1, 3), (2, 3)]
    assert [part.create_reader(None, None)._part.topic for part in parts] == ["c/first"] * 3
    assert [list(part.split(20)) for part in parts] == [[part] for part in parts]
    assert isinstance(parts[0].default_output_coder(), BlockCoder)
    assert json.loads(parts[0]._source)["topic"] == "t"
    assert isinstance(parts[0], KafkaStream)


def test_a_split_without_partitions_holds_nobody_back(reading, clock: Clock):
    log = Log({0: [(0, TIME_MS - 9000)]})
    reader = reading(log, part=1, of=2, out_of_orderness=2.0)
    assert not reader.start()
    assert reader.get_watermark() == Timestamp(micros=NOW - 2 * S)
    assert reader.get_checkpoint_mark().offsets == {}
