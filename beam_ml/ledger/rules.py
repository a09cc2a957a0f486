"""What a job sets of its ledger."""

import itertools
from typing import Annotated, Any, ClassVar

import pydantic
from pydantic import Field

from beam_ml.core.spec import Duration, Settings, to_us

__all__ = ["Rules"]

_LEVELS = 20


class Rules(Settings):
    """How long a ledger's windows are kept, and over which spans they are merged besides.

    >>> Rules(roll_up=["1d", "28d"]).spans(3_600_000_000)
    (86400000000, 2419200000000)
    >>> Rules().spans(3_600_000_000)[:3]  # two hours, four, eight …
    (7200000000, 14400000000, 28800000000)
    """

    called: ClassVar[str] = "ledger"

    keep: Annotated[
        Duration | None, Field(description="event time after which windows are removed; None: they stay")
    ] = None
    roll_up: Annotated[
        tuple[Duration, ...],
        Field(
            description="spans over which closed windows are merged besides, each a multiple of the one before; none: 2, "
            "4, 8, … windows, so that a range of n windows takes about 2·log2(n) merges"
        ),
    ] = ()
    fine: Annotated[
        Duration | None,
        Field(description="event time after which what lies within a longer span is removed; None: as long as keep"),
    ] = None
    sample: Annotated[int, Field(ge=2, le=4096, description="most rows of a window's sample that are kept")] = 128

    @pydantic.field_validator("roll_up")
    @classmethod
    def _nested(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for a, b in itertools.pairwise(value):
            if b <= a or to_us(b) % to_us(a):
                message = (
                    f"must rise, each a multiple of the one before, so that spans lie within one another ({b:g} s)"
                )
                raise ValueError(message)
        return value

    def spans(self, size_us: int) -> tuple[int, ...]:
        """Return the spans over which windows of a length are merged, µs, rising."""
        if self.roll_up:
            return tuple(to_us(one) for one in self.roll_up)
        return tuple(size_us << k for k in range(1, _LEVELS + 1))

    def wrong_for(self, size_us: int) -> str | None:
        """Return why these rules cannot be those of windows of a length; None: they can."""
        first: Any = self.roll_up[:1]
        if first and (to_us(first[0]) <= size_us or to_us(first[0]) % size_us):
            return f"ledger.roll_up must begin with a multiple of refresh, {size_us / 1e6:g} s; got {first[0]:g} s"
        return None
