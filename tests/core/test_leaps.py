"""A few rows dated far ahead are refused, whatever the clock says; a pause in the data is believed."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_ml import Batch, derive, fit, linear, predict
from beam_ml.core import leaps
from beam_ml.core.batch import Origin
from beam_ml.core.leaps import FAR, SET_BACK, far_ahead, leap_us
from beam_ml.core.limits import Limits
from beam_ml.core.progress import Progress
from beam_ml.core.windows import Windows, cut
from beam_ml.errors import InvalidValue

DAY = 86_400_000_000
YEAR_9999 = 253_402_214_400_000_000
START = 1_700_000_000_000_000


def minutes(n: int) -> np.ndarray:
    return START + np.arange(n) * 60_000_000


def far_of(times: np.ndarray, known: int | None = None, most: int = DAY) -> list[int]:
    mask = far_ahead(times, most, known)
    return [] if mask is None else np.flatnonzero(mask).tolist()


@pytest.mark.parametrize("to", [START + 9 * 30 * DAY, YEAR_9999, 2**63 - 1])
@pytest.mark.parametrize("at", [0, 50, 119])
def test_one_row_far_ahead_is_found_wherever_it_stands(to: int, at: int) -> None:
    times = minutes(120)
    times[at] = to
    assert far_of(times) == [at]
    assert far_of(times, known=START - 60 * DAY) == [at]


def test_rows_far_ahead_by_different_times_are_all_found() -> None:
    times = minutes(400)
    times[[7, 90, 300]] = START + 40 * DAY, YEAR_9999, START + 400 * DAY
    assert far_of(times) == [7, 90, 300]


def test_what_more_than_one_in_a_hundred_rows_share_is_a_pause() -> None:
    times = minutes(400)
    times[-5:] += 30 * DAY
    assert far_of(times) == []
    assert far_of(times[:-1]) == [395, 396, 397, 398]


def test_a_gap_of_the_very_bound_is_none() -> None:
    times = np.append(START + np.arange(50), START + 49 + DAY)
    assert far_of(times) == []
    times[-1] += 1
    assert far_of(times) == [50]


def test_data_that_come_rarely_have_gaps_and_none_of_their_rows_is_far() -> None:
    monthly = START + np.arange(24) * 30 * DAY
    assert far_of(monthly) == []
    assert far_of(np.append(monthly, monthly[-1] + 119 * DAY)) == []
    assert far_of(np.append(monthly, monthly[-1] + 121 * DAY)) == [24]


def test_a_batch_after_a_pause_is_believed_however_small() -> None:
    later = START + 300 * DAY
    assert far_of(np.array([later]), known=START) == []
    assert far_of(np.array([later, later + 1]), known=START) == []
    assert far_of(later + minutes(3) - START, known=START) == []


def test_a_current_row_among_late_ones_is_not_far() -> None:
    now = START + 60 * DAY
    times = minutes(300)
    times[7] = now
    assert far_of(times, known=now) == []
    assert far_of(times, known=now + DAY) == []
    for newer in (1, DAY // 1440, DAY - 1):
        assert far_of(np.where(times == now, now + newer, times), known=now) == []
    assert far_of(minutes(3) * 2 - START, known=now) == []
    times[8] = YEAR_9999
    assert far_of(times, known=now) == [8]


def test_rows_all_older_than_what_is_known_are_left_as_they_are() -> None:
    times = np.append(minutes(100), START + 3 * DAY)
    assert far_ahead(times, DAY, known=START + 400 * DAY) is None


def test_two_rows_are_judged_where_something_is_known() -> None:
    assert far_of(np.array([START, YEAR_9999])) == []
    assert far_of(np.array([START, YEAR_9999]), known=START - 5) == [1]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=300), st.none() | st.integers(-(2**62), 2**62))
def test_at_most_one_in_a_hundred_and_only_the_newest(times: list[int], known: int | None) -> None:
    values = np.array(times, dtype=np.int64)
    far = far_of(values, known, 1000)
    assert len(far) <= -(-len(times) // 100)
    kept = np.delete(values, far)
    assert not far or float(kept.max()) < values[far].astype(float).min()
    assert not times or leaps.newest(values, 1000, known) == (kept.max() if far else values.max())


def test_how_far_follows_from_windows_and_half_life() -> None:
    assert leap_us(None) is None
    assert leap_us(5.0) is None  # time drives nothing
    assert leap_us(None, window_us=3_600_000_000) == DAY
    assert leap_us(None, window_us=7 * DAY) == 21 * DAY
    assert leap_us(None, half_life_s=14 * 86_400.0) == 14 * DAY
    assert leap_us(None, half_life_s=10.0) == DAY
    assert leap_us(60.0, window_us=7 * DAY, half_life_s=1.0) == 60_000_000


@pytest.mark.parametrize("size", [None, DAY])
def test_cutting_counts_far_rows_and_gives_them_no_window(size: int | None) -> None:
    times = minutes(120)
    times[50] = START + 270 * DAY
    batch = Batch.dense(np.zeros((120, 1)), time=times)
    slices = cut(batch, Windows(size, max_leap_us=DAY), None, now_us=2**62)
    assert {reason: len(rows) for reason, rows in slices.rejected.items()} == {FAR: 1}
    assert sum(len(one) for parts in slices.windows.values() for one, _ in parts) == 119
    assert size is None or max(slices.windows) <= START + 2 * DAY
    assert cut(batch, Windows(size, max_leap_us=None), None, now_us=2**62).rejected == {}


def rows(time: np.ndarray) -> tuple[np.ndarray, np.ndarray, Batch]:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(time.size, 3))
    y = (rng.random(time.size) < 1 / (1 + np.exp(-x @ [1.0, -1.0, 0.5]))).astype(float)
    return x, y, Batch.dense(x, label=y, time=time)


def concordant(x: np.ndarray, y: np.ndarray, learner: object) -> float:
    score = predict(derive(learner, linear.Classifier()), Batch.dense(x))["score"]  # type: ignore[arg-type]
    return float((score[y == 1][:, None] > score[y == 0]).mean())


def test_fit_forgets_nothing_for_a_row_of_the_year_9999() -> None:
    time = minutes(2_000)
    time[800] = YEAR_9999
    x, y, batch = rows(time)
    spec = linear.Newton(n_features=3, half_life="1d")
    learner = fit(spec, [batch])
    assert learner.progress.rejected == {FAR: 1}
    assert learner.progress.time_max == int(time[time < YEAR_9999].max())
    assert "event time far ahead of the data 1" in repr(learner)
    assert concordant(x, y, learner) > 0.75
    assert fit(spec, [batch], max_leap="3000000d").progress.rejected == {}
    assert fit(linear.Newton(n_features=3), [batch]).progress.rejected == {}  # time drives nothing


def test_fit_measures_from_what_it_has_learned_before() -> None:
    spec = linear.Newton(n_features=3, half_life="1d")
    before = fit(spec, [rows(minutes(500))[2]])
    two = Batch.dense(np.zeros((2, 3)), label=[0, 1], time=[YEAR_9999, START + DAY])
    assert fit(spec, [two], learner=before).progress.rejected == {FAR: 1}


@pytest.mark.parametrize("old", [1, 2, 30, 98, 99, 100, 250])
@pytest.mark.parametrize("new", [1, 2, 3, 60])
def test_rows_after_an_honest_pause_are_learned_wherever_batches_end(old: int, new: int) -> None:
    """A weekend between two hours of data, and any cut: no row is lost, and time gets there with the next batch."""
    weekend = np.concatenate([minutes(old), minutes(new + 70) + 3 * DAY])
    spec = linear.Newton(n_features=3, half_life="1d")
    batches = [rows(weekend[: old + new])[2], rows(weekend[old + new :])[2]]
    learner = fit(spec, batches, learner=fit(spec, [rows(minutes(200) - DAY // 2)[2]]))
    assert learner.progress.rejected == {}
    assert learner.progress.rows == 200 + weekend.size
    assert learner.progress.time_max == weekend[-1]
    far = new <= -(-(old + new) // 100)
    assert learner.progress.adjusted == ({SET_BACK: new} if far else {})


@given(st.integers(1, 119), st.integers(1, 119))
def test_a_pause_costs_no_row_in_windows_whatever_the_cuts(first: int, second: int) -> None:
    times = np.concatenate([minutes(60), minutes(60) + 5 * DAY])
    batch = Batch.dense(np.zeros((120, 1)), time=times, origin=Origin("a", "b"), position=np.arange(120))
    bounds, taken = sorted({0, first, second, 120}), []
    for low, high in itertools.pairwise(bounds):
        slices = cut(batch.take(slice(low, high)), Windows(DAY, max_leap_us=DAY), None, now_us=2**62)
        assert slices.rejected == {}
        taken += [piece.position for parts in slices.windows.values() for piece, _ in parts]
    assert np.sort(np.concatenate(taken)).tolist() == list(range(120))


def test_one_row_far_ahead_at_the_end_of_its_batch_drives_neither_windows_nor_decay() -> None:
    time = minutes(2_000)
    time[-1] = YEAR_9999
    x, y, batch = rows(time)
    spec = linear.Newton(n_features=3, half_life="1d")
    learner = fit(spec, [batch])
    assert (learner.progress.rows, learner.progress.rejected) == (2_000, {})
    assert learner.progress.adjusted == {SET_BACK: 1}
    assert learner.progress.time_max == learner.dated.time == time[-2]
    assert f"1 adjusted ({SET_BACK} 1)" in repr(learner)
    assert concordant(x, y, learner) > 0.75
    slices = cut(batch, Windows(DAY, max_leap_us=DAY), None, now_us=2**62)
    assert max(slices.windows) <= START + 3 * DAY
    assert slices.set_back == 1


def test_rows_that_older_ones_follow_are_rejected_though_the_last_one_is_not() -> None:
    times = minutes(400)
    times[[7, 90, 398, 399]] = YEAR_9999
    slices = cut(Batch.dense(np.zeros((400, 1)), time=times), Windows(DAY, max_leap_us=DAY), None, now_us=2**62)
    assert {reason: len(one) for reason, one in slices.rejected.items()} == {FAR: 2}
    assert slices.set_back == 2


@pytest.mark.parametrize("wrong", ["soon", 0, -1.0, float("inf"), float("nan"), 1e13])
def test_fit_refuses_what_is_no_duration(wrong: object) -> None:
    with pytest.raises(InvalidValue, match=r"^fit\.max_leap must be a duration > 0, such as '7d', or None; got "):
        fit(linear.Newton(n_features=3), [], max_leap=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("lateness", [0, 2 * DAY])
def test_rows_set_back_that_are_late_then_are_not_counted_as_adjusted(lateness: int) -> None:
    times = minutes(400)
    times[399] = YEAR_9999
    through = (START // DAY + 2) * DAY
    windows = Windows(DAY, allowed_lateness_us=lateness, max_leap_us=DAY)
    slices = cut(Batch.dense(np.zeros((400, 1)), time=times), windows, through, now_us=2**62)
    assert {reason: len(one) for reason, one in slices.rejected.items()} == ({} if lateness else {"late": 400})
    assert slices.set_back == (1 if lateness else 0)


@pytest.mark.parametrize("value", [0.0, np.nan, 1e10])
def test_rows_that_are_rejected_for_another_reason_are_not_counted_as_adjusted(value: float) -> None:
    time = minutes(2_000)
    time[-1] = YEAR_9999
    batch = rows(time)[2]
    batch.dense_x[-1, 0] = value
    progress = fit(linear.Newton(n_features=3, half_life="1d"), [batch], limits=Limits()).progress
    assert sum(progress.rejected.values()) == (value != 0.0)
    assert progress.adjusted == ({} if progress.rejected else {SET_BACK: 1})


def test_values_clipped_in_rows_that_are_dated_far_ahead_are_not_counted_as_adjusted() -> None:
    time = minutes(2_000)
    time[50] = YEAR_9999
    batch = rows(time)[2]
    batch.dense_x[50, 0] = 1e10
    spec = linear.Newton(n_features=3, half_life="1d")
    progress = fit(spec, [batch], limits=Limits(far_values="clip")).progress
    assert (progress.rejected, progress.adjusted) == ({FAR: 1}, {})


def test_no_row_of_a_fold_that_was_dropped_is_counted_as_adjusted() -> None:
    dropped = Progress(rows=3, adjusted={SET_BACK: 1}).as_rejected("dropped")
    assert (dropped.rejected, dropped.adjusted) == ({"dropped": 3}, {})


@pytest.mark.parametrize("size", [None, DAY])
def test_rows_set_back_are_dated_at_the_newest_known_and_counted(size: int | None) -> None:
    now = START + 5 * DAY
    times = np.append(minutes(200), YEAR_9999)
    batch = Batch.dense(np.zeros((201, 1)), time=times)
    slices = cut(batch, Windows(size, max_leap_us=DAY), None, now_us=2**62, newest=now)
    found = [one.time for parts in slices.windows.values() for one, _ in parts if one.time is not None]
    assert np.sort(np.concatenate(found)).tolist() == [*minutes(200).tolist(), now]
    assert (slices.set_back, slices.rejected) == (1, {})


def test_windows_come_in_order_though_late_rows_enter_a_later_one() -> None:
    times = np.array([START + DAY // 2, START + 2 * DAY, START + DAY])
    slices = cut(Batch.dense(np.zeros((3, 1)), time=times), Windows(DAY, DAY), START + DAY, now_us=2**62)
    assert list(slices.windows) == sorted(slices.windows)
    folded = START // DAY * DAY + 3 * DAY
    late = cut(Batch.dense(np.zeros((2, 1)), time=[folded - 1, folded - 2 * DAY]), Windows(DAY, 3 * DAY), folded, 2**62)
    assert {end: [n for _, n in parts] for end, parts in late.windows.items()} == {folded + DAY: [2]}
