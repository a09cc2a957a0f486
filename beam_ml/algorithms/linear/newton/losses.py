"""The losses that `linear.Newton` knows: mean and variance functions of the linear score η.

Each is the negative log likelihood of an exponential family in its natural parameter (up to a constant), so with the
mean μ(η) and the variance V(μ) = dμ/dη its gradient is μ − y and its second derivative V(μ) (McCullagh & Nelder 1989).
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from scipy.special import expit

__all__ = ["LOSSES", "Loss", "loss_of_code"]


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """One loss.

    Attributes:
        code: number stored in models.
        target: what a label must be.
        mean: η (n,) → μ (n,).
        variance: μ (n,) → V (n,), the second derivative of the loss.
        value: (η, y) → loss of each row (n,).
        constant: V does not depend on η: one Newton step is the exact solution from anywhere.
    """

    code: int
    target: Literal["real", "class"]
    mean: Callable[[np.ndarray], np.ndarray]
    variance: Callable[[np.ndarray], np.ndarray]
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    constant: bool


def _logistic_variance(mean: np.ndarray) -> np.ndarray:
    return mean * (1.0 - mean)


def _logistic_value(eta: np.ndarray, label: np.ndarray) -> np.ndarray:
    # log(1 + e^η) − yη without overflow: the larger of 0 and η is taken out of the logarithm.
    value: np.ndarray = np.maximum(eta, 0.0) - label * eta + np.log1p(np.exp(-np.abs(eta)))
    return value


def _identity(eta: np.ndarray) -> np.ndarray:
    return eta


def _squared_value(eta: np.ndarray, label: np.ndarray) -> np.ndarray:
    value: np.ndarray = 0.5 * (label - eta) ** 2
    return value


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {
        "logistic": Loss(0, "class", expit, _logistic_variance, _logistic_value, constant=False),
        "squared": Loss(1, "real", _identity, np.ones_like, _squared_value, constant=True),
    }
)
"""Name → loss."""


def loss_of_code(code: int) -> Loss:
    """Return the loss whose number a model stores.

    >>> loss_of_code(1).target
    'real'
    """
    return next(loss for loss in LOSSES.values() if loss.code == code)
