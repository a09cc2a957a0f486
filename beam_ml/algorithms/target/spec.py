"""Settings and records of target means. Letters: ``g`` columns, ``m`` places of a column's categories."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from beam_ml.core.arrays import array_dataclass
from beam_ml.core.spec import ModelSpec
from beam_ml.core.spec import Spec as BaseSpec
from beam_ml.errors import InvalidValue

__all__ = ["Means", "Model", "Partial", "Spec"]


class Spec(BaseSpec):
    """What shapes the sums. Each feature is a column of categories, as `{ column, transform = "code" }` makes them.

    >>> Spec(n_features=2).buckets
    4096
    """

    called: ClassVar[str] = "target.Spec"
    takes_sparse: ClassVar[bool] = False
    label_rule = "real"
    feature_rule = "category"

    algorithm: Literal["target"] = "target"
    buckets: Annotated[
        int,
        Field(
            ge=2, le=65_536,
            description="places that the categories of a column are hashed to; two that share one share their mean",
        ),
    ] = 4096  # fmt: skip


class Means(ModelSpec):
    """How far the means of rare categories are drawn towards that of all rows.

    >>> Means(smoothing=20.0).smoothing
    20.0
    """

    called: ClassVar[str] = "target.Means"

    kind: Literal["means"] = "means"
    smoothing: Annotated[
        float,
        Field(
            ge=1e-3, le=1e12,
            description="rows with the mean of all that are added to each category: one of as much weight stands halfway",
        ),
    ] = 10.0  # fmt: skip


@array_dataclass
class Partial:
    """Sums of some rows by column and place of their category; as State, of all rows so far.

    >>> from beam_ml import Batch, target
    >>> rows = Batch.dense([[7.0], [8.0], [7.0]], label=[1.0, 0.0, 0.0])
    >>> partial = target.TARGET.accumulate(Spec(n_features=1), target.TARGET.empty(Spec(n_features=1)), rows, None)
    >>> sorted(partial.count[partial.count > 0].tolist()), float(partial.total.sum())
    ([1.0, 2.0], 1.0)
    """

    weight: Float64[np.ndarray, ""]  # W, Σ weight of the rows
    count: Float64[np.ndarray, "g m"]  # Σ weight of the rows whose category is there
    total: Float64[np.ndarray, "g m"]  # Σ weight · label of them, the label's units


@array_dataclass
class Model:
    """What stands for each category: the mean of its labels, drawn towards that of all rows.

    >>> from beam_ml import Batch, derive, fit
    >>> rows = Batch.dense([[7.0], [8.0], [7.0], [8.0]], label=[1.0, 0.0, 1.0, 0.0])
    >>> model = derive(fit(Spec(n_features=1, buckets=4), [rows]), Means(smoothing=2.0)).arrays
    >>> float(model.mean), sorted(set(model.value.ravel().tolist()))
    (0.5, [0.25, 0.5, 0.75])
    """

    mean: Float64[np.ndarray, ""]  # of all rows' labels; stands for a category that was never seen
    value: Float64[np.ndarray, "g m"]  # by column and place, the label's units
    count: Float64[np.ndarray, "g m"]  # Σ weight of the rows whose category is there

    def target(self, column: str, number: int = 0) -> dict[str, Any]:
        """Return the term of `Features.numeric` that encodes a column by the means of one, by its number here.

        The rows that it encodes must be others than those that the means were learned from: earlier rows alone teach the
        means, later ones are encoded. A row whose own label is in its mean tells the label.

        Raises:
            InvalidValue: there is no such column.

        >>> from beam_ml import Batch, derive, fit
        >>> rows = Batch.dense([[7.0], [8.0]], label=[1.0, 0.0])
        >>> model = derive(fit(Spec(n_features=1, buckets=2), [rows]), Means(smoothing=1.0)).arrays
        >>> sorted(model.target("shop"))
        ['column', 'transform', 'values']
        """
        if not 0 <= number < len(self.value):
            message = f"target.Model.target takes a column of 0 … {len(self.value) - 1}; got {number}."
            raise InvalidValue(message)
        return {"column": column, "transform": "target", "values": self.value[number].tolist()}
