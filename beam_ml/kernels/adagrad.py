"""AdaGrad over mini-batches of rows, for many packed variants in one pass; the proximal form of follow-the-leader.

Letters: ``n`` rows, ``d`` features, ``r`` parameter rows (touched features, the bias last), ``m`` packed columns: each
variant's outputs, side by side. For each entry, with G the sum of squared gradients, W the weight of all rows so far, a
the column's learning rate, b the row's unit step and λ₁, λ₂ the column's penalties::

    √G' = √(G + g²)     u' = (√G/√G')·u + (1 − √G/√G')·θ − a·b·g/√G'
    θ = soft(u, a·λ₁·W/√G) / (1 + a·λ₂·W/(b·√G))

which is FTRL-proximal (McMahan 2011) written so that without penalties u is θ and the step is AdaGrad's.
"""

# mypy: disable-error-code="untyped-decorator"

import math

import numba
import numpy as np
from numba import types

from beam_ml.kernels.losses import add_costs, pull

__all__ = ["dense_run", "sparse_run", "sparse_scores"]


@numba.njit(inline="always")
def _shrink(
    row: int,
    u: np.ndarray,
    roots: np.ndarray,
    rate: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    inverse_unit: np.ndarray,
    weight: float,
    theta: np.ndarray,
) -> None:
    """Write θ of a parameter row; `roots` holds √G."""
    inverse_step = inverse_unit[row]
    for c in range(rate.size):
        moved, root = u[row, c], roots[row, c]
        at = rate[c] * weight / root if root > 0.0 else 0.0
        size = max(abs(moved) - at * l1[c], 0.0) / (1.0 + at * l2[c] * inverse_step)
        theta[row, c] = size if moved > 0.0 else -size


@numba.njit(inline="always")
def _move(
    row: int,
    grad: np.ndarray,
    unit: np.ndarray,
    rate: np.ndarray,
    base: np.ndarray,
    squares: np.ndarray,
    u: np.ndarray,
) -> None:
    """Take one step of a parameter row without penalties; clear its gradient."""
    step = unit[row]
    for c in range(rate.size):
        g = grad[row, c]
        grad[row, c] = 0.0
        total = squares[row, c] + g * g
        squares[row, c] = total
        root = math.sqrt(base[row, c] + total)
        # The square of a tiny gradient may be 0.
        u[row, c] -= rate[c] * step * g / root if root > 0.0 else 0.0


@numba.njit(inline="always")
def _move_penalised(
    row: int,
    grad: np.ndarray,
    unit: np.ndarray,
    rate: np.ndarray,
    base: np.ndarray,
    squares: np.ndarray,
    roots: np.ndarray,
    u: np.ndarray,
    theta: np.ndarray,
) -> None:
    """Take one step of a parameter row with penalties; clear its gradient and bring its √G up to date."""
    step = unit[row]
    for c in range(rate.size):
        g = grad[row, c]
        grad[row, c] = 0.0
        total = squares[row, c] + g * g
        squares[row, c] = total
        root = math.sqrt(base[row, c] + total)
        inverse = 1.0 / root if root > 0.0 else 0.0
        kept = roots[row, c] * inverse
        roots[row, c] = root
        u[row, c] = kept * u[row, c] + (1.0 - kept) * theta[row, c] - rate[c] * step * g * inverse


@numba.njit(inline="always")
def _move_all(grad: np.ndarray, step: np.ndarray, base: np.ndarray, squares: np.ndarray, u: np.ndarray) -> None:
    """Take one step of all entries, laid out in one row."""
    for q in range(u.size):
        g = grad[q]
        total = squares[q] + g * g
        squares[q] = total
        root = math.sqrt(base[q] + total)
        u[q] -= step[q] * g / root if root > 0.0 else 0.0


@numba.njit(inline="always")
def _move_all_penalised(
    grad: np.ndarray,
    step: np.ndarray,
    reach: np.ndarray,
    damping: np.ndarray,
    weight: float,
    base: np.ndarray,
    squares: np.ndarray,
    roots: np.ndarray,
    u: np.ndarray,
    theta: np.ndarray,
) -> None:
    """Take one step of all entries, laid out in one row, then the proximal map at the total weight."""
    for q in range(u.size):
        g = grad[q]
        total = squares[q] + g * g
        squares[q] = total
        root = math.sqrt(base[q] + total)
        inverse = 1.0 / root if root > 0.0 else 0.0
        kept = roots[q] * inverse
        roots[q] = root
        moved = kept * u[q] + (1.0 - kept) * theta[q] - step[q] * g * inverse
        u[q] = moved
        at = weight * inverse
        size = max(abs(moved) - at * reach[q], 0.0) / (1.0 + at * damping[q])
        theta[q] = size if moved > 0.0 else -size


