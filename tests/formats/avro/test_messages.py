"""Avro messages: frames, schemas from everywhere, and many at once equal to one by one."""

import http.server
import io
import json
import struct
import threading
from typing import ClassVar

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_ml.errors import InvalidValue, MissingColumn, NoInput, SourceError, SourceUnavailable, UnreadableInput
from beam_ml.formats.avro import message_decoder, message_encoder, schema_registry
from beam_ml.formats.avro.schema import avro_schema, plain


def record(*fields, name="r"):
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields]}


SIMPLE = record(("x", "double"), ("i", "long"))


def frame(id, body=b""):
    return struct.pack(">bI", 0, id) + body


def body(schema, value):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(plain(schema)), value)
    return stream.getvalue()


def decode(values, columns=None, **options):
    return message_decoder(options)(pa.array(values, pa.binary()), columns)


def told(found):
    where = zip(found.message.tolist(), found.row.tolist(), strict=True)
    good = dict(zip(where, (tuple(row.values()) for row in found.batch.to_pylist()), strict=True))
    refused = sorted(
        (m, r, one.reason) for one in found.refused for m, r in zip(one.message.tolist(), one.row.tolist(), strict=True)
    )
    return good, refused


def bare(schema):
    return {"framing": "none", "schema_text": json.dumps(schema)}


@pytest.mark.parametrize("n", [1, 100])
def test_one_record_a_message(n):
    values = [body(SIMPLE, {"x": i + 0.5, "i": -(2**40) * i}) for i in range(n)]
    found = decode(values, ["i", "x"], **bare(SIMPLE))
    assert found.batch.to_pydict() == {"i": [-(2**40) * i for i in range(n)], "x": [i + 0.5 for i in range(n)]}
    assert found.refused == ()
    for m in (0, n):
        with pytest.raises(MissingColumn, match=r"schema_text must have the column 'absent'; got \['x', 'i'\]\.$"):
            decode(values[:m], ["x", "absent"], **bare(SIMPLE))


POISON = {
    b"": "empty message",
    b"\x00": "malformed message",
    body(SIMPLE, {"x": 1.0, "i": 1}) + b"\x00": "malformed message",
    body(SIMPLE, {"x": 1.0, "i": 2**40})[:-1]: "malformed message",
    b"\xff" * 30: "malformed message",
}


@pytest.mark.parametrize("n", [1, 100])
def test_poison(n):
    good = body(SIMPLE, {"x": 1.0, "i": 7})
    found = decode([*POISON, *[good] * n], **bare(SIMPLE))
    rows, refused = told(found)
    assert refused == [(i, -1, reason) for i, reason in enumerate(POISON.values())]
    assert rows == {(len(POISON) + k, 0): (1.0, 7) for k in range(n)}
    assert all(len(text) < 1200 for one in found.refused for text in one.detail)


@pytest.mark.parametrize("n", [2, 200])
def test_frames_and_ids(tmp_path, n):
    """Two writer schemas, one wider than the other; ids that nobody knows, and no frame."""
    wide = record(("i", "double"), ("more", "string"))
    for id, schema in ((7, SIMPLE), (300_000, wide)):
        (tmp_path / f"{id}.avsc").write_text(json.dumps(schema))
    options = {"schema_files": {"7": str(tmp_path / "7.avsc"), "300000": str(tmp_path / "300000.avsc")}}
    values = []
    for i in range(n):
        values.append(frame(7, body(SIMPLE, {"x": 0.5, "i": i})))
        values.append(frame(300_000, body(wide, {"i": i + 0.5, "more": f"m{i}"})))
    values += [frame(8, b"abc"), b"\x01\x00\x00\x00\x07abc", b"\x00\x00", frame(7)]
    found = decode(values, ["i", "more"], **options)
    assert told(found)[1] == [
        (2 * n, -1, "unknown schema"), *((2 * n + k, -1, "malformed message") for k in (1, 2, 3)),
    ]  # fmt: skip
    assert found.batch.to_pydict() == {
        "i": [i + half for i in range(n) for half in (0, 0.5)],
        "more": [one for i in range(n) for one in (None, f"m{i}")],
    }
    assert found.message.tolist() == list(range(2 * n))
    only = message_decoder({"schema_file": str(tmp_path / "7.avsc")})(pa.array([values[0]]), None)
    assert only.batch.to_pydict() == {"x": [0.5], "i": [0]}


