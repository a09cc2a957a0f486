import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_ml.core.batch import Batch
from beam_ml.core.windows import ROUND, Windows, cut, watermark
from beam_ml.errors import InvalidBatch


def batch(times: list[int]) -> Batch:
    return Batch.dense(np.arange(len(times), dtype=float).reshape(-1, 1), time=times)


@given(st.lists(st.integers(-50, 50), max_size=30), st.none() | st.integers(-5, 5), st.integers(0, 40))
def test_every_row_lands_in_exactly_one_place(times: list[int], folded: int | None, lateness: int) -> None:
    through = None if folded is None else folded * 10
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
                assert end == through + 10
                assert (own <= through).all()
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


def test_event_time_windows_need_times() -> None:
    with pytest.raises(InvalidBatch, match="needs event times"):
        cut(Batch.dense([[1.0]]), Windows(10), None, 0)


def test_watermark_is_that_of_the_slowest_partition() -> None:
    assert watermark([], 5) is None
    assert watermark([100, 40], 5) == 35
