"""DeepAR: one autoregressive network for many series, which forecasts a distribution. Law GATHERED, trained by JAX.

An LSTM runs over a window of a series and says how its next value is distributed, given the values before; a forecast is
drawn step by step from it. Series of any size share the network, since each is seen in units of its own change over a season
(`beam_ml.algorithms.deepar.windows`). Workers gather series (`beam_ml.core.series`), each fold trains on them
(`beam_ml.algorithms.deepar.training`) from where the last one ended, and counts how its forecasts did, by which quantiles
are corrected (`beam_ml.algorithms.deepar.model`).

The network needs the extra `neural`. Reference: Salinas, Flunkert, Gasthaus and Januschowski, "DeepAR: probabilistic
forecasting with autoregressive recurrent networks", International Journal of Forecasting (2020).
"""

import dataclasses

import numpy as np

from beam_ml.algorithms.deepar.model import derive, measure, predict
from beam_ml.algorithms.deepar.spec import Forecast, Model, Spec, State
from beam_ml.algorithms.deepar.training import fold, init
from beam_ml.core import gathered
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind
from beam_ml.core.gathered import Gathered
from beam_ml.core.series import SeriesBatch, code_of

__all__ = ["DEEPAR", "Forecast", "Model", "SeriesBatch", "Spec", "State", "code_of"]

_OF_WEIGHT = ("pit", "level", "spread", "known", "weight")


def _law(spec: Spec) -> Law:
    return Law(LawKind.GATHERED, rtol=1e-4)


def _scale(spec: Spec, summary: State | Gathered, factor: float) -> State | Gathered:
    if isinstance(summary, Gathered):
        return gathered.scale(spec, summary, factor)
    return dataclasses.replace(summary, **{name: np.asarray(getattr(summary, name) * factor) for name in _OF_WEIGHT})


def _weight(summary: State | Gathered) -> float:
    return gathered.weight(summary) if isinstance(summary, Gathered) else float(summary.weight)


DEEPAR: Algorithm[Spec, State, Gathered, None] = Algorithm(
    name="deepar",
    version=1,
    spec=Spec,
    state=State,
    partial=Gathered,
    law=_law,
    init=init,
    empty=gathered.empty,
    accumulate=gathered.accumulate,
    merge=gathered.merge,
    fold=fold,
    scale=_scale,
    weight=_weight,
    grow=gathered.grow,
    models={"forecast": ModelKind(Forecast, Model, derive, predict, measure)},
)
"""DeepAR: law GATHERED.

>>> from beam_ml import derive, fit, predict
>>> spec = Spec(time_freq="5H", context_length=2, prediction_length=2, max_length=20, num_cells=4, passes_per_refresh=1)
>>> waves = [{"start": "2026-01-01", "target": [10.0 + (t + i) % 2 for t in range(20)]} for i in range(8)]
>>> rows = SeriesBatch.of_records(spec.layout, waves).to_batch()
>>> model = derive(fit(spec, rows), Forecast(num_samples=10, quantiles=(0.1, 0.5, 0.9)))
>>> predict(model, rows)["quantiles"].shape
(8, 2, 3)
"""
