"""Labels that a setting sorts: the same in every format, each row by itself, and nothing sorted that is not listed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import formats
from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.features import Features, Label
from beam_ml.features.labels import NO_CLASS, OUTSIDE, UNREAD
from beam_ml.formats import Block

STATUS = {"column": "status", "positive": ["fraud", "chargeback"], "negative": ["paid"]}


def read(column: pa.Array, label: Any) -> tuple[list[float], dict[str, list[str]]]:
    """Return the labels of the good rows, -1 where missing, and the texts of the others by reason."""
    features = Features.parse({"numeric": ["x"], "label": label})
    name = features.label_column
    assert name is not None
    return of(features, Block(pa.record_batch({name: column, "x": np.arange(len(column)) * 1.0})))


def of(features: Features, block: Block) -> tuple[list[float], dict[str, list[str]]]:
    batch, rejected = features.to_batch(block)
    assert batch.label is not None
    return np.nan_to_num(batch.label, nan=-1.0).tolist(), {one.reason: list(one.detail) for one in rejected}


def test_texts_are_sorted_and_what_is_not_listed_is_shown() -> None:
    column = pa.array(["fraud", "paid", "Fraud", None, " chargeback ", "", "refunded"])
    assert read(column, STATUS) == ([1.0, 0.0, -1.0, 1.0, -1.0], {OUTSIDE: ["Fraud", "refunded"]})
    assert read(column.dictionary_encode(), STATUS) == read(column, STATUS)
    assert read(column, {**STATUS, "negative": "others"}) == ([1.0, 0.0, 0.0, -1.0, 1.0, -1.0, 0.0], {})


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, -1, 7, None], pa.int8()),
        pa.array([1.0, -1.0, 7.0, float("nan")]),
        pa.array([1, -1, 7, None]).cast(pa.decimal128(21, 2)),
        pa.array(["1", "-1.0", "7", None]),
        pa.array(["+1e0", " -1", "7.00", ""]),
    ],
)
def test_numbers_are_compared_by_value_whatever_writes_them(column: pa.Array) -> None:
    for positive, negative in (([1], [-1]), (["1"], ["-1"]), ([1.0], ["-1.00"])):
        found, rejected = read(column, {"column": "y", "positive": positive, "negative": negative})
        assert (found, list(rejected)) == ([1.0, 0.0, -1.0], [OUTSIDE])
        assert float(rejected[OUTSIDE][0]) == 7.0


@pytest.mark.parametrize(
    "column", [pa.array([True, False, None]), pa.array(["TRUE", "false", None]), pa.array([1, 0, None])]
)
def test_truth_values_have_another_side(column: pa.Array) -> None:
    assert read(column, {"column": "y", "positive": [True]}) == ([1.0, 0.0, -1.0], {})
    assert read(column, {"column": "y", "positive": [False]}) == ([0.0, 1.0, -1.0], {})
    assert read(column, "y") == ([1.0, 0.0, -1.0], {})


def test_without_a_mapping_each_row_is_read_by_itself() -> None:
    assert read(pa.array(["true", "0", "maybe", " False", None]), "y") == ([1.0, 0.0, 0.0, -1.0], {UNREAD: ["maybe"]})
    assert read(pa.array([-1, 1]), "y") == ([-1.0, 1.0], {})  # which the learner rejects: it may mean "not known"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"negative": None},
            r"Features\.label\.negative must be given where positive is \['chargeback', 'fraud'\]: a list",
        ),
        ({"positive": [True, False], "negative": None}, "negative must be given where positive is"),
        ({"negative": []}, r"negative must list at least one value, or be 'others'; got \[\]"),
        ({"positive": []}, r"Features\.label\.positive must"),
        ({"positive": "fraud"}, r"Features\.label\.positive must be a list; got 'fraud'"),
        ({"negative": "other"}, r"Features\.label\.negative must be .*'others'.*; got 'other'"),
        ({"negative": ["fraud"]}, r"must list no value twice .*; got \['fraud', 'fraud'\]"),
        ({"positive": [1], "negative": ["1.0", 2]}, "must list no value twice"),
        ({"positive": [True], "negative": [1]}, "must list no value twice"),
        ({"positive": [2**53]}, "must list numbers below 2⁵³"),
        ({"positiv": ["x"]}, r"positiv must not be given: there is no such field.*Did you mean 'positive'\?"),
    ],
)
def test_mappings_that_say_too_little_or_two_things(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValue, match=sentence):
        Features.parse({"numeric": ["x"], "label": {**STATUS, **change}})


def test_what_cannot_be_a_label() -> None:
    with pytest.raises(
        InvalidValue, match=r"Features\.label must be a column's name, or a table such as .*; got \['y'\]"
    ):
        Features.parse({"numeric": ["x"], "label": ["y"]})
    for column in (pa.array([b"fraud"]), pa.array([[1]])):
        with pytest.raises(MissingColumn, match=r"'status', which must be a number, a truth value or a text; got "):
            read(column, STATUS)


def test_the_mapping_is_kept_and_its_order_is_not() -> None:
    one = Features.parse({"numeric": ["x"], "label": STATUS})
    assert Features.parse(json.loads(one.to_json())) == one
    other = {**STATUS, "positive": ["chargeback", "fraud"]}
    assert Features.parse({"numeric": ["x"], "label": other}) == one
    assert Features.parse({"numeric": ["x"], "label": {**STATUS, "negative": "others"}}) != one
    mixed = Label(column="y", positive=(True, "a"), negative=(2, 0.5))
    assert Label.parse(json.loads(mixed.to_json())) == mixed
    assert one.columns() == ["x", "status"]
    assert one.columns(with_label=False) == ["x"]


@pytest.mark.parametrize("format", ["csv", "avro", "parquet"])
def test_files_of_every_format_agree(tmp_path: Path, format: str) -> None:
    path = str(tmp_path / f"rows.{format}")
    status = ["paid", "fraud", "n/a", None] * 50
    formats.write(path, [pa.record_batch({"status": status, "x": np.arange(200.0)})])
    label = {"column": "status", "positive": ["fraud"], "negative": ["paid", "n/a"]}
    features = Features.parse({"numeric": ["x"], "label": label})
    options = formats.of_files(format).options(None, features.roles)
    (piece,) = formats.ranges(formats.list_files(path)[0], 1 << 20, format, options)
    (block,) = formats.read(piece, features.columns(), options=options)
    assert of(features, block) == ([0.0, 1.0, 0.0, -1.0] * 50, {})


def test_a_csv_column_that_begins_as_numbers_keeps_later_texts(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    cells = ["1", "0"] * 300_000 + ["N/A", "", "1.0", "true", "odd"]
    path.write_text("y,x\n" + "".join(f"{cell},1\n" for cell in cells), encoding="utf-8")
    label = {"column": "y", "positive": [1], "negative": [0, "N/A"]}
    features = Features.parse({"numeric": ["x"], "label": label})
    options = formats.of_files("csv").options(None, features.roles)
    labels, shown = [], []
    for piece in formats.ranges(formats.list_files(str(path))[0], 1 << 20, "csv", options):
        for block in formats.read(piece, features.columns(), options=options):
            assert block.rejected == ()
            found, rejected = of(features, block)
            labels += found
            shown += [*rejected.items()]
    assert labels[-4:] == [0.0, -1.0, 1.0, 1.0]
    assert (len(labels), shown) == (600_004, [(OUTSIDE, ["odd"])])


KINDS = [b'"fraud"', b"1", b"true", b"0.5", b"false", b"null", b'"paid"', b"2.0", b'"odd"', b"12345678901234567890"]


@pytest.mark.parametrize("count", [1, 40])
def test_messages_of_json_are_sorted_whatever_stands_beside_them(count: int) -> None:
    label = {"column": "y", "positive": ["fraud", 1], "negative": [0.5, "paid", False, 2]}
    features = Features.parse({"numeric": ["x"], "label": label})
    decode = formats.messages.decoder("json")
    messages = [b'{"x": 1, "y": %s}' % kind for kind in KINDS]

    def labels(values: list[bytes]) -> list[float]:
        found = decode(pa.array(values), features.columns())
        assert found.refused == ()
        batch, rejected = features.to_batch(Block(found.batch, position=found.message))
        whole = np.full(len(values), -2.0)
        assert batch.label is not None
        whole[batch.position] = np.nan_to_num(batch.label, nan=-1.0)
        assert sum(map(len, rejected)) == (whole == -2.0).sum()
        return whole.tolist()

    alone = [one for message in messages for one in labels([message])]
    assert alone == [1.0, 1.0, 1.0, 0.0, 0.0, -1.0, 0.0, 0.0, -2.0, -2.0]
    assert labels(messages * count) == alone * count
    for one, message in zip(alone, messages, strict=True):
        assert labels([message] * count) == [one] * count


def test_messages_of_csv_and_avro() -> None:
    features = Features.parse({"numeric": ["x"], "label": STATUS})
    rows = pa.record_batch({"x": [1.0, 2.0, 3.0], "status": ["fraud", "paid", "odd"]})
    schema = {"type": "record", "name": "r", "fields": [
        {"name": "x", "type": "double"}, {"name": "status", "type": ["null", "string"]},
    ]}  # fmt: skip
    for format, options in (
        ("csv", {"column_names": ["x", "status"], "labels": ["status"]}),
        ("avro", {"schema_text": json.dumps(schema), "framing": "none"}),
    ):
        values = formats.messages.encoder(format, options)(rows)
        found = formats.messages.decoder(format, options)(pa.array(values), features.columns())
        assert of(features, Block(found.batch)) == ([1.0, 0.0], {OUTSIDE: ["odd"]})


TREES = {"column": "kind", "classes": ["oak", "ash", 3, True]}


@pytest.mark.parametrize(
    "column", [["oak", "ash", "3", "true", None, "", "elm"], [" oak", "ash ", "3.0", "TRUE", "", None, "elm"]]
)
def test_classes_are_numbered_as_they_are_listed(column: list) -> None:
    found, rejected = read(pa.array(column), TREES)
    assert found == [0.0, 1.0, 2.0, 3.0, -1.0, -1.0]
    assert rejected == {NO_CLASS: ["elm"]}
    turned = {**TREES, "classes": TREES["classes"][::-1]}
    assert read(pa.array(column), turned)[0] == [3.0, 2.0, 1.0, 0.0, -1.0, -1.0]


def test_names_of_classes() -> None:
    assert Label(**TREES).names == ("oak", "ash", "3", "true")
    assert Label(**{**STATUS, "positive": ["fraud"]}).names == ("paid", "fraud")
    assert Label(**STATUS).names is None
    assert Label(column="y", positive=["a"], negative="others").names is None
    assert Label.parse(json.loads(Label(**TREES).to_json())) == Label(**TREES)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"column": "y"}, r"Features\.label\.positive must be given, .*\(or classes"),
        ({"column": "y", "classes": ["a"]}, r"Features\.label\.classes must"),
        ({"column": "y", "classes": ["a", "b", "a"]}, r"classes must list no value twice \(1, '1' and true are one\); got \['a', 'a'\]\."),
        ({"column": "y", "classes": ["a", "b"], "positive": ["a"]}, r"positive and negative must be left out with classes; got \['a'\]\."),
        ({"column": "y", "classes": [2**60, 1]}, "must list numbers below 2⁵³"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_about_classes_are_one_sentence(label: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Features.parse({"numeric": ["x"], "label": label})
