"""Columns of categories as indicators by hash."""

import datetime
import hashlib
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.features import Features, Hashed
from beam_ml.features.hashing import places_for, sharing
from beam_ml.features.seen import places_by, seen_in
from beam_ml.formats.block import Block
from beam_ml.formats.csv.messages import message_decoder

ROWS = {
    "amount": [1.5, 0.0, 2.5, float("nan")],
    "card": [7, -1, 7, 7],
    "shop": ["x", "y", None, "x"],
    "fraud": [0, 1, 0, 1],
}
FEATURES = Features(numeric=["amount"], hashed=[{"column": "card", "buckets": 100}, "shop"], label="fraud")


def block(**columns: Any) -> Block:
    return Block(pa.record_batch({**ROWS, **columns}))


def place(values: Any, buckets: int = 1 << 20, kind: Any = None) -> list[int]:
    rows = pa.record_batch({"c": pa.array(values, kind)})
    return Hashed(column="c", buckets=buckets).entries(rows).places.tolist()


def test_numbers_come_first_then_one_indicator_a_category() -> None:
    batch, rejected = FEATURES.to_batch(block(amount=[1.5, 0.0, float("nan"), float("nan")]))
    assert FEATURES.n_features == batch.n_features == 1 + 100 + 65_536
    assert [(r.reason, r.position.tolist()) for r in rejected] == [
        ("non-finite feature amount", [2, 3]),
    ]
    assert batch.indptr is not None
    assert batch.indptr.tolist() == [0, 3, 6]
    first, second = batch.indices.reshape(2, 3).tolist()
    assert first == [0, 1 + place([7], 100)[0], 101 + place(["x"], 65_536)[0]]
    assert second == [0, 1 + place([-1], 100)[0], 101 + place(["y"], 65_536)[0]]
    assert batch.values.tolist() == [1.5, 1.0, 1.0, 0.0, 1.0, 1.0]
    assert batch.label.tolist() == [0.0, 1.0]
    assert FEATURES.columns() == ["amount", "card", "shop", "fraud"]


def test_categories_alone_are_enough() -> None:
    features = Features(hashed=["shop"])
    batch, rejected = features.to_batch(block(shop=["a", "b", "a", "c"]))
    assert rejected == ()
    assert len(batch) == 4
    assert batch.indices[0] == batch.indices[2] != batch.indices[1]
    empty, _ = features.to_batch(Block(block().batch.slice(0, 0)))
    assert len(empty) == 0


def test_places_are_the_same_for_ever() -> None:
    assert place([0, 1, 2**63 - 1, -1]) == [0, 722405, 384701, 769403]
    assert place(["", "a", "ä"]) == [42724, 981056, 740848]
    assert place([5, 6], kind=pa.int8()) == place([5, 6], kind=pa.uint64()) == place([5, 6])
    assert place(["a", "b"], kind=pa.large_string()) == place(["a", "b"])
    assert place(pa.array(["a", "b", "a"]).dictionary_encode()) == place(["a", "b", "a"])
    assert place(["a", "b"], kind=pa.string_view()) == place(["a", "b"])
    assert place([True, False]) == place([1, 0])
    assert place(["ä"]) == [int.from_bytes(hashlib.blake2b(b"\xc3\xa4", digest_size=8).digest(), "little") % (1 << 20)]


def test_a_number_keeps_its_place_however_a_format_gives_it() -> None:
    numbers = [0, 7, -1, 2**40, 2**53 - 1, -(2**53) + 1]
    assert place([str(i) for i in numbers]) == place([float(i) for i in numbers]) == place(numbers)
    assert place([str(2**64 - 1)]) == place([2**64 - 1], kind=pa.uint64())
    assert place(["007"]) == place([7])
    texts = ["7.0", "+7", " 7", "7_0", "٧", "-", str(2**64), str(-(2**63) - 1)]
    assert len({*place(texts), *place([7, 70])}) == 10
    decode = message_decoder({"column_names": ["shop", "fraud"]})
    blocks = [decode(pa.array([b"12,0", last]), ["shop", "fraud"]).batch for last in (b"3,1", b"x,1", b"1.5,1")]
    assert [str(rows.schema.field("shop").type) for rows in blocks] == ["int64", "string", "double"]
    found = [Features(hashed=["shop"]).to_batch(Block(rows)) for rows in blocks]
    assert len({int(batch.indices[0]) for batch, _ in found}) == 1
    assert [(r.reason, r.position.tolist()) for r in found[2][1]] == [
        ("category shop is not an exact whole number", [1])
    ]


def test_floats_that_are_not_whole_are_no_categories() -> None:
    rows = pa.record_batch({"c": pa.array([1.0, None, float("nan"), float("inf"), 2.0**63, -0.0, 0.5])})
    places, _, _, (rule,) = Hashed(column="c", buckets=1 << 20).entries(rows)
    assert rule.broken.tolist() == [False, False, False, True, True, False, True]
    assert places[[0, 5]].tolist() == place([1, 0])
    assert Hashed(column="c").entries(rows.slice(0, 1)).rules == ()


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.uint8(), pa.float64(), pa.float32(), pa.bool_(), pa.string(), pa.null()]
)
def test_nothing_is_a_category_of_its_own_and_the_same_in_every_type(kind: pa.DataType) -> None:
    """Criteo's click logs, for one, have hardly a row without an empty category."""
    nothing = place([""])
    assert nothing not in (place([0]), place(["None"]), place(["nan"]))
    assert place([None], kind=kind) == nothing
    rows = pa.record_batch({"shop": pa.array([None, None], kind)})
    batch, rejected = Features(hashed=["shop"]).to_batch(Block(rows))
    assert (len(batch), rejected) == (2, ())
    assert batch.values.tolist() == [1.0, 1.0]


