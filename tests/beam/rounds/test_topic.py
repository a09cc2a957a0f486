"""Planning offsets, watermarks and cadence of rounds: pure logic; the broker is real in integration/."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml import pca
from beam_ml.algorithms import find
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import TopicState
from beam_ml.beam.kafka.positions import LOST
from beam_ml.beam.rounds import topic as kafka_rounds
from beam_ml.beam.rounds.topic import KafkaRounds, plan_offsets
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import empty
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import Cursors, TopicCursor
from beam_ml.core.intervals import size
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.errors import NoInput, RowsLost, SourceError, SourceRefused, SourceUnavailable
from beam_ml.formats.messages import PLACES

NAME = "kafka://c/t"
SECOND = 1_000_000


def source(**changes: object) -> KafkaSource:
    return KafkaSource.parse({"kind": "kafka", "brokers": "b:1", "topic": "t", **changes})


def state(ends: list[int], starts: list[int] | None = None, cluster: str = "c") -> TopicState:
    return TopicState(cluster, dict(enumerate(starts or [0] * len(ends))), dict(enumerate(ends)))


def learner_with(**changes: object) -> Learner:
    spec = pca.Spec(n_features=2)
    return learners.new(find("pca"), spec).replace(**changes)


offsets = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=6)


@settings(deadline=None)
@given(offsets, st.floats(1, 2000))
def test_a_plan_is_next_to_what_was_read_and_about_as_large_as_wanted(
    given_: list[tuple[int, int, int]], wanted: float
) -> None:
    starts = [low for low, _, _ in given_]
    taken = {p: low + more for p, (low, more, _) in enumerate(given_)}
    ends = [low + more + new for low, more, new in given_]
    plan = plan_offsets(source(), NAME, state(ends, starts), TopicCursor(taken), wanted)
    total = sum(new for _, _, new in given_)
    for partition, (start, stop) in plan.ranges.items():
        assert start == taken[partition]
        assert start < stop <= ends[partition]
        assert plan.after[partition] == stop
    # A partition that waits is never left out, else its rows would come late.
    assert set(plan.ranges) == {p for p, (_, _, new) in enumerate(given_) if new}
    assert plan.messages >= min(wanted, total)
    assert plan.messages <= min(wanted, total) + len(given_)
    assert plan.lost.scanned == 0


def test_partitions_stay_abreast() -> None:
    plan = plan_offsets(source(), NAME, state([1000, 100, 0]), TopicCursor(), 110)
    assert plan.ranges == {0: (0, 100), 1: (0, 10)}
    assert plan.after == {0: 100, 1: 10, 2: 0}
    assert plan.covered() == {Origin(NAME, "0"): [[0, 100 * PLACES]], Origin(NAME, "1"): [[0, 10 * PLACES]]}
    assert plan.advance(Cursors()) == Cursors(topics={NAME: TopicCursor({0: 100, 1: 10, 2: 0})})


def test_latest_begins_at_the_end() -> None:
    plan = plan_offsets(source(start="latest"), NAME, state([70, 8], [5, 0]), TopicCursor(), 100)
    assert plan.ranges == {}
    assert plan.after == {0: 70, 1: 8}


def test_latest_reads_a_partition_that_came_later_from_its_first_message_on() -> None:
    plan = plan_offsets(source(start="latest"), NAME, state([70, 8], [60, 0]), TopicCursor({1: 6}), 100)
    assert plan.ranges == {0: (60, 70), 1: (6, 8)}


@pytest.mark.parametrize("follow", [True, False])
def test_latest_is_settled_by_a_first_version_without_rows(monkeypatch: pytest.MonkeyPatch, follow: bool) -> None:
    """Else what comes before the first publish would be passed by: by each run that takes what is there, for ever."""
    broker = Broker(monkeypatch, [10, 7])
    first = KafkaRounds(source(start="latest"), 5.0, follow).plan(learner_with(), 10_000)
    assert first is not None
    assert (first.ranges, first.covered()) == ({}, {})
    learner = learner_with(cursors=first.advance(Cursors()))
    broker.ends = [15, 7]
    again = KafkaRounds(source(start="latest"), 5.0, follow)
    plan = again.plan(learner, 10_000)
    assert plan is not None
    assert plan.ranges == {0: (10, 15)}
    assert again.plan(learner.replace(cursors=plan.advance(Cursors())), 10_000) is None


def test_a_gap_fails_or_is_counted() -> None:
    with pytest.raises(RowsLost, match=r"must still hold offset 3.*removed 7 messages unread"):
        plan_offsets(source(), NAME, state([20], [10]), TopicCursor({0: 3}), 100)
    plan = plan_offsets(source(on_gap="skip"), NAME, state([20], [10]), TopicCursor({0: 3}), 100)
    assert plan.ranges == {0: (10, 20)}
    assert plan.lost.rejected == {LOST: 7}
    assert {o: r.tolist() for o, r in plan.lost.covered.items()} == {Origin(NAME, "0"): [[3 * PLACES, 10 * PLACES]]}


def test_a_recreated_topic_is_noticed() -> None:
    with pytest.raises(RowsLost, match=r"ends at 20, before offset 30, which was already read"):
        plan_offsets(source(on_gap="skip"), NAME, state([20]), TopicCursor({0: 30}), 100)
    with pytest.raises(RowsLost, match=r"topic t at b:1 must still have partitions \[2, 10\], which were read"):
        plan_offsets(source(on_gap="skip"), NAME, state([20]), TopicCursor({0: 10, 10: 3, 2: 3}), 100)


def test_a_recreated_topic_is_noticed_though_it_is_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, [20])
    broker.id = "first"
    plan = KafkaRounds(source(), 5.0, follow=False).plan(learner_with(), 10_000)
    assert plan is not None
    learner = learner_with(cursors=plan.advance(Cursors(topics={"kafka://c/other": TopicCursor({0: 1})})))
    broker.ends, broker.id = [500], "second"
    with pytest.raises(
        RowsLost, match="must be the one that was read, of id first; it was deleted and recreated, with id"
    ):
        KafkaRounds(source(on_gap="skip"), 5.0, follow=True).plan(learner, 10_000)
    for same in ("first", ""):  # brokers before ids
        broker.id = same
        plan = KafkaRounds(source(), 5.0, follow=True).plan(learner, 100_000)
        assert plan is not None
        assert plan.ranges == {0: (20, 500)}
    broker.id, broker.cluster = "second", "d"  # moved to another cluster, with its offsets
    moved = KafkaRounds(source(cluster="c"), 5.0, follow=True).plan(learner, 100_000)
    assert moved is not None
    assert moved.ranges == {0: (20, 500)}


def test_what_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, [20])
    for on_gap, follow in (("skip", True), ("skip", False), ("fail", True)):
        rounds = KafkaRounds(source(on_gap=on_gap), 5.0, follow)
        assert not rounds.is_transient(SourceUnavailable("no broker has answered yet"))
        rounds.plan(learner_with(), 10)
        assert rounds.is_transient(RowsLost("retention ran over the round")) is (on_gap == "skip")
        assert rounds.is_transient(SourceUnavailable("gone")) is follow
        assert not rounds.is_transient(SourceRefused("the password is no longer good"))
        assert not rounds.is_transient(NoInput("the topic was deleted"))
        ends, broker.ends = broker.ends, [3]
        with pytest.raises(RowsLost) as recreated:
            rounds.plan(learner_with(cursors=Cursors(topics={NAME: TopicCursor({0: 9})})), 10)
        assert not rounds.is_transient(recreated.value)  # it will not come back
        broker.ends = ends


class Broker:
    """Answers for a topic whose ends the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ends: list[int]) -> None:
        self.ends, self.ahead, self.now = ends, dict[int, int | None](), 1000.0
        self.id, self.cluster = "", "c"
        monkeypatch.setattr(client, "consumer", lambda connection: self)
        monkeypatch.setattr(client, "topic_state", lambda consumer, topic, timeout_s: self.state())
        monkeypatch.setattr(client, "offsets_at", self.offsets_at)
        monkeypatch.setattr(kafka_rounds.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(kafka_rounds.time, "time", lambda: self.now)

    def state(self) -> TopicState:
        return dataclasses.replace(state(self.ends, cluster=self.cluster), id=self.id)

    def offsets_at(self, consumer: object, topic: str, time_ms: int) -> Mapping[int, int | None]:
        self.asked = time_ms
        return self.ahead

    @staticmethod
    def learned(learner: Learner, source: KafkaRounds, newest: dict[int, int], rows: int = 10) -> Learner:
        """Return the learner after a round."""
        plan = source.plan(learner, 1_000_000)
        assert plan is not None
        latest = {Origin(NAME, str(p)): at for p, at in newest.items()}
        covered = {origin: np.array(places) for origin, places in plan.covered().items()}
        progress = learner.progress.merge(Progress(rows=rows, latest=latest, covered=covered))
        return learner.replace(progress=progress, cursors=plan.advance(Cursors()))


def test_once_takes_what_is_there_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, [100])
    monkeypatch.setattr(kafka_rounds, "_FIRST_MESSAGES", 60)
    rounds = KafkaRounds(source(), 5.0, follow=False)
    learner = learner_with()
    first = rounds.plan(learner, 6_000)
    assert first is not None
    assert first.ranges == {0: (0, 60)}
    broker.ends = [500]
    second = rounds.plan(learner.replace(cursors=first.advance(Cursors())), 6_000)
    assert second is not None
    assert second.ranges == {0: (60, 100)}
    assert rounds.plan(learner.replace(cursors=second.advance(Cursors())), 6_000) is None


