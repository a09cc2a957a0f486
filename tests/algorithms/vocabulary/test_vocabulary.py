"""Vocabularies against a full count, and where it is easy to get wrong."""

import itertools
from collections import Counter
from functools import reduce

import numpy as np
import pyarrow as pa
import pytest

from beam_ml import derive, fit
from beam_ml.algorithms import spec_from, vocabulary
from beam_ml.algorithms.vocabulary import VOCABULARY
from beam_ml.core.arrays import identical
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused, InvalidBatch, InvalidValue
from beam_ml.features import Features
from beam_ml.formats.block import Block

KIND = VOCABULARY.models["vocabulary"]
SHOPS = Features(numeric=[{"column": "shop", "transform": "spell", "bytes": 12}])


def zipf(n=20_000, terms=5_000, seed=0):
    """Terms whose frequency falls with their rank, as words' does."""
    share = 1.0 / np.arange(1, terms + 1)
    return np.random.default_rng(seed).choice(terms, n, p=share / share.sum()).astype(float)


def partial(x, weight=None, **options):
    x = np.asarray(x, dtype=float).reshape(len(x), -1)
    spec = vocabulary.Spec(n_features=x.shape[1], **options)
    return spec, VOCABULARY.accumulate(spec, VOCABULARY.empty(spec), Batch.dense(x, weight=weight), None)


def model_of(spec, state, **options):
    return KIND.derive(spec, vocabulary.Vocabulary(**options), state, None)


def shops(texts, **more):
    return SHOPS.to_batch(Block(pa.record_batch({"shop": texts, **more})))[0]


def test_with_room_for_all_terms_counts_are_exact_in_any_order():
    x = zipf(3_000, 300)
    spec, whole = partial(x)
    parts = [partial(part)[1] for part in np.array_split(x, 4)]
    for order in itertools.permutations(parts):
        merged = reduce(lambda a, b: VOCABULARY.merge(spec, a, b), order)
        assert merged.count.tobytes() == whole.count.tobytes()
        assert merged.term.tobytes() == whole.term.tobytes()
    full = Counter(x.tolist())
    assert dict(zip(whole.term[:, 0].tolist(), whole.count.tolist(), strict=True)) == full
    assert whole.shrunk.tolist() == [0.0]


@pytest.mark.parametrize("shards", [1, 4, 50])
@pytest.mark.parametrize("capacity", [10, 100])
def test_every_frequent_term_is_there_and_every_count_within_the_bound(shards, capacity):
    x = zipf()
    parts = [partial(part, capacity=capacity) for part in np.array_split(x, shards)]
    spec = parts[0][0]
    state = reduce(lambda a, b: VOCABULARY.merge(spec, a, b), [one for _, one in parts])
    full, most = Counter(x.tolist()), len(x) / (capacity + 1)
    found = dict(zip(state.term[:, 0].tolist(), state.count.tolist(), strict=True))
    assert len(found) <= capacity
    assert 0 < state.shrunk[0] <= most
    for term, count in full.items():
        assert 0 <= count - found.get(term, 0.0) <= state.shrunk[0]
    assert {term for term, count in full.items() if count > most} <= found.keys()


def test_weights_count_as_copies():
    x, weight = zipf(500, 40), np.random.default_rng(1).integers(0, 4, 500).astype(float)
    _, weighted = partial(x, weight)
    _, copies = partial(np.repeat(x, weight.astype(int)))
    assert weighted.count.tobytes() == copies.count.tobytes()


def test_minus_zero_is_zero_and_float32_is_float64():
    _, state = partial([0.0, -0.0, 1.5])
    assert state.count.tolist() == [2.0, 1.0]
    spec = vocabulary.Spec(n_features=1)
    narrow = VOCABULARY.accumulate(spec, VOCABULARY.empty(spec), Batch.dense(np.float32([[1.5], [0.0], [-0.0]])), None)
    assert narrow.term.tobytes() == state.term.tobytes()


def test_terms_are_listed_by_count_then_by_text():
    rows = shops(["b", "a", "c", "c", "ab", None, "too long a text", "too long a text", "too long a text"])
    model = derive(fit(vocabulary.Spec(n_features=2, text_bytes=12), [rows]), vocabulary.Vocabulary()).arrays
    assert model.terms() == ["c", "", "a", "ab", "b"]
    assert model.count.tolist() == [2.0, 1.0, 1.0, 1.0, 1.0]
    few = derive(fit(vocabulary.Spec(n_features=2, text_bytes=12), [rows]), vocabulary.Vocabulary(size=2)).arrays
    assert few.terms() == ["c", ""]
    frequent = derive(
        fit(vocabulary.Spec(n_features=2, text_bytes=12), [rows]), vocabulary.Vocabulary(min_count=2)
    ).arrays
    assert frequent.terms() == ["c"]


