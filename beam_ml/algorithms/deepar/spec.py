"""Settings and arrays of `deepar`."""

import functools
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic
from jaxtyping import Float32, Float64, Int32, Int64, UInt8, UInt32
from pydantic import Field

from beam_ml.core.arrays import array_dataclass
from beam_ml.core.frequency import Frequency
from beam_ml.core.gathered import GatheredSpec
from beam_ml.core.series import Layout, faults
from beam_ml.core.spec import ModelSpec
from beam_ml.errors import InvalidBatch, InvalidValue

__all__ = ["BINS", "GROUPS", "Forecast", "Model", "Spec", "State"]

BINS = 40
"""Bins of the histogram of the probability integral transform."""
GROUPS = 6
"""Groups of steps of the horizon that are calibrated apart, at most."""

Likelihood = Literal["student-T", "gaussian", "negative-binomial", "beta", "deterministic-L1"]
Share = Annotated[float, Field(gt=0, lt=1)]


class Spec(GatheredSpec):
    """What is learned of series, and by what network; names are SageMaker's where it has the setting.

    The number of features follows from the others: that of the columns of a series (`beam_ml.core.series`).

    >>> spec = Spec(time_freq="H", context_length=24, prediction_length=24, max_length=500)
    >>> spec.n_features, spec.layout.max_length
    (501, 500)
    """

    algorithm: Literal["deepar"] = "deepar"
    n_features: Annotated[int, Field(ge=1, le=100_000_000)] = 0
    time_freq: Annotated[
        str, Field(description="how far apart steps are: a number, if any, and min, H, D, B, W, M, Q or Y")
    ]
    context_length: Annotated[
        int, Field(ge=1, le=2_000, description="steps before the forecast that the network runs over")
    ]
    prediction_length: Annotated[int, Field(ge=1, le=2_000, description="steps to forecast")]
    max_length: Annotated[int, Field(ge=1, le=1_000_000, description="steps of the longest series")] = 2_048
    likelihood: Likelihood = "student-T"
    num_cells: Annotated[int, Field(ge=1, le=1_000, description="of each layer")] = 40
    num_layers: Annotated[int, Field(ge=1, le=8)] = 2
    dropout_rate: Annotated[
        float, Field(ge=0, lt=1, description="chance that a cell keeps what it was while it is trained (zoneout)")
    ] = 0.0
    num_dynamic_feat: Annotated[int, Field(ge=0, le=100, description="features known ahead")] = 0
    cardinality: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...],
        Field(description="for each category of a series, how many values are told apart: those that come first"),
    ] = ()
    embedding_dimension: Annotated[int, Field(ge=1, le=200, description="numbers that stand for a category")] = 10
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-2
    mini_batch_size: Annotated[int, Field(ge=1, le=10_000, description="windows of a step")] = 32
    passes_per_refresh: Annotated[
        float,
        Field(gt=0, le=10_000, description="how often a fold goes over all windows that its rows can be cut into"),
    ] = 20.0

    feature_rule: ClassVar[Literal["number", "category", "count", "series"]] = "series"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _count_features(cls, data: Any) -> Any:
        """Fill in the number of features, or refuse another one."""
        if not isinstance(data, dict):
            return data
        try:
            names = ("max_length", "prediction_length", "num_dynamic_feat")
            length, horizon, dynamic = (int(data.get(name, cls.model_fields[name].default)) for name in names)
            categories = len(data.get("cardinality", ()))
        except (TypeError, ValueError):
            return data  # the fields say what they must be
        width = Layout(length, horizon, dynamic, categories, Frequency(1, "D")).width
        given = data.get("n_features", 0)
        if given not in (0, width):
            message = f"deepar.Spec.n_features must be that of the columns of its series, {width}; got {given!r}."
            raise InvalidValue(message)
        return {**data, "n_features": width}

    @pydantic.field_validator("time_freq", mode="after")
    @classmethod
    def _known_frequency(cls, value: str) -> str:
        Frequency.of(value)
        return value

    @property
    def frequency(self) -> Frequency:
        """How far apart steps are."""
        return Frequency.of(self.time_freq)

    @property
    def layout(self) -> Layout:
        """Which column of a row holds what."""
        return Layout(
            self.max_length, self.prediction_length, self.num_dynamic_feat, len(self.cardinality), self.frequency
        )

    def refused(self, batch: Any) -> list[tuple[str, np.ndarray]]:
        """Return, by reason, the rows that are no series, or hold what the likelihood forbids."""
        return [*faults(batch, self.layout), *_forbidden(self, batch)]


