"""`linear.adagrad`: linear models by AdaGrad, many variants side by side; law ANCHORED.

Letters: ``p`` parameter rows (features, the bias last), ``v`` variants, ``o`` outputs of a variant, ``k`` classes
counted; of a partial ``c`` rows touched by closed runs, ``r`` by the open one, ``m`` rows of moments.

A worker runs over its rows in mini-batches, starting from the anchor: FTRL-proximal (McMahan 2011), which is AdaGrad
(Duchi, Hazan and Singer 2011) where there are no penalties; the update stands in `beam_ml.kernels.adagrad`. What runs
leave behind adds as `beam_ml.algorithms.anchored` says. Each coordinate's step is in units of 1 / its feature's scale,
by moments of the anchor's rows and the worker's own (`adagrad_moments`), so no pass over the data comes first; dense
features are centred by their means, which shifts only the bias.

With one shard, learning in windows is the sequential run but for rounding. With many shards a window the held-out loss
exceeds the sequential run's by less than the law's bound, 10 % (median of five seeds, 16 shards, in the hardest case: a
pass of six windows that double); with 16 windows a pass and 32 shards by less than 5 %. Cold, without an anchor, runs
start from 0 and the bias of each is relative to its own rows' means, which differ by sampling error: the same bounds hold.

Parts of a stale anchor (several windows of one round start from one) do not add to those of another: each is folded in
turn, scaled by the curvature of then and searched for a length, 0 included, so that no fold makes its window's loss rise
by much; parts more than ``max_staleness`` refreshes behind are rejected.
"""

import dataclasses

import numpy as np
from jaxtyping import Float64, Int64

from beam_ml.algorithms import anchored
from beam_ml.algorithms.anchored import Moves
from beam_ml.algorithms.linear.adagrad_moments import COLUMNS, add_tables, joined, scaled_table
from beam_ml.algorithms.linear.adagrad_rows import Rows, class_factors, class_masses, present, table_of
from beam_ml.algorithms.linear.adagrad_shape import Columns, Shape, lift, shape_of_tables
from beam_ml.algorithms.linear.adagrad_spec import AdaGrad
from beam_ml.core.algorithm import Law, LawKind, check_batch
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.batch import Batch

__all__ = ["Anchor", "Partial", "State", "accumulate", "anchor", "empty", "init", "law", "merge", "scale", "weight"]

BOUND = 0.1


@array_dataclass
class State:
    """Parameters of all variants, and what their next steps go by."""

    theta: Float64[np.ndarray, "p v o"]  # coefficients per feature unit; last row: bias at the means
    slack: Float64[np.ndarray, "q v o"]  # in [−1, 1], where in its dead zone a coefficient of 0 is; no rows without L1
    squares: Float64[np.ndarray, "p v o"]  # Σ gradient², decayed
    faded: Float64[np.ndarray, ""]  # what squares and total were multiplied by since the last fold
    total: Float64[np.ndarray, ""]  # Σ row weight with class factors, decayed: what penalties are multiplied by
    mass: Float64[np.ndarray, "k"]  # row weight by class (regression: in all), decayed
    moments: Float64[np.ndarray, "p 5"]  # weight, mean, Σz², Σz³, Σz⁴ by feature, decayed; last row: of a real label
    loss: Float64[np.ndarray, "v"]  # Σ weight · loss on rows not yet learned from, decayed
    loss_weight: Float64[np.ndarray, ""]  # Σ weight of those rows, decayed
    status: Int64[np.ndarray, "v"]  # 0: learning; 1: dropped as a loser; 2: dropped, it diverged
    length: Float64[np.ndarray, "v"]  # step length of the last fold; negative: along the mean of the runs
    folds: Int64[np.ndarray, ""]  # folds so far


@array_dataclass
class Partial:
    """Sums over runs from one anchor; the open run is the one that goes on with the next batch."""

    closed_rows: Int64[np.ndarray, "c"]  # parameter rows touched by closed runs, rising
    closed_scaled: Float64[np.ndarray, "c v o"]  # ΣD, moves scaled by curvature
    closed_moved: Float64[np.ndarray, "c v o"]  # Σ(u − u_a)
    closed_squares: Float64[np.ndarray, "c v o"]  # Σ gradient²
    open_rows: Int64[np.ndarray, "r"]  # parameter rows touched by the open run, rising
    open_scaled: Float64[np.ndarray, "r v o"]  # D of the open run
    open_moved: Float64[np.ndarray, "r v o"]  # u − u_a of the open run
    open_squares: Float64[np.ndarray, "r v o"]  # its Σ gradient²
    open_total: Float64[np.ndarray, ""]  # its Σ row weight with class factors
    runs: Int64[np.ndarray, ""]  # P, the open one included
    folds: Int64[np.ndarray, ""]  # folds that the anchor had seen; 0: cold
    total: Float64[np.ndarray, ""]  # Σ row weight with class factors, all runs
    mass: Float64[np.ndarray, "k"]  # row weight by class (regression: in all)
    moment_rows: Int64[np.ndarray, "m"]  # rows of moments, rising
    moments: Float64[np.ndarray, "m 5"]  # weight, mean, Σz², Σz³, Σz⁴


