import datetime
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.core.batch import Origin
from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.features import Clock, Features, Plain, Standardised
from beam_ml.formats.block import Block

FRAUD = Features(
    numeric=[
        "amount",
        {"column": "amount", "transform": "log1p"},
        *({"column": "at", "transform": name} for name in ("hour", "weekday", "night", "weekend")),
    ],
    label="fraud",
    time="at",
    weight="weight",
)
moments = st.datetimes(datetime.datetime(1901, 1, 1), datetime.datetime(2200, 1, 1))


def payments(times: list[datetime.datetime | None], **columns: list) -> Block:
    n = len(times)
    batch = {
        "amount": pa.array(columns.get("amount", [1.0] * n), pa.float64()),
        "at": pa.array(times, pa.timestamp("us", tz="UTC")),
        "fraud": pa.array(columns.get("fraud", [0] * n), pa.int32()),
        "weight": pa.array(columns.get("weight", [1.0] * n), pa.float64()),
    }
    place = np.arange(100, 100 + n, dtype=np.int64)
    return Block(pa.record_batch(batch), Origin("cards", "a.parquet"), place)


@settings(deadline=None)
@given(times=st.lists(moments, min_size=1, max_size=40), amount=st.floats(0, 1e9))
def test_terms_agree_with_the_calendar(times: list[datetime.datetime], amount: float) -> None:
    block = payments(list(times), amount=[amount] * len(times))
    batch, rejected = FRAUD.to_batch(block)
    assert rejected == ()
    assert batch.X is not None
    for row, when in zip(batch.X, times, strict=True):
        expected = [amount, np.log1p(amount), when.hour, when.weekday(), when.hour <= 6, when.weekday() >= 5]
        np.testing.assert_allclose(row, expected, rtol=1e-15)
    assert batch.time is not None
    epoch = datetime.datetime(1970, 1, 1)
    assert batch.time.tolist() == [(when - epoch) // datetime.timedelta(microseconds=1) for when in times]
    assert batch.origin == block.origin
    assert batch.position is not None
    assert batch.position.tolist() == list(range(100, 100 + len(times)))
    assert batch.X.flags.c_contiguous


def test_many_rows_equal_few_at_a_time() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    when = pa.array(rng.integers(-(10**16), 10**16, n), pa.timestamp("us"))
    batch = pa.record_batch(
        {"amount": rng.lognormal(3, 2, n), "at": when, "fraud": rng.integers(0, 2, n), "weight": rng.random(n)}
    )
    whole, _ = FRAUD.to_batch(Block(batch))
    parts = [FRAUD.to_batch(Block(batch.slice(i, 777)))[0] for i in range(0, n, 777)]
    np.testing.assert_array_equal(whole.X, np.concatenate([part.X for part in parts]))
    np.testing.assert_array_equal(whole.label, np.concatenate([part.label for part in parts]))
    np.testing.assert_array_equal(whole.weights, np.concatenate([part.weights for part in parts]))


def test_unusable_rows_are_rejected_each_under_the_first_reason() -> None:
    now = datetime.datetime(2024, 1, 1)
    block = payments(
        [now, now, None, now, now, now, now],
        amount=[1.0, None, 2.0, float("inf"), 3.0, -1.0, 4.0],
        weight=[1.0, 1.0, 1.0, None, None, 1.0, 0.5],
    )
    batch, rejected = FRAUD.to_batch(block)
    assert [(reject.reason, reject.position.tolist()) for reject in rejected] == [
        ("non-finite feature amount", [101, 103]),
        ("non-finite feature log1p(amount)", [105]),
        ("non-finite feature hour(at)", [102]),
        ("missing weight", [104]),
    ]
    assert batch.position is not None
    assert batch.position.tolist() == [100, 106]
    assert len(batch) + sum(map(len, rejected)) == 7


def test_a_missing_event_time_is_rejected() -> None:
    block = payments([None, datetime.datetime(2024, 1, 1)])
    _, rejected = Features(numeric=["amount"], time="at").to_batch(block)
    assert [(reject.reason, reject.position.tolist()) for reject in rejected] == [("missing event time", [100])]


def test_rows_dated_too_far_past_their_record_are_rejected_where_that_is_known() -> None:
    times = np.array([5, 16, 15, 10**6], dtype=np.int64)
    recorded = np.array([5, 5, 5, -1000], dtype=np.int64)  # the last one's message tells no time
    rows = pa.record_batch({"x": [0.0, 1.0, 2.0, 3.0], "t": pa.array(times, pa.timestamp("us", tz="UTC"))})
    block = Block(rows, Origin("s", "p"), np.arange(4), None, 0, 4, recorded=recorded)
    features = Features(numeric=("x",), time="t")
    good, rejects = features.to_batch(block, max_ahead_us=10)
    assert good.time.tolist() == [5, 15, 10**6]
    assert [(one.reason, one.position.tolist()) for one in rejects] == [("event time too far ahead", [1])]
    assert len(features.to_batch(block)[0]) == 4
    furthest = block.replace(recorded=np.full(4, 2**63 - 1 - 5))
    assert len(features.to_batch(furthest, max_ahead_us=10)[0]) == 4


def test_places_that_are_wide_keep_their_ends() -> None:
    block = payments([datetime.datetime(2024, 1, 1)] * 3, amount=[1.0, None, 2.0])
    wide = block.replace(position=np.array([5, 9, 30]), position_end=np.array([9, 30, 31]))
    batch, (reject,) = FRAUD.to_batch(wide)
    assert batch.position_end is not None
    assert batch.position_end.tolist() == [9, 31]
    assert reject.position_end is not None
    assert (reject.position.tolist(), reject.position_end.tolist()) == ([9], [30])
    _, (reject,) = FRAUD.to_batch(Block(wide.batch))
    assert reject.position.tolist() == [1]


def test_a_missing_label_is_nan_and_scoring_needs_none() -> None:
    block = payments([datetime.datetime(2024, 1, 1)] * 2, fraud=[None, 1])
    batch, rejected = FRAUD.to_batch(block)
    assert rejected == ()
    np.testing.assert_array_equal(batch.label, [np.nan, 1.0])
    bare = block.replace(batch=block.batch.drop_columns("fraud"))
    assert FRAUD.to_batch(bare, with_label=False)[0].label is None
    with pytest.raises(
        MissingColumn,
        match=r"^Features\.label names the column 'fraud', which must be a number; got no such column among \['amount', 'at', 'weight'\]\.$",
    ):
        FRAUD.to_batch(bare)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([1, 0, None], pa.int8()), np.float64),
        (pa.array([2**63, 0, None], pa.uint64()), np.float64),
        (pa.array([True, False, None]), np.float64),
        (pa.array([Decimal("1.50"), Decimal("0.25"), None], pa.decimal128(5, 2)), np.float64),
        (pa.array([1.5, 0.25, None], pa.float16()), np.float64),
        (pa.array([1.5, 0.25, None], pa.float32()), np.float32),
        (pa.array([1.5, 0.25, None]).dictionary_encode(), np.float64),
    ],
)
def test_all_kinds_of_numbers_are_taken(column: pa.Array, kind: type) -> None:
    batch, rejected = Features(numeric=["v"]).to_batch(Block(pa.record_batch({"v": column})))
    assert batch.dense_x.dtype == kind
    expected = [float(value) for value in column.to_pylist()[:2]]
    assert batch.dense_x[:, 0].tolist() == expected
    assert [(reject.reason, reject.position.tolist()) for reject in rejected] == [("non-finite feature v", [2])]


