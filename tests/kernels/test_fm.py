"""The kernels of factorization machines against a numpy oracle and finite differences."""

import numpy as np
import pytest
from scipy.special import expit

from beam_ml import fm
from beam_ml.algorithms.fm.rows import in_frames
from beam_ml.kernels.fm import fold, frames
from beam_ml.kernels.fm import run as kernels
from beam_ml.kernels.shared import losses, moves

K = 3
M = K + 1
RATE, L2 = np.array([0.3, 0.2, 0.1]), np.array([0.01, 0.02, 0.03])


def csr(x):
    rows, columns = np.nonzero(x)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(x)))]).astype(np.int64)
    return indptr, (columns + 1).astype(np.int32), x[rows, columns]


def data(seed=0, n=60, d=7):
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((n, d)) < 0.5, rng.normal(size=(n, d)), 0.0)
    x[n // 2] = 0.0  # a row without features
    return x, rng


def table_of(rng, d):
    table = np.zeros((d + 1, 3 * M + kernels.EXTRA))
    table[:, :M] = 0.3 * rng.normal(size=(d + 1, M))
    table[:, 2 * M : 3 * M] = rng.uniform(0.1, 2.0, (d + 1, M))
    table[:, 3 * M + 1] = 1.0  # every scale is 1
    return table


def test_a_task_has_the_number_of_its_loss():
    codes = [fm.Spec(n_features=2, task=task).loss_code for task in ("binary", "regression")]
    assert codes == [losses.LOGISTIC, losses.SQUARED]


def score(x, w0, w, v):
    """Rendle's equation by its double sum over pairs."""
    pairs = sum(x[i] * x[j] * (v[i] @ v[j]) for i in range(len(x)) for j in range(i))
    return w0 + w @ x + pairs


def oracle(x, y, weight, logistic, clip, theta, base, longer=(0.0, 0.0, 0.0)):
    """One AdaGrad step per row, in numpy; returns θ, the run's Σ gradient², and how many rows' steps were held back."""
    u, g, held = theta.copy(), np.zeros_like(theta), []
    seen, strange = [], []
    for row, label, s in zip(x, y, weight, strict=True):
        eta = score(row, u[0, 0], u[1:, 0], u[1:, 1:])
        e = (expit(eta) if logistic else eta) - label
        grad = np.zeros_like(u)
        grad[0, 0], grad[1:, 0] = e, e * row
        grad[1:, 1:] = e * row[:, None] * (row @ u[1:, 1:] - row[:, None] * u[1:, 1:])
        there = np.concatenate([[True], row != 0])[:, None] * np.concatenate(
            [np.full((1, M), [1, *[0] * K]), np.ones((len(u) - 1, M))]
        )
        grad = (
            there
            * s
            * (
                np.clip(grad, -clip, clip)
                + u * np.vstack([np.full(M, L2[0]), np.tile([L2[1], *[L2[2]] * K], (len(u) - 1, 1))])
            )
        )
        total = g + grad * grad
        far = (
            np.inf
            if logistic or sum(weight[: len(seen)]) < 16 * s
            else 16 * np.average(seen, weights=weight[: len(seen)])
        )
        seen.append(min(e * e, far))
        strange.append(e * e > far)
        little = 1.0 / (1.0 + longer[2] * (base + g)[:, :1])
        by = 1.0 + little * np.array([longer[0], *[longer[1]] * K])
        by[0] = 1.0
        g += grad * grad * min(1.0, far / (e * e))
        step = (
            by
            * np.vstack([np.full(M, RATE[0]), np.tile([RATE[1], *[RATE[2]] * K], (len(u) - 1, 1))])
            * grad
            / np.sqrt(base + total)
        )
        slopes = np.concatenate(
            [[[1, *[0] * K]], np.c_[row, row[:, None] * (row @ u[1:, 1:] - row[:, None] * u[1:, 1:])]]
        )
        gone, most = abs((step * slopes).sum()), (2.0 if logistic else 0.5) * abs(e)
        held.append(gone > most)
        pulled = s * np.clip(e * np.concatenate([[1.0], row]), -clip, clip)
        new = np.minimum(1.0, pulled**2 / (base + g)[:, 0])
        young = abs(new @ (step * slopes).sum(axis=1))
        u -= step * (1.0 - np.clip((gone - most) / young, 0.0, 1.0) * new)[:, None]
    return u, g, sum(held), sum(strange)


def ran(
    place,
    values,
    y,
    weight,
    code,
    rate,
    l2,
    clip,
    table,
    indptr,
    farthest=np.inf,
    spread=1.0,
    everywhere=(),
    prior=(0,) * 5,
    longer=(0.0, 0.0, 0.0),
):
    both = np.stack([weight, weight], axis=1)
    slots = np.array(everywhere, np.int64)
    kernels.run(
        indptr, place, values, y, both, code, rate, l2, clip, np.array(prior, float), np.array(longer), farthest, spread, M,
        slots, table,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("logistic", [True, False])
@pytest.mark.parametrize("clip", [np.inf, 0.2])
@pytest.mark.parametrize("longer", [(0.0, 0.0, 0.0), (0.8, 1.4, 0.3)])
def test_a_run_equals_the_oracle(dtype, logistic, clip, longer):
    x, rng = data()
    x = x.astype(dtype).astype(np.float64)
    y = (rng.random(len(x)) < 0.5).astype(float) if logistic else rng.normal(size=len(x))
    y[40] += 0 if logistic else 30  # a stranger
    weight = rng.uniform(0.2, 3.0, len(x))
    table = table_of(rng, x.shape[1])
    theta, base = table[:, :M].copy(), table[:, 2 * M : 3 * M].copy()
    indptr, place, values = csr(x)
    ran(place, values.astype(dtype), y, weight, 0 if logistic else 1, RATE, L2, clip, table, indptr, longer=longer)
    u, g, held, strange = oracle(x, y, weight, logistic, clip, theta, base, longer)
    assert 0 < held < len(x)
    assert logistic or strange == 1
    # The bias has one column; the others of its row are never touched.
    np.testing.assert_allclose(table[:, :M], u, rtol=1e-10)
    np.testing.assert_allclose(table[:, M : 2 * M], g, rtol=1e-10, atol=1e-15)


def test_gradients_equal_finite_differences_of_the_loss():
    """The first step of an entry from G = 0 has the sign of its gradient, and Σ gradient² its square."""
    x, rng = data(1, n=1, d=5)
    x[0] = rng.normal(size=5)
    y, weight = np.array([1.0]), np.array([1.7])
    table = table_of(rng, 5)
    table[:, 2 * M : 3 * M] = 0.0
    theta = table[:, :M].copy()
    indptr, place, values = csr(x)
    ran(place, values, y, weight, 0, 1e-3 * RATE, np.zeros(3), np.inf, table, indptr)

    def loss(at):
        eta = score(x[0], at[0, 0], at[1:, 0], at[1:, 1:])
        return weight[0] * (np.log1p(np.exp(eta)) - eta)

    step = 1e-6
    for i in range(6):
        for c in range(M if i else 1):
            up, down = theta.copy(), theta.copy()
            up[i, c] += step
            down[i, c] -= step
            slope = (loss(up) - loss(down)) / (2 * step)
            assert table[i, M + c] == pytest.approx(slope**2, rel=1e-5)
            rate = RATE[0 if i == 0 else 1 if c == 0 else 2]
            assert table[i, c] - theta[i, c] == pytest.approx(-1e-3 * rate * np.sign(slope), rel=1e-9)


def test_new_features_are_divided_by_the_root_mean_square_so_far():
    x, rng = data(2)
    y, weight = rng.normal(size=len(x)), rng.uniform(0.2, 3.0, len(x))
    scaled, seen = x.copy(), np.zeros((2, x.shape[1]))
    for i in range(len(x)):
        there = x[i] != 0
        seen += weight[i] * np.stack([there, x[i] ** 2])
        scaled[i, there] = x[i, there] / np.sqrt(seen[1, there] / seen[0, there])
    found = table_of(rng, x.shape[1])
    expected = found.copy()
    found[:, 3 * M + 1] = 0.0  # not known
    for rows, table in ((x, found), (scaled, expected)):
        indptr, place, values = csr(rows)
        ran(place, values, y, weight, 1, RATE, L2, np.inf, table, indptr)
    np.testing.assert_allclose(found[:, : 3 * M], expected[:, : 3 * M], rtol=1e-10)
    weights, means, scatter = found[1:, 3 * M + 2 : 3 * M + 5].T
    np.testing.assert_allclose(weights, seen[0], rtol=1e-12)
    np.testing.assert_allclose(scatter + weights * means**2, seen[1], rtol=1e-10)
    assert found[0, 3 * M + 2] == pytest.approx(weight.sum())


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_frames_centre_numbers_and_rows_without_them_have_zero(spread):
    x, rng = data(6)
    y, weight = rng.normal(size=len(x)), rng.uniform(0.2, 3.0, len(x))
    centre, scale = np.array([0.0, 5.0, -3.0, 0.0, 4.0, 0.0, 0.0]), np.array([2.0, 1.5, 3.0, 1.0, 0.0, 1.0, 1.0])
    far = x.copy()
    far[3, 1] = 1e6
    z = np.divide(far - centre, scale, out=np.zeros_like(x), where=scale > 0).clip(-10, 10) / spread  # one stands still
    found = table_of(rng, x.shape[1])
    expected = found.copy()
    found[1:, 3 * M], found[1:, 3 * M + 1] = centre, scale
    indptr, place, values = csr(far)
    ran(place, values, y, weight, 1, RATE, L2, np.inf, found, indptr, 10.0, spread, np.flatnonzero(centre) + 1)
    indptr, place, values = csr(z)
    ran(place, values, y, weight, 1, RATE, L2, np.inf, expected, indptr)
    np.testing.assert_allclose(found[:, : 3 * M], expected[:, : 3 * M], rtol=1e-9)
    # The far value counts with ten scales in the moments, too.
    told = far[:, 1].clip(-10, 5 + 15)
    there = told != 0
    mean = np.average(told[there], weights=weight[there])
    assert found[2, 3 * M + 3] == pytest.approx(mean)
    assert found[2, 3 * M + 4] == pytest.approx(weight[there] @ (told[there] - mean) ** 2)


@pytest.mark.parametrize("logistic", [True, False])
def test_penalties_that_adapt_are_those_of_prior_and_doubt(logistic):
    """The first row's gradient, by its square, with what is known of each factor from before."""
    x, rng = data(9, n=1)
    x[0] = rng.normal(size=7)
    table = table_of(rng, 7)
    table[0, 0] = -9.0  # far below the label, so the slope is negative
    table[:, 3 * M + 5] = rng.uniform(5.0, 50.0, 8)
    theta, base, often = table[1:, :M].copy(), table[1:, 2 * M : 3 * M].copy(), table[1:, 3 * M + 5].copy()
    prior = (0.7, 2.0, 1.6, 0.9, 0.6)
    indptr, place, values = csr(x)
    ran(
        place,
        values,
        np.ones(1),
        np.ones(1),
        0 if logistic else 1,
        RATE,
        np.zeros(3),
        np.inf,
        table,
        indptr,
        prior=prior,
    )
    row, v = x[0], theta[:, 1:]
    variance = 1.0 / (prior[1] + prior[2] * base[:, 1:])
    doubt = prior[4] * row[:, None] ** 2 * ((variance * row[:, None] ** 2).sum(axis=0) - variance * row[:, None] ** 2)
    share = 1.0 / (often + 1.0 + 4.0)
    found = np.sqrt(table[1:, M : 2 * M])
    slope = np.sqrt(table[0, M])  # of the bias: the slope of the loss
    e, bend = -slope, slope * (1.0 - slope) if logistic else 1.0
    linear = e * row + prior[0] * share * theta[:, 0]
    factors = e * row[:, None] * (row @ v - row[:, None] * v) + (prior[3] * share[:, None] + bend * doubt) * v
    np.testing.assert_allclose(found, np.abs(np.c_[linear, factors]), rtol=1e-9)


def test_rows_in_frames_are_the_same_for_the_search():
    x, _ = data(7)
    centre, scale = np.array([0.0, 5.0, -3.0, 0.0, 4.0, 0.0, 0.0]), np.array([2.0, 1.5, 3.0, 1.0, 0.0, 1.0, 1.0])
    z = np.divide(x - centre, scale, out=np.zeros_like(x), where=scale > 0)
    indptr, place, values = csr(x)
    bounds, places, out = in_frames(indptr, place - np.int32(1), values, centre, scale, np.inf)
    found = np.zeros_like(x)
    found[np.repeat(np.arange(len(x)), np.diff(bounds)), places] = out
    np.testing.assert_allclose(found, z, rtol=1e-14)


def test_moments_of_a_batch_are_those_of_a_run():
    x, rng = data(8)
    weight = rng.uniform(0.2, 3.0, len(x))
    table = table_of(rng, x.shape[1])
    indptr, place, values = csr(x)
    out = np.zeros((len(table), 3))
    frames.moments(place, values, weight, indptr, out)
    ran(place, values, np.zeros(len(x)), weight, 1, RATE, L2, np.inf, table, indptr)
    np.testing.assert_allclose(out[1:], table[1:, 3 * M + 2 : 3 * M + 5], rtol=1e-12, atol=1e-14)
    assert out[0, 0] == pytest.approx(table[0, 3 * M + 2])


def test_a_constant_has_a_scatter_of_exactly_zero():
    for value in (0.37, 1e8 + 0.1, -7.0):
        table = np.zeros((2, 3))
        weight = np.random.default_rng(0).uniform(1e-3, 1e3, 500)
        frames.moments(np.ones(500, np.int32), np.full(500, value), weight, np.arange(501), table)
        assert table[1, 1:].tolist() == [value, 0.0]


def test_zeros_that_are_stored_are_no_features():
    table = table_of(np.random.default_rng(3), 1)
    before = table.copy()
    one = np.ones(1)
    ran(np.array([1], np.int32), np.zeros(1), one, one, 1, RATE, L2, np.inf, table, np.array([0, 1]))
    assert np.array_equal(table[1], before[1])
    assert table[0, 0] != before[0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_equal_the_double_sum(dtype):
    x, rng = data(4)
    x = x.astype(dtype).astype(np.float64)
    w, v = rng.normal(size=x.shape[1]), rng.normal(size=(x.shape[1], K))
    indptr, place, values = csr(x)
    out = np.empty(len(x))
    kernels.scores(indptr, place - np.int32(1), values.astype(dtype), 0.7, w, v, out)
    np.testing.assert_allclose(out, [score(row, 0.7, w, v) for row in x], rtol=1e-10, atol=1e-12)


def test_features_get_slots_in_the_order_they_come():
    slot, rows = np.zeros(10, np.int32), np.empty(11, np.int64)
    out = np.empty(5, np.int32)
    count = kernels.assign(np.array([7, 2, 7, 9, 2], np.int32), slot, rows, 1, out)
    assert (count, out.tolist(), rows[1:count].tolist()) == (4, [1, 2, 1, 3, 2], [7, 2, 9])
    count = kernels.assign(np.array([0, 9], np.int32), slot, rows, count, out[:2])
    assert (count, out[:2].tolist(), rows[count - 1]) == (5, [4, 3], 0)


def test_touched_rows_of_two_sets_are_gone_through_once():
    rng = np.random.default_rng(10)
    for sizes in ((5, 9), (0, 4), (3, 0), (6, 6)):
        a, b = (np.sort(rng.choice(15, n, replace=False)) for n in sizes)
        rows, at_a, at_b = np.empty((3, a.size + b.size), np.int64)
        count = moves.union(a, b, rows, at_a, at_b)
        np.testing.assert_array_equal(rows[:count], np.union1d(a, b))
        tables = [rng.normal(size=(one.size, 2)) for one in (a, b)]
        expected = np.zeros((15, 2))
        for one, table in zip((a, b), tables, strict=True):
            expected[one] += table
        out = np.empty((count, 2))
        moves.added(*tables, at_a[:count], at_b[:count], out)
        np.testing.assert_array_equal(out, expected[rows[:count]])


@pytest.mark.parametrize("curved", [True, False])
def test_a_step_touches_only_the_rows_of_the_window(curved):
    rng = np.random.default_rng(11)
    rows = np.array([1, 3, 4])
    scaled, moved = rng.normal(size=(2, 3, M))
    squares, common = rng.uniform(size=(3, M)), np.array([True, False, False])
    length, mean = np.array([0.5, 1.0, 0.25, 2.0, 0.125]), np.array([True, False, True, False, False])
    before, total = rng.normal(size=(5, M)), rng.uniform(size=(5, M))
    theta, sums = before.copy(), total.copy()
    assert fold.stepped(rows, scaled, moved, squares, common, length, mean, 0.5, curved, 4, theta, sums)
    whole = scaled / np.sqrt(total[rows] / 0.5 + 0.5 * squares) if curved else moved
    for i, groups in enumerate(([1] + [2] * K, [3] + [4] * K, [0] * M)):
        way = np.where(mean[groups], moved[i] / 4, whole[i])
        np.testing.assert_allclose(theta[rows[i]], before[rows[i]] + length[groups] * way, rtol=1e-12)
    np.testing.assert_array_equal(theta[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(sums[rows], total[rows] + squares)
    moved[0, 0] = scaled[0, 0] = np.inf
    assert not fold.stepped(rows, scaled, moved, squares, common, length, mean, 0.5, curved, 4, theta, sums)
