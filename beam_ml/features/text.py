"""Texts as counts of their words: by a vocabulary or by hash, n-grams too; always sparse.

A word is a run of letters, digits and ``_`` of any script, in lower case unless `lower` is false. An n-gram is n words in a
row, joined by one space. By hash, its code mixes those of its words: ``h ← mix64(h · 3 + code)``, from 0 on for n > 1.
Letters: ``n`` rows, ``t`` words of all rows, ``z`` entries.
"""

import functools
import itertools
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from beam_ml.core.mixing import mix64
from beam_ml.core.spec import Settings
from beam_ml.features.columns import Name, column, is_text, name_of, wrong
from beam_ml.features.entries import Entries
from beam_ml.features.hashing import MOST_PLACES, hashed_words
from beam_ml.features.one_hot import MOST_VALUES

__all__ = ["NGrams", "Text", "TextTerm", "texts_of", "words_of"]

_FIELD = "Features.text"
_BETWEEN = r"[^\p{L}\p{M}\p{N}_]+"
"""What parts words."""
_MULTIPLIER = np.uint64(3)


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


def _rising(value: tuple[int, ...]) -> tuple[int, ...]:
    if any(not low < high for low, high in itertools.pairwise(value)):
        message = "must rise"
        raise ValueError(message)
    return value


NGrams = Annotated[
    tuple[Annotated[int, Field(ge=1, le=8)], ...],
    Field(min_length=1, description="how many words in a row are counted as one: [1, 2] counts words and pairs"),
    BeforeValidator(_one_or_more),
    AfterValidator(_rising),
]
"""How many words in a row count as one."""


def words_of(texts: pa.Array, lower: bool) -> tuple[pa.Array, np.ndarray]:
    """Return the words of n texts one after the other, and how many each has, (n,).

    >>> words, counts = words_of(pa.array(["Good, good!", None, "Not good."]), lower=True)
    >>> words.to_pylist(), counts.tolist()
    (['good', 'good', 'not', 'good'], [2, 0, 2])
    """
    plain = pc.fill_null(texts.cast(pa.large_string()), "")
    parts = pc.split_pattern_regex(pc.utf8_lower(plain) if lower else plain, _BETWEEN)
    words, sizes = parts.flatten(), pc.list_value_length(parts).to_numpy(zero_copy_only=False)
    there = pc.not_equal(words, "")
    kept = np.concatenate([[0], np.cumsum(there.to_numpy(zero_copy_only=False))])
    return words.filter(there), np.diff(kept[np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)])


def texts_of(batch: pa.RecordBatch, name: str, field: str) -> pa.Array:
    """Return a column of texts, or of whole numbers, which are read as their digits.

    Raises:
        MissingColumn: it is absent, or holds something else.
    """
    array = column(batch, name, field, "a text")
    types = pa.types
    if not (is_text(array.type) or types.is_null(array.type) or types.is_integer(array.type)):
        raise wrong(name, field, "a text", array.type)
    return array


