"""One worker's run of `linear.adagrad`, which continues in memory of its own, batch after batch.

Letters: ``p`` parameter rows in all, ``r`` those of a batch (the bias last), ``c`` room for those of the run, ``m`` live
columns. A batch reads and writes its own rows only, so a run costs what its rows hold, however wide the table.
"""

import dataclasses

import numpy as np

from beam_ml.algorithms.linear.adagrad.arrays import Anchor, Partial
from beam_ml.algorithms.linear.adagrad.known import places_of
from beam_ml.algorithms.linear.adagrad.moments import COLUMNS, joined, scaled_table
from beam_ml.algorithms.linear.adagrad.rows import Rows, class_factors, class_masses, moments_of, present
from beam_ml.algorithms.linear.adagrad.shape import (
    Columns,
    Shape,
    Sums,
    added_norm,
    measured_around_mean,
    shape_of_tables,
    taken,
)
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad
from beam_ml.algorithms.linear.adagrad.state import empty, init, sums_of
from beam_ml.algorithms.shared import moves
from beam_ml.algorithms.shared.moves import Moves
from beam_ml.core.algorithm import check_batch
from beam_ml.core.arrays import nbytes
from beam_ml.core.batch import Batch

__all__ = ["Run", "accumulate"]

_ROOM = 1024
_SCANNED = 256  # parameter rows per one held up to which a look at all of them is cheaper than sorting
_LEAST_FADED = 2.0**-20


def accumulate(spec: AdaGrad, partial: Partial, batch: Batch, anchor: Anchor | None = None) -> Partial:
    """Run on over a batch's rows, from the anchor or from where the open run is."""
    run = Run(spec, partial, anchor)
    run.add(batch)
    return run.partial()


