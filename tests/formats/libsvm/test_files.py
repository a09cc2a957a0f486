"""libsvm files: what is written comes back, what is read is what scikit-learn reads, and bad lines harm no others."""

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from beam_ml.core.batch import Origin
from beam_ml.errors import InvalidValue, MissingColumn, UnreadableInput
from beam_ml.formats import Block, libsvm, lines
from beam_ml.formats.files import FileRange, stat
from beam_ml.formats.libsvm import files
from beam_ml.formats.libsvm import text as libsvm_text

SPARSE = pa.map_(pa.int32(), pa.float64())


def rows(features: Any, kind: pa.DataType = SPARSE, **more: Any) -> pa.RecordBatch:
    return pa.record_batch({"features": pa.array(features, kind), **more})


def put(folder: Path, data: bytes, name: str = "a.libsvm") -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def read_all(path: str, target: int = 1 << 30, **given: Any) -> tuple[list[FileRange], list[Block]]:
    """Read a file range by range, whose blocks tile each."""
    pieces = libsvm.ranges(stat(path), target)
    blocks = []
    for piece in pieces:
        at = piece.start
        for block in libsvm.read(piece, **given):
            assert block.start == at
            for begin, end in (
                (block.position, block.position_end),
                *((r.position, r.position_end) for r in block.rejected),
            ):
                assert (begin >= at).all()
                assert (begin < end).all()
                assert (end <= block.stop).all()
            at = block.stop
            blocks.append(block)
        assert at == piece.stop
    assert [one.stop for one in pieces[:-1]] == [one.start for one in pieces[1:]]
    return pieces, blocks


def entries(blocks: list[Block]) -> list[tuple[int, Any]]:
    """Return each row and reject with its place."""
    found: list[tuple[int, Any]] = []
    for block in blocks:
        found += zip(block.position.tolist(), block.batch.to_pylist(), strict=True)
        found += [(at, one.reason) for one in block.rejected for at in one.position.tolist()]
    return sorted(found, key=lambda one: one[0])


def test_all_that_a_line_may_have() -> None:
    data = (
        b"# a comment\n"
        b"1 1:0.5 3:2 # first\n"
        b"\n"
        b"-1.5e0 qid:7 2:-1e-3\t10:.5\r\n"
        b"  +0\t \n"
        b"2:1 7:inf\n"
        b"qid:-3 1:1#and more\n"
        b"nan 1:1. 2:NaN"
    )
    block = libsvm.decode(data)
    assert block.rejected == ()
    found = block.batch.to_pydict()
    assert str(found.pop("features")[-1]) == "[(0, 1.0), (1, nan)]"
    assert found == {"label": [1.0, -1.5, 0.0, None, None, None], "qid": [None, 7, None, None, -3, None]}
    assert block.batch["features"].to_pylist()[:-1] == [
        [(0, 0.5), (2, 2.0)], [(1, -0.001), (9, 0.5)], [], [(1, 1.0), (6, np.inf)], [(0, 1.0)],
    ]  # fmt: skip
    starts = [12, 33, 61, 68, 78, 98]
    assert block.position.tolist() == starts
    assert [data[a:b].count(b"\n") for a, b in zip(starts, block.position_end.tolist(), strict=True)] == [1] * 5 + [0]


def test_the_first_index_is_what_is_said_and_never_guessed() -> None:
    data = b"1 0:5 4:6\n1 1:7\n"
    zero = libsvm.decode(data, ["features"], libsvm.Options(first_index=0))
    assert zero.batch["features"].to_pylist() == [[(0, 5.0), (4, 6.0)], [(1, 7.0)]]
    one = libsvm.decode(data, ["features"])
    assert one.batch["features"].to_pylist() == [[(0, 7.0)]]
    assert [(r.reason, r.position.tolist()) for r in one.rejected] == [("index 0 where the first is 1", [0])]
    with pytest.raises(InvalidValue, match=r"libsvm\.Options\.first_index"):
        libsvm.Options.parse({"first_index": 2})


