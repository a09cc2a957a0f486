"""A further pass over sampled rows, judged by rows it did not learn from. Letters as in `machine`; ``n`` sampled rows.

Runs of a cold window start from draws and each see few rows, so what they agree on is less than one run over all rows
finds: factors hardly move. A pass from where their sum ends starts from what all of them found.
"""

import dataclasses

import numpy as np

from beam_ml.algorithms.fm.growing import Run
from beam_ml.algorithms.fm.machine import State, anchor, empty
from beam_ml.algorithms.fm.rows import Rows
from beam_ml.algorithms.fm.sampled import Sampled, row_losses
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.algorithms.shared.moves import MIN_SAMPLE_ROWS
from beam_ml.algorithms.shared.places import place_of
from beam_ml.core.batch import Batch

__all__ = ["gone_on", "half", "passed"]

_PASSES = 3
"""Passes at most: later ones learn the rows by heart."""


def gone_on(spec: Spec, state: State, data: Rows) -> State:
    """Return a state after passes over every second sampled row, as long as the loss of the others falls.

    Args:
        spec: the spec.
        state: after the fold of a window of several runs.
        data: rows of the window, features numbered by their places in the state; fewer than 256 in a half: it stays.
    """
    mine, others = (half(data, at) for at in (0, 1))
    common = np.zeros(state.theta.shape[0], dtype=bool)
    tested = Sampled.of(spec, others, (state.centre, state.scale, float(state.spread)), state.label, common)
    if tested is None or others.weight.size < MIN_SAMPLE_ROWS or anchor(spec, state) is None:
        return state
    judge = tested

    def loss(theta: np.ndarray) -> float:
        return float(judge.weight @ row_losses(spec, judge.scores(theta[judge.rows]), judge.label))

    least = loss(state.theta)
    for _ in range(_PASSES):
        theta = passed(spec, state, mine)
        found = loss(theta)
        if not found < least:  # NaN is not
            break
        state, least = dataclasses.replace(state, theta=theta), found
    return state


def half(rows: Rows, at: int) -> Rows:
    """Return every second row, from row `at` on."""
    count = np.diff(rows.indptr)
    mine = np.arange(count.size) % 2 == at
    of = np.repeat(mine, count)
    bounds = np.concatenate([[0], np.cumsum(count[mine])])
    return Rows(bounds, rows.indices[of], rows.values[of], rows.label[mine], rows.weight[mine])


def passed(spec: Spec, state: State, data: Rows) -> np.ndarray:
    """Return the parameters after a pass over rows, features numbered by their places, from a state that has rows."""
    numbers, weight = state.rows[data.indices].astype(np.int32), data.weight / data.weight.mean()
    batch = Batch.csr(data.indptr, numbers, data.values, spec.n_features, label=data.label, weight=weight)
    run = Run(spec, empty(spec), anchor(spec, state))
    run.add(batch)
    found = run.partial()
    theta = state.theta.copy()
    theta[place_of(state.rows, found.open_rows)] += found.open_moved
    return theta
