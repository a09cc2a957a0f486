"""RecordIO files: what is written is what protobuf writes, and what is read back is what was written, however it is cut."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.core.batch import Origin
from beam_ml.errors import InvalidValue, MissingColumn, UnreadableInput
from beam_ml.formats import Block, lines, recordio
from beam_ml.formats.files import FileRange, stat
from beam_ml.formats.recordio import stream
from beam_ml.formats.recordio.records import LONG
from tests.formats.recordio.support import MAGIC, frame, payload, split

# Of the reference of the format: features [1.5, −2] with label 1; keys [3, 300], values [1, 4], shape [2000].
DENSE = bytes.fromhex("0a160a0676616c756573120c120a0a080000c03f000000c012120a0676616c756573120812060a040000803f")
SPARSE = bytes.fromhex("0a1f0a0676616c756573121512130a080000803f00008040120303ac021a02d00f")


def rows(features: Any, kind: pa.DataType, **more: Any) -> pa.RecordBatch:
    return pa.record_batch({"features": pa.array(features, kind), **more})


def put(folder: Path, data: bytes, name: str = "a.rec") -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def tiles(blocks: list[Block], start: int, stop: int) -> None:
    place = start
    for block in blocks:
        assert block.start == place
        parts = [(block.position, block.position_end), *((r.position, r.position_end) for r in block.rejected)]
        begin, end = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
        order = np.argsort(begin)
        assert begin[order][0] == block.start
        assert (begin[order][1:] == end[order][:-1]).all()
        assert end[order][-1] == block.stop
        place = block.stop
    assert place == stop


def read_all(path: str, target: int = 1 << 30, **given: Any) -> tuple[list[FileRange], list[Block]]:
    pieces = recordio.ranges(stat(path), target)
    blocks = []
    for piece in pieces:
        mine = list(recordio.read(piece, **given))
        tiles(mine, piece.start, piece.stop)
        blocks += mine
    return pieces, blocks


def entries(blocks: list[Block]) -> list[tuple[int, Any]]:
    """Return each row and reject with its place."""
    found: list[tuple[int, Any]] = []
    for block in blocks:
        found += zip(block.position.tolist(), block.batch["features"].to_pylist(), strict=True)
        found += [(at, one.reason) for one in block.rejected for at in one.position.tolist()]
    return sorted(found, key=lambda one: one[0])


def test_golden_bytes_of_a_dense_row() -> None:
    one = rows([[1.5, -2.0]], pa.list_(pa.float32()), label=pa.array([1.0], pa.float32()))
    assert recordio.encode(one) == MAGIC + struct.pack("<I", 44) + DENSE
    block = recordio.decode(frame(DENSE))
    assert block.batch.to_pydict() == {
        "features": [[1.5, -2.0]],
        "label": [1.0],
        "uid": [None],
        "metadata": [None],
    }
    assert block.batch.schema.field("features").type == pa.list_(pa.float32())


def test_golden_bytes_of_a_sparse_row() -> None:
    kind = pa.map_(pa.int32(), pa.float32())
    one = rows([[(3, 1.0), (300, 4.0)]], kind)
    assert recordio.encode(one, recordio.Options(width=2000)) == frame(SPARSE)
    block = recordio.decode(frame(SPARSE), ["features"])
    assert block.batch.to_pydict() == {"features": [[(3, 1.0), (300, 4.0)]]}
    assert block.batch.schema.field("features").type == kind


numbers = {
    "float32": st.floats(width=32, allow_nan=False),
    "float64": st.floats(allow_nan=False),
    "int32": st.integers(-(2**31), 2**31 - 1),
}
ARROW = {"float32": pa.float32(), "float64": pa.float64(), "int32": pa.int32()}


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(list(numbers)), st.sampled_from(list(numbers)), st.booleans())
def test_bytes_are_protobufs_and_rows_come_back(data: Any, kind: str, label_kind: str, sparse: bool) -> None:
    row = (
        st.dictionaries(st.integers(0, 1999), numbers[kind], max_size=5).map(lambda one: sorted(one.items()))
        if sparse
        else st.lists(numbers[kind], min_size=1, max_size=5)
    )
    texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    features = data.draw(st.lists(row, min_size=1, max_size=6))
    n = len(features)
    label = data.draw(st.lists(st.none() | numbers[label_kind], min_size=n, max_size=n))
    uid, metadata = (data.draw(st.lists(texts, min_size=n, max_size=n)) for _ in range(2))
    given_rows = rows(
        features,
        pa.map_(pa.int32(), ARROW[kind]) if sparse else pa.list_(ARROW[kind]),
        label=pa.array(label, ARROW[label_kind]),
        uid=pa.array(uid, pa.string()),
        metadata=pa.array(metadata, pa.string()),
    )
    written = recordio.encode(given_rows, recordio.Options(width=2000) if sparse else recordio.DEFAULT)
    expected = b"".join(
        frame(
            payload(
                [value for _, value in one] if sparse else one,
                kind,
                [key for key, _ in one] if sparse else (),
                [2000] if sparse else (),
                () if y is None else [y],
                label_kind,
                u,
                m,
            )
        )
        for one, y, u, m in zip(features, label, uid, metadata, strict=True)
    )
    assert written == expected
    block = recordio.decode(written)
    assert block.rejected == ()
    assert block.batch.to_pydict() == {
        "features": [[(k, float(v)) for k, v in one] if sparse else list(map(float, one)) for one in features],
        "label": [None if y is None else float(y) for y in label],
        "uid": uid,
        "metadata": metadata,
    }


def many(n: int = 500) -> tuple[bytes, list[Any]]:
    """Return records of one width, of which some are split, some hold the magic whole, and some are no protobuf."""
    rng = np.random.default_rng(1)
    parts, expected, at = [], [], 0
    magic = struct.unpack("<f", MAGIC)[0]
    for i in range(n):
        x = rng.normal(size=4).astype(np.float32)
        if i % 7 == 3:
            x[rng.integers(4)] = magic
        # A label of three letters more or less shifts where the magic lies, so that some lie at a multiple of 4.
        one = payload(x.tolist(), label=[float(i)] if i % 2 else (), uid="u" * (i % 5) if i % 3 else None)
        made = b"\xff" * 11 if i % 50 == 7 else one
        parts.append(split(made) if i % 2 else frame(made))
        expected.append((at, "malformed record" if i % 50 == 7 else x.tolist()))
        at += len(parts[-1])
    return b"".join(parts), expected


def test_some_records_are_split_and_some_hold_the_magic_whole() -> None:
    data, _ = many()
    flags = {data[i + 7] >> 5 for i in range(0, len(data), 4) if data[i : i + 4] == MAGIC}
    assert {0, 1, 3} <= flags


@pytest.mark.parametrize("target", [1, 100, 3000, 1 << 30])
@pytest.mark.parametrize("max_rows", [1, 64, 65_536])
def test_rows_and_places_do_not_depend_on_the_cut(tmp_path: Path, target: int, max_rows: int) -> None:
    data, expected = many()
    pieces, blocks = read_all(put(tmp_path, data), target, columns=["features"], max_rows=max_rows)
    assert entries(blocks) == expected
    assert pieces[0].start == 0
    assert pieces[-1].stop == len(data)
    assert (len(pieces) > 1) == (target < 3000 or 2 * target < len(data))


@pytest.mark.parametrize("width", [1, 7, 64, 1000])
def test_chunks_may_end_anywhere(tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data, expected = many(60)
    monkeypatch.setattr(lines, "_CHUNK_BYTES", width)
    _, blocks = read_all(put(tmp_path, data), columns=["features"], options=recordio.Options(form="dense"))
    assert entries(blocks) == expected


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".bz2"])
def test_files_may_be_compressed(tmp_path: Path, ending: str) -> None:
    path = str(tmp_path / f"a.rec{ending}")
    given_rows = rows([[float(i), 1.0] for i in range(3000)], pa.list_(pa.float32()), label=np.arange(3000.0))
    recordio.write(path, [given_rows, given_rows.slice(0, 10)])
    pieces, blocks = read_all(path, 1000, columns=["label", "features"])
    assert (len(pieces) > 1) == (ending == "")
    table = pa.Table.from_batches([block.batch for block in blocks])
    assert table["label"].to_pylist() == [*range(3000), *range(10)]
    assert table["features"].to_pylist()[-1] == [9.0, 1.0]
    assert blocks[0].origin == Origin("", path)


def test_options_settle_form_and_type_and_the_first_record_does_where_they_do_not() -> None:
    dense, sparse = payload([1.0, 2.0]), payload([1.0], keys=[1], shape=[2])
    wide, whole = payload([1.5, 0.1], "float64"), payload([-1, 7], "int32")
    data = b"".join(map(frame, [dense, sparse, wide, whole]))

    def found(**options: Any) -> tuple[list[Any], dict[str, int]]:
        block = recordio.decode(data, ["features"], recordio.Options(**options))
        return block.batch["features"].to_pylist(), {one.reason: len(one) for one in block.rejected}

    other, keyed = "features of another type", "a sparse record where dense ones are expected"
    assert found() == ([[1.0, 2.0]], {keyed: 1, other: 2})
    assert found(values="float64") == ([[1.0, 2.0], [1.5, 0.1], [-1.0, 7.0]], {keyed: 1})
    assert found(form="sparse") == ([[(0, 1.0), (1, 2.0)], [(1, 1.0)]], {other: 2})
    both = [[(0, 1.0), (1, 2.0)], [(1, 1.0)], [(0, 1.5), (1, 0.1)], [(0, -1.0), (1, 7.0)]]
    assert found(form="sparse", values="float64") == (both, {})
    assert found(width=3) == ([], {"another number of features": 3, keyed: 1})
    first = recordio.decode(frame(sparse) + frame(dense), ["features"])
    assert first.batch["features"].to_pylist() == [[(1, 1.0)], [(0, 1.0), (1, 2.0)]]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\x0a\x05ab", "malformed record"),
        (b"", "no features"),
        (payload([]), "no features"),
        (payload([1.0], keys=[1]), "keys that do not fit values and shape"),
        (payload([1.0], keys=[2], shape=[2]), "keys that do not fit values and shape"),
        (payload([1.0], keys=[2**31 - 1], shape=[2**40]), "keys that do not fit values and shape"),
        (payload([1.0, 2.0], keys=[1], shape=[2]), "keys that do not fit values and shape"),
        (payload([1.0, 2.0], keys=[1, 1], shape=[2]), "a feature twice"),
        (payload([1.0, 2.0], shape=[3]), "values that do not fit the shape"),
        (payload([1.0, 2.0], shape=[2**33, 2**33]), "values that do not fit the shape"),
        (payload([1.0], label=[1.0, 2.0]), "another number of labels"),
        (payload([1.0], uid="é").replace("é".encode(), b"\xff\xfe"), "text that is not UTF-8"),
    ],
)
def test_what_does_not_fit_is_a_reject_with_its_place(bad: bytes, reason: str) -> None:
    good = frame(payload([1.0], keys=[1], shape=[4], label=[1.0]))
    block = recordio.decode(good + frame(bad) + good)
    assert [(one.reason, one.position.tolist(), one.position_end.tolist()) for one in block.rejected] == [
        (reason, [len(good)], [len(good) + len(frame(bad))])
    ]
    assert block.batch["features"].to_pylist() == [[(1, 1.0)]] * 2


def test_keys_out_of_order_are_put_in_order_with_their_values() -> None:
    data = frame(payload([1.0, 2.0, 3.0], keys=[9, 0, 4], shape=[3, 4]))
    for values in ("float32", "float64"):
        block = recordio.decode(data, ["features"], recordio.Options(values=values))
        assert block.batch["features"].to_pylist() == [[(0, 2.0), (4, 3.0), (9, 1.0)]]


def test_labels_of_several_values_are_lists() -> None:
    options = recordio.Options(label_size=2)
    given_rows = rows([[1.0], [2.0]], pa.list_(pa.float64()), label=[[1.0, 2.0], None])
    found = recordio.decode(recordio.encode(given_rows, options), ["label"], options)
    assert found.batch["label"].to_pylist() == [[1.0, 2.0], None]
    assert recordio.decode(frame(payload([1.0], label=[1.0])), options=options).rejected[0].reason.endswith("labels")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (frame(DENSE) + b"\x0a\x23\xd7\xcf" + frame(DENSE), "no record begins at byte 52"),
        (frame(DENSE) + frame(DENSE)[:-1], "the record at byte 52 is cut off"),
        (frame(DENSE) + frame(DENSE)[:5], "the record at byte 52 is cut off"),
        (frame(DENSE) + frame(DENSE, 4), "no record begins at byte 52"),
        (frame(DENSE) + MAGIC + struct.pack("<I", (1 << 29) - 1) + DENSE, "the record at byte 52 is cut off"),
    ],
)
def test_a_broken_chain_is_one_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    path = put(tmp_path, data)
    for target in (10, 1 << 30):
        with pytest.raises(UnreadableInput, match=rf"a\.rec cannot be read as RecordIO: {sentence}\.$"):
            read_all(path, target)
    with pytest.raises(UnreadableInput, match=sentence):
        recordio.decode(data)


def test_parts_that_do_not_belong_together_are_rejects() -> None:
    one = frame(DENSE)
    for spoilt in (frame(DENSE, 2), frame(DENSE, 3), frame(DENSE, 1), frame(DENSE, 1) + frame(DENSE, 2)):
        for data in (one + spoilt + one, one + spoilt):
            block = recordio.decode(data, ["label"])
            assert [(r.reason[:22], r.position.tolist(), r.position_end.tolist()) for r in block.rejected] == [
                ("parts of a split recor", [len(one)], [len(one) + len(spoilt)])
            ]
            assert len(block) == (len(data) - len(spoilt)) // len(one)


def test_a_record_that_is_too_long_is_passed_over_unread(tmp_path: Path) -> None:
    one = frame(DENSE)
    big = frame(bytes(200))
    for chunk in (len(one) + 3, 16, 1 << 20):
        data = one + big + one
        chunks = (data[i : i + chunk] for i in range(0, len(data), chunk))
        found = list(stream.frames(chunks, 0, len(data), "it", most=100))
        places = [(a, b) for some in found for a, b in zip(some.offset.tolist(), some.end.tolist(), strict=True)]
        assert places == [(0, 52), (52, 52 + len(big)), (52 + len(big), len(data))]
        assert [LONG in some.fault for some in found if some.fault] == [True]


def test_rows_that_records_cannot_hold_are_refused() -> None:
    floats, keyed = pa.list_(pa.float32()), pa.map_(pa.int32(), pa.float32())
    cases = [
        (pa.record_batch({"x": [1.0]}), {}, InvalidValue, "have columns of"),
        (pa.record_batch({"label": [1.0]}), {}, MissingColumn, "must have a column 'features'"),
        (pa.record_batch({"features": [1.0]}), {}, InvalidValue, "lists or maps of numbers; got double"),
        (rows([None], floats), {}, InvalidValue, "have features; got none"),
        (rows([[]], floats), {}, InvalidValue, "at least one features"),
        (rows([[1.0]], floats), {"width": 2}, InvalidValue, r"have 2 features; got \[1\]"),
        (rows([[(0, 1.0)]], keyed), {}, InvalidValue, "a shape where they are sparse"),
        (rows([[(2, 1.0)]], keyed), {"width": 2}, InvalidValue, r"in \[0, 2\); got 2 to 2"),
        (rows([[2**40]], pa.list_(pa.int64())), {}, InvalidValue, "whole numbers that int32 holds"),
        (rows([[1.0]], floats, label=["a"]), {}, InvalidValue, "a label that is a number; got string"),
        (rows([[1.0]], floats, label=[[1.0, 2.0]]), {}, InvalidValue, r"labels of 1 values; got \[2\]"),
    ]
    for given_rows, options, error, sentence in cases:
        with pytest.raises(error, match=sentence):
            recordio.encode(given_rows, recordio.Options(**options))


def test_unknown_columns_empty_files_and_no_rows(tmp_path: Path) -> None:
    path = put(tmp_path, frame(DENSE))
    with pytest.raises(MissingColumn, match="must have a column 'x'"):
        read_all(path, columns=["x"])
    assert recordio.ranges(stat(put(tmp_path, b"", "empty.rec")), 100) == []
    assert len(recordio.decode(b"")) == 0
    assert recordio.encode(rows([], pa.list_(pa.float32()))) == b""
    none = recordio.decode(frame(DENSE), [])
    assert (len(none), none.batch.num_columns) == (1, 0)


def test_a_truncated_gzip_is_one_sentence(tmp_path: Path) -> None:
    whole = gzip.compress(frame(DENSE) * 1000)
    with pytest.raises(UnreadableInput, match=r"a\.rec\.gz cannot be read as RecordIO: .+\.$"):
        recordio.ranges(stat(put(tmp_path, whole[: len(whole) // 2], "a.rec.gz")), 100)
