"""Weighted k-means on a coreset: greedy k-means++ seeding, Lloyd iterations, restarts.

Letters: ``m`` weighted points, ``d`` features, ``k`` clusters.

Reference: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding" (2007); Lloyd, "Least squares
quantization in PCM" (1982).
"""

import dataclasses

import numpy as np

from beam_ml import kernels
from beam_ml.algorithms.kmeans.spec import Clusters, Partial

__all__ = ["Clustering", "cluster"]

_TABLE_POINTS = 4096  # points whose distances to each other are kept: 128 MiB at most


@dataclasses.dataclass(frozen=True, slots=True)
class Clustering:
    """Centres, their weight and their share of the sum of squares, scatter inside the points included."""

    centres: np.ndarray
    weight: np.ndarray
    sse: np.ndarray

    @property
    def total(self) -> float:
        """The sum of squares."""
        return float(self.sse.sum())


@dataclasses.dataclass(frozen=True, slots=True)
class _Points:
    """Points about their mean, which keeps digits, and their squared distances where those fit memory."""

    z: np.ndarray
    norm: np.ndarray
    weight: np.ndarray
    scatter: np.ndarray
    table: np.ndarray | None

    def squared(self, chosen: np.ndarray) -> np.ndarray:
        """Return squared distances of the chosen points to all, (len(chosen), m)."""
        if self.table is not None:
            return self.table[chosen]
        return _squared(self.z[chosen], self.norm[chosen], self.z, self.norm)


def _squared(a: np.ndarray, a_norm: np.ndarray, b: np.ndarray, b_norm: np.ndarray) -> np.ndarray:
    table: np.ndarray = a @ b.T
    table *= -2.0
    table += a_norm[:, None]
    table += b_norm
    np.maximum(table, 0.0, out=table)
    return table


def _points(coreset: Partial) -> tuple[_Points, np.ndarray]:
    share = coreset.weight / coreset.weight.max()
    middle = (share / share.sum()) @ coreset.centres
    z = coreset.centres - middle
    norm = np.einsum("ij,ij->i", z, z)
    table = _squared(z, norm, z, norm) if norm.size <= _TABLE_POINTS else None
    if table is not None:
        np.fill_diagonal(table, 0.0)
    return _Points(z, norm, coreset.weight, coreset.scatter, table), middle


def cluster(coreset: Partial, choice: Clusters, seed: int) -> Clustering:
    """Cluster at least one point; points no more than k are the centres themselves.

    Minimises ``Σ_i w_i ‖z_i − c(i)‖² + Σ_i s_i``: the points' inner scatter is the same for every choice of centres.
    """
    m = coreset.weight.size
    if m <= choice.k:
        return _ordered(coreset.centres, coreset.weight, coreset.scatter)
    points, middle = _points(coreset)
    rng = np.random.default_rng((seed, choice.k))
    best: Clustering | None = None
    for _ in range(choice.restarts):
        seeds = _plus_plus(points, choice.k, rng) if choice.init == "kmeans++" else _random(points, choice.k, rng)
        found = _lloyd(points, points.z[seeds], choice)
        if best is None or found.total < best.total:
            best = found
    assert best is not None  # noqa: S101 there is at least one restart
    return _ordered(best.centres + middle, best.weight, best.sse)


def _ordered(centres: np.ndarray, weight: np.ndarray, sse: np.ndarray) -> Clustering:
    order = np.argsort(-weight, kind="stable")
    return Clustering(centres[order], weight[order], sse[order])


def _random(points: _Points, k: int, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(points.weight.size, size=k, replace=False, p=points.weight / points.weight.sum())


def _draw(mass: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points in proportion to their mass."""
    total = np.cumsum(mass)
    drawn = np.searchsorted(total, rng.random(count) * total[-1], side="right")
    return np.minimum(drawn, mass.size - 1)


def _plus_plus(points: _Points, k: int, rng: np.random.Generator) -> np.ndarray:
    """Choose k points, each the best of a few drawn by weight × squared distance to those chosen before."""
    trials = 2 + int(np.log(k))
    seeds = _draw(points.weight, 1, rng)
    near = points.squared(seeds)[0]
    for _ in range(k - 1):
        cost = points.weight * near
        if not cost.sum() > 0.0:
            cost = np.where(np.isin(np.arange(cost.size), seeds), 0.0, points.weight)
        tried = _draw(cost, trials, rng)
        left = np.minimum(points.squared(tried), near)
        best = int(np.argmin(left @ points.weight))
        near = left[best]
        seeds = np.append(seeds, tried[best])
    return seeds


def _lloyd(points: _Points, centres: np.ndarray, choice: Clusters) -> Clustering:
    none = np.zeros(centres.shape[0])
    before = np.inf
    for _ in range(choice.max_iter):
        index, near = kernels.kmeans.nearest.nearest(points.z, centres)
        cost = points.weight * near
        now = float(cost.sum())
        if before - now <= choice.tol * now:
            break
        before = now
        centres, mass, _ = kernels.kmeans.absorb.absorb(
            points.z, points.weight, points.scatter, index, centres, none, none
        )
        idle = np.flatnonzero(mass == 0.0)
        if idle.size:  # an idle centre goes where it saves most
            centres[idle] = points.z[np.argsort(-cost, kind="stable")[: idle.size]]
    index, _ = kernels.kmeans.nearest.nearest(points.z, centres)
    _, mass, sse = kernels.kmeans.absorb.absorb(points.z, points.weight, points.scatter, index, centres, none, none)
    return Clustering(centres, mass, sse)
