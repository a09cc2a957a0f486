"""What travels between the steps besides blocks, batches, rejects and accumulations."""

import dataclasses
from collections.abc import Mapping

from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import Metrics
from beam_ml.core.refresh import Refresh

__all__ = ["Folded", "Measured", "Slice"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Rows of one window.

    Attributes:
        rows: n rows.
        late: how many of them come after their own window was folded: n or 0.
    """

    rows: Batch
    late: int = 0


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A learner and the folds that led to it.

    Attributes:
        learner: after the last fold.
        refreshes: one per window, in order; their `models` are `Model` records.
    """

    learner: Learner
    refreshes: tuple[Refresh, ...]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The results of one model, or several versions of it, on some rows.

    Attributes:
        metrics: sums over the rows; `beam_ml.core.metrics.compute` derives figures.
        versions: version → rows measured with it; 0: a model that is in no registry.
    """

    metrics: Metrics
    versions: Mapping[int, int]
