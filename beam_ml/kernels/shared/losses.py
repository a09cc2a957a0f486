"""Losses of linear models and their gradients, one row and many outputs at a time, for other kernels to call.

Letters: ``v`` variants, ``o`` outputs of a variant; a row's scores are (v·o,), the outputs of a variant side by side.
"""

# mypy: disable-error-code="untyped-decorator"

import math

import numba
import numpy as np

__all__ = [
    "ABSOLUTE",
    "EPS_ABSOLUTE",
    "EPS_SQUARED",
    "HINGE",
    "HUBER",
    "LOGISTIC",
    "MULTI_HINGE",
    "QUANTILE",
    "SOFTMAX",
    "SQUARED",
    "add_costs",
    "gradients",
    "pull",
]

LOGISTIC, SQUARED, HINGE, SOFTMAX, MULTI_HINGE, ABSOLUTE, HUBER, QUANTILE, EPS_SQUARED, EPS_ABSOLUTE = range(10)
"""Codes of the losses, as models store them."""


@numba.njit(inline="always")
def _slope(code: int, score: float, y: float, shape: float, unit: float) -> float:
    """Return the derivative by the score of a loss of one output; regression by the residual in units of the label."""
    if code == LOGISTIC:
        if score >= 0.0:
            return 1.0 / (1.0 + math.exp(-score)) - y
        e = math.exp(score)
        return e / (1.0 + e) - y
    if code == HINGE:
        sign = 1.0 if y >= 0.5 else -1.0
        return -sign if sign * score < shape else 0.0
    r = (score - y) * unit
    if code == SQUARED:
        return r
    if code == ABSOLUTE:
        return 1.0 if r > 0.0 else (-1.0 if r < 0.0 else 0.0)
    if code == HUBER:
        return min(max(r, -shape), shape)
    if code == QUANTILE:
        return 1.0 - shape if r > 0.0 else (-shape if r < 0.0 else 0.0)
    beyond = max(abs(r) - shape, 0.0)
    if code == EPS_SQUARED:
        return beyond if r > 0.0 else -beyond
    if beyond == 0.0:
        return 0.0
    return 1.0 if r > 0.0 else -1.0


@numba.njit(nogil=True)
def pull(
    code: int, score: np.ndarray, y: float, weight: float, outputs: int, shape: float, unit: float, out: np.ndarray
) -> None:
    """Write ``weight · ∂loss/∂score`` (v·o,) of one row.

    Args:
        code: of the loss.
        score: (v·o,) linear scores.
        y: label: 0 or 1, a class, or a number.
        weight: of the row.
        outputs: o.
        shape: margin, quantile, ε or δ of the loss.
        unit: 1 / the label's unit; regression only.
        out: (v·o,).
    """
    if outputs == 1:
        for c in range(score.size):
            out[c] = weight * _slope(code, score[c], y, shape, unit)
        return
    mine = int(y)
    for first in range(0, score.size, outputs):
        if code == SOFTMAX:
            top = score[first]
            for k in range(1, outputs):
                top = max(top, score[first + k])
            total = 0.0
            for k in range(outputs):
                e = math.exp(score[first + k] - top)
                out[first + k] = e
                total += e
            share = weight / total
            for k in range(outputs):
                out[first + k] *= share
            out[first + mine] -= weight
        else:
            worst, rival = -np.inf, 0
            for k in range(outputs):
                out[first + k] = 0.0
                if k != mine and score[first + k] > worst:
                    worst, rival = score[first + k], k
            if worst + shape > score[first + mine]:
                out[first + rival] = weight
                out[first + mine] = -weight


@numba.njit(inline="always")
def _cost(code: int, score: float, y: float, shape: float, unit: float) -> float:
    """Return a loss of one output, whose derivative is `_slope`."""
    if code == LOGISTIC:
        return max(score, 0.0) - y * score + math.log1p(math.exp(-abs(score)))
    if code == HINGE:
        return max(shape - (score if y >= 0.5 else -score), 0.0)
    r = (score - y) * unit
    if code == SQUARED:
        return 0.5 * r * r
    size = abs(r)
    if code == ABSOLUTE:
        return size
    if code == HUBER:
        return 0.5 * r * r if size <= shape else shape * (size - 0.5 * shape)
    if code == QUANTILE:
        return (1.0 - shape) * r if r > 0.0 else -shape * r
    beyond = max(size - shape, 0.0)
    return 0.5 * beyond * beyond if code == EPS_SQUARED else beyond


@numba.njit(nogil=True)
def add_costs(
    code: int, score: np.ndarray, y: float, weight: float, outputs: int, shape: float, unit: float, out: np.ndarray
) -> None:
    """Add ``weight · loss`` of one row to `out` (v,); the arguments are those of `pull`."""
    if outputs == 1:
        for c in range(score.size):
            out[c] += weight * _cost(code, score[c], y, shape, unit)
        return
    mine = int(y)
    for k in range(out.size):
        first = k * outputs
        if code == SOFTMAX:
            top = score[first]
            for o in range(1, outputs):
                top = max(top, score[first + o])
            total = 0.0
            for o in range(outputs):
                total += math.exp(score[first + o] - top)
            out[k] += weight * (math.log(total) + top - score[first + mine])
        else:
            rival = -np.inf
            for o in range(outputs):
                if o != mine:
                    rival = max(rival, score[first + o])
            out[k] += weight * max(shape + rival - score[first + mine], 0.0)


@numba.njit("void(i8, f8[:,::1], f8[::1], f8[::1], i8, f8, f8, f8[:,::1])", cache=True, nogil=True)
def gradients(
    code: int,
    score: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    outputs: int,
    shape: float,
    unit: float,
    out: np.ndarray,
) -> None:
    """Write ``weight · ∂loss/∂score`` (n, v·o) of n rows; see `pull`."""
    for i in range(y.size):
        pull(code, score[i], y[i], weight[i], outputs, shape, unit, out[i])
