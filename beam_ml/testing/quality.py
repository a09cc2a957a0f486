"""The law of gradient learners: many shards learn about as well as one."""

import itertools
import statistics
from functools import reduce
from typing import Any

from beam_ml.core import metrics
from beam_ml.core.batch import Batch
from beam_ml.core.figures import LOSSES
from beam_ml.errors import DeriveRefused
from beam_ml.testing.subject import Subject, require

__all__ = ["shards"]

_SEEDS = 5
_SHARDS = 16
_ROWS = 12_800
_HELD_OUT = 4_000
_FIRST_ROWS = 400
_BATCH_ROWS = 512


def shards(subject: Subject) -> None:
    """With 16 shards per window, every model's held-out loss exceeds that of one shard, a sequential run, within the bound.

    Windows double from 400 rows, so nearly all learning is in a handful of folds: the hardest case. The median over five
    seeds counts.
    """
    spec, bound = subject.spec, subject.law.bound
    excess: list[list[float]] = []
    for seed in range(_SEEDS):
        world = subject.world(seed=seed)
        rows, held_out = world.batch(spec, _ROWS), world.batch(spec, _HELD_OUT, 1)
        sequential, sharded = (_losses(subject, _learned(subject, rows, n), held_out) for n in (1, _SHARDS))
        excess.append([many / one - 1.0 for one, many in zip(sequential, sharded, strict=True)])
    for values in zip(*excess, strict=True):
        found = statistics.median(values)
        require(
            found <= bound,
            f"loss of {_SHARDS} shards exceeds the sequential run's by {found:.4f}, the bound is {bound}",
        )


def _learned(subject: Subject, rows: Batch, n_shards: int) -> Any:
    """Learn window by window, each in shards that start from the same anchor."""
    algorithm, spec = subject.algorithm, subject.spec
    state = algorithm.init(spec)
    bounds = [0, _FIRST_ROWS]
    while bounds[-1] < len(rows):
        bounds.append(2 * bounds[-1])
    for begin, end in itertools.pairwise(bounds):
        window = rows.take(slice(begin, end))
        anchor = algorithm.anchor(spec, state)
        cuts = [i * len(window) // n_shards for i in range(n_shards + 1)]
        partials = [
            subject.accumulate(
                (window.take(slice(k, min(k + _BATCH_ROWS, b))) for k in range(a, b, _BATCH_ROWS)), anchor
            )
            for a, b in itertools.pairwise(cuts)
        ]
        state = subject.fold(state, reduce(subject.merge, partials), [window])
    return state


def _losses(subject: Subject, state: Any, rows: Batch) -> list[float]:
    """Return each model's loss; one that cannot be derived has lost all."""
    found = []
    for kind, model_spec in subject.kinds():
        try:
            model = kind.derive(subject.spec, model_spec, state, rows)
        except DeriveRefused:
            found.append(float("inf"))
            continue
        values = metrics.compute(kind.measure(model, rows))
        found.append(next((values[name] for name in LOSSES if name in values), float("inf")))
    return found
