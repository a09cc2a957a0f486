"""Passes over documents: batches of one shape, a step for each, compiled once."""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from beam_ml.kernels.neural.devices import on_all, rows_apart
from beam_ml.kernels.neural.training import Stepping, Training, stepper, to_arrays, to_device
from beam_ml.kernels.ntm.network import Network, loss

__all__ = ["Documents", "compiled", "train"]

_log = logging.getLogger("beam_ml.kernels")
_SAY_EVERY_S = 30.0


@dataclasses.dataclass(frozen=True)
class Documents:
    """Rows of counts in CSR form, with weights (n,)."""

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    weight: np.ndarray

    def dense(self, rows: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the counts (height, width) and weights (height,) of some rows, filled up with rows of weight 0."""
        counts, weight = np.zeros((height, width), np.float32), np.zeros(height, np.float32)
        weight[: len(rows)] = self.weight[rows]
        for i, row in enumerate(rows):
            mine = slice(int(self.indptr[row]), int(self.indptr[row + 1]))
            counts[i, self.indices[mine]] = self.values[mine]
        return counts, weight


@functools.lru_cache(maxsize=32)
def compiled(network: Network, stepping: Stepping) -> Callable[[Training, Any], tuple[Training, Any]]:
    """Return the compiled step of a network; its memory is handed on from step to step."""
    return jax.jit(stepper(functools.partial(loss, network), stepping), donate_argnums=0)


def train(
    network: Network,
    stepping: Stepping,
    training: Training,
    documents: Documents,
    passes: list[np.ndarray],
    rows: int,
    shares: np.ndarray,
    warmup: int,
) -> Training:
    """Return training after some passes, each of which is a list of documents in order.

    Args:
        network: see there.
        stepping: see there.
        training: before, in arrays of numpy.
        documents: all that passes refer to.
        passes: by pass, the numbers of its documents.
        rows: of a batch.
        shares: log of the words' shares (d,).
        warmup: steps over which the prior's weight rises.
    """
    step, done, said = compiled(network, stepping), int(training.steps) + int(training.skipped), time.monotonic()
    batches = [order[begin : begin + rows] for order in passes for begin in range(0, len(order), rows)]
    carried = to_device(training)
    constant = on_all(np.asarray(shares, np.float32))
    for number, batch in enumerate(batches):
        counts, weight = documents.dense(batch, rows, shares.size)
        warmth = np.asarray(min(1.0, (done + number + 1) / max(warmup, 1)), np.float32)
        given = rows_apart({"counts": counts, "weight": weight, "warmth": warmth})
        carried, _ = step(carried, {**given, "shares": constant})
        if time.monotonic() - said > _SAY_EVERY_S:
            said = time.monotonic()
            _log.info("Trained %d of %d batches of this fold.", number + 1, len(batches))
    return to_arrays(carried)
