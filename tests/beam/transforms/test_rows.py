"""Rows that are single elements are learned from and scored as blocks are."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from beam_ml import Batch, api, derive, fit, linear, save
from beam_ml.beam import Evaluate, Score, ToBatches, Train, new_pipeline, run
from beam_ml.beam.transforms.rows import block_of
from beam_ml.core import metrics
from beam_ml.core.model import Model
from beam_ml.errors import InvalidBatch
from beam_ml.features import Features
from beam_ml.formats import Block

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 9_000))
Y = 2.0 * A - B + 1.0
FEATURES = Features(numeric=["a", "b"], label="y")
SPEC = linear.Newton(n_features=2, loss="squared")
DICTS = [{"a": a, "b": b, "y": y} for a, b, y in zip(A.tolist(), B.tolist(), Y.tolist(), strict=True)]


class Payment(NamedTuple):
    a: float
    b: float
    y: float


FORMS = {
    "dicts": lambda: beam.Create(DICTS),
    "rows": lambda: beam.Create([beam.Row(**one) for one in DICTS]),
    "tuples": lambda: beam.Create([Payment(**one) for one in DICTS]).with_output_types(Payment),
    "blocks": lambda: beam.Create([Block(pa.record_batch({"a": A, "b": B, "y": Y}))]).with_output_types(Block),
}


def written(where: Path) -> list[Any]:
    return [json.loads(line) for file in where.parent.glob(f"{where.name}*") for line in file.read_text().splitlines()]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_learned_alike(form: str, tmp_path: Path) -> None:
    pipeline = new_pipeline()
    out = pipeline | FORMS[form]() | Train(SPEC, {"m": linear.Regressor()}, features=FEATURES)
    found = out.learner | beam.Map(lambda one: json.dumps([one.progress.rows, _slope(one)]))
    found | beam.io.WriteToText(str(tmp_path / "learner"))
    run(pipeline)
    ((rows, slope),) = written(tmp_path / "learner")
    assert rows == 9_000
    np.testing.assert_allclose(slope, [2.0, -1.0], rtol=1e-6)


def _slope(learner: Any) -> list[float]:
    values: list[float] = api.derive(learner, linear.Regressor()).coefficients.values.tolist()
    return values


def model(folder: Path) -> str:
    made = derive(fit(SPEC, Batch.dense(np.c_[A, B], label=Y)), "regressor")
    stored = Model(made.spec, made.model_spec, made.arrays, {**made.facts, "features": FEATURES.to_dict()})
    save(stored, folder / "model")
    return str(folder / "model")


@pytest.mark.parametrize("form", ["dicts", "rows", "tuples"])
def test_rows_are_scored_to_dicts_that_print(form: str, tmp_path: Path) -> None:
    pipeline = new_pipeline()
    out = pipeline | FORMS[form]() | Score(model(tmp_path))
    out.predictions | beam.Map(json.dumps) | beam.io.WriteToText(str(tmp_path / "scored"))
    run(pipeline)
    found = sorted(written(tmp_path / "scored"), key=lambda one: one["a"])
    assert set(found[0]) == {"a", "b", "y", "score", "model_version"}
    np.testing.assert_allclose([one["score"] for one in found], [one["y"] for one in found], atol=1e-6)
    assert len(found) == 9_000


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_measured_alike(form: str, tmp_path: Path) -> None:
    pipeline = new_pipeline()
    measured = pipeline | FORMS[form]() | Evaluate(model(tmp_path))
    figures = measured | beam.Map(lambda one: json.dumps([metrics.compute(one.metrics)["mse"], *one.versions.values()]))
    figures | beam.io.WriteToText(str(tmp_path / "figures"))
    run(pipeline)
    ((mse, rows),) = written(tmp_path / "figures")
    assert mse < 1e-12
    assert rows == 9_000


@pytest.mark.parametrize("form", ["dicts", "rows"])
def test_listed_labels_of_rows_may_be_of_several_kinds(form: str, tmp_path: Path) -> None:
    features = Features.parse(
        {"numeric": ["a"], "label": {"column": "y", "positive": ["fraud", True], "negative": [0, "paid"]}}
    )
    labels = ["fraud", True, 0, "paid", 1.0, None, "odd", np.int64(0)]
    given = [{"a": float(i), "y": label} for i, label in enumerate(labels)]
    pipeline = new_pipeline()
    out = pipeline | beam.Create(given if form == "dicts" else [beam.Row(**one) for one in given]) | ToBatches(features)
    found = out.batches | beam.Map(lambda one: json.dumps(dict(zip(one.X[:, 0], one.label, strict=True))))
    found | beam.io.WriteToText(str(tmp_path / "labels"))
    (
        out.rejected
        | "Shown" >> beam.Map(lambda one: json.dumps(one.detail))
        | "X" >> beam.io.WriteToText(str(tmp_path / "x"))
    )
    run(pipeline)
    together = {int(float(name)): value for one in written(tmp_path / "labels") for name, value in one.items()}
    assert str(together.pop(5)) == "nan"
    assert together == {0: 1.0, 1: 1.0, 2: 0.0, 3: 0.0, 4: 1.0, 7: 0.0}
    assert written(tmp_path / "x") == [["odd"]]


def test_windows_are_kept_and_bad_rows_are_set_aside(tmp_path: Path) -> None:
    rows = [beam.window.TimestampedValue({"a": float(i), "b": None if i == 3 else 1.0, "y": 0.0}, i) for i in range(20)]
    pipeline = new_pipeline()
    given = pipeline | beam.Create(rows) | beam.Map(lambda one: one).with_output_types(dict)
    out = given | beam.WindowInto(beam.window.FixedWindows(10)) | Score(model(tmp_path))
    counted = out.predictions | beam.combiners.Count.Globally().without_defaults()
    counted | beam.Map(json.dumps) | "Counts" >> beam.io.WriteToText(str(tmp_path / "counts"))
    reasons = out.rejected | "Reasons" >> beam.Map(lambda one: json.dumps(one.reason))
    reasons | "Written" >> beam.io.WriteToText(str(tmp_path / "reasons"))
    run(pipeline)
    assert sorted(written(tmp_path / "counts")) == [9, 10]
    assert written(tmp_path / "reasons") == ["non-finite feature b"]


def test_rows_may_lack_columns(tmp_path: Path) -> None:
    pipeline = new_pipeline()
    out = pipeline | beam.Create([{"a": 1.0}, {"b": 2.0, "a": 3}]) | ToBatches(Features(numeric=["a", "b"]))
    out.batches | beam.Map(lambda one: json.dumps(one.X.tolist())) | beam.io.WriteToText(str(tmp_path / "x"))
    run(pipeline)
    assert written(tmp_path / "x") == [[[3.0, 2.0]]]


@pytest.mark.parametrize("others", [[], [{"a": 1.0, "b": 2.0, "card": "x"}]])
def test_a_row_that_lacks_a_column_is_the_same_alone_and_beside_one_that_has_it(others: list[dict[str, Any]]) -> None:
    features = Features(numeric=["a", "b"], hashed=["card"])
    wanted = frozenset(features.columns())
    batch, rejected = features.to_batch(block_of([{"a": 1.0, "b": 2.0}, *others], wanted))
    assert (len(batch), rejected) == (1 + len(others), ())
    batch, (reject,) = features.to_batch(block_of([{"a": 1.0, "card": "x"}, *others], wanted))
    assert (len(batch), reject.reason) == (len(others), "non-finite feature b")
    assert len(block_of([], wanted)) == 0


def test_a_column_that_no_row_has_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        block_of([{"a": 1.0}], frozenset(["a", "amount_that_is_misspelt"]))
    (one,) = [record.getMessage() for record in caplog.records]
    assert one == "no row of 1 has the column 'amount_that_is_misspelt'; they have ['a']."


def test_rows_that_lack_columns_are_scored_and_measured(tmp_path: Path) -> None:
    pipeline = new_pipeline()
    given = pipeline | beam.Create([{"a": 1.0}])
    reasons = given | Score(model(tmp_path))
    reasons.rejected | beam.Map(lambda one: json.dumps(one.reason)) | beam.io.WriteToText(str(tmp_path / "reasons"))
    unlabelled = pipeline | "Unlabelled" >> beam.Create([{"a": 1.0, "b": 2.0}, {"a": 1.0}])
    measured = unlabelled | Evaluate(model(tmp_path))
    (
        measured
        | "Rows" >> beam.Map(lambda one: json.dumps(one.versions))
        | "W" >> (beam.io.WriteToText(str(tmp_path / "figures")))
    )
    run(pipeline)
    assert written(tmp_path / "reasons") == ["non-finite feature b"]
    assert written(tmp_path / "figures") == []


ODD = [{"deep": 1}, [1.0], b"1", object, "\ud800", 1j]


@pytest.mark.parametrize("odd", [*ODD, "x", None, float("nan"), 10**400])
@pytest.mark.parametrize("others", [0, 3])
def test_a_row_with_an_odd_value_costs_itself_alone(odd: Any, others: int, tmp_path: Path) -> None:
    rows = [{"a": 1.5, "b": True, "deep": {}}, {"a": "2.5", "b": 2}, {"a": 3, "b": Decimal("2.5"), "deep": 1}][:others]
    features = Features(numeric=["a", "b"])
    block = block_of([*rows, {"a": odd, "b": 1.0}], frozenset(features.columns()))
    batch, refused = features.to_batch(block)
    assert batch.X is not None
    assert batch.X.tolist() == [[1.5, 1.0], [2.5, 2.0], [3.0, 2.5]][:others]
    assert sum(map(len, (*block.rejected, *refused))) == 1
    if any(odd is one for one in ODD):
        (reject,) = block.rejected
        assert reject.reason == "column a holds neither number, text nor time"
        assert reject.detail == (repr(odd),)


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TIMES = [
    NOON,
    NOON.replace(tzinfo=None),
    NOON.date(),
    np.datetime64("2026-01-01T12"),
    int(NOON.timestamp()),
    NOON.isoformat(),
]


@pytest.mark.parametrize("first", TIMES)
def test_times_of_several_kinds_are_read_as_each_alone(first: Any) -> None:
    """Arrow would take a number behind a time for µs or days, and cut a time behind a day."""
    features = Features(numeric=["a"], time="at")
    rows = [{"a": 1.0, "at": at} for at in (first, *TIMES)]
    alone = [features.to_batch(block_of([row], frozenset(features.columns())))[0].time for row in rows]
    batch, rejected = features.to_batch(block_of(rows, frozenset(features.columns())))
    assert rejected == ()
    assert batch.time is not None
    assert batch.time.tolist() == [int(time[0]) for time in alone if time is not None]
    noon, day = int(NOON.timestamp()) * 1_000_000, 86_400_000_000
    assert batch.time.tolist()[1:] == [noon, noon, noon - day // 2, noon, noon, noon]
    kept = block_of(rows, None).batch["at"].to_pylist()
    assert kept[5] == str(int(NOON.timestamp()))


@pytest.mark.parametrize("column", ["a", "shop", "w", "y", "at"])
@pytest.mark.parametrize("odd", [NOON, NOON.date(), Decimal("1.5"), np.datetime64("NaT"), b"1"])
def test_a_value_of_another_kind_is_judged_alike_alone_and_beside_others(column: str, odd: Any) -> None:
    features = Features(numeric=["a"], hashed=["shop"], weight="w", label="y", time="at")
    usual = {"a": 1.5, "shop": "north", "w": 1.0, "y": 0, "at": 1_767_268_800}
    one, texts = usual | {column: odd}, usual | {column: "?"}

    def reasons(*rows: Any) -> list[str]:
        block = block_of(list(rows), frozenset(features.columns()))
        batch, refused = features.to_batch(block)
        found = [reject.reason for reject in (*block.rejected, *refused) for _ in range(len(reject))]
        assert len(batch) + len(found) == len(rows)
        return sorted(found)

    assert reasons(one, usual) == reasons(usual, one) == reasons(one)
    assert sorted([*reasons(one), *reasons(texts)]) == reasons(one, texts)


def test_rejected_rows_are_counted_where_they_are_learned_and_scored(tmp_path: Path) -> None:
    rows = [*DICTS[:50], {"a": {"deep": 1}, "b": 1.0, "y": 0.0}, {"a": [1.0], "b": 1.0, "y": 0.0}]
    pipeline = new_pipeline()
    given = pipeline | beam.Create(rows) | beam.Map(lambda one: one).with_output_types(dict)
    learner = (given | Train(SPEC, features=FEATURES)).learner
    (
        learner
        | beam.Map(lambda one: json.dumps([one.progress.rows, dict(one.progress.rejected)]))
        | "L" >> (beam.io.WriteToText(str(tmp_path / "learner")))
    )
    scored = given | Score(model(tmp_path))
    reasons = scored.rejected | beam.FlatMap(lambda one: [json.dumps(one.reason)] * len(one))
    reasons | "R" >> beam.io.WriteToText(str(tmp_path / "reasons"))
    scored.predictions | "J" >> beam.Map(json.dumps) | "S" >> beam.io.WriteToText(str(tmp_path / "scored"))
    run(pipeline)
    reason = "column a holds neither number, text nor time"
    assert written(tmp_path / "learner") == [[50, {reason: 2}]]
    assert written(tmp_path / "reasons") == [reason] * 2
    assert len(written(tmp_path / "scored")) == 50


def test_categories_of_several_kinds_are_hashed_as_each_alone() -> None:
    features = Features(hashed=["card"])
    cards = [7, "7", 7.0, Decimal("7.00"), True, 1, "C-7", None, 2**63 + 1]

    def read(*some: Any) -> tuple[Batch, Any]:
        return features.to_batch(block_of([{"card": card} for card in some], frozenset(["card"]), features.roles))

    batch, rejected = read(*cards)
    assert rejected == ()
    alone = [read(card)[0] for card in cards]
    assert batch.indices is not None
    assert len(set(batch.indices[:4].tolist())) == 1
    assert batch.indices.tolist() == [int(one.indices[0]) for one in alone if one.indices is not None]


@pytest.mark.parametrize("card", [1.5, 2.0**53, float("inf"), np.float32(0.25), Decimal("7.5")])
def test_a_number_that_names_no_category_is_refused_alike_alone_and_beside_texts(card: Any) -> None:
    features = Features(hashed=["card"])
    for others in ([], [3.0, None], ["north", 7]):
        rows = [{"card": one} for one in (*others, card)]
        block = block_of(rows, frozenset(features.columns()), features.roles)
        batch, refused = features.to_batch(block)
        (reject,) = (*block.rejected, *refused)
        assert (len(batch), len(reject)) == (len(others), 1)
        assert reject.reason == "category card is not an exact whole number"


@pytest.mark.parametrize("rows_first", [True, False])
def test_one_score_takes_rows_here_and_blocks_there(rows_first: bool, tmp_path: Path) -> None:
    """Rows may lack columns, wherever blocks are scored by the same transform, which may not."""
    pipeline, score = new_pipeline(), Score(model(tmp_path))
    rows = pipeline | "R" >> beam.Create([{"a": 1.0}]) | beam.Map(lambda one: one).with_output_types(dict)
    whole = Block(pa.record_batch({"a": [1.0], "b": [2.0]}))
    blocks = pipeline | "B" >> beam.Create([whole]).with_output_types(Block)
    found = {}
    for name in ("rows", "blocks") if rows_first else ("blocks", "rows"):
        found[name] = (rows if name == "rows" else blocks) | f"Score {name}" >> score
    reasons = found["rows"].rejected | beam.Map(lambda one: json.dumps(one.reason))
    reasons | "W" >> beam.io.WriteToText(str(tmp_path / "reasons"))
    run(pipeline)
    assert written(tmp_path / "reasons") == ["non-finite feature b"]


def test_what_is_no_row_is_refused_in_one_sentence() -> None:
    pipeline = new_pipeline()
    pipeline | beam.Create([5, 6]) | ToBatches(Features(numeric=["a", "b"]))
    with pytest.raises(InvalidBatch, match=r"Rows must be blocks, dicts or beam\.Rows; got int"):
        run(pipeline)


@pytest.mark.parametrize("kind", [Score, Evaluate])
def test_rows_of_no_declared_type_are_refused_with_the_remedy(kind: type, tmp_path: Path) -> None:
    pipeline = new_pipeline()
    pipeline | beam.Create(DICTS[:3]) | beam.Map(lambda one: one).with_output_types(Any) | kind(model(tmp_path))
    with pytest.raises(InvalidBatch, match=r"declares, as Map\(…\)\.with_output_types\(dict\) does; got dict\."):
        run(pipeline)
