"""JSON messages: what is parsed, what is refused, and that neighbours never matter."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.errors import InvalidValue
from beam_ml.features import Features
from beam_ml.formats.block import Block
from beam_ml.formats.json import message_decoder, message_encoder

TYPES = {"x": "float64", "i": "int64", "s": "string", "b": "bool", "t": "timestamp[us, tz=UTC]", "d": "date32"}
COLUMNS = list(TYPES)


def decode(values, columns=COLUMNS, types=TYPES):
    return message_decoder({"types": types})(pa.array(values, pa.binary()), columns)


def told(found):
    """Return rows as (message, row) → values, and refusals as (message, row, reason)."""
    rows = found.batch.to_pylist()
    where = zip(found.message.tolist(), found.row.tolist(), strict=True)
    good = {at: {k: v for k, v in row.items() if v is not None} for at, row in zip(where, rows, strict=True)}
    refused = sorted(
        (m, r, one.reason)
        for one in found.refused
        for m, r in zip(
            one.message.tolist(),
            (one.row if one.row is not None else np.full(len(one.message), -1)).tolist(),
            strict=True,
        )
    )
    return good, refused


def single(value, columns=COLUMNS, types=TYPES):
    return told(decode([value], columns, types))


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (b'{"x": 1}', [{"x": 1.0}]),
        (b'{"x": 1}{"x": 2} \r\n\t{"x": 3}\n', [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}]),
        (b'[{"x": 1}, {"x": 2.5}]', [{"x": 1.0}, {"x": 2.5}]),
        (b'{\n  "x": 1,\n  "s": "a}\\n{"\n}', [{"x": 1.0, "s": "a}\n{"}]),
        (b"{}", [{}]),
        (b'\xef\xbb\xbf{"x": 1}', [{"x": 1.0}]),
        (b'{"i": 9007199254740993}', [{"i": 9007199254740993}]),
        (b'{"i": 3.0}', [{"i": 3}]),
        (b'{"i": 1e3}', [{"i": 1000}]),
        (b'{"x": 123456789012345678901234567890}', [{"x": 1.2345678901234568e29}]),
        (b'{"y": 1, "y": 2, "x": 3}', [{"x": 3.0}]),
        (b'{"y": {"z": [1, "a", null]}, "x": 1}', [{"x": 1.0}]),
        (b'{"y": ' + b"[" * 100_000 + b"]" * 100_000 + b', "x": 1}', [{"x": 1.0}]),
        (b'{"y": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b', "x": 1}', [{"x": 1.0}]),
        (b'{"y": Infinity, "x": 1}', [{"x": 1.0}]),
        (b'{"y": Inf, "x": 1}', [{"x": 1.0}]),
        (b'{"y": ' + b"9" * 5000 + b', "x": 1}', [{"x": 1.0}]),
        (b'{"y": 1e999, "x": 1}', [{"x": 1.0}]),
        (b'{"s": "\\u0000\\ud83d\\ude00"}', [{"s": "\x00\U0001f600"}]),
        (b'{"y": "\\ud800", "x": 1}', [{"x": 1.0}]),
        (b'{"x": null, "s": null}', [{}]),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_parsed(value, rows):
    good, refused = single(value)
    assert list(good.values()) == rows
    assert list(good) == [(0, j) for j in range(len(rows))]
    assert refused == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty message"),
        (b" \n\t", "empty message"),
        (b"\xff\xfe", "malformed message"),
        (b'{"y": "\xff", "x": 1}', "malformed message"),
        ('{"x": 1}'.encode("utf-16"), "malformed message"),
        (b'{"x": 1', "malformed message"),
        (b'{"x": 1}}', "malformed message"),
        (b'{"x": 1},{"x": 2}', "malformed message"),
        (b'{"x": 1}\x00', "malformed message"),
        (b'{"x": 01}', "malformed message"),
        (b"{'x': 1}", "malformed message"),
        (b'{"x": 1,}', "malformed message"),
        (b'{"x": 1} // c', "malformed message"),
        (b"null", "malformed message"),
        (b"3", "malformed message"),
        (b'"text"', "malformed message"),
        (b"true", "malformed message"),
        (b'{"s": "a\nb"}', "malformed message"),
        (b"[" * 100_000 + b"]" * 100_000, "malformed message"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "malformed message"),
        (b'{"x": 1}"a"{"x": ', "malformed message"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_refused_as_a_whole(value, reason):
    found = decode([b'{"x": 1}', value, b'{"x": 3}'])
    assert told(found) == ({(0, 0): {"x": 1.0}, (2, 0): {"x": 3.0}}, [(1, -1, reason)])


@pytest.mark.parametrize(
    "text",
    [
        '"x": "1"', '"x": true', '"x": [1]', '"x": {"a": 1}', '"x": NaN', '"x": Infinity', '"x": -Infinity',
        '"x": 1e999', '"i": 1.5', '"i": 9223372036854775808', '"i": true', '"i": "1"', '"s": 1', '"s": "\\ud800"',
        '"b": 1', '"b": "true"', '"t": "yesterday"', '"t": "2024-13-01"', '"t": 1.5', '"t": true', '"d": "?"',
        '"x": ' + "9" * 5000, '"i": ' + "9" * 5000,
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["lines", "array"])
def test_a_value_that_does_not_convert_costs_its_row_alone(text, shape):
    rows = ['{"x": 1}', "{" + text + "}", '{"x": 3}']
    value = ("\n".join(rows) if shape == "lines" else "[" + ",".join(rows) + "]").encode()
    found = decode([b'{"x": 0}', value])
    assert told(found) == ({(0, 0): {"x": 0.0}, (1, 0): {"x": 1.0}, (1, 2): {"x": 3.0}}, [(1, 1, "unparseable value")])
    assert text[1] in found.refused[0].detail[0].split(":")[0]


def test_rows_that_are_no_objects():
    good, refused = single(b'[{"x": 1}, 3, null, [], "a", {"x": 2}]')
    assert good == {(0, 0): {"x": 1.0}, (0, 5): {"x": 2.0}}
    assert refused == [(0, j, "malformed row") for j in range(1, 5)]
    assert single(b'{"x": 1}\nnull\n{"x": 2}') == (
        {(0, 0): {"x": 1.0}, (0, 2): {"x": 2.0}}, [(0, 1, "malformed row")],
    )  # fmt: skip


def test_texts_that_would_crash_the_fast_parser():
    """Each in a process of its own: a crash would otherwise take the tests with it."""
    code = (
        "import pyarrow as pa; from beam_ml.formats.json import message_decoder\n"
        "for value in (b'null', b'null{\"x\":1}', b'[null]', b'[' * 10**6, b'{\"x\":' + b'[' * 10**6 + b']' * 10**6 + b'}'):\n"
        "    for types in ({}, {'x': 'float64'}):\n"
        "        for columns in (None, ['x'], []):\n"
        "            found = message_decoder({'types': types})(pa.array([value] * 3), columns)\n"
        "            assert sum(len(one.message) for one in found.refused) + len(found.message) >= 3\n"
        "print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "alive\n", (done.returncode, done.stderr[-500:])


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ('"2024-05-01T12:00:00Z"', 1714564800_000000), ('"2024-05-01T12:00:00"', 1714564800_000000),
        ('"2024-05-01 12:00:00.5"', 1714564800_500000), ('"2024-05-01T14:00:00.123456+02:00"', 1714564800_123456),
        ('"2024-05-01T12:00:00.123456789Z"', 1714564800_123456), ('"2024-05-01"', 1714521600_000000),
        ("1714564800000000", 1714564800_000000), ("1714564800000000.0", 1714564800_000000),
        ("1.7145648e15", 1714564800_000000), ("-1", -1),
    ],
)  # fmt: skip
def test_times_as_texts_and_numbers(text, us):
    value = f'{{"t": {text}}}'.encode()
    for values in ([value], [value] * 3, [value, b'{"t": 7}'], [value, b'{"t": "1970-01-01T00:00:00.000007Z"}']):
        found = decode(values, ["t"])
        assert found.refused == ()
        assert found.batch.schema.field("t").type == pa.timestamp("us", tz="UTC")
        assert found.batch.column("t").cast(pa.int64()).to_pylist()[0] == us


def test_epoch_numbers_are_in_the_types_unit():
    found = decode([b'{"t": 1714564800}'], ["t"], {"t": "timestamp[s]"})
    assert found.batch.column("t").cast(pa.timestamp("us")).cast(pa.int64()).to_pylist() == [1714564800_000000]
    assert decode([b'{"d": "2024-05-01"}', b'{"d": 19844}'], ["d"]).batch.column("d").cast(pa.int32()).to_pylist() == [
        19844,
        19844,
    ]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("int8", 127, 128),
        ("uint8", 255, -1),
        ("int32", 2**31 - 1, 2**31),
        ("float32", 1.5, 1e300),
        ("uint64", 2**62, -1),
    ],
)
def test_ranges_of_types(name, good, bad):
    found = decode([json.dumps({"v": good}).encode(), json.dumps({"v": bad}).encode()], ["v"], {"v": name})
    assert found.batch.to_pydict() == {"v": [good]}
    assert str(found.batch.schema.field("v").type) == {"float32": "float"}.get(name, name)
    assert told(found)[1] == [(1, 0, "unparseable value")]


def test_types_without_declaration():
    values = [
        b'{"whole": 1, "mixed": 1, "text": "a", "truth": true, "at": "2024-05-01T00:00:00Z", "none": null, "big": 9007199254740993}',
        b'{"whole": 2, "mixed": 1.5, "text": "b", "truth": false, "at": "2024-05-01T00:00:00.5", "late": 3, "big": 1}',
    ]
    for columns in (None, ["whole", "mixed", "text", "truth", "at", "none", "big", "late"]):
        batch = decode(values, columns, {}).batch
        assert {field.name: str(field.type) for field in batch.schema} == {
            "whole": "int64", "mixed": "double", "text": "string", "truth": "bool",
            "at": "string", "none": "null", "big": "int64", "late": "int64",
        }  # fmt: skip
        assert batch.to_pydict()["big"] == [9007199254740993, 1]
        assert batch.to_pydict()["late"] == [None, 3]


def test_texts_of_times_are_read_as_times_whatever_stands_beside_them():
    features = Features(numeric=["x"], time="at")
    texts = ["2024-05-01T00:00:00Z", "2024-05-01T00:00:00.5+01:00", "x"]
    found = decode([json.dumps({"at": text, "x": 1}).encode() for text in texts], ["x", "at"], {})
    batch, rejected = features.to_batch(Block(found.batch))
    assert batch.time.tolist() == [1714521600_000000, 1714518000_500000]
    assert [(one.reason, one.detail) for one in rejected] == [("event time cannot be read", ("x",))]


@pytest.mark.parametrize("n", [100, 3000])
def test_what_a_sample_does_not_show(n):
    """A fraction, a large number and a rare column beyond the messages looked at first."""
    rows = [{"v": i, "big": 2**60 + i} for i in range(n)]
    rows[n // 2 + 1] |= {"v": 0.5, "rare": 7}
    found = decode([json.dumps(row).encode() for row in rows], ["v", "big", "rare"], {})
    assert found.refused == ()
    assert found.batch.to_pydict() == {
        "v": [row["v"] for row in rows], "big": [2**60 + i for i in range(n)], "rare": [row.get("rare") for row in rows],
    }  # fmt: skip


def test_whole_and_fractional_blocks_give_the_same_features():
    features = Features(numeric=["amount"], time={"column": "at", "unit": "us"})
    whole = decode([b'{"amount": 2, "at": 5}', b'{"amount": 3, "at": 6}'], ["amount", "at"], {})
    mixed = decode([b'{"amount": 2, "at": 5}', b'{"amount": 3.5, "at": 6}'], ["amount", "at"], {})
    for found, last in ((whole, 3.0), (mixed, 3.5)):
        batch, rejected = features.to_batch(Block(found.batch))
        assert batch.X.tolist() == [[2.0], [last]]
        assert batch.time.tolist() == [5, 6]
        assert rejected == ()


def test_nested_columns_are_left_out_or_refused():
    values = [b'{"x": 1, "deep": {"a": 1}}', b'{"x": 2, "deep": [1]}']
    assert decode(values, None, {}).batch.to_pydict() == {"x": [1, 2]}
    found = decode([*values, b'{"x": 3}'], ["x", "deep"], {})
    assert found.batch.to_pydict() == {"x": [3], "deep": [None]}
    assert told(found)[1] == [(0, 0, "unparseable value"), (1, 0, "unparseable value")]


KINDS = {
    "good": lambda i: json.dumps({"x": i + 0.5, "i": i, "s": f"s{i}"}),
    "short": lambda i: json.dumps({"i": i}),
    "floaty": lambda i: f'{{"i": {i}.0, "t": {i}}}',
    "dated": lambda i: f'{{"i": {i}, "t": "2024-05-01T00:00:00.{i % 1000:03d}Z"}}',
    "type": lambda i: f'{{"i": {i}, "x": "no"}}',
    "nan": lambda i: f'{{"i": {i}, "x": NaN}}',
    "inf": lambda i: f'{{"i": {i}, "other": Inf}}',
    "null": lambda i: "null",
    "null row": lambda i: f'{{"i": {i}}}\nnull{{}}',
    "many": lambda i: "".join(json.dumps({"i": 1000 * i + j, "x": j}) for j in range(i % 4)),
    "array": lambda i: json.dumps([{"i": 1000 * i + j, "t": j} for j in range(i % 4)]),
    "broken": lambda i: '{"i": ' + str(i) + ', "x" = 1}',
    "cut": lambda i: '{"i": ' + str(i),
    "inject": lambda i: '{"i": 1}}\n{"i": 2}',
    "mark": lambda i: '{"i": 1, "beam_ml.first": true}{"beam_ml.first": true}',
    "wrap": lambda i: '[{"i": 1}], "beam_ml.array": [{"i": 2}]',
    "wrap2": lambda i: '[{"i": 1}]}{"beam_ml.array": [{"i": 2}]',
    "scalar": lambda i: "[1, 2]",
    "deep": lambda i: '{"other": ' + "[" * 2000 + "]" * 2000 + f', "i": {i}}}',
}


@settings(max_examples=120, deadline=None)
@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=60), st.integers(0, 2**16))
def test_neighbours_do_not_matter(kinds, base):
    """All at once gives what each message alone gives: rows, places, reasons and details."""
    values = [KINDS[kind](base + i).encode() for i, kind in enumerate(kinds)]
    found = decode(values)
    good, refused = told(found)
    details = {(m, text) for one in found.refused for m, text in zip(one.message.tolist(), one.detail, strict=True)}
    alone_good, alone_refused, alone_details = {}, [], set()
    for i, value in enumerate(values):
        one = decode([value])
        rows, bad = told(one)
        alone_good |= {(i, j): row for (_, j), row in rows.items()}
        alone_refused += [(i, j, reason) for _, j, reason in bad]
        alone_details |= {(i, text) for each in one.refused for text in each.detail}
    assert good == alone_good
    assert refused == sorted(alone_refused)
    assert details == alone_details
    assert np.all(np.diff(found.message) >= 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bytes_at_random_never_raise(data):
    alphabet = st.sampled_from(
        [b"{", b"}", b"[", b"]", b",", b":", b'"x"', b"1", b"null", b"\n", b"NaN", b"\x00", b"\xff", b'"']
    )
    values = data.draw(st.lists(st.lists(alphabet, max_size=9).map(b"".join), min_size=1, max_size=30))
    values += [b'{"x": 4.5}'] * 3
    for types in (TYPES, {}):
        found = decode(values, ["x"], types)
        touched = set(found.message.tolist()) | {m for one in found.refused for m in one.message.tolist()}
        assert set(range(len(values) - 3, len(values))) <= touched


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("per", [1, 20])
def test_poison_costs_only_itself(share, per):
    rng = np.random.default_rng(7)
    n = 1200 // per
    bad = rng.random(n) < share
    values = [
        (
            '{"i": 1, "x" = 2}' if bad[m] else "\n".join(json.dumps({"i": m * per + j, "x": j}) for j in range(per))
        ).encode()
        for m in range(n)
    ]
    found = decode(values, ["i", "x"])
    assert found.batch.column("i").to_pylist() == [m * per + j for m in range(n) if not bad[m] for j in range(per)]
    assert [m for one in found.refused for m in one.message.tolist()] == np.flatnonzero(bad).tolist()
    assert {one.reason for one in found.refused} <= {"malformed message"}


def test_a_slice_of_messages():
    values = pa.array([b'{"x": 1}', b'{"x": 2}', b'{"x": 3}'])
    assert message_decoder({})(values.slice(1, 2), ["x"]).batch.to_pydict() == {"x": [2, 3]}
    assert message_decoder({})(values.cast(pa.large_binary()), ["x"]).batch.to_pydict() == {"x": [1, 2, 3]}


@pytest.mark.parametrize("bad", ["decimal128(3, 1)", "binary", "nonsense", "list<int64>"])
def test_types_that_are_refused(bad):
    with pytest.raises(InvalidValue, match=r"json\.Options\.types must name"):
        message_decoder({"types": {"x": bad}})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(
    st.floats(allow_nan=False, allow_infinity=False) | st.none(), st.integers(-(2**63), 2**63 - 1) | st.none(),
    st.text(st.characters(exclude_categories=["Cs"])) | st.none(), st.booleans() | st.none(),
    st.integers(-62_000_000_000_000_000, 250_000_000_000_000_000) | st.none(),
), min_size=1, max_size=20), st.integers(1, 7))  # fmt: skip
def test_encode_then_decode(rows, per):
    types = [pa.float64(), pa.int64(), pa.string(), pa.bool_(), pa.timestamp("us", tz="UTC")]
    arrays = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), types, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, names=["x", "i", "s", "b", "t"])
    values = message_encoder({})(batch, per)
    assert len(values) == -(-len(rows) // per)
    found = decode(values, ["x", "i", "s", "b", "t"])
    assert found.refused == ()
    assert found.batch.equals(batch)
    assert found.message.tolist() == [k // per for k in range(len(rows))]
    assert found.row.tolist() == [k % per for k in range(len(rows))]


def test_encode_odd_columns():
    batch = pa.record_batch({"x": [float("nan"), float("inf")], "c": pa.array(["a", "b"]).dictionary_encode()})
    assert message_encoder({})(batch) == [b'{"x":null,"c":"a"}', b'{"x":null,"c":"b"}']
    with pytest.raises(InvalidValue, match=r"column 'z' must be of a type that JSON has; got list<item: int64>\."):
        message_encoder({})(pa.record_batch({"z": [[1]]}))
