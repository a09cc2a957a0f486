"""Admission: which rows of a batch may be learned from, and why the others may not."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_ml.core.algorithm import check_batch
from beam_ml.core.batch import Batch
from beam_ml.core.leaps import SET_BACK
from beam_ml.core.limits import ABSOLUTE, Limits, Seen, clipped, far_beyond, feature_name
from beam_ml.core.spec import Spec

__all__ = ["LEAST_WEIGHT", "Admitted", "admit", "bad_features"]

LEAST_WEIGHT = 1e-100
"""Smallest weight of a row that is not 0, and smallest factor that weights are aged by: products of smaller ones lose their
digits, and then divide 0 by 0. What ages further is 0."""


def _values(batch: Batch) -> np.ndarray:
    values = batch.X if batch.X is not None else batch.values
    assert values is not None  # noqa: S101
    return values


def _squares(batch: Batch) -> float:
    """Return the sum of squares of all features: BLAS, one pass at the speed of memory, which decides the common case."""
    flat = _values(batch).reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.dot(flat, flat))


def bad_features(batch: Batch, squares: float | None = None) -> np.ndarray | None:
    """Return the mask of rows with a NaN or infinite feature; None when there is none.

    Args:
        batch: n rows.
        squares: the sum of squares of all features, where it is known.
    """
    if np.isfinite(_squares(batch) if squares is None else squares):
        return None
    values = _values(batch)
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


def _large(batch: Batch, most: float, names: Sequence[str], squares: float) -> list[tuple[str, np.ndarray]]:
    """Return, by column, the rows with a feature whose magnitude is above the bound."""
    if squares <= most * most:
        return []
    flat = _values(batch).reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        at = np.flatnonzero(np.isfinite(flat) & (np.abs(flat) > most))
    if batch.X is not None:
        rows, columns = np.divmod(at, max(1, batch.n_features))
    else:
        assert batch.indptr is not None  # noqa: S101
        assert batch.indices is not None  # noqa: S101
        rows, columns = np.searchsorted(batch.indptr, at, side="right") - 1, batch.indices[at]
    order = np.argsort(columns, kind="stable")
    rows, columns = rows[order], columns[order]
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    found: dict[str, np.ndarray] = {}
    for column, mine in zip(columns[starts].tolist(), np.split(rows, starts[1:]), strict=False):
        reason = f"{feature_name(column, names)} beyond {most:g}"
        if reason not in found:
            found[reason] = np.zeros(len(batch), dtype=bool)
        found[reason][mine] = True
    return list(found.items())


def _negative(batch: Batch) -> list[tuple[str, np.ndarray]]:
    values = _values(batch)
    if not (values < 0.0).any():
        return []
    bad = np.zeros(len(batch), dtype=bool)
    if batch.X is not None:
        bad[:] = (batch.X < 0.0).any(axis=1)
        return [("count below 0", bad)]
    assert batch.indptr is not None  # noqa: S101
    bad[np.searchsorted(batch.indptr, np.flatnonzero(values < 0.0), side="right") - 1] = True
    return [("count below 0", bad)]


def _weights(weight: np.ndarray, most: float) -> list[tuple[str, np.ndarray]]:
    known = np.isfinite(weight)
    return [
        ("weight not in [0, inf)", ~((weight >= 0) & known)),
        (f"weight above {most:g}", known & (weight > most)),
        (f"weight below {LEAST_WEIGHT:g}", (weight > 0) & (weight < LEAST_WEIGHT)),
    ]


class Admitted(NamedTuple):
    """What `admit` makes of a batch.

    Attributes:
        rows: to learn from.
        rejected: reason → row numbers, within the batch, of the rows that reason rejects.
        adjusted: what was changed → how many of the rows to learn from have a value so changed.
    """

    rows: Batch
    rejected: dict[str, np.ndarray]
    adjusted: dict[str, int]


def admit(
    spec: Spec,
    batch: Batch,
    limits: Limits = ABSOLUTE,
    seen: Seen | None = None,
    names: Sequence[str] = (),
    set_back: int = 0,
) -> Admitted:
    """Split a batch into the rows to learn from and rejected ones.

    Args:
        spec: says what a label must be.
        batch: n rows.
        limits: how large values may be.
        seen: what earlier windows held, which `limits.deviations` goes by.
        names: of the first features, for reasons; of sparse rows, these are the numbers.
        set_back: how many of the last rows have had their event time set back (`beam_ml.core.leaps`).

    Returns:
        The good rows, the rejected ones, and what was changed. A row that breaks several rules counts under the first:
        non-finite or large feature, the algorithm's own (`Spec.refused`, counts below 0), label, weight (0 is harmless), far
        beyond what was seen.

    Raises:
        InvalidBatch: the width is not the spec's.
    """
    check_batch(spec, batch)
    if len(batch) == 0:
        return Admitted(batch, {}, {})
    names = names or batch.names or ()
    rules: list[tuple[str, np.ndarray]] = []
    squares = _squares(batch)
    features = bad_features(batch, squares)
    if features is not None:
        rules.append(("non-finite feature", features))
    rules += _large(batch, limits.feature, names, squares)
    if spec.feature_rule == "count":
        rules += _negative(batch)
    rules += spec.refused(batch)
    rules += _bad_labels(spec, batch)
    if spec.label_target == "real" and batch.label is not None:
        rules.append((f"label beyond {limits.label:g}", np.abs(batch.label) > limits.label))
    if batch.weight is not None:
        rules += _weights(batch.weight, limits.weight)
    good, rejected = _split(batch, rules)
    adjusted: dict[str, int] = {}
    if limits.deviations != "any" and len(good):
        good, rejected, adjusted = _within(
            spec, batch, good, rejected, limits.deviations, limits.far_values == "clip", seen, names
        )
    if set_back:
        set_back -= sum(int((rows >= len(batch) - set_back).sum()) for rows in rejected.values())
    return Admitted(good, rejected, adjusted | {SET_BACK: set_back} if set_back else adjusted)


def _within(
    spec: Spec,
    batch: Batch,
    good: Batch,
    rejected: dict[str, np.ndarray],
    deviations: float,
    clip: bool,
    seen: Seen | None,
    names: Sequence[str],
) -> Admitted:
    """Reject or clip what is far beyond what was seen, of the good rows of a batch."""
    judged = good if spec.label_target == "real" else good.replace(label=None)
    if clip:
        moved, adjusted = clipped(judged, deviations, seen, names)
        return Admitted(moved.replace(label=moved.label if judged is good else good.label), rejected, adjusted)
    kept, far = _split(good, far_beyond(judged, deviations, seen, names))
    if not far:
        return Admitted(good, rejected, {})
    places = np.arange(len(batch))
    if rejected:
        places = np.delete(places, np.concatenate(list(rejected.values())))
    return Admitted(kept, rejected | {reason: places[rows] for reason, rows in far.items()}, {})


def _split(batch: Batch, rules: Sequence[tuple[str, np.ndarray]]) -> tuple[Batch, dict[str, np.ndarray]]:
    """Return the rows that keep every rule, and by reason the numbers of the others."""
    rejected: dict[str, np.ndarray] = {}
    gone: np.ndarray | None = None
    for reason, mask in rules:
        fresh = mask if gone is None else mask & ~gone
        if fresh.any():
            rejected[reason] = np.flatnonzero(fresh)
            gone = fresh if gone is None else gone | fresh
    return (batch, {}) if gone is None else (batch.take(~gone), rejected)
