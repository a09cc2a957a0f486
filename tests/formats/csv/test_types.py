"""Values keep what they are: one column is relaxed at a time, identifiers never pass through floating numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.errors import UnreadableInput
from beam_ml.features import Features
from beam_ml.formats import Block
from beam_ml.formats.csv import files
from beam_ml.formats.csv.messages import message_decoder

IDS = [10**18 + 7 * i for i in range(2_000)]
FEATURES = Features(numeric=["amount"], hashed=[{"column": "card", "buckets": 1 << 22}])
CARD = files.Options(categories=("card",))


def put(folder: Path, text: str | bytes) -> str:
    path = folder / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def read(path: str, options: files.Options = CARD, target: int = 1 << 20) -> list[Block]:
    (file,) = formats.list_files(path)
    return [block for piece in files.ranges(file, target, options) for block in files.read(piece, options=options)]


def places(blocks: list[Block]) -> list[int]:
    """Return the places that cards are hashed to."""
    batches = [FEATURES.to_batch(block)[0] for block in blocks]
    return [int(i) for batch in batches if batch.indices is not None for i in batch.indices[1::2]]


def rows(cards: list[Any], amounts: list[Any]) -> str:
    return "card,amount,n\n" + "".join(f"{card},{amount},3\n" for card, amount in zip(cards, amounts, strict=True))


@pytest.mark.parametrize("head", [50, 1 << 20])
@pytest.mark.parametrize("other", ["1.5", "0.5e3", ""])
def test_identifiers_do_not_change_where_another_column_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: int, other: str
) -> None:
    wanted = places(read(put(tmp_path, rows(IDS, [1] * 2_000))))
    assert len(set(wanted)) > 1_990
    monkeypatch.setattr(files, "_HEAD_BYTES", head)
    blocks = read(put(tmp_path, rows(IDS, [1] * 1_000 + [other] + [1] * 999)))
    (block,) = blocks
    assert block.batch.schema.field("card").type == pa.string()
    assert block.batch.schema.field("n").type == pa.int64()
    missing = [1_000] if other == "" else []
    assert places(blocks) == [one for i, one in enumerate(wanted) if i not in missing]


@pytest.mark.parametrize("head", [50, 1 << 20])
@pytest.mark.parametrize("odd", ["C-17", "1e9", "1.5", "18446744073709551615", "123456789012345678901234"])
def test_identifiers_do_not_change_where_one_of_them_is_no_whole_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: int, odd: str
) -> None:
    wanted = places(read(put(tmp_path, rows(IDS, [1] * 2_000))))
    monkeypatch.setattr(files, "_HEAD_BYTES", head)
    cards = [*IDS[:1_000], odd, *IDS[1_001:]]
    found = places(read(put(tmp_path, rows(cards, [1] * 2_000))))
    assert len(found) == 2_000
    assert found[:1_000] + found[1_001:] == wanted[:1_000] + wanted[1_001:]
    assert found[1_000] not in (wanted[1_000], *wanted[:5])


def test_an_empty_category_is_one_of_its_own_whatever_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_HEAD_BYTES", 20)
    for last in ("8", "C-17", "8.0", "8.5"):
        text = rows([5, 5, 5, 5, "", " 6 ", "NA", last], [1] * 8)
        (block,) = read(put(tmp_path, text))
        found = places([block])
        assert FEATURES.to_batch(block)[1] == ()
        (null,) = places([Block(pa.record_batch({"card": pa.nulls(1, pa.int64()), "amount": [1]}))])
        (six,) = places([Block(pa.record_batch({"card": [6], "amount": [1]}))])
        (name,) = places([Block(pa.record_batch({"card": ["NA"], "amount": [1]}))])
        assert found[4:7] == [null, six, name]
        assert len({*found[3:]}) == 5


def test_a_column_of_numbers_still_refuses_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_HEAD_BYTES", 30)
    (block,) = read(put(tmp_path, rows(IDS[:4], [1, "oops", 2.5, 3])))
    assert block.batch.column("card").to_pylist() == [str(IDS[i]) for i in (0, 2, 3)]
    assert block.batch.column("amount").to_pylist() == [1.0, 2.5, 3.0]
    (reject,) = block.rejected
    assert (reject.reason, len(reject)) == ("unparseable value", 1)
    assert "oops" in reject.detail[0]


@pytest.mark.parametrize("odd", ["2", "0.5", "x"])
def test_what_is_no_truth_value_among_truth_values_costs_its_own_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    monkeypatch.setattr(files, "_HEAD_BYTES", 10)
    (block,) = read(put(tmp_path, f"a,b\ntrue,1\nfalse,2\ntrue,3\n{odd},4\n1,5\n"))
    assert block.batch.to_pydict() == {"a": [True, False, True, True], "b": [1, 2, 3, 5]}
    (reject,) = block.rejected
    assert (reject.reason, len(reject)) == ("unparseable value", 1)
    assert odd in reject.detail[0]


def test_two_columns_at_odds_do_not_cost_each_other_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_HEAD_BYTES", 12)
    text = "a,b,card\n1,1,1\n1,1,2\nx,2,3\n2,2.5,4\n3,y,5\n4.5,4,C\n"
    (block,) = read(put(tmp_path, text))
    assert block.batch.to_pydict() == {"a": [1, 1, 2, 4.5], "b": [1, 1, 2.5, 4], "card": ["1", "2", "4", "C"]}
    assert sum(map(len, block.rejected)) == 2


def test_declared_types_come_before_what_a_column_is_used_for(tmp_path: Path) -> None:
    options = files.Options(categories=("card",), types={"card": "string"})
    (block,) = read(put(tmp_path, rows(["", "7"], [1, 1])), options)
    assert block.batch.column("card").to_pylist() == ["", "7"]


ALIKE = [["7", "007", " 7", "7.0", "007.00"], ["1e5"], ["100000", "100000.0"], ["0x1F"], ["31"], ["+7"], ["7.5"]]
ALIKE += [["true"], ["TRUE"], ["1"], ["C-7"], ["c-7"], ["-7", "-07"], ["0", "00", "-0"], ["2024-01-01"], ["12:00"]]
ALIKE += [["", " "], ["NA"], ["null"], ["NaN"], ["nan"]]
ALIKE += [["9223372036854775808", "0" * 30 + "9223372036854775808"], ["8", "0" * 30 + "8"]]


@pytest.mark.parametrize("first", ["7", "C-1", "1e5", "true", "2024-01-01", "7.5", "0x1F", ""])
def test_what_a_category_is_depends_neither_on_the_rows_before_nor_on_the_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The file begins with one kind of value, longer than what types are inferred from."""
    monkeypatch.setattr(files, "_HEAD_BYTES", 60)
    texts = [text for alike in ALIKE for text in alike]
    path = put(tmp_path, rows([first] * 30 + texts, [1] * (30 + len(texts))))
    for target in (100, 1 << 20):
        blocks = read(path, target=target)
        found = places(blocks)[-len(texts) :]
        by_text = dict(zip(texts, found, strict=True))
        assert [len({by_text[text] for text in alike}) for alike in ALIKE] == [1] * len(ALIKE)
        assert len(set(found)) == len(ALIKE)
        assert {block.batch.schema.field("card").type for block in blocks} == {pa.string()}
        assert [reject for block in blocks for reject in FEATURES.to_batch(block)[1]] == []
    numbers = Block(pa.record_batch({"card": [7, 100000, 31], "amount": [1, 1, 1]}))
    assert places([numbers]) == [by_text["7"], by_text["100000"], by_text["31"]]


