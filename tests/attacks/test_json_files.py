"""Any bytes as a JSON file: rows or typed rejects that tile it, or one sentence; what a row is depends on itself alone."""

import json
import math
import random
from typing import Any

import pytest

from beam_ml.errors import UnreadableInput
from beam_ml.formats import Block
from beam_ml.formats import json as json_format
from beam_ml.formats.json import Options
from tests.attacks.editing import edited
from tests.attacks.effort import EFFORT

SEEDS = [
    b'{"features": [1, -2.5e3, 0], "label": 1}',
    b'{"data": {"features": {"values": [1, 2, 3]}}}',
    b'{"data": {"features": {"keys": [0, 2], "shape": [3], "values": [1.5, 4]}}, "label": 0.5}',
    b'{"features": {"keys": [], "shape": [3], "values": []}}',
    b'{"start": "2024-01-01 00:00:00", "target": [1, null, 2.5], "cat": [0, 1], "dynamic_feat": [[1, 2], [3]]}',
    b'{"start": "x", "target": [], "cat": 3}',
    '{"x": 1, "y": "größe", "z": null, "a": {"b": true}}'.encode(),
    b'{"x": "\\ud83d\\ude00", "y": 1e400, "x": 2}',
    b"",
    b"[]",
    b"null",
]
PIECES = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"null", b"NaN", b"-Infinity", b"Inf", b"1e999", b"9" * 40, b"\\ud800",
    b"\xff", b"\xef\xbb\xbf", b"\0", b"\r", b" ", b'"features":', b'"keys":', b'"data":', b"true", b"1.0", b"[" * 2000,
    b'"features": [7]', b"{}", b'"x":{"x":' * 50, b'{"instances":[',
]  # fmt: skip
FORMS: list[Options] = [
    Options(),
    Options(form="dense"),
    Options(form="sparse", width=3),
    Options(form="sparse"),
    Options(form="series"),
]


MINE = {"columns": SEEDS[6:8], "dense": SEEDS[:2], "sparse": SEEDS[:4], "series": SEEDS[4:6]}


def mutated(rng: random.Random, one: bytes) -> bytes:
    return edited(
        rng, one, (0x22, 0x2C, 0x5B, 0x5C, 0x5D, 0x7B, 0x7D, 0x80), PIECES, SEEDS, edits=(0, 1, 1, 1, 2, 4)
    ).replace(b"\n", b" ")


def columns_of(options: Options) -> list[str]:
    return list(options.record_columns) or ["x", "y", "a.b"]


def things(block: Block) -> dict[int, Any]:
    """Return what stands at each place: a row's numbers and texts, or the reason why there is none."""
    block.batch.validate(full=True)
    assert block.position is not None
    found: dict[int, Any] = {}
    for at, row in zip(block.position.tolist(), block.to_dicts(), strict=True):
        assert at not in found
        found[at] = row
    for reject in block.rejected:
        for at in reject.position.tolist():
            assert at not in found
            found[at] = reject.reason
    return found


def spelled(what: Any) -> Any:
    """A value as a text, since values of one kind beside others are spelled as texts."""
    if isinstance(what, dict):
        return {name: spelled(value) for name, value in what.items()}
    if isinstance(what, bool):
        return str(int(what))
    if isinstance(what, int | float) and math.isfinite(what):
        return repr(float(what))
    try:
        return repr(float(what))
    except (TypeError, ValueError):
        return what


@pytest.mark.parametrize("options", FORMS, ids=lambda one: f"{one.form}-{one.width}")
@pytest.mark.parametrize("seed", range(2))
def test_lines_are_tiled_and_each_is_what_it_is_alone(options: Options, seed: int) -> None:
    rng = random.Random(seed)
    n_rows = 0
    for turn in range(4 * EFFORT):
        of = SEEDS if turn % 2 else [rng.choice(MINE[options.form])]  # alike, most are read at once
        share = rng.choice([0.02, 0.3, 1.0])
        some = [rng.choice(of) for _ in range(120 if turn % 2 == 0 else rng.choice([5, 40, 120]))]
        lines = [mutated(rng, one) if rng.random() < share else one for one in some]
        found = things(json_format.decode(b"\n".join(lines), columns_of(options), lines_of(options)))
        n_rows += sum(isinstance(one, dict) for one in found.values())
        at, looked_at = 0, set(rng.sample(range(len(lines)), min(len(lines), 25)))
        for i, line in enumerate(lines):
            if i not in looked_at:
                at += len(line) + 1
                continue
            alone = things(json_format.decode(b"\n" * (i > 0) + line, columns_of(options), lines_of(options)))
            mine = [what for place, what in found.items() if at <= place < at + len(line) + 1]
            assert spelled_all(mine) == spelled_all(list(alone.values())), line
            assert len(mine) == bool(line.strip(b" \t\r") and not (i == 0 and line == b"\xef\xbb\xbf")), line
            at += len(line) + 1
    assert n_rows > 20


def lines_of(options: Options) -> Options:
    return options.model_copy(update={"layout": "lines"})


def spelled_all(what: list[Any]) -> list[Any]:
    return [spelled(one) for one in what]


@pytest.mark.parametrize("options", FORMS[:3], ids=lambda one: f"{one.form}-{one.width}")
@pytest.mark.parametrize("seed", range(2))
def test_documents_are_tiled_or_refused_in_one_sentence(options: Options, seed: int) -> None:
    rng = random.Random(50 + seed)
    document = options.model_copy(update={"layout": "document"})
    n_read, said = 0, list[str]()
    for _ in range(60 * EFFORT):
        rows = [rng.choice(SEEDS[:8]) for _ in range(rng.choice([1, 3, 30]))]
        opening, closing = rng.choice([(b"[", b"]"), (b'{"instances": [', b'], "more": {}}'), (b"", b"")])
        text = opening + (b"," if opening else b"\n").join(rows) + closing
        if rng.random() < 0.7:
            text = mutated(rng, text)
        try:
            block = json_format.decode(text, columns_of(options), document)
        except UnreadableInput as error:
            said.append(str(error))
            continue
        found = things(block)
        assert all(0 <= at < len(text) for at in found)
        assert (block.start, block.stop) == (0, len(text))
        n_read += 1
        try:  # what Python reads as an array of so many, is so many rows and rejects
            theirs = json.loads(text.removeprefix(b"\xef\xbb\xbf"))
        except (ValueError, RecursionError):
            continue
        if isinstance(theirs, list):
            assert len(found) == len(theirs)
    assert n_read > 10
    assert len(said) > 5
    assert all("cannot be read as a JSON document" in one and "\n" not in one for one in said)


@pytest.mark.parametrize("seed", range(2))
def test_rows_that_python_reads_have_the_values_that_it_reads(seed: int) -> None:
    rng = random.Random(90 + seed)
    n_same = 0
    for _ in range(200 * EFFORT):
        line = mutated(rng, SEEDS[0])
        block = json_format.decode(line, options=lines_of(FORMS[1]))
        for row in block.to_dicts():
            try:
                theirs = json.loads(line)
            except (ValueError, RecursionError):
                continue  # what is nearly JSON in fields that nobody wants
            features = theirs.get("features")
            if isinstance(features, list):
                assert row["features"] == [None if one is None else float(one) for one in features]
                n_same += 1
    assert n_same > 40
