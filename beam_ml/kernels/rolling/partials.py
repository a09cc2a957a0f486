"""Partials of one function: how a value becomes one, how two are merged, and what the result is.

A partial is three numbers; the first counts its values, and a partial without values is the identity. `merge` is associative
up to rounding and takes the earlier one first. Codes are those of `beam_ml.features.rolling.aggregates`: 0 count, 1 sum,
2 mean, 3 variance, 4 min, 5 max, 6 first, 7 last, 8 time since the last.
"""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np

__all__ = ["lift", "merge", "result"]


@numba.njit(cache=True, nogil=True, inline="always")
def lift(code: int, value: float, time: float) -> tuple[float, float, float]:
    """Return the partial of one value dated some µs; NaN is none."""
    if np.isnan(value):
        return 0.0, 0.0, 0.0
    if code == 6 or code == 7 or code == 8:
        return 1.0, value, time
    if code == 0:
        return 1.0, 0.0, 0.0
    return 1.0, value, 0.0


@numba.njit(cache=True, nogil=True, inline="always")
def merge(code: int, a0: float, a1: float, a2: float, b0: float, b1: float, b2: float) -> tuple[float, float, float]:
    """Return the sum of two partials, a the earlier one."""
    if a0 == 0.0:
        return b0, b1, b2
    if b0 == 0.0:
        return a0, a1, a2
    n = a0 + b0
    if code <= 2:
        return n, a1 + b1, 0.0
    if code == 3:  # mean and sum of squares around it (Chan, Golub and LeVeque 1979)
        step = b1 - a1
        return n, a1 + step * (b0 / n), a2 + b2 + step * step * (a0 * b0 / n)
    if code == 4:
        return n, min(a1, b1), 0.0
    if code == 5:
        return n, max(a1, b1), 0.0
    if code == 6:
        return (n, b1, b2) if b2 < a2 else (n, a1, a2)
    return (n, a1, a2) if a2 > b2 else (n, b1, b2)


@numba.njit(cache=True, nogil=True, inline="always")
def result(code: int, a0: float, a1: float, a2: float, time: float) -> float:
    """Return what a partial says at a time in µs; NaN: it has no value, of which 0 are counted all the same."""
    if code == 0:
        return a0
    if a0 == 0.0:
        return np.nan
    if code == 2:
        return a1 / a0
    if code == 3:
        return a2 / a0
    if code == 8:
        return (time - a2) * 1e-6
    return a1
