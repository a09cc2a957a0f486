"""Times that Python has no year or zone for end nothing that shows or hands out rows."""

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.formats import Block
from beam_ml.formats.plain import plain
from beam_ml.formats.profile import profiled

US, FAR = pa.timestamp("us"), 1 << 62
BEGIN = datetime(1970, 1, 1)


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (pa.array([0, FAR, None, -(1 << 63)], US), [BEGIN, FAR, None, -(1 << 63)]),
        (pa.array([0, FAR], pa.timestamp("s")), [BEGIN, FAR]),
        (pa.array([FAR], pa.timestamp("us", "UTC")), [FAR]),
        (pa.array([5], pa.timestamp("us", "No/Where")), [5]),
        (pa.array([0, 2**31 - 1], pa.date32()), [date(1970, 1, 1), 2**31 - 1]),
        (pa.array([0, 86_400_000 * 10**9], pa.date64()), [date(1970, 1, 1), 86_400_000 * 10**9]),
        (pa.array([0, FAR], pa.duration("s")), [timedelta(0), FAR]),
        (pa.array([0, FAR], pa.int64()).view(pa.time64("us")), [time(0), FAR]),
        (pa.array([0, FAR], US).dictionary_encode(), [BEGIN, FAR]),
        (pa.array([[0], [FAR, None]], pa.list_(US)), [[BEGIN], [FAR, None]]),
        (pa.array([[FAR]], pa.large_list(US)), [[FAR]]),
        (pa.array([[FAR]], pa.list_(US, 1)), [[FAR]]),
        (pa.array([{"a": FAR, "b": "x"}], pa.struct([("a", US), ("b", pa.string())])), [{"a": FAR, "b": "x"}]),
        (pa.array([[("k", FAR)]], pa.map_(pa.string(), US)), [[("k", FAR)]]),
    ],
    ids=lambda one: str(one.type) if isinstance(one, pa.Array) else "",
)
def test_what_python_has_no_moment_for_is_a_number(array: pa.Array, values: list[Any]) -> None:
    assert plain(array) == values


def test_blocks_and_profiles_show_them() -> None:
    batch = pa.record_batch({"t": pa.array([0, FAR], US), "d": pa.array([0, 2**31 - 1], pa.date32()), "x": [1.0, 2.0]})
    block = Block(batch)
    assert block.to_dicts()[1] == {"t": FAR, "d": 2**31 - 1, "x": 2.0}
    assert f"t={FAR}" in repr(block)
    assert Block(pa.record_batch({"x": pa.array([], pa.int64())})).to_dicts() == []
    moment, day, _ = profiled(pa.Table.from_batches([batch]))
    assert (moment.low, moment.high, day.high) == (str(BEGIN), FAR, 2**31 - 1)
    assert Block(pa.record_batch([], names=[])).to_dicts() == []
    assert Block(batch.select([])).to_dicts() == [{}, {}]
    assert math.isnan(Block(pa.record_batch({"x": [math.nan]})).to_dicts()[0]["x"])


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (pa.duration("us"), 1, (1, None)),
        (pa.month_day_nano_interval(), (1, 2, 3), (1, None)),
        (pa.float16(), np.float16(1.5), (1, 1.5)),
        (pa.decimal32(5, 1), Decimal("1.5"), (None, None)),
        (pa.uuid(), bytes(16), (None, None)),
        (pa.list_view(pa.int32()), [1], (None, None)),
        (pa.time64("ns"), 0, (1, "00:00:00")),
    ],
    ids=str,
)
def test_columns_of_any_type_are_profiled(kind: pa.DataType, value: Any, shown: tuple[int | None, Any]) -> None:
    [found] = profiled(pa.table({"x": pa.array([value], kind)}))
    assert (found.name, found.rows, found.distinct, found.low) == ("x", 1, *shown)
