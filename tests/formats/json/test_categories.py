"""Identifiers in JSON keep what they are, whatever stands beside them."""

import json
from typing import Any

import pyarrow as pa
import pytest

from beam_ml.features import Features
from beam_ml.formats import Block
from beam_ml.formats.json.messages import message_decoder

FEATURES = Features(numeric=["n"], hashed=[{"column": "card", "buckets": 1 << 22}])
IDS = [10**18 + 7 * i for i in range(500)]
DECODE = message_decoder({"categories": ["card"]})


def decoded(cards: list[Any], n: Any = 1, form: str = "objects") -> Block:
    rows = [json.dumps({"card": card, "n": n}).encode() for card in cards]
    values = rows if form == "objects" else [b"[" + b",".join(rows) + b"]"]
    found = DECODE(pa.array(values), ["card", "n"])
    assert found.refused == ()
    return Block(found.batch)


def places(block: Block) -> list[int]:
    batch, _ = FEATURES.to_batch(block)
    assert batch.indices is not None
    return batch.indices[1::2].tolist()


@pytest.mark.parametrize("form", ["objects", "array"])
@pytest.mark.parametrize("at", [0, 7, 250, 499])
@pytest.mark.parametrize("odd", [1.5e3, 2**64 - 1, 2**70, "C-17", True, "17"])
def test_identifiers_beside_other_kinds_keep_their_places(odd: Any, at: int, form: str) -> None:
    wanted = places(decoded(IDS))
    assert len(set(wanted)) > 498
    cards = [*IDS[:at], odd, *IDS[at + 1 :]]
    found = places(decoded(cards, form=form))
    assert found[:at] + found[at + 1 :] == wanted[:at] + wanted[at + 1 :]
    same = {1.5e3: 1500, True: 1, "17": 17}.get(odd, odd)
    assert found[at] == places(decoded([same if isinstance(same, int) else str(same)]))[0]


@pytest.mark.parametrize("odd", [0.5, 1e16, 2.0**63])
@pytest.mark.parametrize("others", [IDS[:9], ["C-1"] * 9, [0.25] * 9])
def test_a_floating_number_that_is_no_identifier_is_a_reject_that_shows_it(odd: Any, others: list[Any]) -> None:
    cards = [*others[:5], odd, *others[5:]]
    found = DECODE(pa.array([json.dumps({"card": card}).encode() for card in cards]), ["card"])
    (refusal,) = found.refused
    wanted = [i for i, card in enumerate(cards) if isinstance(card, float)]
    assert (refusal.reason, refusal.message.tolist()) == ("unparseable value", wanted)
    assert f"column card: {str(odd)!r}" in refusal.detail


@pytest.mark.parametrize("others", [IDS[:9], ["C-1"] * 9, [None] * 9, [True, 7, "x"] * 3])
@pytest.mark.parametrize("nothing", ["null", '""', "NaN", "absent"])
def test_nothing_is_one_category_whatever_stands_beside_it(nothing: str, others: list[Any]) -> None:
    odd = b'{"n": 1}' if nothing == "absent" else b'{"n": 1, "card": %s}' % nothing.encode()
    values = [json.dumps({"n": 1, "card": card}).encode() for card in others]
    found = DECODE(pa.array([*values[:5], odd, *values[5:]]), ["card", "n"])
    assert found.refused == ()
    assert places(Block(found.batch))[5] == places(Block(pa.record_batch({"card": [""], "n": [1]})))[0]


def test_identifiers_do_not_change_where_another_column_does() -> None:
    values = [b'{"card": %d, "n": %s}' % (card, b"1.5" if i == 9 else b"1") for i, card in enumerate(IDS)]
    found = DECODE(pa.array(values), ["card", "n"])
    assert places(Block(found.batch)) == places(decoded(IDS))


def test_whole_numbers_and_texts_alone_stay_what_they_are() -> None:
    assert decoded(IDS).batch.schema.field("card").type == pa.int64()
    assert decoded(["2024-01-01", "2024-01-02"]).batch.schema.field("card").type == pa.string()
    assert decoded([None, None]).batch.schema.field("card").type == pa.null()


def test_a_declared_type_comes_first() -> None:
    decode = message_decoder({"categories": ["card"], "types": {"card": "int64"}})
    found = decode(pa.array([b'{"card": 1}', b'{"card": "x"}']), ["card"])
    assert found.batch.column("card").to_pylist() == [1]
    assert len(found.refused) == 1


def test_a_number_of_very_many_digits_is_one_reject() -> None:
    found = DECODE(pa.array([b'{"card": 5}', b'{"card": 1%s}' % (b"0" * 3_000), b'{"card": {"a": 1}}']), ["card"])
    assert [str(card) for card in found.batch.column("card").to_pylist()] == ["5"]
    assert sum(len(one.message) for one in found.refused) == 2
