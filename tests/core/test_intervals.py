import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from beam_ml.core import intervals

sets = st.sets(st.integers(0, 40))


def ranges(members: set[int]) -> np.ndarray:
    return intervals.from_positions(np.array(sorted(members), dtype=np.int64))


def members(found: np.ndarray) -> set[int]:
    return {i for low, high in found for i in range(low, high)}


@given(sets, sets)
def test_set_algebra_is_that_of_python_sets(a: set[int], b: set[int]) -> None:
    x, y = ranges(a), ranges(b)
    assert members(intervals.union(x, y)) == a | b
    assert members(intervals.intersection(x, y)) == a & b
    assert members(intervals.difference(x, y)) == a - b
    assert intervals.size(x) == len(a)


@given(sets, sets)
def test_ranges_are_sorted_disjoint_and_do_not_touch(a: set[int], b: set[int]) -> None:
    found = intervals.union(ranges(a), ranges(b))
    assert (found[:, 0] < found[:, 1]).all()
    assert (found[1:, 0] > found[:-1, 1]).all()


@given(st.lists(st.integers(0, 40)))
@example([0, 0, 2])  # as far from first to last as a run of three
def test_order_and_repeats_of_positions_do_not_matter(positions: list[int]) -> None:
    found = intervals.from_positions(np.array(positions, dtype=np.int64))
    assert members(found) == set(positions)


def test_wide_positions_join_where_one_ends_at_the_next() -> None:
    found = intervals.from_positions(np.array([10, 0, 30]), np.array([25, 10, 31]))
    assert found.tolist() == [[0, 25], [30, 31]]


def test_positions_of_no_width_are_none() -> None:
    found = intervals.from_positions(np.array([10, 4, 30]), np.array([10, 6, 31]))
    assert found.tolist() == [[4, 6], [30, 31]]
    assert len(intervals.from_positions(np.array([10]), np.array([10]))) == 0


def test_first_hole() -> None:
    covered = np.array([[0, 5], [7, 9]])
    assert intervals.first_hole(covered, 0) == 5
    assert intervals.first_hole(covered, 6) == 6
    assert intervals.first_hole(covered, 7) == 9
