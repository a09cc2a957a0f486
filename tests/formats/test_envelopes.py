"""Messages of Kafka Connect and Debezium: what is a row, what is refused, and that decimals are numbers."""

import base64
import io
import json

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from beam_ml.errors import InvalidValue
from beam_ml.formats.messages import decoder

DECIMAL = "org.apache.kafka.connect.data.Decimal"


def encoded(unscaled):
    size = unscaled.bit_length() // 8 + 1
    return base64.b64encode(unscaled.to_bytes(size, "big", signed=True)).decode()


def decimal(name, scale):
    return {
        "field": name,
        "type": "bytes",
        "name": DECIMAL,
        "version": 1,
        "parameters": {"scale": str(scale)},
        "optional": True,
    }


ROW = [decimal("amount", 2), decimal("whole", 0), {"field": "id", "type": "int64"}, {"field": "shop", "type": "string"}]
STRUCT = {"type": "struct", "fields": ROW, "name": "row"}
EVENT = {
    "type": "struct",
    "fields": [{"field": "before", **STRUCT}, {"field": "after", **STRUCT}, {"field": "op", "type": "string"}],
}


def row(i):
    return {"amount": encoded(100 * i - 25), "whole": encoded(2**60 + i), "id": 2**60 + i, "shop": f"s{i}"}


def refusals(found):
    return {one.reason: one.message.tolist() for one in found.refused}


def order(one):
    """Return an envelope's text, now and then as other writers would have it."""
    schema, payload = json.dumps(one["schema"]), json.dumps(one["payload"])
    return [
        f'{{"schema":{schema},"payload":{payload}}}', f'{{"payload": {payload}, "schema": {schema}}}',
        f' {{"schema": {schema} , "payload":{payload}}}\n',
    ]  # fmt: skip


