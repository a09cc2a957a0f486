"""Settings and records of PCA. Letters: ``n`` rows, ``d`` features, ``c`` components, ``l`` sketch rows, ``r`` = 2 l."""

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import ConfigDict, Field, model_validator

from beam_ml.core.arrays import array_dataclass
from beam_ml.core.spec import ModelSpec
from beam_ml.core.spec import Spec as BaseSpec

__all__ = ["Components", "Model", "Partial", "Sketch", "Spec", "randomized_rows"]

_NAMES = {"exact": "pca", "sketch": "pca.sketch"}
_DEFAULT_ROWS = 200


def _optional_rows(schema: dict[str, Any]) -> None:
    """Exact mode writes no sketch_rows: its JSON, and with it its fingerprint, is that of version 0.1.0."""
    if "required" in schema:
        schema["required"] = [name for name in schema["required"] if name != "sketch_rows"]


class Spec(BaseSpec):
    """What shapes the state of a principal component analysis; the mode chooses the algorithm's key.

    >>> Spec(n_features=3).algorithm, Spec(n_features=10_000, mode="sketch").algorithm
    ('pca', 'pca.sketch')
    """

    model_config = ConfigDict(json_schema_extra=_optional_rows)

    called: ClassVar[str] = "pca.Spec"
    takes_sparse: ClassVar[bool] = False

    algorithm: Literal["pca", "pca.sketch"] = "pca"
    mode: Annotated[
        Literal["exact", "sketch"],
        Field(description="exact: the whole scatter matrix, d² numbers; sketch: frequent directions, 2·sketch_rows·d"),
    ] = "exact"
    sketch_rows: Annotated[
        int,
        Field(
            ge=1, le=100_000, description="directions that a sketch keeps, the most components a model of it may have"
        ),
    ] = _DEFAULT_ROWS

    @model_validator(mode="before")
    @classmethod
    def _named(cls, data: Any) -> Any:
        """Let either of mode and algorithm say which, so that a user needs only the mode."""
        if not isinstance(data, dict):
            return data
        if "mode" not in data and data.get("algorithm") == _NAMES["sketch"]:
            return {**data, "mode": "sketch"}
        if data.get("mode") == "sketch" and data.get("algorithm", "pca") == "pca":
            return {**data, "algorithm": _NAMES["sketch"]}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.algorithm != _NAMES[self.mode]:
            message = f"mode must be 'sketch' for the algorithm {self.algorithm!r}; got {self.mode!r}"
            raise ValueError(message)
        if self.mode == "exact" and "sketch_rows" in self.model_fields_set:
            message = f"sketch_rows must not be given in mode 'exact'; got {self.sketch_rows}"
            raise ValueError(message)
        return self

    @property
    def kept_rows(self) -> int:
        """Directions that a sketch really keeps, l: more than there are features would stay empty."""
        return min(self.sketch_rows, self.n_features)

    def to_dict(self) -> dict[str, Any]:
        """Return the plain JSON form, defaults included; sketch_rows only where there is a sketch."""
        return self.model_dump(mode="json", exclude={"sketch_rows"} if self.mode == "exact" else None)


def randomized_rows(num_components: int, extra_components: int = -1) -> int:
    """Return the sketch_rows of SageMaker's ``algorithm_mode="randomized"``: num_components + extra_components.

    SageMaker keeps that many random combinations of the rows; as many frequent directions take the memory twice and come
    with a bound that always holds.

    Args:
        num_components: components that the model will have.
        extra_components: further ones that the sketch keeps; −1: the larger of 10 and num_components.

    >>> randomized_rows(50), randomized_rows(4), randomized_rows(50, 150)
    (100, 14, 200)
    """
    return num_components + (max(10, num_components) if extra_components == -1 else extra_components)


class Components(ModelSpec):
    """Which components to derive.

    >>> Components(n_components=2, whiten=True).center
    True
    """

    called: ClassVar[str] = "pca.Components"

    kind: Literal["components"] = "components"
    n_components: Annotated[
        int, Field(ge=1, description="number of components, at most n_features and, of a sketch, sketch_rows")
    ]
    whiten: Annotated[bool, Field(description="divide each projection by its standard deviation")] = False
    center: Annotated[bool, Field(description="take the mean off first; False: directions through zero")] = True


@array_dataclass
class Partial:
    """Weighted second moments of some rows; as State, of all rows so far.

    >>> from beam_ml import Batch, pca
    >>> spec = Spec(n_features=1)
    >>> partial = pca.PCA.accumulate(spec, pca.PCA.empty(spec), Batch.dense([[10.0], [14.0]]), None)
    >>> float(partial.weight), partial.origin.tolist(), partial.mean.tolist(), partial.scatter.tolist()
    (2.0, [10.0], [2.0], [[8.0]])
    """

    origin: Float64[np.ndarray, "d"]  # smallest row in lexicographic order, feature units; zeros without rows
    weight: Float64[np.ndarray, ""]  # W, Σ weight
    mean: Float64[np.ndarray, "d"]  # m, relative to the origin, feature units
    scatter: Float64[np.ndarray, "d d"]  # S, centred, feature units squared


@array_dataclass
class Sketch:
    """Frequent directions of some rows' scatter matrix S; as State, of all rows so far.

    >>> from beam_ml import Batch, pca
    >>> spec = Spec(n_features=2, mode="sketch", sketch_rows=1)
    >>> sketch = pca.PCA_SKETCH.accumulate(spec, pca.PCA_SKETCH.empty(spec), Batch.dense([[1.0, 2.0], [3.0, 6.0]]), None)
    >>> float(sketch.weight), float(sketch.variation), sketch.rows.shape
    (2.0, 10.0, (2, 2))
    """

    origin: Float64[np.ndarray, "d"]  # smallest row in lexicographic order, feature units; zeros without rows
    weight: Float64[np.ndarray, ""]  # W, Σ weight
    mean: Float64[np.ndarray, "d"]  # m, relative to the origin, feature units
    rows: Float64[np.ndarray, "r d"]  # B, with BᵀB ≼ S ≼ BᵀB + Δ·I, feature units; zeros where not in use
    used: Int64[np.ndarray, ""]  # rows of B in use, the first ones
    variation: Float64[np.ndarray, ""]  # trace of S, exactly: Σ weight · squared distance to the mean
    shrunk: Float64[np.ndarray, ""]  # Δ, the most that any direction has lost, feature units squared


@array_dataclass
class Model:
    """Mean, components and their share of the variance, by falling variance.

    >>> from beam_ml import Batch, derive, fit
    >>> model = derive(fit(Spec(n_features=2), [Batch.dense([[1.0, 2.0], [3.0, 6.0]])]), Components(n_components=1)).arrays
    >>> model.mean.tolist(), model.components.round(4).tolist(), model.explained_variance_ratio.round(6).tolist()
    ([2.0, 4.0], [[0.4472, 0.8944]], [1.0])
    """

    mean: Float64[np.ndarray, "d"]  # taken off each row before projecting; zeros when not centred
    mean_tail: Float64[
        np.ndarray, "d"
    ]  # what rounding left off `mean`: mean + mean_tail is the mean to twice the digits
    components: Float64[np.ndarray, "c d"]  # orthonormal rows; the largest entry of each is positive
    singular_values: Float64[np.ndarray, "c"]  # of the centred rows, each multiplied by √weight
    explained_variance: Float64[np.ndarray, "c"]  # singular_values² / W
    explained_variance_ratio: Float64[np.ndarray, "c"]  # of the total variance
    scale: Float64[np.ndarray, "c"]  # multiplies the projection: 1, or 1 / standard deviation when whitened
