"""Footers of Parquet that claim more rows than there are."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml import formats
from beam_ml.errors import UnreadableInput
from beam_ml.formats import parquet

ROWS = 1_234_567


def varint(value: int) -> bytes:
    """Return a whole number as Parquet's footer has it: zigzag, seven bits a byte."""
    left, found = value << 1, bytearray()
    while left > 127:
        found.append(left & 127 | 128)
        left >>= 7
    return bytes([*found, left])


def claiming(rows: int) -> bytes:
    """Return a file of ROWS rows whose footer claims others."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": pa.nulls(ROWS, pa.float64())}), sink, row_group_size=ROWS)
    data = sink.getvalue().to_pybytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8]
    assert varint(ROWS) in footer
    footer = footer.replace(varint(ROWS), varint(rows))
    return data[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("rows", [2**40, 2**60, 2**62])
def test_a_footer_that_claims_too_many_rows_is_refused(tmp_path: Path, rows: int) -> None:
    data = claiming(rows)
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with pytest.raises(UnreadableInput, match=rf"its footer claims {rows} rows in {len(data)} bytes"):
        formats.ranges(formats.stat(str(path)), 65_536)
    with pytest.raises(UnreadableInput, match="its footer claims"):
        parquet.decode(data)


def test_many_rows_of_one_value_are_no_lie() -> None:
    assert len(parquet.decode(claiming(ROWS))) == ROWS
