"""What either of two learners has read is read."""

import pytest

from beam_ml.core.cursors import Cursors, FileCursor, FileId, Passes, TopicCursor
from beam_ml.errors import MergeRefused

A, B, C = (FileId(path, 10, 0) for path in "abc")


def test_files_that_either_has_read_are_read_in_the_later_pass() -> None:
    one = FileCursor({"a": A}, {"c": (C, 5)}, 7, 2, {"a": A}, frozenset("a"))
    other = FileCursor({"b": B}, horizon_ns=9)
    both = FileCursor({"a": A, "b": B}, {"c": (C, 5)}, 9, 2, {"a": A}, frozenset("a"))
    assert one.merge(other) == other.merge(one) == both
    assert other.merge(other) == other


def test_of_a_file_that_both_have_begun_the_further_place_counts_in_the_same_pass() -> None:
    one, other = FileCursor(part={"c": (C, 500)}), FileCursor(part={"c": (C, 100)})
    assert one.merge(other) == other.merge(one) == one
    again = FileCursor({"c": C}, {"c": (C, 100)}, number=2, batch={"c": C})
    assert one.merge(again).part == again.merge(one).part == again.part


def test_topics_are_read_to_the_larger_offset_and_begun_at_the_smaller() -> None:
    one, other = TopicCursor({0: 5, 1: 9}, {0: 2}, "c/first"), TopicCursor({0: 8}, {0: 3, 1: 1})
    assert one.merge(other) == other.merge(one) == TopicCursor({0: 8, 1: 9}, {0: 2, 1: 1}, "c/first")


def test_offsets_of_a_recreated_topic_do_not_merge() -> None:
    """The larger one would pass over what was never read of the new topic."""
    with pytest.raises(MergeRefused, match=r"got topics c/first and c/second under one name"):
        TopicCursor({0: 900}, id="c/first").merge(TopicCursor({0: 5}, id="c/second"))


def test_cursors_merge_by_source() -> None:
    one = Cursors(FileCursor({"a": A}), {"kafka://c/t": TopicCursor({0: 5})}, Passes(2, 3))
    other = Cursors(None, {"kafka://c/t": TopicCursor({0: 7}), "kafka://c/u": TopicCursor({0: 1})})
    topics = {"kafka://c/t": TopicCursor({0: 7}), "kafka://c/u": TopicCursor({0: 1})}
    assert one.merge(other) == other.merge(one) == Cursors(FileCursor({"a": A}), topics, Passes(2, 3))
    assert Cursors().merge(Cursors()) == Cursors()


def test_merged_passes_keep_the_larger_numbers_and_one_set_of_values() -> None:
    one, other = Passes(3, 4, "mse", (0.5,), (9,), 3, 1), Passes(1, 9, "mse", (0.7, 0.6), (4, 4), 2)
    assert one.merge(other) == Passes(3, 9, "mse", (0.7, 0.6), (4, 4), 3, 1)


def test_a_pass_after_the_first_is_over_the_files_of_the_first() -> None:
    first = FileCursor({"a": A, "b": B})
    second = first.next_pass()
    assert (second.number, second.batch, second.again_over) == (2, {"a": A, "b": B}, False)
    assert FileCursor(first.done, number=2, batch=second.batch, again=frozenset("ab")).again_over


def test_a_first_pass_is_over_files_read_once_and_later_ones_over_the_same() -> None:
    assert not FileCursor().again_over
    assert not FileCursor({"a": A}, again=frozenset()).again_over
    second = FileCursor({"a": A, "b": B}, number=2, batch={"a": A}, again=frozenset("a"))
    assert second.again_over
    assert second.next_pass() == FileCursor({"a": A, "b": B}, number=3, batch={"a": A})


def test_passes_go_on_to_the_number_asked_for_and_after_a_stop_only_where_more_are_asked_for() -> None:
    assert [Passes(of=3).continues(number, 3) for number in (1, 2, 3, 4)] == [True, True, False, False]
    stopped = Passes(of=3, stopped="the loss stopped improving")
    assert [stopped.continues(2, passes) for passes in (2, 3, 4)] == [False, False, True]


def test_files_and_passes_of_both_merge_either_way_round() -> None:
    one = Cursors(FileCursor({"a": A}), passes=Passes(2, 9, judged=2, heard=1))
    other = Cursors(FileCursor({"b": B}), passes=Passes(3, 4, judged=1, heard=2))
    for both in (one.merge(other), other.merge(one)):
        assert both.files == FileCursor({"a": A, "b": B})
        assert both.passes == Passes(3, 9, judged=2, heard=2)


def test_a_later_pass_is_over_the_files_that_either_reads_again() -> None:
    one = FileCursor({"a": A}, number=2, batch={"a": A}, again=frozenset("a"))
    other = FileCursor({"b": B}, number=2, batch={"b": B})
    for both in (one.merge(other), other.merge(one)):
        assert (both.batch, both.again) == ({"a": A, "b": B}, {"a"})
        assert not both.again_over