def test_a_column_of_types_that_nothing_holds(tmp_path):
    text = record(("i", "string"))
    for id, schema in ((1, SIMPLE), (2, text)):
        (tmp_path / f"{id}").write_text(json.dumps(schema))
    values = [frame(1, body(SIMPLE, {"x": 1.0, "i": 1})), frame(2, body(text, {"i": "a"}))]
    found = decode(values, ["i"], schema_files={"1": str(tmp_path / "1"), "2": str(tmp_path / "2")})
    assert told(found) == ({(0, 0): ("1",), (1, 0): ("a",)}, [])
    (tmp_path / "3").write_text(json.dumps(record(("i", "bytes"))))
    found = decode(values, ["i"], schema_files={"1": str(tmp_path / "1"), "2": str(tmp_path / "3")})
    assert told(found) == ({(0, 0): (1,)}, [(1, 0, "unparseable value")])


@pytest.mark.parametrize("n", [1, 150])
def test_arrays_of_records(n):
    schema = {"type": "array", "items": SIMPLE}
    sizes = [i % 5 for i in range(n)]
    values = [body(schema, [{"x": j + 0.5, "i": 10 * m + j} for j in range(size)]) for m, size in enumerate(sizes)]
    values += [b"\x02", values[-1] + b"\x00", b"\xff" * 12]
    # blocks of a negative count say their bytes too
    one = body(SIMPLE, {"x": 0.5, "i": 3})
    values.append(b"\x03" + bytes([2 * 2 * len(one)]) + one + one + b"\x02" + one + b"\x00")
    found = decode(values, **bare(schema))
    expected = {(m, j): (j + 0.5, 10 * m + j) for m, size in enumerate(sizes) for j in range(size)}
    expected |= {(n + 3, j): (0.5, 3) for j in range(3)}
    assert told(found) == (expected, [(n + k, -1, "malformed message") for k in range(3)])


def test_a_long_array():
    schema = {"type": "array", "items": SIMPLE}
    value = body(schema, [{"x": float(j), "i": j} for j in range(5000)])
    found = decode([value, value], **bare(schema))
    assert found.batch.column("i").to_pylist() == [*range(5000), *range(5000)]


FIELDS = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 200),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    "bytes": st.binary(max_size=5),
    "enum": st.sampled_from(["A", "B", "C"]),
    "fixed": st.binary(min_size=3, max_size=3),
    "time": st.integers(-(2**50), 2**50),
    "date": st.integers(-10_000, 10_000),
}


def field_type(kind, name):
    return {
        "enum": {"type": "enum", "name": f"e{name}", "symbols": ["A", "B", "C"]},
        "fixed": {"type": "fixed", "name": f"f{name}", "size": 3},
        "time": {"type": "long", "logicalType": "timestamp-micros"},
        "date": {"type": "int", "logicalType": "date"},
    }.get(kind, kind)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_many_at_once_equal_one_by_one(data):
    """The same messages, some damaged, read column by column and by fastavro: rows, order, refusals."""
    kinds = data.draw(
        st.lists(st.tuples(st.sampled_from(sorted(FIELDS)), st.sampled_from("-ab")), min_size=1, max_size=6)
    )
    fields = []
    for j, (kind, union) in enumerate(kinds):
        plain_type = field_type(kind, j)
        fields.append((f"c{j}", {"-": plain_type, "a": ["null", plain_type], "b": [plain_type, "null"]}[union]))
    schema = record(*fields)
    many = data.draw(st.booleans())
    whole = {"type": "array", "items": schema} if many else schema
    row = st.fixed_dictionaries(
        {f"c{j}": FIELDS[kind] if union == "-" else FIELDS[kind] | st.none() for j, (kind, union) in enumerate(kinds)}
    )
    pool = data.draw(st.lists(st.lists(row, max_size=4) if many else row, min_size=1, max_size=6))
    damage = data.draw(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(0, 255)), max_size=6))
    bodies = [body(whole, value) for value in pool]
    for which, at, byte in damage:
        value = bytearray(bodies[which % len(pool)])
        if value:
            value[at % len(value)] = byte
            bodies.append(bytes(value))
            bodies.append(bytes(value[: at % len(value)]))
    values = [bodies[i % len(bodies)] for i in range(200)]
    decoder = message_decoder(bare(whole))
    found = decoder(pa.array(values, pa.binary()))
    good, refused = told(found)
    one_good, one_refused = {}, []
    for i, value in enumerate(bodies):
        rows, bad = told(decoder(pa.array([value], pa.binary())))
        for k in range(i, 200, len(bodies)):
            one_good |= {(k, j): row for (_, j), row in rows.items()}
            one_refused += [(k, j, reason) for _, j, reason in bad]
    assert repr(sorted(good.items())) == repr(sorted(one_good.items()))
    assert refused == sorted(one_refused)
    wanted = [name for name, _ in fields[::2]]
    narrow = decoder(pa.array(values, pa.binary()), wanted)
    assert narrow.batch.schema.names == wanted


