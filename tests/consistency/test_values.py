"""Two columns, value by value."""

import datetime
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.consistency.tally import Feature
from beam_ml.consistency.values import Tolerance, compared

FLOATS = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, 1.0, 1.0 + 1e-7, 2.0, math.inf, -math.inf]))


def one(a, b, tolerance):
    """What must be said of one pair of numbers."""
    no = [value is None or math.isnan(value) for value in (a, b)]
    if any(no):
        return False, not no[0] and no[1], no[0] and not no[1]
    if a == b:
        return False, False, False
    if math.isinf(a) or math.isinf(b):
        return True, False, False
    return abs(a - b) > tolerance.absolute + tolerance.relative * max(abs(a), abs(b)), False, False


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(FLOATS, FLOATS), max_size=8), st.sampled_from([0.0, 1e-6, 0.1]), st.sampled_from([0.0, 0.5]))
def test_numbers_are_compared_as_one_by_one(pairs, relative, absolute):
    tolerance = Tolerance(relative, absolute)
    a, b = (pa.array([pair[i] for pair in pairs], pa.float64()) for i in (0, 1))
    found = compared(a, b, tolerance)
    got = list(zip(found.mismatch.tolist(), found.missing.tolist(), found.extra.tolist(), strict=True))
    assert got == [one(*pair, tolerance) for pair in pairs]


@pytest.mark.parametrize(
    ("a", "b", "mismatch"),
    [
        (["1.0", "a", " a"], ["1", "a", "a"], [False, False, True]),
        (["x", "1", "true"], [1.0, 1.0, 1.0], [True, False, False]),
        ([True, False, True], [1, 0, 0], [False, False, True]),
        (["007", "b", None], ["7", "c", None], [False, True, False]),
        ([[1.0, 2.0], [1.0], []], [[1.0, 2.0 + 1e-9], [1.0, 2.0], []], [False, True, False]),
        ([{"x": 1}, {"x": 2}, None], [{"x": 1}, {"x": 3}, None], [False, True, False]),
        ([[1.0], [2.0], [3.0]], ["[1.0]", "a", "b"], [True, True, True]),
    ],
)
def test_values_of_other_kinds(a, b, mismatch):
    assert compared(pa.array(a), pa.array(b), Tolerance()).mismatch.tolist() == mismatch


def test_large_whole_numbers_are_told_apart():
    a, b = pa.array([2**53, 2**60]), pa.array([2**53 + 1, 2**60])
    assert compared(a, b, Tolerance(0.0)).mismatch.tolist() == [True, False]
    assert compared(a, b, Tolerance(0.0)).difference.tolist() == [1.0, 0.0]


def test_times_are_compared_in_any_spelling():
    moment = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    a = pa.array([moment, moment, moment, None])
    b = pa.array(["2026-01-01T12:00:00Z", "2026-01-01T12:00:01Z", "soon", "2026-01-01T12:00:00Z"])
    found = compared(a, b, Tolerance())
    assert found.mismatch.tolist() == [False, True, True, False]
    assert found.extra.tolist() == [False, False, False, True]
    assert found.difference[1] == 1.0
    assert compared(a, b, Tolerance(absolute=1.0)).mismatch.tolist() == [False, False, True, False]


def test_the_rank_is_relative():
    found = compared(pa.array([1.0, 100.0, 1.0]), pa.array([2.0, 101.0, math.inf]), Tolerance())
    assert np.argsort(-found.rank).tolist() == [2, 0, 1]


@pytest.mark.parametrize("listed", [False, True])
def test_times_that_python_has_no_year_for_are_compared_and_shown(listed):
    far = [1 << 62, 5, -(1 << 62)]
    kind = pa.list_(pa.timestamp("us")) if listed else pa.timestamp("us")
    a, b = (
        pa.array([[one] for one in values] if listed else values, kind) for values in (far, [(1 << 62) - 1000, 5, 7])
    )
    found, told = compared(a, b, Tolerance()), Feature()
    told.add(pa.array(["x", "y", "z"]), a, b, found, 3)
    assert found.mismatch.tolist()[1] is False
    assert found.mismatch[2]
    assert str(1 << 62)[:10] in str(told.to_dict())
