"""Forecasts of a network: paths, their mean, and quantiles corrected by how earlier forecasts did.

Where the probability integral transform of earlier values has the distribution F, the quantile at level q is that of the
paths at level F⁻¹(q) (Kuleshov et al., "Accurate uncertainties for deep learning using calibrated regression", 2018).
Letters: ``n`` series, ``h`` steps ahead, ``p`` paths, ``q`` levels.
"""

import functools
import json
from typing import Any

import numpy as np

from beam_ml.algorithms.deepar import network
from beam_ml.algorithms.deepar.shape import shape_of
from beam_ml.algorithms.deepar.spec import BINS, Forecast, Model, Spec, State, groups
from beam_ml.algorithms.deepar.training import keys_of, typical
from beam_ml.algorithms.deepar.windows import cut, source
from beam_ml.core import metrics
from beam_ml.core.algorithm import Predictions
from beam_ml.core.batch import Batch
from beam_ml.core.series import SeriesBatch
from beam_ml.errors import DeriveRefused, InvalidBatch
from beam_ml.kernels.layout import Layout

__all__ = ["derive", "measure", "predict"]

_PRIOR = 4.0  # values that each bin is thought to have had, so that few values correct little


def derive(spec: Spec, model_spec: Forecast, state: State, sample: Batch | None = None) -> Model:
    """Return the model of a state.

    Raises:
        DeriveRefused: the state has no weight, or the horizon is longer than the spec's.
    """
    if float(state.weight) <= 0.0:
        message = "A forecast needs a learner that has seen series; it has seen none yet."
        raise DeriveRefused(message)
    horizon = model_spec.prediction_length
    if horizon is not None and horizon > spec.prediction_length:
        message = (
            f"Forecast.prediction_length must be <= {spec.prediction_length}, what deepar.Spec.prediction_length trains; "
            f"got {horizon}."
        )
        raise DeriveRefused(message)
    text = json.dumps({"spec": spec.to_dict(), "model": model_spec.to_dict()}, sort_keys=True)
    level, spread = typical(state)
    return Model(
        settings=np.frombuffer(text.encode(), np.uint8), parameters=state.mean, codes=state.codes, pit=state.pit,
        level=np.asarray(level), spread=np.asarray(spread),
    )  # fmt: skip


def predict(model: Model, batch: Batch) -> Predictions:
    """Return ``mean`` (n, h), ``quantiles`` (n, h, q) at the model's levels and, on demand, ``samples`` (n, p, h).

    Raises:
        InvalidBatch: rows that are no series of the model's spec, or a model whose arrays do not fit it, as if forged.
    """
    spec, asked = _opened(model, batch)
    series = SeriesBatch.of(batch, spec.layout)
    paths = _paths(model, spec, asked, series, series.lengths)
    horizon = asked.prediction_length or spec.prediction_length
    found = {"mean": paths.mean(axis=2), "quantiles": _quantiles(model, spec, asked, paths)}
    if asked.samples:
        found["samples"] = np.swapaxes(paths, 1, 2)[:, :, :horizon]
    return found | {name: found[name][:, :horizon] for name in ("mean", "quantiles")}


def measure(model: Model, batch: Batch) -> Any:
    """Return the quantile loss of forecasts of the last horizon of each series from what came before it."""
    spec, asked = _opened(model, batch)
    series = SeriesBatch.of(batch, spec.layout)
    horizon, levels = spec.prediction_length, np.array(asked.quantiles)
    which = np.flatnonzero(series.lengths > horizon)
    at = series.lengths - horizon
    found = _quantiles(model, spec, asked, _paths(model, spec, asked, series, at)[which])
    step = series.bounds[which][:, None] + at[which][:, None] + np.arange(horizon)
    value = series.target[step] if which.size else np.zeros((0, horizon))
    weight = np.where(np.isnan(value), 0.0, series.weight[which][:, None])
    return metrics.quantiles(found.reshape(-1, levels.size), levels, np.nan_to_num(value).ravel(), weight.ravel())


def _opened(model: Model, batch: Batch) -> tuple[Spec, Forecast]:
    """Return what a model was made by, after a look at whether its arrays, and rows, fit that."""
    spec, asked = _settings(model.settings.tobytes())
    if batch.n_features != spec.n_features:
        message = f"A model of deepar takes {spec.n_features} features; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    wanted = (
        Layout(shape_of(spec).shapes).size,
        sum(spec.cardinality),
        (max(groups(spec.prediction_length)) + 1, BINS),
    )
    found = (model.parameters.size, model.codes.size, model.pit.shape)
    if found != wanted or (model.pit < 0).any():
        message = (
            "A model of deepar must have as many parameters, categories and counts by group and bin as its settings say, "
            f"{wanted}, none of the counts below 0; got {found}."
        )
        raise InvalidBatch(message)
    return spec, asked


@functools.lru_cache(maxsize=16)
def _settings(stored: bytes) -> tuple[Spec, Forecast]:
    try:
        settings = json.loads(stored)
        return Spec.parse(settings["spec"]), Forecast.parse(settings["model"])
    except (ValueError, TypeError, KeyError) as error:  # what is no JSON, no object, or no such settings
        message = f"A model of deepar must hold the settings that it was made by; {error}"
        raise InvalidBatch(message) from error


def _paths(model: Model, spec: Spec, asked: Forecast, series: SeriesBatch, at: np.ndarray) -> np.ndarray:
    """Return paths (n, h, p) from step `at` (n,) of each series on."""
    every = np.arange(len(series))
    if every.size == 0:
        return np.zeros((0, spec.prediction_length, asked.num_samples))
    windows = cut(spec, source(spec, series, model.codes), every, at, float(model.level), float(model.spread))
    return network.forecasts(spec, model.parameters, windows, keys_of(spec.seed, windows), asked.num_samples)


def _quantiles(model: Model, spec: Spec, asked: Forecast, paths: np.ndarray) -> np.ndarray:
    """Return quantiles (n, h, q) of paths (n, h, p)."""
    levels = np.array(asked.quantiles)
    of_group = [_corrected(levels, row) if asked.calibrated else levels for row in model.pit]
    ordered = np.sort(paths, axis=2)
    found = np.empty((*paths.shape[:2], levels.size))
    for step, group in enumerate(groups(spec.prediction_length)):
        place = np.clip(of_group[group] * (paths.shape[2] + 1) - 1.0, 0.0, paths.shape[2] - 1.0)
        low = np.floor(place).astype(np.int64)
        high = np.minimum(low + 1, paths.shape[2] - 1)
        mine = ordered[:, step]
        found[:, step] = mine[:, low] + (place - low) * (mine[:, high] - mine[:, low])
    return found


def _corrected(levels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return F⁻¹ of levels (q,), F the distribution of earlier transforms with counts (b,) by bin."""
    share = counts + _PRIOR
    whole = np.concatenate([[0.0], np.cumsum(share)]) / share.sum()
    return np.interp(levels, whole, np.linspace(0.0, 1.0, BINS + 1))
