"""Windows of series, as the network takes them: cut on the host, in units of their own series.

Of what is known in a window before the forecast: m its mean, a its mean magnitude, s its deviation + 10⁻⁴ a, and δ the
mean size of its changes over a season + 10⁻⁴ a. Where fewer changes are known than a season has, s stands in.
A missing step is filled with the value a season before, else with the last one; before a series' first value it is m.
A series of which nothing is known has the mean and deviation of all series; one of which a single value is known has that
deviation, or what it is for a series of its size where that is less. Letters: ``k`` windows, ``t`` steps.
"""

from typing import Any, NamedTuple

import numpy as np

from beam_ml.algorithms.deepar.spec import Spec
from beam_ml.core.series import SeriesBatch

__all__ = ["Cut", "Source", "cut", "lags", "source", "vocabulary_rows"]

_FLOOR = {"negative-binomial": 1.0, "beta": 0.01}
_TINY = 1e-12
_SEASONS = 7  # that lags go back, at most
_REACH = 1_200  # steps


class Source(NamedTuple):
    """Series with their gaps filled."""

    series: SeriesBatch
    filled: np.ndarray  # (s,) NaN before the first value
    rows: np.ndarray  # (n, categories) rows of the embeddings


class Cut(NamedTuple):
    """Windows; the fields are those of the kernels' `Window`, and what turns w into values, in full precision."""

    w: np.ndarray
    seen: np.ndarray
    known: np.ndarray
    static: np.ndarray
    ratio: np.ndarray
    middle: np.ndarray
    deviation: np.ndarray
    unit: np.ndarray
    codes: np.ndarray
    exact: tuple[np.ndarray, np.ndarray]  # (k,) m and s, float64

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return the fields of the kernels' `Window`, in order."""
        return self[:-1]


