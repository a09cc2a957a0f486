"""Rows of files in order of event time, and the command's refusals; nothing here needs a broker."""

import datetime
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import toy_lines
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.beam.kafka.replay import Replay
from beam_ml.beam.kafka.replay import replay as replay_rows
from beam_ml.cli import replay
from beam_ml.cli.event_order import Input, Rows, in_order, read, stamp, survey
from beam_ml.cli.simulate import write_days
from beam_ml.errors import InputChanged, MissingColumn, NoInput, UnreadableInput
from beam_ml.formats import messages
from beam_ml.formats.avro import files
from beam_ml.formats.parquet import files as parquet
from beam_ml.formats.table import of_files
from tests.beam.kafka.support import Producer, writer

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def batch(times: np.ndarray, ids: np.ndarray) -> pa.RecordBatch:
    return pa.record_batch({"id": ids, "at": pa.array(times, pa.timestamp("us", tz="UTC"))})


def blocks(times: np.ndarray, cuts: list[int]) -> list[Rows]:
    edges = [0, *sorted(cuts), len(times)]
    ids = np.arange(len(times))
    return [(batch(times[a:b], ids[a:b]), times[a:b]) for a, b in itertools.pairwise(edges) if a < b]


def joined(rows: list[Rows]) -> tuple[list[int], list[int]]:
    ids = [i for one, _ in rows for i in one.column("id").to_pylist()]
    return ids, [t for _, time in rows for t in time.tolist()]


def write(path: Path, times: np.ndarray, group: int = 500) -> str:
    parquet.write(str(path), [batch(times, np.arange(len(times)))], row_group_rows=group)
    return str(path)


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=60), st.data())
def test_rows_within_reach_are_sorted_stably_and_none_is_lost(values: list[int], data: st.DataObject) -> None:
    times = np.array(values, dtype=np.int64)
    cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=6))
    found = list(in_order(blocks(times, cuts), sort_rows=2 * len(values) + 2))
    ids, given_times = joined(found)
    assert ids == np.argsort(times, kind="stable").tolist()
    assert given_times == sorted(values)


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=80), st.integers(0, 20), st.data())
def test_rows_beyond_reach_are_refused_never_sent_out_of_order(
    values: list[int], sort_rows: int, data: st.DataObject
) -> None:
    times = np.array(values, dtype=np.int64)
    cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=8))
    found: list[Rows] = []
    refused = None
    try:
        found.extend(in_order(blocks(times, cuts), sort_rows))
    except UnreadableInput as error:
        refused = str(error)
    if refused is None:
        assert sorted(joined(found)[0]) == list(range(len(values)))
    else:
        assert "must be in order of event time" in refused
        # How far the rows are out of place at most, which the buffer promises to mend.
        reach = max(int((times[:i] > t).sum()) for i, t in enumerate(times))
        assert reach > sort_rows // 2
    assert joined(found)[1] == sorted(joined(found)[1])
    for one, time in found:
        assert (one.column("at").cast(pa.int64()).to_numpy() == time).all()


def test_rows_almost_in_order_need_a_buffer_as_large_as_they_are_out_of_place() -> None:
    rng = np.random.default_rng(5)
    times = np.arange(5_000) * 1000 + rng.integers(0, 40_000, 5_000)
    cut = list(range(100, 5_000, 100))
    ids, given_times = joined(list(in_order(blocks(times, cut), 200)))
    assert given_times == np.sort(times).tolist()
    assert sorted(ids) == list(range(5_000))
    with pytest.raises(UnreadableInput, match=r"raise --sort-rows, now 4\)"):
        list(in_order(blocks(times, cut), 4))


def test_the_buffer_holds_no_more_than_it_says() -> None:
    asked, held = 0, 0

    def counted() -> list[Rows]:
        nonlocal asked
        for one in blocks(np.arange(10_000), list(range(100, 10_000, 100))):
            asked += len(one[1])
            yield one

    given_rows = 0
    for _, time in in_order(counted(), 1_000):
        held = max(held, asked - given_rows)
        given_rows += len(time)
    assert given_rows == 10_000
    assert held <= 1_100


