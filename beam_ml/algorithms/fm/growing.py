"""A worker's run over its rows, in a table of the parameter rows it has touched. Letters as in `machine`; ``s`` slots."""

import dataclasses
from types import ModuleType

import numpy as np

from beam_ml.algorithms.fm.adapt import COLD, priors
from beam_ml.algorithms.fm.frames import FARTHEST, STAYS, centred, frames, spread_of
from beam_ml.algorithms.fm.machine import Anchor, Partial, empty, scaled_moments
from beam_ml.algorithms.fm.rows import Rows, joined_labels, label_scale, label_sums, masses, present, tempered
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.algorithms.fm.start import starts
from beam_ml.algorithms.fm.steps import lengthened
from beam_ml.algorithms.shared.places import places
from beam_ml.core.algorithm import check_batch
from beam_ml.core.arrays import nbytes
from beam_ml.core.batch import Batch
from beam_ml.core.passes import first_pass

__all__ = ["Run", "accumulate", "grow"]

_ENOUGH = 32.0
"""Rows from which a cold run tells numbers that all rows have from features that few have."""


class Run:
    """The open run of a partial, in memory of its own; what closed runs left is kept as it is.

    The anchor is only read, at rows when they are first touched, so all runs of a process share it. A slot of the table is
    laid out as `beam_ml.kernels.fm.run` says; the numbers of slots by feature are pages of zeros until they are touched.
    """

    def __init__(self, spec: Spec, partial: Partial, anchor: Anchor | None) -> None:
        from beam_ml.kernels.fm import run as fm

        self._kernels: ModuleType = fm
        self._spec, self._anchor, self._begun = spec, anchor, partial
        self._label, self._mass, self._faded = partial.label, partial.mass, 1.0
        self._fresh, self._noise = float(partial.fresh), partial.noise
        self._count = 0
        self._slot = np.zeros(spec.n_features, dtype=np.int32)
        self._rows = np.empty(0, dtype=np.int64)
        self._table = np.empty((0, 3 * spec.columns + fm.EXTRA))
        self._drawn = np.empty((0, spec.columns))  # rows that the anchor does not hold, as they start
        self._fresh_rows = 0
        self._origin = np.empty(0, dtype=np.int64)  # of each slot: the anchor's row, or beyond these the one drawn
        self._rate = np.array(
            [spec.bias_lr if spec.use_bias else 0.0, spec.linear_lr if spec.use_linear else 0.0, spec.factors_lr]
        )
        self._spread = 1.0 if anchor is None else float(anchor.spread)
        self._farthest = FARTHEST if spec.normalize else np.inf
        cold = COLD if anchor is None else (0.0, 0.0)
        given = zip((spec.linear_wd, spec.factors_wd), cold, strict=True)
        self._l2 = np.array([spec.bias_wd, *(one if wanted is None else wanted for wanted, one in given)])

    @property
    def nbytes(self) -> int:
        """The bytes that the partial has: three sums an entry and two a row, of the rows touched."""
        held = nbytes(self._begun) - self._begun.open_rows.size * self._row_bytes
        return held + max(self._count, self._begun.open_rows.size) * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return 8 * (1 + 3 * self._spec.columns + 3)

    def add(self, batch: Batch) -> None:
        """Run on over a batch's rows."""
        check_batch(self._spec, batch)
        rows = present(batch)
        if rows.label.size:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                fresh = batch.origin is None or first_pass(batch.origin) == batch.origin
                self._learn(rows, tempered(self._spec, batch), fresh)

    def _learn(self, rows: Rows, weight: np.ndarray, fresh: bool) -> None:
        spec, m = self._spec, self._spec.columns
        if self._count == 0:
            self._open()
        self._mass = self._mass + masses(spec, rows)
        self._fresh += float(rows.weight.sum()) if fresh else 0.0
        self._label = joined_labels(self._label, label_sums(spec, rows))
        known = self._label if self._anchor is None else joined_labels(self._anchor.label, self._label)
        centre, unit = label_scale(known)
        place = self._placed(rows.indices)
        everywhere = self._framed(rows, place)
        clip = np.inf if spec.clip_gradient is None else spec.clip_gradient
        self._table[0, 3 * m + 5] = 0.0
        self._kernels.run(
            rows.indptr, place, rows.values, (rows.label - centre) / unit, np.stack([weight, rows.weight], axis=1),
            spec.loss_code, self._rate, self._l2 / self._spread**2, clip, self._prior(), self._longer(), self._farthest,
            self._spread, m, everywhere, self._table[: self._count],
        )  # fmt: skip
        self._noise = self._noise + float(self._table[0, 3 * m + 5]) * np.array([fresh, 1.0])

    def _framed(self, rows: Rows, place: np.ndarray) -> np.ndarray:
        """Return the slots of features with a centre; cold, frames go by the run's rows, those of this batch included."""
        m, table, spec = self._spec.columns, self._table[: self._count], self._spec
        if self._anchor is None and spec.normalize:
            each = np.repeat(rows.weight, np.diff(rows.indptr)) * (rows.values != 0)
            weight = np.bincount(place, weights=each, minlength=self._count).astype(np.float64, copy=False)
            weight += table[:, 3 * m + 2]
            mass = float(table[0, 3 * m + 2] + rows.weight.sum())
            held = float(weight[1:].sum())
            if centred(spec) and mass >= _ENOUGH * float(rows.weight.max()):
                asked = np.flatnonzero((weight >= STAYS * mass) | (table[:, 3 * m] != 0))
                held -= self._centre(rows, place, asked[asked > 0], mass)
            self._spread = spread_of(spec, held / mass)
        return np.flatnonzero(table[:, 3 * m] != 0)

    def _centre(self, rows: Rows, place: np.ndarray, asked: np.ndarray, mass: float) -> float:
        """Set the frames of some slots, in many of the rows; return the weight of those that do not vary."""
        from beam_ml.kernels.fm import frames as fm_frames

        m, table = self._spec.columns, self._table[: self._count]
        number = np.zeros(self._count, dtype=np.int32)
        number[asked] = np.arange(1, asked.size + 1)
        mine = number[place]
        kept = mine > 0
        seen = table[np.concatenate([[0], asked]), 3 * m + 2 : 3 * m + 5]
        bounds = np.concatenate([[0], np.cumsum(kept)])[rows.indptr]
        fm_frames.moments(mine[kept], rows.values[kept], rows.weight, bounds, seen)
        centre, scale = frames(self._spec, seen[1:], mass, table[asked, 3 * m], np.zeros(asked.size))
        table[asked, 3 * m], table[asked, 3 * m + 1] = centre, np.where(centre != 0, scale, 0.0)
        return float(seen[1:][scale == 0, 0].sum())

    def _prior(self) -> np.ndarray:
        """Return what adaptive penalties go by: of linear weights and factors, and what makes Σ gradient² a precision."""
        anchor = self._anchor
        if anchor is None:
            return np.zeros(5)
        return priors(self._spec, anchor.prior, anchor.noise, float(anchor.passes))

    def _longer(self) -> np.ndarray:
        """Return how much longer steps of features are of which little is known."""
        anchor = self._anchor
        if anchor is None:
            return np.zeros(3)
        return lengthened(self._spec, self._spread, float(anchor.passes), float(anchor.noise[0]))

    def _open(self) -> None:
        """Begin the table: the bias first, what the open run so far has touched, then all features with a centre."""
        bias = self._spec.n_features
        begun = self._begun.open_rows[:-1]
        if self._anchor is not None and not begun.size:
            begun = self._anchor.rows[:-1][self._anchor.centre[:-1] != 0]
        self._rows = np.concatenate([[bias], begun]).astype(np.int64)
        self._slot[begun] = np.arange(1, begun.size + 1, dtype=np.int32)
        self._touch(0, self._rows.size)
        if not self._begun.open_rows.size:
            return
        m, order = self._spec.columns, np.roll(np.arange(begun.size + 1), 1)
        table = self._table[: self._count]
        table[:, :m] += self._begun.open_moved[order]
        table[:, m : 2 * m] = self._begun.open_squares[order]
        table[:, 3 * m + 2 : 3 * m + 5] = scaled_moments(self._begun.open_sums[order], self._faded)

    def _placed(self, indices: np.ndarray) -> np.ndarray:
        """Return the slots (z,) of features, new ones included."""
        place = np.empty(indices.size, dtype=np.int32)
        most = self._count + min(indices.size, self._spec.n_features + 1 - self._count)
        if self._rows.size < most:
            self._rows = _longer(self._rows, self._count, most)
        before = self._count
        self._touch(before, int(self._kernels.assign(indices, self._slot, self._rows, before, place)))
        return place

    def _touch(self, begin: int, end: int) -> None:
        """Fill new slots with what the anchor holds of their rows."""
        m, anchor = self._spec.columns, self._anchor
        if self._table.shape[0] < end:
            self._table = _longer(self._table, begin, end)
            self._origin = _longer(self._origin, begin, end)
        fresh, rows, origin = self._table[begin:end], self._rows[begin:end], self._origin[begin:end]
        held = 0
        origin[:] = -1
        if anchor is not None:
            held = anchor.rows.size
            if begin == 0:
                origin[0] = held - 1
            features = slice(int(begin == 0), None)
            origin[features] = places(anchor.rows[:-1], rows[features].astype(np.int32), self._spec.n_features)
            self._kernels.fill(origin, anchor.theta, anchor.squares, anchor.centre, anchor.scale, anchor.often, fresh)
        new = np.flatnonzero(origin < 0)
        if new.size:
            before, after = self._fresh_rows, self._fresh_rows + new.size
            if self._drawn.shape[0] < after:
                self._drawn = _longer(self._drawn, before, after)
            self._drawn[before:after] = starts(self._spec, rows[new])
            fresh[new, :m], fresh[new, m:] = self._drawn[before:after], 0.0
            fresh[new, 3 * m + 1] = 0.0 if self._spec.normalize else 1.0
            origin[new] = held + np.arange(before, after)
            self._fresh_rows = after
        self._count = end

    def scale(self, factor: float) -> None:
        """Weigh all rows so far by a factor."""
        if factor == 1.0:
            return
        if float(self._mass.sum()) * factor == 0.0:
            self._begun, self._count, self._fresh_rows = empty(self._spec), 0, 0
            self._fresh, self._noise = 0.0, self._begun.noise
            self._label, self._mass, self._faded = self._begun.label, self._begun.mass, 1.0
            self._slot[:] = 0
            return
        self._label, self._mass = scaled_moments(self._label, factor), self._mass * factor
        self._faded *= factor
        self._fresh *= factor
        self._noise = self._noise * factor
        moments = self._table[: self._count, 3 * self._spec.columns + 2 : 3 * self._spec.columns + 5]
        moments[:] = scaled_moments(moments, factor)

    def partial(self) -> Partial:
        """Return the partial so far."""
        faded = self._begun
        if self._faded != 1.0:
            faded = dataclasses.replace(
                faded, closed_sums=scaled_moments(faded.closed_sums, self._faded),
                open_sums=scaled_moments(faded.open_sums, self._faded),
            )  # fmt: skip
        if self._count == 0:
            return (
                dataclasses.replace(
                    faded,
                    label=self._label,
                    mass=self._mass,
                    fresh=np.asarray(self._fresh),
                    noise=self._noise,
                )
                if self._faded != 1.0
                else faded
            )
        m, anchor = self._spec.columns, self._anchor
        order = np.argsort(self._rows[: self._count], kind="stable")
        rows = self._rows[order]
        scaled, moved, squares = (np.empty((rows.size, m)) for _ in range(3))
        sums = np.empty((rows.size, 3))
        begun = self._drawn[: self._fresh_rows]
        if anchor is not None:
            begun = np.concatenate([anchor.theta, begun]) if self._fresh_rows else anchor.theta
        self._kernels.gather(self._table, order, begun, self._origin[order], scaled, moved, squares, sums)
        return dataclasses.replace(
            faded, open_rows=rows, open_scaled=scaled, open_moved=moved, open_squares=squares, open_sums=sums,
            runs=np.asarray(faded.runs + (0 if faded.open_rows.size else 1)),
            folds=np.zeros((), dtype=np.int64) if anchor is None else anchor.folds, label=self._label, mass=self._mass,
            fresh=np.asarray(self._fresh), noise=self._noise,
        )  # fmt: skip


def _longer(values: np.ndarray, held: int, least: int) -> np.ndarray:
    """Return a longer copy of the first entries, with room to grow: doubling keeps the copies' sum small."""
    out = np.empty((max(least, 2 * held), *values.shape[1:]), dtype=values.dtype)
    out[:held] = values[:held]
    return out


def grow(spec: Spec, partial: Partial, anchor: Anchor | None = None) -> Run:
    """Go on from a partial in memory of its own."""
    return Run(spec, partial, anchor)


def accumulate(spec: Spec, partial: Partial, batch: Batch, anchor: Anchor | None = None) -> Partial:
    """Run on over a batch's rows, from the anchor or from where the open run is."""
    check_batch(spec, batch)
    if len(batch) == 0:
        return partial
    run = grow(spec, partial, anchor)
    run.add(batch)
    return run.partial()
