"""CSR arrays of a batch, as the gradient learners go through them. Letters: ``n`` rows, ``z`` stored values."""

import numpy as np

from beam_ml.core.batch import Batch

__all__ = ["canonical"]


def canonical(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return CSR arrays whose columns rise within each row, duplicates summed; dense rows lose their zeros.

    >>> [one.tolist() for one in canonical(Batch.csr([0, 3], [2, 0, 2], [1.0, 5.0, 3.0], 4))]
    [[0, 2], [0, 2], [5.0, 4.0]]
    """
    from beam_ml.kernels.shared import sparse

    if batch.X is not None:
        rows, columns = np.nonzero(batch.X)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(batch)))]).astype(np.int64)
        return indptr, columns.astype(np.int32), batch.X[rows, columns]
    assert batch.indptr is not None  # noqa: S101
    assert batch.indices is not None  # noqa: S101
    assert batch.values is not None  # noqa: S101
    if sparse.is_canonical(batch.indptr, batch.indices):
        return batch.indptr, batch.indices, batch.values
    out = np.empty_like(batch.indptr), np.empty_like(batch.indices), np.empty_like(batch.values)
    held = sparse.ordered(batch.indptr, batch.indices, batch.values, *out)
    return out[0], out[1][:held], out[2][:held]
