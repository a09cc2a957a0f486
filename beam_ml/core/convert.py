"""What a caller gives as numbers or times → float64 and int64 arrays with the same values, or one sentence.

numpy converts in silence: a `datetime64[ns]` to a number of another unit, 1.7 to 1, 2³² + 1 to 1, NaN to −2⁶³.
"""

import datetime
import functools
import logging
import operator
from typing import Any

import numpy as np

from beam_ml.core.epochs import PER_SECOND, UnitOfNumbers, counting, in_us
from beam_ml.errors import InvalidBatch

__all__ = ["count", "reals", "times_us", "wholes"]

_log = logging.getLogger(__name__)

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NAT = -(2**63)
_MICROSECOND = datetime.timedelta(microseconds=1)
_EXACT = 2.0**53  # a float64 above this is one of several whole numbers


def _refuse(name: str, rule: str, found: object) -> InvalidBatch:
    return InvalidBatch(f"Batch.{name} must {rule}; got {found}.")


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # rows of several lengths
        raise _refuse(name, "be an array, each row of one length", "rows of several lengths") from None


def _first(mask: np.ndarray) -> int:
    return int(np.flatnonzero(mask.reshape(-1))[0])


def reals(name: str, value: Any) -> np.ndarray:
    """Return an array of float32 or float64 as it is, other real numbers as float64; missing entries are NaN.

    Raises:
        InvalidBatch: text, times, complex numbers or other objects.

    >>> reals("label", [True, False]).tolist()
    [1.0, 0.0]
    """
    if isinstance(value, np.ma.MaskedArray):  # numpy would show what is under the mask
        value = np.ma.filled(value.astype(np.float64), np.nan)
    array = _array(name, value)
    if array.dtype == np.float32 or array.dtype == np.float64:
        return array
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    rule = "be numbers"
    if name == "label":
        rule += ", as (text == 'yes') makes them of text"
    if array.dtype.kind != "O":
        found = f"{str(array.reshape(-1)[0])!r:.40} ({array.dtype})" if array.size else array.dtype
        raise _refuse(name, rule, found)
    for one in array.reshape(-1):
        if isinstance(one, str | bytes | complex | np.complexfloating | np.datetime64 | np.timedelta64):
            raise _refuse(name, rule, repr(one))
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        raise _refuse(name, rule, f"objects such as {array.reshape(-1)[0]!r:.60}") from None


