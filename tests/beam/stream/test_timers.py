"""Shards and fold by their timers: every window folded once, in order, whatever comes when."""

import pytest
from apache_beam.utils.timestamp import Timestamp

from beam_ml.beam.stream import fold, shards
from beam_ml.beam.transforms import windowing
from beam_ml.core.batch import Origin
from beam_ml.core.learner import scanned
from beam_ml.errors import EngineRefused, InvalidValue, MergeRefused
from beam_ml.formats.messages import PLACES
from tests.beam.stream.support import (
    SECOND,
    Script,
    backlog,
    block,
    check_ids,
    ends,
    job,
    newest,
    rejected_records,
    stream,
    versions,
)


def whole(learner, n_messages, partition="0"):
    """All places of the first messages of a partition, once."""
    (covered,) = [r.tolist() for origin, r in scanned(learner).covered.items() if origin.partition == partition]
    return covered == [[0, n_messages * PLACES]] and scanned(learner).repeated == 0


def steady(n_windows=4, per_window=5):
    """A poll a window, which holds rows of the next one too; time comes on with the polls."""
    script, rows = Script(), [[(i, i)] for i in range(n_windows * per_window)]
    for at in range(0, len(rows), per_window):
        script.reach(at).send(
            at, block(rows[at + (2 if at else 0) : at + per_window + 2], offset=at + (2 if at else 0))
        )
    return script.end()


@pytest.mark.parametrize("n_shards", [1, 3])
def test_each_window_is_one_version_in_order(tmp_path, n_shards):
    registry = stream(steady(), job(tmp_path), n_shards=n_shards)
    found = versions(registry)
    assert [ends(one) for one in found] == [[5], [10], [15], [20]]
    assert [one.parent for one in found] == [None, 1, 2, 3]
    assert [one.progress["rows"] for one in found] == [5, 10, 15, 20]
    assert {one.epoch for one in found} == {1}
    assert len({one.run_id for one in found}) == 1
    learner = newest(registry)
    check_ids(learner, range(20))
    assert whole(learner, 20)
    assert learner.pending == {}


def test_payloads_of_old_versions_are_removed_now_and_then(tmp_path):
    registry = stream(steady(11), job(tmp_path, retention={"keep": 2, "grace": 1e-6}))
    assert len(versions(registry)) == 11
    kept = [one.number for one in versions(registry) if registry.objects.size(one.files["learner"].path) is not None]
    assert kept == [9, 10, 11]


def mixed(n=30):
    """Two polls of rows of six windows, newest first."""
    rows = [[(i, i)] for i in reversed(range(n))]
    return [(0, block(rows[:17])), (1, block(rows[17:], offset=17))]


def test_windows_that_close_at_once_are_all_folded_in_order(tmp_path):
    """A backlog: the watermark passes many ends in one step, and each poll holds rows of many windows."""
    registry = backlog(mixed(), job(tmp_path))
    assert [ends(one) for one in versions(registry)] == [[5], [10], [15], [20], [25], [30]]
    check_ids(newest(registry), range(30))
    assert whole(newest(registry), 30)


def test_a_shard_whose_timer_is_set_by_elements_alone_would_lose_windows(tmp_path, monkeypatch):
    keep = shards._keep

    def by_elements(codec, held, windows, timer):
        grown, codec.n = len(held) > getattr(codec, "n", 0), len(held)
        keep(codec, held, windows, timer if grown else Nowhere())

    monkeypatch.setattr(shards, "_keep", by_elements)
    assert newest(backlog(mixed(), job(tmp_path))).progress.rows < 30


def test_a_fold_whose_timer_is_set_by_elements_alone_would_lose_windows(tmp_path, monkeypatch):
    keep = fold._StreamFold._keep

    def by_elements(self, held, pending, timer):
        grown, self.n = len(held) > getattr(self, "n", 0), len(held)
        keep(self, held, pending, timer if grown else Nowhere())

    monkeypatch.setattr(fold._StreamFold, "_keep", by_elements)
    assert newest(backlog(mixed(), job(tmp_path))).progress.rows < 30


def late_by_a_second(tmp_path):
    """Rows of two windows; the first closes; then another row of it."""
    script = Script().send(1, block([[(0, 1), (1, 7)]])).reach(6).send(6, block([[(2, 2)]], offset=1)).reach(20).end()
    return newest(stream(script, job(tmp_path, source={"allowed_lateness": "5s"})))


def test_a_window_is_closed_as_soon_as_its_end_is_passed(tmp_path):
    learner = late_by_a_second(tmp_path)
    assert learner.progress.late == 1
    check_ids(learner, range(3))


def test_a_shard_whose_timer_is_the_largest_end_would_close_windows_late(tmp_path, monkeypatch):
    keep = shards._keep

    def latest(codec, held, windows, timer):
        keep(codec, held, windows, Nowhere())
        if held:
            timer.set(Timestamp(micros=max(one.due for one in held.values()) - windowing.TICK_US))

    monkeypatch.setattr(shards, "_keep", latest)
    assert late_by_a_second(tmp_path).progress.late == 0


class Nowhere:
    def set(self, timestamp):
        pass


