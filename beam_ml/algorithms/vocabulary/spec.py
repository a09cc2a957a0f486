"""Settings and records of vocabularies.

Letters: ``d`` features, ``g`` columns, ``s`` numbers of a term, ``t`` terms. A column is s features or, of texts' words, a
span of 1 + s for each word: how often it comes, and its numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float64, Int32, Int64
from pydantic import Field, model_validator

from beam_ml.algorithms.vocabulary.spans import strange
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.spec import ModelSpec
from beam_ml.core.spec import Spec as BaseSpec
from beam_ml.core.spelling import MOST_BYTES, WIDTH, read
from beam_ml.errors import InvalidValue

__all__ = ["Model", "Partial", "Spec", "Vocabulary"]


class Spec(BaseSpec):
    """What shapes the counts. Of W rows' weight, a term's count is off by at most ``W / (capacity + 1)``.

    Every feature is a column whose numbers are the terms; with `text_bytes`, a column is as many features as
    `{ column, transform = "spell" }` makes of its texts; with `words`, as many as a term of `Features.words` makes of its
    words, and W is the weight of all words.

    >>> Spec(n_features=8, text_bytes=24).columns, Spec(n_features=100, text_bytes=24, words=20).columns
    (2, 1)
    """

    called: ClassVar[str] = "vocabulary.Spec"
    takes_sparse: ClassVar[bool] = False
    takes_words: ClassVar[bool] = True

    algorithm: Literal["vocabulary"] = "vocabulary"
    capacity: Annotated[
        int, Field(ge=1, le=1_000_000, description="terms counted of a column; a term of a larger share than 1 in "
        "capacity + 1 is surely among them")
    ] = 10_000  # fmt: skip
    text_bytes: Annotated[
        int | None,
        Field(
            ge=WIDTH, le=MOST_BYTES,
            description="the `bytes` of features that spell texts, one number per six; none: each feature is "
            "a column of numbers",
        ),
    ] = None  # fmt: skip
    words: Annotated[
        int | None,
        Field(ge=1, le=1 << 20, description="the `most` of features of words, whose `bytes` is text_bytes; none: a row has "
        "one term of a column"),
    ] = None  # fmt: skip

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.text_bytes is not None and self.text_bytes % WIDTH:
            message = f"text_bytes must be a multiple of {WIDTH}; got {self.text_bytes}"
            raise ValueError(message)
        if self.words is not None and self.text_bytes is None:
            message = f"text_bytes must be given where words is; got words = {self.words}"
            raise ValueError(message)
        if self.n_features % self.width:
            many = f"text_bytes / {WIDTH}" if self.words is None else f"words · (1 + text_bytes / {WIDTH})"
            message = f"n_features must be a multiple of {many}, {self.width}; got {self.n_features}"
            raise ValueError(message)
        return self

    def refused(self, batch: Any) -> Sequence[tuple[str, np.ndarray]]:
        """Return the rows whose numbers are no words, where they must be."""
        if self.words is None:
            return ()
        return [("no words", strange(batch, self.numbers))]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain JSON form; a setting of a later date only where it is given: learners from before stay theirs."""
        return {name: value for name, value in super().to_dict().items() if name != "words" or value is not None}

    @property
    def numbers(self) -> int:
        """The numbers that make a term, s."""
        return 1 if self.text_bytes is None else self.text_bytes // WIDTH

    @property
    def width(self) -> int:
        """The features of a column."""
        return self.numbers if self.words is None else self.words * (1 + self.numbers)

    @property
    def columns(self) -> int:
        """The columns, g."""
        return self.n_features // self.width


