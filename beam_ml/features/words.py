"""Texts as the numbers that spell their words, for what learns which words there are: a vocabulary.

Of a row's different words, each with how often it comes, the first `most` have a span each: the count, then the numbers that
spell the word, six bytes each (`beam_ml.core.spelling`); spans that are not needed are 0, and not stored. Words are those of
`Features.text`. Letters: ``n`` rows, ``t`` words of all rows, ``v`` different ones, ``s`` numbers of a word.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field

from beam_ml.core.spec import Settings
from beam_ml.core.spelling import MOST_BYTES, WIDTH, spell
from beam_ml.features.columns import Name, name_of
from beam_ml.features.entries import Entries
from beam_ml.features.text import NGrams, texts_of, words_of

__all__ = ["Words", "WordsTerm"]

_FIELD = "Features.words"


class Words(Settings):
    """The different words of a text, each as its count and the numbers that spell it.

    A word of more than `bytes` bytes is left out, and so are those behind the first `most` different ones of a row.

    >>> line = Words(column="line", bytes=6, most=2)
    >>> line.places, line.names
    (4, ('count(line)', 'spell(line)', 'count(line)+1', 'spell(line)+1'))
    >>> found = line.entries(pa.record_batch({"line": ["to be to see", None]}))
    >>> found.counts.tolist(), found.places.tolist(), found.values[::2].tolist()
    ([4, 0], [0, 1, 2, 3], [2.0, 1.0])
    """

    column: Name
    bytes: Annotated[
        int,
        Field(
            ge=WIDTH, le=MOST_BYTES, multiple_of=WIDTH,
            description="the longest word, in bytes of UTF-8: a multiple of 6",
        ),
    ] = 24  # fmt: skip
    most: Annotated[
        int,
        Field(ge=1, le=1 << 20, description="different words of a row: the first ones are counted, others left out"),
    ] = 1024
    ngrams: NGrams = (1,)
    value: Annotated[
        Literal["count", "binary"],
        Field(description="of a word that is there c times: c, or 1, by which rows are counted that have it"),
    ] = "count"
    lower: Annotated[bool, Field(description="words are made lower case")] = True

    @property
    def span(self) -> int:
        """The numbers of a word: its count, and s that spell it."""
        return 1 + self.bytes // WIDTH

    @property
    def places(self) -> int:
        """The features it makes."""
        return self.most * self.span

    @property
    def name(self) -> str:
        """What the field is called."""
        return f"spell({self.column})"

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read."""
        return (self.column,)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its features."""
        return tuple(
            f"{what}({self.column}){rest}{f'+{i}' if i else ''}"
            for i in range(self.most)
            for what, rest in (("count", ""), *(("spell", f".{k}" if k else "") for k in range(self.span - 1)))
        )

    def entries(self, batch: pa.RecordBatch) -> Entries:
        """Return the counts and numbers of each row's words.

        Raises:
            MissingColumn: the column is absent, or holds no text.
        """
        words, counts = words_of(texts_of(batch, self.column, _FIELD), self.lower)
        n = len(counts)
        parts = list(self._grams(words, np.repeat(np.arange(n), counts)))
        row = np.concatenate([rows for rows, _ in parts])
        coded = pa.concat_arrays([grams for _, grams in parts]).dictionary_encode()
        table, fits = self._spelled(coded.dictionary)
        code = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        kept = fits[code]
        row, code = row[kept], code[kept]
        both, first, times = np.unique(row * len(fits) + code, return_index=True, return_counts=True)
        row, code = np.divmod(both, max(len(fits), 1))
        order = np.lexsort((first, row))
        row, code, times = row[order], code[order], times[order]
        each = np.bincount(row, minlength=n)
        within = np.arange(row.size) - np.repeat(np.cumsum(each) - each, each)
        kept = within < self.most
        row, code, times, within = row[kept], code[kept], times[kept], within[kept]
        spans = np.empty((row.size, self.span))
        spans[:, 0] = 1.0 if self.value == "binary" else times
        spans[:, 1:] = table[code]
        stored = spans != 0.0
        places = (within * self.span)[:, None] + np.arange(self.span)
        filled = np.bincount(row, weights=stored.sum(axis=1), minlength=n).astype(np.int64)
        return Entries(places[stored], filled, spans[stored])

    def _grams(self, words: pa.Array, row: np.ndarray) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """Yield the rows of the words, of the pairs and so on as asked, and these as texts."""
        for size in self.ngrams:
            last = max(len(words) - size + 1, 0)
            inside = row[:last] == row[size - 1 :]  # all words of one text
            texts = words.slice(0, last)
            if size > 1:
                texts = pc.binary_join_element_wise(
                    *(words.slice(i, last) for i in range(size)), pa.scalar(" ", pa.large_string())
                )
            yield row[:last][inside], texts.filter(pa.array(inside))

    def _spelled(self, words: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of different words, (v, s), and which are short enough, (v,)."""
        plain = words.cast(pa.large_binary())
        offsets = np.frombuffer(plain.buffers()[1], np.int64)[plain.offset : plain.offset + len(plain) + 1]
        data = np.frombuffer(plain.buffers()[2] or b"", np.uint8)
        return spell(data, offsets, self.bytes), np.diff(offsets) <= self.bytes


def _spelled_out(value: Any) -> Any:
    """Let a bare column name take the defaults."""
    name = name_of(value)
    return {"column": name} if isinstance(name, str) else value


WordsTerm = Annotated[Words, BeforeValidator(_spelled_out)]
"""A text by its words. A bare string takes the defaults."""