_F8 = types.Array(types.float64, 1, "C", readonly=True)
_I8 = types.Array(types.int64, 1, "C", readonly=True)
_I4 = types.Array(types.int32, 1, "C", readonly=True)
_TABLE = types.float64[:, ::1]
_LOSS = (types.int64, types.int64, types.float64, types.float64)
_STEP = (_F8, _F8, _F8, _F8, _F8, types.float64, types.boolean, types.int64)
_TABLES = (types.Array(types.float64, 2, "C", readonly=True), _TABLE, _TABLE, _TABLE, types.float64[::1])


@numba.njit(
    [
        types.float64(_I8, _I4, types.Array(dtype, 1, "C", readonly=True), _F8, _F8, *_LOSS, _F8, *_STEP, *_TABLES)
        for dtype in (types.float32, types.float64)
    ],
    cache=True,
    nogil=True,
)
def sparse_run(
    indptr: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    code: int,
    outputs: int,
    shape: float,
    label_unit: float,
    unit: np.ndarray,
    inverse_unit: np.ndarray,
    reach: np.ndarray,
    rate: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    total: float,
    penalised: bool,
    batch_rows: int,
    base: np.ndarray,
    squares: np.ndarray,
    u: np.ndarray,
    theta: np.ndarray,
    costs: np.ndarray,
) -> float:
    """Run over n CSR rows, in mini-batches; give the total weight after them.

    Args:
        indptr: (n + 1,) bounds of the rows.
        place: (z,) parameter row of each stored value.
        values: (z,).
        y: (n,) labels.
        weight: (n,) > 0.
        code: of the loss, as all that follows up to label_unit; see `beam_ml.kernels.losses.pull`.
        outputs: o.
        shape: margin, quantile, ε or δ.
        label_unit: 1 / the label's unit.
        unit: (r,) step of a parameter row at rate 1; 0 holds it still.
        inverse_unit: (r,) what its L2 penalty is relative to; 0: none.
        reach: (r,) most that a feature's value counts for, on either side.
        rate: (m,) learning rate of each column.
        l1: (m,) penalties, which do not touch the last row.
        l2: (m,) as l1.
        total: weight of all rows before these.
        penalised: whether any penalty is not 0; if not, `theta` is `u`.
        batch_rows: rows of a mini-batch.
        base: (r, m) Σ gradient² before the run.
        squares: (r, m) Σ gradient² of the run; updated.
        u: (r, m) parameters before the proximal map; updated.
        theta: (r, m) parameters; updated where touched.
        costs: (v,) Σ weight · loss of each row before its mini-batch is learned from; added to. (0,): not measured.
    """
    n, r, m = y.size, u.shape[0], u.shape[1]
    bias = r - 1
    grad = np.zeros((r, m))
    stamp = np.full(r, -1, dtype=np.int64)
    touched = np.empty(r, dtype=np.int64)
    score, e = np.empty(m), np.empty(m)
    measured = costs.size > 0
    roots = np.sqrt(base + squares) if penalised else grad
    for begin in range(0, n, batch_rows):
        end = min(begin + batch_rows, n)
        count = 0
        for z in range(indptr[begin], indptr[end]):
            j = place[z]
            if stamp[j] != begin:
                stamp[j] = begin
                touched[count] = j
                count += 1
                if penalised:
                    _shrink(j, u, roots, rate, l1, l2, inverse_unit, total, theta)
        for i in range(begin, end):
            for c in range(m):
                score[c] = theta[bias, c]
            for z in range(indptr[i], indptr[i + 1]):
                j = place[z]
                x = min(max(np.float64(values[z]), -reach[j]), reach[j])
                for c in range(m):
                    score[c] += x * theta[j, c]
            pull(code, score, y[i], weight[i], outputs, shape, label_unit, e)
            if measured:
                add_costs(code, score, y[i], weight[i], outputs, shape, label_unit, costs)
            for z in range(indptr[i], indptr[i + 1]):
                j = place[z]
                x = min(max(np.float64(values[z]), -reach[j]), reach[j])
                for c in range(m):
                    grad[j, c] += x * e[c]
            for c in range(m):
                grad[bias, c] += e[c]
            total += weight[i]
        for k in range(count):
            if penalised:
                _move_penalised(touched[k], grad, unit, rate, base, squares, roots, u, theta)
            else:
                _move(touched[k], grad, unit, rate, base, squares, u)
        _move(bias, grad, unit, rate, base, squares, u)
        if penalised:
            for c in range(m):
                theta[bias, c] = u[bias, c]
    return total


