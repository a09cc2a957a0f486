"""Any bytes as records: rows, typed rejects or one sentence; what is accepted is what protobuf itself reads."""

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from beam_ml.errors import UnreadableInput
from beam_ml.formats import recordio
from beam_ml.formats.messages import decoder
from tests.attacks.effort import EFFORT
from tests.formats.recordio.support import Record, frame, payload, split

SEEDS = [
    payload([1.5, -2.0], label=[1.0]),
    payload([1.0, 4.0], keys=[3, 300], shape=[2000]),
    payload([], shape=[2000], uid="x"),
    payload([0.5, 1e300], "float64", label=[2.0], label_kind="float64", metadata="{}"),
    payload([-1, 5, 2**31 - 1], "int32", keys=[7, 1, 4], shape=[3, 3], label=[1], label_kind="int32"),
    # a float and an integer that are not packed, fields out of order, one that is not known, and the same map's key twice
    bytes.fromhex("28011a01610a190a0676616c756573120f120d0d0000803f0d000000401a0102fa0703616263"),
    payload([1.0]) + payload([2.0, 3.0], label=[1.0]),
]


def mutated(rng: random.Random, one: bytes) -> bytes:
    out = bytearray(one)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1)
        what = rng.randrange(5)
        if what == 0 and at < len(out):
            out[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, out[at] ^ (1 << rng.randrange(8))])
        elif what == 1:
            del out[at : at + rng.randrange(1, 5)]
        elif what == 2:
            out[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif what == 3:
            out[at:at] = rng.choice(SEEDS)[: rng.randrange(1, 40)]
        else:
            out[at : at + 1] = b"\xff\xff\xff\xff\x07"  # a length of 2 GiB, or a large number
    return bytes(out)


def by_protobuf(data: bytes) -> tuple[list[Any], list[float]] | None:
    """Return sorted (key, value) pairs and label of a record as protobuf reads it; None: it does not, or means nothing."""
    record = Record()
    try:
        record.ParseFromString(data)
    except DecodeError:
        return None

    def tensor(value: Any) -> Any:
        kind = value.WhichOneof("value")
        return None if kind in (None, "bytes") else getattr(value, kind)

    found = tensor(record.features["values"])
    label = tensor(record.label["values"])
    if found is None or (label is None and record.label["values"].WhichOneof("value")):
        return None
    values, keys, shape = list(found.values), list(found.keys), [*map(int, found.shape)]
    product = int(np.prod(np.array(shape, object))) if shape else 0
    labels = [] if label is None else list(label.values)
    if len(labels) > 1 or (label is not None and len(label.keys)):
        return None
    if keys or not values:
        good = len(keys) == len(values) and len(set(keys)) == len(keys) and product > 0
        if not good or any(key >= min(product, 2**31 - 1) for key in keys):
            return None
        return sorted(zip(keys, map(float, values), strict=True)), [*map(float, labels)]
    if shape and product != len(values):
        return None
    return list(enumerate(map(float, values))), [*map(float, labels)]


def holds_group(data: bytes) -> bool:
    """Whether protobuf may have passed over a group, which ours refuses: unknown fields of its messages are of one."""
    return any(byte & 7 in (3, 4) for byte in data)


def holds_unknown_entry(data: bytes) -> bool:
    """Whether an entry of a map has an unknown field: Python's protobuf then sets the whole entry aside, others read it."""
    record = Record()
    try:
        record.ParseFromString(data)
    except DecodeError:
        return False
    known = {Record.DESCRIPTOR.fields_by_name[name].number for name in ("features", "label")}
    return any(field.field_number in known for field in UnknownFieldSet(record))


@pytest.mark.parametrize("seed", range(4))
def test_what_is_accepted_is_what_protobuf_reads(seed: int) -> None:
    rng = random.Random(seed)
    inputs = [mutated(rng, rng.choice(SEEDS)) for _ in range(400 * EFFORT)]
    decode = decoder("recordio", {"form": "sparse"})
    inputs = [one for one in inputs if one and not one.startswith(b"\x0a\x23\xd7\xce")]
    found = decode(pa.array(inputs, pa.binary()), ["features", "label"])
    ours: dict[int, Any] = dict(zip(found.message.tolist(), found.batch.to_pylist(), strict=True))
    refused = {int(i) for one in found.refused for i in one.message}
    assert set(ours) | refused == set(range(len(inputs)))
    assert not set(ours) & refused
    accepted = 0
    for i, data in enumerate(inputs):
        expected = by_protobuf(data)
        if holds_unknown_entry(data):
            assert i in ours or i in refused
        elif i in ours:
            assert expected is not None, data.hex()
            got = [(k, None if np.isnan(v) else v) for k, v in ours[i]["features"]]
            assert got == [(k, None if np.isnan(v) else v) for k, v in expected[0]], data.hex()
            assert str([] if ours[i]["label"] is None else [ours[i]["label"]]) == str(expected[1]), data.hex()
            accepted += 1
        else:
            assert expected is None or holds_group(data), data.hex()
    assert accepted > len(inputs) // 20


def test_an_unknown_field_in_an_entry_of_a_map_is_passed_over() -> None:
    entry = "0a0676616c756573120f120d0d0000803f0d000000401a0102"
    odd = bytes.fromhex("0a1f" + entry + "fa0703616263")
    assert holds_unknown_entry(odd)
    found = decoder("recordio", {"form": "sparse"})(pa.array([odd], pa.binary()), ["features", "label"])
    assert found.batch["features"].to_pylist() == [[(0, 1.0), (1, 2.0)]]


@pytest.mark.parametrize("seed", range(4))
def test_any_stream_is_rows_rejects_or_one_sentence(seed: int) -> None:
    rng = random.Random(seed)
    whole = broken = 0
    for _ in range(60 * EFFORT):
        data = b"".join(
            (split if rng.random() < 0.3 else frame)(mutated(rng, rng.choice(SEEDS)) if rng.random() < 0.3 else one)
            for one in rng.choices(SEEDS, k=rng.randrange(1, 9))
        )
        if rng.random() < 0.6:
            data = mutated(rng, data)
        try:
            block = recordio.decode(data)
        except UnreadableInput:
            broken += 1
            continue
        whole += 1
        parts = [(block.position, block.position_end), *((r.position, r.position_end) for r in block.rejected)]
        spans = sorted(span for a, b in parts for span in zip(a.tolist(), b.tolist(), strict=True))
        assert [a for a, _ in spans] == [0, *(b for _, b in spans)][: len(spans)]
        block.batch.validate(full=True)
    assert min(whole, broken) > 0
