"""CSV without header: a label, if any, and features by position, in files and messages."""

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.formats.block import Block
from beam_ml.formats.csv import Options, decode, encode, files, message_decoder, message_encoder, write
from beam_ml.formats.files import stat

numbers = st.floats(width=64, allow_nan=False, allow_infinity=False)


def by_position(width: int, **more: Any) -> Options:
    return Options(header=False, width=width, **more)


def put(folder: Path, text: bytes, name: str = "a.csv") -> str:
    path = folder / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return str(path)


def read_all(path: str, options: Options, target: int = 1 << 30, max_rows: int = 65_536) -> list[Block]:
    pieces = files.ranges(stat(path), target, options)
    return [block for piece in pieces for block in files.read(piece, None, max_rows, options=options)]


def rows(blocks: list[Block]) -> list[list[float]]:
    """Each row as the numbers of its line."""
    return [
        [one["label"], *one["features"]] if "label" in one else one["features"]
        for block in blocks
        for one in block.batch.to_pylist()
    ]


def rejects(blocks: list[Block]) -> list[tuple[int, int, str]]:
    return sorted(
        (int(a), int(b), one.reason)
        for block in blocks
        for one in block.rejected
        for a, b in zip(one.position, one.position_end, strict=True)
    )


@settings(max_examples=80, deadline=None)
@given(
    X=st.integers(1, 4).flatmap(lambda d: st.lists(st.lists(numbers, min_size=d, max_size=d), min_size=1, max_size=30)),
    label_size=st.sampled_from([0, 1]),
    target=st.integers(1, 80),
    max_rows=st.integers(1, 9),
    ending=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    last=st.booleans(),
    quoted=st.booleans(),
)
def test_files_cut_anywhere_are_what_numpy_reads(
    tmp_path_factory: pytest.TempPathFactory,
    X: list[list[float]],
    label_size: int,
    target: int,
    max_rows: int,
    ending: str,
    mark: bool,
    last: bool,
    quoted: bool,
) -> None:
    line = [",".join(f'"{v!r}"' if quoted and i % 2 else repr(v) for i, v in enumerate(row)) for row in X]
    text = ending.join(line) + (ending if last else "")
    lead = b"\xef\xbb\xbf" if mark else b""
    width = len(X[0]) - label_size
    if width == 0:
        width, label_size = 1, 0
    options = by_position(width, label_size=label_size)
    path = put(tmp_path_factory.mktemp("p"), lead + text.encode())
    known = np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2, quotechar='"')
    for blocks in (read_all(path, options), read_all(path, options, target, max_rows)):
        found = np.array(rows(blocks))
        assert found.tobytes() == known.tobytes()
        assert rejects(blocks) == []
        places = np.concatenate([block.position for block in blocks])
        ends = np.concatenate([block.position_end for block in blocks])
        assert places[0] == len(lead)
        assert places[1:].tolist() == ends[:-1].tolist()
        assert ends[-1] == len(lead) + len(text)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("target", [1, 9, 1 << 20])
def test_a_header_is_a_reject_that_says_so(tmp_path: Path, name: str, mark: bytes, target: int) -> None:
    text = mark + b"y,a,b\r\n1,2,3\r\ny,a,b\r\n0,1\r\n0,4,5\r\n"
    blocks = read_all(put(tmp_path, text, name), by_position(2), target)
    assert rows(blocks) == [[1.0, 2.0, 3.0], [0.0, 4.0, 5.0]]
    k = len(mark)
    assert rejects(blocks) == [
        (k, k + 7, "unparseable value, perhaps a header"),
        (k + 14, k + 21, "unparseable value"),
        (k + 21, k + 26, "malformed line"),
    ]
    assert "'y,a,b'" in next(one for b in blocks for one in b.rejected if one.reason.endswith("header")).detail[0]


def test_a_header_of_another_number_of_fields(tmp_path: Path) -> None:
    blocks = read_all(put(tmp_path, b"id,y,a\n1,2\n"), by_position(1))
    assert rows(blocks) == [[1.0, 2.0]]
    assert rejects(blocks) == [(0, 7, "malformed line, perhaps a header")]