def test_what_has_no_arrow_type_is_left_out():
    schema = record(("x", "double"), ("u", ["int", "bytes"]), ("deep", record(("y", "int"), name="d")))
    values = [body(schema, {"x": 1.0, "u": b"a", "deep": {"y": 3}})] * 60
    assert decode(values, **bare(schema)).batch.slice(0, 1).to_pydict() == {"x": [1.0], "deep": [{"y": 3}]}
    with pytest.raises(
        MissingColumn, match=r"has the column 'u', which cannot be read: a union of 2 types has no Arrow eq"
    ):
        decode(values, ["x", "u"], **bare(schema))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"^avro\.Options\.must be given one of .* got none\.$"),
        ({"schema_file": "a", "registry": "http://x"}, "got schema_file, registry"),
        ({"framing": "none", "registry": "http://x"}, "registry needs messages framed with an id"),
        ({"schema_files": {"a": "b"}}, r"avro\.Options\.schema_files"),
        ({"framing": "other", "schema_file": "a"}, "must be one of 'confluent' or 'none'"),
    ],
)
def test_settings_that_cannot_be(options, words):
    with pytest.raises(InvalidValue, match=words):
        message_decoder(options)


def test_schemas_that_cannot_be(tmp_path):
    for text in ("{", '"long"', '{"type": "array", "items": "long"}', '{"type": "record", "name": "r"}'):
        with pytest.raises(UnreadableInput, match=r"^avro\.Options\.schema_text must be"):
            message_decoder({"schema_text": text})
    with pytest.raises(NoInput, match="nowhere must be a file that holds an Avro schema"):
        message_decoder({"schema_file": str(tmp_path / "nowhere")})


def test_encode_then_decode():
    batch = pa.record_batch(
        {
            "x": pa.array([1.5, None, 3.0]), "s": ["a", "b", "ü"], "b": [True, None, False],
            "t": pa.array([1, None, 3], pa.timestamp("us", tz="UTC")), "d": pa.array([1, 2, 3], pa.date32()),
        }
    )  # fmt: skip
    schema = avro_schema(batch.schema)
    options = {"schema_text": json.dumps(schema), "write_id": 12}
    values = message_encoder(options)(batch)
    assert [value[:5] for value in values] == [frame(12)] * 3
    assert message_decoder(options)(pa.array(values)).batch.equals(batch)
    with pytest.raises(InvalidValue, match="rows_per_message must be 1"):
        message_encoder(options)(batch, 2)
    options = {"schema_text": json.dumps({"type": "array", "items": schema}), "framing": "none"}
    values = message_encoder(options)(batch, 2)
    found = message_decoder(options)(pa.array(values))
    assert found.batch.equals(batch)
    assert (found.message.tolist(), found.row.tolist()) == ([0, 0, 1], [0, 1, 0])
    with pytest.raises(InvalidValue, match="row 0 must fit the Avro schema"):
        message_encoder(bare(SIMPLE))(pa.record_batch({"x": ["a"]}))
    with pytest.raises(InvalidValue, match="write_id must be given"):
        message_encoder({"schema_text": json.dumps(SIMPLE)})
    with pytest.raises(InvalidValue, match="write_id must be the id of a known schema; got 3"):
        message_encoder({"schema_files": {"1": "x"}, "write_id": 3})


