"""Crosses: one category per combination of the values of several columns. Letters: ``n`` rows, ``c`` columns.

By hash, the columns' codes are mixed in their order: ``h ← mix64(h · 3 + code)``, from 0 on. By vocabulary, the places of
the columns, ``pᵢ`` of ``mᵢ``, are the digits of one number: ``(p₁ · m₂ + p₂) · m₃ + …``.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field, field_validator, model_validator

from beam_ml.core.mixing import mix64
from beam_ml.core.spec import Settings
from beam_ml.features.bucketed import Bucketed
from beam_ml.features.columns import Name
from beam_ml.features.entries import NOWHERE, Entries
from beam_ml.features.hashing import MOST_PLACES, Buckets, codes_of, placed
from beam_ml.features.one_hot import OneHot
from beam_ml.features.rules import Rule, inexact

__all__ = ["Cross", "CrossTerm", "Crossed", "Listed"]

_FIELD = "Features.crosses"
_MULTIPLIER = np.uint64(3)

Listed = OneHot | Bucketed
"""A column whose values have listed places."""


class Cross(Settings):
    """One indicator feature per combination of the values of two columns or more.

    A column of `bucketed` takes part by its spans, others by their values; with `by` = "vocabulary" each must be in
    `one_hot` or `bucketed`.

    >>> Cross(columns=["shop", "country"], buckets=1000).name
    'shop×country'
    """

    columns: Annotated[
        tuple[Name, ...], Field(min_length=2, max_length=8, description="whose values are combined, in this order")
    ]
    by: Annotated[
        Literal["hash", "vocabulary"],
        Field(
            description="combinations are hashed; or each has a place of its own, by the vocabularies and bounds that the "
            "columns have in `one_hot` and `bucketed`"
        ),
    ] = "hash"
    buckets: Buckets = None

    @field_validator("columns")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            message = "must name no column twice"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _hashed_alone(self) -> "Cross":
        if self.by == "vocabulary" and self.buckets is not None:
            message = f"buckets must be left out where by is 'vocabulary'; got {self.buckets}"
            raise ValueError(message)
        return self

    @property
    def name(self) -> str:
        """What the field is called."""
        return "×".join(self.columns)


class Crossed:
    """A cross with the vocabularies and bounds of its columns.

    Args:
        term: the cross.
        listed: column → what has listed places for it.

    Raises:
        ValueError: a column of a cross by vocabulary has none.

    >>> shops = OneHot(column="shop", vocabulary=["a", "b"], unseen="none")
    >>> ages = Bucketed(column="age", bounds=[18])
    >>> crossed = Crossed(Cross(columns=["shop", "age"], by="vocabulary"), {"shop": shops, "age": ages})
    >>> crossed.names
    ('shop=a×age<18', 'shop=a×18<=age', 'shop=b×age<18', 'shop=b×18<=age')
    >>> crossed.entries(pa.record_batch({"shop": ["b", "x"], "age": [20, 20]})).places.tolist()
    [3, -1]
    """

    def __init__(self, term: Cross, listed: Mapping[str, Listed]) -> None:
        self.term = term
        self._parts = [listed.get(name) for name in term.columns]
        absent = [name for name, part in zip(term.columns, self._parts, strict=True) if part is None]
        if absent and term.by == "vocabulary":
            message = (
                f"crosses by vocabulary must be of columns in one_hot or bucketed; {term.name} has {absent} "
                "(by = 'hash' takes any)"
            )
            raise ValueError(message)

    @property
    def name(self) -> str:
        """What the field is called."""
        return self.term.name

    @property
    def is_hashed(self) -> bool:
        """Whether combinations are hashed."""
        return self.term.by == "hash"

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read."""
        return self.term.columns

    @property
    def places(self) -> int:
        """The features it makes."""
        if self.is_hashed:
            return MOST_PLACES if self.term.buckets is None else self.term.buckets
        return math.prod(part.places for part in self._parts if part is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its features."""
        if self.is_hashed:
            return tuple(f"{self.name}#{i}" for i in range(self.places))
        return tuple("×".join(each) for each in itertools.product(*(part.names for part in self._parts if part)))

    def codes(self, batch: pa.RecordBatch) -> tuple[np.ndarray, tuple[Rule, ...]]:
        """Return 64 bits that stand for each row's combination, (n,) uint64, and the rules that rows break."""
        mixed, rules = np.zeros(batch.num_rows, dtype=np.uint64), list[Rule]()
        for name, part in zip(self.columns, self._parts, strict=True):
            if isinstance(part, Bucketed):
                found = part.entries(batch)
                codes = found.places.astype(np.uint64)
                rules += found.rules
            else:
                codes, refused = codes_of(batch, name, _FIELD)
                rules += [] if refused is None else [inexact(name, refused)]
            mixed = mix64(mixed * _MULTIPLIER + codes)
        return mixed, tuple(rules)

    def entries(self, batch: pa.RecordBatch) -> Entries:
        """Return the place of each row's combination.

        Raises:
            MissingColumn: a column is absent, or of the wrong type.
        """
        if self.is_hashed:
            codes, rules = self.codes(batch)
            return Entries(placed(codes, self.places), rules=rules)
        places, nowhere, broken = np.zeros(batch.num_rows, dtype=np.int64), np.zeros(batch.num_rows, bool), list[Rule]()
        for part in self._parts:
            assert part is not None  # noqa: S101 the constructor has looked
            found = part.entries(batch)
            nowhere |= found.places < 0
            places = places * part.places + found.places
            broken += found.rules
        return Entries(np.where(nowhere, NOWHERE, places), rules=tuple(broken))


def _spelled_out(value: Any) -> Any:
    """Let a bare list of columns mean a cross by hash whose buckets are not given."""
    return {"columns": value} if isinstance(value, list | tuple) else value


CrossTerm = Annotated[Cross, BeforeValidator(_spelled_out)]
"""A cross. A bare list is one by hash whose buckets are not given."""
