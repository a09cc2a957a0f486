"""Which parameter rows a state holds: those of features that rows have had, and the bias.

Tables over all of a hashed space would be copied at every fold, published with every version and read by every worker,
though rows may have touched a twentieth. A feature that is not held is what `start` draws. Letters: ``p`` rows held, rising,
the bias last; ``d`` features; ``z`` numbers of features. Within a fold or merge, features are numbered by their place
among the rows held.
"""

import dataclasses

import numpy as np

from beam_ml.algorithms.fm.rows import Rows
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.algorithms.shared.moves import union
from beam_ml.errors import InvalidBatch

__all__ = ["check_rising", "holding", "numbered", "place_of", "places"]

_SEARCH = 64
"""What a search for a feature costs, in places of a table that are written one after the other."""


def check_rising(what: str, numbers: np.ndarray) -> None:
    """Refuse numbers (p,) of parameter rows that do not rise from 0 or above.

    Raises:
        InvalidBatch: they do not.
    """
    if numbers.size and not (numbers[0] >= 0 and (numbers[1:] > numbers[:-1]).all()):
        message = f"{what} must be rising numbers >= 0."
        raise InvalidBatch(message)


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
    from beam_ml.kernels.fm import rows as kernels

    if held.size == d:
        return indices
    if _SEARCH * indices.size > 2 * held.size + d // 2:
        out = np.empty(indices.size, dtype=np.int32)
        # Pages of zeros on which no feature held lies are never written.
        kernels.places(indices, held, np.zeros(d, dtype=np.int32), out)
        return out
    return place_of(held, indices).astype(np.int32)


def numbered(rows: np.ndarray, data: Rows) -> Rows:
    """Return rows whose features, all held, are numbered by their places among parameter rows (p,)."""
    return dataclasses.replace(data, indices=places(rows[:-1], data.indices, int(rows[-1])))


def holding(spec: Spec, tables: list[np.ndarray], samples: list[Rows]) -> np.ndarray:
    """Return the rising parameter rows of some tables, each rising, of the features of some rows, and the bias."""
    rows = np.array([spec.n_features])
    for more in tables:
        rows = union(rows, more)
    for data in samples:
        fresh = data.indices[places(rows[:-1], data.indices, spec.n_features) < 0]
        if fresh.size:
            rows = np.union1d(rows, fresh)
    return rows