@array_dataclass
class Anchor:
    """Where runs start."""

    theta: Float64[np.ndarray, "p v o"]  # as in the state
    slack: Float64[np.ndarray, "q v o"]  # as in the state
    squares: Float64[np.ndarray, "p v o"]  # as in the state
    total: Float64[np.ndarray, ""]  # as in the state
    mass: Float64[np.ndarray, "k"]  # as in the state
    moments: Float64[np.ndarray, "p 5"]  # as in the state
    status: Int64[np.ndarray, "v"]  # as in the state
    folds: Int64[np.ndarray, ""]  # as in the state


def law(spec: AdaGrad) -> Law:
    """Say what the partial promises: ANCHORED; k shards keep the sequential run's loss within the bound."""
    del spec
    return Law(LawKind.ANCHORED, rtol=1e-9, bound=BOUND)


def init(spec: AdaGrad) -> State:
    """Give the state before any row."""
    p, v, o = spec.n_features + 1, spec.n_variants, spec.n_outputs
    return State(
        theta=np.zeros((p, v, o)), slack=np.zeros((p if any(spec.l1) else 0, v, o)), squares=np.zeros((p, v, o)),
        faded=np.ones(()), total=np.zeros(()), mass=np.zeros(spec.n_label_classes), moments=np.zeros((p, COLUMNS)),
        loss=np.zeros(v), loss_weight=np.zeros(()), status=np.zeros(v, dtype=np.int64), length=np.zeros(v),
        folds=np.zeros((), dtype=np.int64),
    )  # fmt: skip


def empty(spec: AdaGrad) -> Partial:
    """Give the identity of `merge`."""
    none = np.zeros((0, spec.n_variants, spec.n_outputs))
    rows = np.zeros(0, dtype=np.int64)
    return Partial(
        closed_rows=rows, closed_scaled=none, closed_moved=none, closed_squares=none,
        open_rows=rows, open_scaled=none, open_moved=none, open_squares=none, open_total=np.zeros(()),
        runs=np.zeros((), dtype=np.int64), folds=np.zeros((), dtype=np.int64), total=np.zeros(()),
        mass=np.zeros(spec.n_label_classes),
        moment_rows=rows, moments=np.zeros((0, COLUMNS)),
    )  # fmt: skip


def anchor(spec: AdaGrad, state: State) -> Anchor | None:
    """Give what runs start from; None before the first row."""
    del spec
    if weight(state) <= 0.0:
        return None
    return Anchor(
        theta=state.theta, slack=state.slack, squares=state.squares, total=state.total, mass=state.mass,
        moments=state.moments, status=state.status, folds=state.folds,
    )  # fmt: skip


def weight(summary: State | Partial) -> float:
    """Give the rows' total (decayed) weight."""
    return float(summary.mass.sum())


def scale(spec: AdaGrad, summary: State | Partial, factor: float) -> State | Partial:
    """Weigh all rows by a factor: forgetting. Parameters and moves stay; Σ gradient² of a state fades, so steps recover."""
    if factor == 1.0:
        return summary
    if isinstance(summary, Partial):
        if weight(summary) * factor == 0.0:
            return empty(spec)
        return dataclasses.replace(
            summary,
            open_total=np.asarray(summary.open_total * factor),
            total=np.asarray(summary.total * factor),
            mass=summary.mass * factor,
            moments=scaled_table(summary.moments, factor),
        )
    return dataclasses.replace(
        summary,
        squares=summary.squares * factor,
        faded=np.asarray(summary.faded * factor),
        total=np.asarray(summary.total * factor),
        mass=summary.mass * factor,
        moments=scaled_table(summary.moments, factor),
        loss=summary.loss * factor,
        loss_weight=np.asarray(summary.loss_weight * factor),
    )


def closed_moves(partial: Partial) -> Moves:
    """Give the sums over closed runs."""
    return Moves(partial.closed_rows, partial.closed_scaled, partial.closed_moved, partial.closed_squares)