@pytest.mark.parametrize("ending", ["parquet", "csv", "avro"])
def test_survey_and_read_agree_whatever_the_format(tmp_path: Path, ending: str) -> None:
    times = np.arange(1_000) * 1_000_000 + 1_500_000_000_000_000
    path = str(tmp_path / f"rows.{ending}")
    if ending == "csv":
        pyarrow.csv.write_csv(pa.table(batch(times, np.arange(1_000))), path)
    else:
        {"parquet": parquet, "avro": files}[ending].write(path, [batch(times, np.arange(1_000))])
    wanted = Input(path, "at", begin_us=int(times[10]), end_us=int(times[990]))
    found = survey(wanted)
    assert (found.rows, found.first_us, found.last_us, found.in_order) == (980, times[10], times[989], True)
    ids, given_times = joined(list(read(wanted, found)))
    assert ids == list(range(10, 990))
    assert given_times == times[10:990].tolist()


def test_files_of_a_format_outside_the_package_are_replayed(tmp_path: Path) -> None:
    times = np.random.default_rng(3).permutation(300) * 1_000_000 + 1_500_000_000_000_000
    rows = pa.record_batch({"id": np.arange(300.0), "at": times.astype(np.float64)})
    for name, part in (("1.lines", rows.slice(0, 200)), ("2.lines", rows.slice(200))):
        of_files("toy_lines:FORMAT").module.write(str(tmp_path / name), [part], toy_lines.Options(separator=";"))
    given_files = Input(str(tmp_path), "at", "toy_lines:FORMAT", {"separator": ";"})
    producer = Producer()
    box = writer(producer)
    encode = messages.encoder("json")
    sent = replay_rows(read(given_files, survey(given_files)), box, Replay(7, speed=None), encode, [0, 1])
    assert (sent.rows, sent.messages, sent.last_us, sent.whole) == (300, 43, times.max(), True)
    decoded = messages.decoder("json")(pa.array([message["value"] for message in producer.sent], pa.binary()))
    assert not decoded.refused
    assert decoded.batch.column("id").to_pylist() == np.argsort(times).tolist()
    assert decoded.batch.column("at").to_pylist() == sorted(times.tolist())


def test_a_disordered_file_is_sorted_and_said_to_be(tmp_path: Path) -> None:
    times = np.random.default_rng(1).permutation(3_000) * 1_000_000
    wanted = Input(write(tmp_path / "rows.parquet", times), "at")
    found = survey(wanted)
    assert not found.in_order
    ids, given_times = joined(list(read(wanted, found)))
    assert given_times == sorted(times.tolist())
    assert ids == np.argsort(times).tolist()


def test_a_disordered_file_beyond_the_buffer_is_refused_before_anything_is_given(tmp_path: Path) -> None:
    times = np.arange(200_000)
    times[150_000] = 5
    path = write(tmp_path / "rows.parquet", times)
    with pytest.raises(UnreadableInput, match="or at most 500 rows out of place"):
        survey(Input(path, "at", sort_rows=1_000))
    assert survey(Input(path, "at")).rows == 200_000


def test_several_files_are_one_stream_in_order_of_their_names(tmp_path: Path) -> None:
    list(write_days(str(tmp_path), 3, 300, 100))
    wanted = Input(str(tmp_path), "TX_DATETIME", columns=("TRANSACTION_ID",))
    found = survey(wanted)
    assert found.in_order
    rows = list(read(wanted, found))
    assert [one.schema.names for one, _ in rows] == [["TRANSACTION_ID", "TX_DATETIME"]] * len(rows)
    assert [i for one, _ in rows for i in one.column(0).to_pylist()] == list(range(found.rows))


def test_rows_without_an_event_time_are_left_out_and_counted(tmp_path: Path) -> None:
    table = pa.record_batch({"id": [1, 2, 3], "at": pa.array([10, None, 30], pa.timestamp("us"))})
    parquet.write(str(tmp_path / "rows.parquet"), [table])
    wanted = Input(str(tmp_path / "rows.parquet"), "at")
    found = survey(wanted)
    assert (found.rows, found.undated, found.first_us, found.last_us) == (2, 1, 10, 30)
    assert joined(list(read(wanted, found))) == ([1, 3], [10, 30])


def test_malformed_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,at\n1,1700000000000010\n2\n3,1700000000000030\n")
    wanted = Input(str(tmp_path / "rows.csv"), "at")
    found = survey(wanted)
    assert (found.rows, sum(found.malformed.values())) == (2, 1)
    assert joined(list(read(wanted, found))) == ([1, 3], [1_700_000_000_000_010, 1_700_000_000_000_030])


