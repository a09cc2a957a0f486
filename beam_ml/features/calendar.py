"""Parts of times, as the clocks and calendars of a time zone show them: UTC where none is given. Letters: ``n`` rows."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
from pydantic import Field, model_validator

from beam_ml.core.epochs import UnitOfNumbers
from beam_ml.core.spec import Settings
from beam_ml.features.columns import Name
from beam_ml.features.zones import Zone, local_us

__all__ = ["PARTS", "Clock", "Moments"]

_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US

Part = Literal[
    "hour", "weekday", "night", "weekend", "day", "month", "quarter", "day_of_year", "week", "days"
]  # fmt: skip
PARTS: tuple[str, ...] = get_args(Part)
_CYCLES: Mapping[str, tuple[int, int]] = {
    "hour": (0, 24), "weekday": (0, 7), "day": (1, 31), "month": (1, 12), "quarter": (1, 4), "day_of_year": (1, 366),
    "week": (1, 53),
}  # fmt: skip
"""Part → its first value, and how many follow before it begins again."""


class Moments(NamedTuple):
    """Times as clocks show them.

    Attributes:
        us: (n,) int64 µs since the epoch.
        hour: (n,) int32 whole hours since the epoch.
    """

    us: np.ndarray
    hour: np.ndarray

    @classmethod
    def of(cls, us: np.ndarray, zone: str | None) -> "Moments":
        """Return times in µs, (n,) int64, as the clocks of a zone show them."""
        shown = local_us(us, zone)
        return cls(shown, np.floor_divide(shown, _HOUR_US).astype(np.int32))

    @property
    def day(self) -> np.ndarray:
        """(n,) int32 whole days since the epoch, which began on a Thursday."""
        return self.hour // np.int32(24)


def _month(at: Moments) -> np.ndarray:
    """Return months since the epoch, (n,) int64."""
    return at.day.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _day_of_month(at: Moments) -> np.ndarray:
    days = at.day.astype("datetime64[D]")
    return (days - days.astype("datetime64[M]").astype("datetime64[D]")).astype(np.int64) + 1


def _day_of_year(days: np.ndarray) -> np.ndarray:
    dated = days.astype("datetime64[D]")
    return (dated - dated.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64) + 1


def _weekday(at: Moments) -> np.ndarray:
    return (at.day + np.int32(3)) % np.int32(7)


_OF: Mapping[str, Callable[[Moments], np.ndarray]] = {
    "hour": lambda at: at.hour % np.int32(24),
    "night": lambda at: at.hour % np.int32(24) <= 6,
    "weekday": _weekday,
    "weekend": lambda at: _weekday(at) >= 5,
    "day": _day_of_month,
    "month": lambda at: _month(at) % 12 + 1,
    "quarter": lambda at: _month(at) % 12 // 3 + 1,
    "day_of_year": lambda at: _day_of_year(at.day),
    # A week is that of the year in which its Thursday lies (ISO 8601).
    "week": lambda at: (_day_of_year(at.day - _weekday(at) + 3) + 6) // 7,
    "days": lambda at: at.us / _DAY_US,
}


class Clock(Settings):
    """Of a time: hour 0 … 23; weekday 0 (Monday) … 6; night: 1 up to and including hour 6; weekend: 1; day of the month 1 …
    31; month 1 … 12; quarter 1 … 4; day_of_year 1 … 366; week 1 … 53 (ISO 8601); days since 1970, with their fraction.

    >>> Clock(column="at", transform="weekday", unit="ms").name
    'weekday(at)'
    >>> Clock(column="at", transform="hour", zone="Europe/Paris", cyclic=True).names
    ('sin(hour(at, Europe/Paris))', 'cos(hour(at, Europe/Paris))')
    """  # noqa: D205 one list

    column: Name
    transform: Part
    unit: Annotated[
        UnitOfNumbers | None,
        Field(
            description="what numbers of the column count since 1970: s, ms, us or ns; none: what `time` or another part of "
            "this column says, else recognised by their size"
        ),
    ] = None
    zone: Annotated[
        Zone | None,
        Field(
            description="time zone whose hours and days they are, such as 'Europe/Paris', with its summer time; none: UTC"
        ),
    ] = None
    cyclic: Annotated[
        bool,
        Field(
            description="two features in place of one, sin and cos of 2π · (value − first) / count, so that the last value "
            "lies beside the first; counts: 24 hours, 7 weekdays, 31 days, 12 months, 4 quarters, 366 days of a year, "
            "53 weeks"
        ),
    ] = False

    @model_validator(mode="after")
    def _comes_again(self) -> "Clock":
        if self.cyclic and self.transform not in _CYCLES:
            message = f"cyclic must be false with {self.transform}, which does not come again; got true"
            raise ValueError(message)
        return self

    @property
    def name(self) -> str:
        """What the part is called."""
        return f"{self.transform}({self.column}{'' if self.zone is None else f', {self.zone}'})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its features."""
        return (f"sin({self.name})", f"cos({self.name})") if self.cyclic else (self.name,)

    def write(self, X: np.ndarray, at: Moments) -> None:
        """Write the features into their columns of a matrix, (n, 1 or 2).

        >>> X = np.empty((3, 1))
        >>> Clock(column="at", transform="weekday").write(X, Moments.of(np.array([0, 1, 4]) * _DAY_US, None))
        >>> X.ravel().tolist()
        [3.0, 4.0, 0.0]
        """
        values = _OF[self.transform](at)
        if not self.cyclic:
            X[:, 0] = values
            return
        first, count = _CYCLES[self.transform]
        angle = (2 * np.pi / count) * (values - first)
        X[:, 0], X[:, 1] = np.sin(angle), np.cos(angle)