@pytest.mark.parametrize("block", [1, 3, 200])
def test_connects_envelope(block):
    texts = [order({"schema": STRUCT, "payload": row(i)})[(i // 7) % 3] for i in range(100)]
    odd = {
        '{"schema":null,"payload":null}': "tombstone", '{"schema":{},"payload":[{"id": 1}]}': "malformed message",
        '{"id": 1}': "malformed message", "{": "malformed message", "": "empty message", '{"schema":{},"payload":{}}{}': "malformed message",
        texts[0] + "{}": "malformed message", texts[0][:-1] + ',"id":3}': "malformed message",
    }  # fmt: skip
    texts += odd
    decode = decoder("json", {"envelope": "connect", "categories": ["shop"]})
    rows, bad = {name: [] for name in ("amount", "whole", "id", "shop")}, {}
    for start in range(0, len(texts), block):
        found = decode(pa.array([text.encode() for text in texts[start : start + block]], pa.binary()), list(rows))
        for name, values in found.batch.to_pydict().items():
            rows[name] += values
        bad |= {start + i: one.reason for one in found.refused for i in one.message.tolist()}
    assert rows == {
        "amount": [i - 0.25 for i in range(100)], "whole": [2**60 + i for i in range(100)],
        "id": [2**60 + i for i in range(100)], "shop": [f"s{i}" for i in range(100)],
    }  # fmt: skip
    assert bad == dict(enumerate(odd.values(), 100))


def test_decimals_that_are_numbers_already_and_those_that_are_none():
    variable = {"field": "v", "type": "struct", "name": "io.debezium.data.VariableScaleDecimal", "fields": []}
    schema = {"type": "struct", "fields": [decimal("amount", 2), variable]}
    payloads = [
        {"amount": 1.5, "v": {"scale": 3, "value": encoded(-1500)}}, {"amount": None, "v": None}, {},
        {"amount": "?", "v": {"scale": -2, "value": encoded(7)}},
    ]  # fmt: skip
    values = [json.dumps({"schema": schema, "payload": payload}).encode() for payload in payloads]
    found = decoder("json", {"envelope": "connect", "types": {"amount": "float64"}})(pa.array(values), ["amount", "v"])
    assert found.batch.to_pydict() == {"amount": [1.5, None, None], "v": [-1.5, None, None]}
    assert refusals(found) == {"unparseable value": [3]}


OPS = ["c", "u", "r", "d", "t", "m", None]
WANTED = ["amount", "__op", "__ts_ms", "before.amount", "__source_lsn"]


def events(n):
    rng = np.random.default_rng(n)
    found = []
    for i in range(n):
        op = OPS[rng.integers(len(OPS))]
        before = {"amount": i - 1.0} if op in ("u", "d") else None
        after = {"amount": i + 0.5} if op in ("c", "u", "r") else None
        found.append({"before": before, "after": after, "source": {"lsn": 7 * i}, "op": op, "ts_ms": 10 * i})
    return found


def check(found, given):
    good = [i for i, event in enumerate(given) if event["op"] in ("c", "u", "r")]
    assert found.message.tolist() == good
    assert found.batch.to_pydict() == {
        "amount": [i + 0.5 for i in good], "__op": [given[i]["op"] for i in good], "__ts_ms": [10 * i for i in good],
        "before.amount": [given[i]["before"] and i - 1.0 for i in good], "__source_lsn": [7 * i for i in good],
    }  # fmt: skip
    reasons = {"d": "deletion", "t": "truncation", "m": "no change event", None: "no change event"}
    expected = {}
    for i, event in enumerate(given):
        if i not in good:
            expected.setdefault(reasons[event["op"]], []).append(i)
    assert refusals(found) == expected


@pytest.mark.parametrize("wrapped", [False, True])
def test_debeziums_events_in_json(wrapped):
    given = events(200)
    values = [
        json.dumps({"schema": {"type": "struct"}, "payload": event} if wrapped else event).encode() for event in given
    ]
    options = {"envelope": "debezium", "types": {"amount": "float64", "__ts_ms": "int64"}}
    check(decoder("json", options)(pa.array(values), WANTED), given)
    with pytest.raises(InvalidValue, match="columns must be named where messages are change events"):
        decoder("json", options)(pa.array(values))


def test_debeziums_decimals_in_connects_envelope():
    values = [
        json.dumps({"schema": EVENT, "payload": {"before": None, "after": row(i), "op": "c"}}).encode()
        for i in range(50)
    ]
    found = decoder("json", {"envelope": "debezium", "categories": ["whole"]})(pa.array(values), ["amount", "whole"])
    assert found.batch.to_pydict() == {"amount": [i - 0.25 for i in range(50)], "whole": [2**60 + i for i in range(50)]}


@pytest.mark.parametrize("n", [5, 200])
def test_debeziums_events_in_avro(n):
    value = {"type": "record", "name": "Value", "fields": [{"name": "amount", "type": "double"}]}
    source = {"type": "record", "name": "Source", "fields": [{"name": "lsn", "type": ["null", "long"]}]}
    fields = [
        ("before", ["null", value]),
        ("after", ["null", "Value"]),
        ("source", source),
        ("op", ["null", "string"]),
        ("ts_ms", ["null", "long"]),
    ]
    schema = {"type": "record", "name": "Envelope", "fields": [{"name": name, "type": kind} for name, kind in fields]}
    parsed, values, given = fastavro.parse_schema(json.loads(json.dumps(schema))), [], events(n)
    for event in given:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, parsed, event)
        values.append(stream.getvalue())
    decode = decoder("avro", {"framing": "none", "schema_text": json.dumps(schema), "envelope": "debezium"})
    check(decode(pa.array(values), WANTED), given)


NULLS = [
    {"op": "c", "before": None, "after": {"amount": None}, "ts_ms": 1},
    {"op": "c", "before": None, "after": None, "ts_ms": 2},
    {"op": "u", "before": {"amount": 1.0}, "after": None, "ts_ms": 3},
    {"op": "r", "before": None, "after": {"amount": 2.5}, "ts_ms": 4},
]


def check_nulls(found):
    assert found.message.tolist() == [0, 3]
    assert found.batch.to_pydict() == {"amount": [None, 2.5], "__ts_ms": [1, 4]}
    assert refusals(found) == {"change event without a row after the change": [1, 2]}


@pytest.mark.parametrize("form", ["bare", "wrapped", "framed"])
def test_debeziums_events_in_json_without_a_row_after_the_change_are_refused(form):
    values = [json.dumps({"schema": {}, "payload": one} if form == "wrapped" else one).encode() for one in NULLS]
    values = [bytes(5) + one for one in values] if form == "framed" else values
    decode = decoder("json", {"envelope": "debezium"})
    check_nulls(decode(pa.array(values), ["amount", "__ts_ms"]))
    if form == "bare":
        several = decode(pa.array([json.dumps(NULLS).encode(), b'{"op": "c", "ts_ms": 5}']), ["amount"])
        assert (several.message.tolist(), several.row.tolist()) == ([0, 0], [0, 3])
        assert refusals(several) == {"change event without a row after the change": [0, 0, 1]}


@pytest.mark.parametrize("framing", ["none", "confluent"])
def test_debeziums_events_in_avro_without_a_row_after_the_change_are_refused(framing, tmp_path):
    value = {"type": "record", "name": "Value", "fields": [{"name": "amount", "type": ["null", "double"]}]}
    fields = {"before": ["null", value], "after": ["null", "Value"], "op": "string", "ts_ms": "long"}
    schema = {"type": "record", "name": "E", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}
    parsed, values = fastavro.parse_schema(json.loads(json.dumps(schema))), []
    for event in NULLS:
        stream = io.BytesIO()
        stream.write(b"\0\0\0\0\7" if framing == "confluent" else b"")
        fastavro.schemaless_writer(stream, parsed, event)
        values.append(stream.getvalue())
    options = {"framing": framing, "envelope": "debezium", "schema_text": json.dumps(schema)}
    check_nulls(decoder("avro", options)(pa.array(values), ["amount", "__ts_ms"]))
