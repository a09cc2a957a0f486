"""What a stream leaves for the next reader, and which places it refuses while their window is still open."""

import numpy as np
import pytest

from beam_ml.algorithms import find
from beam_ml.artefact.cursors import summary_of
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.kafka.positions import gap
from beam_ml.beam.stream.start import Start
from beam_ml.beam.versions.lineage import Standing
from beam_ml.errors import MergeRefused, RowsLost
from beam_ml.formats.messages import place
from tests.beam.stream.support import SOURCE, Script, block, job, newest, stream, versions


def read_on(registry, number):
    """Where the learner of a version would be read on from, partition by partition."""
    manifest = versions(registry)[number - 1]
    assert manifest.number == number
    data = registry.objects.get(manifest.files["learner"].path)
    cursors = decode_learner(data, find).cursors
    assert manifest.next == summary_of(cursors)
    return {str(partition): at for partition, at in cursors.topic(SOURCE).offsets.items()}


def test_a_message_counted_in_part_is_the_one_to_read_on_from(tmp_path):
    """Message 2 has rows of the first window and of the third: after the first fold, half of it is still to come."""
    start = Start(Standing("run", 1), source=SOURCE, begun={0: 0}, offsets={0: 0})
    polls = block([[(0, 1)], [(1, 2)], [(2, 3), (3, 13)], [(4, 4)], [(5, 8)]])
    registry = stream(Script().send(1, polls).reach(20).end(), job(tmp_path), start)
    assert [read_on(registry, number) for number in (1, 2, 3)] == [{"0": 2}, {"0": 2}, {"0": 5}]


def test_a_message_whose_first_rows_are_still_open_is_the_one_to_read_on_from(tmp_path):
    start = Start(Standing("run", 1), source=SOURCE, begun={0: 4}, offsets={0: 4})
    registry = stream(
        Script().send(1, block([[(0, 7), (1, 1)], [(2, 2)]], offset=4)).reach(20).end(), job(tmp_path), start
    )
    assert [read_on(registry, number) for number in (1, 2)] == [{"0": 4}, {"0": 6}]


@pytest.mark.parametrize("begun", [{}, {0: 0, 2: 6}])
def test_partitions_that_came_while_the_stream_ran_are_read_on_too(tmp_path, begun):
    start = Start(Standing("run", 1), source=SOURCE, begun=begun, offsets=begun)
    script = Script().send(1, block([[(0, 1)], [(1, 2)]])).reach(6)
    script.send(6, block([[(2, 7)], [(3, 8), (4, 12)]], partition=1)).send(7, block([[(5, 9)]], offset=2)).reach(20)
    registry = stream(script.end(), job(tmp_path), start)
    still = {str(partition): at for partition, at in begun.items() if partition == 2}
    assert [read_on(registry, number) for number in (1, 2, 3)] == [
        {"0": 2} | still,
        {"0": 3, "1": 1} | still,
        {"0": 3, "1": 2} | still,
    ]
    assert newest(registry).progress.repeated == 0


@pytest.mark.parametrize("partition", [0, 3])
def test_places_that_come_twice_into_one_open_window_are_refused(tmp_path, partition):
    """A late row waits in the fold for its window to close when it is given again."""
    late = block([[(7, 3)]], partition=partition, offset=6)
    script = Script().send(1, block([[(0, 1)], [(1, 8)]])).reach(10).send(10, late).reach(11).send(11, late).reach(12)
    with pytest.raises(MergeRefused, match=rf"{partition} from place {place(6)} to {place(7)} again"):
        stream(script.reach(30).end(), job(tmp_path, source={"allowed_lateness": "15s"}))


@pytest.mark.parametrize(
    ("counted", "gone", "messages"),
    [
        ([[place(3, 7), place(6)]], [[place(3), place(3, 7)]], 1),
        ([[place(4, 10), place(6)]], [[place(3), place(4, 10)]], 2),
        (
            [[place(3), place(3, 9)], [place(5, 1), place(5, 2)]],
            [[place(3, 9), place(5, 1)], [place(5, 2), place(6)]],
            4,
        ),
    ],
)
def test_a_message_gone_in_part_is_a_message_lost(counted, gone, messages):
    """The last case counts a message once for each of its parts: at most as many were lost."""
    places = np.array(counted, dtype=np.int64)
    found, n = gap("partition 0 of t", 3, 6, 20, places, "skip")
    assert (found.tolist(), n) == (gone, messages)
    with pytest.raises(RowsLost, match=rf"retention has removed {messages} messages unread"):
        gap("partition 0 of t", 3, 6, 20, places, "fail")