class Registry(http.server.BaseHTTPRequestHandler):
    """Answers like Confluent's; the id says how."""

    asked: ClassVar[list] = []

    def do_GET(self):
        self.asked.append((self.path, self.headers.get("Authorization")))
        inner = record(("y", "int"), name="inner")
        answers = {
            "/schemas/ids/1": {"schema": json.dumps(SIMPLE)},
            "/schemas/ids/2": {
                "schema": json.dumps(record(("x", "double"), ("deep", "inner"))),
                "references": [{"name": "inner", "subject": "in/ner", "version": 3}],
            },
            "/subjects/in%2Fner/versions/3": {"schema": json.dumps(inner)},
            "/schemas/ids/3": {"schema": "syntax", "schemaType": "PROTOBUF"},
            "/schemas/ids/4": {"no": "schema"},
        }
        status = 500 if self.path == "/schemas/ids/5" else 200 if self.path in answers else 404
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answers.get(self.path, {"error_code": 40403})).encode())

    def log_message(self, format, *args):
        pass


@pytest.fixture
def registry():
    Registry.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_registry_is_asked_once(registry, monkeypatch):
    monkeypatch.setenv("REGISTRY_AUTH", "Basic abc")
    values = [frame(1, body(SIMPLE, {"x": 0.5, "i": i})) for i in range(100)]
    options = {"registry": registry + "/", "authorization": "$REGISTRY_AUTH"}
    assert Registry.asked == []
    for _ in range(2):
        assert decode(values, ["i"], **options).batch.column("i").to_pylist() == list(range(100))
    assert Registry.asked == [("/schemas/ids/1", "Basic abc")]
    encoded = message_encoder({**options, "write_id": 1})(pa.record_batch({"x": [0.5], "i": [0]}))
    assert encoded == values[:1]


def test_schemas_that_refer_to_others(registry):
    schema = record(("x", "double"), ("deep", record(("y", "int"), name="inner")))
    value = frame(2, body(schema, {"x": 1.5, "deep": {"y": 3}}))
    assert decode([value] * 3, registry=registry).batch.to_pydict() == {"x": [1.5] * 3, "deep": [{"y": 3}] * 3}
    assert decode([value] * 3, ["deep.y"], registry=registry).batch.to_pydict() == {"deep.y": [3] * 3}
    assert [path for path, _ in Registry.asked] == ["/schemas/ids/2", "/subjects/in%2Fner/versions/3"]


@pytest.mark.parametrize(
    ("id", "error", "words"),
    [
        (404, NoInput, r"/schemas/ids/404 must return the schema of id 404; it answered 404 Not Found\.$"),
        (3, NoInput, r"must return the schema of id 3 in Avro; it is PROTOBUF\.$"),
        (4, SourceUnavailable, "must return the schema of id 4 as JSON with a field 'schema'"),
        (5, SourceUnavailable, "must return the schema of id 5; it answered 500"),
    ],
)
def test_a_registry_that_has_it_not(registry, id, error, words):
    assert issubclass(error, SourceError)
    for asked in (1, 2):
        with pytest.raises(error, match=words) as caught:
            decode([frame(id, b"abc")], registry=registry)
        assert registry in str(caught.value)
        assert len(Registry.asked) == asked  # a failure is not kept


def test_an_unknown_id_may_be_refused(registry):
    values = [frame(1, body(SIMPLE, {"x": 0.5, "i": 3})), frame(404, b"abc")]
    found = decode(values, registry=registry, unknown_id="refuse")
    assert told(found) == ({(0, 0): (0.5, 3)}, [(1, -1, "unknown schema")])
    with pytest.raises(SourceUnavailable):
        decode([frame(5)], registry=registry, unknown_id="refuse")


def test_a_registry_that_is_down(registry, monkeypatch):
    server = http.server.HTTPServer(("127.0.0.1", 0), Registry)
    where = f"http://127.0.0.1:{server.server_port}"
    server.server_close()
    with pytest.raises(
        SourceUnavailable, match=r"/schemas/ids/9 must return the schema of id 9; it cannot be reached \("
    ):
        schema_registry.schema(where, 9)
    with pytest.raises(InvalidValue, match="must be an http or https URL"):
        schema_registry.schema("file:///etc", 9)
    monkeypatch.delenv("NO_SUCH", raising=False)
    with pytest.raises(InvalidValue, match=r"names \$NO_SUCH, which must be set"):
        schema_registry.schema(registry, 1, "$NO_SUCH")


def test_all_ids_in_one_block():
    rng = np.random.default_rng(1)
    ids = rng.permutation(300)
    values = [frame(int(id), body(SIMPLE, {"x": 1.0, "i": int(id)})) for id in ids]
    found = decode(values, ["i"], schema_text=json.dumps(SIMPLE))
    assert found.batch.column("i").to_pylist() == ids.tolist()
