"""Messages of one flat object of numbers: what the kernel reads is what all others read, and what it leaves is left whole."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.formats.json import flat
from beam_ml.formats.json.values import Column
from beam_ml.formats.messages import Decoded, decoder

NAMES = ["a", "b", "a.b", "größe", 'a"b', "e"]
PIECES = [
    b"{", b"}", b'"', b"\\", b",", b":", b"null", b"1e5", b"-0", b"01", b"1.", b".5", b"+1", b"9007199254740993", b"1e400",
    b"1" * 40, b"NaN", b"\xff", b"\0", b"\n", b" ", b'"a":1', b'"a":null', b'{"a":1}', b"\x7f", b'"z":"text"', b"true",
]  # fmt: skip


def message(rng: random.Random) -> bytes:
    values: list[Any] = [
        1,
        1.5,
        -2e-7,
        0,
        1e22,
        2**53 - 1,
        2**53,
        123456789.123456789,
        None,
        1e99,
        5e-99,
        "x",
        True,
        [1],
    ]
    weights = [4] * (len(values) - 3) + [1] * 3
    names = rng.sample(NAMES, rng.randrange(len(NAMES)))
    row = {name: rng.choices(values, weights)[0] for name in names}
    out = bytearray(
        json.dumps(row, ensure_ascii=rng.random() < 0.5, separators=rng.choice([(",", ":"), (" , ", " : ")])), "utf-8"
    )
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        at = rng.randrange(len(out) + 1)
        if rng.random() < 0.5:
            out[at:at] = rng.choice(PIECES)
        else:
            del out[at : at + rng.randrange(1, 4)]
    return bytes(out)


def seen(found: Decoded) -> tuple[Any, ...]:
    refused = sorted(
        (one.reason, at, row, one.detail[k])
        for one in found.refused
        for k, (at, row) in enumerate(zip(one.message.tolist(), one.row.tolist(), strict=True))
    )
    return found.batch, found.message.tolist(), found.row.tolist(), refused


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("types", [{}, {"a": "float64", "b": "float64"}, {"a": "float32"}, {"a": "int64"}])
def test_messages_are_what_they_are_without_the_kernel(
    monkeypatch: pytest.MonkeyPatch, seed: int, types: dict[str, str]
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(flat, "_AT_ONCE", 100)
    decode = decoder("json", {"types": types})
    columns = rng.sample(NAMES, rng.randrange(1, 4))
    values = pa.array([b'{"a": 0.5, "b": 1.5}', *(message(rng) for _ in range(400))])
    with_it = seen(decode(values, columns))
    monkeypatch.setattr(flat, "numbers", lambda raw, columns: ([], np.arange(len(raw))))
    without = seen(decode(values, columns))
    assert with_it[1:] == without[1:]
    assert with_it[0].equals(without[0])
    with_it[0].validate(full=True)


@pytest.mark.parametrize("text", [
    b'{"x":01}', b'{"x":1.}', b'{"x":.5}', b'{"x":+1}', b'{"x":1e}', b'{"x":-}', b'{"x":1,}', b'{"x":1 2}', b'{"x":1}}',
    b'{"x" 1}', b'{x:1}', b'{"x":nul}', b'{"x":"1"}', b'{"x":true}', b'{"x":[1]}', b'{"x":1,"x":2}', b'{"x":null,"x":2}',
    b'{"\\u0078":1}', b'{"x":1', b'"x":1}', b'{"y":"\xff","x":1}', b'{"y":"\n","x":1}', b'{"y":"', b"{", b"", b'{"y":"}',
    b'{"x":9007199254740992}', b'{"x":1e400}', b' {"x":1}', b'{"x":1}{"x":2}', b'{"y":{"x":1}}', b'{"x":1}\n',
])  # fmt: skip
def test_what_the_kernel_leaves(text: bytes) -> None:
    good = b'{"y":"t","x":-1.5e2}'
    for values in ([text], [good, text, good], [text, b'"}', good]):
        parts, left = flat.numbers(pa.array(values), [Column("x", "number", None)])
        rows = [i for part in parts for i in part.message.tolist()]
        assert rows == [i for i, one in enumerate(values) if one == good]
        assert sorted([*rows, *left.tolist()]) == list(range(len(values)))
        assert all(one == -150.0 for part in parts for one in part.arrays[0].to_pylist())


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("cut", [lambda one: one, lambda one: one.slice(3, 5)])
def test_all_numbers_of_flat_objects_are_read_at_once(kind: pa.DataType, cut: Callable[[pa.Array], pa.Array]) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"b": x, "z": "text", "a": None if i % 3 == 0 else i / 7} for i, x in enumerate(rng.normal(size=10).tolist())
    ]
    values = cut(pa.array([json.dumps(row).encode() for row in rows], kind))
    parts, left = flat.numbers(values, [Column("a", "number", None), Column("b", "number", pa.float64())])
    assert not left.size
    wanted = [json.loads(one) for one in values.to_pylist()]
    assert parts[0].arrays[0].to_pylist() == [row["a"] for row in wanted]
    assert parts[0].arrays[1].to_pylist() == [row["b"] for row in wanted]
