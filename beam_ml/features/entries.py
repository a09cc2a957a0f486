"""What terms add to rows beside their numbers: places with values; and rows made of both, CSR or dense.

Letters: ``n`` rows, ``d`` numbers per row, ``z`` entries.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beam_ml.errors import InvalidBatch
from beam_ml.features.rules import Rule

__all__ = ["NOWHERE", "Entries", "as_csr", "as_dense"]

NOWHERE = -1
"""The place of a value that has none."""
_MOST_BYTES = 2 << 30
"""A dense matrix may not be larger."""


class Entries(NamedTuple):
    """What one term adds to n rows.

    Attributes:
        places: (n,) int64 a row's place within the term, or NOWHERE; with `counts` (z,), row by row, rising within one.
        counts: (n,) int64 how many entries each row has; None: one, or none where its place is NOWHERE.
        values: (z,) float64 of the entries; None: all 1.
        rules: that rows break.
    """

    places: np.ndarray
    counts: np.ndarray | None = None
    values: np.ndarray | None = None
    rules: tuple[Rule, ...] = ()


def as_csr(X: np.ndarray, entries: Sequence[tuple[int, Entries]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``indptr``, ``indices`` and ``values`` of rows: (n, d) numbers, then the entries of each term from there on.

    >>> counted = Entries(np.array([0, 4, 2]), np.array([2, 1]), np.array([1.0, 3.0, 1.0]))
    >>> [one.tolist() for one in as_csr(np.array([[0.5], [0.0]]), [(1, Entries(np.array([2, -1]))), (4, counted)])]
    [[0, 4, 6], [0, 3, 4, 8, 0, 6], [0.5, 1.0, 1.0, 3.0, 0.0, 1.0]]
    """
    n, d = X.shape
    single = all(one.counts is None and one.values is None and not (one.places < 0).any() for _, one in entries)
    if single:  # the common case: all rows have equally many
        columns = [np.broadcast_to(np.arange(d), (n, d)), *((start + one.places)[:, None] for start, one in entries)]
        width = d + len(entries)
        values = np.hstack([X, np.ones((n, len(entries)), dtype=X.dtype)])
        return np.arange(n + 1) * width, np.hstack(columns).ravel(), values.ravel()
    each = [(one.places >= 0).astype(np.int64) if one.counts is None else one.counts for _, one in entries]
    indptr = np.concatenate([[0], np.cumsum(d + np.sum(each, axis=0))]).astype(np.int64)
    indices, values = np.empty(indptr[-1], dtype=np.int64), np.ones(indptr[-1], dtype=X.dtype)
    at = indptr[:-1, None] + np.arange(d)
    indices[at], values[at] = np.arange(d), X
    behind = indptr[:-1] + d
    for (start, one), counts in zip(entries, each, strict=True):
        first = np.cumsum(counts) - counts
        at = np.repeat(behind - first, counts) + np.arange(counts.sum())
        indices[at] = start + (one.places[one.places >= 0] if one.counts is None else one.places)
        if one.values is not None:
            values[at] = one.values
        behind += counts
    return indptr, indices, values


def as_dense(X: np.ndarray, entries: Sequence[tuple[int, Entries]], width: int) -> np.ndarray:
    """Return the (n, width) matrix of the same rows; 0 where a row has no entry.

    Raises:
        InvalidBatch: it would take more than 2 GiB.

    >>> as_dense(np.array([[0.5], [0.0]]), [(1, Entries(np.array([1, -1])))], 3).tolist()
    [[0.5, 0.0, 1.0], [0.0, 0.0, 0.0]]
    """
    n, d = X.shape
    if not entries:
        return X
    if n * width * X.itemsize > _MOST_BYTES:
        message = (
            f"Features.sparse must be true where {n} rows of {width} features do not fit into {_MOST_BYTES >> 30} GiB; "
            "got false."
        )
        raise InvalidBatch(message)
    whole = np.zeros((n, width), dtype=X.dtype)
    whole[:, :d] = X
    for start, one in entries:
        if one.counts is None:
            rows = np.flatnonzero(one.places >= 0)
            whole[rows, start + one.places[rows]] = 1.0
        else:
            rows = np.repeat(np.arange(n), one.counts)
            whole[rows, start + one.places] = 1.0 if one.values is None else one.values
    return whole