def test_float32_stays_only_if_all_features_are_float32_columns() -> None:
    batch = pa.record_batch({"a": pa.array([1.0, 2.0], pa.float32()), "b": pa.array([1.0, 2.0])})
    assert Features(numeric=["a"]).to_batch(Block(batch))[0].dense_x.dtype == np.float32
    assert Features(numeric=["a", "b"]).to_batch(Block(batch))[0].dense_x.dtype == np.float64
    logs = Features(numeric=[{"column": "a", "transform": "log1p"}]).to_batch(Block(batch))[0]
    assert logs.dense_x[:, 0].tolist() == [np.log1p(1.0), np.log1p(2.0)]


def test_huge_finite_numbers_are_not_rejected() -> None:
    batch = pa.record_batch({"v": [1e308, 1e308, -1e308]})
    assert Features(numeric=["v"]).to_batch(Block(batch))[1] == ()


@pytest.mark.parametrize(
    "column",
    [
        pa.array([3_600, None], pa.timestamp("s")),
        pa.array([3_600_000_000_000, None], pa.timestamp("ns", tz="Asia/Tokyo")),
        pa.array([3_600_000, None], pa.timestamp("ms", tz="UTC")).dictionary_encode(),
    ],
)
def test_all_kinds_of_times_are_taken(column: pa.Array) -> None:
    features = Features(numeric=[{"column": "t", "transform": "hour"}], time="t")
    batch, (reject,) = features.to_batch(Block(pa.record_batch({"t": column})))
    assert batch.time is not None
    assert batch.time.tolist() == [3_600_000_000]
    assert batch.dense_x.tolist() == [[1.0]]
    assert reject.position.tolist() == [1]


