"""The AdaGrad kernels against a numpy oracle, and gradients of the losses against finite differences."""

import numpy as np
import pytest

from beam_ml.algorithms.linear.adagrad import losses
from beam_ml.algorithms.linear.adagrad.moments import stored_around_zero
from beam_ml.kernels.adagrad import moments
from beam_ml.kernels.adagrad import run as adagrad
from beam_ml.kernels.shared import sparse
from beam_ml.kernels.shared.losses import add_costs, gradients

SHAPES = {"hinge": 1.0, "multiclass hinge": 0.7, "quantile": 0.3, "huber": 0.8}
SHAPES |= {"eps_insensitive_squared": 0.3, "eps_insensitive_absolute": 0.3}


def scores_and_labels(code: int, rng: np.random.Generator, n: int, v: int) -> tuple[np.ndarray, np.ndarray, int]:
    o = 4 if losses.is_multiclass(code) else 1
    if losses.is_multiclass(code):
        label = rng.integers(0, o, n).astype(float)
    elif losses.is_binary(code):
        label = rng.integers(0, 2, n).astype(float)
    else:
        label = rng.normal(size=n)
    return rng.normal(size=(n, v, o)) * 2.0, label, o


@pytest.mark.parametrize("name", losses.CODES)
def test_gradients_are_the_slopes_of_the_losses(name: str) -> None:
    code, shape, unit = losses.CODES[name], SHAPES.get(name, 0.0), 1.7
    rng = np.random.default_rng(3)
    score, label, o = scores_and_labels(code, rng, 300, 2)
    weight = rng.uniform(0.5, 2.0, 300)
    found = np.empty((300, 2 * o))
    gradients(code, score.reshape(300, -1), label, weight, o, shape, 1.0 / unit, found)
    found = found.reshape(300, 2, o)
    h, scale = 1e-6, unit if o == 1 and not losses.is_binary(code) else 1.0
    kinks = 0
    for k in range(o):
        up, down = score.copy(), score.copy()
        up[:, :, k] += h
        down[:, :, k] -= h
        rise = losses.row_losses(code, up, label, shape, unit) - losses.row_losses(code, down, label, shape, unit)
        slope = rise / (2 * h) * scale * weight[:, None]
        off = np.abs(slope - found[:, :, k]) > 1e-5
        kinks += int(off.sum())  # a kink within h of the score
    assert kinks <= 2


