"""Blocks show their rows."""

import numpy as np
import pyarrow as pa

from beam_ml.core.batch import Origin
from beam_ml.formats import Block, Reject


def test_a_block_shows_its_first_rows_with_their_places_and_what_is_left_out() -> None:
    columns = {"id": np.arange(8), "score": np.full(8, 0.25), "note": ["x" * 500] * 8, "model_version": [7] * 8}
    block = Block(
        pa.record_batch(columns), Origin("files", "a.csv"), np.arange(8) * 10, rejected=(Reject("late", np.arange(3)),)
    )
    head, *rows, more, rejected = str(block).splitlines()
    assert repr(block) == str(block)
    assert head == "Block of 8 rows from files a.csv"
    assert len(rows) == 5
    assert rows[1].startswith("  at 10: id=1, score=0.25, note='xxx")
    assert rows[1].endswith(", model_version=7")
    assert max(map(len, rows)) < 130
    assert (more, rejected) == ("  … 3 more", "  3 rejected: late")


def test_blocks_without_places_columns_or_rows_are_shown_too() -> None:
    assert str(Block(pa.record_batch({"x": [None, 1]}))) == "Block of 2 rows\n  row 0: x=None\n  row 1: x=1"
    assert str(Block(pa.record_batch({"x": pa.nulls(0)}))) == "Block of 0 rows"
    raw = Block(pa.record_batch({"value": [b"\0" * 4_000]}))
    assert len(str(raw)) < 100
    assert raw.to_dicts() == [{"value": b"\0" * 4_000}]
