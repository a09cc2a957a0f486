"""What becomes of an Avro message does not depend on how many are read with it."""

import io
import json
import random
import struct

import fastavro
import pyarrow as pa
import pytest

from beam_ml.formats.messages import Decoded, decoder
from tests.attacks.effort import EFFORT
from tests.attacks.test_avro_files import NESTED, mutated, nested_rows

SCHEMA = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "double"}, {"name": "s", "type": "string"}]}
DECODE = decoder("avro", {"framing": "none", "schema_text": json.dumps(SCHEMA)})
NESTED_DECODE = decoder("avro", {"framing": "none", "schema_text": json.dumps(NESTED)})
GOOD, BAD = (struct.pack("<d", 1.5) + b"\x04" + text for text in (b"ab", b"\xff\xfe"))


@pytest.mark.parametrize("n", [1, 46, 47, 48, 200])
def test_a_text_that_nobody_wants_may_be_anything(n: int) -> None:
    found = DECODE(pa.array([BAD, *[GOOD] * (n - 1)]), ["x"])
    assert found.batch.to_pydict() == {"x": [1.5] * n}
    assert found.refused == ()


@pytest.mark.parametrize("n", [1, 46, 47, 48, 200])
def test_a_text_that_is_wanted_must_be_one(n: int) -> None:
    found = DECODE(pa.array([BAD, *[GOOD] * (n - 1)]), ["s"])
    assert found.batch.to_pydict() == {"s": ["ab"] * (n - 1)}
    assert [one.message.tolist() for one in found.refused] == [[0]]


def outcome(found: Decoded) -> dict[int, str]:
    rows = found.batch
    if "t" in rows.schema.names:  # Python has no such years as times may have
        rows = rows.set_column(rows.schema.get_field_index("t"), "t", rows["t"].cast(pa.int64()))
    of = dict(zip(found.message.tolist(), map(str, rows.to_pylist()), strict=True))
    for one in found.refused:
        assert not set(one.message.tolist()) & set(of)
        of |= dict.fromkeys(one.message.tolist(), one.reason)
    return of


@pytest.mark.parametrize("columns", [None, ["x", "s"], ["l", "d", "n.z"], ["e", "f", "t"]])
def test_any_message_is_a_row_or_refused_whatever_stands_beside_it(columns: list[str] | None) -> None:
    rng, parsed, n_rows = random.Random(str(columns)), fastavro.parse_schema(NESTED), 0
    seeds = []
    for row in nested_rows(9):
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, parsed, row)
        seeds.append(stream.getvalue())
    for _ in range(3 * EFFORT):
        messages = [mutated(rng, one) for one in rng.choices(seeds, k=60)]
        together = NESTED_DECODE(pa.array(messages, pa.binary()), columns)
        together.batch.validate(full=True)
        found = outcome(together)
        assert set(found) == set(range(len(messages)))
        n_rows += together.batch.num_rows
        for i in rng.sample(range(len(messages)), 12):
            alone = NESTED_DECODE(pa.array(messages[i : i + 1], pa.binary()), columns)
            assert outcome(alone) == {0: found[i]}, messages[i].hex()
    assert n_rows > 20
