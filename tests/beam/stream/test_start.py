"""A stream begins where one version stands: nothing lost, nothing twice, whatever the engine has forgotten."""

import dataclasses
import shutil

import numpy as np
import pytest

from beam_ml.artefact.records import encode_learner
from beam_ml.beam.engine import new_pipeline
from beam_ml.beam.kafka import client
from beam_ml.beam.kafka.client import TopicState
from beam_ml.beam.kafka.positions import LOST
from beam_ml.beam.kafka.stream import source
from beam_ml.beam.stream import build, kafka_start
from beam_ml.beam.stream.start import Start, begin, initial_learner, pin
from beam_ml.beam.versions import lineage
from beam_ml.beam.versions.lineage import Standing
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import Cursors, TopicCursor
from beam_ml.core.progress import Progress
from beam_ml.core.windows import ROUND, cut
from beam_ml.errors import InvalidValue, MergeRefused, RowsLost, SourceError, VersionNotFound
from beam_ml.formats.messages import PLACES, place, to_blocks
from beam_ml.registry import Registry
from tests.beam.stream.support import SOURCE, Script, block, check_ids, ends, job, lines, newest, stream, versions

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
    return pin(start, learner, SOURCE, log(partitions), **more)


def log(partitions, topic=""):
    """Return a topic of partition → (first offset, offset behind the last)."""
    cluster, _, made = topic.rpartition("/")
    return TopicState(
        cluster,
        {p: first for p, (first, _) in partitions.items()},
        {p: end for p, (_, end) in partitions.items()},
        made,
    )


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
    assert second.standing.version == before_number(a_job)
    assert second.standing.epoch == 2
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
    assert learner.cursors.topic(SOURCE).offsets == {0: len(TOPIC)}


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
    with pytest.raises(MergeRefused, match="again"):
        stream(reading(dataclasses.replace(second, seen={}), len(TOPIC), 30).end(), a_job, second)


def test_starting_behind_the_last_place_would_lose_rows(tmp_path):
    a_job = job(tmp_path)
    first = pinned(a_job)
    dies(a_job, first, 6, 5)
    second = dataclasses.replace(pinned(a_job), offsets={0: 6}, seen={})
    learner = newest(stream(reading(second, len(TOPIC), 30).end(), a_job, second))
    assert learner.progress.rows < 14


def left_by_rounds(a_job, pending, n_messages):
    """Publish what rounds leave that have read some messages and folded nothing."""
    learner = learners.new(a_job.algorithm(), a_job.algorithm_spec())
    for end, one in pending.items():
        learner = learners.add_pending(a_job.algorithm(), learner, end, one)
    learner = learner.replace(cursors=read_up_to({0: n_messages}))
    data = encode_learner(a_job.algorithm(), learner)
    facts = {"features": a_job.features.to_dict()}
    return Registry(a_job.registry).publish(
        a_job.name, {"learner": data}, parent=None, round_id="1-r", run_id="rounds", epoch=1, facts=facts
    )


def accumulated(a_job, messages):
    """Window end → accumulation of some messages from the first one on."""
    (rows,) = to_blocks(block(messages), lines({}), ["id", "x", "time"])
    batch, _ = a_job.features.to_batch(rows, True, None)
    found = {}
    for end, slices in cut(batch, a_job.windows(), None, 0).windows.items():
        one = Accumulator(a_job.algorithm(), a_job.algorithm_spec())
        for piece, late in slices:
            one.add(piece, late)
        found[end] = one.result()
    return found


def test_windows_that_rounds_left_open_are_gone_on_with(tmp_path):
    a_job = job(tmp_path)
    left_by_rounds(a_job, accumulated(a_job, TOPIC[:6]), 6)
    start = pinned(a_job)
    assert (start.standing.version, start.standing.epoch, start.offsets, start.seen) == (1, 2, {0: 6}, {})
    registry = stream(reading(start, len(TOPIC), 30).end(), a_job, start)
    assert [(ends(one), one.parent) for one in versions(registry)[1:]] == [([5], 1), ([10], 2), ([15], 3), ([20], 4)]
    learner = newest(registry)
    check_ids(learner, range(14))
    assert learner.progress.covered[Origin(SOURCE, "0")].tolist() == [[0, place(len(TOPIC))]]
    assert learner.progress.repeated == 0


