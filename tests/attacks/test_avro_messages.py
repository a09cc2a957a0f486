"""What becomes of an Avro message does not depend on how many are read with it."""

import json
import struct

import pyarrow as pa
import pytest

from beam_ml.formats.messages import decoder

SCHEMA = {"type": "record", "name": "r", "fields": [{"name": "x", "type": "double"}, {"name": "s", "type": "string"}]}
DECODE = decoder("avro", {"framing": "none", "schema_text": json.dumps(SCHEMA)})
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
