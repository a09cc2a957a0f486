"""What the rounds driver asks of a source, whatever it reads: the next slice, its blocks, and how far time has advanced."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from apache_beam import PTransform

from beam_ml.core.batch import Origin
from beam_ml.core.cursors import Cursors
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.errors import SourceError

__all__ = ["RoundPlan", "RoundSource"]


class RoundPlan(Protocol):
    """What one round reads, exactly."""

    @property
    def lost(self) -> Progress:
        """What can no longer be read and is given up, counted as rejected."""
        ...

    def covered(self) -> dict[Origin, list[list[int]]]:
        """Return the places that the round must cover, by origin."""
        ...

    def rows(self) -> int | None:
        """Return the rows that the round must scan; None where that is not known beforehand."""
        ...

    def read(self, columns: Sequence[str]) -> PTransform:
        """Return the root transform that reads the round's blocks."""
        ...

    def shape(self) -> Hashable:
        """Return what the transform that reads the round depends on: plans of one shape differ in `renewed` alone."""
        ...

    def renewed(self) -> Mapping[str, Any]:
        """Return what the steps of a transform of this shape are given for this round, by name (`steps.renew`)."""
        ...

    def size(self) -> int:
        """Return about how many rows the round reads: the same for every attempt at it."""
        ...

    def parts(self, number: int, in_turn: bool = False) -> "list[RoundPlan]":
        """Return plans that read this one's rows between them, about equal; itself where it has one piece.

        Args:
            number: at most so many.
            in_turn: pieces are dealt out in turn, so that the parts get on side by side in the plan's order; else
                neighbouring ones stay together.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """Return what another process needs besides the job to read the same (`opening.plan_from`), as plain JSON values."""
        ...

    def advance(self, cursors: Cursors) -> Cursors:
        """Return the learner's cursors once the round is published."""
        ...


class RoundSource(Protocol):
    """A source as one trainer sees it, from its start to its end."""

    def plan(self, learner: Learner, wanted_rows: int) -> RoundPlan | None:
        """Plan the next round, of about `wanted_rows` rows; return None if there is nothing to read."""
        ...

    def wait(self, learner: Learner, stopping: Callable[[], bool]) -> None:
        """Wait, under --follow, until the next round is due, or for a while where nothing has come."""
        ...

    def watermark(self, learner: Learner) -> float:
        """Return the event time, µs, before which no more rows are expected; -inf: not known yet."""
        ...

    def is_transient(self, error: SourceError) -> bool:
        """Return whether the error is transient, so that the round is worth retrying."""
        ...

    def trim(self, learner: Learner) -> Learner:
        """Drop from the learner what the source has no more use for."""
        ...

    def published(self, learner: Learner) -> None:
        """Take note that a version has been published."""
        ...

    def close(self) -> None:
        """Release what is held open."""
        ...
