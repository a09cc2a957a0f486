"""Where features are among those that a table holds.

Letters: ``p`` rows held, rising, ``d`` features, ``z`` numbers of them.
"""

import numpy as np

from beam_ml.errors import InvalidBatch

__all__ = ["features_of", "place_of", "places"]

_SEARCH = 64
"""What a search for a feature costs, in places of a table that are written one after the other."""


def features_of(d: int, rows: np.ndarray) -> np.ndarray:
    """Return the features of rising parameter rows (p,), of which the last is the bias, numbered d; none: nothing is held.

    Raises:
        InvalidBatch: the last is another.

    >>> features_of(9, np.array([2, 5, 9])).tolist()
    [2, 5]
    """
    if rows.size and rows[-1] != d:
        message = f"State.rows must end with the bias, numbered {d}; got {rows[-1]}."
        raise InvalidBatch(message)
    return rows[:-1]


def place_of(held: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return where numbers (z,) of parameter rows are among those held, int64; −1: they are not."""
    if held.size == numbers.size and np.array_equal(held, numbers):
        return np.arange(held.size)
    if held.size == 0:
        return np.full(numbers.size, -1)
    at = np.minimum(np.searchsorted(held, numbers), held.size - 1)
    return np.where(held[at] == numbers, at, -1)


def places(held: np.ndarray, indices: np.ndarray, d: int) -> np.ndarray:
    """Return where features (z,) of a batch are among the features held, all below d, int32; −1: they are not.

    >>> places(np.array([2, 5]), np.array([5, 3, 2], dtype=np.int32), 6).tolist()
    [1, -1, 0]
    """
    from beam_ml.kernels.shared import sparse as kernels

    if held.size == d:
        return indices
    if _SEARCH * indices.size > 2 * held.size + d // 2:
        out = np.empty(indices.size, dtype=np.int32)
        # Pages of zeros on which no feature held lies are never written.
        kernels.places(indices, held, np.zeros(d, dtype=np.int32), out)
        return out
    return place_of(held, indices).astype(np.int32)
