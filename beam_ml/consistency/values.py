"""Two columns of the same rows, value by value. Letters: ``n`` rows."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_ml.features.columns import is_text, numbers
from beam_ml.features.times import times_us
from beam_ml.formats.plain import plain

__all__ = ["Compared", "Tolerance", "compared"]


@dataclasses.dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two numbers may be apart: ``|a − b| ≤ absolute + relative · max(|a|, |b|)``.

    Attributes:
        relative: share of the larger one; 1e-6 tells float32 from an error.
        absolute: in units of the feature; of times, seconds.
    """

    relative: float = 1e-6
    absolute: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What became of n rows of one feature.

    Attributes:
        mismatch: (n,) bool: both have a value, and they differ.
        missing: (n,) bool: only the first has one.
        extra: (n,) bool: only the second has one.
        difference: (n,) float64 ``|a − b|`` of numbers, seconds of times; NaN where there is none.
        rank: (n,) float64: how bad a mismatch is, ``|a − b| / max(|a|, |b|)``, ∞ where a value is no number.
    """

    mismatch: np.ndarray
    missing: np.ndarray
    extra: np.ndarray
    difference: np.ndarray
    rank: np.ndarray


def compared(a: pa.Array, b: pa.Array, tolerance: Tolerance) -> Compared:
    """Compare two columns of equal length. Null, NaN and the empty text are no value.

    Numbers are compared as numbers, texts that spell them too; times as times, in any spelling; other texts, and lists, as
    they are, numbers in lists within the tolerance.

    >>> found = compared(pa.array([1.0, 2.0, None]), pa.array(["1", "3", "4"]), Tolerance())
    >>> found.mismatch.tolist(), found.extra.tolist(), found.difference[1]
    ([False, True, False], [False, False, True], np.float64(1.0))
    """
    kinds = a.type, b.type
    if all(_is_scalar(kind) for kind in kinds):
        if any(pa.types.is_temporal(kind) for kind in kinds):
            return _of_times(a, b, tolerance)
        return _of_scalars(a, b, tolerance)
    return _of_others(a, b, tolerance)


def _is_scalar(kind: pa.DataType) -> bool:
    types = pa.types
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_boolean(kind)
    return bool(number or is_text(kind) or types.is_null(kind) or types.is_timestamp(kind) or types.is_date(kind))


def _of_scalars(a: pa.Array, b: pa.Array, tolerance: Tolerance) -> Compared:
    read = [numbers(pa.record_batch({"x": one}), "x", "--columns") for one in (a, b)]
    values = [one.values.astype(np.float64) for one in read]
    unread = [np.zeros(len(a), dtype=bool) if one.unread is None else one.unread for one in read]
    texts = ~_equal_texts(a, b) & (unread[0] | unread[1])
    nothing = [np.isnan(one) & ~odd for one, odd in zip(values, unread, strict=True)]
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.where(values[0] == values[1], 0.0, np.abs(values[0] - values[1]))  # of two infinities, too
    if all(pa.types.is_integer(one.type) for one in (a, b)):  # from 2⁵³ on unlike ones may be one float64
        unlike = np.asarray(pc.fill_null(pc.not_equal(a, b), False)) & (difference == 0)
        difference[unlike] = [abs(a[i].as_py() - b[i].as_py()) for i in np.flatnonzero(unlike).tolist()]
    larger = np.fmax(np.abs(values[0]), np.abs(values[1]))
    return _judged(difference, larger, nothing[0], nothing[1], texts, unread[0] | unread[1], tolerance)


def _equal_texts(a: pa.Array, b: pa.Array) -> np.ndarray:
    if not (is_text(a.type) and is_text(b.type)):
        return np.zeros(len(a), dtype=bool)
    same = pc.equal(a.cast(pa.large_string()), b.cast(pa.large_string()))
    return np.asarray(pc.fill_null(same, False))


def _of_times(a: pa.Array, b: pa.Array, tolerance: Tolerance) -> Compared:
    read = [times_us(pa.record_batch({"x": one}), "x", "--columns") for one in (a, b)]
    none = np.zeros(len(a), dtype=bool)
    nothing = [none if one.missing is None else one.missing for one in read]
    odd = [none if one.unusable is None else one.unusable & ~gone for one, gone in zip(read, nothing, strict=True)]
    exact = np.abs(read[0].us - read[1].us) / 1e6
    broken = odd[0] | odd[1]
    present = ~nothing[0] & ~nothing[1]
    mismatch = present & (broken | (exact > tolerance.absolute))
    rank = np.where(broken, np.inf, exact)
    difference = np.where(present & ~broken, exact, np.nan)
    return Compared(mismatch, ~nothing[0] & nothing[1], nothing[0] & ~nothing[1], difference, rank)


def _of_others(a: pa.Array, b: pa.Array, tolerance: Tolerance) -> Compared:
    """Compare lists, maps and records row by row."""
    nothing = [np.asarray(one.is_null()) for one in (a, b)]
    same = np.fromiter((_alike(x, y, tolerance) for x, y in zip(plain(a), plain(b), strict=True)), bool, len(a))
    zeros = np.zeros(len(a))
    return _judged(zeros, zeros, nothing[0], nothing[1], ~same, ~same, tolerance)


def _alike(a: object, b: object, tolerance: Tolerance) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_alike(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[name], b[name], tolerance) for name in a)
    if isinstance(a, int | float) and isinstance(b, int | float):
        if a == b or (a != a and b != b):
            return True
        return abs(a - b) <= tolerance.absolute + tolerance.relative * max(abs(a), abs(b))
    return a == b


def _judged(
    difference: np.ndarray,
    larger: np.ndarray,
    no_a: np.ndarray,
    no_b: np.ndarray,
    differs: np.ndarray,
    no_number: np.ndarray,
    tolerance: Tolerance,
) -> Compared:
    """Judge numbers by their difference and the larger of both, and the rest by whether it differs."""
    with np.errstate(invalid="ignore", divide="ignore"):
        # Of an infinite number and another one nothing is close.
        finite = np.isfinite(larger)
        apart = (difference > 0) & ~(finite & (difference <= tolerance.absolute + tolerance.relative * larger))
        rank = np.where(difference > 0, np.where(finite, difference / larger, np.inf), 0.0)
    present = ~no_a & ~no_b
    return Compared(
        present & np.where(no_number, differs, apart),
        ~no_a & no_b,
        no_a & ~no_b,
        np.where(present & ~no_number, difference, np.nan),
        np.where(no_number, np.inf, rank),
    )