def test_another_cluster_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Broker(monkeypatch, [100])
    learner = learner_with(cursors=Cursors(topics={"kafka://other/t": TopicCursor({0: 5})}))
    with pytest.raises(SourceError, match="must be the cluster that the learner has read, kafka://other/t"):
        KafkaRounds(source(), 5.0, follow=True).plan(learner, 1_000)
    plan = KafkaRounds(source(cluster="other"), 5.0, follow=True).plan(learner, 1_000)
    assert plan is not None
    assert plan.ranges == {0: (5, 15)}


def test_rounds_learn_how_many_rows_a_message_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, [10_000])
    broker.ends = [100_000]
    rounds = KafkaRounds(source(), 5.0, follow=True)
    first = rounds.plan(learner_with(), 5_000_000)
    assert first is not None
    assert first.messages == 10_000
    short = KafkaRounds(source(), 5.0, follow=True).plan(learner_with(), 2_048)
    assert short is not None
    assert short.messages == 21  # as if each held a hundred rows
    broker.ends = [10_000]
    learner = Broker.learned(learner_with(), rounds, {0: SECOND}, rows=1_000_000)  # 100 rows a message
    broker.ends = [100_000]
    again = KafkaRounds(source(), 5.0, follow=True)  # after a restart, too
    for one in (rounds, again):
        plan = one.plan(learner, 5_000)
        assert plan is not None
        assert plan.messages == 50