def test_the_first_line_settles_nothing(tmp_path: Path) -> None:
    blocks = read_all(put(tmp_path, b"1\n1,2,3,4\n1,2,3\n\n7,8.5,1e3\n"), by_position(2))
    assert rows(blocks) == [[1.0, 2.0, 3.0], [7.0, 8.5, 1000.0]]
    assert [reason for _, _, reason in rejects(blocks)] == ["malformed line, perhaps a header", "malformed line"]


def test_only_wanted_columns_are_converted_in_the_order_asked() -> None:
    text, options = b"?,1,2\n1,3,?\n", by_position(2)
    assert decode(text, ["features"], options).batch.to_pydict() == {"features": [[1.0, 2.0]]}
    assert decode(text, ["label"], options).batch.to_pydict() == {"label": [1.0]}
    assert decode(b"1,2,3\n", ["features", "label"], options).batch.schema.names == ["features", "label"]
    with pytest.raises(MissingColumn, match=r"must have a column 'label'; got \['features'\]\.$"):
        decode(text, ["label"], by_position(3, label_size=0))


def test_empty_fields_and_files() -> None:
    block = decode(b",1,\n2,,3\n", None, by_position(2))
    assert block.batch["label"].to_pylist() == [None, 2.0]
    np.testing.assert_array_equal(np.array(block.batch["features"].to_pylist()), [[1.0, np.nan], [np.nan, 3.0]])
    for text in (b"", b"\xef\xbb\xbf", b"\n\r\n"):
        assert len(decode(text, None, by_position(2))) == 0


def test_labels_that_are_texts() -> None:
    text = b'fraud,1\n"no, it is not",2\n'
    for more in ({"types": {"label": "string"}}, {"labels": ("label",)}):
        block = decode(text, None, by_position(1, **more))
        assert block.batch.to_pydict() == {"label": ["fraud", "no, it is not"], "features": [[1.0], [2.0]]}


def test_column_names_without_header_are_as_before() -> None:
    options = Options(header=False, column_names=("a", "b"))
    assert decode(b"1,x\n", None, options).batch.to_pydict() == {"a": [1], "b": ["x"]}
    assert encode(pa.record_batch({"a": [1], "b": [2]}), options) == b"1,2\n"


def test_columns_without_names_are_called_by_their_places() -> None:
    options = Options(header=False, delimiter=";")
    text = b'1;"a;b";2.5\n2;c;\n3;too;many;fields\n'
    block = decode(text, None, options)
    assert block.batch.to_pydict() == {"0": [1, 2], "1": ["a;b", "c"], "2": [2.5, None]}
    assert [(one.reason, one.position.tolist()) for one in block.rejected] == [("malformed line", [17])]
    assert decode(b"\xef\xbb\xbf7,8\n", ["1"], Options(header=False)).batch.to_pydict() == {"1": [8]}
    assert encode(pa.record_batch({"0": [1], "1": [2]}), Options(header=False)) == b"1,2\n"
    with pytest.raises(MissingColumn, match=r"must have a column '2'; got \['0', '1'\]"):
        decode(b"7,8\n", ["2"], Options(header=False))


def test_a_byte_order_mark_before_a_quoted_first_row() -> None:
    options = Options(column_names=("a", "b"))
    assert decode(b'\xef\xbb\xbf"x\ny",2\n', None, options).batch.to_pydict() == {"a": ["x\ny"], "b": [2]}


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"header": False, "label_size": 0}, "label_size must be absent unless header = false, width is given"),
        ({"width": 3}, "width must be absent unless header = false"),
        ({"label_size": 0}, "label_size must be absent unless header = false"),
        ({"header": False, "column_names": ["a"], "width": 1}, "width must be absent"),
        ({"header": False, "width": 3, "label_size": 2}, "label_size must be"),
        ({"header": False, "width": 0}, "width must be"),
        ({"header": False, "width": 2, "types": {"f0": "int64"}}, "types must name no column but the label's"),
        ({"header": False, "width": 2, "label_size": 0, "types": {"label": "int64"}}, "types must name no column"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidValue, match=rule):
        Options.parse(options)