@pytest.mark.parametrize("name", losses.CODES)
def test_losses_of_the_kernels_are_those_of_the_module(name: str) -> None:
    code, shape, unit = losses.CODES[name], SHAPES.get(name, 0.0), 1.7
    score, label, o = scores_and_labels(code, np.random.default_rng(8), 400, 3)
    weight = np.random.default_rng(9).uniform(0.5, 2.0, 400)
    found = np.zeros(3)
    for i in range(400):
        add_costs(code, score[i].ravel(), label[i], weight[i], o, shape, 1.0 / unit, found)
    regression = o == 1 and not losses.is_binary(code)
    expected = weight @ losses.row_losses(code, score, label, shape, unit if regression else 1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", losses.CODES)
def test_losses_are_finite_and_not_negative_far_out(name: str) -> None:
    code = losses.CODES[name]
    score, label, o = scores_and_labels(code, np.random.default_rng(1), 50, 1)
    far = score * 1e6
    found = losses.row_losses(code, far, label, SHAPES.get(name, 0.0))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    out = np.empty((50, o))
    gradients(code, far.reshape(50, -1), label, np.ones(50), o, SHAPES.get(name, 0.0), 1.0, out)
    assert np.isfinite(out).all()


def oracle(x, y, w, code, o, shape, unit, inverse_unit, rate, l1, l2, total, rows, base, squares, u):
    """The module's equations, entry by entry, with plain matrix products; θ of the run is given too."""
    u, squares, costs = u.copy(), squares.copy(), 5.0
    x1 = np.hstack([x, np.ones((len(x), 1))])
    l1, l2 = np.outer(np.append(np.ones(x.shape[1]), 0.0), l1), np.outer(np.append(np.ones(x.shape[1]), 0.0), l2)

    def proximal():
        root = np.sqrt(base + squares)
        at = np.divide(rate * total, root, out=np.zeros_like(root), where=root > 0)
        return np.sign(u) * np.maximum(np.abs(u) - at * l1, 0.0) / (1.0 + at * l2 * inverse_unit[:, None])

    for begin in range(0, len(x), rows):
        part = slice(begin, begin + rows)
        theta = proximal()
        e = np.empty((len(y[part]), u.shape[1]))
        score = np.ascontiguousarray(x1[part] @ theta)
        costs = costs + w[part] @ losses.row_losses(code, score.reshape(len(score), -1, o), y[part], shape)
        gradients(code, score, y[part], w[part], o, shape, 1.0, e)
        g = x1[part].T @ e
        old = np.sqrt(base + squares)
        squares += g * g
        root = np.sqrt(base + squares)
        kept = np.divide(old, root, out=np.zeros_like(root), where=root > 0)
        step = np.divide(rate * unit[:, None] * g, root, out=np.zeros_like(root), where=root > 0)
        u = kept * u + (1.0 - kept) * theta - step
        total += w[part].sum()
    return u, squares, proximal(), total, costs


@pytest.mark.parametrize("penalised", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "o"), [("logistic", 1), ("softmax", 3)])
def test_runs_follow_their_equations(name: str, o: int, dtype: type, penalised: bool) -> None:
    rng = np.random.default_rng(5)
    n, d, v = 203, 6, 3
    x = (rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.4)).astype(dtype)
    y = rng.integers(0, max(o, 2), n).astype(float)
    w = rng.uniform(0.2, 2.0, n)
    m = v * o
    unit = np.append(rng.uniform(0.5, 2.0, d), 3.0)
    unit[2] = 0.0  # held still
    inverse_unit = np.append(np.divide(1.0, unit[:-1], out=np.zeros(d), where=unit[:-1] > 0), 0.0)
    rate = np.repeat([0.1, 0.3, 0.7], o)
    l1, l2 = (np.repeat(a, o) if penalised else np.zeros(m) for a in ([0.0, 0.02, 0.01], [0.01, 0.0, 0.03]))
    base, squares, u = rng.uniform(0, 2, (d + 1, m)), rng.uniform(0, 1, (d + 1, m)), rng.normal(size=(d + 1, m)) * 0.1
    base[4] = squares[4] = u[4] = 0.0  # never touched before
    loss = (losses.CODES[name], o, 0.0)
    reach = np.append(np.full(d, np.inf), np.inf)
    reach[1] = 0.5
    x64 = np.clip(x.astype(np.float64), -reach[:-1], reach[:-1])
    expected = oracle(x64, y, w, *loss, unit, inverse_unit, rate, l1, l2, 7.0, 16, base, squares, u)

    def run(kernel, *rows):
        mine_u, mine_squares, costs = u.copy(), squares.copy(), np.full(v, 5.0)
        tables = [mine_squares, mine_u]
        if kernel is adagrad.dense_run:
            start = proximal_of(mine_u, base + squares, rate, l1, l2, inverse_unit, 7.0)
            tables.append(start if penalised else mine_u)
        total = kernel(
            *rows, y, w, *loss, 1.0, unit, inverse_unit, reach, rate, l1, l2, 7.0, penalised, 16, base, *tables, costs
        )  # fmt: skip
        after = proximal_of(mine_u, base + mine_squares, rate, l1, l2, inverse_unit, total)
        return mine_u, mine_squares, after, total, costs

    rows, columns = np.nonzero(x)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64)
    for found in (
        run(adagrad.dense_run, x, np.zeros(d)),
        run(adagrad.sparse_run, indptr, columns.astype(np.int32), x[rows, columns]),
    ):
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)


