"""Taking a part out of sums: Chan's rule run backwards, and what is refused because it cannot have been in them.

From the whole (W, m, S) and the part (W_b, m_b, S_b), with δ = m_b − m::

    W_a = W − W_b      m_a = m − δ·W_b/W_a      S_a = S − S_b − (W_b W / W_a)·δδᵀ

Rounding is that of the whole: what is left is off by about ε·W/W_a of its own size, so what weighs less than 10⁻¹² of the
whole is taken for nothing.
"""

import numpy as np
from scipy.linalg import lapack

from beam_ml.algorithms.shared.centre import Centre, Moments
from beam_ml.algorithms.shared.origin import smaller_row
from beam_ml.errors import RemoveRefused

__all__ = ["check_origin", "checked_scatter", "parted", "rest_of"]

_SLACK = 1e-9  # of the whole, by which rounding may leave too little
_NOTHING = 1e-12  # of the whole, below which nothing is left
_MEAN_DIGITS = 1e-7  # of a mean, whose square is far above the rounding of a constant column's scatter


def rest_of(whole: np.ndarray, part: np.ndarray, what: str) -> np.ndarray:
    """Return weights less a part's, 0 where only rounding is left.

    Raises:
        RemoveRefused: the part has more.

    >>> rest_of(np.array([3.0, 0.1 + 0.2]), np.array([1.0, 0.3]), "weight").tolist()
    [2.0, 0.0]
    """
    rest = whole - part
    most = np.maximum(np.abs(whole), np.abs(whole).sum() * 1e-3)
    if not np.all(rest >= -_SLACK * most):
        message = f"What is removed must have been learned: its {what} {part.tolist()} exceeds {whole.tolist()}."
        raise RemoveRefused(message)
    return np.where(rest <= _NOTHING * whole, 0.0, rest)


def check_origin(whole: np.ndarray, part: np.ndarray) -> None:
    """Refuse a part that holds a smaller row than the whole does.

    Raises:
        RemoveRefused: it does.
    """
    if not np.array_equal(smaller_row(whole, part), whole):
        message = "What is removed must have been learned: it holds a smaller row than any that was."
        raise RemoveRefused(message)


def parted(whole: Moments, part: Moments) -> tuple[Centre, np.ndarray]:
    """Take a part's mean out of a whole's: `joined` run backwards. The weight of what is left must be positive.

    Returns:
        Weight and mean of the rest around the whole's origin, and the correction row √(W_b W / W_a)·(m_b − m).

    >>> whole = Centre(np.zeros(1), np.asarray(4.0), np.array([2.5]))
    >>> rest, correction = parted(whole, Centre(np.zeros(1), np.asarray(1.0), np.array([4.0])))
    >>> float(rest.weight), rest.mean.tolist()
    (3.0, [2.0])
    """
    w, w_b = float(whole.weight), float(part.weight)
    w_a = w - w_b
    delta = part.mean + (part.origin - whole.origin) - whole.mean
    return Centre(whole.origin, np.asarray(w_a), whole.mean - delta * (w_b / w_a)), delta * np.sqrt(w_b * w / w_a)


def checked_scatter(rest: np.ndarray, whole: np.ndarray, weight: float, mean: np.ndarray) -> np.ndarray:
    """Return a scatter (d, d) that is left of a whole's, its diagonal not below 0.

    Args:
        rest: what subtracting has left.
        whole: the scatter before.
        weight: of the whole.
        mean: (d,) of the whole, relative to its origin: the rounding of constant columns goes by it.

    Raises:
        RemoveRefused: it is not positive semi-definite: no rows have such a scatter.
    """
    unit = np.diagonal(whole) + weight * np.square(_MEAN_DIGITS * mean)
    inverse = np.divide(1.0, np.sqrt(unit), out=np.zeros_like(unit), where=unit > 0.0)
    scaled = rest * np.outer(inverse, inverse) + _SLACK * np.eye(unit.size)
    if not np.isfinite(scaled).all() or lapack.dpotrf(scaled, lower=1)[1]:
        message = "What is removed must have been learned: without it, the scatter would not be positive semi-definite."
        raise RemoveRefused(message)
    rest = rest.copy()
    np.fill_diagonal(rest, np.maximum(np.diagonal(rest), 0.0))
    return rest