def _forbidden(spec: Spec, batch: Any) -> list[tuple[str, np.ndarray]]:
    if spec.likelihood not in ("negative-binomial", "beta") or batch.indptr is None:
        return []
    row = np.repeat(np.arange(len(batch)), np.diff(batch.indptr))
    mine = batch.indices < spec.max_length
    row, value = row[mine], batch.values[mine]
    if spec.likelihood == "beta":
        reason, wrong = "a value outside [0, 1]", ~((value >= 0) & (value <= 1))
    else:
        reason, wrong = "a value that is no count", ~((value >= 0) & (value == np.floor(value)))
    bad = np.zeros(len(batch), bool)
    bad[row[wrong]] = True
    return [(reason, bad)]


class Forecast(ModelSpec):
    """Forecasts: mean, quantiles and, if asked for, the paths they come from.

    >>> Forecast(quantiles=(0.1, 0.5, 0.9)).num_samples
    100
    """

    kind: Literal["forecast"] = "forecast"
    prediction_length: Annotated[
        int | None, Field(ge=1, le=2_000, description="steps to forecast; None: those of the spec, the most")
    ] = None
    num_samples: Annotated[int, Field(ge=1, le=10_000, description="paths for each series")] = 100
    quantiles: Annotated[tuple[Share, ...], Field(min_length=1, max_length=100)] = (
        0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
    )  # fmt: skip
    samples: Annotated[bool, Field(description="whether predictions hold the paths, too")] = False
    calibrated: Annotated[bool, Field(description="whether quantiles are corrected by how earlier forecasts did")] = (
        True
    )


@array_dataclass
class State:
    """The network and how far its training is; what is known of all series.

    >>> from beam_ml.algorithms.deepar import DEEPAR
    >>> spec = Spec(time_freq="D", context_length=7, prediction_length=7)
    >>> state = DEEPAR.init(spec)
    >>> state.parameters.size, int(state.steps), state.pit.shape
    (25883, 0, (6, 40))
    """

    parameters: Float32[np.ndarray, "p"]  # of the network
    first: Float32[np.ndarray, "p"]  # Adam's mean of gradients
    second: Float32[np.ndarray, "p"]  # Adam's mean of squared gradients
    mean: Float32[np.ndarray, "p"]  # of the parameters, recent ones counting more
    steps: Int32[np.ndarray, ""]  # made
    skipped: Int32[np.ndarray, ""]  # steps left out, since loss or gradient was not finite
    key: UInt32[np.ndarray, "2"]  # of the next random numbers
    codes: Int64[np.ndarray, "v"]  # category of each row of the embeddings, one category after the other; 0: free
    pit: Float64[np.ndarray, "g b"]  # Σ weight of forecast steps, by group of the horizon and where the value lay
    level: Float64[np.ndarray, ""]  # Σ weight · mean of the series, target units
    spread: Float64[np.ndarray, ""]  # Σ weight · deviation of the series, target units
    known: Float64[np.ndarray, ""]  # Σ weight of series that have values
    weight: Float64[np.ndarray, ""]  # Σ weight

    def __post_init__(self) -> None:
        """Refuse counts that are none."""
        if (self.pit < 0).any():
            message = "State.pit must be >= 0."
            raise InvalidBatch(message)


@array_dataclass
class Model:
    """A network that forecasts, and what it was made by; of a learner it is `derive(learner, Forecast()).arrays`.

    >>> from beam_ml.core.arrays import array_fields
    >>> [field.name for field in array_fields(Model)]
    ['settings', 'parameters', 'codes', 'pit', 'level', 'spread']
    """

    settings: UInt8[np.ndarray, "s"]  # JSON of the spec and the model's spec, UTF-8
    parameters: Float32[np.ndarray, "p"]  # of the network
    codes: Int64[np.ndarray, "v"]  # as in `State`
    pit: Float64[np.ndarray, "g b"]  # as in `State`
    level: Float64[np.ndarray, ""]  # mean of a series of which nothing is known, target units
    spread: Float64[np.ndarray, ""]  # its deviation, target units


@functools.lru_cache(maxsize=64)
def groups(horizon: int) -> tuple[int, ...]:
    """Return the group of each step of a horizon.

    >>> groups(4), max(groups(48))
    ((0, 1, 2, 3), 5)
    """
    number = min(GROUPS, horizon)
    return tuple(step * number // horizon for step in range(horizon))