@pytest.mark.parametrize(
    ("kind", "read_as"), [("true", pa.string()), ("2024-01-01", pa.string()), ("shop 1", pa.string())]
)
def test_other_categories_are_read_as_what_can_be_hashed(tmp_path: Path, kind: str, read_as: pa.DataType) -> None:
    (block,) = read(put(tmp_path, rows([kind] * 3, [1] * 3)))
    assert block.batch.schema.field("card").type == read_as
    assert len(places([block])) == 3


def test_messages_agree_with_files(tmp_path: Path) -> None:
    decode = message_decoder({"column_names": ["card", "amount"], "categories": ["card"]})
    wanted = places(read(put(tmp_path, rows(IDS[:50], [1] * 50))))
    for odd in ("C-17,1", 'x"y,1', "1e9,1.5", f"{2**64 - 1},1"):
        values = [f"{card},1".encode() for card in IDS[:50]]
        values[20] = odd.encode()
        found = decode(pa.array(values), ["card", "amount"])
        assert found.refused == ()
        got = places([Block(found.batch)])
        assert got[:20] + got[21:] == wanted[:20] + wanted[21:]


LATIN = "café".encode("latin-1")


@pytest.mark.parametrize("at", [1, 50, 99])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,2,3,4," + LATIN, "malformed line"),
        (LATIN, "malformed line"),
        (LATIN + b",1,3", "unparseable value"),
        (b"5," + LATIN + b",3", "unparseable value"),
        (b'"' + LATIN + b",1,3", "malformed line"),
    ],
)
def test_a_line_that_is_no_utf_8_costs_itself_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], at: int, line: bytes, reason: str
) -> None:
    body = rows(IDS[:100], [1] * 100).encode().split(b"\n")
    body[at] = line
    blocks = read(put(tmp_path, b"\n".join(body)))
    assert [int(card) for block in blocks for card in block.batch.column("card").to_pylist()] == [
        card for i, card in enumerate(IDS[:100]) if i != at - 1
    ]
    (reject,) = [one for block in blocks for one in block.rejected]
    assert (reject.reason, len(reject)) == (reason, 1)
    assert capfd.readouterr().err == ""


