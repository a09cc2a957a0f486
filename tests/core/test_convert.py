"""What a batch is given arrives with the value it had, or not at all."""

import datetime
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse

from beam_ml.core import convert
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidBatch

AT = "2024-03-01T12:30:00"
AT_US = 1_709_296_200_000_000
ZONE = datetime.timezone(datetime.timedelta(hours=2))
X = np.ones((1, 1))


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "m"])
def test_times_of_any_unit_keep_their_moment(unit: str) -> None:
    time = Batch.dense(X, time=np.array([AT], f"datetime64[{unit}]")).time
    assert time is not None
    assert time.tolist() == [AT_US]
    assert time.dtype == np.int64


@pytest.mark.parametrize(
    ("given", "us"),
    [
        (np.array(["2024-01-01"], "datetime64[D]"), 1_704_067_200_000_000),
        (np.array(["1969-12-31T23:59:59.999999001"], "datetime64[ns]"), -1),
        (np.array([1_500], "datetime64[ns]"), 1),
        ([datetime.datetime(2024, 3, 1, 12, 30)], AT_US),  # without a zone it is UTC
        ([datetime.datetime(2024, 3, 1, 14, 30, tzinfo=ZONE)], AT_US),
        ([float(AT_US)], AT_US),
        (np.array([7], np.uint64), 7),
        (np.array([7], object), 7),
        (np.array([-7], np.int16), -7),
    ],
)
def test_times_are_converted_to_the_microsecond(given: object, us: int) -> None:
    time = Batch.dense(X, time=given).time
    assert time is not None
    assert time.tolist() == [us]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (np.array(["NaT"], "datetime64[ns]"), "NaT in entry 0"),
        (np.array([200_000_000_000], "datetime64[D]"), "entry 0"),
        (np.array([9_300_000_000_000], "datetime64[s]"), "entry 0"),
        ([np.nan], "nan in entry 0"),
        ([np.inf], "inf in entry 0"),
        ([1.5], "1.5 in entry 0"),
        ([1e19], "1e\\+19 in entry 0"),
        (np.array([2**63], np.uint64), "9223372036854775808 in entry 0"),
        ([2**64], "18446744073709551616 in entry 0"),
        ([AT], "<U19"),
        ([None], "None"),
        (np.array([5], "timedelta64[s]"), "timedelta64"),
        ([True], "bool"),
        (np.ma.masked_array([5], [True]), "masked entries"),
    ],
)
def test_times_that_would_become_others_are_refused(given: object, found: str) -> None:
    with pytest.raises(InvalidBatch, match=rf"^Batch\.time must be known times: .*{found}"):
        Batch.dense(X, time=given)


@pytest.mark.parametrize("field", ["position", "position_end"])
@pytest.mark.parametrize(
    ("given", "found"), [([1.7], "1.7 in entry 0"), ([2**63], "9223372036854775808"), ([np.nan], "nan"), (["1"], "<U1")]
)
def test_places_that_would_become_others_are_refused(field: str, given: object, found: str) -> None:
    with pytest.raises(InvalidBatch, match=rf"^Batch\.{field} must be whole numbers within int64; got {found}"):
        Batch.dense(X, **{field: given})


@pytest.mark.parametrize(
    ("indices", "found"),
    [
        ([2**32 + 1], r"must lie in \[0, 4\); got 4294967297 to 4294967297"),
        ([-(2**32)], r"must lie in \[0, 4\)"),
        ([1.7], "must be whole numbers within int64; got 1.7 in entry 0"),
        (np.array([2**63], np.uint64), "must be whole numbers"),
        ([True], "must be whole numbers within int64; got bool"),
    ],
)
def test_columns_that_would_become_others_are_refused(indices: object, found: str) -> None:
    with pytest.raises(InvalidBatch, match=rf"^Batch\.indices {found}"):
        Batch.csr([0, 1], indices, [1.0], 4)


def test_whole_floats_and_wide_integers_are_taken_as_columns() -> None:
    for indices in ([3.0], np.array([3], np.uint64), np.array([3], np.int8)):
        batch = Batch.csr([0, 1], indices, [1.0], 4)
        assert batch.indices is not None
        assert batch.indices.tolist() == [3]
        assert batch.indices.dtype == np.int32


@pytest.mark.parametrize("width", [2.5, -1, 2**31, "4"])
def test_a_width_is_a_whole_number_that_int32_holds(width: object) -> None:
    with pytest.raises(InvalidBatch, match=r"^Batch\.n_features must be a whole number in \[0, 2147483647\]; got"):
        Batch.csr([0, 0], [], [], width)  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["X", "label", "weight"])