def test_a_round_that_was_not_folded_is_refused(tmp_path):
    a_job = job(tmp_path)
    (one,) = accumulated(a_job, TOPIC[:1]).values()
    left_by_rounds(a_job, {ROUND: one}, 1)
    start = pinned(a_job)
    with pytest.raises(MergeRefused, match="stream v1 holds rows of a round not folded yet: run it in rounds"):
        stream(reading(start, len(TOPIC), 30).end(), a_job, start)


def test_what_was_lost_before_the_start_is_in_the_first_version(tmp_path):
    a_job = job(tmp_path)
    dies(a_job, pinned(a_job), 6, 10)  # of message 2 on, ids 8 and up are not folded
    second = pinned(a_job, {0: (8, 9)}, on_gap="skip")
    assert second.offsets == {0: 8}
    registry = stream(reading(second, 9, 30).end(), a_job, second)
    learner = newest(registry)
    assert learner.progress.rejected == {LOST: sum(n for _, n in second.lost.values())} == {LOST: 3}
    check_ids(learner, [*range(9), 13])
    assert learner.progress.covered[Origin(SOURCE, "0")].tolist() == [[0, place(9)]]
    assert learner.progress.repeated == 0
    assert [one.progress["rejected"] for one in versions(registry)[2:]] == [{LOST: 3}]


def test_the_pinned_version_must_be_there_as_it_was(tmp_path):
    """Its offsets belong to it: another learner under its number has counted other rows."""
    a_job = job(tmp_path)
    dies(a_job, pinned(a_job), 6, 5)
    second, registry = pinned(a_job), Registry(a_job.registry)
    other = dataclasses.replace(second, standing=dataclasses.replace(second.standing, digest="0" * 64))
    advice = "The stream was started from it: start it again, from the newest version"
    with pytest.raises(VersionNotFound, match=rf"stream v1 must be the learner of digest 000000000000; .* {advice}"):
        stream(reading(second, len(TOPIC), 30).end(), a_job, other)
    registry.objects.delete([registry.manifest("stream", 1).files["learner"].path])
    with pytest.raises(VersionNotFound, match=rf"stream version 1 no longer has its learner.*{advice}"):
        stream(reading(second, len(TOPIC), 30).end(), a_job, second)


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


NEW = Start(Standing("run", 1))


def read_up_to(offsets, **more):
    return Cursors(topics={SOURCE: TopicCursor(offsets, **more)})


def began_at(learner, at):
    return learner.replace(cursors=read_up_to({0: at}, begun={0: at}))


def test_pin_takes_the_first_hole_and_what_lies_beyond():
    learner = learner_of(
        {"0": [[0, place(3)], [place(3, 5), place(4)], [place(7), place(9)]], "1": [[place(4), place(6)]]}
    )
    start = pin(NEW, learner, SOURCE, log({0: (0, 20), 1: (0, 20), 2: (6, 20)}))
    assert start.offsets == {0: 3, 1: 6, 2: 6}
    assert start.begun == {0: 0, 1: 4, 2: 6}
    assert start.seen == {0: [[place(3, 5), place(4)], [place(7), place(9)]]}
    assert start.lost == {}
    assert Start.from_json(start.to_json()) == dataclasses.replace(start)


def test_a_partition_whose_first_message_is_still_open_is_read_from_there():
    """Offset 0 lies in an open window, offset 1 in a folded one: where the topic was begun is known, so 0 is not lost."""
    learner = learner_of({"0": [[place(1), place(2)]]})
    start = pin(NEW, began_at(learner, 0), SOURCE, log({0: (0, 20)}))
    assert start.offsets == {0: 0}
    assert start.seen == {0: [[place(1), place(2)]]}


