"""Penalties that adapt: how far linear weights and factors are drawn to 0 where no strength is set. Letters as in `machine`.

The posterior of a machine's parameters is approximated by independent normal distributions around θ (mean-field
variational Bayes; Rendle's libFM samples it instead). An entry's precision is that of its prior, 1/σ², and what its rows
have told, Σ (∂η/∂θ)²/noise. AdaGrad keeps that at hand: Σ gradient² is noise·Σ (∂η/∂θ)², so the precision is
``1/σ² + Σ gradient² / (noise²·passes)``; rows of later passes tell nothing new. Two penalties of a row's loss follow::

    prior   ½·θ²·noise/σ² over the rows that a feature is in, in one pass: it counts as much whatever their number
    doubt   ½·v_if² z_i² Σ_{j≠i} s²_jf z_j², s² the variance: a factor is worth what is known of those it is multiplied by

σ² is one number for linear weights and one for factors, the mean over features of θ² and s² (empirical Bayes), updated at
each fold. The noise is the mean squared slope of the loss at rows of first passes before they were learned, which is above
the true one; so the penalties of factors are taken in part, `_PRIOR` and `_DOUBT`. In the first pass, while factors are
being found, doubt counts less, `_FIRST_DOUBT`: in full it keeps them from being found. These shares, and where σ² starts,
were chosen on two made sets of ratings.
"""

import numpy as np

from beam_ml.algorithms.fm.spec import Spec

__all__ = ["COLD", "START", "adapted", "heard", "priors"]

START = (1.0, 0.05)
"""σ² of linear weights and factors before any row."""
COLD = (0.003, 0.03)
"""Strengths in the first window, for which nothing is known to go by."""
_PRIOR, _DOUBT, _FIRST_DOUBT = 0.4, 0.6, 0.2
_ONE_PASS = 1.0 + 1e-9
_MEMORY = 2.0
_LEAST = 1e-6


def priors(spec: Spec, variance: np.ndarray | tuple[float, float], noise: float, passes: float) -> np.ndarray:
    """Return what the kernel's penalties go by, (5,): see `beam_ml.kernels.fm.run`."""
    linear, factors = 1.0 / np.asarray(variance)
    known = 1.0 / (max(noise, _LEAST) ** 2 * passes)
    of_factors = np.array([factors, known, _PRIOR * noise * factors, _DOUBT if passes > _ONE_PASS else _FIRST_DOUBT])
    if spec.factors_wd is not None:
        of_factors[:] = 0.0
    return np.array([noise * linear if spec.linear_wd is None else 0.0, *of_factors])


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
    spec: Spec, prior: np.ndarray, theta: np.ndarray, squares: np.ndarray, noise: float, passes: float
) -> np.ndarray:
    """Return σ² (2,) of linear weights and factors after a step of expectation and maximisation.

    Args:
        spec: the spec.
        prior: σ² before.
        theta: (r, m) parameters of features.
        squares: (r, m) their Σ gradient².
        noise: mean squared slope of the loss; of classifiers it is Σ gradient² itself that tells.
        passes: so far.
    """
    if theta.shape[0] == 0:
        return prior
    unit = passes * (1.0 if spec.task == "binary" else max(noise, _LEAST) ** 2)
    out = [
        float((np.square(theta[part]) + 1.0 / (1.0 / before + squares[part] / unit)).mean())
        for before, part in zip(prior, (np.s_[:, :1], np.s_[:, 1:]), strict=True)
    ]
    return np.maximum(np.array(out), _LEAST)