def test_several_columns_have_a_vocabulary_each():
    spec, state = partial(np.array([[1.0, 9.0], [1.0, 8.0], [2.0, 8.0]]), capacity=1)
    assert state.shrunk.tolist() == [1.0, 1.0]
    model = model_of(spec, state)
    assert (model.terms(0), model.terms(1)) == ([1], [8])
    with pytest.raises(InvalidValue, match=r"^vocabulary\.Model\.terms takes a column of 0 … 1; got 2\.$"):
        model.terms(2)


@pytest.mark.parametrize("text_bytes", [None, 12])
def test_rows_are_told_the_place_of_their_term(text_bytes):
    if text_bytes is None:
        learned, asked = (
            Batch.dense([[5.0], [5.0], [7.5], [0.0], [0.0], [0.0]]),
            Batch.dense([[7.5], [5.0], [6.0], [-0.0]]),
        )
    else:
        learned = shops(["mill", "mill", "tower house", "a", "a", "a"])
        asked = shops(["tower house", "mill", "tower hous", "a"])
    spec = vocabulary.Spec(n_features=learned.n_features, text_bytes=text_bytes)
    model = derive(fit(spec, [learned]), vocabulary.Vocabulary()).arrays
    assert KIND.predict(model, asked)["term"].ravel().tolist() == [2, 1, -1, 0]


def test_what_is_learned_goes_back_into_features():
    texts = ["baker", "mill", "baker", None, "7", "007"]
    learner = fit(vocabulary.Spec(n_features=2, text_bytes=12), [shops(texts)])
    term = derive(learner, vocabulary.Vocabulary()).arrays.one_hot("shop")
    assert term == {"column": "shop", "vocabulary": ["7", "baker", "", "mill"]}
    rows, _ = Features(one_hot=[term]).to_batch(Block(pa.record_batch({"shop": [*texts, "new"]})))
    assert rows.dense_x.argmax(axis=1).tolist() == [1, 3, 1, 2, 0, 0, 4]


def test_forgotten_terms_make_room():
    spec, old = partial(np.full(1000, 1.0), capacity=1)
    _, new = partial(np.full(10, 2.0), capacity=1)
    merged = VOCABULARY.merge(spec, VOCABULARY.scale(spec, old, 1e-3), new)
    assert model_of(spec, merged).terms() == [2]
    assert merged.count.tolist() == [9.0]
    spec, both = partial([1.0] * 1000 + [2.0], capacity=2)
    assert VOCABULARY.scale(spec, both, 1e-102).term.tolist() == [[1.0]]  # one row is less than a row may weigh
    assert identical(VOCABULARY.scale(spec, old, 0.0), VOCABULARY.empty(spec))


def test_a_half_life_counts_recent_rows_more():
    day = 86_400_000_000
    times = [0] * 50 + [10 * day] * 3
    rows = Batch.dense([[1.0]] * 50 + [[2.0]] * 3, time=times)
    learner = fit(vocabulary.Spec(n_features=1, half_life="1d"), [rows])
    assert derive(learner, vocabulary.Vocabulary(size=1, min_count=0)).arrays.terms() == [2]


def test_mistakes_are_one_sentence():
    with pytest.raises(
        InvalidValue, match=r"^vocabulary\.Spec\.n_features must be a multiple of text_bytes / 6, 4; got 6\.$"
    ):
        vocabulary.Spec(n_features=6, text_bytes=24)
    with pytest.raises(InvalidValue, match=r"^vocabulary\.Spec\.text_bytes must be a multiple of 6; got 20\.$"):
        vocabulary.Spec(n_features=6, text_bytes=20)
    spec, state = partial([1.0])
    with pytest.raises(DeriveRefused, match=r"^vocabulary\.Vocabulary needs rows of positive weight; got none yet\.$"):
        model_of(spec, VOCABULARY.empty(spec))
    with pytest.raises(InvalidBatch, match=r"^A vocabulary model takes 1 features; got a batch of 2\.$"):
        KIND.predict(model_of(spec, state), Batch.dense([[1.0, 2.0]]))
    assert spec_from({"algorithm": "vocabulary", "n_features": 2}) == vocabulary.Spec(n_features=2)


def test_a_vocabulary_without_terms_knows_none():
    spec, state = partial([1.0, 2.0])
    model = model_of(spec, state, min_count=5.0)
    assert model.terms() == []
    assert KIND.predict(model, Batch.dense([[1.0]]))["term"].tolist() == [[-1]]
