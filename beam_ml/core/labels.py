"""Labels of two classes as people write them: −1 and 1, 1 and 2; the smaller becomes 0, the larger 1, and that is kept.

Letters: ``n`` rows.
"""

from collections.abc import Iterable

import numpy as np

from beam_ml.core.batch import Batch
from beam_ml.core.spec import Spec
from beam_ml.errors import InvalidBatch

__all__ = ["BINARY", "Labels", "Pair", "rule"]

Pair = tuple[float, float]
"""The numbers that stand for the classes 0 and 1."""
BINARY: Pair = (0.0, 1.0)

_SIGNED: Pair = (-1.0, 1.0)
_OUTSIDE = -1.0
"""What a label becomes that is neither of the two: no class, so that its row is rejected."""
_SHOWN = 5


def rule(pair: Pair | None) -> str:
    """Return the rule in words; empty where labels are 0 and 1.

    >>> rule((-1.0, 1.0))
    'labels -1 → 0, 1 → 1'
    """
    return "" if pair is None or pair == BINARY else f"labels {pair[0]:g} → 0, {pair[1]:g} → 1"


class Labels:
    """The rule by which labels become 0 and 1, decided at the first labels that show it.

    Args:
        spec: of the learner; of other specs than those of two classes the labels stay as they are.
        pair: what an earlier learner has decided; None: nothing yet.

    >>> from beam_ml import linear
    >>> labels = Labels(linear.Newton(n_features=1))
    >>> labels.coded(Batch.dense([[0.0], [0.0]], label=[1, 2])).label.tolist(), labels.pair
    ([0.0, 1.0], (1.0, 2.0))
    """

    def __init__(self, spec: Spec, pair: Pair | None = None) -> None:
        self._spec, self._pair = spec, pair
        self._binary = spec.label_target == "class" and spec.n_label_classes == 2
        self._seen: set[float] = set()

    @property
    def pair(self) -> Pair | None:
        """The two numbers; None: not decided yet, 0 and 1 if anything."""
        return self._pair

    def look(self, batches: Iterable[Batch]) -> None:
        """Decide by all labels of several batches.

        Raises:
            InvalidBatch: they are neither 0 and 1 nor two whole numbers.
        """
        if self._binary and self._pair is None:
            self._decide({value for batch in batches for value in _distinct(batch.label)})

    def coded(self, batch: Batch) -> Batch:
        """Return the batch with labels 0 and 1; any other becomes one that no class has.

        Raises:
            InvalidBatch: the labels contradict those before them.
        """
        if not self._binary or batch.label is None:
            return batch
        if self._pair is None:
            self._decide(_distinct(batch.label))
        if self._pair is None or self._pair == BINARY:
            return batch
        negative, positive = self._pair
        label = batch.label
        other = ~((label == negative) | (label == positive) | np.isnan(label))
        if other.any() and bool(np.isin(label[other], BINARY).any()):
            raise self._refusal({*self._pair, *_distinct(label)})
        # A missing label stays missing: its row is rejected for that.
        coded = np.select([other, np.isnan(label)], [_OUTSIDE, np.nan], (label == positive).astype(np.float64))
        return batch.replace(label=coded)

    def _decide(self, values: set[float]) -> None:
        found = self._seen | values
        if found <= {*BINARY}:
            self._seen = found
            return
        if found >= {*BINARY}:
            self._pair = BINARY
            return
        pair = _SIGNED if found <= {*_SIGNED} else tuple(sorted(found))
        whole = all(value == np.floor(value) for value in pair)
        # What was learned as 0 or 1 must mean the same by the rule.
        if len(pair) != 2 or not whole or any(value != pair[int(value)] for value in self._seen):
            raise self._refusal(found)
        self._pair = pair

    def _refusal(self, found: set[float]) -> InvalidBatch:
        shown = ", ".join(f"{value:g}" for value in sorted(found)[:_SHOWN]) + (" …" if len(found) > _SHOWN else "")
        message = (
            f"Batch.label must be 0 or 1 for {self._spec.algorithm}, or one of two whole numbers that a list of batches "
            f"shows from the start (the smaller becomes 0); got {shown}."
        )
        return InvalidBatch(message)


def _distinct(label: np.ndarray | None) -> set[float]:
    """Return the finite values of labels; one pass decides the common case."""
    if label is None or not len(label):
        return set()
    positive = label == 1.0
    if bool((positive | (label == 0.0)).all()):
        return {float(value) for value in BINARY if bool(positive.any() if value else not positive.all())}
    return set(np.unique(label[np.isfinite(label)]).tolist())