BAD = [
    (b"?", "malformed label"),
    (b"1,2 1:1", "malformed label"),
    (b"1_0 1:1", "malformed label"),
    (b"1e 1:1", "malformed label"),
    (b". 1:1", "malformed label"),
    (b"- 1:1", "malformed label"),
    (b"0x1 1:1", "malformed label"),
    (b"1\x00 1:1", "malformed label"),
    (b"1\r 1:1", "malformed label"),
    (b"1 1", "malformed feature"),
    (b"1 1:", "malformed feature"),
    (b"1 :1", "malformed feature"),
    (b"1 1:x", "malformed feature"),
    (b"1 1:1:1", "malformed feature"),
    (b"1 1:1,2:1", "malformed feature"),
    (b"1 a:1", "malformed feature"),
    (b"1 1.5:1", "malformed feature"),
    (b"1 1: 1", "malformed feature"),
    (b"0.5:1 1:1", "malformed feature"),
    (b"1 qid:", "malformed query"),
    (b"1 qid:1.5 1:1", "malformed query"),
    (b"1 1:1 qid:1", "malformed query"),
    (b"1 qid:1 qid:1", "malformed query"),
    (b"1 qid:288230376151711744", "malformed query"),
    (b"1 -1:1", "a negative index"),
    (b"-1:1", "a negative index"),
    (b"1 0:1", "index 0 where the first is 1"),
    (b"1 2147483648:1", "a feature beyond 2147483646"),
    (b"1 99999999999999999999999999:1", "a feature beyond 2147483646"),
    (b"1 3:1 3:1", "an index twice"),
    (b"1 3:1 2:1", "indices that do not rise"),
    (b"1 1:1 # \xff", "text that is not UTF-8"),
    (b"1 1:\xe9", "text that is not UTF-8"),
    ("é 1:1".encode(), "malformed label"),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_bad_line_is_a_reject_with_its_place_and_text_and_harms_no_other(bad: bytes, reason: str, end: bytes) -> None:
    good = b"1 1:0.5 2:1e300\n"
    block = libsvm.decode(good + bad + end + good)
    (reject,) = block.rejected
    place = (len(good), len(good) + len(bad + end))
    assert (reject.reason, reject.position.tolist(), reject.position_end.tolist()) == (reason, [place[0]], [place[1]])
    assert reject.detail == (repr(bad.decode(errors="replace")),)
    assert block.batch.to_pydict() == {"features": [[(0, 0.5), (1, 1e300)]] * 2, "label": [1.0] * 2, "qid": [None] * 2}
    assert libsvm.decode(bad).rejected[0].reason == reason


def test_the_largest_index_and_query() -> None:
    found = libsvm.decode(
        b"1 qid:288230376151711743 2147483647:1\n1 qid:-00000000000000000000000000000007 0000000000000000000000002:1"
    )
    assert found.batch.select(["features", "qid"]).to_pylist() == [
        {"features": [(2147483646, 1.0)], "qid": 2**58 - 1}, {"features": [(1, 1.0)], "qid": -7},
    ]  # fmt: skip


def test_text_beyond_ascii_is_only_in_comments() -> None:
    for text in ("é", "€", "𝄞", "\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff"):
        assert len(libsvm.decode(f"1 1:1 # {text}\n".encode())) == 1
    for bad in (b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80", b"\x80", b"\xc3", b"\xe2\x82"):  # fmt: skip
        assert libsvm.decode(b"1 1:1 # " + bad + b"\n").rejected[0].reason == "text that is not UTF-8"


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.floats(allow_nan=False).map(repr),
        st.from_regex(r"[+-]?([0-9]{1,25}\.?[0-9]{0,25}|\.[0-9]{1,25})([eE][+-]?[0-9]{1,4})?", fullmatch=True),
        st.sampled_from(
            [
                "inf",
                "-Infinity",
                "+INF",
                "1e-400",
                "-0",
                "9007199254740993",
                "0" * 400 + "1",
                "0." + "0" * 330 + "1e300",
            ]
        ),
    )
)
def test_numbers_are_read_as_python_reads_them(number: str) -> None:
    block = libsvm.decode(f"{number} 1:{number}\n".encode())
    expected = np.array([float(number)]).tobytes()
    assert block.batch["label"].to_numpy(zero_copy_only=False).tobytes() == expected
    assert block.batch["features"].items.to_numpy().tobytes() == expected


