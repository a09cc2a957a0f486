"""Settings and records of quantiles.

Letters: ``d`` columns, ``b`` buckets, ``q`` quantiles, ``i`` intervals, ``e`` their inner ends.
"""

import itertools
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float64, Int32, Int64
from pydantic import Field, field_validator

from beam_ml.core.arrays import array_dataclass
from beam_ml.core.spec import ModelSpec
from beam_ml.core.spec import Spec as BaseSpec
from beam_ml.errors import InvalidValue

__all__ = [
    "BucketModel",
    "Buckets",
    "Partial",
    "QuantileModel",
    "Quantiles",
    "RobustScale",
    "ScaleModel",
    "Spec",
]

_Share = Annotated[float, Field(ge=0, le=1)]
_MOST = 10_000


class Spec(BaseSpec):
    """What shapes the histograms.

    >>> Spec(n_features=3, relative_error=0.005).max_buckets
    2048
    """

    called: ClassVar[str] = "quantile.Spec"
    takes_sparse: ClassVar[bool] = False

    algorithm: Literal["quantile"] = "quantile"
    relative_error: Annotated[
        float,
        Field(ge=0.001, le=0.2, description="largest error of a quantile, as a share of the value itself"),
    ] = 0.01
    max_buckets: Annotated[
        int,
        Field(
            ge=64,
            le=65_536,
            description="most buckets kept of a column; where its values would need more, each two neighbours become one, "
            "and the column's error grows, which models say",
        ),
    ] = 2048


