"""Folding a window into the state of `linear.adagrad`. Letters as in `state`; ``n`` sampled rows."""

import dataclasses
import math

import numpy as np

from beam_ml.algorithms.linear.adagrad.arrays import Partial, State
from beam_ml.algorithms.linear.adagrad.known import Known, places_of
from beam_ml.algorithms.linear.adagrad.merge import shift
from beam_ml.algorithms.linear.adagrad.moments import joined
from beam_ml.algorithms.linear.adagrad.refine import Found
from beam_ml.algorithms.linear.adagrad.rows import present
from beam_ml.algorithms.linear.adagrad.shape import Columns, Shape, Sums, kept_moments, shape_of_tables, taken
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad
from beam_ml.algorithms.linear.adagrad.state import fading, landed, lifts_of, moves_of, sums_of, weight
from beam_ml.algorithms.linear.adagrad.window import Refined, Tested, Window, refined, search, unrefined, untried
from beam_ml.algorithms.shared import moves as anchored
from beam_ml.algorithms.shared.moves import Rule, Step
from beam_ml.core.batch import Batch

__all__ = ["DIVERGED", "LEARNS", "LOST", "fold", "progressive"]

LEARNS, LOST, DIVERGED = 0, 1, 2
_FRESH = 1.0 - 1e-6
_WORST = 1e280  # stands for a loss that is not finite
_GROWTH = 4.0  # how much a scale may grow in one fold before its coefficients are taken for noise of the smaller one


def fold(spec: AdaGrad, state: State, partial: Partial, sample: Batch | None, rule: Rule = "search") -> State:
    """Learn a window: each variant takes its step, then the proximal map; sums of gradients and moments add.

    Runs have measured every row before they learned from it. The parameters of before, and their average, are measured
    here on the sample, which they have not learned from. A variant whose parameters are not finite any more is dropped and
    keeps those it had; once the weight of ``halve_at`` rows of even classes is seen (`_telling`), the worse half of the
    others by progressive loss is dropped too.

    Args:
        spec: the spec.
        state: before.
        partial: the window's.
        sample: rows of the window, weighted to stand for all of them; None: runs are averaged.
        rule: how runs are merged; all but ``search`` are there to be measured against it.

    Raises:
        FloatingPointError: no variant is finite any more.
    """
    if int(partial.runs) == 0:
        return state
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _fold(spec, state, partial, sample, rule)


