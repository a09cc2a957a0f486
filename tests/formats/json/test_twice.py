"""A field that an object has twice says nothing: the row is refused, however and beside whatever it is read."""

import json
import random
from typing import Any

import pyarrow as pa
import pytest

from beam_ml.formats import json as json_format
from beam_ml.formats.json import message_decoder
from beam_ml.formats.messages import TWICE, UNPARSEABLE

NAMES = ["x", "y", "a"]
VALUES = ["1", "2.5", "null", '"t"', "true", "1e400"]


def written(rng: random.Random, deep: bool = True) -> str:
    """Return an object with fields of few names."""
    fields = []
    for _ in range(rng.randrange(4)):
        name = rng.choice(NAMES)
        inner = deep and name == "a"
        fields.append(f'"{name}": {written(rng, False) if inner else rng.choice(VALUES[: rng.choice([2, 6])])}')
    return "{" + ", ".join(fields) + "}"


def is_twice(text: str, wanted: list[str]) -> bool:
    """Return by pairs, as the standard library gives them, whether a wanted field is there twice."""
    pairs = json.loads(text, object_pairs_hook=lambda found: found)
    for name in wanted:
        at: Any = pairs
        for part in name.split("."):
            if not isinstance(at, list):
                break
            values = [value for key, value in at if key == part]
            if len(values) > 1:
                return True
            at = values[0] if values else None
    return False


@pytest.mark.parametrize("wanted", [["x"], ["x", "y"], ["a.x", "y"]])
@pytest.mark.parametrize("together", [1, 400])
def test_rows_with_a_wanted_field_twice_are_refused_and_no_others(wanted: list[str], together: int) -> None:
    rng = random.Random(len(wanted) + together)
    texts = [written(rng) for _ in range(400)]
    decode, refused, kept = message_decoder({"types": dict.fromkeys(wanted, "string")}), [], []
    for i in range(0, len(texts), together):
        found = decode(pa.array([one.encode() for one in texts[i : i + together]], pa.binary()), wanted)
        kept += (found.message + i).tolist()
        for one in found.refused:
            assert one.reason in {TWICE, UNPARSEABLE}
            refused += (one.message + i).tolist() if one.reason == TWICE else []
    expected = [i for i, text in enumerate(texts) if is_twice(text, wanted)]
    assert sorted(refused) == expected
    assert 20 < len(expected) < 350
    assert not set(kept) & set(expected)


@pytest.mark.parametrize("column", ["x", "a.x"])
@pytest.mark.parametrize("values", [("1", "2"), ('"t"', '"u"'), ("null", "1"), ("true", "false")])
def test_of_every_kind_of_value(column: str, values: tuple[str, str]) -> None:
    head, tail = ('{"a": ', "}") if column == "a.x" else ("", "")
    good = f'{head}{{"x": {values[0]}}}{tail}'.encode()
    bad = f'{head}{{"x": {values[0]}, "y": 1, "x": {values[1]}}}{tail}'.encode()
    found = message_decoder({})(pa.array([good] * 40 + [bad] + [good] * 40, pa.binary()), [column])
    assert [(one.reason, one.message.tolist()) for one in found.refused] == [(TWICE, [40])]
    assert f"column {column}" in found.refused[0].detail[0]
    assert len(found.message) == 80


def test_a_row_of_several_is_refused_alone() -> None:
    found = message_decoder({})(pa.array([b'[{"x": 1}, {"x": 1, "x": 2}, {"x": 3}]'], pa.binary()), ["x"])
    assert (found.batch.to_pydict(), found.row.tolist()) == ({"x": [1, 3]}, [0, 2])
    assert [(one.reason, one.row.tolist()) for one in found.refused] == [(TWICE, [1])]


def test_what_nobody_reads_may_be_there_twice() -> None:
    found = message_decoder({})(pa.array([b'{"y": 1, "x": 1, "y": 2}'], pa.binary()), ["x"])
    assert (found.batch.to_pydict(), found.refused) == ({"x": [1]}, ())


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("dense", b'{"features": [1, 2], "features": [3, 4]}', "features"),
        ("dense", b'{"features": [1, 2], "label": 1, "label": 0}', "label"),
        (
            "sparse",
            b'{"data": {"features": {"keys": [1], "keys": [2], "shape": [3], "values": [1]}}}',
            "data.features.keys",
        ),
        ("series", b'{"start": "2024-01-01", "target": [1], "target": [2]}', "target"),
    ],
)
@pytest.mark.parametrize("beside", [0, 40])
def test_instances(form: str, text: bytes, said: str, beside: int) -> None:
    good = {"dense": b'{"features": [1, 2]}', "series": b'{"start": "2024-01-01", "target": [1]}'}.get(
        form, b'{"data": {"features": {"keys": [1], "shape": [3], "values": [1]}}}'
    )
    found = message_decoder({"form": form})(pa.array([text] + [good] * beside, pa.binary()))
    assert [(one.reason, one.message.tolist()) for one in found.refused] == [(UNPARSEABLE, [0])]
    assert f"{said} twice in one object" in found.refused[0].detail[0]
    assert len(found.message) == beside


def test_files_say_at_which_byte() -> None:
    text = b'{"x": 1}\n{"x": 1, "x": 2}\n{"x": 3}\n'
    for columns in (["x"], None):
        block = json_format.decode(text, columns)
        assert block.batch.to_pydict() == {"x": [1, 3]}
        assert [(one.reason, one.position.tolist()) for one in block.rejected] == [(TWICE, [9])]
