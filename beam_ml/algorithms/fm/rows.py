"""Rows as the kernels eat them, and the scales of labels and features. Letters: ``n`` rows, ``r`` parameter rows."""

import dataclasses

import numpy as np

from beam_ml.algorithms.fm.spec import Spec
from beam_ml.algorithms.linear.adagrad_rows import canonical
from beam_ml.core.batch import Batch

__all__ = ["Rows", "feature_scales", "joined_labels", "label_scale", "label_sums", "masses", "present"]


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

    def placed(self, n_features: int) -> tuple[np.ndarray, np.ndarray]:
        """Give the rising parameter rows touched, the bias last, and the place of each value among them (z,) int32."""
        numbers, place = np.unique(self.indices, return_inverse=True)
        return np.append(numbers, n_features).astype(np.int64), place.astype(np.int32)


def present(batch: Batch) -> Rows:
    """Give the rows of positive weight; duplicate features of a row are summed."""
    weight = batch.weights
    if batch.weight is not None and not (weight > 0).all():
        batch = batch.take(weight > 0)
        weight = batch.weights
    label = np.zeros(len(batch)) if batch.label is None else batch.label
    return Rows(*canonical(batch), label, weight)


def masses(spec: Spec, rows: Rows) -> np.ndarray:
    """Give the row weight by class (k,); regression: in all."""
    if spec.task == "regression":
        return np.array([rows.weight.sum()])
    return np.bincount(rows.label.astype(np.int64), weights=rows.weight, minlength=2)


def label_sums(spec: Spec, rows: Rows) -> np.ndarray:
    """Give weight, mean and Σ(y − mean)² (3,) of real labels that are normalised; 0 where none are.

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
    """Give what labels are centred at and divided by; 0 and 1 where they are not normalised."""
    centre = float(sums[1])
    deviation = float(np.sqrt(sums[2] / sums[0])) if sums[0] > 0 else 0.0
    return centre, deviation if np.isfinite(deviation) and deviation > 1e-15 * abs(centre) else 1.0


def feature_scales(spec: Spec, sums: np.ndarray) -> np.ndarray:
    """Give the root mean square (r,) of each feature's values other than 0 from Σ weight and Σ weight·x² (r, 2); else 1."""
    scale = np.ones(sums.shape[0])
    if spec.normalize:
        np.divide(sums[:, 1], sums[:, 0], out=scale, where=sums[:, 0] > 0)
    return np.where(scale > 0, np.sqrt(scale), 1.0)
