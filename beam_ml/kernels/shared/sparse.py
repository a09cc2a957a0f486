"""CSR rows: in canonical form, where columns rise within each row; and where their features are in a table.

Letters: ``n`` rows, ``z`` stored values, ``d`` features, ``r`` of them held.
"""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np
from numba import types

__all__ = ["is_canonical", "ordered", "places"]

_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I4 = types.Array(types.int32, 1, "C", readonly=True)
_KINDS = (types.float32, types.float64)


@numba.njit(types.boolean(_I8, _I4), cache=True, nogil=True)
def is_canonical(indptr: np.ndarray, indices: np.ndarray) -> bool:
    """Return whether the columns of every CSR row rise."""
    for i in range(indptr.size - 1):
        for z in range(indptr[i] + 1, indptr[i + 1]):
            if indices[z] <= indices[z - 1]:
                return False
    return True


@numba.njit(
    [
        types.int64(
            _I8, _I4, types.Array(kind, 1, "C", readonly=True), types.int64[::1], types.int32[::1], kind[::1]
        )
        for kind in _KINDS
    ],
    cache=True,
    nogil=True,
)  # fmt: skip
def ordered(
    indptr: np.ndarray,
    indices: np.ndarray,
    values: np.ndarray,
    bounds: np.ndarray,
    columns: np.ndarray,
    out: np.ndarray,
) -> int:
    """Write rows with columns that rise within each row, values of one column summed; return the number of values.

    Args:
        indptr: (n + 1,) bounds of the rows.
        indices: (z,) columns.
        values: (z,).
        bounds: (n + 1,) of the rows written.
        columns: (z,) written.
        out: (z,) values written; sums are taken in double precision.
    """
    held = 0
    bounds[0] = 0
    for i in range(indptr.size - 1):
        begin, end = indptr[i], indptr[i + 1]
        rises = True
        for z in range(begin + 1, end):
            rises = rises and indices[z] > indices[z - 1]
        if rises:
            for z in range(begin, end):
                columns[held], out[held] = indices[z], values[z]
                held += 1
        else:
            order = np.argsort(indices[begin:end], kind="mergesort")
            at = 0
            while at < order.size:
                column, total = indices[begin + order[at]], np.float64(values[begin + order[at]])
                at += 1
                while at < order.size and indices[begin + order[at]] == column:
                    total += np.float64(values[begin + order[at]])
                    at += 1
                columns[held], out[held] = column, total
                held += 1
        bounds[i + 1] = held
    return held


@numba.njit(types.void(_I4, _I8, types.int32[::1], types.int32[::1]), cache=True, nogil=True, error_model="numpy")
def places(indices: np.ndarray, held: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """Write where features are among those held; −1: they are not.

    Args:
        indices: (z,) features.
        held: (r,) features.
        table: (d,) zeros; updated.
        out: (z,).
    """
    for r in range(held.size):
        table[held[r]] = r + 1
    for z in range(indices.size):
        out[z] = table[indices[z]] - 1
