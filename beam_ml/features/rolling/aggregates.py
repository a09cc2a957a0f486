"""What can be computed over a window, and by which law windows of it are merged.

A *group* has an inverse: counts and sums, and what follows from them. The others are *monoids* only: a minimum cannot be
taken back. Windows here use the monoid alone, so that nothing is ever subtracted and nothing cancels. Group or not is stated
for stores that keep cumulative sums: they may difference the former, and must never difference the latter.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

__all__ = ["FUNCTIONS", "Function", "Of", "Takes"]

Of = Literal[
    "count",
    "sum",
    "mean",
    "ratio",
    "variance",
    "min",
    "max",
    "first",
    "last",
    "time_since_last",
    "distinct",
    "top_k",
    "share",
]
"""The names of the functions."""
Takes = Literal["rows", "numbers", "categories", "category"]
"""What a function reads: rows, numbers of a column, its categories, or whether a row has one of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """One function of a window's rows.

    Attributes:
        takes: what it reads.
        is_group: whether it has an inverse.
        code: its number in the kernels; −1: it has kernels of its own.
        width: the numbers that a partial of it has.
        empty: what a window without any value has; None: null.
        whole: whether results are whole numbers.
    """

    takes: Takes
    is_group: bool
    code: int
    width: int
    empty: float | None = None
    whole: bool = False


FUNCTIONS: Mapping[Of, Function] = MappingProxyType(
    {
        "count": Function("rows", True, 0, 1, 0, whole=True),
        "sum": Function("numbers", True, 1, 2, 0.0),
        "mean": Function("numbers", True, 2, 2),
        "ratio": Function("numbers", True, 2, 2),
        "variance": Function("numbers", True, 3, 3),
        "min": Function("numbers", False, 4, 2),
        "max": Function("numbers", False, 5, 2),
        "first": Function("numbers", False, 6, 2),
        "last": Function("numbers", False, 7, 2),
        "time_since_last": Function("rows", False, 8, 2),
        "distinct": Function("categories", False, -1, 0, 0, whole=True),
        "top_k": Function("categories", False, -1, 0),
        "share": Function("category", True, 2, 2),
    }
)
"""Function by name."""