def test_a_unit_that_is_given_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,at\n1,100000\n2,100007\n")
    wanted = Input(str(tmp_path / "rows.csv"), "at", unit="s")
    found = survey(wanted)
    assert (found.first_us, found.last_us) == (100_000 * 10**6, 100_007 * 10**6)
    guessed = survey(Input(str(tmp_path / "rows.csv"), "at"))
    assert (guessed.rows, guessed.undated) == (0, 2)


def test_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    parquet.write(str(tmp_path / "1.parquet"), [pa.record_batch({"id": [1], "at": [10]})])
    parquet.write(str(tmp_path / "2.parquet"), [pa.record_batch({"id": ["one"], "at": [20]})])
    wanted = Input(str(tmp_path), "at")
    with pytest.raises(
        UnreadableInput, match=r"2.parquet must have the columns and types of what was read before, id int64"
    ):
        list(read(wanted, survey(wanted)))


def test_a_file_that_changes_between_the_look_and_the_reading_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", np.arange(100))
    wanted = Input(path, "at")
    reading = read(wanted, survey(wanted))
    next(reading)
    write(tmp_path / "rows.parquet", np.arange(200))
    with pytest.raises(InputChanged):
        list(reading)


def test_no_file_and_no_column(tmp_path: Path) -> None:
    with pytest.raises(NoInput):
        survey(Input(str(tmp_path), "at"))
    with pytest.raises(MissingColumn):
        survey(Input(write(tmp_path / "rows.parquet", np.arange(3)), "when"))


def test_stamp_of_a_time_before_the_epoch() -> None:
    assert stamp(-1) == "1969-12-31 23:59:59"
    assert stamp(0) == f"{EPOCH:%Y-%m-%d %H:%M:%S}"


WHERE = ["--brokers", "127.0.0.1:1", "--topic", "t", "--time", "at"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--speed", "fast"], "InvalidValue: --speed must be a number greater than 0, or 'max'; got 'fast'."),
        (["--speed", "0"], "InvalidValue: speed must be greater than 0, or 'max'; got 0."),
        (["--speed", "nan"], "InvalidValue: speed must be greater than 0, or 'max'; got nan."),
        (["--from", "yesterday"], "InvalidValue: --from must be a date or time such as 2018-04-01"),
        (["--partitions-by", "key"], "InvalidValue: partitions by key need a key; got none."),
        (["--key", "id", "--rows-per-message", "5"], "InvalidValue: rows_per_message must be 1 where there is a key"),
        (["--rows-per-message", "0"], "InvalidValue: rows_per_message must be >= 1; got 0."),
        (["--client", "acks"], "InvalidValue: --client must be name=value; got 'acks'."),
        (["--file-options", "[]"], "InvalidValue: --file-options must be a JSON object; got '[]'."),
        (["--file-options", '{"delimeter": ";"}'], "InvalidValue: options must be left out with parquet files"),
        (["--sort-rows", "0"], "InvalidValue: --sort-rows must be >= 1; got 0."),
        (["--until", "1969-01-01"], "NoInput: "),
        (["--time", "when"], "MissingColumn: "),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    path = write(tmp_path / "rows.parquet", np.arange(10))
    result = CliRunner().invoke(replay.main, [path, *WHERE, *arguments], env={"COLUMNS": "300"})
    assert result.exit_code == 1, result.output
    assert sentence in result.output
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_times_and_client_options_are_read() -> None:
    assert replay._time_us("--from", "1970-01-02") == 86_400_000_000
    assert replay._time_us("--from", "1970-01-01T01:00:00.000001+01:00") == 1
    assert replay._client(["linger_ms=5", "security_protocol=SSL", "ssl_check_hostname=false", "a=b=c"]) == {
        "linger_ms": 5, "security_protocol": "SSL", "ssl_check_hostname": False, "a": "b=c",
    }  # fmt: skip
    assert replay._speed("max") is None


def test_the_help_warns_of_retention() -> None:
    result = CliRunner().invoke(replay.main, ["--help"], terminal_width=200)
    text = " ".join(result.output.split())
    assert "retention.ms" in text
    assert "Nothing is resumed" in text
