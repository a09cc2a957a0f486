"""The row that sums are centred around: the lexicographically smallest, so that it depends on the rows alone."""

import numpy as np

__all__ = ["smaller_row", "smallest_row"]

_COLUMNS = 16
"""Columns compared at once: the first few mostly decide."""


def smallest_row(rows: np.ndarray) -> np.ndarray:
    """Return the lexicographically smallest of at least one row, (d,) float64."""
    d = rows.shape[1]
    left = rows
    chosen = np.arange(rows.shape[0])
    for start in range(0, d, _COLUMNS):
        block = np.ascontiguousarray(left[:, start : start + _COLUMNS])
        for j in range(block.shape[1]):
            column = block[:, j]
            keep = column == column.min()
            if not keep.all():
                block, chosen = block[keep], chosen[keep]
                if chosen.size == 1:
                    return rows[chosen[0]].astype(np.float64) + 0.0  # −0 and 0 are one origin
        if start + _COLUMNS < d and chosen.size < left.shape[0]:
            left = rows[chosen]
    return rows[chosen[0]].astype(np.float64) + 0.0


def smaller_row(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the lexicographically smaller of two rows."""
    differs = np.flatnonzero(a != b)
    return a if differs.size == 0 or a[differs[0]] < b[differs[0]] else b
