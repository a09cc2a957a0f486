"""JSON files: what is written comes back, what is read is what Python's json reads, and bad rows harm no others."""

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml import formats
from beam_ml.core.batch import Origin
from beam_ml.errors import InputChanged, InvalidValue, MissingColumn, UnreadableInput
from beam_ml.formats import Block
from beam_ml.formats import json as json_format
from beam_ml.formats.files import FileRange, stat
from beam_ml.formats.json import Options, stream

DENSE, SERIES = Options(form="dense"), Options(form="series")
SPARSE = Options(form="sparse", width=5)


def put(folder: Path, data: bytes, name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def read_all(
    path: str, target: int = 1 << 20, max_rows: int = 1 << 16, options: Options = json_format.DEFAULT, **more: Any
) -> tuple[list[FileRange], list[Block]]:
    pieces = json_format.ranges(stat(path), target, options)
    return pieces, [
        block for one in pieces for block in json_format.read(one, max_rows=max_rows, options=options, **more)
    ]


def entries(blocks: list[Block]) -> list[tuple[int, Any]]:
    """Return what stands at each place, a row or the reason why there is none; and check that blocks tile."""
    found: list[tuple[int, Any]] = []
    for before, after in itertools.pairwise(blocks):
        assert before.stop == after.start
    for block in blocks:
        block.batch.validate(full=True)
        found += zip(block.position.tolist(), block.to_dicts(), strict=True)
        for reject in block.rejected:
            found += [(at, reject.reason) for at in reject.position.tolist()]
            assert all(block.start <= at < block.stop for at in reject.position.tolist())
    return sorted(found, key=lambda one: one[0])


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(allow_nan=False), st.none() | st.text(max_size=5), st.none() | st.booleans()), min_size=1
    ),
    st.sampled_from(["lines", "document"]),
)
def test_what_is_written_comes_back(rows: list[tuple[Any, ...]], layout: Any) -> None:
    kinds = [("a", pa.float64()), ("b", pa.string()), ("c", pa.bool_())]
    batch = pa.RecordBatch.from_pylist(
        [dict(zip("abc", row, strict=True)) for row in rows], schema=pa.schema(kinds)
    )  # fmt: skip
    options = Options(types={"a": "float64", "b": "string", "c": "bool"}, layout=layout)
    found = json_format.decode(json_format.encode(batch, options), ["a", "b", "c"], options)
    expected = [
        {**row, "a": None if row["a"] in (float("inf"), float("-inf")) else row["a"]} for row in batch.to_pylist()
    ]
    assert found.to_dicts() == expected
    assert not found.rejected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.integers(0, 4), st.floats(allow_nan=False, allow_infinity=False).filter(bool), max_size=5),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["lines", "document"]),
)
def test_instances_come_back_dense_and_sparse(rows: list[dict[int, float]], layout: Any) -> None:
    pairs = [sorted(row.items()) for row in rows]
    batch = pa.record_batch(
        {"features": pa.array(pairs, pa.map_(pa.int32(), pa.float64())), "label": pa.array(range(len(rows)))}
    )
    for form in ("sparse", "dense"):
        options = Options(form=form, width=5, layout=layout)
        found = json_format.decode(json_format.encode(batch, options), options=options)
        features = found.batch.column("features").to_pylist()
        if form == "dense":
            features = [[(i, x) for i, x in enumerate(row) if x] for row in features]
        assert features == pairs
        assert found.batch.column("label").to_pylist() == list(range(len(rows)))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from("abcd"), VALUES, min_size=1), min_size=1, max_size=12))
def test_rows_are_those_of_pythons_json(rows: list[dict[str, Any]]) -> None:
    text = "\n".join(json.dumps(row) for row in rows).encode()
    found = json_format.decode(text)
    assert len(found) == len(rows)
    for ours, theirs in zip(found.to_dicts(), rows, strict=True):
        for name, value in ours.items():
            expected = theirs.get(name)
            if isinstance(value, str) and not isinstance(expected, str):
                value = float(value)  # beside texts, a number is spelled
            assert value == expected, (name, ours, theirs)


