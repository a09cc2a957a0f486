"""What Avro's types become, in files and messages, by fastavro as the other side."""

import decimal
import io
import json
import math
import uuid
from decimal import Decimal

import fastavro
import numpy as np
import pyarrow as pa
import pytest

from beam_ml.errors import MissingColumn, UnreadableInput
from beam_ml.features import Features
from beam_ml.formats import avro
from beam_ml.formats.avro import message_decoder
from beam_ml.formats.block import Block


def decimals(precision, scale, size=None, name="d"):
    held = {"type": "bytes"} if size is None else {"type": "fixed", "name": name, "size": size}
    return {**held, "logicalType": "decimal", "precision": precision, "scale": scale}


INNER = {
    "type": "record", "name": "customer", "namespace": "shop",
    "fields": [{"name": "age", "type": ["null", "int"]}, {"name": "spent", "type": decimals(12, 2)}],
}  # fmt: skip
TYPES = {
    "short": decimals(9, 2), "long": decimals(38, 10), "longer": decimals(70, 30), "endless": decimals(400, 300),
    "fixed": decimals(18, 4, 9, "f9"), "maybe": ["null", decimals(30, 5, 20, "f20")],
    "whole": ["null", "int", "long"], "wide": ["int", "float", "null", "double", "long"], "truth": ["boolean", "long"],
    "money": ["null", decimals(20, 2), "double"], "text": ["long", "double", "string", "null"],
    "kind": {"type": "enum", "name": "kinds", "symbols": ["A", "B"]}, "kind_or_number": ["null", "int", "kinds"],
    "customer": ["null", INNER], "again": "shop.customer", "uuid": {"type": "fixed", "name": "u", "size": 16, "logicalType": "uuid"},
    "bad_time": {"type": "string", "logicalType": "timestamp-millis"}, "bad_decimal": {"type": "bytes", "logicalType": "decimal"},
    "unknown": {"type": "int", "logicalType": "of-my-own"}, "named": "f9",
}  # fmt: skip
SCHEMA = {"type": "record", "name": "row", "fields": [{"name": name, "type": kind} for name, kind in TYPES.items()]}
COLUMNS = [
    *(name for name in TYPES if name not in ("customer", "again")),
    "customer.age",
    "customer.spent",
    "again.spent",
]


def row(rng):
    def number(digits, scale):
        unscaled = int("".join(map(str, rng.integers(0, 10, digits)))) * int(rng.choice([-1, 1]))
        return Decimal(unscaled).scaleb(-scale, decimal.Context(prec=1000))

    customer = {"age": [None, int(rng.integers(-9, 99))][rng.integers(2)], "spent": number(12, 2)}
    x = float(rng.normal())
    return {
        "short": number(9, 2), "long": number(38, 10), "longer": number(70, 30), "endless": number(400, 300),
        "fixed": number(18, 4), "maybe": [None, number(30, 5)][rng.integers(2)],
        "whole": [None, 7, 2**60 + 1][rng.integers(3)], "wide": [3, x, None, 2**40][rng.integers(4)], "truth": [True, 5][rng.integers(2)],
        "money": [None, number(20, 2), x][rng.integers(3)], "text": [2**60 + 1, x, "n/a", "1.5", None][rng.integers(5)],
        "kind": ["A", "B"][rng.integers(2)], "kind_or_number": [None, 4, "A"][rng.integers(3)],
        "customer": [None, customer][rng.integers(2)], "again": customer, "uuid": rng.bytes(16), "bad_time": "yesterday",
        "bad_decimal": b"\x01", "unknown": 5, "named": number(18, 4),
    }  # fmt: skip


def expected(row, name):
    value = row
    for part in name.split("."):
        value = None if value is None else value[part]
    if value is None or name in ("kind", "bad_time", "bad_decimal", "unknown"):
        return value
    if name == "uuid":
        return str(uuid.UUID(bytes=value))
    if name in ("text", "kind_or_number"):
        return value if isinstance(value, str) else repr(value)
    return float(value) if name in ("endless", "wide", "money") else value


def written(rows):
    """Return a container file and messages of rows; fastavro writes decimals, and nothing of invalid logical types."""
    data = io.BytesIO()
    schema = json.loads(json.dumps(SCHEMA).replace(', "logicalType": "uuid"', ""))
    fastavro.writer(data, schema, rows)
    parsed, messages = fastavro.parse_schema(schema), []
    for one in rows:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, parsed, one)
        messages.append(stream.getvalue())
    return data.getvalue(), messages


@pytest.mark.parametrize("n", [1, 60])
@pytest.mark.parametrize("columns", [[name] for name in COLUMNS] + [COLUMNS])
def test_every_type_is_read_as_fastavro_wrote_it(n, columns):
    rng = np.random.default_rng(n)
    rows = [row(rng) for _ in range(n)]
    data, messages = written(rows)
    found = message_decoder({"framing": "none", "schema_text": json.dumps(SCHEMA)})(pa.array(messages), columns)
    assert found.refused == ()
    assert found.batch.to_pydict() == {name: [expected(one, name) for one in rows] for name in columns}
    if "uuid" not in columns:
        assert avro.decode(data, columns).batch.to_pydict() == found.batch.to_pydict()