class Text(Settings):
    """Counts of the words of a text, one feature per word or n-gram of a vocabulary, or per place of a hash.

    What the vocabulary does not list is left out, and a missing text has no words. A number is read as
    the text of its digits.

    >>> review = Text(column="review", vocabulary=["good", "not good"], ngrams=[1, 2])
    >>> review.names
    ('review:good', 'review:not good')
    >>> found = review.entries(pa.record_batch({"review": ["Good, good!", "Not good.", None]}))
    >>> found.counts.tolist(), found.places.tolist(), found.values.tolist()
    ([1, 2, 0], [0, 0, 1], [2.0, 1.0, 1.0])
    """

    column: Name
    vocabulary: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=1, max_length=MOST_VALUES,
            description="words, and n-grams with one space between their words; none: words are hashed",
        ),
    ] = None  # fmt: skip
    buckets: Annotated[
        int | None, Field(ge=1, le=1 << 26, description="places that words are hashed to; none: 65536")
    ] = None
    ngrams: NGrams = (1,)
    value: Annotated[
        Literal["count", "binary", "log"],
        Field(description="of a word that is there c times: c, 1, or 1 + ln(c)"),
    ] = "count"
    lower: Annotated[bool, Field(description="words are made lower case")] = True

    @model_validator(mode="after")
    def _reachable(self) -> "Text":
        if self.vocabulary is None:
            return self
        if self.buckets is not None:
            message = f"buckets must be left out with a vocabulary; got {self.buckets}"
            raise ValueError(message)
        if len(set(self.vocabulary)) < len(self.vocabulary):
            twice = sorted({one for one in self.vocabulary if self.vocabulary.count(one) > 1})
            message = f"vocabulary must list no word twice, as {twice[:8]} are"
            raise ValueError(message)
        words, counts = words_of(pa.array(self.vocabulary, pa.string()), self.lower)
        rows = np.split(np.array(words.to_pylist(), dtype=object), np.cumsum(counts)[:-1])
        for term, split in zip(self.vocabulary, rows, strict=True):
            if " ".join(split) != term or len(split) not in self.ngrams:
                message = (
                    f"vocabulary must list words as texts are split into, in n-grams of {list(self.ngrams)}: {term!r} is "
                    f"never met{f', {chr(32).join(split)!r} would be' if len(split) in self.ngrams else ''}"
                )
                raise ValueError(message)
        return self

    @property
    def places(self) -> int:
        """The features it makes."""
        if self.vocabulary is not None:
            return len(self.vocabulary)
        return MOST_PLACES if self.buckets is None else self.buckets

    @property
    def name(self) -> str:
        """What the field is called."""
        return f"words({self.column})"

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read."""
        return (self.column,)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its features."""
        if self.vocabulary is not None:
            return tuple(f"{self.column}:{word}" for word in self.vocabulary)
        return tuple(f"{self.column}:#{i}" for i in range(self.places))

    @functools.cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """The codes of the vocabulary, rising, and their places."""
        assert self.vocabulary is not None  # noqa: S101 asked for with one alone
        words, counts = words_of(pa.array(self.vocabulary, pa.string()), self.lower)
        codes, first = _codes(words), np.cumsum(counts) - counts
        mixed = np.array([_mixed(codes[at : at + n], n)[0] for at, n in zip(first, counts, strict=True)], np.uint64)
        order = np.argsort(mixed, kind="stable")
        return mixed[order], order

    def entries(self, batch: pa.RecordBatch) -> Entries:
        """Return the counts of each row's words.

        Raises:
            MissingColumn: the column is absent, or holds no text.
        """
        words, counts = words_of(texts_of(batch, self.column, _FIELD), self.lower)
        codes, n = _codes(words), len(counts)
        row = np.repeat(np.arange(n), counts)
        rows, places = list[np.ndarray](), list[np.ndarray]()
        for size in self.ngrams:
            whole = slice(0, max(row.size - size + 1, 0))
            inside = row[whole] == row[size - 1 :]  # all words of one text
            grams = _mixed(codes, size)[inside]
            if self.vocabulary is None:
                rows.append(row[whole][inside])
                places.append((grams % np.uint64(self.places)).astype(np.int64))
                continue
            known, of = self._known
            at = np.minimum(np.searchsorted(known, grams), known.size - 1)
            hit = known[at] == grams
            rows.append(row[whole][inside][hit])
            places.append(of[at[hit]])
        key = np.concatenate(rows) * self.places + np.concatenate(places)
        found, times = np.unique(key, return_counts=True)
        values = {"count": times, "binary": np.ones(found.size), "log": 1.0 + np.log(times)}[self.value]
        each = np.bincount(found // self.places, minlength=n).astype(np.int64)
        return Entries(found % self.places, each, values.astype(np.float64))


def _codes(words: pa.Array) -> np.ndarray:
    """Return 64 bits that stand for each word, (t,) uint64."""
    coded = words.cast(pa.large_binary()).dictionary_encode()
    return hashed_words(coded.dictionary)[coded.indices.to_numpy()]


def _mixed(codes: np.ndarray, size: int) -> np.ndarray:
    """Return the codes of as many words in a row, from each word on that has enough behind it."""
    if size == 1:
        return codes
    n = max(codes.size - size + 1, 0)
    mixed = np.zeros(n, dtype=np.uint64)
    for i in range(size):
        mixed = mix64(mixed * _MULTIPLIER + codes[i : i + n])
    return mixed


def _spelled_out(value: Any) -> Any:
    """Let a bare column name mean one whose words are hashed."""
    name = name_of(value)
    return {"column": name} if isinstance(name, str) else value


TextTerm = Annotated[Text, BeforeValidator(_spelled_out)]
"""A text. A bare string is one whose words are hashed."""
