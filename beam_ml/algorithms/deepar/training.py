"""The fold: a window's series are learned from by many steps on windows cut from them, drawn by weight and length.

Most steps see no more than the series without their last horizon. What the network then forecasts of that horizon is
compared with what came: where each value lies among the forecast's paths, the probability integral transform, is counted by
group of the horizon. The last steps see everything. Letters: ``n`` series, ``k`` windows, ``s`` steps.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from beam_ml import kernels
from beam_ml.algorithms.deepar import network
from beam_ml.algorithms.deepar.shape import fresh, shape_of
from beam_ml.algorithms.deepar.spec import BINS, GROUPS, Spec, State, groups
from beam_ml.algorithms.deepar.windows import Cut, Source, cut, lags, source
from beam_ml.core import gathered
from beam_ml.core.batch import Batch
from beam_ml.core.gathered import Gathered
from beam_ml.core.series import SeriesBatch
from beam_ml.core.threads import threads

__all__ = ["fold", "init", "keys_of", "typical"]

_STEPS = 50  # of one compiled call
_BEFORE = 0.8  # share of the steps that do not see the last horizon
_EARLY = 0.05  # share of the windows whose forecasts may begin at any step
_UNKNOWN = 0.05  # share of the categories that are learned as if they were not known
_MOST_JUDGED, _PATHS = 128, 100  # series that calibrate a fold, and paths of each


def init(spec: Spec) -> State:
    """Return the state before any row."""
    parameters = fresh(shape_of(spec), spec.seed)
    none = np.zeros_like(parameters)
    zero, whole = np.zeros(()), np.zeros((), np.int32)
    return State(
        parameters=parameters, first=none, second=none, mean=parameters, steps=whole, skipped=whole,
        key=np.array([0, spec.seed], np.uint32),
        codes=np.zeros(sum(spec.cardinality), np.int64), pit=np.zeros((min(GROUPS, spec.prediction_length), BINS)),
        level=zero, spread=zero, known=zero, weight=zero,
    )  # fmt: skip


def fold(spec: Spec, state: State, partial: Gathered, sample: Batch | None = None) -> State:
    """Return the state after learning from a window's series."""
    if partial.mass.size == 0:
        return state
    state = dataclasses.replace(state, weight=np.asarray(state.weight + gathered.weight(partial)))
    rows = gathered.rows(spec, partial)
    if rows is None or rows.time is None:
        return state
    series = SeriesBatch.of(rows, spec.layout)
    state = dataclasses.replace(state, codes=_with_codes(spec, state.codes, series.codes), **_levels(state, series))
    ready = source(spec, series, state.codes)
    rng = np.random.default_rng((spec.seed, int(state.steps), int(state.skipped)))
    learned = series.lengths > 1
    if not learned.any():
        return state
    calls = _calls(spec, series)
    held = _judged(spec, series)
    before = min(round(_BEFORE * calls), calls - 1) if held.any() else 0
    training = _training(state)
    training = _steps(spec, training, ready, rng, before, spec.prediction_length, state)
    if held.any():
        shown = dataclasses.replace(state, mean=np.asarray(training.mean))
        state = dataclasses.replace(state, pit=state.pit + _transforms(spec, shown, ready, np.flatnonzero(held), rng))
    training = _steps(spec, training, ready, rng, calls - before, 0, state)
    found = kernels.neural.to_arrays(training)
    return dataclasses.replace(
        state, parameters=found.parameters, first=found.first, second=found.second, mean=found.mean, steps=found.steps,
        skipped=found.skipped, key=found.key,
    )  # fmt: skip


def keys_of(seed: int, windows: Cut) -> np.ndarray:
    """Return a random key (k, 2) uint32 for each window, by what is in it: the same series has the same paths."""
    weights = np.random.default_rng(seed).integers(1, 1 << 31, (2, windows.w.shape[1]), np.uint64) | 1
    bits = windows.w.view(np.uint32).astype(np.uint64)
    return ((bits @ weights.T.astype(np.uint64)) >> np.uint64(16)).astype(np.uint32)


def _training(state: State) -> Any:
    kernels.neural.begin(threads())
    given = (state.parameters, state.first, state.second, state.mean, np.zeros(0, np.float32))
    made = kernels.neural.Training(*given, state.steps, state.skipped, state.key)
    return kernels.neural.to_device(made)


def _judged(spec: Spec, series: SeriesBatch) -> np.ndarray:
    """Return where series are so long (n,) that a forecast is learned from what comes before their last horizon."""
    return series.lengths > 2 * spec.prediction_length


def _calls(spec: Spec, series: SeriesBatch) -> int:
    """Return how many compiled calls the passes of a fold are."""
    window = spec.context_length + spec.prediction_length
    windows = float(np.maximum(series.lengths / window, 1.0)[series.lengths > 1].sum())
    return max(1, round(spec.passes_per_refresh * windows / (spec.mini_batch_size * _STEPS)))