@pytest.mark.parametrize(
    ("given", "found"),
    [
        (np.array([1 + 2j]), r"\(complex128\)"),
        (np.array([AT], "datetime64[ns]"), r"\(datetime64\[ns\]\)"),
        (np.array(["fraud"]), r"'fraud' \(<U5\)"),
        (np.array(["1"], object), "'1'"),
        (np.array([1j], object), "1j"),
        (np.array([{}], object), "objects such as {}"),
    ],
)
def test_what_is_no_real_number_is_refused(field: str, given: np.ndarray, found: str) -> None:
    columns = {"X": X} | {field: given.reshape(1, 1) if field == "X" else given}
    with pytest.raises(InvalidBatch, match=rf"^Batch\.{field} must be numbers.*; got .*{found}"):
        Batch.dense(**columns)


def test_missing_numbers_are_nan_wherever_they_hide() -> None:
    masked = Batch.dense(np.ma.masked_array([[1.0, 2.0]], [[False, True]]))
    assert np.isnan(masked.dense_x[0]).tolist() == [False, True]
    mixed = Batch.dense(np.array([[None, decimal.Decimal("0.5")]], object))
    assert np.isnan(mixed.dense_x[0]).tolist() == [True, False]
    assert mixed.dense_x[0, 1] == 0.5


def test_rows_of_several_lengths_are_one_sentence() -> None:
    with pytest.raises(InvalidBatch, match=r"^Batch\.X must be an array, each row of one length"):
        Batch.dense([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize(("unit", "per", "kept"), [("s", 1, True), ("ms", 10**3, True), ("ns", 10**9, False)])
def test_numbers_that_look_like_another_unit_are_us_with_a_warning_but_for_ns_which_us_never_are(
    unit: str, per: int, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    convert._say.cache_clear()
    seconds = AT_US // 10**6
    two = np.ones((2, 1))
    for given in ([seconds * per, (seconds + 60) * per], np.array([seconds, seconds + 60]) * float(per)):
        batch = Batch.dense(two, time=given)
        assert batch.time is not None
        assert batch.time.tolist() == (list(given) if kept else [AT_US, AT_US + 60_000_000])
        settled = Batch.dense(two, time=given, time_unit=unit)  # type: ignore[arg-type]
        assert settled.time.tolist() == [AT_US, AT_US + 60_000_000]  # type: ignore[union-attr]
    read = "µs of 1970" if kept else "ns"
    assert caplog.messages == [
        f"Batch.time: its numbers look like {unit} since the epoch, and are read as {read}; time_unit = '{unit}' settles it."
    ]


def test_us_that_begin_at_the_epoch_keep_their_unit_from_batch_to_batch() -> None:
    """Days 0 to 7 are no count of anything else, 8 to 46 look like ms of 1991 to 2096."""
    days = np.arange(60) * 86_400_000_000
    for size in (1, 7, 60):
        parts = [Batch.dense(np.ones((len(one), 1)), time=one).time for one in np.split(days, range(size, 60, size))]
        assert np.concatenate(parts).tolist() == days.tolist()  # type: ignore[arg-type]


def test_a_unit_that_is_given_is_kept_whatever_the_size(caplog: pytest.LogCaptureFixture) -> None:
    assert Batch.dense(X, time=[86_400], time_unit="s").time.tolist() == [86_400_000_000]  # type: ignore[union-attr]
    assert Batch.dense(X, time=[0.25], time_unit="s").time.tolist() == [250_000]  # type: ignore[union-attr]
    month = 31 * 86_400_000_000  # of ms, it would be the year 2054
    rows = Batch.dense(X, time=[month], time_unit="us")
    assert Batch.concat([rows, rows]).time.tolist() == [month] * 2  # type: ignore[union-attr]
    for kept in (
        Batch.csr([0, 1], [0], [1.0], 1, time=[month], time_unit="us"),
        Batch.from_arrow(pa.table({"x": [1.0], "t": [month]}), time="t", time_unit="us"),
        Batch.from_scipy(scipy.sparse.csr_array([[1.0]]), time=[month], time_unit="us"),
    ):
        assert kept.time.tolist() == [month]  # type: ignore[union-attr]
    assert not caplog.messages


def test_a_unit_that_there_is_not_is_refused() -> None:
    unit: Any = "sec"
    for time in ([1_700_000_000], np.array(["2024-01-01"], "datetime64[s]")):
        with pytest.raises(InvalidBatch, match=r"Batch.time_unit must be one of \['s', 'ms', 'us', 'ns'\]; got 'sec'"):
            Batch.dense(X, time=time, time_unit=unit)


def test_rows_of_other_units_beside_one_another_are_us_as_ever() -> None:
    assert Batch.dense(np.ones((2, 1)), time=[5, 10**9]).time.tolist() == [5, 10**9]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "unit", "rule"),
    [
        ([AT_US], "s", "be times of the years 1900 to 2200 in s"),
        ([np.nan], "s", "be times of the years 1900 to 2200 in s"),
    ],
)
def test_implausible_years_are_refused(given: list[float], unit: Any, rule: str) -> None:
    with pytest.raises(InvalidBatch, match=rf"^Batch\.time must {rule}.*; got {given[0]}"):
        Batch.dense(X, time=given, time_unit=unit)