class Vocabulary(ModelSpec):
    """Which terms to list, most frequent first.

    >>> Vocabulary(size=100, min_count=5.0).size
    100
    """

    called: ClassVar[str] = "vocabulary.Vocabulary"

    kind: Literal["vocabulary"] = "vocabulary"
    size: Annotated[int, Field(ge=1, le=100_000, description="most terms of a column")] = 1000
    min_count: Annotated[
        float,
        Field(ge=0, description="least count of a term: the weight of the rows that have it, times how often if words"),
    ] = 1.0
    max_share: Annotated[
        float | None,
        Field(
            gt=0, description="largest count of a term over the weight of all rows: 0.5 leaves out those that more than "
            "half of the rows have, where features.words has value = 'binary'; none: any",
        ),
    ] = None  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return the plain JSON form; a setting of a later date only where it is given: models from before stay the same."""
        return {name: value for name, value in super().to_dict().items() if name != "max_share" or value is not None}


@array_dataclass
class Partial:
    """Counts of some rows' terms, by rising column and term, and the rows' mean; as State, of all rows so far.

    >>> from beam_ml import Batch, vocabulary
    >>> spec = Spec(n_features=1)
    >>> rows = Batch.dense([[17.0], [3.0], [17.0]])
    >>> partial = vocabulary.VOCABULARY.accumulate(spec, vocabulary.VOCABULARY.empty(spec), rows, None)
    >>> partial.term.ravel().tolist(), partial.count.tolist(), partial.shrunk.tolist()
    ([3.0, 17.0], [1.0, 2.0], [0.0])
    """

    weight: Float64[np.ndarray, ""]  # W, Σ weight of the rows
    origin: Float64[np.ndarray, "d"]  # smallest row in lexicographic order; zeros without rows
    mean: Float64[np.ndarray, "d"]  # relative to the origin
    column: Int32[np.ndarray, "t"]  # of the term, 0 … g − 1
    term: Float64[np.ndarray, "t s"]  # its numbers
    count: Float64[
        np.ndarray, "t"
    ]  # Σ weight of the rows that have it (of words: · how often), less at most `shrunk`; > 0
    shrunk: Float64[np.ndarray, "g"]  # the most that any count has lost, and the most of a term that is not there


@array_dataclass
class Model:
    """Terms by column, most frequent first; of equally frequent ones the smaller text or number.

    >>> from beam_ml import Batch, derive, fit
    >>> model = derive(fit(Spec(n_features=1), [Batch.dense([[17.0], [3.0], [17.0]])]), Vocabulary()).arrays
    >>> model.terms(), model.count.tolist()
    ([17, 3], [2.0, 1.0])
    >>> model.one_hot("shop")
    {'column': 'shop', 'vocabulary': [17, 3]}
    """

    column: Int32[np.ndarray, "t"]  # of the term, rising
    term: Float64[np.ndarray, "t s"]  # its numbers
    count: Float64[np.ndarray, "t"]  # Σ weight of the rows that have it, less at most the column's `error`
    error: Float64[np.ndarray, "g"]  # the most that a count of the column is too small
    spelled: Int64[np.ndarray, ""]  # 1: terms are texts, spelled; 0: numbers
    mean: Float64[np.ndarray, "d"]  # of the rows

    @property
    def words(self) -> int:
        """The most words of a row of a column; 0: a row has one term."""
        d, g, s = self.mean.size, self.error.size, self.term.shape[1]
        return 0 if d == g * s else d // (g * (1 + s))

    def terms(self, number: int = 0) -> list[Any]:
        """Return the terms of a column by its number, texts or numbers.

        Raises:
            InvalidValue: there is no such column.
        """
        if not 0 <= number < self.error.size:
            message = f"vocabulary.Model.terms takes a column of 0 … {self.error.size - 1}; got {number}."
            raise InvalidValue(message)
        mine = self.term[self.column == number]
        if int(self.spelled):
            return list(read(mine))
        return [int(one) if float(one).is_integer() else float(one) for one in mine[:, 0]]

    def one_hot(self, column: str, number: int = 0) -> dict[str, Any]:
        """Return the term of `Features.one_hot` with the vocabulary of a column by its number."""
        return {"column": column, "vocabulary": self.terms(number)}

    def text(self, words: Mapping[str, Any], number: int = 0) -> dict[str, Any]:
        """Return the term of `Features.text` that counts the words of a column's vocabulary.

        Args:
            words: the term of `Features.words` that was learned from, or its settings: the words are split as there.
            number: of the column.

        >>> from beam_ml import derive, fit
        >>> from beam_ml.features import Features
        >>> lines = {"column": "line", "bytes": 12, "most": 8}
        >>> features = Features(words=[lines])
        >>> spec = Spec(n_features=features.n_features, text_bytes=12, words=8)
        >>> rows = [{"line": "to be or not to be"}, {"line": "to see"}]
        >>> derive(fit(spec, rows, features=features), Vocabulary(size=2)).arrays.text(lines)
        {'column': 'line', 'vocabulary': ['to', 'be']}
        """
        split = {name: words[name] for name in ("ngrams", "lower") if name in words}
        return {"column": words["column"], "vocabulary": self.terms(number), **split}
