"""Texts as the numbers that spell their words."""

import numpy as np
import pyarrow as pa
import pytest

from beam_ml.core.spelling import read
from beam_ml.errors import InvalidValue, MissingColumn
from beam_ml.features import Features, Words
from beam_ml.formats.block import Block


def batch(texts, kind=None, **settings):
    features = Features(words=[{"column": "line", **settings}])
    return features, features.to_batch(Block(pa.record_batch({"line": pa.array(texts, kind or pa.string())})))[0]


def spelled(texts, **settings):
    """Each row's words with their counts, as the batch has them."""
    features, rows = batch(texts, **settings)
    term = features.words[0]
    found = []
    for i in range(len(rows)):
        x = np.zeros(rows.n_features)
        mine = slice(rows.indptr[i], rows.indptr[i + 1])
        x[rows.indices[mine]] = rows.values[mine]
        spans = [one for one in x.reshape(term.most, term.span) if one.any()]
        found.append([(read(one[None, 1:])[0], one[0]) for one in spans])
    return found


def test_words_are_in_the_order_in_which_they_come_each_once():
    assert spelled(["To see, or not to SEE", "", None, "…"], most=4) == [
        [("to", 2.0), ("see", 2.0), ("or", 1.0), ("not", 1.0)], [], [], [],
    ]  # fmt: skip
    assert spelled(["b a b c"], most=2, value="binary") == [[("b", 1.0), ("a", 1.0)]]


def test_pairs_come_behind_the_words_and_never_across_rows():
    assert spelled(["a b", "c"], ngrams=[1, 2]) == [[("a", 1.0), ("b", 1.0), ("a b", 1.0)], [("c", 1.0)]]
    assert spelled(["a b c", "d"], ngrams=3) == [[("a b c", 1.0)], []]


def test_letters_of_any_script_numbers_and_long_words():
    texts = ["Größe 東京 007 7", "abcdefg straße"]
    assert spelled(texts, bytes=12) == [
        [("größe", 1.0), ("東京", 1.0), ("007", 1.0), ("7", 1.0)], [("abcdefg", 1.0), ("straße", 1.0)],
    ]  # fmt: skip
    assert spelled(texts, bytes=6) == [[("東京", 1.0), ("007", 1.0), ("7", 1.0)], []]
    assert spelled(["Ab"], lower=False) == [[("Ab", 1.0)]]


def test_rows_are_the_same_however_they_are_cut():
    rng = np.random.default_rng(5)
    texts = [" ".join(f"w{j}" for j in rng.integers(0, 40, rng.integers(0, 12))) for _ in range(60)]
    whole = spelled(texts, most=6, ngrams=[1, 2])
    assert whole == [row for i in range(0, 60, 7) for row in spelled(texts[i : i + 7], most=6, ngrams=[1, 2])]


def test_numbers_beside_words_are_not_rounded():
    features = Features(numeric=["x"], words=[{"column": "line", "bytes": 6, "most": 1}])
    rows = features.to_batch(Block(pa.record_batch({"x": pa.array([0.5], pa.float32()), "line": ["basket"]})))[0]
    assert read(rows.values[None, 2:]) == ["basket"]


def test_a_column_of_whole_numbers_is_read_as_digits_and_one_of_fractions_refused():
    features, rows = batch([7, None], pa.int64(), bytes=6, most=1)
    assert read(rows.values[None, 1:]) == ["7"]
    with pytest.raises(MissingColumn, match=r"Features\.words"):
        features.to_batch(Block(pa.record_batch({"line": [0.5]})))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bytes": 10}, "multiple of 6"),
        ({"most": 0}, "most"),
        ({"ngrams": [2, 1]}, "must rise"),
        ({"value": "log"}, "value"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, said):
    with pytest.raises(InvalidValue, match=said):
        Words.parse({"column": "line", **settings})