def test_rows_of_other_sources_and_lost_messages_do_not_make_messages_look_fuller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = Broker(monkeypatch, [100])
    rounds = KafkaRounds(source(), 5.0, follow=True)
    files = Progress(rows=10**9, covered={Origin("files", "a"): np.array([[0, 10**9]])})
    learner = learner_with(progress=files)
    learner = Broker.learned(learner, rounds, {0: SECOND}, rows=2_000)  # 20 rows a message
    rounds.published(learner)
    broker.ends = [10_000]
    plan = rounds.plan(learner, 5_000)
    assert plan is not None
    assert plan.messages == 250
    lost = Progress(rows=2_000, rejected={LOST: 900}, covered={Origin(NAME, "0"): np.array([[0, 1000 * PLACES]])})
    plan = KafkaRounds(source(), 5.0, follow=True).plan(
        learner_with(progress=lost, cursors=Cursors(topics={NAME: TopicCursor({0: 1000})})), 5_000
    )
    assert plan is not None
    assert plan.messages == 250


def test_the_slowest_partition_holds_the_watermark_until_it_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, [10, 10, 0])
    rounds = KafkaRounds(source(out_of_orderness=2, idle_timeout=30), 5.0, follow=True)
    learner = Broker.learned(learner_with(), rounds, {0: 50 * SECOND, 1: 30 * SECOND})
    assert rounds.watermark(learner) == -math.inf  # partition 2 has shown nothing yet, and may be about to
    broker.now += 20
    broker.ends = [20, 20, 0]
    learner = Broker.learned(learner, rounds, {0: 60 * SECOND, 1: 40 * SECOND})
    assert rounds.watermark(learner) == -math.inf
    broker.now += 29
    assert rounds.watermark(learner) == 38 * SECOND  # partition 2 is aside
    broker.ends = [30, 20, 0]
    learner = Broker.learned(learner, rounds, {0: 70 * SECOND})
    assert rounds.watermark(learner) == 38 * SECOND
    broker.now += 2
    assert rounds.watermark(learner) == 68 * SECOND  # and now 1
    broker.now += 100
    assert rounds.watermark(learner) == 38 * SECOND  # all are idle: none of them is known to be ahead for good


