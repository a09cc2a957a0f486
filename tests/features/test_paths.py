"""Every kind of term makes the same bytes of a row on every path: files, messages, dicts, training and scoring."""

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_ml import formats
from beam_ml.beam.transforms.rows import block_of
from beam_ml.core.batch import Batch
from beam_ml.features import Features
from beam_ml.formats.block import Block
from beam_ml.formats.json.messages import message_decoder
from beam_ml.formats.table import TABLE

KINDS: dict[str, dict[str, Any]] = {
    "number": {"numeric": ["amount"]},
    "logarithm": {"numeric": [{"column": "amount", "transform": "log1p"}]},
    "standardised": {"numeric": [{"column": "amount", "transform": "standardise", "mean": 2.5, "scale": 3.0}]},
    "filled": {"numeric": [{"column": "holes", "fill": 1.5, "indicator": True}]},
    "filled with the mean": {
        "numeric": [{"column": "holes", "transform": "standardise", "mean": 7.0, "scale": 2.0, "fill": "mean"}]
    },
    "truth value": {"numeric": ["truth"]},
    **{
        part: {"numeric": [{"column": "at", "transform": part}]}
        for part in ("hour", "weekday", "night", "weekend", "day", "month", "quarter", "day_of_year", "week", "days")
    },
    "hour in Paris": {"numeric": [{"column": "at", "transform": "hour", "zone": "Europe/Paris"}]},
    "cyclic month": {"numeric": [{"column": "at", "transform": "month", "cyclic": True}]},
    "hashed": {"hashed": [{"column": "shop", "buckets": 64}]},
    "hashed number": {"hashed": [{"column": "card", "buckets": 64}]},
    "one-hot": {"one_hot": [{"column": "shop", "vocabulary": ["a", "7", "été"]}]},
    "one-hot number": {"one_hot": [{"column": "card", "vocabulary": [1, "2", 30], "unseen": "none"}]},
    "one-hot, sparse": {"one_hot": [{"column": "shop", "vocabulary": ["a"], "unseen": "none"}], "sparse": True},
    "bucketed": {"bucketed": [{"column": "amount", "bounds": [1.0, 4.0, 9.0]}]},
    "bucketed, missing": {
        "bucketed": [{"column": "holes", "bounds": [3.0], "missing": "place"}],
        "numeric": ["amount"],
    },
    "cross": {"crosses": [{"columns": ["shop", "card"], "buckets": 100}]},
    "cross of spans": {
        "crosses": [{"columns": ["shop", "amount"], "buckets": 100}],
        "bucketed": [{"column": "amount", "bounds": [4.0]}],
    },
    "cross by vocabulary": {
        "one_hot": [{"column": "shop", "vocabulary": ["a", "b"], "unseen": "none"}],
        "bucketed": [{"column": "amount", "bounds": [4.0]}],
        "crosses": [{"columns": ["shop", "amount"], "by": "vocabulary"}],
    },
    "words": {"text": [{"column": "note", "buckets": 128, "ngrams": [1, 2]}]},
    "words of a vocabulary": {
        "text": [{"column": "note", "vocabulary": ["good", "not good", "été"], "ngrams": [1, 2], "value": "log"}],
        "numeric": ["amount"],
    },
    "all": {
        "numeric": ["amount", {"column": "holes", "fill": -1.0, "indicator": True}],
        "hashed": [{"column": "card", "buckets": 64}],
        "one_hot": [{"column": "shop", "vocabulary": ["a", "b"], "unseen": "none"}],
        "bucketed": [{"column": "amount", "bounds": [4.0]}],
        "crosses": [{"columns": ["shop", "card"], "buckets": 32}, {"columns": ["shop", "amount"], "by": "vocabulary"}],
        "text": [{"column": "note", "buckets": 16}],
    },
}
N = 97
ZERO = datetime.datetime(2024, 3, 30, 20)


def rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    words = ["Good", "not", "good,", "été", "ÉTÉ!", "7", "x_y", "", "été"]
    return [
        {
            "amount": float(rng.integers(0, 40)) / 4.0,
            "holes": None if i % 7 == 0 else float(i % 5) + 0.5,
            "truth": bool(i % 3),
            "at": ZERO + datetime.timedelta(minutes=int(rng.integers(0, 500_000))),
            "shop": ["a", "b", "7", "été", "zz", None][i % 6],
            "card": int(rng.integers(0, 40)),
            "note": None if i == 11 else " ".join(rng.choice(words, int(rng.integers(0, 9)))),
            "y": i % 2,
        }
        for i in range(N)
    ]


ROWS = rows()
TABLE_OF_ROWS = pa.Table.from_pylist(ROWS).combine_chunks()


def features(kind: str) -> Features:
    return Features.parse({**KINDS[kind], "label": "y"})


def bytes_of(batches: list[Batch]) -> dict[str, tuple[str, bytes]]:
    whole = Batch.concat(batches)
    arrays = ((name, getattr(whole, name)) for name in ("X", "indptr", "indices", "values"))
    return {name: (str(one.dtype), one.tobytes()) for name, one in arrays if one is not None}


def made(features: Features, blocks: list[Block], with_label: bool = True) -> list[Batch]:
    found = [features.to_batch(block, with_label) for block in blocks]
    assert [reject for _, rejects in found for reject in rejects] == []
    return [batch for batch, _ in found]


def expected(kind: str) -> dict[str, tuple[str, bytes]]:
    return bytes_of(made(features(kind), [Block(TABLE_OF_ROWS.to_batches()[0])]))


def read(path: Path, features: Features, rows: int) -> list[Block]:
    record = TABLE[formats.format_of(str(path))]
    options = record.options({}, features.roles)
    (file,) = formats.list_files(str(path))
    pieces = formats.ranges(file, 1 << 20, record.name, options)
    return [block for piece in pieces for block in formats.read(piece, features.columns(), rows, options=options)]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_same_however_they_are_cut(kind: str) -> None:
    batch = TABLE_OF_ROWS.to_batches()[0]
    for size in (1, 10, 64):
        blocks = [Block(batch.slice(start, size)) for start in range(0, N, size)]
        assert bytes_of(made(features(kind), blocks)) == expected(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_stored_settings_make_what_memory_makes(kind: str, tmp_path: Path) -> None:
    pq.write_table(TABLE_OF_ROWS, tmp_path / "rows.parquet", row_group_size=40)
    blocks = read(tmp_path / "rows.parquet", features(kind), 30)
    assert bytes_of(made(features(kind), blocks)) == expected(kind)
    stored = Features.parse(json.loads(features(kind).to_json()))
    assert stored == features(kind)
    assert bytes_of(made(stored, blocks, with_label=False)) == expected(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_text_files_make_what_memory_makes(kind: str, tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows({**row, "at": row["at"].isoformat()} for row in ROWS)
    assert bytes_of(made(features(kind), read(tmp_path / "rows.csv", features(kind), 30))) == expected(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_messages_make_what_memory_makes(kind: str) -> None:
    wanted = features(kind)
    decode = message_decoder({"categories": list(wanted.roles.categories)})
    messages = [json.dumps({**row, "at": row["at"].isoformat()}).encode() for row in ROWS]
    blocks = [Block(decode(pa.array(messages[i : i + 20]), wanted.columns()).batch) for i in range(0, N, 20)]
    assert bytes_of(made(wanted, blocks)) == expected(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_dicts_make_what_memory_makes(kind: str) -> None:
    wanted = features(kind)
    blocks = [block_of(ROWS[i : i + 13], frozenset(wanted.columns()), wanted.roles) for i in range(0, N, 13)]
    assert bytes_of(made(wanted, blocks)) == expected(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_have_the_features_of_many(kind: str) -> None:
    (batch,) = made(features(kind), [Block(TABLE_OF_ROWS.to_batches()[0].slice(0, 0))])
    assert (len(batch), batch.n_features) == (0, features(kind).n_features)
    assert len(set(features(kind).names)) == len(features(kind).names)
    if batch.is_dense:
        assert len(features(kind).names) == batch.n_features
