"""The windows of a round, learned in order while later rows are still being read.

Which windows a round folds, and what is in them, is certain only at its end. But learners are values: what was learned of
windows that then prove not to have been whole is thrown away, and they are learned again. The result is the same.
"""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

from beam_ml.beam.rounds.gather import in_place
from beam_ml.beam.rounds.pool.arriving import Arriving
from beam_ml.beam.versions.life import folded
from beam_ml.beam.wire.elements import Slice
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.in_order import learn_in_order
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Plan, Refresh

__all__ = ["Early"]

Refreshes = list[tuple[Refresh, float]]


class Early:
    """What was learned of a round before all of its rows were there.

    Args:
        algorithm: the record.
        learner: before the round.
        plan: what to derive and the gate.
        models: of the previous refresh.
    """

    def __init__(self, algorithm: Algorithm, learner: Learner, plan: Plan, models: Mapping[str, Any]) -> None:
        self._algorithm, self._before, self._plan, self._models = algorithm, learner, plan, models
        self._after, self._newest, self._refreshes = learner, models, Refreshes()
        self._through, self.held_good = float("-inf"), True

    def learn(self, rows: Arriving) -> None:
        """Learn windows as they become whole; returns once no more windows are known to be whole."""
        # Windows begun by an earlier round are folded before all others: none can be learned before they are whole.
        least = max(self._before.pending, default=-(2**63))
        try:
            while (found := rows.take(least)) is not None:
                self._learn(found, max(least, *found))
        except Exception:  # an error of rows that are all there comes again at the end
            self.held_good = False
        finally:
            rows.let_go()
            self.held_good = self.held_good and not rows.broken

    def _learn(self, found: Mapping[int, Iterable[Slice]], through: int) -> None:
        steps = learn_in_order(
            self._algorithm, self._after, _windows(found), self._plan, through, self._newest, self._before.version
        )
        self._after, refreshes = folded(self._after, steps)
        self._refreshes += refreshes
        self._newest = refreshes[-1][0].models if refreshes else self._newest
        self._through = through

    def finish(
        self, learner: Learner, rows: Mapping[int, Iterable[Slice]], through: float
    ) -> tuple[Learner, Refreshes]:
        """Learn what is left, or all, where what was learned early does not hold.

        Args:
            learner: before the round, with what was read of it noted but not learned.
            rows: of the round by window end, all of them, in order of place.
            through: fold the windows that end at or before this time.

        Returns:
            The learner after the round, and the refreshes with the seconds that each took.
        """
        self.held_good = self.held_good and self._through <= through
        if not self._refreshes or not self.held_good:
            return folded(
                learner, learn_in_order(self._algorithm, learner, _windows(rows), self._plan, through, self._models)
            )
        seen = reduce(Progress.merge, (one.progress for one, _ in self._refreshes), learner.progress)
        begun = self._after.replace(progress=seen, cursors=learner.cursors)
        left = {end: some for end, some in rows.items() if end > self._through}
        steps = learn_in_order(
            self._algorithm, begun, _windows(left), self._plan, through, self._newest, self._before.version
        )
        after, refreshes = folded(begun, steps)
        return after, [*self._refreshes, *refreshes]


def _windows(rows: Mapping[int, Iterable[Slice]]) -> dict[int, list[tuple[Any, int]]]:
    return {end: [(one.rows, one.late) for one in in_place(slices)] for end, slices in rows.items()}
