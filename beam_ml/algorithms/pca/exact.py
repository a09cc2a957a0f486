"""Exact second moments: S, the whole scatter matrix.

Around an origin o (a row of the data) the partial keeps, with row weights w::

    W = Σw        m = Σw(x − o)/W        S = Σw(x − o − m)(x − o − m)ᵀ

Raw sums of squares lose all digits at offset 1e8; these do not. Two partials add by Chan's rule, at one origin and with
``δ = m_b − m_a``: ``S = S_a + S_b + (W_a W_b / W) δδᵀ`` and ``m = (W_a m_a + W_b m_b) / W``. The origin is the
lexicographically smallest row of positive weight, so the partial depends on the rows alone, not on how they were cut.
"""

from typing import Any

import numpy as np

from beam_ml.algorithms.pca.model import check_state, model_of, positive, row_blocks, svd_rows
from beam_ml.algorithms.pca.spec import Components, Model, Partial, Spec
from beam_ml.algorithms.shared.centre import joined
from beam_ml.algorithms.shared.downdate import check_origin, checked_scatter, parted, rest_of
from beam_ml.algorithms.shared.origin import smaller_row, smallest_row
from beam_ml.core.algorithm import Law, LawKind, check_batch
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused

__all__ = ["accumulate", "derive", "empty", "law", "merge", "remove", "scale", "weight"]


def law(spec: Spec) -> Law:
    """EXACT."""
    return Law(LawKind.EXACT, rtol=1e-9)


def empty(spec: Spec) -> Partial:
    """Return the moments of no rows."""
    d = spec.n_features
    return Partial(origin=np.zeros(d), weight=np.zeros(()), mean=np.zeros(d), scatter=np.zeros((d, d)))


def _block(rows: np.ndarray, weight: np.ndarray | None, origin: np.ndarray) -> Partial:
    """Summarise one cache-sized block of rows, all of positive weight."""
    z = np.subtract(rows, origin, dtype=np.float64)
    if weight is None:
        total = float(z.shape[0])
        mean = z.mean(axis=0)
        z -= mean
    else:
        total = float(weight.sum())
        mean = (weight / total) @ z
        z -= mean
        z *= np.sqrt(weight)[:, None]
    return Partial(origin=origin, weight=np.asarray(total), mean=mean, scatter=z.T @ z)


def accumulate(spec: Spec, partial: Partial, batch: Batch, anchor: Any = None) -> Partial:
    """Add a batch's rows, block by block."""
    check_batch(spec, batch)
    rows, weight = positive(batch)
    n, d = rows.shape
    if n == 0:
        return partial
    origin = smallest_row(rows)
    if float(partial.weight) > 0:
        origin = smaller_row(partial.origin, origin)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # rows too large to square leave infinities, which the fold refuses
        for part in row_blocks(n, d):
            partial = merge(spec, partial, _block(rows[part], None if weight is None else weight[part], origin))
    return partial


def merge(spec: Spec, a: Partial, b: Partial) -> Partial:
    """Merge two partials by Chan's rule."""
    if float(b.weight) == 0.0:
        return a
    if float(a.weight) == 0.0:
        return b
    with np.errstate(over="ignore", invalid="ignore"):
        centre, correction = joined(a, b)
        scatter = a.scatter + b.scatter
        scatter += np.outer(correction, correction)
    return Partial(origin=centre.origin, weight=centre.weight, mean=centre.mean, scatter=scatter)


def remove(spec: Spec, summary: Partial, part: Partial) -> Partial:
    """Take a part out again: Chan's rule run backwards.

    Raises:
        RemoveRefused: the part is not in the summary: no rows have what would be left.
    """
    if float(part.weight) == 0.0:
        return summary
    if not rest_of(summary.weight, part.weight, "weight").any():
        return empty(spec)
    check_origin(summary.origin, part.origin)
    centre, correction = parted(summary, part)
    scatter = summary.scatter - part.scatter - np.outer(correction, correction)
    scatter = checked_scatter(scatter, summary.scatter, float(summary.weight), summary.mean)
    return Partial(origin=centre.origin, weight=centre.weight, mean=centre.mean, scatter=scatter)


def scale(spec: Spec, summary: Partial, factor: float) -> Partial:
    """Multiply every row's weight by a factor."""
    weight = float(summary.weight) * factor
    if weight == 0.0:
        return empty(spec)
    return Partial(
        origin=summary.origin, weight=np.asarray(weight), mean=summary.mean, scatter=summary.scatter * factor
    )


def weight(summary: Partial) -> float:
    """Return the total row weight W."""
    return float(summary.weight)


def _eigen(scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues ≥ 0 by falling size, and their vectors as rows."""
    try:
        values, vectors = np.linalg.eigh(scatter)
    except np.linalg.LinAlgError as error:
        message = f"pca.Components needs the eigenvalues of the scatter matrix, which did not converge ({error})."
        raise DeriveRefused(message) from error
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1].T


def _uncentred(state: Partial) -> tuple[np.ndarray, np.ndarray]:
    """Return singular values and vectors of the rows themselves.

    Their scatter is S + W·mean meanᵀ; stacking square roots of both terms keeps the digits that the sum would lose.
    """
    values, vectors = _eigen(state.scatter)
    mean = state.origin + state.mean
    return svd_rows(np.vstack([np.sqrt(values)[:, None] * vectors, np.sqrt(float(state.weight)) * mean]))


def derive(spec: Spec, model_spec: Components, state: Partial, sample: Batch | None = None) -> Model:
    """Derive the first c components: eigenvectors of S by falling eigenvalue λ = singular value².

    Components past the rank of the data are orthonormal directions along which the rows do not vary: singular value 0,
    and a whitened projection of 0.
    """
    c, d = model_spec.n_components, spec.n_features
    if c > d:
        message = f"pca.Components.n_components must be <= {d}, the spec's n_features; got {c}."
        raise DeriveRefused(message)
    check_state(float(state.weight), (state.origin, state.weight, state.mean, state.scatter))
    if model_spec.center:
        values, vectors = _eigen(state.scatter)
        singular = np.sqrt(values)
        # An eigenvalue carries the rounding of the largest: below it, rank is lost and the root would be noise.
        floor = np.sqrt(d * np.finfo(np.float64).eps) * singular[0]
    else:
        singular, vectors = _uncentred(state)
        floor = d * np.finfo(np.float64).eps * singular[0]
    squared = np.where(singular > floor, singular * singular, 0.0)
    return model_of(model_spec, state, vectors, squared, float(np.sum(squared)))
