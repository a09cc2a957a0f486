"""Admission: which rows of a batch may be learned from, and why the others may not."""

import numpy as np

from beam_ml.core.algorithm import check_batch
from beam_ml.core.batch import Batch
from beam_ml.core.spec import Spec

__all__ = ["MOST_WEIGHT", "admit", "bad_features"]

MOST_WEIGHT = 1e9
"""Largest weight of a row: beside one of 1e16 a row of weight 1 vanishes from a float64 sum, and a learner that has taken
such a row in would hear no other again."""


def bad_features(batch: Batch) -> np.ndarray | None:
    """Rows with a NaN or infinite feature; None when there is none. The sum of squares decides the common case."""
    values = batch.X if batch.X is not None else batch.values
    assert values is not None  # noqa: S101
    flat = values.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.dot(flat, flat)):  # BLAS: one pass at the speed of memory
            return None
    finite = np.isfinite(values)
    if finite.all():
        return None  # finite values whose squares overflow
    if batch.X is not None:
        bad: np.ndarray = ~finite.all(axis=1)
        return bad
    assert batch.indptr is not None  # noqa: S101
    rows = np.searchsorted(batch.indptr, np.flatnonzero(~finite), side="right") - 1
    mask = np.zeros(len(batch), dtype=bool)
    mask[rows] = True
    return mask


def _bad_labels(spec: Spec, batch: Batch) -> list[tuple[str, np.ndarray]]:
    target = spec.label_target
    if target == "none":
        return []
    if batch.label is None:
        return [("missing label", np.ones(len(batch), dtype=bool))]
    classes = spec.n_label_classes
    if target == "class" and classes == 2:
        known = (batch.label == 0) | (batch.label == 1)
        if known.all():
            return []
    missing = np.isnan(batch.label)
    if target == "real":
        return [("missing label", missing), ("label is infinite", np.isinf(batch.label))]
    if classes != 2:
        known = (batch.label >= 0) & (batch.label < classes) & (batch.label == np.floor(batch.label))
    names = "{0, 1}" if classes == 2 else f"0 … {classes - 1}"
    return [("missing label", missing), (f"label outside {names}", ~known & ~missing)]


def admit(spec: Spec, batch: Batch) -> tuple[Batch, dict[str, np.ndarray]]:
    """Split a batch into the rows to learn from and rejected ones.

    Args:
        spec: says what a label must be.
        batch: n rows.

    Returns:
        The good rows, and reason → row numbers (within `batch`) of the rows that reason rejects; a row that breaks
        several rules counts under the first: non-finite feature, label, weight (0 is harmless, `MOST_WEIGHT` the largest).

    Raises:
        InvalidBatch: the width is not the spec's.
    """
    check_batch(spec, batch)
    if len(batch) == 0:
        return batch, {}
    rules: list[tuple[str, np.ndarray]] = []
    features = bad_features(batch)
    if features is not None:
        rules.append(("non-finite feature", features))
    rules += _bad_labels(spec, batch)
    if batch.weight is not None:
        known = np.isfinite(batch.weight)
        rules.append(("weight not in [0, inf)", ~((batch.weight >= 0) & known)))
        rules.append((f"weight above {MOST_WEIGHT:g}", known & (batch.weight > MOST_WEIGHT)))
    rejected: dict[str, np.ndarray] = {}
    gone: np.ndarray | None = None
    for reason, mask in rules:
        fresh = mask if gone is None else mask & ~gone
        if fresh.any():
            rejected[reason] = np.flatnonzero(fresh)
            gone = fresh if gone is None else gone | fresh
    return (batch, {}) if gone is None else (batch.take(~gone), rejected)