def test_numbers_are_those_of_pyarrows_reader(tmp_path: Path) -> None:
    lines = [json.dumps({"a": i, "b": i / 7, "c": f"t{i}", "d": {"e": i % 3 == 0}}) for i in range(5000)]
    path = put(tmp_path, "\n".join(lines).encode())
    _, blocks = read_all(path, 20_000, 700)
    ours = pa.Table.from_batches([one.batch for one in blocks])
    theirs = pyarrow.json.read_json(path).flatten()
    assert ours.column_names == theirs.column_names
    assert ours.equals(theirs)


@pytest.mark.parametrize("target", [1, 100, 1 << 20])
@pytest.mark.parametrize("max_rows", [1, 7, 1000])
def test_lines_are_the_same_however_they_are_cut(tmp_path: Path, target: int, max_rows: int) -> None:
    texts = [b'{"x": %d, "s": "%s"}%s' % (i, b"y" * (i % 50), b"\r" * (i % 2)) for i in range(200)]
    texts[20:20] = [b"", b"  ", b"{", b"[1]"]
    path = put(tmp_path, b"\n".join(texts))
    pieces, blocks = read_all(path, target, max_rows)
    assert (pieces[0].start, pieces[-1].stop) == (0, stat(path).size)
    assert entries(blocks) == entries(read_all(path)[1])
    assert sum(len(one) for one in blocks) == 200
    assert Counter(r.reason for one in blocks for r in one.rejected for _ in r.position) == {"malformed message": 2}
    assert (len(pieces) > 10) == (target < 1000)


@pytest.mark.parametrize("chunk", [1, 2, 5, 1 << 20])
def test_a_document_is_read_value_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    text = b'\xef\xbb\xbf [{"x": 1, "y": "a]},\\"["}, 7 ,\n{"x": {"z": [1]}},"tex\\"t",null, {"x": 2}] \n'
    monkeypatch.setattr(json_format.files, "_PIECE_BYTES", chunk)
    monkeypatch.setattr(stream, "HEAD_BYTES", 8)
    path = put(tmp_path, text, "rows.json")
    pieces, blocks = read_all(path, 1, columns=["x", "y"])
    assert len(pieces) == 1
    first, second = text.index(b'{"x": 1'), text.index(b'{"x": 2')
    assert [what for _, what in entries(blocks)] == [
        {"x": 1, "y": 'a]},"['}, "malformed message", "unparseable value", "malformed message", "malformed message",
        {"x": 2, "y": None},
    ]  # fmt: skip
    assert [at for at, what in entries(blocks) if isinstance(what, dict)] == [first, second]
    assert (blocks[0].start, blocks[-1].stop) == (0, len(text))


def test_documents_of_instances_may_say_more(tmp_path: Path) -> None:
    text = b'{"instances": [{"features": [1, 2]}, {"data": {"features": {"values": [3, 4]}}}], "configuration": {"a": [1]}}'
    _, blocks = read_all(put(tmp_path, text, "a.json"), options=DENSE)
    assert [row["features"] for one in blocks for row in one.to_dicts()] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b'[{"x": 1}', r"it ends at byte 9, within its array\.$"),
        (b"[1,,2]", r"no value or comma is at byte 3\.$"),
        (b'[{"x": 1} {"x": 2}]', r"no value or comma is at byte 10\.$"),
        (b"[1,]", r"no value or comma is at byte 3\.$"),
        (b'[{"x": 1}] [', r"what follows its array at byte 10 does not end it\.$"),
        (b'{"instances": [{"x": 1}], }', r"what follows its array at byte 24 does not end it\.$"),
        (b'{"instances": [{"x": 1}]', r"what follows its array at byte 24 does not end it\.$"),
        (b'[{"x": "', "within its array"),
    ],
)
def test_a_document_damaged_between_its_rows_is_unreadable(tmp_path: Path, text: bytes, sentence: str) -> None:
    with pytest.raises(UnreadableInput, match=sentence):
        read_all(put(tmp_path, text, "a.json"))


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.json", b'{"x": 1}\n{"x": 2}\n', 2),
        ("a.json", b'{\n  "x": 1\n}\n{\n "x": 2\n}\n', 2),
        ("a.json", b'{"x": 1}', 1),
        ("a.json", b'[\n{"x": 1}]', 1),
        ("a.json", b"[]", 0),
        ("a.json", b"", 0),
        ("a.jsonl", b"\n\n", 0),
        ("a.ndjson", b'\xef\xbb\xbf{"x": 1}\r\n{"x": 2}', 2),
    ],
)
def test_the_layout_shows_in_the_name_or_in_how_a_file_begins(
    tmp_path: Path, name: str, text: bytes, rows: int
) -> None:
    _, blocks = read_all(put(tmp_path, text, name))
    assert sum(len(one) for one in blocks) == rows
    assert not any(one.rejected for one in blocks)


