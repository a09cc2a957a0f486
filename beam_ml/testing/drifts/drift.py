"""`Drift`: a change of the world as data, and the library of them.

A drift is a list of windows, each of a regime; what is drawn depends on nothing but the drift, the seed and the task. The
windows in which a model is judged are stated: those from the second after a change on, since a learner cannot know of a
change before it has seen one window of it.
"""

import dataclasses
from collections.abc import Iterator

from beam_ml.core.batch import Batch
from beam_ml.testing.drifts.rows import DAY_US, Regime, Task, draw

__all__ = ["HELD_OUT", "WINDOW_S", "Drift", "Window"]

HELD_OUT = 2_000
"""Rows held out in each window."""

WINDOW_S = DAY_US * 1e-6
"""Length of a window, seconds of event time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """One window of a drift.

    Attributes:
        number: 0, 1, 2 …
        batch: rows to learn from: label, weight, time, origin and positions.
        held_out: other rows as they are in this window, without outliers, NaN and odd weights.
        judged: whether a model of the rows up to here must be no worse than the best constant.
    """

    number: int
    batch: Batch
    held_out: Batch
    judged: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Drift:
    """A change of the world.

    Attributes:
        text: what changes.
        regimes: of each window.
        changes: windows that are unlike the one before: the model of such a window is not judged.
        half_life: windows in which half of the rows' weight is forgotten; None: nothing is forgotten.
        shards: workers that each take a part of a window, from one anchor.
        seed: of the world and its rows.
        stream: other rows of the same world, from a source of their own.
        n_features: width of the rows; None: that of the spec.
    """

    text: str
    regimes: tuple[Regime, ...]
    changes: tuple[int, ...] = ()
    half_life: float | None = None
    shards: int = 4
    seed: int = 0
    stream: int = 0
    n_features: int | None = None

    def __str__(self) -> str:
        """Say it in one phrase."""
        forgets = "no half-life" if self.half_life is None else f"half-life of {self.half_life:g} windows"
        return f"{self.text}, {forgets}, {self.shards} shards"

    def task(self, task: Task) -> Task:
        """Return the task with the width of this drift."""
        return task if self.n_features is None else dataclasses.replace(task, n_features=self.n_features)

    def windows(self, task: Task, *, sparse: bool = False) -> Iterator[Window]:
        """Draw the windows; `sparse`: as CSR batches."""
        return (self.window(number, task, sparse=sparse) for number in range(len(self.regimes)))

    def window(self, number: int, task: Task, *, sparse: bool = False) -> Window:
        """Draw one window."""
        mine, regime = self.task(task), self.regimes[number]
        aside = dataclasses.replace(regime.clean, rows=HELD_OUT)
        return Window(
            number,
            draw(mine, regime, number, self.seed, stream=self.stream, sparse=sparse),
            draw(mine, aside, number, self.seed, stream=self.stream, held_out=True, sparse=sparse),
            number not in self.changes,
        )
