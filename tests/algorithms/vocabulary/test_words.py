"""Vocabularies of texts' words: against a full count, by the laws, and back into features."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import derive, fit, predict, vocabulary
from beam_ml.algorithms.vocabulary import VOCABULARY
from beam_ml.algorithms.vocabulary.counts import codes_of
from beam_ml.core.batch import Batch
from beam_ml.errors import InvalidValue
from beam_ml.features import Features
from beam_ml.formats.block import Block
from beam_ml.testing.laws import laws_for

SPEC = vocabulary.Spec(n_features=4, text_bytes=6, words=1, capacity=20)


def words_of_numbers(spec, drawn):
    """Rows of the laws as rows of up to a word per column: a count from 0 to 2 and, where it is not 0, its numbers."""
    x = np.floor(np.abs(drawn.dense_x)).reshape(len(drawn), spec.columns * spec.words, 1 + spec.numbers)
    times = x[:, :, :1] % 3
    x = np.concatenate([times, np.where(times > 0, x[:, :, 1:] % 2.0**40, 0.0)], axis=2).reshape(
        len(drawn), spec.n_features
    )
    row, column = np.nonzero(x)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(drawn)))])
    beside = {name: getattr(drawn, name) for name in ("label", "weight", "time", "origin", "position")}
    return Batch.csr(indptr, column, x[row, column], spec.n_features, **beside)


LAWS = dict(laws_for(VOCABULARY, SPEC, [vocabulary.Vocabulary(size=5)], examples=5, rows=words_of_numbers))


@pytest.mark.parametrize("law", LAWS.values(), ids=[name.replace(" ", "_") for name in LAWS])
def test_law_holds(law):
    law()


def lines(n=3_000, seed=0):
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, 301)
    words = rng.choice(300, int(n * 8), p=share / share.sum())
    return [" ".join(f"word{one}" for one in words[8 * i : 8 * i + i % 9]) for i in range(n)]


def batch_of(features, texts, weight=None):
    columns = {"line": pa.array(texts, pa.string())}
    return features.to_batch(Block(pa.record_batch(columns if weight is None else {**columns, "w": weight})))[0]


def model_of(texts, parts=1, capacity=10_000, **options):
    features = Features(words=[{"column": "line", "most": 16, **options}])
    spec = vocabulary.Spec(n_features=features.n_features, text_bytes=24, words=16, capacity=capacity)
    batches = [batch_of(features, texts[i::parts]) for i in range(parts)]
    return features, fit(spec, batches)


@pytest.mark.parametrize("parts", [1, 7])
def test_each_word_is_counted_as_often_as_it_comes(parts):
    texts = lines()
    _, learner = model_of(texts, parts)
    model = derive(learner, vocabulary.Vocabulary(size=100)).arrays
    counts = Counter(word for text in texts for word in text.split())
    expected = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:100]
    assert list(zip(model.terms(), model.count.tolist(), strict=True)) == expected


def test_rows_are_counted_where_asked_and_words_of_many_left_out():
    texts = lines()
    _, learner = model_of(texts, value="binary")
    model = derive(learner, vocabulary.Vocabulary(size=400)).arrays
    counts = Counter(word for text in texts for word in set(text.split()))
    assert dict(zip(model.terms(), model.count.tolist(), strict=True)) == counts
    few = derive(learner, vocabulary.Vocabulary(size=400, max_share=0.1)).arrays
    assert set(few.terms()) == {word for word, count in counts.items() if count <= 0.1 * len(texts)}
    assert len(few.terms()) < len(model.terms())


@pytest.mark.parametrize("capacity", [20, 60])
def test_with_little_room_every_count_is_within_the_bound_of_all_words(capacity):
    texts = lines()
    _, learner = model_of(texts, 5, capacity=capacity)
    model = derive(learner, vocabulary.Vocabulary(min_count=0.0)).arrays
    counts = Counter(word for text in texts for word in text.split())
    most, found = sum(counts.values()) / (capacity + 1), dict(zip(model.terms(), model.count.tolist(), strict=True))
    assert 0 < model.error[0] <= most
    assert {word for word, count in counts.items() if count > most} <= found.keys()
    assert all(0 <= count - found.get(word, 0.0) <= model.error[0] for word, count in counts.items())


def test_weights_multiply_counts():
    features = Features(words=[{"column": "line", "most": 4}], weight="w")
    spec = vocabulary.Spec(n_features=features.n_features, text_bytes=24, words=4)
    model = derive(
        fit(spec, [batch_of(features, ["a a b", "b", "c"], [2.0, 3.0, 0.0])]), vocabulary.Vocabulary()
    ).arrays
    assert list(zip(model.terms(), model.count.tolist(), strict=True)) == [("b", 5.0), ("a", 4.0)]


def test_the_vocabulary_counts_the_words_again_pairs_too():
    texts = ["To be, or not to be", "not to see", None, "to"]
    words = {"column": "line", "most": 16, "ngrams": [1, 2], "lower": False}
    features, learner = model_of(texts, **words)
    term = derive(learner, vocabulary.Vocabulary()).arrays.text(features.words[0].to_dict())
    assert (term["ngrams"], term["lower"]) == ([1, 2], False)
    counts = batch_of(Features(text=[term]), texts)
    total = dict(zip(term["vocabulary"], np.bincount(counts.indices, counts.values).tolist(), strict=True))
    assert total == {
        "to": 3, "be": 2, "not": 2, "not to": 2, "see": 1, "To": 1, "or": 1, "To be": 1, "be or": 1,
        "or not": 1, "to be": 1, "to see": 1,
    }  # fmt: skip


def test_a_row_is_told_which_share_of_its_words_is_listed():
    features, learner = model_of(["a a a b b c"])
    model = derive(learner, vocabulary.Vocabulary(size=2))
    found = predict(model, batch_of(features, ["a a c", "d", "", None, "b"]))
    assert found["listed"].ravel().tolist() == [2 / 3, 0.0, 1.0, 1.0, 1.0]


def test_two_columns_have_a_vocabulary_each():
    features = Features(words=[{"column": name, "bytes": 6, "most": 3} for name in ("title", "body")])
    spec = vocabulary.Spec(n_features=features.n_features, text_bytes=6, words=3)
    rows = [{"title": "a b", "body": "b b"}, {"title": "a", "body": "longer than this one"}]
    model = derive(fit(spec, rows, features=features), vocabulary.Vocabulary()).arrays
    assert (model.terms(0), model.terms(1)) == (["a", "b"], ["b", "longer", "than", "this"])
    assert model.text({"column": "body"}, 1) == {"column": "body", "vocabulary": ["b", "longer", "than", "this"]}


def test_numbers_that_are_no_words_are_rejected():
    spec = vocabulary.Spec(n_features=4, text_bytes=6, words=2)
    rows = [[1.0, 7.0, 0.0, 0.0], [0.0, 7.0, 0.0, 0.0], [1.0, 0.5, 0.0, 0.0], [-1.0, 7.0, 2.0, 9.0], [0.0] * 4]
    learner = fit(spec, [Batch.dense(rows)])
    assert (learner.progress.rows, learner.progress.rejected) == (2, {"no words": 3})


def test_terms_that_share_a_code_stay_apart(monkeypatch):
    texts = lines(200)
    expected = model_of(texts)[1].state
    monkeypatch.setattr(
        "beam_ml.algorithms.vocabulary.counts.codes_of", lambda term, column: codes_of(term) % np.uint64(3)
    )
    state = model_of(texts)[1].state
    assert state.term.tolist() == expected.term.tolist()
    assert state.count.tolist() == expected.count.tolist()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_features": 10, "words": 2}, "text_bytes must be given where words is; got words = 2"),
        ({"n_features": 10, "words": 2, "text_bytes": 12}, r"multiple of words · \(1 \+ text_bytes / 6\), 6; got 10"),
    ],
)
def test_a_spec_that_cannot_hold_words_is_refused(settings, said):
    with pytest.raises(InvalidValue, match=said):
        vocabulary.Spec(**settings)