def test_a_partition_that_grew_while_the_stream_ran_is_read_from_its_first_message():
    learner = learner_of({"0": [[0, place(4)]], "1": [[place(1), place(2)]]})
    start = pin(NEW, began_at(learner, 0), SOURCE, log({0: (0, 20), 1: (0, 3), 2: (0, 1)}), "latest")
    assert start.offsets == {0: 4, 1: 0, 2: 0}


def test_a_partition_that_rounds_began_at_the_end_is_not_read_before_it():
    start = pin(NEW, learner_of({"0": [[place(7), place(9)]]}), SOURCE, log({0: (0, 20)}), "latest")
    assert start.offsets == {0: 9}


def test_latest_begins_at_the_end_once():
    assert pin(NEW, learner_of({}), SOURCE, log({0: (3, 20)}), "latest").offsets == {0: 20}
    assert pin(NEW, began_at(learner_of({}), 20), SOURCE, log({0: (3, 50)}), "latest").offsets == {0: 20}


def test_what_retention_removed_fails_or_is_counted():
    learner = learner_of({"0": [[0, place(3)], [place(5), place(6)]]})
    with pytest.raises(
        RowsLost, match=r"partition 0 of .* must still hold offset 3, .* begins at 8.*removed 4 messages"
    ):
        pin(NEW, learner, SOURCE, log({0: (8, 20)}))
    start = pin(NEW, learner, SOURCE, log({0: (8, 20)}), on_gap="skip")
    assert start.offsets == {0: 8}
    after = initial_learner(Start.from_json(start.to_json()), learner)
    assert after.progress.rejected == {LOST: 4}
    assert after.progress.covered[Origin(SOURCE, "0")].tolist() == [[0, place(8)]]
    assert after.progress.repeated == 0


def test_a_topic_recreated_is_refused():
    with pytest.raises(RowsLost, match="was it recreated"):
        pin(NEW, learner_of({"0": [[0, place(9)]]}), SOURCE, log({0: (0, 4)}))


def test_a_partition_that_rounds_found_empty_is_read_from_where_it_ended():
    """Nothing of it was scanned, but its end has moved on since: what came belongs to the job."""
    learner = learner_of({}).replace(cursors=read_up_to({0: 20}))
    start = pin(NEW, learner, SOURCE, log({0: (3, 50), 1: (0, 4)}), "latest")
    assert start.offsets == {0: 20, 1: 0}  # 1 came into being since
    assert start.begun == {0: 20, 1: 0}


def test_what_retention_removed_of_a_partition_that_was_empty_is_seen():
    learner = learner_of({}).replace(cursors=read_up_to({0: 3}))
    with pytest.raises(RowsLost, match=r"must still hold offset 3.*removed 5 messages"):
        pin(NEW, learner, SOURCE, log({0: (8, 20)}))
    assert pin(NEW, learner, SOURCE, log({0: (8, 20)}), on_gap="skip").lost == {0: ([[place(3), place(8)]], 5)}


def test_a_partition_that_is_gone_is_refused():
    for learner in (learner_of({"2": [[0, place(3)]]}), learner_of({}).replace(cursors=read_up_to({0: 0, 2: 3}))):
        with pytest.raises(RowsLost, match=r"kafka://cluster/topic must still have partitions \[2\], which were read"):
            pin(NEW, learner, SOURCE, log({0: (0, 20)}))


def test_a_topic_recreated_is_refused_though_it_is_longer():
    learner = learner_of({"0": [[0, place(9)]]}).replace(cursors=read_up_to({0: 9}, id="cluster/first"))
    with pytest.raises(RowsLost, match=r"must be the one that was read, of id first; .* with id second"):
        pin(NEW, learner, SOURCE, log({0: (0, 400)}, "cluster/second"))
    for same in ("cluster/first", "", "other/second"):
        assert pin(NEW, learner, SOURCE, log({0: (0, 400)}, same)).offsets == {0: 9}


class Brokers:
    """What `kafka_start` asks."""

    def __init__(self, monkeypatch, state):
        self.state = state
        monkeypatch.setattr(client, "consumer", lambda connection: self)
        monkeypatch.setattr(client, "topic_state", lambda one, topic: self.state)

    def close(self):
        pass


