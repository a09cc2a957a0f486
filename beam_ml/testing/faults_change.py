"""Faults of learners in a world that changes; as `beam_ml.testing.faults`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.batch import Batch
from beam_ml.core.refresh import LOSSES
from beam_ml.errors import DeriveRefused
from beam_ml.testing.drifts.reference import constant, dense, loss_of
from beam_ml.testing.drifts.rows import task_of
from beam_ml.testing.faults import Mutate

__all__ = [
    "accumulates",
    "any_scale",
    "counts_a_part",
    "drops_the_unlike",
    "few_rows",
    "labels_mixed",
    "learned_as",
    "lies_far",
    "one_label",
    "one_row",
    "scaled_by_noise",
    "shards_centred",
    "takes_the_first",
    "wrecked_by",
]

_UNLIKE = 1.05
_STILL_ROWS = 200
_AMPLIFIED = 1e6


def accumulates(change: Callable[[Batch], Batch]) -> Mutate:
    """Rows are changed before they are accumulated; nothing grows in place."""

    def mutate(algorithm: Algorithm) -> Algorithm:
        def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
            return algorithm.accumulate(spec, partial, change(batch) if len(batch) else batch, anchor)

        return dataclasses.replace(algorithm, accumulate=accumulate, grow=None)

    return mutate


def _features(batch: Batch, change: Callable[[np.ndarray], np.ndarray]) -> Batch:
    """Change a batch's features, dense or stored ones."""
    if batch.X is not None:
        return batch.replace(X=np.ascontiguousarray(change(batch.X)))
    assert batch.values is not None  # noqa: S101
    return batch.replace(values=change(batch.values))


def drops_the_unlike(algorithm: Algorithm) -> Any:
    """A window on which the present model is worse than a constant is dropped, as if the rows were at fault."""

    def fold(spec: Any, state: Any, partial: Any, sample: Any, *past: Any) -> Any:
        if sample is not None and algorithm.weight(state) > 0.0:
            task = task_of(spec)
            prior = loss_of(task, constant(task, sample)(sample), sample)
            if min(_losses(algorithm, spec, state, sample), default=0.0) > _UNLIKE * prior:
                return state
        return algorithm.fold(spec, state, partial, sample, *past)

    return fold


def _losses(algorithm: Algorithm, spec: Any, state: Any, rows: Batch) -> list[float]:
    found = []
    for name, kind in algorithm.models.items():
        try:
            model = kind.derive(spec, _any_of(kind, name), state, rows)
        except DeriveRefused:
            continue
        values = metrics.compute(kind.measure(model, rows))
        found += [next((values[loss] for loss in LOSSES if loss in values), float("inf"))]
    return found


def _any_of(kind: Any, name: str) -> Any:
    """Return a model spec of a kind: settings that must be given are numbers of clusters or components."""
    needed = [key for key, field in kind.spec.model_fields.items() if field.is_required()]
    return kind.spec.parse({"kind": name, **dict.fromkeys(needed, 1)})


def counts_a_part(algorithm: Algorithm) -> Any:
    """Every window but the first counts a tenth."""

    def fold(spec: Any, state: Any, partial: Any, sample: Any, *past: Any) -> Any:
        late = algorithm.weight(state) > 0.0
        return algorithm.fold(spec, state, algorithm.scale(spec, partial, 0.1) if late else partial, sample, *past)

    return fold


def any_scale(factor: float) -> Mutate:
    """Rows are learned from at another length than they are predicted at."""

    def longer(batch: Batch) -> Batch:
        return _features(batch, lambda x: x * x.dtype.type(factor))

    return learned_as(longer)


def learned_as(change: Callable[[Batch], Batch]) -> Mutate:
    """Rows are changed before they are accumulated, and in the sample that a fold sees."""

    def mutate(algorithm: Algorithm) -> Algorithm:
        def fold(spec: Any, state: Any, partial: Any, sample: Any, *past: Any) -> Any:
            samples = (rows if rows is None else change(rows) for rows in (sample, *past))
            return algorithm.fold(spec, state, partial, *samples)

        return dataclasses.replace(accumulates(change)(algorithm), fold=fold)

    return mutate


