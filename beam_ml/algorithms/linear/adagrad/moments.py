"""Running moments of features (and of a real label): what steps and penalties are scaled by.

A table has one row per feature and six columns: weight W, mean, Σ w(x − mean)ᵏ for k = 2, 3, 4, and the moving weight A;
tables add exactly (Chan, Golub and LeVeque 1979; Pébay 2008). Of sparse features only the stored values other than 0 count.
Without a bias all are around 0 and the mean stands as 0, for what is centred would bring an intercept back. Letters: ``m``
rows of a table, ``n`` rows of a batch, ``d`` features; a real label is one more row, numbered d.

A sparse feature that every row so far has and that varies is `ever_present`: a number, measured as a dense one is. An
offset of many deviations would otherwise make it nearly collinear with the bias. All others are measured around 0, where
each of their stored values moves, so that an indicator's scale is 1.

The scale of a feature is ``min(√(Σz⁴/Σz²), 3√(Σz²/A))``, z around the mean or 0. An indicator that is 1 in a thousandth of
the rows has the standard deviation 0.03, and a step in units of 1/0.03 would move its score by thirty times the learning
rate when it is first seen; its scale by the first of the two is 1. But one value of a hundred deviations is in Σz⁴ for a
million rows. It differs from a rare indicator in A, the weight of the rows that are not at the commonest value of their
batch: nearly all rows of a number, few of an indicator. Three deviations of the rows that move are above the first measure
for normal values (√3 deviations) and for every indicator, and the outlier is gone from them after some thousand rows.

Where a column is constant, its mean stays that value to the bit however rows are weighted, so that Σz² of a column that
never moved is 0. One that moved once fades; `held` keeps what it has at a share of 10⁻⁶ of the weight, where rounding
(a share of 10⁻³²) does not reach it, so its scale stays what it was when it moved.
"""

import numpy as np

from beam_ml.algorithms.shared.moves import at_rows, union

__all__ = [
    "COLUMNS",
    "add_tables",
    "around_zero",
    "dense_table",
    "ever_present",
    "held",
    "label_table",
    "scale_of",
    "scaled_table",
    "sparse_table",
    "stored_around_zero",
]

COLUMNS = 6
_LEAST_MOVING = 1e-6  # of the weight
_ALL = 1.0 - 1e-9  # of the weight of all rows: sums of the same weights in another order


