"""Columns without a declared type: which row is a reject, and what its values mean, does not depend on the rows beside it."""

import json
import logging

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.features import Features
from beam_ml.features.columns import numbers
from beam_ml.formats.block import Block
from beam_ml.formats.json import message_decoder
from beam_ml.formats.messages import place, to_blocks

NOW = 1_709_296_200
VALUES = [
    "1", "1.0", "1.5", '"1"', '" 1.5 "', "true", "false", "null", str(2**53 + 1), str(2**63 - 1), str(2**64), "1e3", "1e300",
    "-0.0", str(10**400), "NaN", "Infinity", "1e999", '"n/a"', '""', '"2024-03-01T12:30:00Z"', '"2024-03-01"', str(NOW),
    str(NOW * 10**9 + 123_457_001), f'"{NOW}"', f"{NOW}.5", '{"a": 1}', "[1]", "[]", '"\\ud800"', '"nan"', '"9e400"',
]  # fmt: skip
FEATURES = {
    "x": Features(numeric=["x"]),
    "label": Features(numeric=["ok"], label="x"),
    "weight": Features(numeric=["ok"], weight="x"),
    "time": Features(numeric=["ok"], time="x"),
    "card": Features(numeric=["ok"], hashed=["card"]),
}
BLOCKS = [1, 2, 47, 48, 250]


def messages(rng, n, path):
    """Return n messages of odd values, in several shapes."""
    found = []
    for i in range(n):
        x, card = rng.choice(VALUES, 2)
        value = (
            f'{{"x": {x}, "card": {card}, "ok": {i}}}'
            if path is None
            else f'{{"ok": {i}, "in": {{"x": {x}, "card": {card}}}}}'
        )
        found.append(
            {0: f"[{value}]", 1: f"{value}\n{value}", 2: value[:-1] + ', "no": Inf}'}.get(int(rng.integers(12)), value)
        )
    return [one.encode() for one in found]


def outcomes(values, decode, features, size):
    """Return what becomes of each row by its place: reason of its reject, or features, label, weight, time and category."""
    found = {}
    for start in range(0, len(values), size):
        mine = values[start : start + size]
        raw = pa.record_batch(
            {"key": pa.nulls(len(mine)), "value": pa.array(mine), "timestamp": np.zeros(len(mine), np.int64)}
        )
        position = place(np.arange(start, start + len(mine)))
        for block in to_blocks(Block(raw, position=position), decode, features.columns()):
            batch, rejected = features.to_batch(block)
            for one in (*block.rejected, *rejected):
                found |= dict.fromkeys(one.position.tolist(), one.reason)
            columns = [one.tolist() for one in (batch.label, batch.weights, batch.time) if one is not None]
            rows = batch.X.tolist() if batch.indices is None else batch.indices.reshape(len(batch), 2).tolist()
            for at, *row in zip(batch.position.tolist(), rows, *columns, strict=True):
                found[at] = repr(row)
    return found


@pytest.mark.parametrize("path", [None, "in"])
@pytest.mark.parametrize("role", FEATURES)
def test_blocks_of_any_size_give_the_same_rows_and_rejects(role, path):
    features = FEATURES[role]
    if path:
        named = features.to_json().replace('"x"', '"in.x"').replace('"card"', '"in.card"')
        features = Features.parse(json.loads(named))
    decode = message_decoder({"categories": list(features.roles.categories)})
    values = messages(np.random.default_rng(len(role)), 250, path)
    wanted = outcomes(values, decode, features, 1)
    assert len({repr(one) for one in wanted.values()}) > 8
    for size in BLOCKS[1:]:
        found = outcomes(values, decode, features, size)
        differ = {
            at: (values[at >> 20], found.get(at), wanted.get(at))
            for at in {*found, *wanted}
            if found.get(at) != wanted.get(at)
        }
        assert not differ


