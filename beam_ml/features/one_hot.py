"""Categories by a vocabulary: one indicator per listed value, and one for all others.

Values are compared as hashed ones are (`features.hashing`): a text that spells a whole number is that number. Letters:
``n`` rows, ``v`` values.
"""

import functools
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from beam_ml.core.spec import Settings
from beam_ml.features.columns import Name
from beam_ml.features.entries import NOWHERE, Entries
from beam_ml.features.hashing import codes_of, codes_of_values
from beam_ml.features.rules import inexact

__all__ = ["MOST_VALUES", "OneHot"]

Value = bool | int | float | str
"""What a vocabulary may list."""
MOST_VALUES = 100_000
"""A longer vocabulary is better hashed: each model stores it."""
_FIELD = "Features.one_hot"


def _spelled(values: Sequence[Value]) -> list[tuple[Value, int]]:
    """Return the values with their places: truth values as formats of text spell them, too."""
    found = list(zip(values, range(len(values)), strict=True))
    for value, place in [one for one in found if isinstance(one[0], bool)]:
        found += [(text, place) for text in (str(value), str(value).lower(), str(value).upper())]
    return found


class OneHot(Settings):
    """One indicator feature per value of a vocabulary, in its order; behind them one of all other values, unless `unseen`
    says that these have none.

    A missing value is the empty text: another value, unless "" is listed.

    >>> shops = OneHot(column="shop", vocabulary=["a", "b"])
    >>> shops.names
    ('shop=a', 'shop=b', 'shop=*')
    >>> shops.entries(pa.record_batch({"shop": ["b", "x", None]})).places.tolist()
    [1, 2, 2]
    """  # noqa: D205 one sentence

    column: Name
    vocabulary: Annotated[
        tuple[Value, ...],
        Field(
            min_length=1, max_length=MOST_VALUES,
            description="the values that have a place: texts, whole numbers, truth values",
        ),
    ]  # fmt: skip
    unseen: Annotated[
        Literal["place", "none"],
        Field(description="what any other value has: one place behind the vocabulary's, or none: all indicators are 0"),
    ] = "place"

    @field_validator("vocabulary")
    @classmethod
    def _distinct(cls, value: tuple[Value, ...]) -> tuple[Value, ...]:
        for one in value:
            if isinstance(one, float) and not one.is_integer():
                message = (
                    f"must list texts, whole numbers and truth values (bucketed takes fractions), as {one!r} is not"
                )
                raise ValueError(message)
        spelled = _spelled(value)
        _, first = np.unique(codes_of_values([one for one, _ in spelled]), return_index=True)
        if len(first) < len(spelled):
            again = set(range(len(spelled))) - set(first.tolist())
            twice = list(dict.fromkeys(str(spelled[i][0]) for i in sorted(again)))
            message = f"must list no value twice (1, '1' and true are one), as {twice[:8]} are"
            raise ValueError(message)
        return value

    @property
    def places(self) -> int:
        """The features it makes."""
        return len(self.vocabulary) + (self.unseen == "place")

    @property
    def name(self) -> str:
        """What the field is called."""
        return self.column

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read."""
        return (self.column,)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its features."""
        return (*(f"{self.column}={one}" for one in self.vocabulary), f"{self.column}=*")[: self.places]

    @functools.cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """The codes of the values, rising, and their places: truth values as formats of text spell them, too."""
        spelled = _spelled(self.vocabulary)
        codes = codes_of_values([value for value, _ in spelled])
        order = np.argsort(codes, kind="stable")
        return codes[order], np.array([place for _, place in spelled], dtype=np.int64)[order]

    def entries(self, batch: pa.RecordBatch) -> Entries:
        """Return the place of each row's value.

        Raises:
            MissingColumn: the column is absent, or holds neither numbers nor text.
        """
        codes, refused = codes_of(batch, self.column, _FIELD)
        known, places = self._known
        at = np.minimum(np.searchsorted(known, codes), known.size - 1)
        other = len(self.vocabulary) if self.unseen == "place" else NOWHERE
        found = np.where(known[at] == codes, places[at], other)
        return Entries(found, rules=() if refused is None else (inexact(self.column, refused),))
