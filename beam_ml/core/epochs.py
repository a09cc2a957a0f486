"""Numbers that count from the epoch: seconds, ms, µs or ns → µs, and what they count by their size.

Between the years 1990 and 2100 counts of different units have different numbers of digits, so that a number says its unit.
Taken for µs, seconds would all lie in January 1970.
"""

from typing import Literal

import numpy as np

__all__ = ["PER_SECOND", "UnitOfNumbers", "counting", "implausible", "in_us"]

UnitOfNumbers = Literal["s", "ms", "us", "ns"]
"""What a number may count since the epoch."""

PER_SECOND: dict[UnitOfNumbers, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_RECOGNISED = 631_152_000, 4_102_444_800  # seconds since the epoch, 1990 to 2100
_PLAUSIBLE = -2_208_988_800 * 10**6, 7_289_654_400 * 10**6  # µs since the epoch, from 1900 up to and including 2200


def counting(values: np.ndarray, unit: UnitOfNumbers) -> np.ndarray:
    """Return where numbers are times of 1990 to 2100 if they count a unit.

    >>> counting(np.array([1_709_296_200, 1_709_296_200_000]), "ms").tolist()
    [False, True]
    """
    low, high = (bound * PER_SECOND[unit] for bound in _RECOGNISED)
    return (values >= low) & (values < high)


def implausible(values: np.ndarray, unit: UnitOfNumbers) -> np.ndarray:
    """Return where numbers are times before 1900 or after 2200 if they count a unit.

    >>> implausible(np.array([1_709_296_200, 10**12]), "s").tolist()
    [False, True]
    """
    low, high = (bound * PER_SECOND[unit] // 10**6 for bound in _PLAUSIBLE)
    return ~((values >= low) & (values < high))


def in_us(values: np.ndarray, unit: UnitOfNumbers) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of a unit in µs, int64, 0 where they are implausible, and where they are plausible.

    >>> in_us(np.array([1_709_296_200]), "s")[0].tolist()
    [1709296200000000]
    """
    inside = ~implausible(values, unit)
    kept = values if inside.all() else np.where(inside, values, 0)
    if unit == "ns":
        return np.floor_divide(kept, 1000).astype(np.int64), inside
    factor = 10**6 // PER_SECOND[unit]
    if kept.dtype.kind == "f":
        return np.rint(kept * float(factor)).astype(np.int64), inside
    us = kept.astype(np.int64, copy=False)
    return us if factor == 1 else us * factor, inside
