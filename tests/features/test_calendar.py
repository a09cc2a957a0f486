"""Parts of times against Python's own calendar and zones."""

import datetime
import zoneinfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.errors import InvalidValue
from beam_ml.features import Features
from beam_ml.features.zones import local_us
from beam_ml.formats.block import Block

ZONES = ("Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca", "UTC")
EPOCH = datetime.datetime(1970, 1, 1)
moments = st.datetimes(datetime.datetime(1901, 1, 2), datetime.datetime(2199, 12, 30))
PARTS = {
    "hour": lambda at: at.hour,
    "weekday": lambda at: at.weekday(),
    "night": lambda at: at.hour <= 6,
    "weekend": lambda at: at.weekday() >= 5,
    "day": lambda at: at.day,
    "month": lambda at: at.month,
    "quarter": lambda at: (at.month + 2) // 3,
    "day_of_year": lambda at: at.timetuple().tm_yday,
    "week": lambda at: at.isocalendar().week,
    "days": lambda at: (at - EPOCH) / datetime.timedelta(days=1),
}


def computed(times: list[datetime.datetime], *terms: dict) -> np.ndarray:
    batch, rejected = Features(numeric=terms).to_batch(
        Block(pa.record_batch({"at": pa.array(times, pa.timestamp("us", tz="UTC"))}))
    )
    assert rejected == ()
    return batch.dense_x


@settings(deadline=None)
@given(times=st.lists(moments, min_size=1, max_size=20), zone=st.sampled_from(ZONES))
def test_parts_are_those_that_clocks_in_the_zone_show(times: list[datetime.datetime], zone: str) -> None:
    found = computed(times, *({"column": "at", "transform": part, "zone": zone} for part in PARTS))
    for row, when in zip(found, times, strict=True):
        shown = when.replace(tzinfo=datetime.UTC).astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None)
        np.testing.assert_allclose(row, [part(shown) for part in PARTS.values()], rtol=1e-14, atol=1e-12)


@pytest.mark.parametrize("zone", ZONES)
def test_every_change_of_the_clocks_is_met_to_the_second(zone: str) -> None:
    """An hour-long walk over both changes of each year, a second before and at the change itself."""
    hours = np.arange(0, 20 * 366 * 24, dtype=np.int64) * 3_600 + 1_000_000_000
    us = np.concatenate([hours - 1, hours]) * 1_000_000
    offset = (local_us(us, zone) - us) // 1_000_000
    known = zoneinfo.ZoneInfo(zone)
    for at, found in zip((us[::7] // 1_000_000).tolist(), offset[::7].tolist(), strict=True):
        expected = datetime.datetime.fromtimestamp(at, known).utcoffset()
        assert expected is not None
        assert found == expected.total_seconds()


def test_summer_time_begins_and_ends() -> None:
    utc = [
        datetime.datetime(2024, 3, 31, 0, 59),
        datetime.datetime(2024, 3, 31, 1),
        datetime.datetime(2024, 10, 27, 0, 30),
    ]
    utc.append(datetime.datetime(2024, 10, 27, 1, 30))
    found = computed(utc, {"column": "at", "transform": "hour", "zone": "Europe/Paris"})
    assert found.ravel().tolist() == [1.0, 3.0, 2.0, 2.0]


def test_cyclic_parts_lie_on_a_circle_of_their_length() -> None:
    times = [datetime.datetime(2024, 1, 1, hour) for hour in (0, 6, 12, 18)]
    found = computed(times, {"column": "at", "transform": "hour", "cyclic": True})
    np.testing.assert_allclose(found, [[0, 1], [1, 0], [0, -1], [-1, 0]], atol=1e-12)
    months = computed(
        [datetime.datetime(2024, m, 1) for m in (1, 4)], {"column": "at", "transform": "month", "cyclic": True}
    )
    np.testing.assert_allclose(months, [[0, 1], [1, 0]], atol=1e-12)


def test_a_missing_time_rejects_its_row_whatever_the_part() -> None:
    rows = pa.record_batch({"at": pa.array([0, None], pa.timestamp("us")), "x": [1.0, 2.0]})
    batch, rejected = Features(numeric=["x", {"column": "at", "transform": "month", "cyclic": True}]).to_batch(
        Block(rows)
    )
    assert batch.dense_x.tolist() == [[1.0, 0.0, 1.0]]
    assert [(one.reason, one.position.tolist()) for one in rejected] == [("non-finite feature sin(month(at))", [1])]


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ({"transform": "hour", "zone": "Europe/Pariss"}, r"zone must be a time zone such as 'Europe/Paris' \(did you mean 'Europe/Paris'\?\); got 'Europe/Pariss'\."),
        ({"transform": "hour", "zone": "../etc/passwd"}, r"zone must be a time zone"),
        ({"transform": "weekend", "cyclic": True}, r"cyclic must be false with weekend, which does not come again; got true\."),
        ({"transform": "hours"}, r"transform must be one of identity, .*; got 'hours'\. Did you mean 'hour'\?"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(term: dict, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Features(numeric=[{"column": "at", **term}])
