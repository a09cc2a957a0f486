"""Numbers by the span they lie in: one indicator per span. Letters: ``n`` rows."""

import itertools
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from beam_ml.core.spec import Settings
from beam_ml.features.columns import Name, numbers
from beam_ml.features.entries import Entries
from beam_ml.features.rules import Rule, unread

__all__ = ["Bucketed"]

_FIELD = "Features.bucketed"


class Bucketed(Settings):
    """One indicator feature per span of a number: below the first bound, from each up to the next, from the last one on.

    >>> ages = Bucketed(column="age", bounds=[18, 65])
    >>> ages.names
    ('age<18', '18<=age<65', '65<=age')
    >>> ages.entries(pa.record_batch({"age": [17.9, 18, 99]})).places.tolist()
    [0, 1, 2]
    """

    column: Name
    bounds: Annotated[
        tuple[float, ...], Field(min_length=1, max_length=10_000, description="rising numbers; each begins a span")
    ]
    missing: Annotated[
        Literal["reject", "place"],
        Field(description="a missing number rejects its row, or has a place of its own behind the spans"),
    ] = "reject"

    @field_validator("bounds")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for low, high in itertools.pairwise(value):
            if not low < high:
                message = f"must rise, as {high:g} behind {low:g} does not"
                raise ValueError(message)
        return value

    @property
    def places(self) -> int:
        """The features it makes."""
        return len(self.bounds) + 1 + (self.missing == "place")

    @property
    def name(self) -> str:
        """What the field is called."""
        return f"bucket({self.column})"

    @property
    def columns(self) -> tuple[str, ...]:
        """What is read."""
        return (self.column,)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its features."""
        at, name = [f"{one:g}" if float(f"{one:g}") == one else repr(one) for one in self.bounds], self.column
        spans = (f"{low}<={name}<{high}" for low, high in itertools.pairwise(at))
        missing = (f"missing({name})",) if self.missing == "place" else ()
        return (f"{name}<{at[0]}", *spans, f"{at[-1]}<={name}", *missing)

    def entries(self, batch: pa.RecordBatch) -> Entries:
        """Return the place of each row's number.

        Raises:
            MissingColumn: the column is absent or no number.
        """
        found = numbers(batch, self.column, _FIELD)
        places = np.searchsorted(np.array(self.bounds), found.values.astype(np.float64, copy=False), side="right")
        rules = [] if found.unread is None else [unread(f"feature column {self.column}", found)]
        bad = ~np.isfinite(found.values)
        if bad.any():
            missing = np.isnan(found.values)
            if self.missing == "place":
                places[missing] = len(self.bounds) + 1
                bad &= ~missing
            if bad.any():
                rules.append(Rule(f"non-finite feature {self.name}", bad))
        return Entries(places.astype(np.int64, copy=False), rules=tuple(rules))