def proximal_of(u, squares, rate, l1, l2, inverse_unit, total):
    root = np.sqrt(squares)
    at = np.divide(rate * total, root, out=np.zeros_like(root), where=root > 0)
    theta = np.sign(u) * np.maximum(np.abs(u) - at * l1, 0.0) / (1.0 + at * l2 * inverse_unit[:, None])
    theta[-1] = u[-1]
    return theta


def test_sparse_scores_are_the_matrix_product() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 5)) * (rng.random((20, 5)) < 0.5)
    theta = rng.normal(size=(6, 3))
    rows, columns = np.nonzero(x)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=20))]).astype(np.int64)
    out = np.empty((20, 3))
    adagrad.sparse_scores(indptr, columns.astype(np.int32), x[rows, columns], theta, out)
    np.testing.assert_allclose(out, x @ theta[:-1] + theta[-1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_moments_are_the_centred_power_sums(offset: float) -> None:
    rng = np.random.default_rng(2)
    x = np.round(rng.gamma(2.0, size=(500, 3)) * 2**20) / 2**20 + offset
    w = rng.uniform(0.1, 2.0, 500)
    out = np.zeros((3, 6))
    moments.dense_moments(x, w, np.full(3, -np.inf), np.full(3, np.inf), out)
    mean = np.average(x - offset, axis=0, weights=w)
    z = x - offset - mean
    np.testing.assert_allclose(out[:, 0], w.sum())
    np.testing.assert_allclose(out[:, 1] - offset, mean, rtol=1e-7)
    for k in (2, 3, 4):
        np.testing.assert_allclose(out[:, k], w @ z**k, rtol=1e-6)
    np.testing.assert_allclose(out[:, 5], w.sum(), rtol=0.01)


def test_rows_away_from_the_commonest_value_move_a_column() -> None:
    x = np.array([[1.0, 4.0], [0.0, 4.0], [0.0, 4.0], [1.0, 4.0], [0.0, 4.0]])
    out = np.zeros((2, 6))
    moments.dense_moments(x, np.array([1.0, 2.0, 4.0, 8.0, 16.0]), *np.array([[-9.0, -9.0], [9.0, 9.0]]), out)
    assert out[:, 5].tolist() == [9.0, 0.0]


def test_sparse_moments_count_stored_values_other_than_zero() -> None:
    out = np.zeros((2, 6))
    indptr, place = np.array([0, 2, 3, 4]), np.array([0, 1, 0, 0], dtype=np.int32)
    values, weight = np.array([2.0, 3.0, -1.0, 0.0]), np.array([1.0, 0.5, 4.0])
    moments.sparse_moments(indptr, place, values, weight, np.full(2, -np.inf), np.full(2, np.inf), out)
    np.testing.assert_allclose(out, [[1.5, 1, 3, -3, 9, 0.5], [1, 3, 0, 0, 0, 0]])
    around_zero = [[1.5, 0, 4.5, 7.5, 16.5, 1.5], [1, 0, 9, 27, 81, 1]]
    np.testing.assert_allclose(stored_around_zero(out), around_zero)


def test_canonical_rows_have_rising_columns() -> None:
    indptr = np.array([0, 2, 2, 4])
    assert sparse.is_canonical(indptr, np.array([0, 3, 1, 2], dtype=np.int32))
    assert not sparse.is_canonical(indptr, np.array([0, 3, 2, 2], dtype=np.int32))
    assert not sparse.is_canonical(indptr, np.array([3, 0, 1, 2], dtype=np.int32))


def test_columns_are_numbered_in_the_order_they_come() -> None:
    scratch = np.full(9, -1, dtype=np.int32)
    columns, place = np.empty(4, dtype=np.int64), np.empty(6, dtype=np.int32)
    count = moments.number_columns(np.array([7, 2, 7, 0, 2, 7], dtype=np.int32), scratch, columns, place)
    assert (count, columns[:3].tolist(), place.tolist()) == (3, [7, 2, 0], [0, 1, 0, 2, 1, 0])
    assert (scratch == -1).all()
