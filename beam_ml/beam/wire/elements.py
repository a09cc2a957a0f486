"""What travels between the steps besides blocks, batches, rejects and accumulations."""

import dataclasses
from collections.abc import Callable, Mapping

from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import Metrics
from beam_ml.core.refresh import Refresh

__all__ = ["Folded", "Later", "Measured", "Slice"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Rows of one window.

    Attributes:
        rows: n rows.
        late: how many of them come after their own window was folded: n or 0.
        set_back: how many of the last ones have had their event time set back (`beam_ml.core.leaps`).

    >>> piece = Slice(Batch.dense([[1.0], [2.0]]))
    >>> len(piece.rows), piece.late
    (2, 0)
    """

    rows: Batch
    late: int = 0
    set_back: int = 0


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A learner and the folds that led to it.

    Attributes:
        learner: after the last fold.
        refreshes: one per window, in order; their `models` are `Model` records.

    >>> from beam_ml import fit, pca
    >>> one = Folded(fit(pca.Spec(n_features=1), [Batch.dense([[1.0], [3.0]])]), ())
    >>> one.learner
    Learner(pca, refresh 1, 2 rows)
    """

    learner: Learner
    refreshes: tuple[Refresh, ...]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The results of one model, or several versions of it, on some rows.

    Attributes:
        metrics: sums over the rows; `beam_ml.core.metrics.compute` derives figures.
        versions: version → rows measured with it; 0: a model that is in no registry.

    >>> import numpy as np
    >>> from beam_ml.core import metrics
    >>> one = Measured(metrics.regression(np.array([1.0, 3.0]), np.array([1.0, 5.0]), np.ones(2)), {7: 2})
    >>> metrics.compute(one.metrics)["mse"], one.versions[7]
    (2.0, 2)
    """

    metrics: Metrics
    versions: Mapping[int, int]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Later:
    """A value of a step's state whose bytes are made when a bundle ends, once.

    Attributes:
        make: returns the bytes.

    >>> Later(lambda: b"state").data
    b'state'
    """

    make: Callable[[], bytes]

    @property
    def data(self) -> bytes:
        """The bytes."""
        return self.make()

    @staticmethod
    def of(data: bytes) -> "Later":
        """Return the value that has these bytes."""
        return Later(lambda: data)
