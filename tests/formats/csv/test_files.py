import csv as stdlib_csv
import gzip
import io
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_ml.core.batch import Origin
from beam_ml.errors import InvalidValue, MissingColumn, UnreadableInput
from beam_ml.formats import lines
from beam_ml.formats.block import Block
from beam_ml.formats.csv import files, layout
from beam_ml.formats.files import FileRange, stat

texts = st.text(st.sampled_from('ab",;\n é'), max_size=6)


def put(folder: Path, text: str | bytes, name: str = "a.csv") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def tiles(blocks: list[Block], start: int, stop: int) -> None:
    """The places of rows and rejects tile the span of each block, and the blocks tile [start, stop)."""
    place = start
    for block in blocks:
        assert block.start == place
        parts = [(block.position, block.position_end), *((r.position, r.position_end) for r in block.rejected)]
        begin = np.concatenate([a for a, _ in parts])
        end = np.concatenate([b for _, b in parts])
        order = np.argsort(begin)
        if begin.size:
            assert begin[order][0] == block.start
            assert (begin[order][1:] == end[order][:-1]).all()
            assert end[order][-1] == block.stop
        place = block.stop
    assert place == stop


def read_all(path: str, target: int = 1 << 30, **options) -> tuple[list[FileRange], list[Block]]:
    pieces = files.ranges(stat(path), target, options.get("options", files.DEFAULT))
    blocks = []
    for piece in pieces:
        mine = list(files.read(piece, **options))
        tiles(mine, piece.start, piece.stop)
        blocks += mine
    return pieces, blocks


def column(blocks: list[Block], name: str) -> list:
    return [value for block in blocks for value in block.batch[name].to_pylist()]


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(st.tuples(texts, texts), max_size=30),
    target=st.integers(1, 80),
    max_rows=st.integers(1, 9),
    ending=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
@example(values=[('"', "\n"), ('\n"\n', ",")], target=1, max_rows=1, ending="\n", last=False)
def test_rows_and_places_do_not_depend_on_the_split(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[tuple[str, str]],
    target: int,
    max_rows: int,
    ending: str,
    last: bool,
) -> None:
    buffer = io.StringIO()
    writer = stdlib_csv.writer(buffer, lineterminator=ending, quoting=stdlib_csv.QUOTE_ALL)
    writer.writerows([("a", "b"), *values])
    text = buffer.getvalue()
    path = put(tmp_path_factory.mktemp("c"), text if last or not values else text.removesuffix(ending))
    options = files.Options(types={"a": "string", "b": "string"})
    (_, whole), (pieces, parts) = (
        read_all(path, options=options),
        read_all(path, target, max_rows=max_rows, options=options),
    )
    for blocks in (whole, parts):
        assert list(zip(column(blocks, "a"), column(blocks, "b"), strict=True)) == values
        assert not any(block.rejected for block in blocks)
    positions = [np.concatenate([b.position for b in blocks] or [[]]).tolist() for blocks in (whole, parts)]
    assert positions[0] == positions[1]
    assert [p.stop for p in pieces[:-1]] == [p.start for p in pieces[1:]]
    if pieces:
        raw = Path(path).read_bytes()
        assert pieces[-1].stop == len(raw)
        assert all(raw[int(p) - 1 : int(p)] == b"\n" for p in positions[0])


def test_a_large_file_is_cut_at_lines(tmp_path: Path) -> None:
    n = 20_000
    path = put(tmp_path, "i,x\n" + "".join(f"{i},{i / 2}\n" for i in range(n)))
    pieces, blocks = read_all(path, 10_000, max_rows=500, source="logs")
    assert len(pieces) > 15
    assert max(piece.stop - piece.start for piece in pieces) < 20_100
    assert column(blocks, "i") == list(range(n))
    assert max(len(block) for block in blocks) == 500
    assert blocks[0].origin == Origin("logs", path)


def test_many_chunks_of_a_range_join(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 7)
    values = ["x" * (i % 23) + ("\n" if i % 5 == 0 else "") + '"' * (2 * (i % 2)) for i in range(100)]
    text = "a,b\n" + "".join(f'"{v}",{i}\n' for i, v in enumerate(values))
    path = put(tmp_path, text)
    _, blocks = read_all(path, 50)
    assert column(blocks, "b") == list(range(100))
    assert column(blocks, "a") == [v.replace('""', '"') for v in values]


