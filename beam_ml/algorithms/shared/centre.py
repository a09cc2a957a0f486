"""Means that merge, exact at any offset: kept relative to a row of the data. Letters: ``n`` rows, ``d`` features."""

from typing import NamedTuple, Protocol

import numpy as np

from beam_ml.algorithms.shared.origin import smaller_row, smallest_row

__all__ = ["Centre", "Moments", "centre_of", "joined", "squared_from"]


class Moments(Protocol):
    """Whatever knows weight and mean of some rows: a partial, a sketch, a block."""

    @property
    def origin(self) -> np.ndarray:
        """A row, (d,)."""

    @property
    def weight(self) -> np.ndarray:
        """Σ weight."""

    @property
    def mean(self) -> np.ndarray:
        """The weighted mean less the origin, (d,)."""


class Centre(NamedTuple):
    """Weight and mean of some rows, around an origin."""

    origin: np.ndarray
    weight: np.ndarray
    mean: np.ndarray


def centre_of(rows: np.ndarray, weight: np.ndarray) -> Centre:
    """Return weight and mean of n >= 1 rows of weight (n,) > 0.

    >>> centre = centre_of(np.array([[3.0], [1.0]]), np.array([1.0, 3.0]))
    >>> float(centre.weight), centre.origin.tolist(), centre.mean.tolist()
    (4.0, [1.0], [0.5])
    """
    origin, total = smallest_row(rows), weight.sum()
    z = np.subtract(rows, origin, dtype=np.float64)
    return Centre(origin, np.asarray(total), (weight / total) @ z)


def joined(a: Moments, b: Moments) -> tuple[Centre, np.ndarray]:
    """Merge the means of two summaries with rows, by Chan's rule.

    Returns:
        Weight and mean of both, and the correction row √(W_a W_b / W)·(m_b − m_a), whose square is what the scatter
        of both exceeds the sum of their scatters by. Each sum is symmetric in a and b to the last bit.
    """
    w_a, w_b = float(a.weight), float(b.weight)
    total = w_a + w_b
    origin = smaller_row(a.origin, b.origin)
    m_a, m_b = a.mean + (a.origin - origin), b.mean + (b.origin - origin)
    share_a, share_b = w_a / total, w_b / total
    correction = (m_b - m_a) * np.sqrt(share_a * share_b * total)
    return Centre(origin, np.asarray(total), share_a * m_a + share_b * m_b), correction


def squared_from(rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the squared distance of each row from a mean, (n,)."""
    gap = np.subtract(rows, mean, dtype=np.float64)
    squared: np.ndarray = np.einsum("ij,ij->i", gap, gap)
    return squared