finite = st.floats(allow_nan=False)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([0, 1]), st.booleans())
def test_rows_come_back(data: Any, first: int, dense: bool) -> None:
    largest = 2**31 - 2
    sparse_row = st.dictionaries(st.integers(0, largest), finite, max_size=5).map(lambda one: sorted(one.items()))
    features = data.draw(st.lists(st.lists(finite, max_size=5) if dense else sparse_row, max_size=6))
    n = len(features)
    label = data.draw(st.lists(st.none() | finite, min_size=n, max_size=n))
    qid = data.draw(st.lists(st.none() | st.integers(1 - 2**58, 2**58 - 1), min_size=n, max_size=n))
    given_rows = rows(
        features,
        pa.list_(pa.float64()) if dense else SPARSE,
        label=pa.array(label, pa.float64()),
        qid=pa.array(qid, pa.int64()),
    )
    options = libsvm.Options(first_index=first)
    block = libsvm.decode(libsvm.encode(given_rows, options), options=options)
    assert block.rejected == ()
    expected = [[(j, v) for j, v in enumerate(one) if v] for one in features] if dense else features
    assert block.batch.to_pydict() == {"features": expected, "label": label, "qid": qid}


@pytest.mark.parametrize("zero_based", [False, True])
@pytest.mark.parametrize("query", [False, True])
def test_scikit_learn_reads_what_is_written_and_writes_what_is_read(zero_based: bool, query: bool) -> None:
    rng = np.random.default_rng(0)
    X = np.where(
        rng.random((200, 30)) < 0.3, rng.normal(size=(200, 30)) * 10.0 ** rng.integers(-20, 20, (200, 30)), 0.0
    )
    y, qid = rng.normal(size=200), rng.integers(0, 9, 200)
    out = io.BytesIO()
    dump_svmlight_file(X, y, out, zero_based=zero_based, query_id=qid if query else None, comment="of all ± kinds")
    options = libsvm.Options(first_index=0 if zero_based else 1)
    block = libsvm.decode(out.getvalue(), options=options)
    assert block.rejected == ()
    loaded = load_svmlight_file(io.BytesIO(out.getvalue()), zero_based=zero_based, n_features=30, query_id=query)
    column = block.batch["features"]
    for ours, theirs in (
        (column.offsets, loaded[0].indptr),
        (column.keys, loaded[0].indices),
        (column.items, loaded[0].data),
    ):
        assert np.array_equal(ours.to_numpy(), theirs)
    assert block.batch["label"].to_pylist() == loaded[1].tolist()
    assert block.batch["qid"].to_pylist() == (loaded[2].tolist() if query else [None] * 200)
    again = libsvm.encode(rows(X.tolist(), pa.list_(pa.float64()), label=y, **({"qid": qid} if query else {})), options)
    back = load_svmlight_file(io.BytesIO(again), zero_based=zero_based, n_features=30, query_id=query)
    assert np.array_equal(back[0].toarray(), X)
    assert np.array_equal(back[1], y)
    assert not query or np.array_equal(back[2], qid)


def many(n: int = 400) -> tuple[bytes, list[tuple[int, Any]]]:
    """Return lines of every kind, and what each is."""
    rng = np.random.default_rng(1)
    parts, expected, at = [], [], 0
    for i in range(n):
        if i % 11 == 5:
            bad, reason = BAD[i % len(BAD)]
            parts.append(bad + b"\n")
            expected.append((at, reason))
        elif i % 13 == 4:
            parts.append([b"\n", b"# all comment, 1:1\n", b" \t\r\n"][i % 3])
        else:
            row = [
                (int(j), float(v))
                for j, v in zip(np.flatnonzero(rng.random(9) < 0.5), rng.normal(size=9), strict=False)
            ]
            qid = i // 10 if i % 2 else None
            pairs = b"".join(b" %d:%r" % (j + 1, v) for j, v in row)
            parts.append(
                b"%d" % i + (b" qid:%d" % qid if i % 2 else b"") + pairs + [b"\n", b"\r\n", b" # end\n"][i % 3]
            )
            expected.append((at, {"features": row, "label": float(i), "qid": qid}))
        at += len(parts[-1])
    return b"".join(parts).removesuffix(b"\n"), expected