def test_rounds_and_streams_know_each_others_topic(tmp_path, monkeypatch):
    """A stream keeps the ids of cluster and topic where rounds look for them, and looks there itself."""
    a_job = job(tmp_path)
    brokers = Brokers(monkeypatch, TopicState("cluster", {0: 0}, {0: 9}, "first"))
    start = kafka_start(a_job, Registry(a_job.registry))
    registry = stream(reading(start, 4, 30).end(), a_job, start)
    assert newest(registry).cursors.topics == {SOURCE: TopicCursor({0: 4}, {0: 0}, "cluster/first")}
    assert kafka_start(a_job, registry).offsets == {0: 4}
    brokers.state = TopicState("cluster", {0: 0}, {0: 90}, "second")
    with pytest.raises(RowsLost, match="of id first; it was deleted and recreated, with id second"):
        kafka_start(a_job, registry)
    brokers.state = TopicState("elsewhere", {0: 0}, {0: 90}, "second")
    with pytest.raises(SourceError, match="must be the cluster that the learner has read, kafka://cluster/topic"):
        kafka_start(a_job, registry)
    moved = job(tmp_path, source={"cluster": "cluster"})
    assert (kafka_start(moved, registry).offsets, kafka_start(moved, registry).topic) == ({0: 4}, "elsewhere/second")


def test_a_partition_made_after_the_pin_is_read_from_its_first_message(tmp_path, monkeypatch):
    """The pin says where all others begin; what it does not name is new."""
    shipped, expand = [], source.ReadKafkaStream.expand

    def shown(self, pbegin):
        shipped.extend(self._streams)
        return expand(self, pbegin)

    monkeypatch.setattr(source.ReadKafkaStream, "expand", shown)
    a_job = job(tmp_path, source={"start": "latest"})
    start = pin(NEW, learner_of({}), SOURCE, log({0: (3, 20)}, "cluster/first"), "latest")
    build(new_pipeline(["--runner=PrismRunner"]), a_job, Registry(a_job.registry), start=start)
    part = shipped[0].create_reader(None, None)._part
    assert (part.starts, part.source.start, part.topic) == ({0: 20}, "earliest", "cluster/first")


def test_a_learner_of_another_job_is_refused(tmp_path):
    a_job = job(tmp_path)
    start = pinned(a_job)
    dies(a_job, start, 6, 5)
    registry = Registry(a_job.registry)
    with pytest.raises(InvalidValue, match=r"job\.spec must be that of stream v1"):
        begin(job(tmp_path, spec={"algorithm": "pca", "half_life": "1d"}), registry)
    other = {"numeric": ["x", "id"], "time": {"column": "time", "unit": "us"}}
    with pytest.raises(InvalidValue, match=r"job\.features must be those that stream v1"):
        begin(job(tmp_path, features=other), registry)


def test_the_epoch_is_above_that_of_a_version_stepped_over(tmp_path):
    """Whoever made it may still be there."""
    a_job = job(tmp_path)
    dies(a_job, pinned(a_job), 6, 5)
    dies(a_job, pinned(a_job), 6, 10)
    registry = Registry(a_job.registry)
    assert [one.epoch for one in versions(registry)] == [1, 2]
    registry.objects.put(registry.manifest("stream", 2).files["learner"].path, b"damaged")
    assert (pinned(a_job).standing.version, pinned(a_job).standing.epoch) == (1, 3)


def test_a_damaged_version_is_stepped_over_and_its_epoch_kept(tmp_path):
    a_job = job(tmp_path)
    start = pinned(a_job)
    dies(a_job, start, 6, 10)
    registry = Registry(a_job.registry)
    path = registry.manifest("stream", 2).files["learner"].path
    registry.objects.put(path, b"damaged")
    second = pinned(a_job)
    assert (second.standing.version, second.standing.head, second.standing.epoch) == (1, 2, 2)
    learner = newest(stream(reading(second, len(TOPIC), 30).end(), a_job, second))
    check_ids(learner, range(14))
    found = versions(registry)
    assert [(one.parent, one.epoch) for one in found[2:]] == [(1, 2), (3, 2), (4, 2)]