BAD = [
    (b'{"x": NaN}', "unparseable value"),
    (b'{"x": -Infinity}', "unparseable value"),
    (b'{"x": 1e999}', "unparseable value"),
    (b'{"x": "\\ud800"}', "unparseable value"),
    (b'{"x": "\xff"}', "malformed message"),
    (b'{"x": 1', "malformed message"),
    (b'{"x": 1}{"x": 2}', "several rows in one"),
    (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "malformed message"),
    (b"null", "malformed message"),
    (b"\xef\xbb\xbf{}", "malformed message"),
    (b'{"x": [1]}', "unparseable value"),
    (b'{"x": {}}', "unparseable value"),
]


@pytest.mark.parametrize(("line", "reason"), BAD)
def test_a_bad_line_costs_itself(line: bytes, reason: str) -> None:
    good = b'{"x": 1}\n'
    found = json_format.decode(good * 40 + line + b"\n" + good * 40, ["x"])
    assert found.batch.column("x").to_pylist() == [1] * 80
    (reject,) = found.rejected
    begin = 40 * len(good)
    assert (reject.reason, reject.position.tolist()) == (reason, [begin])
    assert reject.position_end.tolist() == [begin + len(line) + 1]
    assert len(reject.detail[0]) < 500


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_long_row_is_passed_over_unheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(stream, "MAX_BYTES", 1000)
    monkeypatch.setattr(stream, "HEAD_BYTES", 10)
    monkeypatch.setattr(json_format.files, "_PIECE_BYTES", 100)
    long = b'{"x": "' + b"z" * 5000 + b'"}'
    good = b'{"x": "a"}'
    text = b"\n".join([good, long, good]) if name == "a.jsonl" else b"[" + b",".join([good, long, good]) + b"]"
    _, blocks = read_all(put(tmp_path, text, name))
    found = entries(blocks)
    assert [what for _, what in found] == [{"x": "a"}, json_format.files.LONG, {"x": "a"}]
    assert found[1][0] == text.index(long)


def test_no_more_of_a_long_value_is_held_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_BYTES", 1000)
    held: list[int] = []
    more = stream._Scan.more

    def watched(self: Any, chunk: bytes) -> Any:
        yield from more(self, chunk)
        held.append(len(self._held))

    monkeypatch.setattr(stream._Scan, "more", watched)
    chunks = [b"[", b'{"x": "', *[b"z" * 100] * 500, b'"}, {"x": 1}]']
    found = list(stream.in_document(chunks, "here"))
    assert [text for one in found for text in one.texts] == [b"", b'{"x": 1}']
    assert max(held) <= 1100


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".bz2"])
@pytest.mark.parametrize("layout", [".jsonl", ".json"])
def test_compressed_files_are_one_range_and_places_are_those_of_the_text(
    tmp_path: Path, ending: str, layout: str
) -> None:
    path = str(tmp_path / f"rows{layout}{ending}")
    formats.write(path, [pa.record_batch({"x": list(range(500))})])
    pieces, blocks = read_all(path, 100)
    assert (len(pieces) == 1) == (ending != "" or layout == ".json")
    assert [row["x"] for one in blocks for row in one.to_dicts()] == list(range(500))
    assert blocks[0].position[0] == (0 if layout == ".jsonl" else 2)


@pytest.mark.parametrize("ending", [".gz", ".bz2"])
def test_a_truncated_file_is_unreadable(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"rows.jsonl{ending}")
    formats.write(path, [pa.record_batch({"x": list(range(5000))})])
    put(tmp_path, Path(path).read_bytes()[:-10], f"cut.jsonl{ending}")
    with pytest.raises(UnreadableInput, match="cannot be read as JSON"):
        read_all(str(tmp_path / f"cut.jsonl{ending}"))


