"""Any bytes as CSV: rows and typed rejects that tile them, or one sentence; plain fields are what Python's reader reads."""

import csv
import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.errors import MissingColumn, UnreadableInput
from beam_ml.formats import Block
from beam_ml.formats import csv as csv_format
from beam_ml.formats.csv import Options
from beam_ml.formats.messages import Decoded, decoder
from tests.attacks.editing import edited
from tests.attacks.effort import EFFORT

NAMES = ["x", "s", "t"]
SEEDS = [
    b"1.5,abc,2024-01-01 00:00:00",
    b'-2e3,"a ""quoted"", text",2024-02-29T12:00:00Z',
    "7,größe,1999-12-31 23:59:59.999999".encode(),
    b'"8","two\nlines",',
    b",,",
    b"9007199254740993,007,1e5",
    b"true,null,NaN",
    b"inf, padded ,9999-12-31",
]
PIECES = [
    b",", b'"', b'""', b"\n", b"\r\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b";", b"\t", b" ", b"\\", b"'", b"1" * 40,
    b"-", b"e", b"NaN", b"\n\n\n", b'",', b',"', b"," * 30, b"\xc3", b"\xe2\x80\xa8", b"\x0b", b"\x1a",
]  # fmt: skip
FORMS = [
    (b"x,s,t\n", Options()),
    (b"x,s,t\r\n", Options(types={"x": "float64", "s": "string", "t": "timestamp[us, tz=UTC]"})),
    (b'\xef\xbb\xbfx,"s",t\n', Options(categories=("x", "s"), labels=("t",))),
    (b"", Options(header=False, column_names=tuple(NAMES))),
    (b"", Options(header=False, width=2)),
]


def mutated(rng: random.Random, one: bytes) -> bytes:
    return edited(rng, one, (0x22, 0x2C, 0x0A, 0x0D, 0x80, 0xFF), PIECES, SEEDS, most=30)


def check_tiled(block: Block, n_bytes: int) -> None:
    """Rows and rejects stand one behind the other from the first line to the end; what lies between is white space."""
    block.batch.validate(full=True)
    assert block.position is not None
    assert block.position_end is not None
    spans = [*zip(block.position.tolist(), block.position_end.tolist(), strict=True)]
    for one in block.rejected:
        assert one.position_end is not None
        spans += zip(one.position.tolist(), one.position_end.tolist(), strict=True)
    spans.sort()
    assert all(a < b for a, b in spans)
    assert [a for a, _ in spans[1:]] == [b for _, b in spans[:-1]]
    assert all(0 <= a <= b <= n_bytes for a, b in spans)
    assert len(block) == len(block.position)


@pytest.mark.parametrize("form", range(len(FORMS)))
def test_any_text_is_tiled_by_rows_and_rejects(form: int) -> None:
    head, options = FORMS[form]
    rng = random.Random(form)
    n_rows, n_rejected, said = 0, 0, list[str]()
    for _ in range(100 * EFFORT):
        text = head + b"\n".join(rng.choices(SEEDS, k=rng.randrange(1, 9)))
        at = len(head) if rng.random() < 0.8 else 0
        text = text[:at] + mutated(rng, text[at:])
        try:
            block = csv_format.decode(text, NAMES[:2] if form != 4 and rng.random() < 0.3 else None, options)
        except UnreadableInput as error:
            said.append(str(error))
            continue
        except MissingColumn:
            assert at == 0  # a name was changed
            continue
        check_tiled(block, len(text))
        n_rows += len(block)
        n_rejected += sum(map(len, block.rejected))
    assert min(n_rows, n_rejected) > 20
    assert not any("\n" in one for one in said)


def test_plain_fields_are_what_python_reads() -> None:
    rng = random.Random(9)
    options = Options(types=dict.fromkeys(NAMES, "string"))
    n_same = 0
    for _ in range(100 * EFFORT):
        lines = [mutated(rng, rng.choice(SEEDS)) for _ in range(4)]
        lines = [one for one in lines if not set(one) & set(b'\n\r\0"') and one.strip()]
        block = csv_format.decode(b"x,s,t\n" + b"\n".join(lines), options=options)
        ours = {int(at): list(row.values()) for at, row in zip(block.position, block.batch.to_pylist(), strict=True)}
        at = len(b"x,s,t\n")
        for line in lines:
            try:
                [theirs] = csv.reader([line.decode()])
            except UnicodeDecodeError:
                theirs = []
            assert (at in ours) == (len(theirs) == len(NAMES)), line
            if at in ours:
                assert ["" if one is None else one for one in ours[at]] == theirs, line
                n_same += 1
            at += len(line) + 1
    assert n_same > 20


def outcome(found: Decoded) -> dict[int, list[tuple[str, object]]]:
    """Return what became of each message: its rows, and what was refused of it."""
    of: dict[int, list[tuple[str, object]]] = {}
    for number, row, values in zip(found.message.tolist(), found.row.tolist(), found.batch.to_pylist(), strict=True):
        of.setdefault(number, []).append((f"row {row}", str(values)))
    for one in found.refused:
        rows: Sequence[int] = [-1] * len(one.message) if one.row is None else one.row.tolist()
        for number, row in zip(one.message.tolist(), rows, strict=True):
            of.setdefault(number, []).append((one.reason, row))
    return {number: sorted(what, key=str) for number, what in of.items()}


@pytest.mark.parametrize("by_position", [False, True])
def test_what_becomes_of_a_message_does_not_depend_on_its_neighbours(by_position: bool) -> None:
    rng = random.Random(int(by_position))
    types = {"x": "float64", "s": "string", "t": "timestamp[us, tz=UTC]"}
    options = {"header": False, "width": 2} if by_position else {"column_names": NAMES, "types": types}
    decode = decoder("csv", options)
    n_rows = 0
    for _ in range(12 * EFFORT):
        messages = [mutated(rng, rng.choice(SEEDS)) for _ in range(rng.choice([2, 5, 20]))]
        together = decode(pa.array(messages, pa.binary()))
        together.batch.validate(full=True)
        found = outcome(together)
        for i, one in enumerate(messages):
            alone = outcome(decode(pa.array([one], pa.binary())))
            assert alone.get(0, []) == found.get(i, []), one
        n_rows += together.batch.num_rows
    assert n_rows > 5
    assert np.unique(together.message).size <= len(messages)
