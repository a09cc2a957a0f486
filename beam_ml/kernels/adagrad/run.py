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

from beam_ml.kernels.shared.losses import add_costs, pull

__all__ = ["dense_run", "sparse_run", "sparse_scores"]


@numba.njit(inline="always", error_model="numpy")
def _shrink(
    k: int,
    j: int,
    u: np.ndarray,
    base: np.ndarray,
    squares: np.ndarray,
    rate: np.ndarray,
    l1: np.ndarray,
    l2: np.ndarray,
    inverse_unit: float,
    total: float,
    roots: np.ndarray,
    theta: np.ndarray,
) -> None:
    """Write √G and θ of the parameter row j to place k of a mini-batch."""
    for c in range(rate.size):
        root = math.sqrt(base[j, c] + squares[j, c])
        at = rate[c] * total * (1.0 / root if root > 0.0 else 0.0)
        moved = u[j, c]
        size = max(abs(moved) - at * l1[c], 0.0) / (1.0 + at * l2[c] * inverse_unit)
        theta[k, c] = size if moved > 0.0 else -size
        roots[k, c] = root


@numba.njit(inline="always", error_model="numpy")
def _move(
    k: int,
    j: int,
    grad: np.ndarray,
    step: float,
    rate: np.ndarray,
    base: np.ndarray,
    squares: np.ndarray,
    u: np.ndarray,
) -> None:
    """Take one step of the parameter row j without penalties; its gradient is at place k of the mini-batch."""
    for c in range(rate.size):
        g = grad[k, c]
        total = squares[j, c] + g * g
        root = math.sqrt(base[j, c] + total)
        # The square of a tiny gradient may be 0.
        u[j, c] -= rate[c] * step * g * (1.0 / root if root > 0.0 else 0.0)
        squares[j, c] = total


@numba.njit(inline="always", error_model="numpy")
def _move_penalised(
    k: int,
    j: int,
    grad: np.ndarray,
    step: float,
    rate: np.ndarray,
    base: np.ndarray,
    squares: np.ndarray,
    roots: np.ndarray,
    u: np.ndarray,
    theta: np.ndarray,
) -> None:
    """Take one step of the parameter row j with penalties, from θ and √G at place k of the mini-batch."""
    for c in range(rate.size):
        g = grad[k, c]
        total = squares[j, c] + g * g
        root = math.sqrt(base[j, c] + total)
        inverse = 1.0 / root if root > 0.0 else 0.0
        kept = roots[k, c] * inverse
        u[j, c] = kept * u[j, c] + (1.0 - kept) * theta[k, c] - rate[c] * step * g * inverse
        squares[j, c] = total


@numba.njit(inline="always", error_model="numpy")
def _move_all(grad: np.ndarray, step: np.ndarray, base: np.ndarray, squares: np.ndarray, u: np.ndarray) -> None:
    """Take one step of all entries, laid out in one row."""
    for q in range(u.size):
        g = grad[q]
        total = squares[q] + g * g
        squares[q] = total
        root = math.sqrt(base[q] + total)
        u[q] -= step[q] * g / root if root > 0.0 else 0.0


@numba.njit(inline="always", error_model="numpy")
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
_BASE = types.Array(types.float64, 2, "C", readonly=True)
_SPARSE_TABLES = (_BASE, _TABLE, _TABLE, types.float64[::1])
_DENSE_TABLES = (_BASE, _TABLE, _TABLE, _TABLE, types.float64[::1])


