"""What the transforms' `expand` methods share."""

from collections.abc import Callable
from typing import Any, TypeVar

from apache_beam import WindowInto
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

__all__ = ["TICK_US", "globally", "many_in_or_out", "to_global"]

TICK_US = 1000
"""The grain of time of engines: timers, watermarks and elements' times are whole ms."""

F = TypeVar("F", bound=Callable[..., Any])


def many_in_or_out(expand: F) -> F:
    """Mark an `expand` that takes or gives several PCollections: Beam warns of annotations it cannot check."""
    return no_annotations(expand)


def to_global(pcoll: PCollection, label: str = "Global") -> PCollection:
    """Put a PCollection into the global window, where it is not."""
    if isinstance(pcoll.windowing.windowfn, GlobalWindows):
        return pcoll
    return pcoll | label >> WindowInto(GlobalWindows())


def globally(value: Any, timestamp: Timestamp = MIN_TIMESTAMP) -> WindowedValue:
    """Put what a bundle ends with into the global window, at the time of the oldest element that is in it."""
    return WindowedValue(value, timestamp, (GlobalWindow(),))