def test_a_nan_among_floats_is_a_null() -> None:
    assert place([7.0, float("nan"), None]) == place(["7", "", ""])


@pytest.mark.parametrize("scale", [0, 2, 12])
@pytest.mark.parametrize("of", [pa.decimal128, pa.decimal256])
def test_decimals_that_are_whole_are_the_numbers_that_they_are(of: Any, scale: int) -> None:
    """Databases export identifiers as decimals."""
    kind = of(38, scale)
    values = [0, 7, -1, 10**20 + 1, 7]
    assert place([*map(Decimal, values), None], kind=kind) == place([*map(str, values), ""])
    odd = [Decimal("0.5"), Decimal(1), None] if scale else [Decimal(1)]
    batch, rejected = Features(hashed=["c"]).to_batch(Block(pa.record_batch({"c": pa.array(odd, kind)})))
    assert [(one.reason, one.position.tolist()) for one in rejected] == (
        [("category c is not an exact whole number", [0])] if scale else []
    )
    assert len(batch) == len(odd) - len(rejected)


def test_text_that_is_not_utf8_is_a_category_like_any_other() -> None:
    def text(value: bytes) -> pa.Array:
        return pa.Array.from_buffers(
            pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(value)]
        )

    assert len({*place(text(b"\xff\xfe")), *place(text(b"\xff\xfd")), *place(["ab"])}) == 3
    assert place(text(b"ab")) == place(["ab"])


def test_places_are_spread_evenly() -> None:
    counts = np.bincount(place(np.arange(64_000), 64), minlength=64)
    assert abs(counts - 1_000).max() < 150
    texts = np.bincount(place([str(i) for i in range(6_400)], 64), minlength=64)
    assert abs(texts - 100).max() < 50


def test_settings_are_json_and_back() -> None:
    assert Features.parse(json.loads(FEATURES.to_json())) == FEATURES
    assert FEATURES.hashed[1] == Hashed(column="shop")
    assert FEATURES.unsized == ("shop",)
    whole = FEATURES.sized({"shop": 2_048, "card": 7})
    assert Features.parse(json.loads(whole.to_json())) == whole
    assert [term.buckets for term in whole.hashed] == [100, 2_048]
    assert whole.sized({"shop": 5}) == whole
    assert FEATURES.sized().n_features == FEATURES.n_features == 1 + 100 + 65_536


@pytest.mark.parametrize("seen", [0, 1, 2, 16, 17, 999, 1_000, 1_024, 5_000, 10**9])
def test_places_are_a_power_of_two_of_which_few_are_shared(seen: int) -> None:
    places = places_for(seen)
    assert places.bit_count() == 1
    assert 1_024 <= places <= 65_536
    assert places >= min(64 * seen, 65_536)
    assert places <= max(128 * seen, 1_024)


def test_the_share_of_values_that_share_a_place_is_what_is_expected() -> None:
    for seen, places in [(1_000, 65_536), (1_000, 2_048), (5_000, 1_024)]:
        at = np.array(place([f"v{i}" for i in range(seen)], places))
        shared = np.mean(np.bincount(at, minlength=places)[at] > 1)
        assert sharing(seen, places) == pytest.approx(shared, abs=0.03)


def test_values_are_counted_once_however_a_format_gives_them() -> None:
    features = Features(hashed=["c", {"column": "d", "buckets": 10}])
    first = pa.record_batch({"c": pa.array([7, 8, None]), "d": pa.array(["x", "y", "z"])})
    then = pa.record_batch({"c": pa.array(["7", "a", ""]), "d": pa.array(["x", None, "z"])})
    assert seen_in(features, [first, then]) == {"c": 4, "d": 4}
    assert places_by({"c": 4, "d": 3_000}) == {"c": 1_024, "d": 65_536}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"^Features\.numeric must name at least one feature; got \[\]\.$"),
        ({"hashed": ["a", "a"]}, r"^Features\.hashed must name no column twice, as \['a'\] are; got \['a', 'a'\]\.$"),
        ({"hashed": [{"column": "a", "buckets": 0}]}, r"buckets must be >= 1; got 0\.$"),
        ({"hashed": [{"buckets": 5}]}, r"column must be given\.$"),
        (
            {"numeric": ["x"], "hashed": [{"column": c, "buckets": 1 << 26} for c in "ab"]},
            r"^Features\.hashed must leave n_features <= 100,000,000; got 134,217,729\.$",
        ),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Features(**settings)


@pytest.mark.parametrize(
    ("values", "found"), [([datetime.date(2024, 1, 1)], r"date32\[day\]"), ([b"a"], "binary"), ([["a"]], r"list<.*>")]
)
def test_columns_of_other_types_are_named(values: list, found: str) -> None:
    text = rf"^Features\.hashed names the column 'c', which must be a whole number or text; got {found}\.$"
    with pytest.raises(MissingColumn, match=text):
        Features(hashed=["c"]).to_batch(Block(pa.record_batch({"c": values})))
    with pytest.raises(MissingColumn, match="got no such column"):
        Features(hashed=["d"]).to_batch(Block(pa.record_batch({"c": values})))


def test_a_float_that_stands_for_several_numbers_is_no_category() -> None:
    rows = pa.record_batch({"c": [2.0**53, -(2.0**53), 2.0**62, 1.5, 7.0]})
    (rule,) = Hashed(column="c", buckets=1 << 20).entries(rows).rules
    assert rule.broken.tolist() == [True, True, True, True, False]
