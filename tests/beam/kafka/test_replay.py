"""Messages, pace and count of a replay, against a producer that is none: only logic, no broker."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.beam.kafka.replay import Pace, Replay, Rows, Sent, replay, whole_messages
from beam_ml.errors import InvalidValue, MissingColumn
from tests.beam.kafka.support import Future, Producer, writer


class Time:
    """A clock that only moves when somebody sleeps, or works."""

    def __init__(self) -> None:
        self.now, self.slept = 1_000.0, 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        self.slept += seconds


def rows(times: Sequence[int], block: int = 7) -> list[Rows]:
    time, found = np.array(times, dtype=np.int64), []
    for start in range(0, len(time), block):
        part = time[start : start + block]
        ids = np.arange(start, start + len(part))
        found.append((pa.record_batch({"id": ids, "who": pa.array([f"c{i % 3}" for i in ids])}), part))
    return found


def encode(rows: pa.RecordBatch, rows_per_message: int = 1) -> list[bytes]:
    ids = rows.column("id").to_pylist()
    return [repr(ids[i : i + rows_per_message]).encode() for i in range(0, len(ids), rows_per_message)]


def sent_ids(producer: Producer) -> list[list[int]]:
    return [eval(message["value"]) for message in producer.sent]


def run(
    times: Sequence[int], how: Replay, producer: Producer | None = None, **more: Any
) -> tuple[Sent, Producer, Time]:
    time = Time()
    producer = producer or Producer()
    producer.clock = time
    box = writer(producer)
    sent = replay(rows(times), box, how, encode, more.pop("partitions", [0, 1]), clock=time, sleep=time.sleep, **more)
    return sent, producer, time


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 12), st.integers(1, 10))
def test_chunks_hold_whole_messages_and_every_row_once(n: int, per_message: int, chunk: int, block: int) -> None:
    found = list(whole_messages(rows(range(n), block), per_message, chunk))
    assert [i for batch, _ in found for i in batch.column("id").to_pylist()] == list(range(n))
    assert [t for _, time in found for t in time.tolist()] == list(range(n))
    assert all(len(time) % per_message == 0 for _, time in found[:-1])
    assert all(len(time) <= max(chunk, per_message) + block + per_message for _, time in found)


def test_each_message_goes_out_when_its_last_row_is_due_and_not_before() -> None:
    times = [0, 500_000, 1_000_000, 4_000_000, 4_000_000, 10_000_000]
    sent, producer, _ = run(times, Replay(rows_per_message=2, speed=2.0))
    assert sent_ids(producer) == [[0, 1], [2, 3], [4, 5]]
    assert producer.at == pytest.approx([1_000.25, 1_002.0, 1_005.0])
    assert (sent.rows, sent.messages, sent.whole, sent.last_us) == (6, 3, True, 10_000_000)
    assert sent.seconds == pytest.approx(5.0)
    assert sent.worst_behind_s == pytest.approx(0.0, abs=1e-9)


def test_at_full_speed_nothing_sleeps() -> None:
    sent, producer, time = run(range(0, 10**9, 10**6), Replay(speed=None))
    assert time.slept == 0.0
    assert len(producer.sent) == sent.messages == 1_000


class Slow(Producer):
    """Takes long for some messages."""

    def __init__(self, time: Time, costs: dict[int, float]) -> None:
        super().__init__()
        self.time, self.costs = time, costs

    def send(self, topic: str, **message: Any) -> Future:
        found = super().send(topic, **message)
        self.time.now += self.costs.get(len(self.futures) - 1, 0.0)
        return found


def test_what_falls_behind_catches_up_and_says_so() -> None:
    time = Time()
    producer = Slow(time, {2: 3.5})
    producer.clock = time
    told: list[Sent] = []
    sent = replay(
        rows([i * 1_000_000 for i in range(8)]), writer(producer), Replay(speed=1.0), encode, [0],
        tell=told.append, clock=time, sleep=time.sleep,
    )  # fmt: skip
    # The third takes 3.5 s: those due meanwhile go at once, then the schedule holds again; it was not moved.
    assert producer.at == pytest.approx([1_000.0, 1_001.0, 1_002.0, 1_005.5, 1_005.5, 1_005.5, 1_006.0, 1_007.0])
    assert sent.worst_behind_s == pytest.approx(3.5)
    assert sent.behind_s == pytest.approx(0.0, abs=1e-9)
    assert sent.seconds == pytest.approx(7.0)
    assert max(one.behind_s for one in told) == pytest.approx(3.5)
    assert all(a.rows <= b.rows for a, b in itertools.pairwise(told))


def test_partitions_take_turns_or_the_key_decides() -> None:
    _, producer, _ = run(range(6), Replay(speed=None), partitions=[0, 1, 4])
    assert [m["partition"] for m in producer.sent] == [0, 1, 4, 0, 1, 4]
    assert [m["key"] for m in producer.sent] == [None] * 6
    _, producer, _ = run(range(6), Replay(speed=None, key="who", spread="key"))
    assert [m["partition"] for m in producer.sent] == [None] * 6
    assert [m["key"] for m in producer.sent] == [b"c0", b"c1", b"c2", b"c0", b"c1", b"c2"]
    _, producer, _ = run(range(3), Replay(speed=None, key="id", spread="round-robin"))
    assert [(m["partition"], m["key"]) for m in producer.sent] == [(0, b"0"), (1, b"1"), (0, b"2")]


def test_turns_go_on_across_chunks() -> None:
    _, producer, _ = run(range(9_001), Replay(speed=None), partitions=[0, 1])
    assert [m["partition"] for m in producer.sent] == [i % 2 for i in range(9_001)]


def test_a_key_that_is_no_column_is_refused() -> None:
    with pytest.raises(MissingColumn, match="The key must be one column of the rows; got 'nobody'"):
        run(range(3), Replay(speed=None, key="nobody", spread="key"))


def test_record_times_are_now_or_the_last_rows_never_before_it() -> None:
    _, producer, _ = run([0, 1, 1_000, 1_999], Replay(speed=None))
    assert [m["timestamp_ms"] for m in producer.sent] == [None] * 4
    _, producer, _ = run([0, 1, 1_000, 1_001], Replay(speed=None, record_time="event"))
    assert [m["timestamp_ms"] for m in producer.sent] == [0, 1, 1, 2]
    _, producer, _ = run([0, 1, 1_000, 1_001], Replay(2, speed=None, record_time="event"))
    assert [m["timestamp_ms"] for m in producer.sent] == [1, 2]


def test_a_stop_sends_no_more_and_counts_what_was() -> None:
    producer = Producer()
    sent, producer, _ = run(
        [i * 1_000_000 for i in range(50)], Replay(speed=1.0), producer, stopping=lambda: len(producer.sent) >= 20
    )
    assert (sent.rows, sent.messages, sent.whole) == (20, 20, False)
    assert sent.last_us == 19_000_000
    assert len(producer.sent) == 20


def test_no_rows_is_no_message() -> None:
    sent, producer, _ = run([], Replay(speed=1.0))
    assert (sent.rows, sent.messages, sent.last_us, sent.whole, producer.sent) == (0, 0, None, True, [])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rows_per_message": 0}, "rows_per_message must be >= 1; got 0."),
        ({"speed": -1.0}, "speed must be greater than 0, or 'max'; got -1."),
        ({"speed": float("inf")}, "speed must be greater than 0, or 'max'; got inf."),
        (
            {"rows_per_message": 2, "key": "who"},
            "rows_per_message must be 1 where there is a key: a message has one; got 2.",
        ),
        ({"spread": "key"}, "partitions by key need a key; got none."),
    ],
)
def test_settings_are_refused_in_a_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValue) as error:
        Replay(**settings)
    assert str(error.value) == sentence


def test_due_times_follow_from_the_first_row() -> None:
    pace = Pace(86_400.0, 5_000_000, 10.0)
    assert pace.due_s(np.array([5_000_000, 5_000_000 + 86_400_000_000])).tolist() == [10.0, 11.0]
    assert Pace(None, 0, 3.0).due_s(np.array([7, 8])).tolist() == [3.0, 3.0]