def test_dates_and_columns_of_nothing() -> None:
    batch = pa.record_batch({"d": pa.array([1, 2], pa.date32()), "none": pa.nulls(2)})
    days, _ = Features(numeric=[{"column": "d", "transform": "weekday"}], time="d").to_batch(Block(batch))
    assert days.dense_x.tolist() == [[4.0], [5.0]]
    empty, rejected = Features(numeric=["none"], time="none", weight="none").to_batch(Block(batch))
    assert (len(empty), sum(map(len, rejected))) == (0, 2)


def test_no_rows_give_no_rows() -> None:
    batch, rejected = FRAUD.to_batch(payments([]))
    assert (len(batch), batch.n_features, rejected) == (0, 6, ())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (
            Features(numeric=["x"]),
            r"Features.numeric names the column 'x', which must be a number; got no such column among \['s', 'l'\]\.",
        ),
        (Features(numeric=["l"]), r"must be a number; got list<item: int64>\."),
        (
            Features(numeric=[{"column": "l", "transform": "hour"}]),
            r"a number since the epoch; got list<item: int64>\.",
        ),
    ],
)
def test_columns_of_the_wrong_type_are_named(features: Features, message: str) -> None:
    block = Block(pa.record_batch({"s": ["a"], "l": [[1]]}))
    with pytest.raises(MissingColumn, match=f"{message}$"):
        features.to_batch(block)


def test_a_column_that_is_there_twice_is_refused() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "x"])
    with pytest.raises(MissingColumn, match=r"got 2 columns of that name\.$"):
        Features(numeric=["x"]).to_batch(Block(batch))


def test_wrong_time_weight_and_label_columns_are_named() -> None:
    block = Block(pa.record_batch({"x": [1.0], "s": [[1]]}))
    for field in ("time", "weight", "label"):
        with pytest.raises(MissingColumn, match=rf"^Features\.{field} names the column 's'"):
            Features(numeric=["x"], **{field: "s"}).to_batch(block)


def test_texts_that_spell_numbers_are_numbers_and_others_are_rejects_with_their_value() -> None:
    """A format without types takes a column for text where one cell of it is no number."""
    texts = {
        "a": ["1", "n/a", " 2.5 ", "1e3", "-.5", "", None, "1", "1", "1"],
        "y": ["0", "1", "1", "0", "1", "1", "1", "yes" * 100, "", "0"],
        "w": ["1", "1", "1", "1", "1", "1", "1", "1", "2", "heavy"],
    }
    features = Features(numeric=["a"], label="y", weight="w")
    batch, rejected = features.to_batch(Block(pa.record_batch(texts), position=np.arange(10) * 7))
    assert batch.dense_x.ravel().tolist() == [1.0, 2.5, 1000.0, -0.5, 1.0]
    np.testing.assert_array_equal(batch.label, [0.0, 1.0, 0.0, 1.0, np.nan])
    assert [(one.reason, one.position.tolist(), one.detail) for one in rejected] == [
        ("feature column a is not a number", [7], ("n/a",)),
        ("non-finite feature a", [35, 42], ()),
        ("weight is not a number", [63], ("heavy",)),
        ("label is not a number", [49], (("yes" * 100)[:200],)),
    ]


