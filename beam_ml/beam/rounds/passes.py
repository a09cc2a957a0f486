"""The passes of a job over its files: the result of each, and why they end before the number asked for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from beam_ml.core.learner import Learner
from beam_ml.core.passes import EarlyStopping, measured_by, stalled
from beam_ml.core.refresh import LOSSES, Refresh

__all__ = ["PASSES", "Passes"]

PASSES = "passes"
"""The key in `Learner.next` under which they are stored: they are committed with the read positions."""


@dataclasses.dataclass(frozen=True, slots=True)
class Passes:
    """The passes over one batch of files, so far.

    Attributes:
        number: the pass that is under way, or was the last.
        of: how many the job asked for.
        metric: what passes are judged by.
        values: the metric's mean in each pass, over its rows before they were learned from (again).
        rows: how many rows each of these means is over.
        judged: the pass that the last of them is of: a first pass of one round has no model to judge.
        heard: passes that patience does not count, since the job was asked to continue after them.
        stopped: why they ended early; empty: they did not.
    """

    number: int = 1
    of: int = 1
    metric: str = ""
    values: tuple[float, ...] = ()
    rows: tuple[int, ...] = ()
    judged: int = 0
    heard: int = 0
    stopped: str = ""

    @staticmethod
    def of_learner(learner: Learner) -> "Passes":
        """Read the passes that a learner stores."""
        found = learner.next.get(PASSES)
        if found is None:
            return Passes()
        return Passes(**{**found, "values": tuple(found["values"]), "rows": tuple(found["rows"])})

    def to_dict(self) -> dict[str, Any]:
        """Return the plain JSON form."""
        return dataclasses.asdict(self) | {"values": list(self.values), "rows": list(self.rows)}

    def continues(self, number: int, passes: int) -> bool:
        """Return whether another pass follows, where nothing is left to read in pass `number`.

        Passes that were stopped early continue only where more of them are asked for than then.
        """
        return number < passes and not (self.stopped and passes <= self.of)

    def after(
        self, number: int, last: bool, refreshes: Sequence[Refresh], passes: int, stopping: EarlyStopping | None
    ) -> "Passes":
        """Return the passes after a round of one.

        Args:
            number: of the pass; below the last one's where a new batch of files has begun.
            last: the pass has ended with this round.
            refreshes: the round's.
            passes: as many as the job asks for.
            stopping: when they end early; None: never.

        Raises:
            InvalidValue: there is no such metric as `stopping` names.
        """
        before = Passes() if number < self.number else self
        if before.stopped:
            before = dataclasses.replace(before, stopped="", heard=len(before.values))
        mine = dataclasses.replace(before, number=number, of=passes)
        for one in refreshes:
            mine = mine._with(one, None if stopping is None else stopping.metric)
        # The pass that patience begins to count after is what the next ones are compared with.
        judged = mine.values[max(0, mine.heard - 1) :]
        if stopping is None or not last or number >= passes or not stalled(judged, stopping, mine.metric):
            return mine
        what = f"no better by {stopping.tolerance:g} of it in {stopping.patience} pass(es)"
        why = f"stopped after pass {number} of {passes}: {mine.metric} is {mine.values[-1]:.6g}, {what}"
        return dataclasses.replace(mine, stopped=why)

    def _with(self, one: Refresh, wanted: str | None) -> "Passes":
        name = one.champion if one.champion in one.measured else next(iter(one.measured), None)
        found = measured_by(_finite(one.measured.get(name, {}) if name is not None else {}), wanted, LOSSES)
        if found is None or not one.progress.rows:
            return self
        metric, value = found
        values, rows = list(self.values), list(self.rows)
        if self.judged < self.number or not values:  # a merged learner's are those of one, the numbers of either
            values.append(value)
            rows.append(0)
        total = rows[-1] + one.progress.rows
        values[-1] += (value - values[-1]) * one.progress.rows / total
        rows[-1] = total
        return dataclasses.replace(self, metric=metric, values=tuple(values), rows=tuple(rows), judged=self.number)


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if abs(value) < float("inf")}
