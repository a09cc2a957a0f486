"""Principal components from exact second moments: any number of components, chosen after training.

Letters: ``n`` rows, ``d`` features, ``c`` components.

Around an origin o (a row of the data) the partial keeps, with row weights w::

    W = Σw        m = Σw(x − o)/W        S = Σw(x − o − m)(x − o − m)ᵀ

Raw sums of squares lose all digits at offset 1e8; these do not. Two partials add by Chan's rule, at one origin and with
``δ = m_b − m_a``: ``S = S_a + S_b + (W_a W_b / W) δδᵀ`` and ``m = (W_a m_a + W_b m_b) / W``. The origin is the
lexicographically smallest row of positive weight, so the partial depends on the rows alone, not on how they were cut.

References: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979);
Jolliffe, "Principal Component Analysis" (2002).
"""

from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind, Predictions, check_batch
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.batch import Batch
from beam_ml.core.rows import smaller_row, smallest_row
from beam_ml.core.spec import ModelSpec
from beam_ml.core.spec import Spec as BaseSpec
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = ["PCA", "Components", "Model", "Partial", "Spec"]

_BLOCK_BYTES = (
    1 << 20
)  # a float64 block of rows that stays in the second-level cache while it is centred and multiplied
_MIN_BLOCK_ROWS = 1024  # adding a (d, d) block sum costs d² whatever its rows: share it among enough of them
_NEAR = 1.0 - 1e-6  # entries this close to the largest count as equal to it, so that rounding cannot flip a sign


class Spec(BaseSpec):
    """What shapes the state of a principal component analysis.

    >>> Spec(n_features=3).mode
    'exact'
    """

    called = "pca.Spec"

    algorithm: Literal["pca"] = "pca"
    mode: Annotated[Literal["exact"], Field(description="exact: the whole scatter matrix, d² numbers")] = "exact"


class Components(ModelSpec):
    """Which components to derive.

    >>> Components(n_components=2, whiten=True).center
    True
    """

    called = "pca.Components"

    kind: Literal["components"] = "components"
    n_components: Annotated[int, Field(ge=1, description="number of components, at most n_features")]
    whiten: Annotated[bool, Field(description="divide each projection by its standard deviation")] = False
    center: Annotated[bool, Field(description="take the mean off first; False: directions through zero")] = True


@array_dataclass
class Partial:
    """Weighted second moments of some rows; as State, of all rows so far."""

    origin: Float64[np.ndarray, "d"]  # smallest row in lexicographic order, feature units; zeros without rows
    weight: Float64[np.ndarray, ""]  # W, Σ weight
    mean: Float64[np.ndarray, "d"]  # m, relative to the origin, feature units
    scatter: Float64[np.ndarray, "d d"]  # S, centred, feature units squared


@array_dataclass
class Model:
    """Mean, components and their share of the variance, by falling variance."""

    mean: Float64[np.ndarray, "d"]  # taken off each row before projecting; zeros when not centred
    mean_tail: Float64[
        np.ndarray, "d"
    ]  # what rounding left off `mean`: mean + mean_tail is the mean to twice the digits
    components: Float64[np.ndarray, "c d"]  # orthonormal rows; the largest entry of each is positive
    singular_values: Float64[np.ndarray, "c"]  # of the centred rows, each multiplied by √weight
    explained_variance: Float64[np.ndarray, "c"]  # singular_values² / W
    explained_variance_ratio: Float64[np.ndarray, "c"]  # of the total variance
    scale: Float64[np.ndarray, "c"]  # multiplies the projection: 1, or 1 / standard deviation when whitened


def _law(spec: BaseSpec) -> Law:
    return Law(LawKind.EXACT, rtol=1e-9)


def _empty(spec: BaseSpec) -> Partial:
    d = spec.n_features
    return Partial(origin=np.zeros(d), weight=np.zeros(()), mean=np.zeros(d), scatter=np.zeros((d, d)))


def _moved(partial: Partial, origin: np.ndarray) -> np.ndarray:
    """Give the mean relative to another origin."""
    moved: np.ndarray = partial.mean + (partial.origin - origin)
    return moved


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