def moves_of(partial: Partial) -> Moves:
    """Give the sums over all runs."""
    mine = Moves(partial.open_rows, partial.open_scaled, partial.open_moved, partial.open_squares)
    return anchored.add(closed_moves(partial), mine)


def merge(spec: AdaGrad, a: Partial, b: Partial) -> Partial:
    """Add two partials of one anchor; both open runs end."""
    if int(a.runs) == 0 or int(b.runs) == 0:
        return b if int(a.runs) == 0 else a
    with np.errstate(over="ignore", invalid="ignore"):
        moves = anchored.add(moves_of(a), moves_of(b))
        rows, table = add_tables(a.moment_rows, a.moments, b.moment_rows, b.moments)
        return dataclasses.replace(
            empty(spec), closed_rows=moves.rows, closed_scaled=moves.scaled, closed_moved=moves.moved,
            closed_squares=moves.squares, runs=np.asarray(a.runs + b.runs),
            folds=np.maximum(a.folds, b.folds), total=np.asarray(a.total + b.total),
            mass=a.mass + b.mass, moment_rows=rows, moments=table,
        )  # fmt: skip


def accumulate(spec: AdaGrad, partial: Partial, batch: Batch, anchor: Anchor | None = None) -> Partial:
    """Run on over a batch's rows, from the anchor or from where the open run is."""
    check_batch(spec, batch)
    rows = present(spec, batch)
    if rows.label.size == 0:
        return partial
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _run(spec, partial, rows, anchor)


def _run(spec: AdaGrad, partial: Partial, rows: Rows, anchor: Anchor | None) -> Partial:
    start = init(spec) if anchor is None else anchor
    fresh = class_masses(spec, rows)
    mass = partial.mass + fresh
    w = rows.weight if spec.task == "regression" else rows.weight * class_factors(spec, start.mass + mass)[rows.kind]
    numbers, rows = rows.placed(partial.open_rows)  # the parameter rows of the run
    moment_rows, moments = add_tables(partial.moment_rows, partial.moments, *table_of(spec, rows, numbers))
    own = anchored.at_rows(partial.moment_rows, partial.moments, numbers)
    known = joined(start.moments[numbers], anchored.at_rows(moment_rows, moments, numbers))
    now = shape_of_tables(spec, known, numbers)
    last = shape_of_tables(spec, joined(start.moments[numbers], own), numbers)  # of the batch before
    cold = anchor is None
    # Moves have their bias at the anchor's means, or cold at the run's own.
    home = last if cold else shape_of_tables(spec, start.moments[numbers], numbers)
    live = Columns.of(spec, start.status)
    total, at = float(start.total), float(start.total) + float(partial.open_total)
    base = live.take(start.squares[numbers])
    slack = live.take(start.slack[numbers]) if start.slack.size else None
    begin = lift(live.take(start.theta[numbers]), slack, base, live, home, total)
    u = begin + live.take(anchored.at_rows(partial.open_rows, partial.open_moved, numbers))
    squares = live.take(anchored.at_rows(partial.open_rows, partial.open_squares, numbers))
    theta = u
    if partial.open_rows.size or not cold:
        before = last.parameters(u, base + squares, live, at) if live.penalised else u
        u[-1] += _moved_bias(home, last, before)
    if live.penalised:
        theta = now.parameters(u, base + squares, live, at)
    if partial.open_rows.size or not cold:
        u[-1] += _moved_bias(last, now, theta)
        theta[-1] = u[-1]
    rows.learn(spec, now, live, w, at, base, squares, u, theta)
    at += float(w.sum())
    if live.penalised:
        theta = now.parameters(u, base + squares, live, at)
    if not cold:
        u[-1] -= _moved_bias(home, now, theta)
    moved = u - begin
    mine = anchored.move_of(numbers, live.put(moved), live.put(squares), live.put(base))
    return dataclasses.replace(
        partial, open_rows=mine.rows, open_scaled=mine.scaled, open_moved=mine.moved, open_squares=mine.squares,
        open_total=np.asarray(at - total), runs=np.asarray(partial.runs + (1 if partial.open_rows.size == 0 else 0)),
        folds=start.folds, total=np.asarray(partial.total + w.sum()), mass=mass, moment_rows=moment_rows, moments=moments,
    )  # fmt: skip


def _moved_bias(then: Shape, now: Shape, theta: np.ndarray) -> np.ndarray:
    """Give what the bias (columns,) gains when means move, so that every score stays as it is."""
    gained: np.ndarray = (now.centre - then.centre) @ theta[:-1] - (now.label_centre - then.label_centre)
    return gained