def test_messages_are_lines_by_position() -> None:
    read = message_decoder({"header": False, "width": 2})
    values = [b"1,2,3", b"y,a,b\r\n0,4,5\n", b"\xef\xbb\xbf1,6,7", b"1,2", b"", b'1,"8",9']
    found = read(pa.array(values, pa.binary()))
    assert found.batch.to_pydict() == {
        "label": [1.0, 0.0, 1.0, 1.0],
        "features": [[2.0, 3.0], [4.0, 5.0], [6.0, 7.0], [8.0, 9.0]],
    }
    assert found.message.tolist() == [0, 1, 2, 5]
    assert found.row.tolist() == [0, 1, 0, 0]
    refused = {one.reason: (one.message.tolist(), one.row.tolist()) for one in found.refused}
    assert refused == {
        "unparseable value": ([1], [0]),
        "malformed line": ([3], [0]),
        "empty message": ([4], [-1]),
    }
    assert read(pa.array(values[:1], pa.binary()), ["features"]).batch.schema.names == ["features"]
    bare = message_decoder({"header": False, "width": 3, "label_size": 0})
    assert bare(pa.array([b"1,2,3"], pa.binary())).batch.to_pydict() == {"features": [[1.0, 2.0, 3.0]]}
    with pytest.raises(MissingColumn, match="must hold 'label'"):
        bare(pa.array([b"1,2,3"], pa.binary()), ["label"])


@pytest.mark.parametrize("label_size", [0, 1])
@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float64(), 3), pa.map_(pa.int32(), pa.float64())])
def test_what_is_written_is_what_is_read(tmp_path: Path, label_size: int, kind: pa.DataType) -> None:
    X = np.random.default_rng(0).normal(size=(50, 3))
    X[::7, 1] = 0
    lists = [list(enumerate(row)) for row in X.tolist()] if pa.types.is_map(kind) else X.tolist()
    batch = pa.record_batch({"features": pa.array(lists, kind)} | ({"label": np.arange(50.0)} if label_size else {}))
    options = by_position(3, label_size=label_size)
    known = np.column_stack([np.arange(50.0), X]) if label_size else X
    for name in ("a.csv", "a.csv.gz"):
        write(str(tmp_path / name), [batch.slice(0, 20), batch.slice(20)], options)
        assert np.array_equal(np.array(rows(read_all(str(tmp_path / name), options))), known)
        assert np.array_equal(np.loadtxt(tmp_path / name, delimiter=","), known)
    told = {"header": False, "width": 3, "label_size": label_size}
    messages = message_encoder(told)(batch, 7)
    assert len(messages) == 8
    found = message_decoder(told)(pa.array(messages, pa.binary()))
    assert np.array_equal(np.array(found.batch["features"].to_pylist()), X)


@pytest.mark.parametrize(
    ("batch", "error", "rule"),
    [
        ({"label": [1]}, MissingColumn, r"must have columns \['label', 'features'\]; got \['label'\]"),
        ({"features": [[1.0, 2.0]]}, MissingColumn, "must have columns"),
        ({"features": [[1.0, 2.0]], "label": [1], "id": [1]}, InvalidValue, "must have no columns but"),
        ({"features": [1.0], "label": [1]}, InvalidValue, "lists or maps of numbers; got double"),
        ({"features": [[1.0]], "label": [1]}, InvalidValue, "must have 2 features; got a row of 1"),
        ({"features": [[1.0, 2.0], None], "label": [1, 2]}, InvalidValue, "must have 2 features; got a row without"),
    ],
)
def test_rows_that_do_not_fit_are_not_written(batch: dict[str, Any], error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        encode(pa.record_batch(batch), by_position(2))


@pytest.mark.parametrize(
    ("row", "rule"), [([(2, 1.0)], "got feature 2"), ([(1, 1.0), (0, 1.0)], "must have features that rise")]
)
def test_sparse_rows_that_do_not_fit_are_not_written(row: list[tuple[int, float]], rule: str) -> None:
    batch = pa.record_batch({"features": pa.array([row], pa.map_(pa.int32(), pa.float64())), "label": [1]})
    with pytest.raises(InvalidValue, match=rule):
        encode(batch, by_position(2))