class Quantiles(ModelSpec):
    """Which quantiles of each column to derive.

    >>> Quantiles(q=[0.5, 0.99]).q
    (0.5, 0.99)
    """

    called: ClassVar[str] = "quantile.Quantiles"

    kind: Literal["quantiles"] = "quantiles"
    q: Annotated[tuple[_Share, ...], Field(description="shares of the rows' weight, rising, up to 10,000 of them")] = (
        0.01,
        0.05,
        0.25,
        0.5,
        0.75,
        0.95,
        0.99,
    )

    @field_validator("q")
    @classmethod
    def _rises(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not 1 <= len(value) <= _MOST:
            message = f"must name 1 to {_MOST:,} shares"
            raise ValueError(message)
        if any(b <= a for a, b in itertools.pairwise(value)):
            message = "must rise"
            raise ValueError(message)
        return value


class Buckets(ModelSpec):
    """Into how many intervals of equal weight to cut each column.

    >>> Buckets(n=4).n
    4
    """

    called: ClassVar[str] = "quantile.Buckets"

    kind: Literal["buckets"] = "buckets"
    n: Annotated[int, Field(ge=2, le=10_000, description="intervals of equal weight")] = 10


class RobustScale(ModelSpec):
    """Scale by median and interquartile range, which a few far values do not move.

    >>> RobustScale().low, RobustScale(low=0.1, high=0.9).high
    (0.25, 0.9)
    """

    called: ClassVar[str] = "quantile.RobustScale"

    kind: Literal["robust_scale"] = "robust_scale"
    low: Annotated[float, Field(ge=0, lt=0.5, description="share of the rows' weight below the range")] = 0.25
    high: Annotated[float, Field(gt=0.5, le=1, description="share of the rows' weight up to the end of the range")] = (
        0.75
    )


@array_dataclass
class Partial:
    """Histograms of some rows, one per column; as State, of all rows so far. Buckets by rising column and value.

    >>> from beam_ml import Batch, quantile
    >>> spec = Spec(n_features=1)
    >>> rows = Batch.dense([[-5.0], [0.0], [3.0], [3.0]])
    >>> partial = quantile.QUANTILE.accumulate(spec, quantile.QUANTILE.empty(spec), rows, None)
    >>> partial.count.tolist(), partial.low.tolist(), partial.high.tolist()
    ([1.0, 1.0, 2.0], [-5.0], [3.0])
    """

    weight: Float64[np.ndarray, ""]  # W, Σ weight of the rows
    low: Float64[np.ndarray, "d"]  # smallest value, column's units; 0 without rows. Forgetting leaves it
    high: Float64[np.ndarray, "d"]  # largest value
    level: Int64[np.ndarray, "d"]  # how often each two neighbours have become one
    column: Int32[np.ndarray, "b"]  # of the bucket, 0 … d − 1
    code: Int32[np.ndarray, "b"]  # of the bucket: 0 holds zeros, −c the negatives of the magnitudes that c holds
    count: Float64[np.ndarray, "b"]  # Σ weight of the values in it, > 0


@array_dataclass
class QuantileModel:
    """Quantiles by column.

    >>> from beam_ml import Batch, derive, fit
    >>> model = derive(fit(Spec(n_features=1), [Batch.dense([[1.0], [2.0], [4.0]])]), Quantiles(q=[0.0, 0.5, 1.0])).arrays
    >>> model.value.round(1).tolist(), model.relative_error.tolist()
    ([[1.0, 2.0, 4.0]], [0.01])
    """

    q: Float64[np.ndarray, "q"]  # shares of the rows' weight, rising
    value: Float64[np.ndarray, "d q"]  # column's units
    relative_error: Float64[np.ndarray, "d"]  # largest error of a value, as a share of it


@array_dataclass
class BucketModel:
    """Intervals of equal weight by column: value x is in interval k where k inner ends are <= x.

    >>> from beam_ml import Batch, derive, fit
    >>> rows = Batch.dense([[float(i)] for i in range(1, 9)])
    >>> model = derive(fit(Spec(n_features=1), [rows]), Buckets(n=4)).arrays
    >>> model.bounds.round(1).tolist()
    [[2.0, 4.0, 6.0]]
    """

    bounds: Float64[np.ndarray, "d e"]  # inner ends of the intervals, not falling, column's units
    middle: Float64[np.ndarray, "d i"]  # the median of each interval
    relative_error: Float64[np.ndarray, "d"]  # largest error of an end, as a share of it

    def bucketed(self, column: str, number: int = 0) -> dict[str, Any]:
        """Return the term of `Features.bucketed` with the bounds of a column by its number; equal ends are one bound.

        Raises:
            InvalidValue: there is no such column.

        >>> from beam_ml import Batch, derive, fit
        >>> rows = Batch.dense([[0.0], [0.0], [0.0], [8.0]])
        >>> derive(fit(Spec(n_features=1), [rows]), Buckets(n=4)).arrays.bucketed("amount")
        {'column': 'amount', 'bounds': [0.0]}
        """
        ends = _of_column("BucketModel.bucketed", self.bounds, number)
        return {"column": column, "bounds": np.unique(ends).tolist()}


@array_dataclass
class ScaleModel:
    """Median and range by column.

    >>> from beam_ml import Batch, derive, fit
    >>> rows = Batch.dense([[1.0], [2.0], [3.0], [4.0], [1000.0]])
    >>> model = derive(fit(Spec(n_features=1), [rows]), RobustScale()).arrays
    >>> model.centre.round(1).tolist(), model.scale.round(1).tolist()
    ([3.0], [2.0])
    """

    low: Float64[np.ndarray, "d"]  # quantile at the range's lower end, column's units
    centre: Float64[np.ndarray, "d"]  # median
    high: Float64[np.ndarray, "d"]  # quantile at the range's upper end
    scale: Float64[np.ndarray, "d"]  # high − low; 1 where they are equal
    relative_error: Float64[np.ndarray, "d"]  # largest error of low, centre and high, as a share of each

    def standardise(self, column: str, number: int = 0) -> dict[str, Any]:
        """Return the term of `Features.numeric` that takes the median off a column and divides by its range.

        Raises:
            InvalidValue: there is no such column.

        >>> from beam_ml import Batch, derive, fit
        >>> rows = Batch.dense([[0.0], [0.0], [0.0]])
        >>> derive(fit(Spec(n_features=1), [rows]), RobustScale()).arrays.standardise("amount")
        {'column': 'amount', 'transform': 'standardise', 'mean': 0.0, 'scale': 1.0}
        """
        mean, scale = (float(_of_column("ScaleModel.standardise", one, number)) for one in (self.centre, self.scale))
        return {"column": column, "transform": "standardise", "mean": mean, "scale": scale}


def _of_column(what: str, values: np.ndarray, number: int) -> np.ndarray:
    if not 0 <= number < len(values):
        message = f"quantile.{what} takes a column of 0 … {len(values) - 1}; got {number}."
        raise InvalidValue(message)
    found: np.ndarray = values[number]
    return found
