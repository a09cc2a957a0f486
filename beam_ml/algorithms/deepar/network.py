"""How the spec's network is trained and sampled by the kernels, which need the extra `neural`."""

from typing import Any

import numpy as np

from beam_ml import kernels
from beam_ml.algorithms.deepar.shape import shape_of
from beam_ml.algorithms.deepar.spec import Spec
from beam_ml.algorithms.deepar.windows import Cut
from beam_ml.core.threads import threads

__all__ = ["SERIES", "forecasts", "stepping_of"]

SERIES = 32
"""Series that are forecast in one compiled call; fewer are padded."""

_WARMUP, _DECAY_AFTER = 200, 500
_AVERAGING, _HORIZON = 8.0, 4_000.0


def stepping_of(spec: Spec) -> Any:
    """Return how the kernels make steps."""
    return kernels.neural.Stepping(
        learning_rate=spec.learning_rate, warmup=_WARMUP, decay_after=_DECAY_AFTER, clip=1.0,
        weight_decay=spec.weight_decay, averaging=_AVERAGING, horizon=_HORIZON,
    )  # fmt: skip


def forecasts(spec: Spec, parameters: np.ndarray, windows: Cut, keys: np.ndarray, n_paths: int) -> np.ndarray:
    """Return paths (k, h, n_paths) float64, target units.

    Args:
        spec: of the network.
        parameters: (p,).
        windows: k of them.
        keys: (k, 2) uint32.
        n_paths: of each.
    """
    k = len(keys)
    found = np.empty((k, spec.prediction_length, n_paths))
    kernel = kernels.deepar
    kernels.neural.begin(threads())
    for begin in range(0, k, SERIES):
        mine = np.minimum(np.arange(begin, begin + SERIES), k - 1)
        part = kernel.network.Window(*(array[mine] for array in windows.arrays()))
        w = np.asarray(kernel.sample.paths(shape_of(spec), n_paths, parameters, part, keys[mine]))
        end = min(begin + SERIES, k)
        found[begin:end] = np.moveaxis(w, 0, 1)[: end - begin]
    m, s = windows.exact
    return m[:, None, None] + s[:, None, None] * found