def lags(spec: Spec) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """Return the lags of levels and of changes, and how far back they reach: a few steps, the season's multiples ± 1.

    >>> lags(Spec(time_freq="H", context_length=24, prediction_length=24))[2]
    193
    """
    season, far = spec.frequency.season, spec.frequency.long_season
    most = max(1, min(_SEASONS, (_REACH - season) // season if season > 1 else 1))
    levels = sorted({1, 2, 3, season, far})
    multiples = {k * season + off for k in range(1, most + 1) for off in (-1, 0, 1)} if season > 1 else set()
    changes = sorted({*range(1, 8), *multiples})
    return tuple(levels), tuple(changes), max(far, changes[-1] + season)


def source(spec: Spec, series: SeriesBatch, codes: np.ndarray) -> Source:
    """Fill the gaps of series and look up their categories."""
    return Source(series, _filled(series, spec.frequency.season), vocabulary_rows(spec, series.codes, codes))


def vocabulary_rows(spec: Spec, given: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the row of each category (n, k) in its embedding; 0: it is unknown."""
    found, begin = np.zeros(given.shape, np.int32), 0
    for k, size in enumerate(spec.cardinality):
        mine = codes[begin : begin + size]
        begin += size
        order = np.argsort(mine, kind="stable")
        place = np.minimum(np.searchsorted(mine[order], given[:, k]), size - 1)
        there = (mine[order][place] == given[:, k]) & (given[:, k] > 0)
        found[:, k] = np.where(there, order[place] + 1, 0)
    return found


def _filled(series: SeriesBatch, season: int) -> np.ndarray:
    filled = series.target.copy()
    missing = np.isnan(filled)
    if not missing.any():
        return filled
    gaps = np.add.reduceat(np.append(missing, False), series.bounds[:-1]) if len(series) else np.zeros(0)
    for i in np.flatnonzero((gaps > 0) & (series.lengths > 0)):
        begin, end = series.bounds[i], series.bounds[i + 1]
        rows = -(-(end - begin) // season)
        table = np.full(rows * season, np.nan)
        table[: end - begin] = filled[begin:end]
        by_season = _forward(table.reshape(rows, season)).reshape(-1)[: end - begin]
        filled[begin:end] = _forward(by_season[:, None])[:, 0]
    return filled


def _forward(table: np.ndarray) -> np.ndarray:
    """Return a table (r, c) in which each NaN is the last number above it, if there is one."""
    place = np.where(np.isnan(table), -1, np.arange(len(table))[:, None])
    last = np.maximum.accumulate(place, axis=0)
    return np.where(last >= 0, np.take_along_axis(table, np.maximum(last, 0), axis=0), np.nan)


def cut(spec: Spec, of: Source, which: np.ndarray, at: np.ndarray, level: float, spread: float) -> Cut:
    """Cut windows.

    Args:
        spec: says how long they are.
        of: the series.
        which: (k,) of the series.
        at: (k,) first step of each forecast.
        level: mean of a series of which nothing is known.
        spread: its deviation.
    """
    series, (_, _, history) = of.series, lags(spec)
    begin = history + spec.context_length
    step = at[:, None] + np.arange(-begin, spec.prediction_length)
    length = series.lengths[which][:, None]
    inside = (step >= 0) & (step < length)
    place = np.where(inside, series.bounds[which][:, None] + step, 0)
    y = np.where(inside, of.filled[place], np.nan) if of.filled.size else np.full(step.shape, np.nan)
    seen = inside & ~np.isnan(series.target[place]) if of.filled.size else inside
    m, a, s, delta = _scales(spec, y[:, :begin], level, spread)
    w = (y - m[:, None]) / s[:, None]
    static = np.stack([0.3 * np.log(s / np.maximum(a, 1e-4 * s)), 0.3 * np.log(delta / s)], axis=1)
    return Cut(
        w=np.where(np.isnan(w), 0.0, w).astype(np.float32),
        seen=seen[:, history:].astype(np.float32),
        known=_known(spec, of, which, step[:, history:]),
        static=np.clip(static, -9.0, 9.0).astype(np.float32),
        ratio=(s / delta).astype(np.float32),
        middle=m.astype(np.float32),
        deviation=s.astype(np.float32),
        unit=_unit(spec, m, a).astype(np.float32),
        codes=of.rows[which],
        exact=(m, s),
    )


def _unit(spec: Spec, m: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Return what outputs are relative to where the likelihood is of values: the mean share, or the mean magnitude."""
    if spec.likelihood == "beta":
        return np.clip(m, 0.01, 0.99)
    return np.maximum(a, _FLOOR.get(spec.likelihood, _TINY))


def _scales(spec: Spec, before: np.ndarray, level: float, spread: float) -> tuple[np.ndarray, ...]:
    """Return m, a, s and δ, each (k,), of what is known before the forecasts (k, t)."""
    season = spec.frequency.season
    known = ~np.isnan(before)
    n, y = known.sum(axis=1), np.where(known, before, 0.0)
    some = np.maximum(n, 1)
    m, a = y.sum(axis=1) / some, np.abs(y).sum(axis=1) / some
    off = np.where(known, y - m[:, None], 0.0)
    s = np.sqrt((off * off).sum(axis=1) / some)
    s = np.where(n == 1, spread * np.minimum(1.0, a / max(abs(level), _TINY)), s)
    pairs = known[:, season:] & known[:, :-season]
    change = np.where(pairs, np.abs(y[:, season:] - y[:, :-season]), 0.0).sum(axis=1)
    count = pairs.sum(axis=1)
    wanted = np.maximum(count, season)
    delta = (change + (wanted - count) * s) / wanted
    none = n == 0
    m, a, s = np.where(none, level, m), np.where(none, abs(level), a), np.where(none, spread, s)
    delta = np.where(none, spread, delta)
    floor = np.maximum(1e-4 * a, _FLOOR.get(spec.likelihood, _TINY))
    return m, a, s + floor, delta + floor


def _known(spec: Spec, of: Source, which: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return what is known ahead (k, t, ·): the calendar, how much of what lags reach there is, and the features.

    How old a series is beyond that is left out: a forecast is always of an age never seen.
    """
    series, frequency, reach = of.series, spec.frequency, lags(spec)[2]
    time = frequency.shifted(series.time[which][:, None], step - (series.lengths[which][:, None] - 1))

    found: list[Any] = [frequency.calendar(time), np.clip(step / reach, 0.0, 1.0)[..., None]]
    if spec.num_dynamic_feat:
        ahead = np.diff(series.dynamic_bounds)[which][:, None]
        inside = (step >= 0) & (step < ahead)
        place = np.where(inside, series.dynamic_bounds[which][:, None] + step, 0)
        values = series.dynamic[place] if len(series.dynamic) else np.zeros((*step.shape, spec.num_dynamic_feat))
        found.append(np.where(inside[..., None], np.arcsinh(values), 0.0))
    return np.concatenate(found, axis=-1).astype(np.float32)