def _steps(
    spec: Spec, training: Any, ready: Source, rng: np.random.Generator, calls: int, hidden: int, state: State
) -> Any:
    """Return training after some calls on windows whose series end a horizon earlier, where `hidden` says so."""
    level, spread = typical(state)
    for which, at in _drawn(spec, ready.series, rng, calls, hidden):
        windows = cut(spec, ready, which, at, level, spread)
        dropped = rng.random(windows.codes.shape) < _UNKNOWN
        arrays = windows._replace(codes=np.where(dropped, 0, windows.codes)).arrays()
        shaped = (one.reshape(_STEPS, spec.mini_batch_size, *one.shape[1:]) for one in arrays)
        given = kernels.deepar.network.Window(*shaped)
        training, _ = kernels.deepar.train.steps(shape_of(spec), network.stepping_of(spec), training, given)
    return training


def _drawn(
    spec: Spec, series: SeriesBatch, rng: np.random.Generator, calls: int, hidden: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield series and first steps of forecasts, (k,) each, of the windows of a call."""
    k, horizon = _STEPS * spec.mini_batch_size, spec.prediction_length
    whole = series.lengths
    lengths = np.where(_judged(spec, series), whole - hidden, whole)
    chance = series.weight * np.where(whole > 1, lengths, 0)
    if not chance.sum() > 0:
        chance = (whole > 1).astype(np.float64)
    ends = np.cumsum(chance / chance.sum())
    far = lags(spec)[2] + spec.context_length
    last = np.maximum(lengths - horizon, 1)
    first = np.minimum(far, np.maximum(last // 2, 1))  # short series are cut, too, where lags reach before their begin
    for _ in range(calls):
        which = np.minimum(np.searchsorted(ends, rng.random(k), side="right"), whole.size - 1)
        begin = np.where(rng.random(k) < _EARLY, 1, first[which])
        yield which, (begin + rng.random(k) * (last[which] - begin + 1)).astype(np.int64)


def _transforms(spec: Spec, state: State, ready: Source, held: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return Σ weight of the last horizon's steps of some series, by group and bin of the probability integral transform."""
    which = np.sort(rng.permutation(held)[:_MOST_JUDGED])
    at = ready.series.lengths[which] - spec.prediction_length
    level, spread = typical(state)
    windows = cut(spec, ready, which, at, level, spread)
    found = network.forecasts(spec, state.mean, windows, keys_of(spec.seed, windows), _PATHS)
    step = ready.series.bounds[which][:, None] + at[:, None] + np.arange(spec.prediction_length)
    value = ready.series.target[step]
    below = (found < value[..., None]).sum(axis=-1) + rng.random(value.shape) * (
        1 + (found == value[..., None]).sum(-1)
    )
    bins = np.minimum((below / (_PATHS + 1) * BINS).astype(np.int64), BINS - 1)
    weight = np.where(np.isnan(value), 0.0, ready.series.weight[which][:, None])
    group = np.broadcast_to(np.array(groups(spec.prediction_length)), value.shape)
    counts = np.bincount((group * BINS + bins).ravel(), weight.ravel(), minlength=state.pit.size)
    return counts.reshape(state.pit.shape)


def typical(state: State) -> tuple[float, float]:
    """Return mean and deviation of a series of which nothing is known."""
    known = max(float(state.known), 1e-300)
    return float(state.level) / known, float(state.spread) / known


def _levels(state: State, series: SeriesBatch) -> dict[str, np.ndarray]:
    present = ~np.isnan(series.target)
    row = np.repeat(np.arange(len(series)), series.lengths)[present]
    count = np.bincount(row, minlength=len(series))
    some, y = np.maximum(count, 1), series.target[present]
    mean = np.bincount(row, y, minlength=len(series)) / some
    deviation = np.sqrt(np.bincount(row, (y - mean[row]) ** 2, minlength=len(series)) / some)
    weight = np.where(count > 0, series.weight, 0.0)
    found = {"level": weight @ mean, "spread": weight @ deviation, "known": weight.sum()}
    return {name: np.asarray(getattr(state, name) + value) for name, value in found.items()}


def _with_codes(spec: Spec, codes: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Return the codes with those of new categories in free rows, in the order of the series."""
    found, begin = codes.copy(), 0
    for k, size in enumerate(spec.cardinality):
        mine = found[begin : begin + size]
        values, at = np.unique(given[:, k], return_index=True)
        new = values[(values > 0) & ~np.isin(values, mine)]
        new = new[np.argsort(at[np.isin(values, new)], kind="stable")]
        free = np.flatnonzero(mine == 0)[: new.size]
        mine[free] = new[: free.size]
        begin += size
    return found