@numba.njit(
    [
        types.float64(
            _I8, _I4, types.Array(dtype, 1, "C", readonly=True), _F8, _F8, *_LOSS, _F8, *_STEP, *_SPARSE_TABLES
        )
        for dtype in (types.float32, types.float64)
    ],
    cache=True,
    nogil=True,
    error_model="numpy",
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
    costs: np.ndarray,
) -> float:
    """Run over n CSR rows, in mini-batches; return the total weight after them.

    Args:
        indptr: (n + 1,) bounds of the rows.
        place: (z,) parameter row of each stored value.
        values: (z,).
        y: (n,) labels.
        weight: (n,) > 0.
        code: of the loss, as all that follows up to label_unit; see `beam_ml.kernels.shared.losses.pull`.
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
        penalised: whether any penalty is not 0.
        batch_rows: rows of a mini-batch.
        base: (r, m) Σ gradient² before the run.
        squares: (r, m) Σ gradient² of the run; updated.
        u: (r, m) parameters before the proximal map; updated.
        costs: (v,) Σ weight · loss of each row before its mini-batch is learned from; added to. (0,): not measured.
    """
    n, r, m = y.size, u.shape[0], u.shape[1]
    bias, room = r - 1, 0
    for begin in range(0, n, batch_rows):
        room = max(room, indptr[min(begin + batch_rows, n)] - indptr[begin])
    # A mini-batch's own: gradients, θ and √G of the parameter rows it touches, in the order they come, the bias last.
    grad, theta, roots = np.zeros((room + 1, m)), np.empty((room + 1, m)), np.empty((room + 1, m))
    touched, at, value = np.empty(room + 1, dtype=np.int64), np.empty(room, dtype=np.int64), np.empty(room)
    score, e = np.empty(m), np.empty(m)
    measured = costs.size > 0
    spot = np.full(r, -1, dtype=np.int64)  # `first` + place in the mini-batch; before `first`: of an earlier one
    first = 0
    for begin in range(0, n, batch_rows):
        end = min(begin + batch_rows, n)
        origin, count = indptr[begin], 0
        for z in range(origin, indptr[end]):
            j = place[z]
            k = spot[j] - first
            if k < 0:
                k = count
                spot[j] = first + k
                touched[k] = j
                count += 1
                if penalised:
                    _shrink(k, j, u, base, squares, rate, l1, l2, inverse_unit[j], total, roots, theta)
                else:
                    for c in range(m):
                        theta[k, c] = u[j, c]
            at[z - origin] = k
            value[z - origin] = min(max(np.float64(values[z]), -reach[j]), reach[j])
        first += count
        touched[count] = bias
        for c in range(m):
            theta[count, c] = u[bias, c]
        for i in range(begin, end):
            for c in range(m):
                score[c] = theta[count, c]
            for z in range(indptr[i] - origin, indptr[i + 1] - origin):
                k, x = at[z], value[z]
                for c in range(m):
                    score[c] += x * theta[k, c]
            pull(code, score, y[i], weight[i], outputs, shape, label_unit, e)
            if measured:
                add_costs(code, score, y[i], weight[i], outputs, shape, label_unit, costs)
            for z in range(indptr[i] - origin, indptr[i + 1] - origin):
                k, x = at[z], value[z]
                for c in range(m):
                    grad[k, c] += x * e[c]
            for c in range(m):
                grad[count, c] += e[c]
            total += weight[i]
        for k in range(count):
            j = touched[k]
            if penalised:
                _move_penalised(k, j, grad, unit[j], rate, base, squares, roots, u, theta)
            else:
                _move(k, j, grad, unit[j], rate, base, squares, u)
        _move(count, bias, grad, unit[bias], rate, base, squares, u)
        grad[: count + 1] = 0.0
    return total


@numba.njit(
    [
        types.float64(types.Array(dtype, 2, "C", readonly=True), _F8, _F8, _F8, *_LOSS, _F8, *_STEP, *_DENSE_TABLES)
        for dtype in (types.float32, types.float64)
    ],
    cache=True,
    nogil=True,
    error_model="numpy",
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
    """Run over n dense rows x (n, d), less `centre` (d,), in mini-batches; see `sparse_run` for the rest.

    `theta` (r, m), the parameters, is updated with `u`; without penalties it is `u`.
    """
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
    """Write the linear scores (n, m) of CSR rows with parameters θ (r, m), the bias last; places −1 count for nothing."""
    bias, m = theta.shape[0] - 1, theta.shape[1]
    for i in range(indptr.size - 1):
        for c in range(m):
            out[i, c] = theta[bias, c]
        for z in range(indptr[i], indptr[i + 1]):
            j, x = place[z], values[z]
            if j < 0:
                continue
            for c in range(m):
                out[i, c] += x * theta[j, c]
