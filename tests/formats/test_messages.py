"""Messages → blocks of rows that tile their places, whatever was refused, split or counted before."""

import itertools
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.core.batch import Origin
from beam_ml.errors import InvalidValue
from beam_ml.formats import messages
from beam_ml.formats.block import Block
from beam_ml.formats.messages import PLACES, Decoded, Refused, decoder, encoder, place, to_blocks, with_seen

FIRST = 1000


def raw_block(values, first=FIRST, stop=None, step=1):
    offsets = first + step * np.arange(len(values))
    batch = pa.record_batch(
        {
            "value": pa.array(values, pa.binary()),
            "key": pa.array([f"k{i}".encode() if i % 2 else None for i in offsets], pa.binary()),
            "timestamp": pa.array(offsets * 10, pa.int64()).cast(pa.timestamp("ms")),
        }
    )
    end = first + step * len(values) if stop is None else stop
    return Block(batch, Origin("kafka://c/t", "0"), place(offsets), None, place(first), place(end))


def cut(raw, a, b, stop):
    return Block(
        raw.batch.slice(a, b - a), raw.origin, raw.position[a:b], None, int(raw.position[a]) if a < len(raw.position) else
        raw.stop, stop,
    )  # fmt: skip


def json_row(i, good):
    return f'{{"x": {i}}}' if good else f'{{"x": "no{i}"}}'


rows_of = st.lists(st.booleans(), max_size=5)
message = st.one_of(
    rows_of.map(lambda goods: ("rows", goods)),
    st.sampled_from(["null", "empty", "malformed", "blank"]).map(lambda kind: (kind, [])),
)


def values_of(plan):
    values, expected, n = [], [], 0
    for i, (kind, goods) in enumerate(plan):
        if kind == "rows":
            texts = [json_row(n + j, good) for j, good in enumerate(goods)]
            values.append(("[" + ",".join(texts) + "]").encode() if i % 2 else "\n".join(texts).encode())
            expected += [(place(FIRST + i, j), float(n + j)) for j, good in enumerate(goods) if good]
            n += len(goods)
        else:
            values.append({"null": None, "empty": b"", "malformed": b"{oops", "blank": b" \n"}[kind])
    return values, expected


def refused_count(plan):
    return sum(
        sum(not good for good in goods) or (1 if not goods else 0) if kind == "rows" else 1 for kind, goods in plan
    )


def entries(blocks):
    """Return (start, end) of rows and rejects, in order."""
    found = []
    for block in blocks:
        found += zip(block.position.tolist(), block.position_end.tolist(), strict=True)
        for reject in block.rejected:
            found += zip(reject.position.tolist(), reject.position_end.tolist(), strict=True)
    return sorted(found)


def table(blocks):
    return [
        (at, x)
        for block in blocks
        for at, x in zip(block.position.tolist(), block.batch.column("x").cast(pa.float64()).to_pylist(), strict=True)
    ]


DECODE = decoder("json", {"types": {"x": "float64"}})


@settings(max_examples=150, deadline=None)
@given(st.lists(message, min_size=1, max_size=12))
def test_rows_and_rejects_tile_the_span(plan):
    values, expected = values_of(plan)
    raw = raw_block(values)
    blocks = list(to_blocks(raw, DECODE, ["x"]))
    assert len(blocks) == 1
    (block,) = blocks
    assert table(blocks) == expected
    assert (block.start, block.stop) == (raw.start, raw.stop)
    assert sum(len(reject) for reject in block.rejected) == refused_count(plan)
    assert block.scanned == len(expected) + refused_count(plan)
    assert block.recorded.tolist() == [at // PLACES * 10_000 for at, _ in expected]
    found = entries(blocks)
    assert found[0][0] == raw.start
    assert found[-1][1] == raw.stop
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(found))
    assert all(start < end for start, end in found)
    assert np.all(np.diff(block.position) > 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(message, min_size=1, max_size=12), st.data())