def _fold(spec: AdaGrad, state: State, partial: Partial, sample: Batch | None, rule: Rule) -> State:
    data = None if sample is None else present(spec, sample)
    touched_rows = (state.rows, partial.closed_rows, partial.open_rows, partial.moment_rows)
    rows = Known.of(spec, touched_rows, () if data is None else (data,))
    partial, old = rows.partial(partial), places_of(spec, state.rows)[rows.rows]
    former = taken(state.moments, old)
    everything = np.arange(rows.rows.size)
    columns = Columns.of(spec, state.status)
    cold = weight(state) <= 0.0
    moments = former.copy()
    moments[partial.moment_rows] = joined(former[partial.moment_rows], partial.moments)
    mass = weight(state) + weight(partial)
    moments = kept_moments(spec, moments, mass)
    faded = fading(state)
    first = sums_of(state).plus(Sums(), 1.0 / faded)
    sums_after = first.plus(sums_of(partial))
    after = shape_of_tables(spec, moments, everything, mass, sums_after.pace)
    # Where the moves' bias is at.
    before = (
        shape_of_tables(spec, moments, everything, mass, first.pace)
        if cold
        else shape_of_tables(spec, former, everything, weight(state), first.pace)
    )
    kept = _kept(before, after)
    moves = moves_of(partial)
    if cold:
        moves = landed(moves, lifts_of(spec, partial), before.centre)
    moved = np.full(rows.rows.size, -1, dtype=np.int32)
    moved[moves.rows] = np.arange(moves.rows.size, dtype=np.int32)
    shape = dataclasses.replace(after, centre=before.centre, label_centre=before.label_centre)
    window = Window(
        spec, state, old, columns, before, shape, kept, moves, moved, int(partial.runs), rule,
        int(partial.folds) != int(state.folds), first, sums_after,
    )  # fmt: skip
    tested = None if data is None else Tested.of(spec, window, rows.numbered(data), state.mass + partial.mass)
    loss, average_loss, loss_weight = state.loss, state.average_loss, float(state.loss_weight)
    # Rows of a later pass have been learned from: nothing is measured on them.
    unseen = float(partial.loss_weight) >= _FRESH * float(partial.total)
    if tested is not None and not cold and unseen:
        at = old[tested.rows]
        last = taken(state.theta, at)
        loss = loss + tested.sums(last)
        if spec.averaging:
            average_loss = average_loss + tested.sums(_averaged(spec, last, taken(state.average, at)))
        loss_weight += float(tested.weight.sum())

    gained = float(partial.total)
    judged = (
        tested if rule == "search" and tested is not None and tested.weight.size >= anchored.MIN_SAMPLE_ROWS else None
    )
    tables: _Tables | None = None
    more: Refined | None = None
    if judged is not None and untried(window):
        step = search(window, None, None)
        tables = _Tables(window, step, None, None, gained)
        more = unrefined(window, judged, columns.rows(tables.theta, judged.rows))
    if tables is None or (judged is not None and more is None):
        line = None if tested is None else window.line(tested.rows)
        step = search(window, tested, line)
        if judged is not None and line is not None:
            more = refined(window, judged, line, step)
        tables = _Tables(window, step, judged, more, gained)
    finite = tables.finite
    if not finite.any():
        message = "every variant of linear.AdaGrad diverged"
        raise FloatingPointError(message)
    tables.restore(columns.live[~finite])
    status = state.status.copy()
    status[columns.live[~finite]] = DIVERGED
    if more is not None and tested is not None and spec.averaging:
        # A mean that is worse than a constant is of a world that is gone; until it is measured, neither is ahead.
        there = columns.take(_averaged(spec, tables.theta[tested.rows], tables.average[tested.rows]))
        gone = columns.live[more.lost(there) | more.again]
        tables.average[:, gone] = tables.theta[:, gone]
        average_loss = average_loss.copy()
        average_loss[gone] = np.maximum(average_loss, loss)[gone]
    shift(tables.theta, before, after)
    if spec.averaging:
        shift(tables.average, before, after)
    length = state.length.copy()
    length[columns.live] = np.where(step.mean, -step.length, step.length)
    loss = np.where(np.isfinite(loss), loss, state.loss)
    average_loss = np.where(np.isfinite(average_loss), average_loss, state.average_loss)
    # A run over a P-th of the rows says that much less about the loss of all of them.
    share = 1.0 / int(partial.runs)
    run_loss = np.minimum(state.run_loss + share * np.nan_to_num(partial.loss, nan=_WORST, posinf=_WORST), _WORST)
    folds = int(state.folds) + 1
    seen = float(state.seen) + weight(partial) * _telling(state.mass + partial.mass)
    for _ in [at for at in spec.halve_at if float(state.seen) < at <= seen]:
        status = _halved(status, progressive(spec, run_loss, loss, average_loss))
    return State(
        rows=rows.rows, theta=tables.theta, slack=tables.slack, average=tables.average, squares=tables.squares,
        faded=np.ones(()), total=np.asarray(state.total + partial.total),
        stepped=np.asarray(state.stepped + partial.stepped),
        stepped_squares=np.asarray(state.stepped_squares + partial.stepped_squares),
        norm=np.asarray(state.norm + partial.norm), mass=state.mass + partial.mass,
        moments=moments, run_loss=run_loss, run_weight=np.asarray(state.run_weight + share * partial.loss_weight),
        loss=loss, average_loss=average_loss,
        loss_weight=np.asarray(loss_weight), status=status, length=length,
        folds=np.asarray(folds, dtype=np.int64), seen=np.asarray(seen),
    )  # fmt: skip


