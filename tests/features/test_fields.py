"""Fields: vocabularies, spans, crosses and texts, and numbers that are filled in."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidBatch, InvalidValue, MissingColumn
from beam_ml.features import Bucketed, Cross, Features, OneHot, Text
from beam_ml.features.entries import as_dense
from beam_ml.features.seen import seen_in
from beam_ml.formats.block import Block


def batch(columns: dict[str, Any], **settings: Any) -> Batch:
    rows, rejected = Features(**settings).to_batch(Block(pa.record_batch(columns)))
    assert rejected == ()
    return rows


def dense(columns: dict[str, Any], **settings: Any) -> list[list[float]]:
    return batch(columns, **settings, sparse=False).dense_x.tolist()


def scattered(rows: Batch) -> np.ndarray:
    whole = np.zeros((len(rows), rows.n_features))
    assert rows.indptr is not None
    whole[np.repeat(np.arange(len(rows)), np.diff(rows.indptr)), rows.indices] = rows.values
    return whole


# Vocabularies


def test_a_value_has_the_place_of_its_vocabulary_and_others_have_one_of_their_own() -> None:
    shops = OneHot(column="s", vocabulary=["b", "a"])
    assert shops.entries(pa.record_batch({"s": ["a", "b", "c", None, ""]})).places.tolist() == [1, 0, 2, 2, 2]
    bare = OneHot(column="s", vocabulary=["b", "a"], unseen="none")
    assert bare.entries(pa.record_batch({"s": ["a", "b", "c", None, ""]})).places.tolist() == [1, 0, -1, -1, -1]
    empty = OneHot(column="s", vocabulary=["a", ""])
    assert empty.entries(pa.record_batch({"s": ["a", "b", None, ""]})).places.tolist() == [0, 2, 1, 1]


@pytest.mark.parametrize(
    "values", [["1", "20", "x"], [1, 20, 3], [1.0, 20.0, 3.0], pa.array([1, 20, 3], pa.uint8()), pa.array(["1", "20", ""]).dictionary_encode()]
)  # fmt: skip
def test_numbers_are_the_same_value_however_they_are_written(values: Any) -> None:
    for vocabulary in ([1, 20], ["1", "20"], [1.0, "20"]):
        found = OneHot(column="c", vocabulary=vocabulary).entries(pa.record_batch({"c": values}))
        assert found.places.tolist() == [0, 1, 2]


@pytest.mark.parametrize("values", [[True, False], ["true", "false"], ["True", "False"], [1, 0], ["1", "0"]])
def test_truth_values_are_met_as_formats_of_text_spell_them(values: list) -> None:
    found = OneHot(column="c", vocabulary=[False, True]).entries(pa.record_batch({"c": values}))
    assert found.places.tolist() == [1, 0]


def test_a_number_with_a_fraction_rejects_its_row() -> None:
    rows, (reject,) = Features(one_hot=[{"column": "c", "vocabulary": [1]}]).to_batch(
        Block(pa.record_batch({"c": [1.0, 1.5]}))
    )
    assert (reject.reason, reject.position.tolist()) == ("category c is not an exact whole number", [1])
    assert rows.dense_x.tolist() == [[1.0, 0.0]]


# Spans


def test_bounds_belong_to_the_span_above_them() -> None:
    ages = Bucketed(column="a", bounds=[0, 18, 65.5])
    assert ages.entries(pa.record_batch({"a": [-1, 0, 17, 18, 65, 66]})).places.tolist() == [0, 1, 1, 2, 2, 3]
    assert ages.names == ("a<0", "0<=a<18", "18<=a<65.5", "65.5<=a")


def test_a_missing_number_is_rejected_or_has_its_own_span_and_an_infinite_one_is_rejected() -> None:
    rows = Block(pa.record_batch({"a": ["1", "", "inf", "x"]}))
    _, rejected = Features(bucketed=[{"column": "a", "bounds": [0]}]).to_batch(rows)
    assert [(one.reason, one.position.tolist()) for one in rejected] == [
        ("feature column a is not a number", [2, 3]), ("non-finite feature bucket(a)", [1])
    ]  # fmt: skip
    rows = Block(pa.record_batch({"a": [1.0, None, float("inf")]}))
    kept, rejected = Features(bucketed=[{"column": "a", "bounds": [0], "missing": "place"}]).to_batch(rows)
    assert kept.dense_x.tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert [(one.reason, one.position.tolist()) for one in rejected] == [("non-finite feature bucket(a)", [2])]


# Crosses


def test_a_cross_tells_pairs_apart_and_knows_which_column_a_value_is_of() -> None:
    cross = {"columns": ["a", "b"], "buckets": 1 << 26}
    rows = batch({"a": ["x", "y", "x", "x"], "b": ["y", "x", "y", "x"]}, crosses=[cross])
    first, second, third, fourth = rows.indices.tolist()
    assert first == third
    assert len({first, second, fourth}) == 3
    numbers = batch({"a": [1, 2], "b": ["3", "4"]}, crosses=[cross])
    assert numbers.indices.tolist() == batch({"a": ["1", "2"], "b": [3.0, 4.0]}, crosses=[cross]).indices.tolist()


def test_places_of_a_hashed_cross_are_the_same_for_ever() -> None:
    rows = batch(
        {"a": ["x", "7"], "b": [1, 2], "c": ["ä", None]}, crosses=[{"columns": ["a", "b", "c"], "buckets": 1 << 20}]
    )
    assert rows.indices.tolist() == CROSSED


def test_a_cross_by_vocabulary_has_a_place_for_each_pair() -> None:
    settings = {
        "one_hot": [{"column": "s", "vocabulary": ["a", "b"]}],
        "bucketed": [{"column": "x", "bounds": [5]}],
        "crosses": [{"columns": ["s", "x"], "by": "vocabulary"}],
    }
    found = dense({"s": ["a", "b", "zz"], "x": [1, 9, 9]}, **settings)
    assert [[i for i, one in enumerate(row) if one] for row in found] == [[0, 3, 5], [1, 4, 8], [2, 4, 10]]
    assert Features(**settings).names[5:7] == ("s=a×x<5", "s=a×5<=x")


def test_a_spanned_column_takes_part_in_a_hashed_cross_by_its_span() -> None:
    settings = {"bucketed": [{"column": "x", "bounds": [5]}], "crosses": [{"columns": ["s", "x"], "buckets": 1 << 20}]}
    rows = scattered(batch({"s": ["a", "a", "a"], "x": [1.5, 2.5, 7.5]}, **settings))
    assert np.flatnonzero(rows[0]).tolist() == np.flatnonzero(rows[1]).tolist() != np.flatnonzero(rows[2]).tolist()


def test_places_of_crosses_are_chosen_by_what_is_seen() -> None:
    features = Features(hashed=["a"], crosses=[["a", "b"], {"columns": ["b", "a"], "buckets": 7}])
    assert features.unsized == ("a", "a×b")
    rows = [pa.record_batch({"a": [1, 1, 2, None], "b": ["x", "y", "x", "x"]})]
    assert seen_in(features, rows, features.unsized) == {"a": 3, "a×b": 4}
    chosen = features.sized({"a": 1024, "a×b": 2048})
    assert [(one.name, one.start, one.end) for one in chosen.fields] == [
        ("a", 0, 1024),
        ("a×b", 1024, 3072),
        ("b×a", 3072, 3079),
    ]
    assert (chosen.unsized, features.sized().n_features) == ((), 2 * 65_536 + 7)


# Texts


def test_words_are_runs_of_letters_and_digits_in_lower_case() -> None:
    words = Text(column="t", vocabulary=["a", "été", "don", "t", "7", "x_y", "日本"])
    found = words.entries(pa.record_batch({"t": ["A a. ÉTÉ", "don't", "7-x_y; 日本", "", None, "b"]}))
    assert found.counts.tolist() == [2, 2, 3, 0, 0, 0]
    assert found.places.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert found.values.tolist() == [2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    cased = Text(column="t", vocabulary=["A"], lower=False).entries(pa.record_batch({"t": ["A a"]}))
    assert cased.values.tolist() == [1.0]


def test_values_of_counts() -> None:
    rows = pa.record_batch({"t": ["a a a b"]})
    of = {
        value: Text(column="t", vocabulary=["a", "b"], value=value).entries(rows).values.tolist()
        for value in ("count", "binary", "log")
    }
    assert of == {"count": [3.0, 1.0], "binary": [1.0, 1.0], "log": [1.0 + np.log(3.0), 1.0]}


def test_pairs_do_not_reach_from_one_text_into_the_next() -> None:
    pairs = Text(column="t", vocabulary=["a b", "b a"], ngrams=2)
    found = pairs.entries(pa.record_batch({"t": ["a b", "a", "b", "b a b"]}))
    assert (found.counts.tolist(), found.places.tolist()) == ([1, 0, 0, 2], [0, 0, 1])


def test_hashed_words_are_the_same_for_ever_and_numbers_are_words() -> None:
    rows = batch({"t": ["good", "not good", "007", "7"]}, text=[{"column": "t", "buckets": 1 << 20, "ngrams": [1, 2]}])
    split = np.split(rows.indices, rows.indptr[1:-1])
    assert [one.tolist() for one in split] == WORDS
    assert WORDS[2] != WORDS[3]


def test_hashed_words_count_as_those_of_a_vocabulary_do() -> None:
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(list("abcdefg"), rng.integers(0, 12))) for _ in range(50)]
    listed = [*"abcdefg", *(f"{a} {b}" for a in "abcdefg" for b in "abcdefg")]
    by_hash = Text(column="t", buckets=1 << 26, ngrams=[1, 2]).entries(pa.record_batch({"t": texts}))
    by_list = Text(column="t", vocabulary=listed, ngrams=[1, 2]).entries(pa.record_batch({"t": texts}))
    assert by_hash.counts.tolist() == by_list.counts.tolist()
    for row in range(50):
        a, b = (slice(*np.concatenate([[0], np.cumsum(one.counts)])[[row, row + 1]]) for one in (by_hash, by_list))
        assert sorted(by_hash.values[a]) == sorted(by_list.values[b])


# Numbers that are filled in


def test_a_missing_number_is_filled_in_and_said() -> None:
    rows = {"x": [2.0, None, float("nan"), -1.0]}
    assert dense(rows, numeric=[{"column": "x", "fill": 7}]) == [[2.0], [7.0], [7.0], [-1.0]]
    said = dense(rows, numeric=[{"column": "x", "fill": 0, "indicator": True}])
    assert said == [[2.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]]
    given = {"column": "x", "transform": "standardise", "mean": 1.0, "scale": 2.0}
    assert dense(rows, numeric=[{**given, "fill": "mean"}]) == [[0.5], [0.0], [0.0], [-1.0]]
    assert dense({"x": [None, 1.0]}, numeric=[{"column": "x", "transform": "log1p", "fill": 1.0}])[0] == [np.log1p(1.0)]


def test_without_a_fill_rows_with_missing_numbers_stay_rejects_and_infinite_ones_always() -> None:
    rows = Block(pa.record_batch({"x": [1.0, None, float("inf")]}))
    for term, bad in (("x", [1, 2]), ({"column": "x", "fill": 0.0}, [2])):
        _, (reject,) = Features(numeric=[term]).to_batch(rows)
        assert (reject.reason, reject.position.tolist()) == ("non-finite feature x", bad)


# The whole


def test_fields_stand_behind_the_numbers_in_their_order() -> None:
    features = Features(
        numeric=["x", {"column": "h", "fill": 0, "indicator": True}],
        hashed=[{"column": "c", "buckets": 10}],
        one_hot=[{"column": "s", "vocabulary": ["a"]}],
        bucketed=[{"column": "x", "bounds": [0]}],
        crosses=[{"columns": ["c", "s"], "buckets": 5}],
        text=[{"column": "t", "vocabulary": ["w"]}],
    )
    assert [(one.name, one.start) for one in features.fields] == [("c", 3), ("s", 13), ("bucket(x)", 15), ("c×s", 17), ("words(t)", 22)]  # fmt: skip
    assert (features.n_features, features.is_sparse) == (23, True)
    assert features.columns() == ["x", "h", "c", "s", "t"]
    assert features.roles.categories == ("c", "s", "t")
    columns = {"x": [1.0, -1.0], "h": [None, 2.0], "c": [1, 2], "s": ["a", "q"], "t": ["w w", ""]}
    rows = batch(columns, **features.model_dump())
    assert rows.indptr.tolist() == [0, 8, 15]
    as_rows = batch(columns, **features.model_dump(exclude={"sparse"}), sparse=False)
    np.testing.assert_array_equal(as_rows.dense_x, scattered(rows))


def test_few_indicators_are_dense_and_many_sparse_unless_it_is_said() -> None:
    few, many = ({"one_hot": [{"column": "s", "vocabulary": list(range(n))}]} for n in (10, 2000))
    assert [Features(**one).is_sparse for one in (few, many)] == [False, True]
    assert [Features(**one, sparse=sparse).is_sparse for one, sparse in ((few, True), (many, False))] == [True, False]
    assert Features(numeric=["x"], sparse=True).is_sparse


def test_settings_of_earlier_releases_make_the_same_batches() -> None:
    """As models and manifests hold them that know no fields but hashed ones."""
    stored = {
        "hashed": [{"buckets": 1000, "column": "shop"}],
        "label": {"column": "y", "negative": ["n"], "positive": ["p"]},
        "matrix": None,
        "numeric": [{"column": "x", "transform": "log1p"}, {"column": "at", "transform": "hour", "unit": "s"},
                    {"column": "x", "mean": 1.0, "scale": 2.0, "transform": "standardise"}],
        "time": {"column": "at", "unit": "s"},
        "weight": None,
    }  # fmt: skip
    rows = pa.record_batch({"x": [0.0, 3.0], "at": [1_709_296_200, 1_709_299_800], "shop": ["a", "7"], "y": ["n", "p"]})
    found, rejected = Features.parse(stored).to_batch(Block(rows))
    assert rejected == ()
    assert found.indices.tolist() == [0, 1, 2, 931, 0, 1, 2, 607]
    assert found.values.tolist() == [0.0, 12.0, -0.5, 1.0, np.log1p(3.0), 13.0, 1.0, 1.0]
    assert (found.label.tolist(), found.n_features) == ([0.0, 1.0], 1003)


def test_dense_rows_are_bounded_before_they_are_made() -> None:
    with pytest.raises(
        InvalidBatch, match=r"^Features\.sparse must be true where 1000000 rows of 10000 features do not fit"
    ):
        as_dense(np.empty((1_000_000, 0)), [(0, OneHot(column="s", vocabulary=["a"]).entries(pa.record_batch({"s": ["a"]})))], 10_000)  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"one_hot": [{"column": "s", "vocabulary": []}]}, r"OneHot\.vocabulary must"),
        ({"one_hot": [{"column": "s", "vocabulary": ["a", "a"]}]}, r"must list no value twice \(1, '1' and true are one\), as \['a'\] are"),
        ({"one_hot": [{"column": "s", "vocabulary": [1, "1"]}]}, r"must list no value twice"),
        ({"one_hot": [{"column": "s", "vocabulary": [True, "true"]}], "sparse": True}, r"value twice .*, as \['true'\] are"),
        ({"one_hot": [{"column": "s", "vocabulary": [1.5]}]}, r"bucketed takes fractions\), as 1\.5 is not"),
        ({"one_hot": [{"column": "s", "vocabulary": ["a"], "unseen": "plce"}]}, r"OneHot\.unseen must be one of 'place' or 'none'; got 'plce'\. Did you mean 'place'\?"),
        ({"one_hot": [{"column": "s", "vocabulry": ["a"]}]}, r"vocabulry must not be given.*Did you mean 'vocabulary'\?"),
        ({"one_hot": ["s"]}, r"Features\.one_hot\.0 must be a table of settings; got 's'\."),
        ({"one_hot": [{"column": "s", "vocabulary": ["a"]}] * 2}, r"Features\.one_hot must name no column twice"),
        ({"bucketed": [{"column": "x", "bounds": [2, 1]}]}, r"Bucketed\.bounds must rise, as 1 behind 2 does not; got"),
        ({"bucketed": [{"column": "x", "bounds": []}]}, r"Bucketed\.bounds must"),
        ({"crosses": [["a"]]}, r"Cross\.columns must"),
        ({"crosses": [["a", "a"]]}, r"Cross\.columns must name no column twice"),
        ({"crosses": [{"columns": ["a", "b"], "by": "vocabulary"}]}, r"crosses by vocabulary must be of columns in one_hot or bucketed; a×b has \['a', 'b'\]"),
        ({"crosses": [{"columns": ["a", "b"], "by": "vocabulary", "buckets": 3}]}, r"Cross\.buckets must be left out where by is 'vocabulary'; got 3"),
        ({"text": [{"column": "t", "vocabulary": ["Good"]}]}, r"'Good' is never met, 'good' would be"),
        ({"text": [{"column": "t", "vocabulary": ["a b"]}]}, r"in n-grams of \[1\]: 'a b' is never met"),
        ({"text": [{"column": "t", "vocabulary": ["a"], "buckets": 3}]}, r"Text\.buckets must be left out with a vocabulary; got 3"),
        ({"text": [{"column": "t", "ngrams": [2, 1]}]}, r"Text\.ngrams must rise"),
        ({"numeric": [{"column": "x", "indicator": True}]}, r"Plain\.fill must be given where indicator is true"),
        ({"numeric": [{"column": "x", "fill": "mean"}]}, r"Plain\.fill must be a number"),
        ({"hashed": ["s"], "sparse": False}, r"Features\.sparse must be true with more than 10,000 features, as 65,536 are"),
        ({"matrix": {"width": 3}, "text": ["t"]}, r"all others, and sparse, must be left out with it; got \['text'\]"),
        ({"numeric": ["s=a"], "one_hot": [{"column": "s", "vocabulary": ["a"]}]}, r"must name no feature twice, as \['s=a'\] are"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_one_sentence(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message) as caught:
        Features.parse(settings)
    assert "\n" not in str(caught.value)


def test_columns_of_the_wrong_type_are_named() -> None:
    rows = Block(pa.record_batch({"l": [[1]]}))
    for field, term in (("one_hot", {"column": "l", "vocabulary": ["a"]}), ("bucketed", {"column": "l", "bounds": [1]}),
                        ("text", {"column": "l"}), ("crosses", Cross(columns=["l", "m"]))):  # fmt: skip
        with pytest.raises(MissingColumn, match=rf"^Features\.{field} names the column 'l', which must be"):
            Features(**{field: [term]}).to_batch(rows)


CROSSED = [105154, 432393]
WORDS = [[1017607], sorted([105599, 1017607, 28329]), [10825], [479463]]