def test_any_split_between_messages_gives_the_same(plan, data):
    values, expected = values_of(plan)
    raw = raw_block(values)
    at = sorted(data.draw(st.sets(st.integers(1, max(1, len(values) - 1)), max_size=4)) & set(range(1, len(values))))
    edges = [0, *at, len(values)]
    parts = [
        cut(raw, a, b, int(raw.position[b]) if b < len(values) else raw.stop) for a, b in itertools.pairwise(edges)
    ]
    whole = list(to_blocks(raw, DECODE, ["x"]))
    pieces = [block for part in parts for block in to_blocks(part, DECODE, ["x"])]
    assert table(pieces) == table(whole) == expected
    assert entries(pieces) == entries(whole)

    def told(blocks):
        return sorted(
            (reject.reason, at, text)
            for block in blocks
            for reject in block.rejected
            for at, text in zip(reject.position.tolist(), reject.detail or ("",) * len(reject), strict=True)
        )

    assert told(pieces) == told(whole)


@settings(max_examples=150, deadline=None)
@given(st.lists(message, min_size=1, max_size=8), st.data())
def test_what_was_seen_is_dropped_to_the_row(plan, data):
    values, expected = values_of(plan)
    raw = raw_block(values)
    one = st.tuples(st.integers(0, len(values)), st.integers(0, 4)).map(lambda at: place(FIRST + at[0], at[1]))
    bounds = sorted(data.draw(st.sets(one, min_size=2, max_size=6)))
    seen = np.array([bounds[i : i + 2] for i in range(0, len(bounds) - 1, 2)], dtype=np.int64)
    noted = with_seen(raw, seen)
    blocks = list(to_blocks(noted, DECODE, ["x"]))

    def fresh(at):
        return not any(a <= at < b for a, b in seen.tolist())

    assert table(blocks) == [(at, x) for at, x in expected if fresh(at)]
    whole = list(to_blocks(raw, DECODE, ["x"]))
    assert [start for start, _ in entries(blocks)] == [start for start, _ in entries(whole) if fresh(start)]
    spans = [(block.start, block.stop) for block in blocks]
    assert all(a < b and b <= c for (a, b), (c, _) in itertools.pairwise(spans))
    assert sum(b - a for a, b in spans) == raw.stop - raw.start - sum(
        min(b, raw.stop) - max(a, raw.start) for a, b in seen.tolist() if a < raw.stop
    )
    for block in blocks:
        assert all(block.start <= a < b <= block.stop for a, b in entries([block]))


def test_all_seen_gives_nothing():
    raw = raw_block([b'{"x": 1}'])
    assert list(to_blocks(with_seen(raw, np.array([[0, place(5000)]])), DECODE, ["x"])) == []


def test_seen_elsewhere_is_not_noted():
    raw = raw_block([b'{"x": 1}'])
    assert with_seen(raw, np.array([[0, place(5)]])) is raw


def test_message_columns():
    raw = raw_block([b'{"x": 1}{"x": 2}', None, b'{"x": 3}'])
    (block,) = to_blocks(raw, DECODE, ["kafka.offset", "x", "kafka.key", "kafka.timestamp"])
    assert block.batch.to_pydict()["kafka.offset"] == [1000, 1000, 1002]
    assert block.batch.to_pydict()["kafka.key"] == [None, None, None]
    assert block.batch.column("kafka.timestamp").cast(pa.int64()).to_pylist() == [10_000, 10_000, 10_020]
    (block,) = to_blocks(raw, DECODE)
    assert set(block.batch.schema.names) == {"x", *messages.MESSAGE_COLUMNS}