def test_empty_lines_count_to_the_row_after_them(tmp_path: Path) -> None:
    text = "a,b\n\n\r\n1,2\n\n3,4\n\n\n"
    _, blocks = read_all(put(tmp_path, text))
    (block,) = blocks
    assert block.position is not None
    assert block.position_end is not None
    assert block.position.tolist() == [4, 11]
    assert block.position_end.tolist() == [11, len(text)]


def test_empty_lines_at_the_end_are_accounted_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 4)
    _, blocks = read_all(put(tmp_path, "a\n1\n2\n\n\n\n\n\n\n"))
    assert [(len(block), block.start, block.stop) for block in blocks] == [(2, 2, 6), (0, 6, 12)]
    assert blocks[1].batch.schema.names == ["a"]


def test_a_quote_before_doubled_ones_costs_its_own_line(tmp_path: Path) -> None:
    text = 'i,s\n0,x\n1,"x""y\n' + "".join(f'{i},""\n' for i in range(2, 9))
    _, blocks = read_all(put(tmp_path, text), options=files.Options(types={"i": "int64", "s": "string"}))
    assert column(blocks, "i") == [0, *range(2, 9)]


def test_a_file_of_column_names_only_has_no_range(tmp_path: Path) -> None:
    assert files.ranges(stat(put(tmp_path, "a,b\n")), 10) == []
    assert files.ranges(stat(put(tmp_path, "a,b")), 10) == []


def test_bad_lines_are_rejected_with_place_and_reason(tmp_path: Path) -> None:
    body = ["1,2.5,x", "2,oops,x", "3,1.5", "4,1.5,x,y", "5,0.5,z"]
    text = "i,v,s\n" + "\n".join(body) + "\n"
    options = files.Options(types={"i": "int64", "v": "float64", "s": "string"})
    _, (block,) = read_all(put(tmp_path, text), options=options)
    assert block.batch.to_pydict() == {"i": [1, 5], "v": [2.5, 0.5], "s": ["x", "z"]}
    found = {reject.reason: reject for reject in block.rejected}
    starts = [6 + sum(len(line) + 1 for line in body[:i]) for i in range(5)]
    assert found["unparseable value"].position.tolist() == [starts[1]]
    assert found["malformed line"].position.tolist() == [starts[2], starts[3]]
    assert "'3,1.5'" in found["malformed line"].detail[0]
    assert "oops" in found["unparseable value"].detail[0]
    assert block.scanned == 5


@settings(max_examples=60, deadline=None)
@given(
    bad=st.sets(st.integers(0, 59)),
    kinds=st.lists(st.sampled_from(["1", "1,2,3", "1,x", '1",2,""', "\xff,1", "1\r2"]), min_size=60, max_size=60),
)
def test_any_mixture_of_bad_lines_leaves_exactly_the_good_ones(
    tmp_path_factory: pytest.TempPathFactory, bad: set[int], kinds: list[str]
) -> None:
    text = "i,v\n" + "".join((kinds[i] if i in bad else f"{i},{i}.5") + "\n" for i in range(60))
    options = files.Options(types={"i": "int64", "v": "float64"})
    _, blocks = read_all(put(tmp_path_factory.mktemp("b"), text.encode("latin-1")), 100, max_rows=17, options=options)
    assert column(blocks, "i") == [i for i in range(60) if i not in bad]
    assert sum(block.scanned for block in blocks) == 60


def test_a_stray_quote_costs_its_own_line(tmp_path: Path) -> None:
    text = 'i,s\n1,a\n2,"b\n3,c\n4,d\n'
    _, blocks = read_all(put(tmp_path, text), options=files.Options(types={"i": "int64", "s": "string"}))
    assert column(blocks, "i") == [1, 3, 4]
    assert [reject.reason for block in blocks for reject in block.rejected] == ["malformed line"]


def test_a_stray_quote_in_a_large_file_costs_its_own_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_MAX_RECORD_BYTES", 2_000)
    monkeypatch.setattr(lines, "_CHUNK_BYTES", 500)
    text = "i,v\n" + "".join(f"{i},{i if i != 300 else chr(34)}\n" for i in range(2000))
    _, blocks = read_all(put(tmp_path, text), 1 << 20, options=files.Options(types={"i": "int64", "v": "float64"}))
    assert column(blocks, "i") == [i for i in range(2000) if i != 300]