def test_a_malformed_line_that_is_no_utf_8_leaves_the_others_their_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_HEAD_BYTES", 30)
    text = rows(IDS[:50], [1] * 48 + ["1.5", "2"]).encode() + LATIN + b"\nC," + b"3,\xe9\n"
    (block,) = read(put(tmp_path, text + b"7,0.5,3\n"), files.Options(categories=("card",), types={"n": "string"}))
    assert block.batch.column("amount").to_pylist() == [1.0] * 48 + [1.5, 2.0, 0.5]
    assert {one.reason: len(one) for one in block.rejected} == {"malformed line": 1, "unparseable value": 1}


def test_texts_of_another_coding_are_refused_line_by_line(tmp_path: Path) -> None:
    text = b"card,amount,n\n" + b"".join(b"%s%d,1,3\n" % (LATIN if i % 3 == 0 else b"cafe", i) for i in range(30))
    blocks = read(put(tmp_path, text))
    assert sum(len(block) for block in blocks) == 20
    assert sum(len(one) for block in blocks for one in block.rejected) == 10
    unwanted = [
        block
        for piece in files.ranges(formats.list_files(put(tmp_path, text))[0], 1 << 20)
        for block in files.read(piece, ["n"])
    ]
    assert sum(len(block) for block in unwanted) == 30


def test_a_head_of_nothing_but_damage_leaves_the_rows_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_HEAD_BYTES", 5)
    (block,) = read(put(tmp_path, b"card,amount,n\n" + LATIN + b"\n7,1,3\n"))
    assert len(block) == 1
    with pytest.raises(UnreadableInput):
        read(put(tmp_path, b""))


def test_random_tables_keep_every_identifier(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        cards = [str(one) for one in rng.integers(-(2**63), 2**63 - 1, 60)]
        amounts = [str(one) for one in rng.integers(0, 9, 60)]
        for _ in range(int(rng.integers(0, 4))):
            amounts[int(rng.integers(0, 60))] = str(rng.choice(["1.5", "1e3", "-0.25"]))
            cards[int(rng.integers(0, 60))] = str(rng.choice(["x", "2.5", "99999999999999999999"]))
        (block,) = read(put(tmp_path, rows(cards, amounts)))
        assert [str(card) for card in block.batch.column("card").to_pylist()] == cards
        assert [float(one) for one in block.batch.column("amount").to_pylist()] == [float(one) for one in amounts]


@pytest.mark.parametrize("beside", [b"true,1", b"2,1", b"0.5,1", b"x,1", b",1", b"2024-01-01,1"])
@pytest.mark.parametrize(("value", "number"), [(b"true", 1.0), (b"False", 0.0), (b"1", 1.0), (b"2.5", 2.5)])
def test_a_truth_value_in_a_message_is_the_same_number_whatever_stands_beside_it(
    beside: bytes, value: bytes, number: float
) -> None:
    decode = message_decoder({"column_names": ["a", "b"]})
    for values in ([value + b",7", beside], [beside, value + b",7"]):
        batch, _ = Features(numeric=["a", "b"]).to_batch(Block(decode(pa.array(values), ["a", "b"]).batch))
        assert batch.X is not None
        assert [number, 7.0] in batch.X.tolist()
