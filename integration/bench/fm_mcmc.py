"""Factorization machines in several passes, beside a Gibbs sampler of the same model (libFM's MCMC).

Ratings are generated: users, items, biases, low-rank tastes and noise, popular items and busy users, so that most have few
ratings; half stars. Every rating names one user and one item. The peer draws from the posterior (Freudenthaler,
Schmidt-Thieme and Rendle 2011: Bayesian factorization machines): noise, the mean and precision of linear weights and of each
factor's entries, and every parameter in turn, and predicts by the mean over draws after the first fifth. Ours is
`beam_ml.fit` with defaults and the same number of factors, after 3, 10 and 20 passes. Held-out root mean squared error, and
by how much ours exceeds the peer's; medians of seeds, none of which settings were chosen by.
Run: ``python integration/bench/fm_mcmc.py``.
"""

import statistics
import time
from typing import Any

import numba
import numpy as np
from bench_support import last_line, machine
from fm_quality import ratings

from beam_ml import Batch, derive, fit, fm, predict
from beam_ml.core.threads import one_thread

CLAIM = "fm.Spec with defaults is within 1.5 % of the error of a Gibbs sampler of its model after 3, 10 and 20 passes"
FACTORS, DRAWS = 16, 200
PASSES = (3, 10, 20)
WINDOW = 4_096
HELD_OUT = 10_000
SHAPES = {"300 × 250, 18,000 ratings": (300, 250, 18_000), "943 × 1,682, 80,000 ratings": (943, 1_682, 80_000)}
SEEDS = tuple(range(700, 705))


@numba.njit(cache=True, error_model="numpy")
def _draw(bounds, rows, theta, e, q, noise, mean, precision, normal, pairs):  # type: ignore[no-untyped-def]
    """Draw all features' entries in one column in turn, given all else; residuals and Σ v of the column follow.

    Args:
        bounds: (d + 1,) of each feature's rows.
        rows: (z,) numbers of rows.
        theta: (d,) entries; updated.
        e: (n,) label less score; updated.
        q: (n,) Σ v of a row's features; updated where the column is of factors.
        noise: precision of labels.
        mean: of the entries' prior.
        precision: of the entries' prior.
        normal: (d,) standard normal draws.
        pairs: whether the column is of factors.
    """
    for j in range(theta.size):
        old, squares, pull = theta[j], 0.0, 0.0
        for at in range(bounds[j], bounds[j + 1]):
            i = rows[at]
            h = q[i] - old if pairs else 1.0
            squares += h * h
            pull += h * (e[i] + h * old)
        width = 1.0 / (noise * squares + precision)
        new = width * (noise * pull + mean * precision) + normal[j] * np.sqrt(width)
        theta[j] = new
        for at in range(bounds[j], bounds[j + 1]):
            i = rows[at]
            h = q[i] - old if pairs else 1.0
            e[i] -= h * (new - old)
            if pairs:
                q[i] += new - old