@pytest.mark.parametrize("odd", ["n/a", True, None, 1.5, 2**64])
def test_a_value_of_another_kind_costs_no_row(odd):
    rows = [{"x": i} for i in range(100)]
    rows[60] = {"x": odd}
    found = message_decoder({})(pa.array([json.dumps(row).encode() for row in rows]), ["x"])
    assert found.refused == ()
    batch, rejected = Features(numeric=["x"]).to_batch(Block(found.batch))
    taken = {"n/a": None, None: None, True: 1.0}.get(odd, odd)
    there = [] if taken is None else [float(taken)]
    assert batch.X[:, 0].tolist() == [*range(60), *there, *range(61, 100)]
    assert [(one.reason, one.detail) for one in rejected if odd == "n/a"] == [
        ("feature column x is not a number", ("n/a",))
    ] * (odd == "n/a")


def test_a_column_that_nobody_named_is_what_it_is_where_it_is_not_nested():
    values = [b'{"x": 1, "deep": {"a": 1}}', b'{"x": 2, "deep": 7}', b'{"x": "b", "deep": [1]}']
    assert message_decoder({})(pa.array(values)).batch.to_pydict() == {"x": ["1", "2", "b"], "deep": [None, 7, None]}


def test_the_frame_of_a_schema_registry_is_recognised():
    values = [
        b'\0\0\0\0\x07{"x": 1}',
        b'{"x": 2}',
        b'\0\0\0\x20\x0a [{"x": 3}]\n',
        b"\0\0\0\0\x07",
        b"\0\0",
        b'\0{"x": 4}',
    ]
    found = message_decoder({})(pa.array(values), ["x"])
    assert (found.batch.to_pydict(), found.message.tolist()) == ({"x": [1, 2, 3]}, [0, 1, 2])
    assert [(one.reason, one.message.tolist()) for one in found.refused] == [
        ("empty message", [3]), ("malformed message", [4, 5]),
    ]  # fmt: skip


PATHS = {
    "nested": ({"a": {"b": {"c": 1}}}, 1), "flat": ({"a.b.c": 2}, 2), "both": ({"a.b.c": 3, "a": {"b": {"c": 4}}}, 3),
    "null before": ({"a.b.c": None, "a": {"b": {"c": 5}}}, 5), "no object": ({"a": 6}, None), "absent": ({}, None),
    "a list": ({"a": [{"b": 7}]}, None), "null within": ({"a": {"b": None}}, None), "text": ({"a": {"b": {"c": "8"}}}, 8),
}  # fmt: skip


@pytest.mark.parametrize("types", [{}, {"a.b.c": "float64"}])
@pytest.mark.parametrize("n", [1, 500])
def test_a_path_into_objects_names_a_column(n, types):
    kinds = [kind for kind in PATHS if not types or kind != "text"] * n
    decode = message_decoder({"types": types})
    found = decode(pa.array([json.dumps(PATHS[kind][0]).encode() for kind in kinds]), ["a.b.c"])
    assert found.refused == ()
    read = numbers(found.batch, "a.b.c", "x").values.tolist()
    assert [None if value != value else value for value in read] == [PATHS[kind][1] for kind in kinds]


def test_a_path_through_a_column_that_is_wanted_itself():
    values = [b'{"a": 1, "a.b": 2}', b'{"a": {"b": 3}}'] * 40
    found = message_decoder({})(pa.array(values), ["a", "a.b"])
    assert found.batch.to_pydict() == {"a": [1] * 40, "a.b": [2] * 40}
    assert found.refused[0].message.tolist() == list(range(1, 80, 2))


def test_a_column_that_no_message_has_is_said_once_with_those_that_are(caplog):
    values = pa.array([b'{"amount": 1, "shop": {"id": 1, "at": null}, "none": null}'] * 3)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            message_decoder({})(values, ["amuont", "shop.idd", "none", "shop.at", "amount"])
    assert [record.getMessage() for record in caplog.records] == [
        f"no message of the first 3 has the column {name!r}; they have ['amount', 'shop.id', 'shop.at', 'none']."
        for name in ("amuont", "shop.idd")
    ]
