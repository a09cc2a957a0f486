"""A name trained day by day with a ledger, without an engine."""

import dataclasses
from functools import reduce
from typing import Any

import numpy as np

from beam_ml.algorithms import linear
from beam_ml.artefact.records import encode_learner
from beam_ml.beam.versions.keeping import Keeper
from beam_ml.core import accumulation as accumulations
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.refresh import Plan, fold_open
from beam_ml.ledger import Rules
from beam_ml.registry import Manifest, Registry

DAY = 86_400_000_000
ROWS = 400
NEWTON, RULES = linear.Newton(n_features=3), Rules()


def rows(day: int, n: int = ROWS) -> Batch:
    """Rows of one day; the second coefficient turns slowly."""
    rng = np.random.default_rng(day)
    x = rng.normal((10.0, 0.0, -3.0), size=(n, 3))
    score = (x - [10.0, 0.0, -3.0]) @ [1.0, np.cos(day / 20.0), 0.3] - 0.5
    label = (score + rng.logistic(size=n) > 0).astype(float)
    time = day * DAY + np.sort(rng.integers(0, DAY, n))
    return Batch.dense(x, label=label, time=time, origin=Origin("files", f"{day:03}"), position=np.arange(n))


@dataclasses.dataclass
class Trainer:
    """What rounds do between two publishes, in a few lines."""

    registry: Registry
    spec: Any = NEWTON
    algorithm: Any = linear.NEWTON
    rules: Rules = RULES
    name: str = "name"
    keeper: Any = None
    learner: Any = None
    version: int | None = None

    def day(self, *days: int, ledger: bool = True) -> Manifest:
        """Learn days, fold them and publish one version."""
        learner = self.learner or learners.new(self.algorithm, self.spec)
        anchor = self.algorithm.anchor(self.spec, learner.state)
        for day in days:
            accumulator = Accumulator(self.algorithm, self.spec, learner.version, anchor)
            accumulator.add(self.rows(day))
            learner = learners.add_pending(self.algorithm, learner, (day + 1) * DAY, accumulator.result())
        folds = [*fold_open(self.algorithm, learner, Plan({}), published=True)]
        after, refreshes = folds[-1][0], [(one, 0.0) for _, one in folds]
        if self.keeper is None:
            self.keeper = Keeper(self.registry, self.name, self.algorithm, self.rules, DAY)
        kept = self.keeper.kept(self.version, learner, after, refreshes) if ledger else None
        made = self.registry.publish(
            self.name, {"learner": encode_learner(self.algorithm, after)}, parent=self.version,
            round_id=f"{(self.version or 0) + 1}-{'a' * 32}", ledger=kept,
        )  # fmt: skip
        self.keeper.published(made)
        self.learner, self.version = after, made.number
        return made

    def rows(self, day: int) -> Batch:
        """Return what it learns of a day."""
        return rows(day)

    def days(self, stop: int, start: int = 0) -> "Trainer":
        """Learn days one after the other, a version each."""
        for day in range(start, stop):
            self.day(day)
        return self

    def summed(self, days: range) -> Any:
        """Return the partial of some days' rows, accumulated at once without an anchor."""
        parts = [
            accumulations.add(self.algorithm, self.spec, accumulations.empty(self.spec), rows(day)) for day in days
        ]
        return reduce(lambda a, b: accumulations.merge(self.algorithm, self.spec, a, b), parts).parts[0].dated.summary
