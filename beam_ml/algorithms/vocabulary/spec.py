"""Settings and records of vocabularies.

Letters: ``d`` features, ``g`` columns, ``s`` = d / g numbers of a term, ``t`` terms.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float64, Int32, Int64
from pydantic import Field, model_validator

from beam_ml.core.arrays import array_dataclass
from beam_ml.core.spec import ModelSpec
from beam_ml.core.spec import Spec as BaseSpec
from beam_ml.core.spelling import MOST_BYTES, WIDTH, read
from beam_ml.errors import InvalidValue

__all__ = ["Model", "Partial", "Spec", "Vocabulary"]


class Spec(BaseSpec):
    """What shapes the counts. Of W rows' weight, a term's count is off by at most ``W / (capacity + 1)``.

    Every feature is a column whose numbers are the terms; with `text_bytes`, a column is as many features as
    `{ column, transform = "spell" }` makes of its texts.

    >>> Spec(n_features=8, text_bytes=24).columns
    2
    """

    called: ClassVar[str] = "vocabulary.Spec"
    takes_sparse: ClassVar[bool] = False

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

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.text_bytes is not None and self.text_bytes % WIDTH:
            message = f"text_bytes must be a multiple of {WIDTH}; got {self.text_bytes}"
            raise ValueError(message)
        if self.n_features % self.numbers:
            message = f"n_features must be a multiple of text_bytes / {WIDTH}, {self.numbers}; got {self.n_features}"
            raise ValueError(message)
        return self

    @property
    def numbers(self) -> int:
        """The numbers that make a term, s."""
        return 1 if self.text_bytes is None else self.text_bytes // WIDTH

    @property
    def columns(self) -> int:
        """The columns, g."""
        return self.n_features // self.numbers


class Vocabulary(ModelSpec):
    """Which terms to list, most frequent first.

    >>> Vocabulary(size=100, min_count=5.0).size
    100
    """

    called: ClassVar[str] = "vocabulary.Vocabulary"

    kind: Literal["vocabulary"] = "vocabulary"
    size: Annotated[int, Field(ge=1, le=100_000, description="most terms of a column")] = 1000
    min_count: Annotated[
        float, Field(ge=0, description="least count of a term: the weight of the rows that have it")
    ] = 1.0


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
    count: Float64[np.ndarray, "t"]  # Σ weight of the rows that have it, less at most the column's `shrunk`; > 0
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