def add_tables(rows_a: np.ndarray, a: np.ndarray, rows_b: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge two tables; return the rows of the sum and the sum."""
    if rows_a.size == 0 or rows_b.size == 0:
        return (rows_b, b) if rows_a.size == 0 else (rows_a, a)
    rows = union(rows_a, rows_b)
    return rows, joined(at_rows(rows_a, a, rows), at_rows(rows_b, b, rows))


def joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Merge two tables (m, 6) of the same rows."""
    from beam_ml.kernels.adagrad.tables import add_moments

    out = np.empty(a.shape)
    add_moments(np.ascontiguousarray(a), np.ascontiguousarray(b), out)
    return out


def held(table: np.ndarray, which: np.ndarray | bool = True) -> np.ndarray:
    """Return the table (m, 6) with what moved once kept at 10⁻⁶ of the weight: the scale stays, and is never rounding noise.

    Args:
        table: the moments.
        which: (m,) which rows; those that are measured around 0 fade as they are.

    >>> table = np.array([[1.0, 7.0, 4e-9, 0.0, 1.6e-8, 1e-9]])
    >>> held(table)[0, 2:].round(9).tolist(), scale_of(held(table)).tolist() == scale_of(table).tolist()
    ([4e-06, 0.0, 1.6e-05, 1e-06], True)
    """
    least = _LEAST_MOVING * table[:, 0]
    faint = (table[:, 5] > 0.0) & (table[:, 5] < least) & which
    if not faint.any():
        return table
    out = table.copy()
    out[faint, 2:] *= (least[faint] / table[faint, 5])[:, None]
    return out


def scaled_table(table: np.ndarray, factor: float) -> np.ndarray:
    """Weigh all rows by a factor."""
    return table * np.array([factor, 1.0, factor, factor, factor, factor])


def dense_table(
    x: np.ndarray, weight: np.ndarray, centre: np.ndarray | None = None, farthest: np.ndarray | None = None
) -> np.ndarray:
    """Return the table (d, 6) of n ≥ 1 dense rows (n, d) of positive weight (n,).

    Args:
        x: the rows.
        weight: of each.
        centre: (d,) from which values count at most `farthest`; None: 0.
        farthest: (d,) None: all values count as they are.
    """
    from beam_ml.kernels.adagrad.moments import dense_moments

    d = x.shape[1]
    out = np.zeros((d, COLUMNS))
    reach = np.full(d, np.inf) if farthest is None else farthest
    middle = np.zeros(d) if centre is None else centre
    dense_moments(x, weight, middle - reach, middle + reach, out)
    return out


def label_table(label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the table (1, 6) of labels (n,)."""
    return dense_table(np.ascontiguousarray(label[:, None]), weight)


def around_zero(table: np.ndarray) -> np.ndarray:
    """Return the table (m, 6) of the same rows around 0 instead of their means.

    >>> around_zero(dense_table(np.array([[1.0], [3.0]]), np.ones(2))).tolist()
    [[2.0, 0.0, 10.0, 28.0, 82.0, 1.0]]
    """
    weight, mean, second, third, fourth, moving = table.T
    first = weight * mean
    out = np.zeros_like(table)
    out[:, 0] = weight
    out[:, 2] = second + first * mean
    out[:, 3] = third + 3.0 * mean * second + first * mean**2
    out[:, 4] = fourth + 4.0 * mean * third + 6.0 * mean**2 * second + first * mean**3
    np.maximum(out[:, 4], 0.0, out=out[:, 4])
    out[:, 5] = moving
    return out


def stored_around_zero(table: np.ndarray) -> np.ndarray:
    """Return the table (m, 6) of stored values around 0 instead of their means; all of them move.

    >>> stored_around_zero(np.array([[5.0, 1.0, 0.0, 0.0, 0.0, 0.0]])).tolist()
    [[5.0, 0.0, 5.0, 5.0, 5.0, 5.0]]
    """
    out = around_zero(table)
    out[:, 5] = out[:, 0]
    return out


def sparse_table(
    indptr: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    weight: np.ndarray,
    centre: np.ndarray,
    farthest: np.ndarray,
) -> np.ndarray:
    """Return the table (m, 6) of CSR rows whose columns are numbered 0 … m − 1.

    Args:
        indptr: (n + 1,) bounds of the rows.
        place: (z,) column numbers.
        values: (z,).
        weight: (n,) > 0.
        centre: (m,) from which values count at most `farthest`.
        farthest: (m,).
    """
    from beam_ml.kernels.adagrad.moments import sparse_moments

    out = np.zeros((farthest.size, COLUMNS))
    sparse_moments(indptr, place, values, weight, centre - farthest, centre + farthest, out)
    return out


def ever_present(table: np.ndarray, mass: float) -> np.ndarray:
    """Return which features (m,) every row has, by moments (m, 6) of stored values, and vary, of rows that weigh `mass`.

    >>> ever_present(np.array([[3.0, 9.0, 2.0, 0.0, 2.0, 2.0], [2.0, 1.0, 0.0, 0.0, 0.0, 0.0]]), 3.0).tolist()
    [True, False]
    """
    found: np.ndarray = (table[:, 0] >= _ALL * mass) & (table[:, 0] > 0.0)
    at = np.flatnonzero(found)
    found[at] = scale_of(table[at]) > 0.0
    return found


def scale_of(table: np.ndarray) -> np.ndarray:
    """Return min(√(Σz⁴/Σz²), 3√(Σz²/A)) (m,), the first where A is 0; 0 where nothing varies."""
    from beam_ml.kernels.adagrad.tables import scales

    out = np.empty(table.shape[0])
    scales(np.ascontiguousarray(table), out)
    return out