def test_once_sets_aside_only_partitions_that_never_held_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    Broker(monkeypatch, [10, 10, 0])
    rounds = KafkaRounds(source(), 5.0, follow=False)
    learner = Broker.learned(learner_with(), rounds, {0: 50 * SECOND, 1: 30 * SECOND})
    assert rounds.watermark(learner) == 30 * SECOND


def test_once_sets_aside_a_partition_that_ended_long_before_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of each night would else wait for ever for a partition that nobody writes to any more."""
    broker = Broker(monkeypatch, [10, 10])
    rounds = KafkaRounds(source(idle_timeout=30), 5.0, follow=False)
    learner = Broker.learned(learner_with(), rounds, {0: 60 * SECOND, 1: 30 * SECOND})
    assert rounds.watermark(learner) == 60 * SECOND
    almost = Broker.learned(learner_with(), rounds, {0: 60 * SECOND - 1, 1: 30 * SECOND})
    assert rounds.watermark(almost) == 30 * SECOND
    broker.ends = [1000, 1000]
    partly = KafkaRounds(source(idle_timeout=30), 5.0, follow=False)
    monkeypatch.setattr(kafka_rounds, "_FIRST_MESSAGES", 20)
    learner = Broker.learned(learner_with(), partly, {0: 60 * SECOND, 1: 30 * SECOND})
    assert partly.watermark(learner) == 30 * SECOND  # more of it waits


def due(rounds: KafkaRounds, learner: Learner) -> bool:
    """Return whether `wait` comes back at once."""
    looks = 0

    def stopping() -> bool:
        nonlocal looks
        looks += 1
        return looks > 2

    rounds.wait(learner, stopping)
    return looks == 1


def test_rounds_start_as_windows_close(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, [10])
    monkeypatch.setattr(kafka_rounds.time, "sleep", lambda seconds: None)
    rounds = KafkaRounds(source(out_of_orderness=1, max_wait_rows=1000), 5.0, follow=True)
    learner = Broker.learned(learner_with(), rounds, {0: 999 * SECOND})
    end = 1005 * SECOND
    learner = learner.replace(pending={end: empty(learner.spec)})
    broker.now, broker.ends = 1005.9, [20]
    assert not due(rounds, learner)
    broker.now, broker.ahead = 1006.0, {0: None}  # the producers are not there yet
    assert not due(rounds, learner)
    assert broker.asked == 1_006_000
    broker.ahead = {0: 15}
    assert due(rounds, learner)
    broker.ahead, broker.now = {0: None}, 1007.0  # waited long enough for them
    assert due(rounds, learner)
    soon = learner.replace(pending={1003 * SECOND: empty(learner.spec)})
    broker.now = 1004.9
    assert not due(rounds, soon)
    broker.now = 1005.0
    assert due(rounds, soon)
    broker.ends = [10]
    assert not due(rounds, learner)  # nothing to read
    broker.now, broker.ends = 1001.0, [20]
    assert not due(rounds, learner)
    broker.ends = [2000]
    assert due(rounds, learner)  # a backlog


def test_brokers_that_do_not_answer_are_asked_until_the_trainer_is_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, [1])
    asked = list[float]()

    def silent(consumer: object, topic: str, timeout_s: float) -> TopicState:
        asked.append(timeout_s)
        broker.now += timeout_s
        message = "nobody answers"
        raise SourceUnavailable(message)

    monkeypatch.setattr(client, "topic_state", silent)
    with pytest.raises(SourceUnavailable):
        KafkaRounds(source(timeout=12), 5.0, follow=True).plan(learner_with(), 10)
    assert asked == [5, 5, 2]
    with pytest.raises(SourceUnavailable):
        KafkaRounds(source(timeout=12), 5.0, True, lambda: len(asked) > 4).plan(learner_with(), 10)
    assert asked == [5, 5, 2, 5, 5]


def test_the_first_round_does_not_wait_for_a_clock_that_begins_at_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, [0])
    monkeypatch.setattr(kafka_rounds.time, "sleep", lambda seconds: None)
    rounds = KafkaRounds(source(), 86_400.0, follow=True)
    assert rounds.plan(learner_with(), 10) is None
    broker.ends = [1]
    assert due(rounds, learner_with())


def test_a_clock_behind_the_producers_delays_a_round_by_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, [10])
    monkeypatch.setattr(kafka_rounds.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(kafka_rounds.time, "time", lambda: broker.now - 3600)
    rounds = KafkaRounds(source(out_of_orderness=1), 5.0, follow=True)
    learner = Broker.learned(learner_with(), rounds, {0: 999 * SECOND})
    learner = learner.replace(pending={1005 * SECOND: empty(learner.spec)})
    broker.ends, broker.now = [20], 1006.9
    assert not due(rounds, learner)
    broker.now = 1007.0  # a window, the slack and a second after the last round began
    assert due(rounds, learner)


@pytest.mark.parametrize(("refresh_s", "pause_s"), [(1.0, 0.2), (60.0, 1.2), (86_400.0, 2.0)])
def test_brokers_are_looked_at_as_often_as_the_pace_needs(
    monkeypatch: pytest.MonkeyPatch, refresh_s: float, pause_s: float
) -> None:
    Broker(monkeypatch, [0])
    pauses = list[float]()
    monkeypatch.setattr(kafka_rounds.time, "sleep", pauses.append)
    KafkaRounds(source(), refresh_s, follow=True).wait(learner_with(), lambda: len(pauses) == 3)
    assert pauses == [pause_s] * 3


def test_rounds_keep_the_pace_that_the_job_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(monkeypatch, [10])
    monkeypatch.setattr(kafka_rounds.time, "sleep", lambda seconds: None)
    rounds = KafkaRounds(source(every="2s"), 86_400.0, follow=True)
    learner = Broker.learned(learner_with(), rounds, {0: 999 * SECOND})
    broker.ends = [20]
    assert not due(rounds, learner)
    broker.now = 1002.0
    assert due(rounds, learner)


def test_messages_that_a_stream_has_counted_ahead_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hole before them is read, and nothing else has come: a round would have nothing to read."""
    broker = Broker(monkeypatch, [20])
    monkeypatch.setattr(kafka_rounds.time, "sleep", lambda seconds: None)
    counted = Progress(rows=20, covered={Origin(NAME, "0"): np.array([[0, 20 * PLACES]])})
    learner = learner_with(progress=counted, cursors=Cursors(topics={NAME: TopicCursor({0: 14}, {0: 0})}))
    rounds = KafkaRounds(source(), 5.0, follow=True)
    assert rounds.plan(learner, 10) is None
    assert not due(rounds, learner)
    broker.ends = [21]
    assert due(rounds, learner)


