"""Solving the normal equations: rank-revealing, and with elastic-net penalties.

Letters: ``d`` features. Scaling happens here only: the sums stay in feature units.
"""

import numpy as np
from scipy.linalg import lapack

from beam_ml.algorithms.linear.newton.sums import Point, Sums

__all__ = ["column_scale", "elastic_net", "inverse_or_zero", "root_of_inverse", "rounding", "solve", "solve_symmetric"]

_EPS = float(np.finfo(np.float64).eps)
_WELL_CONDITIONED = 1e-11
_LONG_DOUBLE_CELLS = 1 << 20  # refining in long double costs d² slow products: only for matrices up to this many cells


def solve_symmetric(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return x with a·x = b for symmetric positive semi-definite a (d, d); the shortest such x where a has no full rank.

    A Cholesky factor with one step of iterative refinement serves well-conditioned matrices; others go through their
    eigenvalues, those below d·ε of the largest counting as 0 (collinear columns share their coefficient).
    """
    if a.shape[0] == 0:
        return np.zeros(0)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return np.full(b.shape, np.nan)
    factor, failed = lapack.dpotrf(a, lower=1)
    if not failed:
        norm = float(np.abs(a).sum(axis=0).max())
        rcond, _ = lapack.dpocon(factor, norm, uplo="L")
        if rcond > _WELL_CONDITIONED:
            x = np.asarray(lapack.dpotrs(factor, b, lower=1)[0])
            if a.size <= _LONG_DOUBLE_CELLS:
                residual = b.astype(np.longdouble) - a.astype(np.longdouble) @ x.astype(np.longdouble)
                x = x + lapack.dpotrs(factor, residual.astype(np.float64), lower=1)[0]
            return np.asarray(x).reshape(b.shape)
    values, vectors = np.linalg.eigh(a)
    limit = 8.0 * a.shape[0] * _EPS * max(float(values[-1]), 0.0)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > limit)
    x = vectors @ (inverse * (vectors.T @ b))
    return np.asarray(x)


def root_of_inverse(a: np.ndarray) -> np.ndarray:
    """Return R with RᵀR = a⁻¹ for symmetric positive semi-definite a (d, d); of eigenvalues that count as 0, none.

    >>> root = root_of_inverse(np.array([[4.0, 0.0], [0.0, 0.0]]))
    >>> (root.T @ root).tolist()
    [[0.25, 0.0], [0.0, 0.0]]
    """
    values, vectors = np.linalg.eigh(a)
    limit = 8.0 * a.shape[0] * _EPS * max(float(values[-1]), 0.0)
    inverse = np.divide(1.0, values, out=np.zeros_like(values), where=values > limit)
    root: np.ndarray = np.sqrt(inverse)[:, None] * vectors.T
    return root


def rounding(origin: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the deviation (d,) below which a column of this mean around this origin varies by rounding alone.

    0.1 · 3 and 0.3 are one number to whoever wrote them; a coefficient that told them apart would be about 10¹⁶.
    """
    return np.asarray(4.0 * _EPS * (np.abs(origin) + np.abs(mean)))


def column_scale(sums: Sums) -> np.ndarray:
    """Return √diag S (d,), 0 for columns that are constant but for rounding, of their values or of their mean."""
    variance = np.diagonal(sums.scatter)
    noise = sums.information * rounding(sums.origin, sums.mean) ** 2
    scale: np.ndarray = np.sqrt(np.where(variance > noise, variance, 0.0))
    return scale


def inverse_or_zero(x: np.ndarray) -> np.ndarray:
    """Return 1/x, 0 where x is 0."""
    return np.divide(1.0, x, out=np.zeros_like(x), where=x != 0)


def solve(sums: Sums) -> Point:
    """Solve ``b = S⁻¹c``, ``b₀ = R/W − mᵀb``; columns that do not vary get 0."""
    inverse = inverse_or_zero(column_scale(sums))
    used = inverse > 0
    b = np.zeros(sums.mean.size)
    if used.any():
        by = inverse[used]
        gram = sums.scatter[np.ix_(used, used)] * by[:, None] * by
        b[used] = by * solve_symmetric(gram, by * sums.cross[used])
    elif not np.isfinite(sums.scatter).all():
        b[:] = np.nan
    return Point(b, sums.response / sums.information - float(sums.mean @ b), sums.origin)


def elastic_net(gram: np.ndarray, q: np.ndarray, l1: np.ndarray, l2: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Minimise ``½βᵀGβ − qᵀβ + Σ l1_j|β_j| + ½Σ l2_jβ_j²`` by coordinate descent (Friedman, Hastie & Tibshirani 2010).

    Args:
        gram: (d, d) positive semi-definite.
        q: (d,).
        l1: (d,) ≥ 0.
        l2: (d,) ≥ 0.
        start: (d,) where to begin.

    Returns:
        (d,) minimiser; solved again, without l1's kink, on the coefficients that are not 0.
    """
    if not l1.any():
        return solve_symmetric(gram + np.diag(l2), q)
    from beam_ml.kernels.newton.descent import descend

    beta = descend(
        np.ascontiguousarray(gram), np.ascontiguousarray(q), np.ascontiguousarray(l1), np.ascontiguousarray(l2),
        np.array(start, dtype=np.float64), 1e-12, 20_000,
    )  # fmt: skip
    active = beta != 0
    if active.any():
        sign = np.sign(beta[active])
        kept = gram[np.ix_(active, active)] + np.diag(l2[active])
        polished = solve_symmetric(kept, q[active] - sign * l1[active])
        if np.array_equal(np.sign(polished), sign):
            beta[active] = polished
    return np.asarray(beta)
