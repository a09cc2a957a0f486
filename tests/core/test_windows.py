import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_ml.core.batch import Batch
from beam_ml.core.spec import to_us
from beam_ml.core.windows import ROUND, Windows, cut, watermark
from beam_ml.errors import InvalidBatch, InvalidValue


def batch(times: list[int]) -> Batch:
    return Batch.dense(np.arange(len(times), dtype=float).reshape(-1, 1), time=times)


@given(st.lists(st.integers(-50, 50), max_size=30), st.none() | st.integers(-50, 50), st.integers(0, 40))
def test_every_row_lands_in_exactly_one_place(times: list[int], through: int | None, lateness: int) -> None:
    slices = cut(batch(times), Windows(10, lateness, max_ahead_us=30), through, now_us=0)
    seen = []
    for end, parts in slices.windows.items():
        assert end % 10 == 0
        for rows, late in parts:
            assert rows.time is not None
            own = (rows.time // 10 + 1) * 10
            if late:
                assert late == len(rows)
                assert through is not None
                assert end - 10 <= through < end  # the earliest window not folded, aligned as all are
                assert (rows.time < through).all()
                assert (rows.time >= through - lateness).all()
            else:
                assert (own == end).all()
                assert through is None or end > through
            seen += rows.dense_x[:, 0].tolist()
    for reason, rows in slices.rejected.items():
        assert rows.time is not None
        if reason == "late":
            assert through is not None
            assert (rows.time < through - lateness).all()
        else:
            assert reason == "event time too far ahead"
            assert (rows.time > 30).all()
        seen += rows.dense_x[:, 0].tolist()
    assert sorted(seen) == list(range(len(times)))


def test_round_windows_take_rows_without_time() -> None:
    slices = cut(Batch.dense([[1.0]]), Windows(None), None, 0)
    assert list(slices.windows) == [ROUND]


def test_a_window_that_ends_at_the_epoch_is_one_like_others() -> None:
    assert list(cut(batch([-3, 4]), Windows(10), None, 0).windows) == [0, 10]
    assert ROUND < np.iinfo(np.int64).min + 1
    assert struct.unpack(">q", struct.pack(">q", ROUND)) == (ROUND,)


@pytest.mark.parametrize(("seconds", "us"), [(4.1, 4_100_000), (0.001, 1000), (64.6, 64_600_000), (1e-6, 1)])
def test_seconds_become_the_nearest_us(seconds: float, us: int) -> None:
    assert to_us(seconds) == us
    assert Windows.of_seconds(seconds, seconds, seconds) == Windows(us, us, us)


def test_windows_of_rounds_have_no_size() -> None:
    assert Windows.of_seconds(None) == Windows(None, 0, None)


def test_windows_of_no_length_are_refused() -> None:
    with pytest.raises(InvalidValue, match=r"^refresh must be 'round' or at least 1 µs; got 1e-07 s\.$"):
        Windows.of_seconds(1e-7)
    with pytest.raises(InvalidValue, match=r"^Windows.size_us must be at least 1; got 0\.$"):
        Windows(0)


def test_event_time_windows_need_times() -> None:
    with pytest.raises(InvalidBatch, match="needs event times"):
        cut(Batch.dense([[1.0]]), Windows(10), None, 0)


def test_watermark_is_that_of_the_slowest_partition() -> None:
    assert watermark([], 5) is None
    assert watermark([100, 40], 5) == 35


@pytest.mark.parametrize(("size", "lateness", "through"), [(10, 25, 40), (7, 0, 21), (60, 90, -120)])
def test_a_row_just_at_the_bound_is_late_and_one_before_it_is_lost(size: int, lateness: int, through: int) -> None:
    """And one just at the end of what is folded is not late at all."""
    bound = through - lateness
    slices = cut(batch([bound - 1, bound, through, through - 1]), Windows(size, lateness), through, now_us=0)
    rejected = {reason: rows.time.tolist() for reason, rows in slices.rejected.items() if rows.time is not None}
    late = {bound, through - 1} if lateness else set()
    assert rejected == {"late": [bound - 1] + ([] if lateness else [through - 1])}
    taken = {(int(t), n > 0) for parts in slices.windows.values() for rows, n in parts for t in rows.time.tolist()}
    assert taken == {(t, True) for t in late} | {(through, False)}
    assert list(slices.windows) == [(through // size + 1) * size]
