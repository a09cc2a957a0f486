"""Rows as the kernels eat them, and the scale of labels. Letters: ``n`` rows, ``r`` parameter rows."""

import dataclasses

import numpy as np

from beam_ml.algorithms.fm.spec import Spec
from beam_ml.algorithms.shared.sparse import canonical
from beam_ml.core.batch import Batch

__all__ = ["Rows", "in_frames", "joined_labels", "label_scale", "label_sums", "masses", "present", "tempered"]

FEWEST_ROWS = 256.0
"""Rows' weight that stays behind a step, however short the half-life."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """Rows of positive weight.

    Attributes:
        indptr, indices, values: CSR features, columns rising within each row.
        label: (n,).
        weight: (n,) > 0.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    label: np.ndarray
    weight: np.ndarray

    def placed(self, n_features: int, more: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the rising parameter rows touched, the bias last, and the place of each value among them (z,) int32.

        Args:
            n_features: number of features, and so of the bias.
            more: further rows that count as touched.
        """
        place = np.zeros(n_features, dtype=np.int32)
        place[self.indices] = 1
        if more is not None:
            place[more] = 1
        numbers = np.flatnonzero(place)
        place[numbers] = np.arange(numbers.size, dtype=np.int32)
        return np.append(numbers, n_features), place[self.indices]


def present(batch: Batch) -> Rows:
    """Return the rows of positive weight; duplicate features of a row are summed."""
    weight = batch.weights
    if batch.weight is not None and not (weight > 0).all():
        batch = batch.take(weight > 0)
        weight = batch.weights
    label = np.zeros(len(batch)) if batch.label is None else batch.label
    return Rows(*canonical(batch), label, weight)


def tempered(spec: Spec, batch: Batch) -> np.ndarray:
    """Return the weights (n,) > 0 of a batch's present rows in steps: their age counts less where few rows would be left.

    A row of age a weighs 2^(−β·a / half_life), β ≤ 1 the largest at which `FEWEST_ROWS` rows' weight, or all rows, remain.
    """
    weight = batch.weights
    rows = weight > 0
    if spec.half_life is None or batch.time is None or not rows.any():
        return weight[rows]
    time = batch.time[rows]
    age = (time.max() - time) * (1e-6 / spec.half_life)
    least = min(FEWEST_ROWS, 0.99 * age.size)
    low, high = 0.0, 1.0
    if np.exp2(-age).sum() >= least:
        return weight[rows]
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.exp2(-middle * age).sum() >= least else (low, middle)
    return np.asarray(np.exp2(np.log2(weight[rows]) + (1.0 - low) * age))


def masses(spec: Spec, rows: Rows) -> np.ndarray:
    """Return the row weight by class (k,); regression: in all."""
    if spec.task == "regression":
        return np.array([rows.weight.sum()])
    return np.bincount(rows.label.astype(np.int64), weights=rows.weight, minlength=2)


def label_sums(spec: Spec, rows: Rows) -> np.ndarray:
    """Return weight, mean and Σ(y − mean)² (3,) of real labels that are normalised; 0 where none are.

    Without a bias they are not centred: the mean is 0 then.
    """
    if spec.task != "regression" or not spec.normalize_label or rows.weight.size == 0:
        return np.zeros(3)
    total = rows.weight.sum()
    mean = rows.weight @ rows.label / total if spec.use_bias else 0.0
    return np.array([total, mean, rows.weight @ np.square(rows.label - mean)])


def joined_labels(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Add two sums of labels (Chan, Golub and LeVeque 1983)."""
    if a[0] == 0.0 or b[0] == 0.0:
        return b if a[0] == 0.0 else a
    total, gap = a[0] + b[0], b[1] - a[1]
    return np.array([total, a[1] + gap * b[0] / total, a[2] + b[2] + gap * gap * a[0] * b[0] / total])


def label_scale(sums: np.ndarray) -> tuple[float, float]:
    """Return what labels are centred at and divided by; 0 and 1 where they are not normalised."""
    centre = float(sums[1])
    deviation = float(np.sqrt(sums[2] / sums[0])) if sums[0] > 0 else 0.0
    return centre, deviation if np.isfinite(deviation) and deviation > 1e-15 * abs(centre) else 1.0


def in_frames(
    indptr: np.ndarray, place: np.ndarray, values: np.ndarray, centre: np.ndarray, scale: np.ndarray, farthest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return CSR bounds, places and values of rows in their features' frames; zeros of numbers with a centre included.

    Args:
        indptr: (n + 1,) bounds of CSR rows.
        place: (z,) of each value among the features.
        values: (z,).
        centre: (r,) of the features.
        scale: (r,); 0: the feature does not vary.
        farthest: most scales from the centre that a value counts.
    """
    from beam_ml.kernels.fm import frames

    everywhere = np.flatnonzero(centre != 0)
    most = values.size + everywhere.size * (indptr.size - 1)
    bounds, places, out = np.empty(indptr.size, np.int64), np.empty(most, np.int32), np.empty(most)
    held = frames.frame(indptr, place, values, centre, scale, farthest, everywhere, bounds, places, out)
    return bounds, places[:held], out[:held]