def gibbs(train: Batch, test: Batch, seed: int) -> float:
    """Return the sampler's held-out root mean squared error."""
    rng = np.random.default_rng(seed)
    assert train.indices is not None
    assert test.indices is not None
    assert train.label is not None
    assert test.label is not None
    both, other, y = train.indices.reshape(-1, 2), test.indices.reshape(-1, 2), train.label
    d, n = train.n_features, len(train)
    order = np.argsort(both.ravel(), kind="stable")
    rows = order // 2
    bounds = np.searchsorted(both.ravel()[order], np.arange(d + 1))
    theta = np.zeros((FACTORS + 1, d))
    theta[1:] = 0.1 * rng.normal(size=(FACTORS, d))
    bias, means, precisions = float(y.mean()), np.zeros(FACTORS + 1), np.full(FACTORS + 1, 1.0)
    total, kept = np.zeros(len(test)), 0

    def score(at: np.ndarray) -> np.ndarray:
        v = theta[1:]
        return np.asarray(bias + theta[0][at].sum(axis=1) + (v[:, at[:, 0]] * v[:, at[:, 1]]).sum(axis=0))

    e = y - score(both)
    for number in range(DRAWS):
        noise = rng.gamma(0.5 * (1 + n), 2.0 / (1.0 + e @ e))
        new = (noise * (e + bias).sum()) / (noise * n) + rng.normal() / np.sqrt(noise * n)
        e, bias = e + (bias - new), new
        for c in range(FACTORS + 1):
            column = theta[c]
            off = column - means[c]
            precisions[c] = rng.gamma(0.5 * (2 + d), 2.0 / (1.0 + off @ off + means[c] ** 2))
            means[c] = rng.normal(column.sum() / (d + 1), 1.0 / np.sqrt((d + 1) * precisions[c]))
            q = column[both].sum(axis=1)
            _draw(bounds, rows, column, e, q, noise, means[c], precisions[c], rng.normal(size=d), c > 0)
        if number >= DRAWS // 5:
            total, kept = total + score(other), kept + 1
    return float(np.sqrt(np.mean(np.square(total / kept - test.label))))


def ours(train: Batch, test: Batch, passes: int, **settings: Any) -> float:
    """Return our held-out root mean squared error after so many passes."""
    plain = train.replace(origin=None, position=None)
    parts = [plain.take(slice(i, i + WINDOW)) for i in range(0, len(plain), WINDOW)]
    spec = fm.Spec(n_features=train.n_features, n_factors=FACTORS, task="regression", **settings)
    model = derive(fit(spec, parts, passes=passes), fm.Regressor())
    assert test.label is not None
    return float(np.sqrt(np.mean(np.square(predict(model, test)["score"] - test.label))))


def drawn(seed: int, users: int, items: int, n: int) -> tuple[Batch, Batch]:
    """Return ratings to learn from and others."""
    rows = ratings(seed, n + HELD_OUT, "regression", users, items)
    return rows.take(slice(n)), rows.take(slice(n, None))


def compared(shape: tuple[int, int, int], seeds: tuple[int, ...]) -> dict[str, Any]:
    """Return medians over seeds of both errors, and of the excess in per cent."""
    errors: list[float] = []
    mine: dict[int, list[float]] = {passes: [] for passes in PASSES}
    for seed in seeds:
        train, test = drawn(1_000 + seed, *shape)
        errors.append(gibbs(train, test, seed))
        for passes in PASSES:
            mine[passes].append(ours(train, test, passes))
    excess = {
        passes: statistics.median(100 * (a / b - 1) for a, b in zip(found, errors, strict=True))
        for passes, found in mine.items()
    }
    late = statistics.median(100 * (a / b - 1) for a, b in zip(mine[PASSES[-1]], mine[PASSES[-2]], strict=True))
    return {
        "gibbs": statistics.median(errors),
        "ours": {str(passes): statistics.median(found) for passes, found in mine.items()},
        "excess_per_cent": {str(passes): value for passes, value in excess.items()},
        f"{PASSES[-1]} over {PASSES[-2]} passes, per cent": late,
    }


def main() -> None:
    """Print a table and one JSON line."""
    began = time.perf_counter()
    print(machine())
    found, rows = {}, 0
    with one_thread():
        for name, shape in SHAPES.items():
            found[name] = one = compared(shape, SEEDS)
            rows += shape[2] * len(SEEDS)
            told = ", ".join(
                f"{p} passes {one['ours'][p]:.4f} ({one['excess_per_cent'][p]:+.2f} %)" for p in one["ours"]
            )
            print(f"{name}: Gibbs {one['gibbs']:.4f}; ours {told}", flush=True)
    worst = max(one["excess_per_cent"][str(passes)] for one in found.values() for passes in PASSES)
    print(last_line(CLAIM, 1 + worst / 100, 1.0, 1 + worst / 100, found, rows, time.perf_counter() - began))


if __name__ == "__main__":
    main()