def test_types_widen_where_a_later_value_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_HEAD_BYTES", 40)
    text = (
        "i,e,t,d\n" + "1,,2024-01-01 10:00:00,2024-01-01\n" * 4 + "1.5,2,2024-01-01 10:00:00.25,2024-01-01 01:00:00\n"
    )
    _, blocks = read_all(put(tmp_path, text))
    (block,) = blocks
    assert not block.rejected
    assert block.batch.schema.types == [pa.float64(), pa.float64(), pa.timestamp("ns"), pa.timestamp("ns")]
    assert block.batch["e"].to_pylist() == [None] * 4 + [2.0]


def test_an_empty_column_that_turns_out_to_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_HEAD_BYTES", 10)
    _, (block,) = read_all(put(tmp_path, "i,s\n" + "1,\n" * 20 + "2,word\n"))
    assert block.batch["s"].to_pylist()[-1] == "word"
    assert not block.rejected


def test_every_range_infers_the_same_types(tmp_path: Path) -> None:
    text = "i,x\n" + "".join(f"{i},{i + 0.5 if i < 10 else i}\n" for i in range(500))
    _, blocks = read_all(put(tmp_path, text), 200)
    assert {str(block.batch.schema) for block in blocks} == {"i: int64\nx: double"}


def test_only_named_columns_are_read_in_the_order_asked(tmp_path: Path) -> None:
    path = put(tmp_path, "a,b,c\n1,x,3\n")
    _, (block,) = read_all(path, columns=["c", "a"])
    assert block.batch.to_pydict() == {"c": [3], "a": [1]}
    with pytest.raises(MissingColumn, match=r"a\.csv must have a column 'd'; got \['a', 'b', 'c'\]\.$"):
        read_all(path, columns=["d"])


def test_options_name_the_columns_and_the_delimiter(tmp_path: Path) -> None:
    options = files.Options(
        delimiter="\t", column_names=("y", "x"), types={"x": "float32", "y": "timestamp[us, tz=UTC]"}
    )
    _, (block,) = read_all(put(tmp_path, "2024-01-01T00:00:00Z\t1\n"), options=options)
    assert block.batch.schema.types == [pa.timestamp("us", tz="UTC"), pa.float32()]
    assert block.start == 0
    assert files.Options.parse(options.to_dict()) == options


@pytest.mark.parametrize("kind", ["number", "timestamp[parsec, tz=UTC]"])
def test_unknown_types_are_refused(kind: str) -> None:
    with pytest.raises(InvalidValue, match=r"csv\.Options\.types must name Arrow types"):
        files.Options(types={"a": kind})


@pytest.mark.parametrize("text", ["", "\n", "a,a\n1,2\n"])
def test_no_usable_line_of_column_names_is_unreadable(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        UnreadableInput, match=r"a\.csv must start with a line that names each column once; got b'.*'\.$"
    ):
        files.ranges(stat(put(tmp_path, text)), 10)


def test_a_byte_order_mark_and_quoted_names(tmp_path: Path) -> None:
    _, (block,) = read_all(put(tmp_path, '\ufeff"a,1","b\nc"\n1,2\n'))
    assert block.batch.schema.names == ["a,1", "b\nc"]


@pytest.mark.parametrize("line", ["\ufeff3,c", '\ufeff"3",c', '\ufeff"3,d",c'])
def test_a_byte_order_mark_within_a_file_is_of_its_row_wherever_the_file_is_cut(tmp_path: Path, line: str) -> None:
    options = files.Options(types={"a": "string", "b": "string"})
    head, before, mark = "\ufeffa,b\n", "1,x\n", f"{line}\n"
    path = put(tmp_path, head + before + mark + "5,z\n")
    found = stat(path)
    cuts = [len(head.encode()), len((head + before).encode()), found.size]

    def outcome(pieces: list[FileRange], most: int) -> tuple[dict[int, dict[str, object]], list[int]]:
        blocks = [block for one in pieces for block in files.read(one, None, most, options=options)]
        rows = {
            at: row
            for block in blocks
            for at, row in zip(block.position.tolist(), block.batch.to_pylist(), strict=True)
        }
        return rows, [at for block in blocks for one in block.rejected for at in one.position.tolist()]

    (whole,) = files.ranges(found, 1000, options)
    cut = [FileRange(path, found.size, found.mtime_ns, "csv", a, b) for a, b in itertools.pairwise(cuts)]
    together = outcome([whole], 100)
    assert together == outcome(cut, 100) == outcome([whole], 1)
    assert len(together[0]) + len(together[1]) == 3
    if '"' not in line:
        assert together[0][cuts[1]] == {"a": "\ufeff3", "b": "c"}


