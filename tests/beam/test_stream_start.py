"""A stream begins where one version stands: nothing lost, nothing twice, whatever the engine has forgotten."""

import dataclasses
import shutil

import numpy as np
import pytest
from stream_support import SOURCE, Script, block, check_ids, ends, job, newest, stream, versions

from beam_ml.beam import lineage, stream_start
from beam_ml.beam.stream_start import Start, begin, initial_learner, pin
from beam_ml.core import learner as learners
from beam_ml.core.batch import Origin
from beam_ml.core.progress import Progress
from beam_ml.errors import InvalidValue, RowsLost
from beam_ml.formats.messages import PLACES, place
from beam_ml.registry import Registry

# Nine messages of one partition; the third and the sixth hold rows of two windows, and time is not in order of offsets.
TOPIC = [
    [(0, 1)], [(1, 2), (2, 4)], [(3, 4), (4, 6), (5, 5)], [(6, 3)], [(7, 7)], [(8, 9), (9, 12)], [(10, 8)],
    [(11, 13), (12, 14)], [(13, 16)],
]  # fmt: skip
WINDOW_OF_PLACE = {place(at, row): int(t // 5) for at, m in enumerate(TOPIC) for row, (_, t) in enumerate(m)}


WHOLE = {0: (0, len(TOPIC))}


def pinned(a_job, partitions=WHOLE, **more):
    registry = Registry(a_job.registry)
    start, learner = begin(a_job, registry)
    return pin(start, learner, SOURCE, partitions, **more)


def reading(start, upto, closes):
    """What the source gives from a start: one poll a message, counted places noted, up to an offset; time comes last."""
    script = Script()
    for offset in range(start.offsets[0], upto):
        script.send(1, block([TOPIC[offset]], offset=offset, seen=start.seen.get(0)))
    return script.reach(closes) if closes else script


def dies(a_job, start, upto, closes):
    """Run a stream that has read up to an offset and is killed once the windows up to a time are folded."""
    registry = stream(reading(start, upto, closes).end(), a_job, start)
    left_by_a_kill(registry, closes)


def left_by_a_kill(registry, closes):
    """A test stream cannot be killed: take away what was published after that moment."""
    for one in versions(registry):
        if one.refreshes[-1:] and ends(one)[-1] > closes:
            shutil.rmtree(registry.objects.root / "stream" / f"v{one.number}")
    lineage.own.cache_clear()


@pytest.mark.parametrize("upto", [3, 4, 6, 8])
@pytest.mark.parametrize("closes", [5, 10])
def test_a_stream_whose_state_is_lost_goes_on_from_the_registry(tmp_path, upto, closes):
    """Open windows die with the engine; their rows are read again, and those of folded windows are not."""
    a_job = job(tmp_path)
    first = pinned(a_job)
    dies(a_job, first, upto, closes)
    before = newest(Registry(a_job.registry))
    assert before.folded_through == closes * 1_000_000
    second = pinned(a_job)
    assert second.version == before_number(a_job)
    assert second.epoch == 2
    holes = [p for p, window in WINDOW_OF_PLACE.items() if not (window < closes // 5 and p < place(upto))]
    assert second.offsets[0] == min(holes) // PLACES
    registry = stream(reading(second, len(TOPIC), 30).end(), a_job, second)
    learner = newest(registry)
    late = learner.progress.rejected.get("late", 0)
    wanted = [i for at, message in enumerate(TOPIC) for i, t in message if at < upto or t >= closes]
    assert late == 14 - len(wanted)
    check_ids(learner, wanted)
    assert learner.progress.covered[Origin(SOURCE, "0")].tolist() == [[0, place(len(TOPIC))]]
    assert learner.progress.repeated == 0
    assert learner.next == {SOURCE: {"0": len(TOPIC)}}


def before_number(a_job):
    return Registry(a_job.registry).head_number(a_job.name)


def test_the_engine_that_begins_again_by_itself_begins_at_the_same_pin(tmp_path):
    """Its first checkpoint was never taken: the same submission reads everything again, over the versions it made."""
    a_job = job(tmp_path)
    start = pinned(a_job)
    dies(a_job, start, 6, 10)
    registry = stream(reading(start, len(TOPIC), 30).end(), a_job, start)
    found = versions(registry)
    assert [ends(one) for one in found] == [[5], [10], [5], [10], [15], [20]]
    assert [one.parent for one in found] == [None, 1, None, 3, 4, 5]
    assert len({one.run_id for one in found}) == 1
    check_ids(newest(registry), range(14))
    assert newest(registry).progress.repeated == 0


def test_starting_at_the_first_hole_without_the_places_beyond_would_count_twice(tmp_path):
    a_job = job(tmp_path)
    first = pinned(a_job)
    dies(a_job, first, 6, 5)
    second = pinned(a_job)
    assert second.seen[0]
    from beam_ml.errors import MergeRefused

    with pytest.raises(MergeRefused, match="again"):
        stream(reading(dataclasses.replace(second, seen={}), len(TOPIC), 30).end(), a_job, second)


def test_starting_behind_the_last_place_would_lose_rows(tmp_path):
    a_job = job(tmp_path)
    first = pinned(a_job)
    dies(a_job, first, 6, 5)
    second = dataclasses.replace(pinned(a_job), offsets={0: 6}, seen={})
    learner = newest(stream(reading(second, len(TOPIC), 30).end(), a_job, second))
    assert learner.progress.rows < 14


def test_rejects_are_counted_once_too(tmp_path):
    a_job = job(tmp_path)
    start = pinned(a_job, {0: (0, 5)})
    script = Script().send(1, block([[(0, 1)], "{", [(1, 6)]])).reach(5)
    left_by_a_kill(stream(script.end(), a_job, start), 5)
    second = pinned(a_job, {0: (0, 5)})
    assert second.offsets == {0: 2}
    script = Script().send(6, block([[(1, 6)], "[", [(2, 7)]], offset=2)).reach(20).end()
    learner = newest(stream(script, a_job, second))
    assert sum(learner.progress.rejected.values()) == 2
    check_ids(learner, range(3))
    assert learner.progress.covered[Origin(SOURCE, "0")].tolist() == [[0, place(5)]]


def learner_of(covered):
    from beam_ml.algorithms import pca

    progress = Progress()
    for partition, ranges in covered.items():
        progress = progress.merge(Progress.of_ranges(Origin(SOURCE, partition), np.array(ranges, dtype=np.int64)))
    return learners.new(pca.PCA, pca.Spec(n_features=2)).replace(progress=progress)


NEW = Start("run", 1)


def test_pin_takes_the_first_hole_and_what_lies_beyond():
    learner = learner_of(
        {"0": [[0, place(3)], [place(3, 5), place(4)], [place(7), place(9)]], "1": [[place(4), place(6)]]}
    )
    start = pin(NEW, learner, SOURCE, {0: (0, 20), 1: (0, 20), 2: (6, 20)})
    assert start.offsets == {0: 3, 1: 6, 2: 6}
    assert start.begun == {0: 0, 1: 4, 2: 6}
    assert start.seen == {0: [[place(3, 5), place(4)], [place(7), place(9)]]}
    assert start.lost == {}
    assert Start.from_json(start.to_json()) == dataclasses.replace(start)


def test_a_partition_whose_first_message_is_still_open_is_read_from_there():
    """Offset 0 lies in an open window, offset 1 in a folded one: where the topic was begun is known, so 0 is not lost."""
    learner = learner_of({"0": [[place(1), place(2)]]})
    start = pin(dataclasses.replace(NEW, begun={0: 0}), learner, SOURCE, {0: (0, 20)})
    assert start.offsets == {0: 0}
    assert start.seen == {0: [[place(1), place(2)]]}


def test_a_partition_that_grew_while_the_stream_ran_is_read_from_its_first_message():
    learner = learner_of({"0": [[0, place(4)]], "1": [[place(1), place(2)]]})
    start = pin(dataclasses.replace(NEW, begun={0: 0}), learner, SOURCE, {0: (0, 20), 1: (0, 3), 2: (0, 1)}, "latest")
    assert start.offsets == {0: 4, 1: 0, 2: 0}


def test_a_partition_that_rounds_began_at_the_end_is_not_read_before_it():
    start = pin(NEW, learner_of({"0": [[place(7), place(9)]]}), SOURCE, {0: (0, 20)}, "latest")
    assert start.offsets == {0: 9}


def test_latest_begins_at_the_end_once():
    assert pin(NEW, learner_of({}), SOURCE, {0: (3, 20)}, "latest").offsets == {0: 20}
    again = dataclasses.replace(NEW, begun={0: 20})
    assert pin(again, learner_of({}), SOURCE, {0: (3, 50)}, "latest").offsets == {0: 20}


def test_what_retention_removed_fails_or_is_counted():
    learner = learner_of({"0": [[0, place(3)], [place(5), place(6)]]})
    with pytest.raises(
        RowsLost, match=r"partition 0 of .* must still hold offset 3, .* begins at 8.*removed 4 messages"
    ):
        pin(NEW, learner, SOURCE, {0: (8, 20)})
    start = pin(NEW, learner, SOURCE, {0: (8, 20)}, on_gap="skip")
    assert start.offsets == {0: 8}
    after = initial_learner(Start.from_json(start.to_json()), learner)
    assert after.progress.rejected == {stream_start.LOST: 4}
    assert after.progress.covered[Origin(SOURCE, "0")].tolist() == [[0, place(8)]]
    assert after.progress.repeated == 0


def test_a_topic_made_anew_is_refused():
    with pytest.raises(RowsLost, match="was it made anew"):
        pin(NEW, learner_of({"0": [[0, place(9)]]}), SOURCE, {0: (0, 4)})


def test_a_learner_of_another_job_is_refused(tmp_path):
    a_job = job(tmp_path)
    start = pinned(a_job)
    dies(a_job, start, 6, 5)
    registry = Registry(a_job.registry)
    with pytest.raises(InvalidValue, match=r"job\.spec must be that of stream v1"):
        begin(job(tmp_path, spec={"algorithm": "pca", "half_life": "1d"}), registry)
    other = {"numeric": ["x", "id"], "time": "time"}
    with pytest.raises(InvalidValue, match=r"job\.features must be those that stream v1"):
        begin(job(tmp_path, features=other), registry)


def test_a_damaged_version_is_stepped_over_and_its_epoch_kept(tmp_path):
    a_job = job(tmp_path)
    start = pinned(a_job)
    dies(a_job, start, 6, 10)
    registry = Registry(a_job.registry)
    path = registry.manifest("stream", 2).files["learner"].path
    registry.objects.put(path, b"damaged")
    second = pinned(a_job)
    assert (second.version, second.head, second.epoch) == (1, 2, 2)
    learner = newest(stream(reading(second, len(TOPIC), 30).end(), a_job, second))
    check_ids(learner, range(14))
    found = versions(registry)
    assert [(one.parent, one.epoch) for one in found[2:]] == [(1, 2), (3, 2), (4, 2)]
