"""`Sorted`: the rows of one call by key; and `Result`: what an output has for each of them. Letters: ``q`` rows."""

import dataclasses

import numpy as np

from beam_ml.features.rolling.rows import NOTHING, Rows

__all__ = ["Arrays", "Result", "Sorted", "by_key"]

Arrays = dict[str, np.ndarray]
"""What a part keeps, by name."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Sorted:
    """Rows that have a key, by key and then in row order.

    Attributes:
        rows: q of them.
        number: (q,) int64 their numbers in row order.
    """

    rows: Rows
    number: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One output's values.

    Attributes:
        values: (q,) float64, NaN: the window has none; or uint64 codes.
        missing: (q,) bool where there is no code; None: they are numbers.
    """

    values: np.ndarray
    missing: np.ndarray | None = None


def by_key(rows: Rows) -> Sorted:
    """Sort rows, which are in row order, by their keys."""
    keyed = np.flatnonzero(rows.key != NOTHING)
    order = keyed[np.argsort(rows.key[keyed], kind="stable")]
    return Sorted(rows.take(order), order)
