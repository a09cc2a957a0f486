"""Settings and records of k-means. Letters: ``d`` features, ``m`` coreset centres, ``k`` clusters."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from beam_ml.core.arrays import array_dataclass
from beam_ml.core.spec import ModelSpec
from beam_ml.core.spec import Spec as BaseSpec

__all__ = ["Clusters", "Model", "Partial", "Spec"]


class Spec(BaseSpec):
    """What shapes the coreset.

    >>> Spec(n_features=30, k_max=100).capacity
    2000
    """

    called: ClassVar[str] = "kmeans.Spec"
    takes_sparse: ClassVar[bool] = False

    algorithm: Literal["kmeans"] = "kmeans"
    k_max: Annotated[int, Field(ge=1, le=100_000, description="the most clusters a model may have")]
    extra_center_factor: Annotated[
        int, Field(ge=2, le=1000, description="coreset centres kept for each of the k_max clusters")
    ] = 20

    @property
    def capacity(self) -> int:
        """The most centres the coreset keeps."""
        return self.k_max * self.extra_center_factor

    @property
    def target(self) -> int:
        """How many centres are left when a full coreset makes room for new ones."""
        return max(1, self.capacity * 7 // 10)


class Clusters(ModelSpec):
    """Which clustering to derive: any number of clusters up to the spec's k_max.

    Names in SageMaker's words: restarts is local_lloyd_num_trials, init local_lloyd_init_method, max_iter and tol
    local_lloyd_max_iter and local_lloyd_tol.

    >>> Clusters(k=8).restarts
    10
    """

    called: ClassVar[str] = "kmeans.Clusters"

    kind: Literal["clusters"] = "clusters"
    k: Annotated[int, Field(ge=1, description="number of clusters, at most the spec's k_max")]
    restarts: Annotated[int, Field(ge=1, le=1000, description="seedings tried; the least sum of squares wins")] = 10
    init: Annotated[
        Literal["kmeans++", "random"], Field(description="seeding: by squared distance, or by weight alone")
    ] = "kmeans++"
    max_iter: Annotated[int, Field(ge=0, le=100_000, description="Lloyd iterations for each seeding")] = 300
    tol: Annotated[
        float, Field(ge=0, le=1, description="stop when an iteration lowers the sum of squares by this share or less")
    ] = 1e-4


@array_dataclass
class Partial:
    """A coreset: weighted centres, distinct as a rule, in no order; as State, of all rows so far.

    >>> from beam_ml import Batch, kmeans
    >>> spec = Spec(n_features=1, k_max=2)
    >>> rows = Batch.dense([[1.0], [5.0], [5.0]])
    >>> partial = kmeans.KMEANS.accumulate(spec, kmeans.KMEANS.empty(spec), rows, None)
    >>> sorted(zip(partial.centres.ravel().tolist(), partial.weight.tolist()))
    [(1.0, 1.0), (5.0, 2.0)]
    """

    centres: Float64[np.ndarray, "m d"]  # mean of the rows each stands for, feature units
    weight: Float64[np.ndarray, "m"]  # their Σ weight, > 0
    scatter: Float64[np.ndarray, "m"]  # their Σ weight · squared distance to the centre, feature units squared


@array_dataclass
class Model:
    """Cluster centres, heaviest first.

    >>> from beam_ml import Batch, derive, fit
    >>> learner = fit(Spec(n_features=1, k_max=2), [Batch.dense([[1.0], [5.0], [5.0], [5.0]])])
    >>> model = derive(learner, Clusters(k=2)).arrays
    >>> model.centres.tolist(), model.weight.tolist(), model.sse.tolist()
    ([[5.0], [1.0]], [3.0, 1.0], [0.0, 0.0])
    """

    centres: Float64[np.ndarray, "k d"]  # feature units
    weight: Float64[np.ndarray, "k"]  # Σ weight of the rows nearest to each centre, as far as the sample tells
    sse: Float64[np.ndarray, "k"]  # Σ weight · squared distance of those rows to it; without a sample an upper bound
