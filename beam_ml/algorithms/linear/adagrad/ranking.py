"""How workers of `linear.adagrad` score rows by their anchor, so that those that rank high are drawn more often."""

from collections.abc import Callable

import numpy as np

from beam_ml.algorithms.linear.adagrad import losses
from beam_ml.algorithms.linear.adagrad.arrays import Anchor
from beam_ml.algorithms.linear.adagrad.derive import model_of, scores
from beam_ml.algorithms.linear.adagrad.fold import LEARNS
from beam_ml.algorithms.linear.adagrad.shape import shape_of_tables
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad
from beam_ml.algorithms.shared import thresholds
from beam_ml.core.batch import Batch

__all__ = ["scorer"]


def scorer(spec: AdaGrad, anchor: Anchor) -> Callable[[Batch], np.ndarray] | None:
    """Return the function that scores rows by the first variant that still learns; None where classes are not two."""
    live = np.flatnonzero(anchor.status == LEARNS)
    if spec.task != "binary" or live.size == 0:
        return None
    which, code = int(live[0]), losses.code_of(spec)
    shape = shape_of_tables(spec, anchor.moments, anchor.rows, float(anchor.mass.sum()))
    model = model_of(spec, which, anchor.rows, anchor.theta[:, which], shape, thresholds.NEUTRAL, 1)
    return lambda batch: losses.prediction(code, scores(model, batch))