def test_the_columns_that_many_messages_are_read_into_at_once():
    """Records within records, null or not, decimals and named types; as one message alone gives."""
    names = ["short", "fixed", "named", "maybe", "kind", "customer", "again"]
    schema = {"type": "record", "name": "row", "fields": [one for one in SCHEMA["fields"] if one["name"] in names]}
    columns = ["short", "fixed", "named", "maybe", "customer.age", "customer.spent", "again.age", "kind"]
    rng = np.random.default_rng(3)
    rows = [{name: value for name, value in row(rng).items() if name in names} for _ in range(200)]
    parsed, messages = fastavro.parse_schema(json.loads(json.dumps(schema))), []
    for one in rows:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, parsed, one)
        messages.append(stream.getvalue())
    messages[7], messages[100] = messages[7][:-1], b"\xff" * 9
    decode = message_decoder({"framing": "none", "schema_text": json.dumps(schema)})
    found = decode(pa.array(messages), columns)
    good = [i for i in range(200) if i not in (7, 100)]
    assert (found.message.tolist(), found.refused[0].message.tolist()) == (good, [7, 100])
    assert found.batch.to_pydict() == {name: [expected(rows[i], name) for i in good] for name in columns}
    alone = [decode(pa.array([messages[i]]), columns).batch for i in good]
    assert pa.Table.from_batches([found.batch]).equals(pa.Table.from_batches(alone).combine_chunks())


def test_a_text_in_a_union_of_numbers_is_a_reject_with_its_value():
    schema = {"type": "record", "name": "r", "fields": [{"name": "x", "type": ["null", "int", "double", "string"]}]}
    data = io.BytesIO()
    fastavro.writer(data, schema, [{"x": 1}, {"x": 2.5}, {"x": "n/a"}, {"x": "4"}, {"x": math.inf}])
    block = avro.decode(data.getvalue(), ["x"])
    batch, rejected = Features(numeric=["x"]).to_batch(Block(block.batch, None, block.position))
    assert batch.X[:, 0].tolist() == [1.0, 2.5, 4.0]
    assert [(one.reason, one.position.tolist(), one.detail) for one in rejected] == [
        ("feature column x is not a number", [2], ("n/a",)), ("non-finite feature x", [4], ()),
    ]  # fmt: skip


def test_decimals_of_any_precision_are_features():
    schema = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "x", "type": decimals(300, 40)}, {"name": "y", "type": decimals(60, 2)}],
    }
    data = io.BytesIO()
    fastavro.writer(
        data, schema, [{"x": Decimal("1.25"), "y": Decimal("-0.75")}, {"x": Decimal(10) ** 200, "y": Decimal(10) ** 50}]
    )
    batch, rejected = Features(numeric=["x", "y"]).to_batch(avro.decode(data.getvalue(), ["x", "y"]))
    assert (batch.X.tolist(), rejected) == ([[1.25, -0.75], [1e200, 1e50]], ())


def test_a_path_that_is_not_there_names_the_columns_that_are():
    rows = [row(np.random.default_rng(0))]
    data, messages = written(rows)
    decode = message_decoder({"framing": "none", "schema_text": json.dumps(SCHEMA)})
    for name in ("customer.agee", "customer.age.years", "kind.A", "custom.age", "agee"):
        for read in (lambda name=name: avro.decode(data, [name]), lambda name=name: decode(pa.array(messages), [name])):
            with pytest.raises(
                MissingColumn, match=rf"must have (a|the) column '{name}'; got .*'customer\.age', 'customer\.spent'"
            ):
                read()


def test_types_that_hold_themselves_and_others_without_end():
    node = {
        "type": "record",
        "name": "node",
        "fields": [{"name": "x", "type": "int"}, {"name": "next", "type": ["null", "node"]}],
    }
    data = io.BytesIO()
    fastavro.writer(data, node, [{"x": 1, "next": {"x": 2, "next": {"x": 3, "next": None}}}])
    assert avro.decode(data.getvalue(), ["next.next.x", "x"]).batch.to_pydict() == {"next.next.x": [3], "x": [1]}
    with pytest.raises(UnreadableInput, match="a type that holds itself has no Arrow equivalent"):
        avro.decode(data.getvalue())
    schema = {"type": "record", "name": "r0", "fields": [{"name": "x", "type": "int"}]}
    for i in range(1, 40):
        schema = {
            "type": "record",
            "name": f"r{i}",
            "fields": [{"name": "a", "type": schema}, {"name": "b", "type": f"r{i - 1}"}],
        }
    data = io.BytesIO()
    fastavro.writer(data, schema, [])
    with pytest.raises(UnreadableInput, match="a type of more than 10000 others has no Arrow equivalent"):
        avro.decode(data.getvalue())
    with pytest.raises(MissingColumn, match="must have a column 'no'; got"):
        avro.decode(data.getvalue(), ["no"])
