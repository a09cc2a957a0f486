"""Where partitions are read from, whatever of them was counted, by rounds or by streams."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from beam_ml.beam.kafka.client import TopicState
from beam_ml.beam.kafka.positions import counted_of, cursor_after, positions
from beam_ml.core import intervals
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import TopicCursor
from beam_ml.errors import RowsLost
from beam_ml.formats.messages import PLACES, place

NOTHING = TopicCursor()


def of_messages(*runs: tuple[int, int]) -> np.ndarray:
    return np.array([[place(start), place(stop)] for start, stop in runs], dtype=np.int64).reshape(-1, 2)


@settings(deadline=None)
@given(st.sets(st.integers(0, 30)), st.integers(0, 10), st.integers(0, 20), st.integers(20, 31), st.booleans())
def test_every_message_is_counted_seen_lost_or_read(
    counted: set[int], begun: int, first: int, end: int, noted: bool
) -> None:
    """Whatever a stream has counted in whatever order, and retention removed: from where it began, each message once."""
    counted = {one for one in counted if begun <= one < end} | {begun}
    places = intervals.from_positions(np.array(sorted(counted)) * PLACES, (np.array(sorted(counted)) + 1) * PLACES)
    cursor = cursor_after({0: begun} if noted else {}, {0: places}, "")
    if not noted:
        cursor = TopicCursor({0: max(cursor.offsets[0], begun)})
    one = positions("t", TopicState("c", {0: first}, {0: end}), cursor, {0: places}, on_gap="skip")[0]
    assert one.begun == begun
    seen = {
        offset
        for offset in range(one.at, end)
        if intervals.size(intervals.intersection(one.seen, of_messages((offset, offset + 1))))
    }
    gone = {
        offset
        for offset in range(end)
        if intervals.size(intervals.intersection(one.gone, of_messages((offset, offset + 1))))
    }
    assert len(gone) == one.lost
    read = set(range(one.at, end)) - seen
    assert read | gone == set(range(begun, end)) - counted
    assert not gone & counted
    assert one.at >= first


def test_a_partition_that_came_since_is_new_from_its_first_message_on() -> None:
    state = TopicState("c", {0: 5, 1: 3}, {0: 90, 1: 7})
    for start, at in (("earliest", {0: 5, 1: 3}), ("latest", {0: 90, 1: 7})):
        assert {p: one.at for p, one in positions("t", state, NOTHING, {}, start).items()} == at
        since = positions("t", state, TopicCursor({0: 60}), {0: of_messages((5, 60))}, start)
        assert {p: (one.begun, one.at) for p, one in since.items()} == {0: (5, 60), 1: (3, 3)}


def test_a_topic_cut_off_is_refused_or_its_messages_are_counted_once() -> None:
    state, cursor = TopicState("c", {0: 10}, {0: 20}), TopicCursor({0: 3}, {0: 0})
    counted = {0: of_messages((0, 3), (5, 7))}
    with pytest.raises(RowsLost, match=r"partition 0 of topic t must still hold offset 3, .*removed 5 messages"):
        positions("topic t", state, cursor, counted)
    one = positions("topic t", state, cursor, counted, on_gap="skip")[0]
    assert (one.at, one.lost) == (10, 5)
    assert one.gone.tolist() == of_messages((3, 5), (7, 10)).tolist()


def test_a_topic_cut_off_behind_a_hole_is_refused() -> None:
    """Else what is written anew at the offsets counted ahead would be taken for read."""
    counted = {0: of_messages((0, 6), (8, 12))}
    assert positions("t", TopicState("c", {0: 0}, {0: 12}), TopicCursor({0: 6}, {0: 0}), counted)[0].at == 6
    with pytest.raises(RowsLost, match="partition 0 of t ends at 11, before offset 12, which was already read"):
        positions("t", TopicState("c", {0: 0}, {0: 11}), TopicCursor({0: 6}, {0: 0}), counted)


def test_a_partition_whose_beginning_was_gone_when_it_came_is_not_read_from_0() -> None:
    """The reader counts those places as read; the next start finds nothing missing."""
    counted = {0: of_messages((0, 4)), 1: of_messages((0, 102))}
    cursor = cursor_after({0: 0}, counted, "c/id")
    assert cursor == TopicCursor({0: 4, 1: 102}, {0: 0}, "c/id")
    state = TopicState("c", {0: 0, 1: 101}, {0: 9, 1: 110}, "id")
    found = positions("t", state, cursor, counted)
    assert {p: (one.at, one.lost) for p, one in found.items()} == {0: (4, 0), 1: (102, 0)}


def test_counted_places_are_those_of_the_topic() -> None:
    covered = {Origin("kafka://c/t", "3"): of_messages((0, 1)), Origin("kafka://c/u", "3"): of_messages((0, 9))}
    assert {p: one.tolist() for p, one in counted_of(covered, "kafka://c/t").items()} == {3: [[0, PLACES]]}