@pytest.mark.parametrize(
    ("times", "unit", "us", "bad"),
    [
        (["2024-03-01T12:30:00Z", "soon", "2024-03-01 13:30", "2024-03-45"], None, [0, 3600], ["soon", "2024-03-45"]),
        (["1709296200", "1709299800", "x"], "s", [0, 3600], ["x"]),
        (["1709296200000", "1709299800000", "?"], None, [0, 3600], ["?"]),
        (["1709296200", "1709299800", "2024-03-01T12:30"], "s", [0, 3600, 0], []),
        (["2024-03-01T13:30:00+01:00", "2024-03-01T13:30:00", "1709296200"], "s", [0, 3600, 0], []),
    ],
)
def test_texts_that_spell_times_are_times(times: list[str], unit: str | None, us: list[int], bad: list[str]) -> None:
    time: Any = "t" if unit is None else {"column": "t", "unit": unit}
    features = Features.parse({"numeric": ["x"], "time": time})
    rows = pa.record_batch({"x": [1.0] * (len(times) + 2), "t": [*times, "", None]})
    batch, rejected = features.to_batch(Block(rows))
    assert batch.time is not None
    np.testing.assert_array_equal(batch.time, 1_709_296_200_000_000 + np.array(us) * 1_000_000)
    assert {one.reason: one.detail for one in rejected} == {
        "missing event time": (), **({"event time cannot be read": tuple(bad)} if bad else {})
    }  # fmt: skip


def test_settings_are_json_and_back() -> None:
    again = Features.parse(json.loads(FRAUD.to_json()))
    assert again == FRAUD
    assert again.to_json() == FRAUD.to_json()
    assert again.numeric[0] == Plain(column="amount")
    assert again.numeric[2] == Clock(column="at", transform="hour")
    scaled = Features(numeric=[Standardised(column="x", mean=2.0, scale=4.0), "x"])
    assert Features.parse(scaled.to_dict()) == scaled
    batch, _ = scaled.to_batch(Block(pa.record_batch({"x": [2.0, 6.0]})))
    assert batch.dense_x.tolist() == [[0.0, 2.0], [1.0, 6.0]]


def test_names_and_needed_columns() -> None:
    assert FRAUD.names == ("amount", "log1p(amount)", "hour(at)", "weekday(at)", "night(at)", "weekend(at)")
    assert FRAUD.n_features == 6
    assert FRAUD.columns() == ["amount", "at", "weight", "fraud"]
    assert FRAUD.columns(with_label=False) == ["amount", "at"]


@pytest.mark.parametrize(
    ("numeric", "message"),
    [
        ([], r"Features\.numeric must name at least one feature; got \[\]\."),
        (["a", "a"], r"Features\.numeric must name no feature twice, as \['a'\] are; got \['a', 'a'\]\."),
        (
            [{"column": "a", "transform": "cube"}],
            r"transform must be one of identity, log1p, standardise, hour, weekday, night, weekend",
        ),
        ([{"column": "a", "transform": "standardise", "scale": 0}], r"Standardised\.scale must be > 0"),
        ([{"transform": "hour"}], r"Clock\.column must be given"),
        ([3.5], "must be one of identity"),
        ([-1], r"Features\.numeric.* must be a column's name, or its place, a whole number from 0 on"),
    ],
)
def test_bad_settings_are_refused(numeric: list, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Features(numeric=numeric)


@pytest.mark.parametrize(
    "features",
    [
        {"numeric": ["amount", "y"], "label": "y"},
        {"numeric": [{"column": "y", "transform": "log1p"}], "label": "y"},
        {"numeric": ["amount"], "hashed": ["y"], "label": {"column": "y", "positive": ["a"], "negative": ["b"]}},
        {"numeric": ["amount"], "crosses": [["shop", "y"]], "label": "y"},
        {"matrix": {"column": "y", "width": 3}, "label": "y"},
    ],
)
def test_a_label_among_the_features_is_refused(features: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidValue, match=r"label must not be a column of the features as well, .*; got 'y' \(leave it out"
    ):
        Features.parse(features)