def _accumulate(spec: BaseSpec, partial: Partial, batch: Batch, anchor: Any = None) -> Partial:
    check_batch(spec, batch)
    rows, weight = batch.dense_x, batch.weight
    if weight is not None and not weight.all():
        present = weight > 0
        rows, weight = rows[present], weight[present]
    n, d = rows.shape
    if n == 0:
        return partial
    origin = smallest_row(rows)
    if float(partial.weight) > 0:
        origin = smaller_row(partial.origin, origin)
    step = max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (8 * d))
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # rows too large to square leave infinities, which the fold refuses
        for start in range(0, n, step):
            part = slice(start, start + step)
            partial = _merge(spec, partial, _block(rows[part], None if weight is None else weight[part], origin))
    return partial


def _merge(spec: BaseSpec, a: Partial, b: Partial) -> Partial:
    w_a, w_b = float(a.weight), float(b.weight)
    if w_b == 0.0:
        return a
    if w_a == 0.0:
        return b
    total = w_a + w_b
    origin = smaller_row(a.origin, b.origin)
    m_a, m_b = _moved(a, origin), _moved(b, origin)
    share_a, share_b = w_a / total, w_b / total
    with np.errstate(over="ignore", invalid="ignore"):
        delta = (m_b - m_a) * np.sqrt(share_a * share_b * total)
        # Symmetric in a and b to the last bit: each sum adds one term of a and one of b.
        scatter = a.scatter + b.scatter
        scatter += np.outer(delta, delta)
        mean = share_a * m_a + share_b * m_b
    return Partial(origin=origin, weight=np.asarray(total), mean=mean, scatter=scatter)


def _fold(spec: BaseSpec, state: Partial, partial: Partial, sample: Any = None) -> Partial:
    return _merge(spec, state, partial)


def _scale(spec: BaseSpec, summary: Partial, factor: float) -> Partial:
    weight = float(summary.weight) * factor
    if weight == 0.0:
        return _empty(spec)
    return Partial(
        origin=summary.origin, weight=np.asarray(weight), mean=summary.mean, scatter=summary.scatter * factor
    )


def _weight(summary: Partial) -> float:
    return float(summary.weight)