def test_a_file_that_changes_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, gzip.compress(b'{"x": 1}\n'), "a.jsonl.gz")
    (piece,) = json_format.ranges(stat(path), 100)
    put(tmp_path, gzip.compress(b'{"x": 1}\n{"x": 2}\n'), "a.jsonl.gz")
    with pytest.raises(InputChanged):
        list(json_format.read(piece))


def test_blocks_know_where_their_rows_are_from(tmp_path: Path) -> None:
    path = put(tmp_path, b'{"x": 1}\n')
    _, blocks = read_all(path, source="shop")
    assert blocks[0].origin == Origin("shop", path)


INSTANCES = [
    (b'{"features": [1, 0, 2.5, 0, 0]}', [1, 0, 2.5, 0, 0], None),
    (b'{"data": {"features": {"values": [1, 0, 2.5, 0, 0]}}, "label": 3}', [1, 0, 2.5, 0, 0], 3),
    (b'{"features": {"values": [1, 0, 2.5, 0, 0]}}', [1, 0, 2.5, 0, 0], None),
    (b'{"data": {"features": {"keys": [0, 2], "shape": [5], "values": [1, 2.5]}}}', [1, 0, 2.5, 0, 0], None),
    (b'{"features": {"keys": [], "shape": [5], "values": []}, "label": 0.5}', [0] * 5, 0.5),
]


@pytest.mark.parametrize(("line", "features", "label"), INSTANCES)
@pytest.mark.parametrize("copies", [1, 40])
def test_instances_are_read_however_they_are_spelled(line: bytes, features: Any, label: Any, copies: int) -> None:
    pairs = [(i, x) for i, x in enumerate(features) if x]
    text = b"\n".join([line] * copies)
    assert json_format.decode(text, options=SPARSE).to_dicts() == [{"features": pairs, "label": label}] * copies
    if b"keys" not in line:
        assert json_format.decode(text, options=DENSE).to_dicts() == [{"features": features, "label": label}] * copies


def test_instances_of_all_spellings_stand_beside_one_another() -> None:
    lines = [line for line, _, _ in INSTANCES] * 30
    found = json_format.decode(b"\n".join(lines), options=SPARSE)
    expected = [[(i, x) for i, x in enumerate(features) if x] for _, features, _ in INSTANCES] * 30
    assert found.batch.column("features").to_pylist() == expected


BAD_INSTANCES = [
    (b'{"features": [1, "a"]}', DENSE, "features must be numbers"),
    (b'{"features": [1, NaN]}', DENSE, "features must be numbers"),
    (b'{"features": 5}', DENSE, "features must be a list of numbers"),
    (b'{"label": 5}', DENSE, "no features"),
    (b'{"features": [1], "label": "a"}', DENSE, "label must be numbers"),
    (b'{"features": [1, 2, 3]}', Options(form="dense", width=2), "not 2 features but 3"),
    (b'{"features": {"keys": [1], "shape": [5], "values": [1]}}', DENSE, "a sparse instance where dense"),
    (b'{"features": {"keys": [1], "shape": [5], "values": [1, 2]}}', SPARSE, "1 keys of 2 values"),
    (b'{"features": {"keys": [5], "shape": [5], "values": [1]}}', SPARSE, "keys must be within the shape"),
    (b'{"features": {"keys": [-1], "shape": [5], "values": [1]}}', SPARSE, "keys must be within the shape"),
    (b'{"features": {"keys": [1, 1], "shape": [5], "values": [1, 2]}}', SPARSE, "keys must rise"),
    (b'{"features": {"keys": [1], "shape": [6], "values": [1]}}', SPARSE, "not 5 features but 6"),
    (b'{"features": {"keys": [1], "values": [1]}}', SPARSE, "shape must be a list of whole numbers"),
    (b'{"features": {"keys": [1.0], "shape": [5], "values": [1]}}', SPARSE, "keys must be a list of whole numbers"),
    (b'{"target": [1]}', SERIES, "start must be a text"),
    (b'{"start": "2024-01-01", "target": 5}', SERIES, "target must be a list"),
    (b'{"start": "2024-01-01", "target": [1], "dynamic_feat": [[1, null]]}', SERIES, "dynamic_feat must be numbers"),
    (b'{"start": "2024-01-01", "target": [1], "cat": ["a"]}', SERIES, "cat must be a list of whole numbers"),
]


