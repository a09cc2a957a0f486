"""What exact moments and a sketch share: the model from singular vectors, and its use.

Letters: ``n`` rows, ``d`` features, ``c`` components.
"""

from collections.abc import Iterator

import numpy as np

from beam_ml.algorithms.pca.spec import Components, Model
from beam_ml.algorithms.shared.centre import Moments
from beam_ml.core import metrics
from beam_ml.core.algorithm import Predictions
from beam_ml.core.batch import Batch
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = [
    "check_state",
    "measure",
    "model_of",
    "positive",
    "predict",
    "row_blocks",
    "svd_rows",
]

_BLOCK_BYTES = (
    1 << 20
)  # a float64 block of rows that stays in the second-level cache while it is centred and multiplied
_MIN_BLOCK_ROWS = 1024  # adding a (d, d) block sum costs d² whatever its rows: share it among enough of them
_NEAR = 1.0 - 1e-6  # entries this close to the largest count as equal to it, so that rounding cannot flip a sign


def positive(batch: Batch) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows of positive weight and their weights (None: all 1)."""
    rows, weight = batch.dense_x, batch.weight
    if weight is not None and not weight.all():
        present = weight > 0
        return rows[present], weight[present]
    return rows, weight


def row_blocks(n: int, d: int) -> Iterator[slice]:
    """Cut n rows into blocks that fit the cache."""
    step = max(_MIN_BLOCK_ROWS, _BLOCK_BYTES // (8 * d))
    return (slice(start, start + step) for start in range(0, n, step))


def check_state(weight: float, arrays: tuple[np.ndarray, ...]) -> None:
    """Refuse to derive from no rows, or from moments that are not finite."""
    if weight <= 0.0:
        message = "pca.Components needs rows of positive weight; got none yet."
        raise DeriveRefused(message)
    if not all(np.isfinite(array).all() for array in arrays):
        message = "pca.Components needs finite moments; the rows were too large to square."
        raise DeriveRefused(message)


def svd_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return singular values by falling size, and right singular vectors as rows."""
    try:
        _, singular, right = np.linalg.svd(rows, full_matrices=False)
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


def model_of(
    model_spec: Components, state: Moments, vectors: np.ndarray, squared: np.ndarray, variation: float
) -> Model:
    """Return the first c components' model.

    Args:
        model_spec: how many, whitened, centred.
        state: weight and mean.
        vectors: at least c orthonormal rows, (≥ c, d).
        squared: their squared singular values, falling, (≥ c,).
        variation: the sum of all squared singular values.
    """
    c, d, total = model_spec.n_components, state.mean.size, float(state.weight)
    mean, tail = np.zeros(d), np.zeros(d)
    if model_spec.center:
        mean = state.origin + state.mean
        back = mean - state.origin
        tail = (state.origin - (mean - back)) + (
            state.mean - back
        )  # Knuth's two-sum: the exact rounding error of `mean`
    kept = squared[:c] / total
    whole = variation / total
    deviation = np.sqrt(kept)
    whitening = np.divide(1.0, deviation, out=np.zeros(c), where=deviation > 0)
    return Model(
        mean=mean,
        mean_tail=tail,
        components=_upright(vectors[:c]),
        singular_values=np.sqrt(squared[:c]),
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


def predict(model: Model, batch: Batch) -> Predictions:
    """Return ``projection`` (n, c): ``(x − mean) Cᵀ``, divided by the standard deviations when whitened."""
    rows = _rows(model, batch)
    n, d = rows.shape
    out = np.empty((n, model.components.shape[0]))
    basis = (model.components * model.scale[:, None]).T
    for part in row_blocks(n, d):
        np.matmul(_centred(model, rows[part]), basis, out=out[part])
    return {"projection": out}


def measure(model: Model, batch: Batch) -> metrics.Distortion:
    """Measure the squared distance between each row and its reconstruction, ``‖z − zCᵀC‖²`` with z = x − mean."""
    rows = _rows(model, batch)
    n, d = rows.shape
    squared = np.empty(n)
    for part in row_blocks(n, d):
        z = _centred(model, rows[part])
        z -= (z @ model.components.T) @ model.components
        squared[part] = np.einsum("ij,ij->i", z, z)
    return metrics.distortion(squared, batch.weights)
