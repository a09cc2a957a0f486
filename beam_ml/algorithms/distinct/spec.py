"""Settings and records of distinct counts. Letters: ``d`` columns, ``m`` = 2^p registers of a column."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Float64, UInt8
from pydantic import Field

from beam_ml.core.arrays import array_dataclass
from beam_ml.core.spec import ModelSpec
from beam_ml.core.spec import Spec as BaseSpec

__all__ = ["Count", "Model", "Partial", "Spec"]


class Spec(BaseSpec):
    """What shapes the registers. The standard error of a count is ``1.04 / √(2^precision)`` of it.

    Counts do not age with a half-life: what was seen stays seen. It ages the rows' weight and mean alone.

    >>> round(Spec(n_features=1).standard_error, 3), round(Spec(n_features=1, precision=16).standard_error, 3)
    (0.016, 0.004)
    """

    called: ClassVar[str] = "distinct.Spec"
    takes_sparse: ClassVar[bool] = False

    algorithm: Literal["distinct"] = "distinct"
    precision: Annotated[
        int, Field(ge=4, le=16, description="2^precision bytes are kept of each column; two more halve the error")
    ] = 12

    @property
    def standard_error(self) -> float:
        """Standard error of a count, as a share of it."""
        return float(1.04 / np.sqrt(2.0**self.precision))


class Count(ModelSpec):
    """The number of different values in each column; there is nothing to choose.

    >>> Count().kind
    'count'
    """

    called: ClassVar[str] = "distinct.Count"

    kind: Literal["count"] = "count"


@array_dataclass
class Partial:
    """Registers of some rows, by column, and the rows' mean; as State, of all rows so far.

    >>> from beam_ml import Batch, distinct
    >>> spec = Spec(n_features=1)
    >>> rows = Batch.dense([[2.0], [5.0], [5.0]])
    >>> partial = distinct.DISTINCT.accumulate(spec, distinct.DISTINCT.empty(spec), rows, None)
    >>> partial.registers.shape, int((partial.registers > 0).sum()), (partial.origin + partial.mean).tolist()
    ((1, 4096), 2, [4.0])
    """

    weight: Float64[np.ndarray, ""]  # W, Σ weight of the rows
    origin: Float64[np.ndarray, "d"]  # smallest row in lexicographic order, column's units; zeros without rows
    mean: Float64[np.ndarray, "d"]  # relative to the origin, column's units
    registers: UInt8[np.ndarray, "d m"]  # most leading zeros, plus 1, of the hashes that fell to each; 0: none did


@array_dataclass
class Model:
    """Counts by column.

    >>> from beam_ml import Batch, derive, fit
    >>> model = derive(fit(Spec(n_features=2), [Batch.dense([[1.0, 7.0], [2.0, 7.0], [1.0, 7.0]])]), Count()).arrays
    >>> model.count.round(2).tolist(), float(model.standard_error.round(3))
    ([2.0, 1.0], 0.016)
    """

    count: Float64[np.ndarray, "d"]  # different values, estimated
    standard_error: Float64[np.ndarray, ""]  # of a count, as a share of it
    mean: Float64[np.ndarray, "d"]  # of the rows, column's units