def wholes(name: str, value: Any, wanted: str = "be whole numbers within int64") -> np.ndarray:
    """Return whole numbers as int64; floats count if they are whole and below 2⁵³, where they are exact.

    Raises:
        InvalidBatch: fractions, NaN, truth values, or what int64 does not hold.

    >>> wholes("position", [0.0, 7.0]).tolist()
    [0, 7]
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise _refuse(name, wanted, "masked entries")
    array = _array(name, value)
    if array.dtype == np.int64:
        return array
    if array.size == 0:
        return array.astype(np.int64) if array.dtype.kind in "iufO" else _none(name, wanted, array)
    kind = array.dtype.kind
    if kind == "i":
        return array.astype(np.int64)
    if kind == "u":
        wide = array > np.uint64(2**63 - 1)
    elif kind == "f":
        wide = ~((np.trunc(array) == array) & (np.abs(array) < _EXACT))
    elif kind == "O" and all(isinstance(one, int) and not isinstance(one, bool) for one in array.reshape(-1)):
        wide = np.array([not -(2**63) <= one < 2**63 for one in array.reshape(-1)])
    else:
        return _none(name, wanted, array)
    if wide.any():
        row = _first(wide)
        raise _refuse(name, wanted, f"{array.reshape(-1)[row]} in entry {row}")
    return array.astype(np.int64)


def _none(name: str, wanted: str, array: np.ndarray) -> np.ndarray:
    raise _refuse(name, wanted, array.dtype if array.dtype.kind != "O" else f"{array.reshape(-1)[0]!r:.60}")


def times_us(name: str, value: Any, unit: UnitOfNumbers | None = None) -> np.ndarray:
    """Return times as int64 µs since the epoch: `datetime64` of any unit, `datetime`, or numbers.

    A time without a zone is UTC; what is finer than a µs is cut off, towards the past.

    Args:
        name: of the field, for messages.
        value: the times.
        unit: of numbers; None: µs, unless all are ns of 1990 to 2100, which µs never are. A warning says so, and where all
            look like seconds or ms.

    Raises:
        InvalidBatch: a missing time, a fraction of a µs, text, or a time that µs do not hold; a unit that is none of these.

    >>> times_us("time", np.array(["2024-01-01"], "datetime64[ns]")).tolist()
    [1704067200000000]
    """
    wanted = "be known times: datetime64, datetime or whole µs since the epoch"
    if unit is not None and unit not in PER_SECOND:
        raise _refuse(name + "_unit", f"be one of {list(PER_SECOND)}", repr(unit))
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise _refuse(name, wanted, "masked entries")
    array = _array(name, value)
    if array.dtype.kind == "M":
        missing = np.isnat(array)
        if missing.any():
            raise _refuse(name, wanted, f"NaT in entry {_first(missing)}")
        found = array.astype("datetime64[us]")
        # Coarse units reach further than µs: there numpy wraps around.
        if np.datetime_data(array.dtype)[0] in ("Y", "M", "W", "D", "h", "m", "s", "ms"):
            wrapped = found.astype(array.dtype) != array
            if wrapped.any():
                raise _refuse(name, wanted, f"{array[wrapped][0]} in entry {_first(wrapped)}")
        return found.astype(np.int64)
    if array.dtype.kind == "O" and array.size and all(isinstance(one, datetime.datetime) for one in array.reshape(-1)):
        return np.array([_since_epoch(name, wanted, one) for one in array.reshape(-1)], np.int64).reshape(array.shape)
    return _counted(name, wanted, array, unit)


def _counted(name: str, wanted: str, array: np.ndarray, unit: UnitOfNumbers | None) -> np.ndarray:
    if unit is None and array.size and array.dtype.kind in "iuf":
        unit = _recognised(name, array)
    if unit in (None, "us"):
        found = wholes(name, array, wanted)
        missing = found == _NAT
        if missing.any():
            raise _refuse(name, wanted, f"NaT in entry {_first(missing)}")
        return found
    assert unit is not None  # noqa: S101
    numbers = array if array.dtype.kind == "f" else wholes(name, array, wanted)
    us, inside = in_us(numbers, unit)
    if not inside.all():
        row = _first(~inside)
        got = f"{numbers.reshape(-1)[row]} in entry {row}"
        raise _refuse(name, f"be times of the years 1900 to 2200 in {unit} since the epoch", got)
    return us


def _recognised(name: str, numbers: np.ndarray) -> UnitOfNumbers | None:
    """Return "ns" where all numbers are ns of 1990 to 2100, years that µs never reach; None: µs, whatever they look like.

    Seconds and ms of those years are µs of January and February 1970, where made-up times begin: a stream that counts µs
    from 0 on passes through them, and must not change its unit on the way. They are µs, with a warning.
    """
    for unit in PER_SECOND:
        if unit != "us" and counting(numbers, unit).all():
            _say(name, unit)
            return "ns" if unit == "ns" else None
    return None


@functools.cache
def _say(name: str, unit: UnitOfNumbers) -> None:
    """Say once what numbers look like, what they are read as, and how to settle it."""
    _log.warning(
        "Batch.%s: its numbers look like %s since the epoch, and are read as %s; time_unit = %r settles it.",
        name, unit, "ns" if unit == "ns" else "µs of 1970", unit,
    )  # fmt: skip


def _since_epoch(name: str, wanted: str, one: datetime.datetime) -> int:
    if one != one:  # pandas' NaT is a datetime that equals nothing
        raise _refuse(name, wanted, "NaT")
    return int(((one if one.tzinfo else one.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MICROSECOND)


def count(name: str, value: Any, most: int) -> int:
    """Return a whole number from 0 to `most`.

    Raises:
        InvalidBatch: it is another number, or none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= most:
        raise _refuse(name, f"be a whole number in [0, {most}]", repr(value))
    return number