def shards_centred(batch: Batch) -> Batch:
    """Every worker centres its rows by themselves, and nobody merges the means."""
    return _features(batch, lambda x: x - x.mean(axis=0, dtype=x.dtype))


def takes_the_first(algorithm: Algorithm) -> Any:
    """Of two states that merge the first one is kept."""
    del algorithm

    def merge_states(spec: Any, a: Any, b: Any, *samples: Any) -> Any:
        del spec, b, samples
        return a

    return merge_states


def labels_mixed(algorithm: Algorithm) -> Algorithm:
    """Labels go to other rows than their own."""

    def mixed(batch: Batch) -> Batch:
        return batch if batch.label is None else batch.replace(label=np.roll(batch.label, len(batch) // 2))

    return learned_as(mixed)(algorithm)


def one_row(batch: Batch) -> bool:
    """Return whether a batch has one row."""
    return len(batch) == 1


def few_rows(batch: Batch) -> bool:
    """Return whether hardly any rows of a batch are left."""
    return 0 < len(batch) < 64


def lies_far(batch: Batch) -> bool:
    """Return whether a row lies far from all others."""
    return len(batch) > 0 and float(np.abs(dense(batch)).max()) > 60.0


def one_label(batch: Batch) -> bool:
    """Return whether rows have one label."""
    return batch.label is not None and len(batch) > 1 and float(np.ptp(batch.label)) == 0.0


def wrecked_by(what: Callable[[Batch], bool]) -> Mutate:
    """Once such rows have come, every second feature is at a wrong scale forever, which changes shares of counts too."""

    def mutate(algorithm: Algorithm) -> Algorithm:
        met: list[bool] = []

        def look(batch: Batch) -> Batch:
            if what(batch):
                met.append(True)
            return batch

        def seen(batch: Batch) -> Batch:
            if not met:
                return batch
            places = np.arange(batch.n_features) if batch.indices is None else batch.indices
            return _features(batch, lambda x: x * np.where(places % 2 == 0, 1e3, 1.0).astype(x.dtype))

        return _measured(accumulates(look)(algorithm), seen)

    return mutate


def scaled_by_noise(algorithm: Algorithm) -> Algorithm:
    """A feature that has been constant is divided by the rounding of its own sums, and so is its first move."""
    low: dict[int, float] = {}
    high: dict[int, float] = {}
    rows: list[int] = [0]
    still: dict[int, float] = {}

    def look(batch: Batch) -> Batch:
        x = dense(batch)
        rows[0] += len(batch)
        for j in range(x.shape[1]):
            low[j] = min(low.get(j, np.inf), float(x[:, j].min()))
            high[j] = max(high.get(j, -np.inf), float(x[:, j].max()))
            if rows[0] >= _STILL_ROWS and low[j] == high[j]:
                still[j] = low[j]
        return batch

    def seen(batch: Batch) -> Batch:
        x = dense(batch)
        for j, value in still.items():
            x[:, j] = value + (x[:, j] - value) * _AMPLIFIED
        return batch.replace(X=x, indptr=None, indices=None, values=None)

    return _measured(accumulates(look)(algorithm), seen)


def _measured(algorithm: Algorithm, seen: Callable[[Batch], Batch]) -> Algorithm:
    """Models see rows as `seen` shows them."""

    def wrapped(kind: Any) -> Any:
        return dataclasses.replace(
            kind,
            predict=lambda model, batch: kind.predict(model, seen(batch)),
            measure=lambda model, batch: kind.measure(model, seen(batch)),
        )

    return dataclasses.replace(algorithm, models={name: wrapped(kind) for name, kind in algorithm.models.items()})
