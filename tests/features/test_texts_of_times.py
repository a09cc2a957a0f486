"""Texts of times: each is read by itself, whether Arrow or Python reads it."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_ml.features.times import times_us

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SPELLINGS = st.from_regex(
    r"(1[89]|2[0-2])\d\d-[01]\d-[0-3]\d([T ][0-2]\d(:[0-6]\d(:[0-6]\d(\.\d{1,9})?)?)?)?(Z|[+-][0-2]\d:?[0-5]\d)?",
    fullmatch=True,
)


def read(texts, unit=None):
    found = times_us(pa.record_batch({"at": pa.array(texts, pa.string())}), "at", "Features.time", unit)
    none = found.unusable
    return [None if none is not None and none[i] else int(us) for i, us in enumerate(found.us)]


def expected(text):
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    us = ((time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)
    return (
        us
        if datetime(1900, 1, 1, tzinfo=UTC) <= EPOCH + timedelta(microseconds=us) < datetime(2201, 1, 1, tzinfo=UTC)
        else None
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(SPELLINGS, min_size=1, max_size=8))
@example(["1899-12-31T23:59:59.999999", "1900-01-01T00:00:00", "2200-12-31T23:59:59Z"])
@example(["1969-12-31T23:59:59.999999", "1969-12-31T23:59:59.9999999", "2024-02-30T00:00:00"])
def test_iso_8601_is_read_as_the_standard_library_reads_it(texts):
    assert read(texts) == [expected(text) for text in texts]


NOW = 1_709_296_200
MIXED = {
    "2024-03-01T12:30:00Z": NOW * 10**6, "2024-03-01 13:30:00+01:00": NOW * 10**6, "2024-03-01": 1_709_251_200 * 10**6,
    str(NOW): NOW * 10**6, f"{NOW}.5": NOW * 10**6 + 500_000, str(NOW * 10**9 + 123_457_000): NOW * 10**6 + 123_457,
    f" {NOW}000 ": NOW * 10**6, "soon": None, "": None, "2024-13-01T00:00:00": None, "17": None, "20240301": None,
}  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_a_text_means_the_same_time_beside_any_others(seed):
    texts = np.random.default_rng(seed).choice(list(MIXED), size=1 + 7 * seed).tolist()
    assert read(texts) == [MIXED[text] for text in texts]


def test_truth_values_are_no_times():
    found = times_us(pa.record_batch({"at": [True, None]}), "at", "Features.time")
    assert found.implausible.tolist() == [True, False]
    assert found.missing.tolist() == [False, True]
