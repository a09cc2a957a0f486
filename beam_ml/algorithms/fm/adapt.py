"""Penalties that adapt: how far linear weights and factors are drawn to 0 where no strength is set. Letters as in `machine`.

The posterior of a machine's parameters is approximated by independent normal distributions around θ (mean-field
variational Bayes; Rendle's libFM samples it instead). An entry's precision is that of its prior, 1/σ², and what its rows
have told, Σ (∂η/∂θ)²/noise. AdaGrad keeps that at hand: Σ gradient² is e²·Σ (∂η/∂θ)², e² the mean squared slope of the loss
at rows when they were learned, so the precision is ``1/σ² + Σ gradient² / (noise·e²·passes)``; rows of later passes tell
nothing new. Two penalties of a row's loss follow::

    prior   ½·θ²·noise/σ² over the rows that a feature is in, in one pass: it counts as much whatever their number
    doubt   ½·v_if² z_i² Σ_{j≠i} s²_jf z_j², s² the variance: a factor is worth what is known of those it is multiplied by

σ² is one number for linear weights and one for factors, the mean over features of θ² and s² (empirical Bayes), updated at
each fold. The slopes of rows before they were learned for the first time are above the noise, by what had not been learned
yet; those of rows that were learned before are below it, by what was learned of their own noise. The noise is the geometric
mean of the two.

In the first pass, while factors are being found, both count in part, `_FIRST`: in full they keep them from being found. What
is held back fades as 1/passes; full penalties end where more passes change nothing. Of classes the noise is known, and what
counts is `_OF_CLASSES`. These shares, and where σ² starts, were chosen on made sets of ratings.
"""

import numpy as np

from beam_ml.algorithms.fm.spec import Spec

__all__ = ["COLD", "START", "adapted", "heard", "priors"]

START = (1.0, 0.05)
"""σ² of linear weights and factors before any row."""
COLD = (0.003, 0.03)
"""Strengths in the first window, for which nothing is known to go by."""
_FIRST, _LATER, _OF_CLASSES = (0.4, 0.2), (1.0, 1.0), (0.4, 0.6)
"""Shares of the penalties of factors, prior and doubt: in the first pass, in the limit, in later passes of classifiers."""
_ONE_PASS = 1.0 + 1e-9
_MEMORY = 2.0
_LEAST = 1e-6


def priors(spec: Spec, variance: np.ndarray | tuple[float, float], slopes: np.ndarray, passes: float) -> np.ndarray:
    """Return what the kernel's penalties go by, (5,): see `beam_ml.kernels.fm.run.run`."""
    linear, factors = 1.0 / np.asarray(variance)
    noise, unit = told(spec, slopes)
    (share, doubt), early = (_LATER, 1.0 / passes) if spec.task == "regression" else (_OF_CLASSES, passes <= _ONE_PASS)
    share, doubt = share - (share - _FIRST[0]) * early, doubt - (doubt - _FIRST[1]) * early
    of_factors = np.array([factors, 1.0 / (unit * passes), share * noise * factors, doubt])
    if spec.factors_wd is not None:
        of_factors[:] = 0.0
    return np.array([noise * linear if spec.linear_wd is None else 0.0, *of_factors])


def told(spec: Spec, slopes: np.ndarray) -> tuple[float, float]:
    """Return the noise, and by what Σ gradient² of one pass is divided to be a precision.

    Args:
        spec: the spec.
        slopes: (2,) mean squared slope of rows of first passes and of newer rows of all passes, before each was learned.
    """
    if spec.task == "binary":
        return 1.0, 1.0
    first, newer = max(float(slopes[0]), _LEAST), max(float(slopes[1]), _LEAST)
    noise = float(np.sqrt(first * newer))
    return noise, noise * newer


def heard(noise: np.ndarray, weight: float, squares: float) -> np.ndarray:
    """Return weight and mean of squared slopes (2,), older rows counting at most twice as much as the newer ones.

    >>> heard(np.array([1_000.0, 0.5]), 100.0, 20.0).tolist()
    [300.0, 0.4]
    """
    if weight <= 0.0:
        return noise
    held = min(float(noise[0]), _MEMORY * weight)
    return np.array([held + weight, (held * noise[1] + squares) / (held + weight)])


def adapted(
    spec: Spec, prior: np.ndarray, theta: np.ndarray, squares: np.ndarray, slopes: np.ndarray, passes: float
) -> np.ndarray:
    """Return σ² (2,) of linear weights and factors after a step of expectation and maximisation.

    Args:
        spec: the spec.
        prior: σ² before.
        theta: (r, m) parameters of features.
        squares: (r, m) their Σ gradient².
        slopes: (2,) mean squared slopes of the loss, see `told`.
        passes: so far.
    """
    if theta.shape[0] == 0:
        return prior
    unit = passes * told(spec, slopes)[1]
    out = [
        float((np.square(theta[part]) + 1.0 / (1.0 / before + squares[part] / unit)).mean())
        for before, part in zip(prior, (np.s_[:, :1], np.s_[:, 1:]), strict=True)
    ]
    return np.maximum(np.array(out), _LEAST)
