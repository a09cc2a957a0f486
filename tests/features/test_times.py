"""Event times mean the moment that was meant: by unit, by size, or not at all."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml import formats
from beam_ml.errors import InvalidValue
from beam_ml.features import Features
from beam_ml.features.times import EventTime, times_us
from beam_ml.formats import Block

AT_S = 1_709_296_200
AT_US = AT_S * 10**6
COUNTS = {"s": AT_S, "ms": AT_S * 10**3, "us": AT_US, "ns": AT_S * 10**9}


def read(column: pa.Array, time: Any = "ts") -> tuple[list[int], dict[str, list[int]]]:
    """Return the event times of the good rows, and the numbers of the others by reason."""
    features = Features(numeric=["x"], time=time)
    batch, rejected = features.to_batch(Block(pa.record_batch({"ts": column, "x": np.arange(len(column)) * 1.0})))
    assert batch.time is not None
    return batch.time.tolist(), {one.reason: one.position.tolist() for one in rejected}


@pytest.mark.parametrize("unit", COUNTS)
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64()])
@pytest.mark.parametrize("given", [True, False])
def test_numbers_of_any_unit_are_the_same_moment(unit: str, kind: pa.DataType, given: bool) -> None:
    column = pa.array([COUNTS[unit], COUNTS[unit], None], pa.int64()).cast(kind, safe=False)
    times, rejected = read(column, {"column": "ts", "unit": unit} if given else "ts")
    assert times == [AT_US, AT_US]
    assert rejected == {"missing event time": [2]}


def test_fractions_of_a_second_are_kept_to_the_microsecond() -> None:
    assert read(pa.array([AT_S + 0.250001]))[0] == [AT_US + 250_001]
    assert read(pa.array([AT_S * 10**3 + 0.5]))[0] == [AT_US + 500]
    assert read(pa.array([-1_500, 1_999]), {"column": "ts", "unit": "ns"})[0] == [-2, 1]


@pytest.mark.parametrize("unit", ["s", "ms", "ns"])
def test_a_recognised_unit_is_said_once(unit: str, caplog: pytest.LogCaptureFixture) -> None:
    name = f"seen_{unit}"
    rows = pa.record_batch({name: [COUNTS[unit]] * 3})
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            times_us(rows, name, "Features.time")
    (record,) = [one for one in caplog.records if name in one.getMessage()]
    assert (
        f"are read as {unit} since the epoch, by their size; time = {{ column = '{name}', unit = '{unit}' }}"
        in record.getMessage()
    )


def test_what_settles_a_unit_is_said_where_it_does(caplog: pytest.LogCaptureFixture) -> None:
    features = Features(numeric=[{"column": "made", "transform": "hour"}])  # type: ignore[list-item]
    with caplog.at_level(logging.WARNING):
        features.to_batch(Block(pa.record_batch({"made": [AT_S]})))
    (record,) = [one for one in caplog.records if "'made'" in one.getMessage()]
    assert record.getMessage().endswith(
        "are read as s since the epoch, by their size; unit = 's' beside transform settles it."
    )


def hours(column: pa.Array, **clock: str) -> tuple[list[float], dict[str, list[int]]]:
    """Return the hour of each good row of a column, and the numbers of the others by reason."""
    features = Features(numeric=[{"column": "made", "transform": "hour", **clock}])  # type: ignore[list-item]
    batch, rejected = features.to_batch(Block(pa.record_batch({"made": column})))
    return batch.dense_x[:, 0].tolist(), {one.reason: one.position.tolist() for one in rejected}


@pytest.mark.parametrize("unit", COUNTS)
@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string()])
def test_a_part_of_a_time_has_a_unit_of_its_own(unit: str, kind: pa.DataType) -> None:
    long_ago = COUNTS["s"] - 50 * 365 * 86_400  # 1974: of no unit that its size would show
    column = pa.array([int(long_ago * COUNTS[unit] / AT_S) for _ in range(2)]).cast(kind, safe=False)
    assert hours(column, unit=unit)[0] == [12.0, 12.0]
    assert hours(column)[1] == {"non-finite feature hour(made)": [0, 1]}


def test_a_column_has_one_unit_whoever_gives_it() -> None:
    clock = {"column": "ts", "transform": "hour"}
    rows = Block(pa.record_batch({"ts": [7_200, 10_800]}))
    for parts, time in (
        ([{**clock, "unit": "s"}, {"column": "ts", "transform": "weekday"}], None),
        ([clock], {"column": "ts", "unit": "s"}),
        ([{**clock, "unit": "s"}], "ts"),
        ([{**clock, "unit": "s"}], {"column": "ts", "unit": "s"}),
    ):
        features = Features.parse({"numeric": parts, "time": time})
        batch, rejected = features.to_batch(rows)
        assert (batch.dense_x[:, 0].tolist(), rejected) == ([2.0, 3.0], ())
        assert time is None or batch.time is not None
        assert Features.parse(features.to_dict()) == features
    for parts, time in (
        ([{**clock, "unit": "s"}], {"column": "ts", "unit": "ms"}),
        ([{**clock, "unit": "ms"}, {"column": "ts", "transform": "night", "unit": "s"}], None),
    ):
        with pytest.raises(
            InvalidValue, match=r"numeric and time must give the column 'ts' one unit; got m?s and m?s\."
        ):
            Features.parse({"numeric": parts, "time": time})


@pytest.mark.parametrize("unit", ["h", "S", 1])
def test_units_that_there_are_not(unit: Any) -> None:
    with pytest.raises(InvalidValue, match=r"Clock.unit must be one of 's', 'ms', 'us' or 'ns'; got"):
        Features.parse({"numeric": [{"column": "ts", "transform": "hour", "unit": unit}]})


def test_the_column_of_event_times_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read_columns: list[str] = []

    def counted(batch: pa.RecordBatch, name: str, *rest: Any) -> Any:
        read_columns.append(name)
        return times_us(batch, name, *rest)

    monkeypatch.setattr("beam_ml.features.features.times_us", counted)
    features = Features(numeric=[{"column": "ts", "transform": "hour"}], time={"column": "ts", "unit": "s"})  # type: ignore[list-item, arg-type]
    batch, _ = features.to_batch(Block(pa.record_batch({"ts": [AT_S]})))
    assert (batch.dense_x.tolist(), read_columns) == ([[12.0]], ["ts"])


def test_microseconds_and_a_given_unit_need_no_word(caplog: pytest.LogCaptureFixture) -> None:
    for unit, column in ((None, [AT_US]), ("s", [AT_S])):
        times_us(pa.record_batch({"quiet": column}), "quiet", "Features.time", unit)
    assert not [one for one in caplog.records if "quiet" in one.getMessage()]


@pytest.mark.parametrize("value", [0, 1, -1, 5_000_000, 86_400 * 10**6, 20_240_301, 2**63 - 1, -(2**63)])
def test_a_number_of_no_recognisable_unit_is_a_counted_reject(value: int) -> None:
    times, rejected = read(pa.array([AT_US, value]))
    assert times == [AT_US]
    assert rejected == {"implausible event time": [1]}


@pytest.mark.parametrize("unit", COUNTS)
@pytest.mark.parametrize("year", [1899, 2201, 9999])
def test_an_implausible_year_is_a_counted_reject_whatever_the_unit(unit: str, year: int) -> None:
    seconds = int((np.datetime64(f"{year}-06-01", "s")).astype(np.int64))
    per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    if abs(seconds * per) < 2**63:
        column = pa.array([COUNTS[unit], seconds * per])
        assert read(column, {"column": "ts", "unit": unit}) == ([AT_US], {"implausible event time": [1]})
        assert read(column.cast(pa.timestamp(unit))) == ([AT_US], {"implausible event time": [1]})
    extremes = pa.array([COUNTS[unit], 2**63 - 1, -(2**63)])
    assert read(extremes, {"column": "ts", "unit": unit}) == ([AT_US], {"implausible event time": [1, 2]})


def test_years_from_1900_to_2200_are_taken_where_the_unit_is_known() -> None:
    days = pa.array(["1900-01-01", "1970-01-01", "2200-12-31"]).cast(pa.date32())
    assert len(read(days)[0]) == 3
    assert read(pa.array([0, 7]), EventTime(column="ts", unit="us"))[0] == [0, 7]


def test_a_missing_number_is_not_implausible() -> None:
    assert read(pa.array([AT_S * 1.0, float("nan"), None]))[1] == {"missing event time": [1, 2]}
    assert read(pa.array([float("inf"), AT_S]))[1] == {"implausible event time": [0]}


def test_a_clock_on_the_event_time_has_its_unit() -> None:
    features = Features(numeric=[{"column": "ts", "transform": "hour"}], time={"column": "ts", "unit": "s"})
    assert features.columns() == ["ts"]
    batch, rejected = features.to_batch(Block(pa.record_batch({"ts": [3_600 * 5]})))
    assert rejected == ()
    assert batch.dense_x.tolist() == [[5.0]]
    alone = Features(numeric=[{"column": "ts", "transform": "hour"}])
    assert alone.to_batch(Block(pa.record_batch({"ts": [AT_S]})))[0].dense_x.tolist() == [[12.0]]
    (reject,) = alone.to_batch(Block(pa.record_batch({"ts": [5]})))[1]
    assert reject.reason == "non-finite feature hour(ts)"


@pytest.mark.parametrize(
    ("time", "sentence"),
    [
        (
            {"column": "ts", "unit": "sec"},
            r"^Features\.time\.unit must be one of 's', 'ms', 'us' or 'ns'; got 'sec'\.$",
        ),
        ({"column": "ts"}, r"^Features\.time\.unit must be given\.$"),
        ({"column": "ts", "unit": "s", "zone": "UTC"}, r"^Features\.time\.zone must not be given"),
        (
            5.5,
            r"^Features\.time must be a column's name, or a table such as \{ column = 'ts', unit = 's' \}; got 5.5\.$",
        ),
    ],
)
def test_a_wrong_unit_is_one_sentence(time: Any, sentence: str) -> None:
    with pytest.raises(InvalidValue, match=sentence):
        Features(numeric=["x"], time=time)


def test_settings_keep_their_form() -> None:
    bare = Features(numeric=["x"], time="ts")
    assert bare.to_dict()["time"] == "ts"
    with_unit = Features(numeric=["x"], time={"column": "ts", "unit": "s"})
    assert with_unit.to_dict()["time"] == {"column": "ts", "unit": "s"}
    assert Features.parse(with_unit.to_dict()) == with_unit
    assert (bare.time_column, with_unit.time_column) == ("ts", "ts")


@pytest.mark.parametrize("format", ["csv", "avro", "parquet"])
@pytest.mark.parametrize("unit", COUNTS)
def test_files_of_every_format_agree(tmp_path: Path, format: str, unit: str) -> None:
    path = str(tmp_path / f"rows.{format}")
    formats.write(path, [pa.record_batch({"ts": [COUNTS[unit]] * 2, "x": [1.0, 2.0]})])
    for time in ("ts", {"column": "ts", "unit": unit}):
        clock = {"column": "ts", "transform": "hour"} | ({} if time == "ts" else {"unit": unit})
        features = Features(numeric=[clock], time=time)
        (piece,) = formats.ranges(formats.list_files(path)[0], 1 << 20, format)
        (block,) = formats.read(piece, features.columns())
        batch, rejected = features.to_batch(block)
        assert batch.time is not None
        assert (batch.time.tolist(), rejected) == ([AT_US] * 2, ())
        assert batch.dense_x.tolist() == [[12.0]] * 2


@pytest.mark.parametrize("unit", COUNTS)
def test_messages_of_json_agree(unit: str) -> None:
    decode = formats.messages.decoder("json", {})
    found = decode(
        pa.array([b'{"ts": %d, "x": 1}' % COUNTS[unit], b'{"ts": %d.0, "x": 1.5}' % COUNTS[unit]]), ["ts", "x"]
    )
    batch, rejected = Features(numeric=["x"], time="ts").to_batch(Block(found.batch))
    assert batch.time is not None
    assert (batch.time.tolist(), rejected) == ([AT_US] * 2, ())


def test_int96_keeps_its_year(tmp_path: Path) -> None:
    from beam_ml.formats.parquet import files as parquet

    dates = np.array(["1816-03-29", "2024-03-01", "9999-12-31"], "datetime64[us]")
    path = tmp_path / "old.parquet"
    pq.write_table(pa.table({"ts": dates, "x": [1.0, 2.0, 3.0]}), path, use_deprecated_int96_timestamps=True)
    assert pq.ParquetFile(path).schema.column(0).physical_type == "INT96"
    (piece,) = formats.ranges(formats.list_files(str(path))[0], 1 << 20, "parquet")
    (block,) = formats.read(piece)
    held = parquet.decode(path.read_bytes())
    for found in (block, held):
        assert found.batch.column("ts").to_numpy(zero_copy_only=False).astype("datetime64[D]").astype(str).tolist() == [
            "1816-03-29", "2024-03-01", "9999-12-31",
        ]  # fmt: skip
        assert [one.position.tolist() for one in Features(numeric=["x"], time="ts").to_batch(found)[1]] == [[0, 2]]