class _Tables:
    """The state's tables (p, v, o) after a step, each written once. Biases are at the means of before."""

    def __init__(self, window: Window, step: Step, tested: Tested | None, more: Refined | None, gained: float) -> None:
        from beam_ml.kernels.adagrad.fold import stepped

        spec, state, columns = window.spec, window.state, window.columns
        self._window = window
        p, w, o, m = window.old.size, spec.n_variants * spec.n_outputs, spec.n_outputs, columns.rate.size
        held = {"theta": True, "slack": any(spec.l1), "average": spec.averaging, "squares": True}
        out = {name: np.empty((p if there else 0, w)) for name, there in held.items()}
        spot, u, theta = np.zeros(0, dtype=np.int32), np.zeros((0, m)), np.zeros((0, m))
        again = np.zeros(columns.live.size, dtype=bool)
        if more is not None and more.found is not None and tested is not None:
            spot = np.full(p, -1, dtype=np.int32)
            spot[tested.rows] = np.arange(tested.rows.size, dtype=np.int32)
            u, theta, again = np.ascontiguousarray(more.found.u), np.ascontiguousarray(more.found.theta), more.again
        plain = columns.rows(state.squares, window.old[-1:])[0] / fading(state)
        after = plain + columns.rows(window.moves.squares, window.moved[-1:])[0]
        first, sums, shape = window.sums_before, window.sums, window.shape
        counted = (first.total + np.repeat(step.share(window.runs), o) * (sums.total - first.total)) * shape.pace
        settings = np.stack([
            columns.rate, columns.l1, columns.l2,
            first.behind_unit(spec, plain), sums.behind_unit(spec, after), counted / shape.label_unit,
        ])  # fmt: skip
        ways = [(step.length, step.mean), (step.length, step.mean)]
        if step.bias is not None and step.bias_mean is not None:
            ways[1] = (step.bias, step.bias_mean)
        # Without penalties only rows that moved change. With them all do.
        touched = np.ones(p, dtype=bool) if columns.penalised else window.moved >= 0
        # Weights in proportion to the rows seen so far: with w new rows after N, 2w/(N + 2w) is for the newest.
        share = 2.0 * gained / (float(state.total) + 2.0 * gained) if gained > 0.0 else 0.0
        finite = np.ones(m, dtype=bool)
        stepped(
            window.old, window.moved, touched, columns.flat, columns.penalised,
            *(_flat(getattr(state, name), w) for name in ("theta", "slack", "average", "squares")),
            *(_flat(getattr(window.moves, name), w) for name in ("scaled", "moved", "squares")),
            window.kept, np.square(window.before.scale), np.square(shape.scale),
            window.before.inverse_unit, shape.inverse_unit,
            first.total * window.before.pace / window.before.label_unit, float(max(window.runs, 1)),
            (window.runs > 1 or window.stale) and window.rule != "sum", fading(state), share,
            settings, np.stack([np.repeat(length, o) for length, _ in ways]), *(np.repeat(mean, o) for _, mean in ways),
            spot, u, theta, np.repeat(again, o), out["theta"], out["slack"], out["average"], out["squares"], finite,
        )  # fmt: skip
        full = {name: table.reshape(table.shape[0], *columns.shape) for name, table in out.items()}
        self.theta, self.slack, self.average, self.squares = (
            full["theta"],
            full["slack"],
            full["average"],
            full["squares"],
        )
        self.finite = finite.reshape(columns.live.size, -1).all(axis=1)
        if more is not None and more.found is not None and again.any():
            self._begun_again(more, more.found, spot, columns.live[again], gained)

    def _begun_again(self, more: Refined, found: Found, spot: np.ndarray, variants: np.ndarray, gained: float) -> None:
        """Set means and Σ gradient² of variants that have started again: those of the sample stand for the window's."""
        at = np.flatnonzero(spot >= 0)
        fresh = self._window.columns.put(found.squares[spot[at]]) * (gained / more.drill.weight.sum())
        for v in variants:
            if self.average.size:
                self.average[:, v] = self.theta[:, v]
            self.squares[:, v] = 0.0
            self.squares[at, v] = fresh[:, v]

    def restore(self, variants: np.ndarray) -> None:
        """Restore what some variants had."""
        if variants.size == 0:
            return
        state, old = self._window.state, self._window.old
        for name in ("theta", "squares", "slack", "average"):
            mine = getattr(self, name)
            if mine.size:
                mine[:, variants] = taken(getattr(state, name), old)[:, variants]


def _flat(table: np.ndarray, w: int) -> np.ndarray:
    return np.ascontiguousarray(table).reshape(table.shape[0], w)


def _kept(before: Shape, after: Shape) -> np.ndarray:
    """Return the share of θ (p,) that is kept: all, but for features whose scale has grown more than fourfold.

    What was learned of a feature that hardly moved, z of 10⁻⁹, is a coefficient of 10⁹, and it stands for nothing but
    noise where z is 0.1: so much past the bound as the square of the scale grows, it shrinks (Ross, Mineiro and Langford
    2013 do so at every growth).
    """
    then, now = before.inverse_unit / before.label_unit, after.inverse_unit / after.label_unit
    share = np.divide(_GROWTH * then, now, out=np.ones_like(now), where=(then > 0) & (now > 0))
    kept: np.ndarray = np.square(np.minimum(share, 1.0))
    # A feature whose centre has come or gone has another scale because it is measured from elsewhere.
    kept[:-1][(before.centre == 0.0) != (after.centre == 0.0)] = 1.0
    return kept


def _averaged(spec: AdaGrad, theta: np.ndarray, average: np.ndarray) -> np.ndarray:
    """Return the average (r, v, o) of some parameter rows; a coefficient that L1 holds at 0 is 0 there too."""
    return np.where(theta == 0.0, 0.0, average) if any(spec.l1) else average


def progressive(spec: AdaGrad, run_loss: np.ndarray, loss: np.ndarray, average_loss: np.ndarray) -> np.ndarray:
    """Return each variant's Σ weight · loss (v,) on rows that it had not learned from.

    Runs measure every row before they learn from it, and folds a sample of every window, with the parameters before it:
    the last ones, or their average, whichever is better so far.
    """
    found: np.ndarray = run_loss + (np.minimum(loss, average_loss) if spec.averaging else loss)
    return found


def _telling(mass: np.ndarray) -> float:
    """Return how much a row says about which variant is better: the entropy of its label over that of even classes.

    Of rare positives most rows say next to nothing: by the weight of all, the halving would go by a few dozen of them.

    >>> round(_telling(np.array([99.0, 1.0])), 3), _telling(np.array([7.0, 7.0])), _telling(np.array([50.0]))
    (0.081, 1.0, 1.0)
    """
    if mass.size == 1:
        return 1.0
    share = mass[mass > 0.0] / mass.sum()
    return float(-(share @ np.log(share)) / math.log(mass.size))


def _halved(status: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Drop the worse half of the variants that learn; the earlier one wins ties."""
    live = np.flatnonzero(status == LEARNS)
    order = live[np.argsort(loss[live], kind="stable")]
    out = status.copy()
    out[order[(live.size + 1) // 2 :]] = LOST
    return out
