"""`Frequency`: how far apart the steps of a series are, from a minute to a year; its season and its calendar.

Steps of minutes, hours, days and weeks have one length; business days, months, quarters and years are counted by the
calendar. A step is known by its time, µs since the epoch (UTC). Letters: ``n`` series, ``t`` steps, ``c`` calendar features.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from beam_ml.errors import InvalidValue

__all__ = ["Frequency"]

_DAY_US = 86_400_000_000
_FIXED_US = {"min": 60_000_000, "H": 3_600_000_000, "D": _DAY_US, "W": 7 * _DAY_US}
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_SPELLED = {"t": "min", "min": "min", "h": "H", "d": "D", "b": "B", "w": "W", "m": "M", "ms": "M", "me": "M", "q": "Q",
            "qs": "Q", "qe": "Q", "y": "Y", "ys": "Y", "ye": "Y", "a": "Y"}  # fmt: skip
_TEXT = re.compile(r"^\s*(\d*)\s*([A-Za-z]+)\s*$")
_FARTHEST = 1_200
"""Steps that a lag goes back at most."""


class Frequency(NamedTuple):
    """Steps of `number` units: ``min``, ``H``, ``D``, ``B`` (business days), ``W``, ``M``, ``Q`` or ``Y``.

    >>> Frequency.of("15min"), Frequency.of("h").season, Frequency.of("M").season
    (Frequency(number=15, unit='min'), 24, 12)
    """

    number: int
    unit: str

    @classmethod
    def of(cls, text: str) -> "Frequency":
        """Return the frequency that a text spells, as pandas and SageMaker do.

        Raises:
            InvalidValue: it spells none.

        >>> Frequency.of("fortnight")
        Traceback (most recent call last):
        beam_ml.errors.InvalidValue: time_freq must be a number, if any, and min, H, D, B, W, M, Q or Y; got 'fortnight'.
        """
        match = _TEXT.match(text)
        unit = _SPELLED.get(match[2].lower()) if match else None
        number = int(match[1] or 1) if match else 0
        if unit is None or not 0 < number <= _FARTHEST:
            message = f"time_freq must be a number, if any, and min, H, D, B, W, M, Q or Y; got {text!r}."
            raise InvalidValue(message)
        return cls(number, unit)

    @property
    def season(self) -> int:
        """Steps of the cycle that differences are taken over: a day, a week of days, a year of months or quarters; or 1."""
        return next((steps for steps in self._cycles() if 1 < steps <= _FARTHEST), 1)

    @property
    def long_season(self) -> int:
        """Steps of the longest cycle within 1,200 steps; `season` where there is no longer one."""
        return max([self.season, *(steps for steps in self._cycles() if steps <= _FARTHEST)])

    def _cycles(self) -> tuple[int, ...]:
        """Return the steps of the natural cycles that are whole numbers of steps, rising."""
        cycles = {
            "min": (60, 1_440, 10_080), "H": (24, 168), "D": (7, 364), "B": (5, 260),
            "W": (52,), "M": (12,), "Q": (4,), "Y": (1,),
        }[self.unit]  # fmt: skip
        whole = tuple(steps // self.number for steps in cycles if steps % self.number == 0)
        if self.unit == "min" and len(whole) > 1 and whole[1] <= _FARTHEST:
            return whole[1:]  # the day, where it is not too far
        return whole

    def shifted(self, time: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return times, µs, that many steps later; both are whole numbers of one shape, or of shapes that broadcast.

        >>> at = np.array(["2020-01-31"], "datetime64[us]").astype(np.int64)
        >>> Frequency.of("M").shifted(at, np.array([1])).astype("datetime64[us]").astype(str).tolist()
        ['2020-02-29T00:00:00.000000']
        """
        if self.unit in _FIXED_US:
            return np.asarray(time + steps * (self.number * _FIXED_US[self.unit]), np.int64)
        day, within = np.divmod(time, _DAY_US)
        if self.unit == "B":
            moved = np.busday_offset(day.astype("datetime64[D]"), steps * self.number, roll="backward")
            return np.asarray(moved.astype(np.int64) * _DAY_US + within, np.int64)
        month = day.astype("datetime64[D]").astype("datetime64[M]")
        of_month = (day - month.astype("datetime64[D]").astype(np.int64)).astype(np.int64)
        later = month + steps * (self.number * _MONTHS[self.unit])
        begin = later.astype("datetime64[D]").astype(np.int64)
        days = (later + 1).astype("datetime64[D]").astype(np.int64) - begin
        return np.asarray((begin + np.minimum(of_month, days - 1)) * _DAY_US + within, np.int64)

    @property
    def n_calendar(self) -> int:
        """Number of calendar features."""
        return 2 * len(_PHASES[self.unit])

    def calendar(self, time: np.ndarray) -> np.ndarray:
        """Return sine and cosine (…, c) of where times (…) stand in the day, week, month or year, as the unit has it.

        >>> Frequency.of("D").calendar(np.array([0])).shape
        (1, 4)
        """
        found = np.empty((*np.shape(time), self.n_calendar), np.float32)
        for i, phase in enumerate(_PHASES[self.unit]):
            angle = 2.0 * np.pi * phase(time)
            found[..., 2 * i], found[..., 2 * i + 1] = np.sin(angle), np.cos(angle)
        return found


def _of_hour(time: np.ndarray) -> np.ndarray:
    return np.asarray(time % _FIXED_US["H"] / _FIXED_US["H"])


def _of_day(time: np.ndarray) -> np.ndarray:
    return np.asarray(time % _DAY_US / _DAY_US)


def _of_week(time: np.ndarray) -> np.ndarray:
    return np.asarray((time + 3 * _DAY_US) % _FIXED_US["W"] / _FIXED_US["W"])  # the epoch was a Thursday


def _of_year(time: np.ndarray) -> np.ndarray:
    day = np.asarray(time).astype("datetime64[us]")
    begin = day.astype("datetime64[Y]").astype("datetime64[us]")
    return np.asarray((day - begin).astype(np.int64) / (366.0 * _DAY_US))


_PHASES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], ...]] = {
    "min": (_of_hour, _of_day, _of_week), "H": (_of_day, _of_week), "D": (_of_week, _of_year), "B": (_of_week, _of_year),
    "W": (_of_year,), "M": (_of_year,), "Q": (_of_year,), "Y": (),
}  # fmt: skip
