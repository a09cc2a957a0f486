"""How workers of `linear.newton` score rows by their anchor, so that those that rank high are drawn more often."""

from collections.abc import Callable

import numpy as np

from beam_ml.algorithms.linear.newton.learning import Anchor
from beam_ml.algorithms.linear.newton.losses import LOSSES
from beam_ml.algorithms.linear.newton.spec import Newton
from beam_ml.core.batch import Batch

__all__ = ["scorer"]


def scorer(spec: Newton, anchor: Anchor) -> Callable[[Batch], np.ndarray] | None:
    """Return the function that scores rows by the anchor; None where labels are no classes."""
    loss = LOSSES[spec.loss]
    if loss.target != "class":
        return None
    # One product; rows far from 0 cost digits that a rank can spare.
    coefficients = anchor.coefficients
    bias = float(anchor.intercept) - float(anchor.origin @ coefficients)

    def score(batch: Batch) -> np.ndarray:
        found: np.ndarray = loss.mean(batch.dense_x @ coefficients + bias)
        return found

    return score
