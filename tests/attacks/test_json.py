"""Messages of JSON by somebody else: names that collide with anything, values of any kind, damaged texts."""

import random
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from beam_ml.formats.messages import Decoded, decoder
from tests.attacks.effort import EFFORT

NAMES = [
    "x", "", "t", "n", "beam_ml.first", "beam_ml.array", "a.b", r"\ud800", r"\u0000", r"\udc00\ud800", "kafka.key", "ü",
    "kafka.offset", "0", r"\"", "x" * 300, "item", "element", "list", r"b\u0000", r"\/", "null", r"\uffff", r"\ufeff",
]  # fmt: skip
VALUES = [
    "1", "true", "null", '"t"', '"2024-01-01"', "1.5", "1e400", "-0", "{}", "[]", "[1,2]", '{"x":1}', "1e5", "7", "3.0",
    "18446744073709551615", "9" * 40, r'"\ud800"', "NaN", "-Infinity", "[[[[1]]]]", r'"\u0000"', '""', f'"{"y" * 50}"',
    '"2024-01-01T00:00:00Z"', "false", "[" * 60 + "]" * 60,
]  # fmt: skip
TEXTS = [
    "null",
    "",
    "5",
    "[]",
    "{",
    "}{",
    "[null]",
    "[1]",
    '{"x":1}null',
    "\xff",
    "[[]]",
    "{}" * 30,
    '[{"x":1}], "y":[2]',
    '[{"x":1}]}{"y":[2]',
    '{"x":1}{"x":',
    "\0",
]
TYPES = {"x": "float64", "": "int64", "a.b": "string", "t": "timestamp[us, tz=UTC]", "0": "bool"}


def an_object(rng: random.Random) -> str:
    fields = [f'"{rng.choice(NAMES)}":{rng.choice(VALUES)}' for _ in range(rng.choice([0, 0, 1, 1, 2, 3, 5]))]
    return "{" + ",".join(fields) + "}"


def message(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.6:
        text = an_object(rng)
    elif kind < 0.75:
        text = "\n".join(an_object(rng) for _ in range(rng.randint(1, 3)))
    elif kind < 0.9:
        text = "[" + ",".join(an_object(rng) for _ in range(rng.randint(0, 3))) + "]"
    else:
        text = rng.choice(TEXTS)
    return text.encode("latin-1" if rng.random() < 0.05 else "utf-8")


def outcome(decoded: Decoded) -> dict[int, list[tuple[str, int]]]:
    """Return what became of each message: its rows, and what was refused of it."""
    found: dict[int, list[tuple[str, int]]] = {}
    for number, row in zip(decoded.message.tolist(), decoded.row.tolist(), strict=True):
        found.setdefault(number, []).append(("row", row))
    for one in decoded.refused:
        rows = [-1] * len(one.message) if one.row is None else one.row.tolist()
        for number, row in zip(one.message.tolist(), rows, strict=True):
            found.setdefault(number, []).append((one.reason, row))
    return {number: sorted(what) for number, what in found.items()}


def decoded(messages: Sequence[bytes], columns: Sequence[str] | None, **options: Any) -> Decoded:
    found = decoder("json", options)(pa.array(messages, pa.binary()), columns)
    found.batch.validate(full=True)
    assert len(found.message) == len(found.row) == found.batch.num_rows
    return found


@pytest.mark.parametrize("seed", range(4))
def test_any_messages_are_rows_or_refused(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(100 * EFFORT):
        messages = [message(rng) for _ in range(rng.choice([1, 2, 3, 5, 8, 20, 60]))]
        decoded(messages, rng.choice([None, None, ["x"], ["x", ""]]))


@pytest.mark.parametrize("seed", range(2))
def test_what_becomes_of_a_message_does_not_depend_on_its_neighbours(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(20 * EFFORT):
        messages = [message(rng) for _ in range(rng.choice([2, 5, 20]))]
        columns = rng.choice([list(TYPES), ["x"]])
        together = outcome(decoded(messages, columns, types=TYPES))
        for i, one in enumerate(messages):
            alone = outcome(decoded([one], columns, types=TYPES))
            assert alone.get(0, []) == together.get(i, []), one


CRASHED = [b'{"beam_ml.first":6}', b"{}", b"{}", b'{"":true}']


def test_names_of_marks_are_names_like_any_other() -> None:
    """In a process of its own: where a column had the mark's name, pyarrow ended the process."""
    code = f"""
import pyarrow as pa
from beam_ml.formats.messages import decoder
found = decoder("json")(pa.array({CRASHED!r}))
assert found.batch.to_pydict() == {{"beam_ml.first": [6, None, None, None], "": [None, None, None, True]}}
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    found = decoded([b'[{"beam_ml.first":1},{"beam_ml.array":2}]', b"[]"], None)
    assert found.batch.to_pydict() == {"beam_ml.first": [1, None], "beam_ml.array": [None, 2]}


def test_a_message_takes_no_rows_from_its_neighbour() -> None:
    """Two objects in the first message, one in the second: had the mark a name to guess, the counts would agree."""
    first = b'{"beam_ml.first":true,"beam_ml.first":null,"x":3}'
    found = decoded([first, b'{"x":4}{"beam_ml.first":true,"x":5}'], ["x"], types={"x": "int64"})
    assert found.batch.to_pydict() == {"x": [3, 4, 5]}
    assert found.message.tolist() == [0, 1, 1]


def test_a_name_that_is_no_text_is_no_column() -> None:
    found = decoded([rb'{"\ud800":1,"x":2}', rb'{"\ud800":3}'], None)
    assert found.batch.to_pydict() == {"x": [2, None]}


def test_a_message_that_closes_its_array_too_early_is_refused() -> None:
    for text in (b'[{"x":1}], "y":[2]', b'[{"x":1}]}{"y":[2]', b'[{"x":[1]}], "y":[{"x":"]"}]'):
        found = decoded([text, b'[{"x":3}]'], ["x"], types={"x": "int64"})
        assert found.batch.to_pydict() == {"x": [3]}
        assert outcome(found)[0] == [("malformed message", -1)]
    kept = decoded([b'[{"x":4,"y":[1,[2]]}, {"x":5,"z":"]"}]'], ["x"], types={"x": "int64"})
    assert kept.batch.to_pydict() == {"x": [4, 5]}
