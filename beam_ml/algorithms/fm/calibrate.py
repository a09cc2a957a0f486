"""How far a machine's scores are to be trusted: one factor and one level. Letters as in `machine`; ``n`` rows."""

import numpy as np
from scipy.special import expit

__all__ = ["damp", "trusted"]

_STEPS = 12
_ENOUGH = 1e-9


def trusted(logistic: bool, score: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Return α in [0, 1] and β of the scores α·η + β with the least loss on rows; α = 0 is the constant rate.

    Newton's steps from the better of (1, 0) and the constant rate; the loss is convex in both. Nothing finite: (0, 0).

    Args:
        logistic: log loss; False: squared.
        score: (n,) η.
        label: (n,).
        weight: (n,).

    >>> alpha, beta = trusted(False, np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]), np.ones(3))
    >>> round(alpha, 6), round(beta, 6)
    (0.5, 0.0)
    """
    total = float(weight.sum())
    if not (total > 0 and np.isfinite(score).all()):
        return 0.0, 0.0
    mean = float(weight @ label) / total
    if logistic:
        rate = min(max(mean, 1e-6), 1.0 - 1e-6)
        mean = float(np.log(rate / (1.0 - rate)))
    middle = float(weight @ score) / total
    gap = score - middle

    def loss(at: np.ndarray) -> float:
        eta = at[0] * gap + at[1]
        each = (
            np.maximum(eta, 0.0) - label * eta + np.log1p(np.exp(-np.abs(eta)))
            if logistic
            else 0.5 * (eta - label) ** 2
        )
        return float(weight @ each) / total

    starts = [np.array([0.0, mean]), np.array([1.0, middle])]
    at = min(starts, key=loss)
    least = loss(at)
    for _ in range(_STEPS):
        eta = at[0] * gap + at[1]
        mu = expit(eta) if logistic else eta
        pull = weight * (mu - label) / total
        bend = weight * (mu * (1.0 - mu) if logistic else 1.0) / total
        slope = np.array([pull @ gap, pull.sum()])
        curve = np.array([[bend @ gap**2, bend @ gap], [bend @ gap, bend.sum()]])
        way = np.linalg.lstsq(curve + 1e-12 * np.eye(2) * (1.0 + np.trace(curve)), slope, rcond=None)[0]
        for length in (1.0, 0.5, 0.25, 0.0625, 0.0):
            tried = at - length * way
            tried[0] = min(max(tried[0], 0.0), 1.0)
            found = loss(tried)
            if found <= least:
                break
        if not found < least - _ENOUGH * abs(least):
            break
        at, least = tried, found
    return float(at[0]), float(at[1] - at[0] * middle)


def damp(theta: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Return parameters (p, m), the bias last, whose scores are α·η + β."""
    out = theta * np.concatenate([[alpha], np.full(theta.shape[1] - 1, np.sqrt(alpha))])
    out[-1, 0] += beta
    return np.asarray(out)
