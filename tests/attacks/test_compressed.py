"""Damaged gzip, zstd and bzip2 files of every format that may be in one: rows, typed rejects, or one sentence."""

import bz2
import gzip
import random
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.errors import UnreadableInput
from beam_ml.formats import lines
from tests.attacks.effort import EFFORT
from tests.formats.recordio.support import frame, payload

TEXTS = {
    "csv": b"x,y\n" + b"".join(b"%d.5,row %d\n" % (i % 7, i) for i in range(60)),
    "jsonl": b"".join(b'{"x": %d.5, "y": "row %d"}\n' % (i % 7, i) for i in range(60)),
    "libsvm": b"".join(b"%d 1:%d.5 3:2 # row %d\n" % (i % 2, i % 7, i) for i in range(60)),
    "rec": b"".join(frame(payload([i % 7 + 0.5, i], label=[i % 2])) for i in range(30)),
}
PACKED = {
    ".gz": [gzip.compress, lambda text: gzip.compress(text[:99]) + gzip.compress(text[99:])],
    ".zst": [lambda text: pa.compress(text, "zstd", asbytes=True)],
    ".bz2": [bz2.compress, lambda text: bz2.compress(text[:99]) + bz2.compress(text[99:])],
}


def mutated(rng: random.Random, one: bytes) -> bytes:
    out = bytearray(one)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1)
        what = rng.randrange(4)
        if what == 0 and at < len(out):
            out[at] = rng.choice([0, 0x7F, 0xFF, out[at] ^ (1 << rng.randrange(8))])
        elif what == 1:
            del out[at : at + rng.randrange(1, 9)]
        elif what == 2:
            out[at:at] = rng.randbytes(rng.randrange(1, 5))
        else:
            del out[at:]
    return bytes(out)


def read(path: Path) -> int:
    """Return how many rows a file has, however it is cut."""
    found = [
        block
        for piece in formats.ranges(formats.stat(str(path)), 1 << 16)
        for block in formats.read(piece, max_rows=40)
    ]
    for block in found:
        block.batch.validate(full=True)
    return sum(map(len, found))


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("ending", PACKED)
def test_damaged_files_are_rows_or_refused(tmp_path: Path, form: str, ending: str) -> None:
    rng, path, text = random.Random(f"{form}{ending}"), tmp_path / f"a.{form}{ending}", TEXTS[form]
    seeds = [pack(text) for pack in PACKED[ending]]
    rows = set()
    for seed in seeds:
        path.write_bytes(seed)
        rows.add(read(path))
    assert len(rows) == 1
    said = []
    tracemalloc.start()
    try:
        for _ in range(42 * EFFORT):
            path.write_bytes(mutated(rng, rng.choice(seeds)))
            try:
                assert read(path) < 1_000 * max(rows)  # a match of zstd that has become longer repeats rows
            except UnreadableInput as error:
                said.append(str(error))
        assert tracemalloc.get_traced_memory()[0] < 16 << 20  # nothing is left of what was read
    finally:
        tracemalloc.stop()
    assert len(said) > 20
    assert all(one.startswith(str(path)) and "\n" not in one for one in said)


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("ending", [".zst", ".bz2"])
def test_a_bomb_is_refused_and_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, ending: str
) -> None:
    monkeypatch.setattr(lines, "_LEAST_BOUND", 2 << 20)
    path = tmp_path / f"a.{form}{ending}"
    path.write_bytes(PACKED[ending][0](TEXTS[form] + bytes(9 << 20)))
    assert path.stat().st_size < 4_000
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableInput, match=r"compressed and holds more than [\d,]+ bytes"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 1 << 20