def test_lines_that_end_with_returns_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInput, match=r"its lines must end with \\n or \\r\\n\.$"):
        files.ranges(stat(put(tmp_path, "a,b\r1,2\r")), 10)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst", "a.csv.bz2"])
def test_compressed_files_are_one_range(tmp_path: Path, name: str) -> None:
    batch = pa.record_batch({"i": np.arange(5000), "x": np.arange(5000) / 4})
    path = str(tmp_path / name)
    files.write(path, [batch.slice(0, 3000), batch.slice(3000)])
    pieces, blocks = read_all(path, 100, max_rows=999)
    assert len(pieces) == 1
    assert pa.Table.from_batches([block.batch for block in blocks]).combine_chunks().to_batches()[0].equals(batch)
    files.write(str(tmp_path / "a.csv"), [batch])
    assert pieces[0].stop == stat(str(tmp_path / "a.csv")).size


def test_a_compressed_file_of_two_members_is_read_whole(tmp_path: Path) -> None:
    path = put(tmp_path, gzip.compress(b"i\n1\n") + gzip.compress(b"2\n"), "a.csv.gz")
    _, blocks = read_all(path)
    assert column(blocks, "i") == [1, 2]


def test_a_truncated_compressed_file_is_unreadable(tmp_path: Path) -> None:
    data = gzip.compress(b"i\n" + b"".join(b"%d\n" % (i * i) for i in range(5000)))
    path = put(tmp_path, data[: len(data) // 2], "a.csv.gz")
    with pytest.raises(UnreadableInput, match=r"a\.csv\.gz cannot be read as text: .+\.$"):
        files.ranges(stat(path), 10)
    with pytest.raises(UnreadableInput, match="cannot be read as text"):
        files.ranges(stat(put(tmp_path, b"plain,text\n", "b.csv.gz")), 10)


def test_a_range_past_the_end_is_unreadable(tmp_path: Path) -> None:
    path = put(tmp_path, "a\n1\n")
    file = stat(path)
    with pytest.raises(UnreadableInput, match="it ends at byte 4, not at byte 9"):
        list(files.read(FileRange(path, file.size, file.mtime_ns, "csv", 2, 9)))


def test_bytes_and_back() -> None:
    batch = pa.record_batch({"i": [1, 2], "s": ["a,b", 'c"\nd']})
    block = files.decode(files.encode(batch))
    assert block.batch.equals(batch)
    tiles([block], block.start, block.stop)
    headless = files.Options(column_names=("i", "s"))
    assert files.decode(files.encode(batch, headless), ["s"], headless).batch.equals(batch.select(["s"]))
    assert len(files.decode(b"a,b\n")) == 0
    with pytest.raises(UnreadableInput, match=r"<0 bytes> must start with"):
        files.decode(b"")


def test_a_header_of_numbers_alone_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        files.decode(b"0.25,1,-3e5\n1,2,3\n")
    [said] = caplog.messages
    assert "begins with a line of numbers" in said
    assert "options.header = false" in said
    caplog.clear()
    for names in (b"0,1,2", b"a,1,2", b"x"):
        files.decode(names + b"\n1,2,3\n")
    assert not caplog.messages


def test_a_text_of_many_blocks_is_read_as_one(monkeypatch):
    """Lines that are refused keep their places, a record may be longer than a block, and a type may change behind the first."""
    rows = [f'{i},{i * 0.5},"t{i}"' for i in range(4_000)]
    rows[3_000], rows[3_500], rows[3_801] = "1,2", "x,2,c", "7.5,1.0,z"
    rows[2_000] = f'1,2,"{"y" * 9_000}"'
    data = ("a,b,c\n" + "\n".join(rows) + "\n").encode()
    monkeypatch.setattr(files, "_HEAD_BYTES", 1_000)
    whole = files.decode(data)
    monkeypatch.setattr(layout, "_BLOCK_BYTES", 4_096)
    blocks = files.decode(data)
    assert blocks.batch.equals(whole.batch)
    assert blocks.position.tolist() == whole.position.tolist()
    assert blocks.batch["a"].type == pa.float64()
    assert [(one.reason, one.position.tolist()) for one in blocks.rejected] == [
        ("malformed line", [data.index(b"1,2\n")]),
        ("unparseable value", [data.index(b"x,2,c")]),
    ]
