"""libsvm messages: one or more lines, each is a row."""

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.formats.libsvm import text as libsvm_text
from beam_ml.formats.messages import decoder, encoder


def test_lines_bad_lines_and_messages_without_any() -> None:
    values = [b"1 qid:2 1:0.5\n0 3:2\n", b"", b"2:1", b"# no row\n\n", b"1 1:1\r\nx 1:1\n\n-1", b"1 2:1 1:1", b"\xff"]
    found = decoder("libsvm")(pa.array(values, pa.binary()))
    assert found.batch.to_pydict() == {
        "features": [[(0, 0.5)], [(2, 2.0)], [(1, 1.0)], [(0, 1.0)], []],
        "label": [1.0, 0.0, None, 1.0, -1.0],
        "qid": [2, None, None, None, None],
    }
    assert (found.message.tolist(), found.row.tolist()) == ([0, 0, 2, 4, 4], [0, 1, 0, 0, 2])
    assert [(one.reason, one.message.tolist(), one.row.tolist(), one.detail) for one in found.refused] == [
        ("empty message", [1, 3], [-1, -1], ("", "")),
        ("indices that do not rise", [5], [0], ("'1 2:1 1:1'",)),
        ("malformed label", [4], [1], ("'x 1:1'",)),
        ("text that is not UTF-8", [6], [0], ("'\ufffd'",)),
    ]


@pytest.mark.parametrize("rows", [1, 3, 1 << 16])
@pytest.mark.parametrize("columns", [None, ["label"], []])
def test_what_becomes_of_a_message_does_not_depend_on_its_neighbours(
    rows: int, columns: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beam_ml.formats.libsvm.messages._ROWS", rows)
    monkeypatch.setattr(libsvm_text, "MAX_BYTES", 30)
    rng = np.random.default_rng(0)
    kinds = [
        b"1 1:1", b"1 1:1\n", b"\n\r\n1 1:1\r", b"", b"\r", b"#", b"1 1:1\n2 2:1e-300\n?\n3", b"1 #\xc3", b"\xa9 1:1",
        b"1 #" + b"x" * 27, b"1 #" + b"x" * 28, b"1 #" + b"x" * 28 + b"\n1 1:1", b"1\x00",
    ]  # fmt: skip
    values = [kinds[i] for i in rng.integers(len(kinds), size=80)]
    decode = decoder("libsvm")
    found = decode(pa.array([b"xy", *values, b"z"], pa.binary()).slice(1, len(values)), columns)
    together = list(zip(found.message.tolist(), found.row.tolist(), found.batch.to_pylist(), strict=True))
    refused = {(int(i), one.reason, int(j)) for one in found.refused for i, j in zip(one.message, one.row, strict=True)}
    alone, bad = [], set()
    for i, value in enumerate(values):
        one = decode(pa.array([value], pa.binary()), columns)
        alone += [(i, row, entry) for row, entry in zip(one.row.tolist(), one.batch.to_pylist(), strict=True)]
        bad |= {(i, r.reason, int(j)) for r in one.refused for j in r.row}
    assert together == alone
    assert refused == bad
    assert libsvm_text.LONG in {reason for _, reason, _ in bad}


@pytest.mark.parametrize("per_message", [1, 2, 3, 10])
@pytest.mark.parametrize("first_index", [0, 1])
def test_rows_written_as_messages_come_back(per_message: int, first_index: int) -> None:
    kind = pa.map_(pa.int32(), pa.float64())
    rows = pa.record_batch({"features": pa.array([[(i, 0.5)] for i in range(5)], kind), "label": np.arange(5.0)})
    written = encoder("libsvm", {"first_index": first_index})(rows, per_message)
    assert len(written) == -(-5 // per_message)
    assert written[0].startswith(b"0 %d:0.5" % first_index)
    found = decoder("libsvm", {"first_index": first_index})(pa.array(written), ["features", "label"])
    assert found.batch.equals(rows)
    assert found.refused == ()


def test_no_messages_and_no_rows() -> None:
    found = decoder("libsvm")(pa.array([], pa.binary()))
    assert (found.batch.num_rows, found.refused) == (0, ())
    assert encoder("libsvm")(pa.record_batch({"features": pa.array([], pa.list_(pa.float32()))})) == []