class Run:
    """A partial that grows in place: `beam_ml.core.algorithm.Growing`."""

    def __init__(self, spec: AdaGrad, partial: Partial, anchor: Anchor | None) -> None:
        """Continue from a partial, which stays as it is.

        Args:
            spec: the spec.
            partial: its open run continues; without one, a run starts.
            anchor: where runs start; None: cold.
        """
        self._spec, self._anchor = spec, anchor
        self._start = init(spec) if anchor is None else anchor
        self._live = Columns.of(spec, self._start.status)
        self._start_mass = float(self._start.mass.sum())
        self._home_centred = np.zeros(0, dtype=np.int64)
        if spec.sparse and anchor is not None:
            likely = np.flatnonzero(anchor.moments[:-1, 0] > 0.5 * self._start_mass)
            likely = likely[measured_around_mean(spec, anchor.moments[likely], self._start_mass)]
            self._home_centred = anchor.rows[likely]
        self._home = places_of(spec, self._start.rows)  # parameter row → place in the anchor's tables
        self._begin(partial)

    def _begin(self, partial: Partial) -> None:
        self._before, self._changed = partial, False
        self._stepped, self._norm = np.array([partial.stepped, partial.stepped_squares]), float(partial.norm)
        self._open_stepped = np.array([partial.open_stepped, partial.open_stepped_squares])
        self._mass, self._total, self._open_total = partial.mass, float(partial.total), float(partial.open_total)
        self._loss, self._loss_weight = self._live.of_variants(partial.loss), float(partial.loss_weight)
        self._has_run = partial.open_rows.size > 0
        p, m = self._spec.n_features + 1, self._live.rate.size
        self._slot = np.full(p, -1, dtype=np.int32)  # parameter row → place in what follows
        self._local = np.full(p, -1, dtype=np.int32)  # scratch of `number_columns`
        self._size = 0
        self._rows = np.empty(0, dtype=np.int64)
        self._in_run = np.zeros(0, dtype=bool)  # others have moments only, of runs that have ended
        self._moved, self._squares = np.empty((0, m)), np.empty((0, m))  # as in the partial, live columns
        self._moments = np.empty((0, COLUMNS))
        self._faded = 1.0  # what moments are still to be weighted by: aging all of them for every batch would cost more
        self._centred = self._home_centred  # features with a centre at the anchor or where the run is; of sparse rows
        if self._spec.sparse and self._mass.sum() > 0.0:
            at = partial.moment_rows < p - 1
            rows = partial.moment_rows[at]
            table = joined(taken(self._start.moments, self._home[rows]), partial.moments[at])
            mass = self._start_mass + float(self._mass.sum())
            self._centred = moves.union(self._centred, rows[measured_around_mean(self._spec, table, mass)])
        known, place = self._slots(partial.moment_rows), self._slots(partial.open_rows)
        self._moments[known] = partial.moments
        self._in_run[place] = True
        self._moved[place] = self._live.take(partial.open_moved)
        self._squares[place] = self._live.take(partial.open_squares)

    def _slots(self, rows: np.ndarray) -> np.ndarray:
        """Return the places of parameter rows; those that have none yet get one, with zeros."""
        fresh = rows[self._slot[rows] < 0]
        size = self._size + fresh.size
        if size > self._rows.size:
            room = min(max(2 * size, _ROOM), self._slot.size)
            for name in ("_rows", "_in_run", "_moved", "_squares", "_moments"):
                old = getattr(self, name)
                new = np.zeros((room, *old.shape[1:]), dtype=old.dtype)
                new[: self._size] = old[: self._size]
                setattr(self, name, new)
        self._slot[fresh] = np.arange(self._size, size, dtype=np.int32)
        self._rows[self._size : size] = fresh
        self._size = size
        return self._slot[rows]

    def add(self, batch: Batch) -> None:
        """Run on over a batch's rows."""
        check_batch(self._spec, batch)
        rows = present(self._spec, batch)
        if rows.label.size:
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                self._add(rows)

    def _add(self, rows: Rows) -> None:
        from beam_ml.kernels.adagrad.tables import stopped

        spec, live, start, cold = self._spec, self._live, self._start, self._anchor is None
        w = rows.weight
        if spec.task != "regression":
            w = w * class_factors(spec, start.mass + self._mass + class_masses(spec, rows))[rows.kind]
        numbers, rows = rows.placed(self._local, self._centred)
        place = self._slots(numbers)
        own = scaled_table(np.take(self._moments, place, axis=0), self._faded)
        home_at = self._home[numbers]
        past = None if cold else taken(start.moments, home_at)

        # `home`: at the anchor. `last`: after the batch before, where the run is. `now`: with this batch's moments.
        def at(table: np.ndarray, mass: float, pace: float = 1.0) -> Shape:
            return shape_of_tables(spec, table if past is None else joined(past, table), numbers, mass, pace)

        before = self._sums()
        last = at(own, before.mass, before.pace)
        added = moments_of(spec, rows, last)
        grown = joined(own, added)
        self._moments[place] = scaled_table(grown, 1.0 / self._faded)
        self._mass = self._mass + class_masses(spec, rows)
        bare = at(grown, self._sums().mass)
        self._norm += added_norm(spec, bare, added)
        self._count(float(w.sum()), float(w @ w))
        sums = self._sums()
        now = bare.paced(sums.pace)
        first = sums_of(start)
        # Moves have their bias at the anchor's means, or cold at the run's own.
        home = last if past is None else shape_of_tables(spec, past, numbers, first.mass, first.pace)
        settled = np.zeros((1, live.rate.size)) if cold else live.rows(start.squares, home_at[-1:])
        if before.stepped > 0.0:
            behind = before.behind_unit(spec, settled[0] + self._squares[place[-1]])
        else:
            # Nothing is known of gradients yet, but what they are at a score of 0.
            rough = Sums(stepped=float(w.sum()), stepped_squares=float(w @ w))
            behind = rough.behind_unit(spec, rough.unlearned(spec, live.rate.size))
        begin, u, squares, floor = self._started_at(
            place, home_at, home, now, behind, first.behind_unit(spec, settled[0])
        )

        # Scores stay as they are when means move: the bias gains what the features that have one make of it.
        far = np.flatnonzero((home.centre != 0.0) | (last.centre != 0.0) | (now.centre != 0.0))
        far = np.append(far, numbers.size - 1)

        def gained(then: Shape, later: Shape, seen: Shape, behind: np.ndarray, total: float) -> np.ndarray:
            theta = u[far]
            if live.penalised:
                at_far = seen.at(far)
                base = squares[far] + np.square(at_far.scale)[:, None] * behind
                if not cold:
                    base += live.rows(start.squares, home_at[far])
                theta = at_far.parameters(theta, base, live, total)
            return _moved_bias(then.at(far), later.at(far), theta)

        if self._has_run or not cold:
            u[-1] += gained(home, last, last, behind, before.total)
            u[-1] += gained(last, now, now, behind, before.total)
        self._loss = self._loss + rows.learn(spec, now, live, w, before.total, floor, squares, u)
        self._loss_weight += float(w.sum()) if rows.fresh else 0.0
        if not cold:
            after = sums.behind_unit(spec, settled[0] + squares[-1])
            u[-1] -= gained(home, now, now, after, sums.total)
        stopped(place, begin, u, squares, self._moved, self._squares)
        self._in_run[place] = True
        self._has_run = self._changed = True
        if spec.sparse:
            self._centred = moves.union(self._home_centred, np.sort(numbers[:-1][now.centre != 0.0]))

    def _started_at(
        self,
        place: np.ndarray,
        home_at: np.ndarray,
        home: Shape,
        now: Shape,
        behind: np.ndarray,
        behind_home: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return u_a, u, the run's Σ gradient², and what stands behind that (r, m) each.

        Args:
            place: (r,) of the parameter rows in the run's tables, the bias last.
            home_at: (r,) of them in the anchor's; −1: it does not hold them.
            home: their units at the anchor.
            now: their units now.
            behind: (m,) of a row of scale 1, behind the run's Σ gradient².
            behind_home: (m,) the same behind the anchor's.
        """
        from beam_ml.kernels.adagrad.tables import started

        live, start = self._live, self._start
        out = [np.empty((place.size, live.rate.size)) for _ in range(4)]
        w = live.shape[0] * live.shape[1]
        started(
            place, home_at, live.flat, live.penalised, self._moved, self._squares,
            *(table.reshape(table.shape[0], w) for table in (start.theta, start.slack, start.squares)),
            live.rate, live.l1, live.l2, float(start.total) * home.pace / home.label_unit, home.inverse_unit,
            behind_home, behind,
            np.square(home.scale), np.square(now.scale), *out,
        )  # fmt: skip
        begin, u, squares, floor = out
        return begin, u, squares, floor

    def _count(self, weight: float, squares: float) -> None:
        """Count the rows of a batch, by their weights with class factors and the squares of those."""
        self._open_total += weight
        self._total += weight
        self._open_stepped = self._open_stepped + np.array([weight, squares])
        self._stepped = self._stepped + np.array([weight, squares])

    def _sums(self) -> Sums:
        """Return what the run's next step depends on: the anchor's sums and its own."""
        first = sums_of(self._start)
        stepped, squares = map(float, self._open_stepped)
        return first.plus(Sums(self._open_total, stepped, squares, self._norm, float(self._mass.sum())))

    def scale(self, factor: float) -> None:
        """Weigh all rows so far by a factor; moves stay."""
        if factor == 1.0:
            return
        if float(self._mass.sum()) * factor == 0.0:
            self._begin(empty(self._spec))
        self._mass = self._mass * factor
        self._total *= factor
        self._open_total *= factor
        self._norm *= factor
        self._loss = self._loss * factor
        self._loss_weight *= factor
        self._faded *= factor
        if self._faded < _LEAST_FADED:
            self._moments[: self._size] = scaled_table(self._moments[: self._size], self._faded)
            self._faded = 1.0
        self._changed = True

    def partial(self) -> Partial:
        """Return the partial of everything so far, in arrays of its own."""
        if not self._changed:
            return self._before
        open_rows, place = self._rising(self._in_run[: self._size])
        known, at = self._rising(self._measured())
        before = self._before
        with np.errstate(over="ignore", invalid="ignore"):
            move = self._ended(open_rows, place)
        return dataclasses.replace(
            before, open_rows=move.rows, open_scaled=move.scaled, open_moved=move.moved, open_squares=move.squares,
            open_total=np.asarray(self._open_total),
            open_stepped=np.asarray(self._open_stepped[0]), open_stepped_squares=np.asarray(self._open_stepped[1]),
            stepped=np.asarray(self._stepped[0]), stepped_squares=np.asarray(self._stepped[1]), norm=np.asarray(self._norm),
            runs=np.asarray(before.runs + self._started()),
            folds=self._start.folds if self._has_run else before.folds, total=np.asarray(self._total), mass=self._mass,
            loss=self._live.to_variants(self._loss),
            loss_weight=np.asarray(self._loss_weight),
            moment_rows=known, moments=scaled_table(self._moments[at], self._faded),
        )  # fmt: skip

    def _ended(self, rows: np.ndarray, place: np.ndarray) -> Moves:
        """Return the sums of the open run at its parameter rows, the bias last, or none."""
        from beam_ml.kernels.adagrad.fold import ended

        live, start, v, o = self._live, self._start, *self._live.shape
        out = [np.empty((rows.size, v * o)) for _ in range(3)]
        if rows.size:
            home = self._home[rows]
            behind, scale = np.zeros(live.rate.size), np.zeros(rows.size)
            if self._anchor is not None:
                first, past = sums_of(start), taken(start.moments, home)
                behind = first.behind_unit(self._spec, live.rows(start.squares, home[-1:])[0])
                scale = shape_of_tables(self._spec, past, rows, first.mass).scale
            squares = start.squares.reshape(start.squares.shape[0], v * o)
            ended(place, home, live.flat, self._moved, self._squares, squares, np.square(scale), behind, *out)
        return Moves(rows, *(one.reshape(rows.size, v, o) for one in out))

    def _started(self) -> int:
        return int(self._has_run and self._before.open_rows.size == 0)

    def _measured(self) -> np.ndarray:
        """Return which places have moments: features if they are normalised, the bias's if a real label is."""
        rows, bias = self._rows[: self._size], self._slot.size - 1
        label = self._spec.task == "regression" and self._spec.normalize_label
        found: np.ndarray = np.where(rows == bias, label, self._spec.normalize)
        return found

    def _rising(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the parameter rows of some places, rising, and the places in that order."""
        if self._slot.size < _SCANNED * self._size:
            rows = np.flatnonzero(self._slot >= 0)
            place = self._slot[rows]
            chosen = which[place]
            return rows[chosen], place[chosen]
        place = np.flatnonzero(which).astype(np.int32)
        rows = self._rows[place]
        order = np.argsort(rows)
        return rows[order], place[order]

    @property
    def nbytes(self) -> int:
        """The bytes that the partial would have now."""
        if not self._changed:
            return nbytes(self._before)
        entries = 3 * self._spec.n_variants * self._spec.n_outputs
        added = int(np.count_nonzero(self._in_run[: self._size])) - self._before.open_rows.size
        known = int(np.count_nonzero(self._measured())) - self._before.moment_rows.size
        return nbytes(self._before) + 8 * (added * (1 + entries) + known * (1 + COLUMNS))


def _moved_bias(then: Shape, now: Shape, theta: np.ndarray) -> np.ndarray:
    """Return what the bias (columns,) gains when means move, so that every score stays as it is."""
    gained: np.ndarray = (now.centre - then.centre) @ theta[:-1] - (now.label_centre - then.label_centre)
    return gained
