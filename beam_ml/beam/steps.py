"""What beam_ml's own DoFns share: little for Beam to inspect, and new values for a pipeline that is built already.

A round reads as few as some thousand rows, so what it costs to build a pipeline counts. Beam looks at the signature of each
method of each DoFn ten times a run, for state and timers; a `Step` shows it the methods of its own, and not the thirty of
`DoFn`. A pipeline that runs again, round after round, is built once: each run is translated again, with the values that its
steps have by then.
"""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from apache_beam import DoFn, Pipeline
from apache_beam.pipeline import AppliedPTransform

__all__ = ["Step", "applied", "renew"]


class Step(DoFn):
    """A DoFn whose base class Beam need not inspect.

    Attributes:
        renewed: names of the values that differ from run to run; the attributes that hold them begin with an underscore.
    """

    renewed: ClassVar[tuple[str, ...]] = ()

    def __dir__(self) -> list[str]:
        """Return the names of what is defined below `Step`: Beam finds state and timers in these methods."""
        kinds = type(self).__mro__
        return sorted({name for kind in kinds[: kinds.index(Step)] for name in vars(kind)} | vars(self).keys())


def applied(pipeline: Pipeline) -> Iterator[AppliedPTransform]:
    """Return every transform of a pipeline."""
    open_ = [pipeline._root_transform()]
    while open_:
        one = open_.pop()
        yield one
        open_ += one.parts


def renew(pipeline: Pipeline, values: Mapping[str, Any]) -> None:
    """Set what differs from run to run in the steps of a pipeline: the next run has these values.

    Args:
        pipeline: built already.
        values: by the names of `Step.renewed`; what no step asks for is left out.
    """
    for one in applied(pipeline):
        step = getattr(one.transform, "fn", None)
        if isinstance(step, Step):
            for name in step.renewed:
                setattr(step, f"_{name}", values[name])