def _eigen(scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give eigenvalues ≥ 0 by falling size, and their vectors as rows."""
    try:
        values, vectors = np.linalg.eigh(scatter)
    except np.linalg.LinAlgError as error:
        message = f"pca.Components needs the eigenvalues of the scatter matrix, which did not converge ({error})."
        raise DeriveRefused(message) from error
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1].T


def _uncentred(state: Partial, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give singular values and vectors of the rows themselves.

    Their scatter is S + W·mean meanᵀ; stacking square roots of both terms keeps the digits that the sum would lose.
    """
    values, vectors = _eigen(state.scatter)
    stack = np.vstack([np.sqrt(values)[:, None] * vectors, np.sqrt(float(state.weight)) * mean])
    try:
        _, singular, right = np.linalg.svd(stack, full_matrices=False)
    except np.linalg.LinAlgError as error:
        message = f"pca.Components needs the singular values of the rows, which did not converge ({error})."
        raise DeriveRefused(message) from error
    return singular, right


def _upright(components: np.ndarray) -> np.ndarray:
    """Choose each component's sign so that its (first) largest entry is positive."""
    size = np.abs(components)
    first = np.argmax(size >= _NEAR * size.max(axis=1, keepdims=True), axis=1)
    sign = np.where(components[np.arange(components.shape[0]), first] < 0, -1.0, 1.0)
    upright: np.ndarray = components * sign[:, None] + 0.0
    return upright


def _derive(spec: BaseSpec, model_spec: Components, state: Partial, sample: Any = None) -> Model:
    """Derive the first c components: eigenvectors of S by falling eigenvalue λ = singular value².

    Components past the rank of the data are orthonormal directions along which the rows do not vary: singular value 0,
    and a whitened projection of 0.
    """
    c, d, total = model_spec.n_components, spec.n_features, float(state.weight)
    if c > d:
        message = f"pca.Components.n_components must be <= {d}, the spec's n_features; got {c}."
        raise DeriveRefused(message)
    if total <= 0.0:
        message = "pca.Components needs rows of positive weight; got none yet."
        raise DeriveRefused(message)
    if not all(np.isfinite(array).all() for array in (state.origin, state.weight, state.mean, state.scatter)):
        message = "pca.Components needs finite moments; the rows were too large to square."
        raise DeriveRefused(message)
    mean = state.origin + state.mean
    if model_spec.center:
        values, vectors = _eigen(state.scatter)
        singular = np.sqrt(values)
        # An eigenvalue carries the rounding of the largest: below it, rank is lost and the root would be noise.
        floor = np.sqrt(d * np.finfo(np.float64).eps) * singular[0]
        back = mean - state.origin
        tail = (state.origin - (mean - back)) + (
            state.mean - back
        )  # Knuth's two-sum: the exact rounding error of `mean`
    else:
        singular, vectors = _uncentred(state, mean)
        floor = d * np.finfo(np.float64).eps * singular[0]
        mean, tail = np.zeros(d), np.zeros(d)
    singular = np.where(singular > floor, singular, 0.0)
    variance = singular * singular / total
    whole = float(np.sum(variance))
    kept = variance[:c]
    deviation = np.sqrt(kept)
    whitening = np.divide(1.0, deviation, out=np.zeros(c), where=deviation > 0)
    return Model(
        mean=mean,
        mean_tail=tail,
        components=_upright(vectors[:c]),
        singular_values=singular[:c],
        explained_variance=kept,
        explained_variance_ratio=kept / whole if whole > 0 else np.zeros(c),
        scale=whitening if model_spec.whiten else np.ones(c),
    )


def _rows(model: Model, batch: Batch) -> np.ndarray:
    if batch.n_features != model.mean.size:
        message = f"A pca model takes {model.mean.size} features; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    return batch.dense_x


def _centred(model: Model, rows: np.ndarray) -> np.ndarray:
    z: np.ndarray = np.subtract(rows, model.mean, dtype=np.float64)
    z -= model.mean_tail
    return z


def _predict(model: Model, batch: Batch) -> Predictions:
    """Give ``projection`` (n, c): ``(x − mean) Cᵀ``, divided by the standard deviations when whitened."""
    rows = _rows(model, batch)
    n, d = rows.shape
    out = np.empty((n, model.components.shape[0]))
    basis = (model.components * model.scale[:, None]).T
    step = max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (8 * d))
    for start in range(0, n, step):
        np.matmul(_centred(model, rows[start : start + step]), basis, out=out[start : start + step])
    return {"projection": out}


def _measure(model: Model, batch: Batch) -> metrics.Distortion:
    """Measure the squared distance between each row and its reconstruction, ``‖z − zCᵀC‖²`` with z = x − mean."""
    rows = _rows(model, batch)
    n, d = rows.shape
    squared = np.empty(n)
    step = max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (8 * d))
    for start in range(0, n, step):
        z = _centred(model, rows[start : start + step])
        z -= (z @ model.components.T) @ model.components
        squared[start : start + step] = np.einsum("ij,ij->i", z, z)
    return metrics.distortion(squared, batch.weights)


PCA = Algorithm(
    name="pca",
    version=1,
    spec=Spec,
    state=Partial,
    partial=Partial,
    law=_law,
    init=_empty,
    empty=_empty,
    accumulate=_accumulate,
    merge=_merge,
    fold=_fold,
    scale=_scale,
    weight=_weight,
    models={"components": ModelKind(Components, Model, _derive, _predict, _measure)},
)
"""Exact principal component analysis: law EXACT, State is Partial.

>>> from beam_ml.core.batch import Batch
>>> spec = Spec(n_features=2)
>>> batch = Batch.dense([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
>>> state = PCA.accumulate(spec, PCA.empty(spec), batch, None)
>>> model = PCA.models["components"].derive(spec, Components(n_components=1), state, None)
>>> model.explained_variance_ratio.round(6).tolist()
[1.0]
>>> PCA.models["components"].predict(model, batch)["projection"].round(4).ravel().tolist()
[-2.2361, 0.0, 2.2361]
"""
