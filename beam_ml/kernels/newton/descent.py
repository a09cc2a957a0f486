"""Coordinate descent for a quadratic with elastic-net penalties. Letters: ``d`` features."""

# mypy: disable-error-code="untyped-decorator"

import numba
import numpy as np

__all__ = ["descend"]


@numba.njit("f8[::1](f8[:,::1], f8[::1], f8[::1], f8[::1], f8[::1], f8, i8)", cache=True, nogil=True)
def descend(
    gram: np.ndarray, q: np.ndarray, l1: np.ndarray, l2: np.ndarray, beta: np.ndarray, tol: float, max_sweeps: int
) -> np.ndarray:
    """Minimise ``½βᵀGβ − qᵀβ + Σ l1_j|β_j| + ½Σ l2_jβ_j²``, starting from (and overwriting) beta.

    Ends when no coordinate of a sweep moves the gradient by more than `tol` of the largest |q|.
    """
    d = q.size
    gradient = q - gram @ beta
    largest = 0.0
    for j in range(d):
        largest = max(largest, abs(q[j]))
    for _ in range(max_sweeps):
        moved = 0.0
        for j in range(d):
            curvature = gram[j, j] + l2[j]
            old = beta[j]
            if curvature <= 0.0:
                new = 0.0
            else:
                pull = gradient[j] + gram[j, j] * old
                if pull > l1[j]:
                    new = (pull - l1[j]) / curvature
                elif pull < -l1[j]:
                    new = (pull + l1[j]) / curvature
                else:
                    new = 0.0
            step = new - old
            if step != 0.0:
                beta[j] = new
                for i in range(d):
                    gradient[i] -= gram[j, i] * step
                moved = max(moved, abs(step) * curvature)
        if moved <= tol * largest:
            break
    return beta
