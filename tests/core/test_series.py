"""Series as rows: the round trip is exact, what does not fit is refused with the reason; steps by the calendar."""

import numpy as np
import pytest

from beam_ml import Batch
from beam_ml.core.frequency import Frequency
from beam_ml.core.series import Layout, SeriesBatch, code_of, faults
from beam_ml.errors import InvalidBatch, InvalidValue

LAYOUT = Layout(6, 2, 2, 2, Frequency.of("D"))
RECORDS = [
    {"start": "2026-01-30", "target": [1.0, None, 0.0, "NaN", -2.5], "cat": ["a", 7],
     "dynamic_feat": [[0, 1, 2, 3, 4, 5, 6], [0.0] * 7]},
    {"start": "2026-02-01", "target": [], "cat": [None, "b"], "dynamic_feat": [[1, 0], [0, 0]], "weight": 2.0},
    {"start": "2026-02-01 12:00:00", "target": [3.0] * 6, "cat": ["a", "b"], "dynamic_feat": [[5.0] * 6, [6.0] * 6]},
]  # fmt: skip


def test_rows_hold_series_exactly():
    series = SeriesBatch.of_records(LAYOUT, RECORDS)
    again = SeriesBatch.of(series.to_batch(), LAYOUT)
    for name in ("bounds", "target", "dynamic_bounds", "dynamic", "codes", "time", "weight"):
        np.testing.assert_array_equal(getattr(again, name), getattr(series, name), err_msg=name)
    assert series.codes[0].tolist() == [code_of("a"), code_of("7")]
    assert series.codes[1, 0] == 0
    last = series.time.astype("datetime64[us]").astype("datetime64[h]").astype(str).tolist()
    assert last == ["2026-02-03T00", "2026-01-31T00", "2026-02-06T12"]


def test_any_order_of_rows_is_the_same_series():
    batch = SeriesBatch.of_records(LAYOUT, RECORDS).to_batch()
    turned = SeriesBatch.of(batch.take(np.array([2, 0, 1])), LAYOUT)
    assert turned.lengths.tolist() == [6, 5, 0]
    assert turned.target[:6].tolist() == [3.0] * 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": [0.0] * 7}, "series 0: target must have at most 6 steps (max_length); got 7."),
        ({"target": ["x"]}, "series 0: target must be numbers, None or 'NaN'; got ['x']."),
        ({"cat": ["a"]}, "series 0: cat must have 2 categories; got 1."),
        ({"dynamic_feat": [[1.0] * 5]}, "series 0: dynamic_feat must have 2 lists of 5 or 7 numbers; got 1 of 5."),
        ({"dynamic_feat": [[None] * 5] * 2}, "dynamic_feat must be finite"),
        ({"start": "soon"}, "series 0: start must be a time such as '2026-01-01 00:00:00'; got 'soon'."),
    ],
)
def test_a_record_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(InvalidBatch) as caught:
        SeriesBatch.of_records(LAYOUT, [{**RECORDS[0], **changes}])
    assert message in str(caught.value)


def _row(indices, values, time=(0,)):
    return Batch.csr([0, len(indices)], indices, values, LAYOUT.width, time=time)


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (_row([0], [1.0]), "its number of steps is not known"),
        (_row([24], [7.0]), "its number of steps is not known"),
        (_row([24], [1.5]), "its number of steps is not known"),
        (_row([2, 24], [1.0, 2.0]), "a value beyond its end"),
        (_row([22, 24], [0.5, 0.0]), "a category that is no code"),
        (_row([6, 24], [1.0, 0.0]), "features of another length than the series"),
        (_row([24], [0.0], time=None), "no time"),
        (Batch.dense(np.zeros((1, 25)), time=[0]), "dense, which cannot say what is missing"),
    ],
)
def test_a_row_that_is_no_series_is_refused(batch, reason):
    assert LAYOUT.width == 25
    found = [name for name, rows in faults(batch, LAYOUT) if rows.any()]
    assert found[0] == reason
    with pytest.raises(InvalidBatch, match=reason):
        SeriesBatch.of(batch, LAYOUT)


@pytest.mark.parametrize(
    ("freq", "season", "long", "begin", "later"),
    [
        ("15min", 96, 672, "2026-01-01T00:00", "2026-01-01T00:45"),
        ("min", 60, 60, "2026-01-01T00:00", "2026-01-01T00:03"),
        ("H", 24, 168, "2026-01-01T00:00", "2026-01-01T03:00"),
        ("2h", 12, 84, "2026-01-01T00:00", "2026-01-01T06:00"),
        ("5H", 1, 1, "2026-01-01T00:00", "2026-01-01T15:00"),
        ("D", 7, 364, "2024-02-27T00:00", "2024-03-01T00:00"),
        ("B", 5, 260, "2026-01-01T00:00", "2026-01-06T00:00"),
        ("W", 52, 52, "2026-01-01T00:00", "2026-01-22T00:00"),
        ("M", 12, 12, "2025-11-30T00:00", "2026-02-28T00:00"),
        ("Q", 4, 4, "2025-11-30T00:00", "2026-08-30T00:00"),
        ("Y", 1, 1, "2024-02-29T00:00", "2027-02-28T00:00"),
    ],
)
def test_seasons_and_steps(freq, season, long, begin, later):
    frequency = Frequency.of(freq)
    assert (frequency.season, frequency.long_season) == (season, long)
    time = np.array([begin], "datetime64[us]").astype(np.int64)
    moved = frequency.shifted(time, np.array([3]))
    assert moved.astype("datetime64[us]").astype("datetime64[m]").astype(str).tolist() == [later]
    assert frequency.calendar(moved).shape == (1, frequency.n_calendar)


@pytest.mark.parametrize("text", ["", "0H", "-1D", "x", "1201min", "1.5H"])
def test_what_is_no_frequency_is_refused(text):
    with pytest.raises(InvalidValue, match="time_freq must be a number, if any"):
        Frequency.of(text)