@pytest.mark.parametrize(("line", "options", "words"), BAD_INSTANCES)
def test_a_bad_instance_costs_itself(line: bytes, options: Options, words: str) -> None:
    good = b'{"start": "2024-01-01", "target": [1]}\n' if options is SERIES else b'{"features": [1, 0, 0, 0, 2]}\n'
    good = b'{"features": [1, 2]}\n' if options.width == 2 else good
    for copies in (0, 40):
        found = json_format.decode(good * copies + line + b"\n" + good * copies, options=options)
        assert len(found) == 2 * copies
        (reject,) = found.rejected
        assert (reject.reason, reject.position.tolist()) == ("unparseable value", [copies * len(good)])
        assert words in reject.detail[0]


def test_series_are_list_columns_and_come_back() -> None:
    rows = [
        {
            "start": "2024-01-01 00:00:00",
            "target": [1, None, 2.5],
            "cat": [0, 3],
            "dynamic_feat": [[1, 2, 3], [4, 5, 6]],
        },
        {"start": "2024-02-01", "target": [], "cat": None, "dynamic_feat": None},
    ]
    text = b'{"start": "2024-03-01", "target": [1, "NaN", NaN], "cat": 4}'
    for copies in (1, 30):
        found = json_format.decode("\n".join(map(json.dumps, rows * copies)).encode() + b"\n" + text, options=SERIES)
        last = {"start": "2024-03-01", "target": [1, None, None], "cat": [4], "dynamic_feat": None}
        assert found.to_dicts() == [*rows * copies, last]
        again = json_format.decode(json_format.encode(found.batch, SERIES), options=SERIES)
        assert again.to_dicts() == found.to_dicts()


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    lists = pa.record_batch({"features": [[1.0, 2.0]]})
    maps = pa.record_batch({"features": pa.array([[(7, 1.0)]], pa.map_(pa.int32(), pa.float64()))})
    cases: list[tuple[pa.RecordBatch, Options, type[Exception], str]] = [
        (lists, Options(form="sparse"), InvalidValue, "must have a width"),
        (lists, Options(form="dense", width=3), InvalidValue, r"must have 3 features; got \[2\]"),
        (maps, Options(form="sparse", width=5), InvalidValue, r"must have features in \[0, 4\]; got 7 to 7"),
        (pa.record_batch({"label": [1]}), DENSE, MissingColumn, "must have a column 'features'"),
        (pa.record_batch({"features": [1]}), DENSE, InvalidValue, "features that are lists or maps of numbers"),
        (pa.record_batch({"features": [[1]], "x": [1]}), DENSE, InvalidValue, "must have columns of"),
        (pa.record_batch({"features": pa.array([None], pa.list_(pa.float64()))}), DENSE, InvalidValue, "none in a row"),
        (lists, json_format.DEFAULT, InvalidValue, "must be of a type that JSON has"),
    ]
    for batch, options, kind, words in cases:
        with pytest.raises(kind, match=words):
            json_format.write(str(tmp_path / "a.jsonl"), [batch], options)
        assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"width": 3}, "width must be absent unless form is"),
        ({"form": "series", "width": 3}, "width must be absent where form is 'series'"),
        ({"form": "dense", "types": {"a": "int64"}}, "types must be absent where form is 'dense'"),
        ({"form": "dense", "envelope": "connect"}, "envelope must be absent where form is 'dense'"),
        ({"form": "matrix"}, "form"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        Options.parse(given)


def test_a_column_that_the_form_does_not_have_is_missed(tmp_path: Path) -> None:
    path = put(tmp_path, b'{"features": [1]}\n')
    with pytest.raises(MissingColumn, match="must have a column 'x'"):
        read_all(path, options=DENSE, columns=["x"])