def test_the_fold_waits_for_every_shard(tmp_path):
    """Rows of one window in many shards: one refresh holds them all."""
    script = Script()
    for i in range(12):
        script.send(0, block([[(i, i % 5)]], offset=i))
    registry = stream(script.reach(5).reach(9).end(), job(tmp_path), n_shards=5)
    assert [(ends(one), one.progress["rows"]) for one in versions(registry)] == [([5], 12)]


def test_empty_windows_are_passed_over(tmp_path):
    script = (
        Script().send(1, block([[(0, 1), (1, 2)]])).reach(42).send(43, block([[(2, 43)]], offset=1)).reach(70).end()
    )
    registry = stream(script, job(tmp_path))
    assert [ends(one) for one in versions(registry)] == [[5], [45]]
    check_ids(newest(registry), range(3))


def test_late_rows_within_the_bound_join_the_earliest_open_window(tmp_path):
    script = (
        Script().send(1, block([[(0, 1)]])).reach(10).send(10, block([[(1, 2), (2, 11)]], offset=1)).reach(20).end()
    )
    registry = stream(script, job(tmp_path, source={"allowed_lateness": "10s"}))
    assert ends(versions(registry)[0]) == [5]
    learner = newest(registry)
    check_ids(learner, range(3))
    assert learner.progress.late == 1
    assert learner.progress.rejected == {}
    assert whole(learner, 2)
    assert learner.progress.time_min == 1 * SECOND


def test_late_rows_beyond_the_bound_are_rejected_and_counted(tmp_path):
    script = (
        Script().send(1, block([[(0, 1)]])).reach(10).send(10, block([[(1, 2), (2, 11)]], offset=1)).reach(20).end()
    )
    registry = stream(script, job(tmp_path))
    learner = newest(registry)
    check_ids(learner, [0, 2])
    assert learner.progress.late == 0
    assert learner.progress.rejected == {"late": 1}
    assert whole(learner, 2)


def test_a_poll_of_nothing_but_rejects_moves_the_source_on(tmp_path):
    script = Script().send(1, block([[(0, 1)]])).reach(10).send(11, block(["{", "no", "[1"], offset=1)).reach(30).end()
    registry = stream(script, job(tmp_path))
    found = versions(registry)
    assert [ends(one) for one in found] == [[5], []]
    assert found[-1].verdict.accepted == found[0].verdict.accepted is True
    learner = newest(registry)
    assert learner.refresh == 1
    assert sum(learner.progress.rejected.values()) == 3
    assert whole(learner, 4)
    assert sorted(one["position"] for one in rejected_records(registry)) == [PLACES, 2 * PLACES, 3 * PLACES]


def test_rejects_before_any_row(tmp_path):
    registry = stream(Script().send(1, block(["{"])).reach(9).end(), job(tmp_path))
    (one,) = versions(registry)
    assert not one.verdict.accepted
    assert scanned(newest(registry)).covered[Origin("kafka://cluster/topic", "0")].tolist() == [[0, PLACES]]


def test_places_that_come_twice_are_refused(tmp_path):
    again = Script().send(1, block([[(0, 1)], [(1, 2)]])).reach(3).send(3, block([[(1, 2)]], offset=1)).end()
    with pytest.raises(MergeRefused, match=r"partition|place 1048576 to 2097152 again|twice"):
        stream(again, job(tmp_path))


def test_places_that_come_twice_after_their_window_was_folded_are_refused(tmp_path):
    again = Script().send(1, block([[(0, 1)]])).reach(10).send(11, block([[(0, 12)]])).reach(20).end()
    with pytest.raises(MergeRefused, match="0 from place 0 to 1048576 again"):
        stream(again, job(tmp_path))


def test_without_the_guard_they_would_be_counted_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(fold._StreamFold, "_refuse_repeat", lambda *given: None)
    again = Script().send(1, block([[(0, 1)]])).reach(10).send(11, block([[(0, 12)]])).reach(20).end()
    learner = newest(stream(again, job(tmp_path)))
    assert learner.progress.rows == 2
    assert learner.progress.repeated == PLACES


def test_what_a_stream_cannot_do_is_refused(tmp_path):
    from beam_ml.beam.engine import new_pipeline
    from beam_ml.beam.kafka.stream.source import ReadKafkaStream
    from beam_ml.beam.stream import build
    from beam_ml.registry import Registry

    registry = Registry(tmp_path / "registry")
    with pytest.raises(InvalidValue, match=r"job\.refresh must be a duration"):
        build(new_pipeline(), job(tmp_path, refresh="round"), registry)
    with pytest.raises(InvalidValue, match=r"job\.refresh must be whole ms"):
        build(new_pipeline(), job(tmp_path, refresh=0.0125), registry)
    with pytest.raises(InvalidValue, match="folder or a bucket"):
        build(new_pipeline(), job(tmp_path), Registry("memory://"))
    source = job(tmp_path).source
    with pytest.raises(EngineRefused, match="FnApiRunner never emits from an unbounded source"):
        build(new_pipeline(), job(tmp_path), registry, read=ReadKafkaStream(source))
    with pytest.raises(EngineRefused, match="DirectRunner never emits"):
        build(new_pipeline(["--runner=DirectRunner"]), job(tmp_path), registry, read=ReadKafkaStream(source))
