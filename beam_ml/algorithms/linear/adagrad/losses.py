"""The losses of `linear.AdaGrad`, for many variants at once. Letters: ``n`` rows, ``v`` variants, ``o`` outputs.

With score η (n, v, o), label y and, for regression, r = (η − y) / unit::

    logistic   log(1 + e^η) − yη             hinge     max(0, margin − (2y − 1)η)
    softmax    log Σ_k e^{η_k} − η_y         multiclass hinge   max(0, margin + max_{k≠y} η_k − η_y)
    squared    ½r²                           huber     ½r² up to δ, then δ(|r| − ½δ)
    absolute   |r|                           quantile  (1 − q)·max(r, 0) + q·max(−r, 0)
    ε-insensitive absolute   max(0, |r| − ε)           ε-insensitive squared    ½·max(0, |r| − ε)²
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from scipy.special import expit, logsumexp, softmax

from beam_ml.algorithms.linear.adagrad.spec import AdaGrad

__all__ = ["CODES", "code_of", "is_binary", "is_multiclass", "prediction", "row_losses", "shape_of"]

CODES: Mapping[str, int] = MappingProxyType(
    {
        "logistic": 0,
        "squared": 1,
        "hinge": 2,
        "softmax": 3,
        "multiclass hinge": 4,
        "absolute": 5,
        "huber": 6,
        "quantile": 7,
        "eps_insensitive_squared": 8,
        "eps_insensitive_absolute": 9,
    }
)
"""Numbers stored in models; those of `beam_ml.kernels.shared.losses`, and of `linear.Newton` for its two."""


def code_of(spec: AdaGrad) -> int:
    """Return the number of a spec's loss."""
    return CODES["multiclass hinge" if spec.task == "multiclass" and spec.loss == "hinge" else spec.loss]


def is_binary(code: int) -> bool:
    """Return whether a loss is of class 0 or 1."""
    return code in (CODES["logistic"], CODES["hinge"])


def is_multiclass(code: int) -> bool:
    """Return whether a loss is of one class of many."""
    return code in (CODES["softmax"], CODES["multiclass hinge"])


def shape_of(spec: AdaGrad) -> float:
    """Return the one number that shapes a loss: margin, quantile, ε or δ; 0 where there is none."""
    if spec.loss == "hinge":
        return spec.margin
    if spec.loss == "quantile":
        return spec.quantile
    if spec.loss == "huber":
        return spec.huber_delta
    return spec.loss_insensitivity if spec.loss.startswith("eps") else 0.0


def row_losses(code: int, score: np.ndarray, label: np.ndarray, shape: float, unit: float = 1.0) -> np.ndarray:
    """Return each row's loss under each variant, (n, v).

    Args:
        code: of the loss.
        score: (n, v, o) linear scores.
        label: (n,).
        shape: see `shape_of`.
        unit: of the label; regression only.
    """
    if is_multiclass(code):
        mine = np.take_along_axis(score, label.astype(np.intp)[:, None, None], axis=2)[:, :, 0]
        if code == CODES["softmax"]:
            return logsumexp(score, axis=2) - mine
        others = score.copy()
        np.put_along_axis(others, label.astype(np.intp)[:, None, None], -np.inf, axis=2)
        return np.maximum(shape + others.max(axis=2) - mine, 0.0)
    eta, y = score[:, :, 0], label[:, None]
    if code == CODES["logistic"]:
        return np.maximum(eta, 0.0) - y * eta + np.log1p(np.exp(-np.abs(eta)))
    if code == CODES["hinge"]:
        return np.maximum(shape - np.where(y >= 0.5, eta, -eta), 0.0)
    return _residual_loss(code, (eta - y) / unit, shape)


def _residual_loss(code: int, r: np.ndarray, shape: float) -> np.ndarray:
    size = np.abs(r)
    if code == CODES["squared"]:
        return 0.5 * r * r
    if code == CODES["absolute"]:
        return size
    if code == CODES["huber"]:
        return np.where(size <= shape, 0.5 * r * r, shape * (size - 0.5 * shape))
    if code == CODES["quantile"]:
        return np.where(r > 0, (1.0 - shape) * r, -shape * r)
    beyond = np.maximum(size - shape, 0.0)
    return beyond if code == CODES["eps_insensitive_absolute"] else 0.5 * beyond * beyond


def prediction(code: int, score: np.ndarray) -> np.ndarray:
    """Return what is predicted from linear scores (n, o): probabilities of class 1 (n,), of classes (n, o), values (n,).

    Hinge margins pass through the same functions as log-odds would: good for ranking, not calibrated.
    """
    if is_multiclass(code):
        return softmax(score, axis=1)
    return expit(score[:, 0]) if is_binary(code) else score[:, 0]
