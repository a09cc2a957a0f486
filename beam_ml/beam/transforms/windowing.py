"""What the transforms' `expand` methods share."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args

from apache_beam import CombineGlobally, CombinePerKey, DoFn, GroupByKey, ParDo, PTransform, WindowInto
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.typehints import with_input_types, with_output_types
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_ml.core.accumulation import Accumulation
from beam_ml.errors import InvalidValue

__all__ = ["TICK_US", "globally", "many_in_or_out", "piped", "to_global", "under_one_key"]

TICK_US = 1000
"""The grain of time of engines: timers, watermarks and elements' times are whole ms."""

F = TypeVar("F", bound=Callable[..., Any])


def many_in_or_out(expand: F) -> F:
    """Mark an `expand` that takes or returns several PCollections: Beam warns of annotations it cannot check."""
    return no_annotations(expand)


def piped(several: Any, transform: Any) -> Any:
    """Return NotImplemented, so that Beam applies the transform, or refuse one that takes a single PCollection.

    The `__or__` of named tuples of PCollections: Beam would fail on an attribute that the tuple does not have.

    Raises:
        InvalidValue: one sentence, with the names of the PCollections.
    """
    inner = getattr(transform, "transform", transform)  # "label" >> transform
    if _takes_one(inner, type(several)):
        names = ", ".join(several._fields)
        message = (
            f"{inner.label} takes one PCollection; got the {type(several).__name__} of {names}: pipe one of them, as in "
            f"result.{several._fields[0]} | {inner.label}."
        )
        raise InvalidValue(message)
    return NotImplemented


def _takes_one(transform: Any, several: type) -> bool:
    if not isinstance(transform, PTransform):
        return False
    if isinstance(transform, ParDo | GroupByKey | CombineGlobally | CombinePerKey):
        return True
    first = next(iter(inspect.signature(transform.expand).parameters.values()), None)
    if not type(transform).__module__.startswith("beam_ml.") or first is None:
        return False
    return first.annotation is not several and several not in get_args(first.annotation)


@with_input_types(tuple[int, Accumulation])
@with_output_types(tuple[bytes, tuple[int, Accumulation]])
class _UnderOneKey(DoFn):
    def process(self, element: tuple[int, Accumulation]) -> Iterator[tuple[bytes, tuple[int, Accumulation]]]:
        yield b"job", element


def under_one_key(pcoll: PCollection) -> PCollection:
    """Bring the accumulations of all windows under one key: they are folded in order, in one place."""
    return pcoll | "Together" >> ParDo(_UnderOneKey())


def to_global(pcoll: PCollection, label: str = "Global") -> PCollection:
    """Put a PCollection into the global window, where it is not."""
    if isinstance(pcoll.windowing.windowfn, GlobalWindows):
        return pcoll
    return pcoll | label >> WindowInto(GlobalWindows())


def globally(value: Any, timestamp: Timestamp = MIN_TIMESTAMP) -> WindowedValue:
    """Put what a bundle ends with into the global window, at the time of the oldest element that is in it."""
    return WindowedValue(value, timestamp, (GlobalWindow(),))
