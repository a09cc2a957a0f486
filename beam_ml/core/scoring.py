"""Which rows can be predicted: one rule for a notebook's batches, for a `Predictor` and in pipelines.

A model answers NaN with NaN, and NaN is no score of a class: such a row is set aside with the reason.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_ml.core.admit import bad_features
from beam_ml.core.algorithm import ModelKind, Predictions
from beam_ml.core.batch import Batch
from beam_ml.core.threads import one_thread
from beam_ml.errors import InvalidBatch

__all__ = ["refuse", "score"]


def score(kind: ModelKind, model: Any, batch: Batch) -> tuple[Predictions, np.ndarray, Mapping[str, np.ndarray]]:
    """Predict the rows that can be predicted.

    Args:
        kind: of the model.
        model: its arrays.
        batch: n rows.

    Returns:
        The predictions of m rows, their row numbers (m,) int64, and reason → row numbers of the others: rows with a feature
        that is not finite, and rows whose prediction is not.
    """
    unusable: dict[str, np.ndarray] = {}
    rows = np.arange(len(batch), dtype=np.int64)
    with one_thread():
        bad = bad_features(batch)
        if bad is not None:
            unusable["non-finite feature"] = rows[bad]
            rows, batch = rows[~bad], batch.take(~bad)
        predictions: Predictions = kind.predict(model, batch)
    finite = np.ones(len(batch), dtype=bool)
    for values in predictions.values():
        if values.dtype.kind == "f":
            finite &= np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if not finite.all():
        unusable["non-finite prediction"] = rows[~finite]
        rows = rows[finite]
        predictions = {name: values[finite] for name, values in predictions.items()}
    return predictions, rows, unusable


def refuse(reason: str, row: int) -> InvalidBatch:
    """Return the error of a row that cannot be predicted, where all must be."""
    return InvalidBatch(f"every row must be predictable; row {row} is not: {reason}.")
