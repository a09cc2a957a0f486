"""Terms: what one feature is computed from. A term names one column and what is done to it.

Letters: ``n`` rows. Times are read in UTC.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag

from beam_ml.core.spec import Settings
from beam_ml.features.times import UnitOfNumbers

__all__ = ["Clock", "Plain", "Standardised", "Term", "clock_values", "hours"]

_HOUR_US = 3_600_000_000


class Plain(Settings):
    """A number as it is, or the logarithm of 1 + it.

    >>> Plain(column="amount", transform="log1p").name
    'log1p(amount)'
    """

    column: str
    transform: Literal["identity", "log1p"] = "identity"

    @property
    def name(self) -> str:
        """The feature's name."""
        return self.column if self.transform == "identity" else f"{self.transform}({self.column})"


class Standardised(Settings):
    """(value − mean) / scale, with numbers known beforehand; learners that need moments of the data keep their own.

    >>> Standardised(column="amount", mean=20.0, scale=5.0).name
    'standardise(amount)'
    """

    column: str
    transform: Literal["standardise"] = "standardise"
    mean: float = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0

    @property
    def name(self) -> str:
        """The feature's name."""
        return f"{self.transform}({self.column})"


class Clock(Settings):
    """Of a time: hour 0 … 23; weekday 0 (Monday) … 6; night: 1 up to and including hour 6; weekend: 1.

    >>> Clock(column="at", transform="weekday", unit="ms").name
    'weekday(at)'
    """

    column: str
    transform: Literal["hour", "weekday", "night", "weekend"]
    unit: Annotated[
        UnitOfNumbers | None,
        Field(
            description="what numbers of the column count since 1970: s, ms, us or ns; none: what `time` or another part of "
            "this column says, else recognised by their size"
        ),
    ] = None

    @property
    def name(self) -> str:
        """The feature's name."""
        return f"{self.transform}({self.column})"


def _spelled_out(value: Any) -> Any:
    """Let a bare column name, or a mapping without `transform`, mean identity."""
    if isinstance(value, str):
        return {"column": value, "transform": "identity"}
    if isinstance(value, dict) and "transform" not in value:
        return {**value, "transform": "identity"}
    return value


def _kind(value: Any) -> str | None:
    """Return which class a term is of, by its transform; None: of none."""
    transform = value.get("transform") if isinstance(value, dict) else getattr(value, "transform", None)
    for kind, transforms in _KINDS.items():
        if transform in transforms:
            return kind
    return None


_KINDS = {
    "plain": ("identity", "log1p"),
    "standardised": ("standardise",),
    "clock": ("hour", "weekday", "night", "weekend"),
}

Term = Annotated[
    Annotated[Plain, Tag("plain")] | Annotated[Standardised, Tag("standardised")] | Annotated[Clock, Tag("clock")],
    Discriminator(
        _kind,
        custom_error_type="unknown_transform",
        custom_error_message="transform must be one of "
        + ", ".join(transform for each in _KINDS.values() for transform in each),
    ),
    BeforeValidator(_spelled_out),
]
"""One feature. A bare string is a column taken as it is."""


def hours(time_us: np.ndarray) -> np.ndarray:
    """Return whole hours since the epoch, (n,) int32, of times in µs, (n,) int64."""
    return np.floor_divide(time_us, _HOUR_US).astype(np.int32)


def clock_values(transform: str, hour: np.ndarray) -> np.ndarray:
    """Compute one reading of the clock.

    Args:
        transform: hour, weekday, night or weekend.
        hour: (n,) int32 whole hours since the epoch, which began on a Thursday.

    Returns:
        (n,) int32 or bool.

    >>> clock_values("weekday", np.array([0, 24, 96], dtype=np.int32)).tolist()
    [3, 4, 0]
    """
    if transform in ("hour", "night"):
        of_day = hour % np.int32(24)
        return of_day if transform == "hour" else of_day <= 6
    weekday = (hour // np.int32(24) + np.int32(3)) % np.int32(7)
    return weekday if transform == "weekday" else weekday >= 5
