"""What travels between the steps besides blocks, batches and accumulations."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from beam_ml.core.batch import Batch, Origin
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import Metrics
from beam_ml.core.refresh import Refresh
from beam_ml.formats.block import Reject
from beam_ml.formats.messages import PLACES

__all__ = ["Folded", "Measured", "Rejected", "Slice", "of_batch", "of_reject"]


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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Rejected:
    """Rows of one origin refused for one reason: m of them.

    Attributes:
        source, partition: where they came from; empty when not known.
        reason: what is counted.
        position: (m,) int64 places within the partition; empty when not known.
        count: m.
        detail: one text per row (its beginning, the parser's words), or empty.
    """

    source: str
    partition: str
    reason: str
    position: np.ndarray
    count: int
    detail: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    def records(self) -> Iterator[dict[str, Any]]:
        """Return one plain JSON record a row: source, partition, position, reason, and the detail where there is one.

        A position in a topic is also reported as offset and row within the message.
        """
        for i in range(self.count):
            place = int(self.position[i]) if self.position.size else None
            one = {"source": self.source, "partition": self.partition, "position": place, "reason": self.reason}
            if place is not None and self.source.startswith("kafka://"):
                one |= dict(zip(("offset", "row"), divmod(place, PLACES), strict=True))
            yield one | {"detail": self.detail[i]} if self.detail else one


_NONE = np.zeros(0, dtype=np.int64)


def of_batch(rows: Batch, reason: str) -> Rejected:
    """Record a batch's rows as rejected."""
    origin = rows.origin or Origin("", "")
    return Rejected(
        origin.source, origin.partition, reason, _NONE if rows.position is None else rows.position, len(rows)
    )


def of_reject(origin: Origin | None, reject: Reject) -> Rejected:
    """Record a format's or features' rejects."""
    where = origin or Origin("", "")
    return Rejected(where.source, where.partition, reject.reason, reject.position, len(reject), reject.detail)
