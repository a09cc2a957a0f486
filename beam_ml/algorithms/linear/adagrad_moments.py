"""Running moments of features (and of a real label): what steps and penalties are scaled by.

A table has one row a feature and five columns: weight W, mean, and Σ w(x − mean)ᵏ for k = 2, 3, 4; tables add exactly
(Chan, Golub and LeVeque 1979; Pébay 2008). Of sparse features only the stored values count, around 0. Without a bias all
are around 0 and the mean stands as 0, for what is centred would bring an intercept back. Letters: ``m`` rows of a table,
``n`` rows of a batch, ``d`` features; a real label is one more row, numbered d.

The scale of a feature is √(Σz⁴/Σz²), z around the mean or 0. An indicator that is 1 in a thousandth of the rows has the
standard deviation 0.03, and a step in units of 1/0.03 would move its score by thirty times the learning rate when it is
first seen; its scale by this measure is 1.
"""

import numpy as np

from beam_ml.algorithms.anchored import at_rows, union

__all__ = [
    "COLUMNS",
    "add_tables",
    "around_zero",
    "centre_of",
    "dense_table",
    "label_table",
    "scale_of",
    "scaled_table",
    "sparse_table",
]

COLUMNS = 5
_CONSTANT = 4.0 * np.finfo(np.float64).eps


def add_tables(rows_a: np.ndarray, a: np.ndarray, rows_b: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add two tables; give the rows of the sum and the sum."""
    if rows_a.size == 0 or rows_b.size == 0:
        return (rows_b, b) if rows_a.size == 0 else (rows_a, a)
    rows = union(rows_a, rows_b)
    return rows, joined(at_rows(rows_a, a, rows), at_rows(rows_b, b, rows))


def joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Add two tables (m, 5) of the same rows."""
    w_a, w_b = a[:, 0], b[:, 0]
    w = w_a + w_b
    share_a = np.divide(w_a, w, out=np.zeros_like(w), where=w > 0)
    share_b = np.divide(w_b, w, out=np.zeros_like(w), where=w > 0)
    delta = np.where((w_a > 0) & (w_b > 0), b[:, 1] - a[:, 1], 0.0)
    cross = share_a * share_b * w  # W_aW_b/W
    out = np.empty_like(a)
    out[:, 0] = w
    out[:, 1] = share_a * a[:, 1] + share_b * b[:, 1]
    out[:, 2] = (a[:, 2] + b[:, 2]) + delta**2 * cross
    mixed = share_a * b[:, 2] - share_b * a[:, 2]
    out[:, 3] = (a[:, 3] + b[:, 3]) + delta**3 * cross * (share_a - share_b) + 3.0 * delta * mixed
    spread = share_a**2 + share_b**2 - share_a * share_b
    both = share_a**2 * b[:, 2] + share_b**2 * a[:, 2]
    third = share_a * b[:, 3] - share_b * a[:, 3]
    out[:, 4] = (a[:, 4] + b[:, 4]) + delta**4 * cross * spread + 6.0 * delta**2 * both + 4.0 * delta * third
    np.maximum(out[:, 4], 0.0, out=out[:, 4])
    return out


def scaled_table(table: np.ndarray, factor: float) -> np.ndarray:
    """Weigh all rows by a factor."""
    return table * np.array([factor, 1.0, factor, factor, factor])


def dense_table(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Give the table (d, 5) of n ≥ 1 dense rows (n, d) of positive weight (n,)."""
    from beam_ml.kernels.adagrad_moments import dense_moments

    out = np.zeros((x.shape[1], COLUMNS))
    dense_moments(x, weight, out)
    return out


def label_table(label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Give the table (1, 5) of labels (n,)."""
    return dense_table(np.ascontiguousarray(label[:, None]), weight)


def around_zero(table: np.ndarray) -> np.ndarray:
    """Give the table (m, 5) of the same rows around 0 instead of their means.

    >>> around_zero(dense_table(np.array([[1.0], [3.0]]), np.ones(2))).tolist()
    [[2.0, 0.0, 10.0, 28.0, 82.0]]
    """
    weight, mean, second, third, fourth = table.T
    first = weight * mean
    out = np.zeros_like(table)
    out[:, 0] = weight
    out[:, 2] = second + first * mean
    out[:, 3] = third + 3.0 * mean * second + first * mean**2
    out[:, 4] = fourth + 4.0 * mean * third + 6.0 * mean**2 * second + first * mean**3
    np.maximum(out[:, 4], 0.0, out=out[:, 4])
    return out


def sparse_table(indptr: np.ndarray, place: np.ndarray, values: np.ndarray, weight: np.ndarray, m: int) -> np.ndarray:
    """Give the table (m, 5) of CSR rows whose columns are numbered 0 … m − 1."""
    from beam_ml.kernels.adagrad_moments import sparse_moments

    out = np.zeros((m, COLUMNS))
    sparse_moments(indptr, place, values, weight, out)
    return out


def scale_of(table: np.ndarray) -> np.ndarray:
    """Give √(Σz⁴/Σz²) (m,); 0 where nothing varies."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        deviation = np.sqrt(table[:, 2] / table[:, 0])
        scale = np.sqrt(table[:, 4] / table[:, 2])
    varies = (deviation > _CONSTANT * np.abs(table[:, 1])) & np.isfinite(scale)
    return np.where(varies, scale, 0.0)


def centre_of(table: np.ndarray) -> np.ndarray:
    """Give the means (m,)."""
    return np.ascontiguousarray(table[:, 1])