def test_lost_places_are_covered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_offsets(source(on_gap="skip"), NAME, state([20, 4], [10, 0]), TopicCursor({0: 3}), 100)
    both = {o: [*plan.covered().get(o, []), *r.tolist()] for o, r in plan.lost.covered.items()}
    assert both == {Origin(NAME, "0"): [[10 * PLACES, 20 * PLACES], [3 * PLACES, 10 * PLACES]]}
    assert sum(map(size, plan.lost.covered.values())) == 7 * PLACES


def test_places_that_a_stream_has_counted_ahead_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream had read half of message 12 into a window that it folded, and message 14 whole."""
    half = PLACES // 2
    counted = np.array([[0, 10 * PLACES], [12 * PLACES, 12 * PLACES + half], [14 * PLACES, 15 * PLACES]])
    plan = plan_offsets(source(), NAME, state([20]), TopicCursor({0: 10}), 100, {0: counted})
    assert plan.ranges == {0: (10, 20)}
    assert plan.covered() == {
        Origin(NAME, "0"): [
            [10 * PLACES, 12 * PLACES], [12 * PLACES + half, 14 * PLACES], [15 * PLACES, 20 * PLACES],
        ]
    }  # fmt: skip
    assert plan.seen == {0: [[12 * PLACES, 12 * PLACES + half], [14 * PLACES, 15 * PLACES]]}
    everything = plan_offsets(source(), NAME, state([12]), TopicCursor({0: 10}), 100, {0: np.array([[0, 12 * PLACES]])})
    assert everything.covered() == {}