@pytest.mark.parametrize("target", [1, 100, 3000, 1 << 30])
@pytest.mark.parametrize("max_rows", [1, 7, 65_536])
def test_rows_and_places_do_not_depend_on_the_cut(tmp_path: Path, target: int, max_rows: int) -> None:
    data, expected = many()
    pieces, blocks = read_all(put(tmp_path, data), target, max_rows=max_rows)
    assert entries(blocks) == expected
    assert (pieces[0].start, pieces[-1].stop) == (0, len(data))
    assert (len(pieces) > 1) == (2 * target < len(data))
    assert all(data[one.start - 1 : one.start] == b"\n" for one in pieces[1:])
    assert max(len(one) for one in blocks) <= max_rows


@pytest.mark.parametrize("width", [1, 7, 64, 1000])
def test_chunks_may_end_anywhere(tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data, expected = many(90)
    monkeypatch.setattr(files, "_PIECE_BYTES", width)
    _, blocks = read_all(put(tmp_path, data))
    assert entries(blocks) == expected
    assert entries([libsvm.decode(data)]) == expected


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".bz2"])
def test_files_may_be_compressed(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"a.libsvm{ending}")
    given_rows = rows([[(0, float(i)), (7, 1.0)] for i in range(3000)], label=np.arange(3000.0))
    libsvm.write(path, [given_rows, given_rows.slice(0, 10)])
    pieces, blocks = read_all(path, 1000, columns=["label", "features"])
    assert (len(pieces) > 1) == (ending == "")
    table = pa.Table.from_batches([block.batch for block in blocks])
    assert table["label"].to_pylist() == [*range(3000), *range(10)]
    assert table["features"].to_pylist()[-1] == [(0, 9.0), (7, 1.0)]
    assert blocks[0].origin == Origin("", path)


