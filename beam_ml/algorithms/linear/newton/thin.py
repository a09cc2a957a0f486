"""Columns that few rows carry, such as rare categories: what a sample cannot say about them, their sums must.

Letters: ``n`` sampled rows, ``d`` features.
"""

import numpy as np

from beam_ml.algorithms.linear.newton.blocks import Rows, Shape
from beam_ml.algorithms.linear.newton.sums import Sums

__all__ = ["secant", "thin_columns", "usual_rows"]

_FEW_ROWS = 30.0  # sampled rows that carry a column, below which the sample does not vouch for it
_MISSING = 1e-3  # share of a column's variance that may be missing from a sample that holds all rows


def thin_columns(shape: Shape, rows: Rows, weight: np.ndarray) -> np.ndarray:
    """Return which columns (d,) vary by too few of the sampled rows for the sample to vouch for them.

    A sample that holds all rows vouches for each column, as it has the columns' whole variance.

    Args:
        shape: of all rows.
        rows: the sampled ones, weighted to stand for all.
        weight: (n,) of those, class factors applied.
    """
    square = np.square(np.subtract(rows.x, shape.origin + shape.centre, dtype=np.float64))
    whole = float(rows.weight.sum()) * np.square(shape.scale)
    seen = rows.weight @ square
    once, twice = weight @ square, np.square(weight) @ np.square(square)
    # A rare category with no sampled row at all seems to vary a little, by all rows alike.
    few = ~(once * once >= _FEW_ROWS * twice) | (seen < 0.5 * whole)
    thin: np.ndarray = (shape.scale > 0.0) & few & (np.abs(seen - whole) > _MISSING * whole)
    return thin


def usual_rows(shape: Shape, rows: Rows, weight: np.ndarray, thin: np.ndarray) -> np.ndarray:
    """Return which sampled rows (n,) carry less than their share of every thin column's variance; see `thin_columns`."""
    if not thin.any():
        return np.ones(weight.size, dtype=bool)
    square = np.square(rows.x[:, thin] - (shape.origin + shape.centre)[thin])
    carried = weight[:, None] * square
    usual: np.ndarray = (carried <= carried.sum(axis=0) / _FEW_ROWS).all(axis=1)
    return usual


def secant(shape: Shape, full: Sums, weight: float) -> np.ndarray:
    """Return the curvature (d,) between the anchor and each column's solution by itself; 0 where it is not known.

    A category of a few rows may have none in the sample. If the anchor is sure of its label and wrong, its curvature there
    is next to nothing and one step runs away. Taken by itself, with N rows that share one η, the column is solved in closed
    form: its mean label is μ_a + slope/N, half a row of each class added, its move Δη = logit(mean label) − logit(μ_a), and
    slope/Δ the curvature of the straight line between the two.

    Args:
        shape: says how the columns lie.
        full: all rows' sums at the anchor, class factors applied.
        weight: of all rows.
    """
    centre = shape.centre + (shape.origin - full.origin)
    slope = np.abs(full.pull_by - full.pull * centre) + np.zeros(centre.size)
    # Of a column with two values, the origin's and one that is `unit` away, these are the unit and the rarer one's rows.
    second = np.square(shape.scale) + np.square(centre)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        unit = second / np.abs(centre)
        share = np.square(centre) / second
        count = weight * np.minimum(share, 1.0 - share)
        variance = np.minimum(np.diagonal(full.scatter) / (count * unit * unit), 0.25)
        mean = 0.5 * (1.0 - np.sqrt(1.0 - 4.0 * variance))
        label = np.minimum((count * mean + slope / unit + 0.5) / (count + 1.0), 1.0 - 0.5 / (count + 1.0))
        move = (np.log(label / (1.0 - label)) - np.log(mean / (1.0 - mean))) / unit
        found = slope / move
    return np.where(np.isfinite(found) & (found > 0.0), found, 0.0)