@numba.njit(
    [
        types.float64(types.Array(dtype, 2, "C", readonly=True), _F8, _F8, _F8, *_LOSS, _F8, *_STEP, *_TABLES)
        for dtype in (types.float32, types.float64)
    ],
    cache=True,
    nogil=True,
)
def dense_run(
    x: np.ndarray,
    centre: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    code: int,
    outputs: int,
    shape: float,
    label_unit: float,
    unit: np.ndarray,
    inverse_unit: np.ndarray,
    reach: np.ndarray,
    rate: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    total: float,
    penalised: bool,
    batch_rows: int,
    base: np.ndarray,
    squares: np.ndarray,
    u: np.ndarray,
    theta: np.ndarray,
    costs: np.ndarray,
) -> float:
    """Run over n dense rows x (n, d), less `centre` (d,), in mini-batches; see `sparse_run` for the rest."""
    n, d = x.shape
    m = u.shape[1]
    grad = np.zeros((d + 1, m))
    block, e = np.empty((batch_rows, d)), np.empty((batch_rows, m))
    step, pull_in, damping = np.empty((d + 1, m)), np.zeros((d + 1, m)), np.zeros((d + 1, m))
    for j in range(d + 1):
        for c in range(m):
            step[j, c] = rate[c] * unit[j]
            if j < d:
                pull_in[j, c] = rate[c] * l1[c]
                damping[j, c] = rate[c] * l2[c] * inverse_unit[j]
    step, pull_in, damping = step.reshape(-1), pull_in.reshape(-1), damping.reshape(-1)
    g, flat_base, flat_squares = grad.reshape(-1), base.reshape(-1), squares.reshape(-1)
    flat_u, flat_theta = u.reshape(-1), theta.reshape(-1)
    roots = np.sqrt(flat_base + flat_squares)
    measured = costs.size > 0
    for begin in range(0, n, batch_rows):
        rows = min(batch_rows, n - begin)
        for i in range(rows):
            for j in range(d):
                block[i, j] = min(max(np.float64(x[begin + i, j]) - centre[j], -reach[j]), reach[j])
        some = block[:rows]
        score = np.dot(some, theta[:d])
        grad[d] = 0.0
        for i in range(rows):
            for c in range(m):
                score[i, c] += theta[d, c]
            pull(code, score[i], y[begin + i], weight[begin + i], outputs, shape, label_unit, e[i])
            if measured:
                add_costs(code, score[i], y[begin + i], weight[begin + i], outputs, shape, label_unit, costs)
            for c in range(m):
                grad[d, c] += e[i, c]
            total += weight[begin + i]
        np.dot(some.T, e[:rows], grad[:d])
        if penalised:
            _move_all_penalised(g, step, pull_in, damping, total, flat_base, flat_squares, roots, flat_u, flat_theta)
        else:
            _move_all(g, step, flat_base, flat_squares, flat_u)
    return total


@numba.njit(
    [
        types.void(
            _I8,
            _I4,
            types.Array(dtype, 1, "C", readonly=True),
            types.Array(types.float64, 2, "C", readonly=True),
            _TABLE,
        )
        for dtype in (types.float32, types.float64)
    ],
    cache=True,
    nogil=True,
)
def sparse_scores(
    indptr: np.ndarray, place: np.ndarray, values: np.ndarray, theta: np.ndarray, out: np.ndarray
) -> None:
    """Write the linear scores (n, m) of CSR rows with parameters θ (r, m), the bias last."""
    bias, m = theta.shape[0] - 1, theta.shape[1]
    for i in range(indptr.size - 1):
        for c in range(m):
            out[i, c] = theta[bias, c]
        for z in range(indptr[i], indptr[i + 1]):
            j, x = place[z], values[z]
            for c in range(m):
                out[i, c] += x * theta[j, c]