def test_a_truncated_gzip_is_one_sentence(tmp_path: Path) -> None:
    whole = gzip.compress(b"1 1:1\n" * 1000)
    with pytest.raises(UnreadableInput, match=r"a\.libsvm\.gz cannot be read as libsvm text: .+\.$"):
        libsvm.ranges(stat(put(tmp_path, whole[: len(whole) // 2], "a.libsvm.gz")), 100)


@pytest.mark.parametrize("width", [1, 10, 64, 1 << 20])
def test_a_line_that_is_too_long_is_passed_over(tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PIECE_BYTES", width)
    monkeypatch.setattr(libsvm_text, "MAX_BYTES", 50)
    good, fits = b"1 1:1\n", b"1 1:1 #" + b"x" * 43
    for long in (fits + b"y", b"#" * 300, b" " * 51, b"1 " + b"1:1 " * 60):
        for end in (b"\n", b""):
            block = libsvm.decode(good + fits + b"\n" + long + end)
            begin = len(good) + len(fits) + 1
            (reject,) = block.rejected
            assert (reject.reason, reject.position.tolist()) == (libsvm_text.LONG, [begin])
            assert reject.position_end.tolist() == [begin + len(long + end)]
            assert len(block) == 2
        after = libsvm.decode(good + long + b"\n" + good)
        assert after.position.tolist() == [0, len(good) + len(long) + 1]
    path = put(tmp_path, good + b"z" * 1000 + b"\n" + good)
    _, blocks = read_all(path, 200)
    assert [what if isinstance(what, str) else at for at, what in entries(blocks)] == [0, libsvm_text.LONG, 1007]


def test_no_more_of_a_long_line_is_held_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libsvm_text, "MAX_BYTES", 1000)
    taken = [len(text) for _, text, _ in lines.whole_lines((b"1 " * 50 for _ in range(1000)), 0, libsvm_text.MAX_BYTES)]
    assert taken == [0]


def test_a_byte_order_mark_before_the_first_line_is_passed_over(tmp_path: Path) -> None:
    for max_rows in (1, 100):
        _, blocks = read_all(put(tmp_path, b"\xef\xbb\xbf1 1:1\n2 1:2\n"), max_rows=max_rows, columns=["label"])
        assert entries(blocks) == [(3, {"label": 1.0}), (9, {"label": 2.0})]


def test_rows_that_lines_cannot_hold_are_refused() -> None:
    floats = pa.list_(pa.float32())
    cases = [
        (pa.record_batch({"x": [1.0]}), InvalidValue, "have columns of"),
        (pa.record_batch({"label": [1.0]}), MissingColumn, "must have a column 'features'"),
        (pa.record_batch({"features": [1.0]}), InvalidValue, "lists or maps of numbers; got double"),
        (rows([None], floats), InvalidValue, "have features; got none"),
        (rows([[(-1, 1.0)]]), InvalidValue, r"features in \[0, 2147483646\]; got -1 to -1"),
        (rows([[(2**31 - 1, 1.0)]]), InvalidValue, "got 2147483647 to 2147483647"),
        (rows([[(1, 1.0), (1, 1.0)]]), InvalidValue, "features that rise in each row"),
        (rows([[1.0]], floats, label=["a"]), InvalidValue, "have labels that are numbers; got string"),
        (rows([[1.0]], floats, qid=[0.5]), InvalidValue, "queries that are whole numbers; got double"),
        (rows([[1.0]], floats, qid=[2**58]), InvalidValue, "queries in ±288230376151711743"),
    ]
    for given_rows, error, sentence in cases:
        with pytest.raises(error, match=sentence):
            libsvm.encode(given_rows)


def test_a_line_that_could_not_be_read_back_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_ml.formats.libsvm.writing.MAX_BYTES", 20)
    assert libsvm.encode(rows([[(0, 0.1), (1, 0.125)]], label=[1])) == b"1 1:0.1 2:0.125\n"
    with pytest.raises(InvalidValue, match="have at most 20 bytes; got 24"):
        libsvm.encode(rows([[(0, 0.12345678), (1, 0.12345)]], label=[1]))


def test_many_values_are_written_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    given_rows = rows([[(j, float(j + i)) for j in range(i)] for i in range(40)], label=[True, False] * 20)
    whole = libsvm.encode(given_rows)
    monkeypatch.setattr("beam_ml.formats.libsvm.writing._VALUES", 50)
    assert libsvm.encode(given_rows) == whole
    assert whole.splitlines()[3] == b"0 1:3 2:4 3:5"


def test_rows_without_a_label_have_none_when_read() -> None:
    assert libsvm.encode(rows([[(0, 1.0)], []])) == b"nan 1:1\nnan\n"
    assert libsvm.decode(b"nan 1:1\nnan\n").batch["label"].to_pylist() == [None, None]


def test_unknown_columns_empty_files_and_no_rows(tmp_path: Path) -> None:
    path = put(tmp_path, b"1 1:1\n")
    with pytest.raises(MissingColumn, match="must have a column 'x'"):
        read_all(path, columns=["x"])
    assert libsvm.ranges(stat(put(tmp_path, b"", "empty.libsvm")), 100) == []
    assert len(libsvm.decode(b"")) == 0
    assert libsvm.encode(rows([])) == b""
    _, blocks = read_all(put(tmp_path, b"# nothing\n\n"))
    assert [(len(one), one.start, one.stop) for one in blocks] == [(0, 0, 11)]
    for data in (b"1 1:1\n", b"1 1:1\n" * 200_000):
        none = libsvm.decode(data, [])
        assert (len(none), none.batch.num_columns) == (data.count(b"\n"), 0)
