"""Times that no text says are refused wherever rows become text, and never spelt as others."""

from pathlib import Path

import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.errors import InvalidValue
from beam_ml.formats import csv, json
from beam_ml.formats.csv.messages import message_encoder as csv_messages
from beam_ml.formats.json.messages import message_encoder as json_messages

FAR = [
    pa.array([0, 2**62], pa.timestamp("us")),
    pa.array([0, -(2**62)], pa.timestamp("ms", tz="UTC")),
    pa.array([0, 2**40], pa.timestamp("s")).dictionary_encode(),
    pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32()),
    pa.array([0, 2**62], pa.int64()).view(pa.date64()),
]


@pytest.mark.parametrize("column", FAR, ids=lambda one: str(one.type))
def test_a_far_time_is_refused_by_column_row_and_value(tmp_path: Path, column: pa.Array) -> None:
    rows = pa.record_batch({"x": [1.0, 2.0], "t": column})
    path = tmp_path / "a"
    for write in (
        lambda: formats.write(f"{path}.csv", [rows]),
        lambda: formats.write(f"{path}.jsonl", [rows]),
        lambda: csv.encode(rows),
        lambda: json.encode(rows),
        lambda: csv_messages({"column_names": ["t", "x"]})(rows, 1),
        lambda: json_messages({})(rows, 1),
    ):
        with pytest.raises(
            InvalidValue, match=r"^Times written as text must be .*; got -?\d+ \(.*\) in row 1 of column 't'\.$"
        ):
            write()
    assert not list(tmp_path.iterdir())


def test_times_at_the_edges_are_written_and_read_again() -> None:
    edges = pa.array([-62_135_596_800, 253_402_300_799, None], pa.timestamp("s"))
    assert csv.encode(pa.record_batch({"t": edges})).splitlines()[1:3] == [
        b"0001-01-01 00:00:00",
        b"9999-12-31 23:59:59",
    ]
