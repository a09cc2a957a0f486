"""How workers of `fm` score rows by their anchor, so that those that rank high are drawn more often."""

from collections.abc import Callable
from functools import partial

import numpy as np

from beam_ml.algorithms.fm.derive import machine_of, predicted
from beam_ml.algorithms.fm.machine import Anchor
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.core.batch import Batch

__all__ = ["scorer"]


def scorer(spec: Spec, anchor: Anchor) -> Callable[[Batch], np.ndarray] | None:
    """Return the function that scores rows by the anchor's machine; None where labels are no classes."""
    return None if spec.task == "regression" else partial(predicted, machine_of(spec, anchor))