@pytest.mark.parametrize(
    ("format", "options", "value"),
    [
        ("json", {}, b'{"x": 1}'),
        ("csv", {"column_names": ["x"]}, b"1"),
        (
            "avro",
            {"framing": "none", "schema_text": '{"type":"record","name":"r","fields":[{"name":"x","type":"long"}]}'},
            b"\x02",
        ),
    ],
)
@pytest.mark.parametrize("n", [3, 100])
def test_columns_of_the_message_alone(format, options, value, n):
    raw = raw_block([value, value + b"\xff", value] * n)
    decode = decoder(format, options)
    (block,) = to_blocks(raw, decode, ["kafka.offset"])
    assert block.batch.to_pydict() == {"kafka.offset": [FIRST + i for i in range(3 * n) if i % 3 != 1]}
    assert [(one.reason, len(one)) for one in block.rejected] == [("malformed message", n)]
    (block,) = to_blocks(raw, decode, [])
    assert len(block) == 2 * n
    (half,) = to_blocks(with_seen(raw, np.array([[raw.start, place(FIRST + 3)]])), decode, [])
    assert len(half) == 2 * n - 2


def test_no_messages():
    raw = raw_block([], stop=FIRST + 7)
    for format, options in [("json", {}), ("csv", {"column_names": ["x"]})]:
        (block,) = to_blocks(raw, decoder(format, options), ["x"])
        assert (len(block), block.rejected, block.start, block.stop) == (0, (), place(FIRST), place(FIRST + 7))


def test_a_message_of_too_many_rows():
    def many(values, columns=None):
        n = PLACES + 1
        batch = pa.record_batch({"x": np.arange(n + 2.0)})
        message = np.repeat([0, 1, 2], [1, n, 1])
        row = np.concatenate([[0], np.arange(n), [0]])
        gone = Refused("unparseable value", np.array([0, 1]), np.array([1, PLACES + 5]), ("a", "b"))
        return Decoded(batch, message, row, (gone,))

    raw = raw_block([b"a", b"b", b"c"])
    (block,) = to_blocks(raw, many, ["x"])
    assert block.batch.column("x").to_pylist() == [0.0, PLACES + 2.0]
    reasons = {one.reason: (one.position.tolist(), one.detail) for one in block.rejected}
    assert reasons == {
        "unparseable value": ([place(FIRST, 1)], ("a",)),
        "too many rows in one message": ([place(FIRST + 1)], ()),
    }
    assert entries([block])[-1][1] == raw.stop


def build_upper(options):
    def decode(values, columns=None):
        n = len(values)
        batch = pa.record_batch({"text": [value.decode().upper() + options["end"] for value in values.to_pylist()]})
        return Decoded(batch, np.arange(n), np.zeros(n, dtype=np.int64))

    return decode


def test_a_format_of_ones_own():
    decode = decoder(f"{__name__}:build_upper", {"end": "!"})
    assert decode(pa.array([b"a"])).batch.to_pydict() == {"text": ["A!"]}


@pytest.mark.parametrize("make", [decoder, encoder])
def test_no_such_format(make):
    with pytest.raises(
        InvalidValue, match=r"must be one of \['json', 'avro', 'csv', 'recordio', 'libsvm', 'image'\].*got 'xml'\.$"
    ):
        make("xml")
    with pytest.raises(InvalidValue, match="importable"):
        make("beam_ml.nowhere:at_all")
    with pytest.raises(InvalidValue, match="importable"):
        make("json:nothing")


@pytest.mark.parametrize("format", messages.MESSAGE_FORMATS)
@pytest.mark.parametrize("make", [decoder, encoder])
def test_unknown_options_are_refused_in_one_sentence(make, format):
    with pytest.raises(InvalidValue, match=rf"{format}\.Options\.quux must not be given: there is no such field") as e:
        make(format, {"quux": 1, "column_names": ["x"]} if format == "csv" else {"quux": 1, **SCHEMA[format]})
    assert str(e.value).count(". ") == 0


SCHEMA = {"json": {}, "recordio": {}, "libsvm": {}, "image": {}, "avro": {"schema_file": "/nowhere"}}


def test_a_detail_is_short():
    (refused,) = decoder("json")(pa.array([json.dumps(["a" * 10_000]).encode()[:-3]]), ["x"]).refused
    assert len(refused.detail[0]) < 400
