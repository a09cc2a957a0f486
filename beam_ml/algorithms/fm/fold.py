"""Folding a window into the state of factorization machines. Letters as in `machine`; ``n`` sampled rows."""

import dataclasses
from collections.abc import Callable

import numpy as np

from beam_ml.algorithms.fm.adapt import adapted, heard
from beam_ml.algorithms.fm.again import gone_on
from beam_ml.algorithms.fm.calibrate import damp
from beam_ml.algorithms.fm.frames import added, frames, held_by, reframed, settled, spread_of, tamed
from beam_ml.algorithms.fm.known import holding, numbered
from beam_ml.algorithms.fm.machine import Partial, State, fading, moves_of, scaled_moments, weight, widened
from beam_ml.algorithms.fm.rows import joined_labels, present
from beam_ml.algorithms.fm.sampled import Sampled
from beam_ml.algorithms.fm.search import COMMON, choose, searches
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.algorithms.shared import moves as anchored
from beam_ml.algorithms.shared.moves import Rule, Step
from beam_ml.algorithms.shared.places import place_of
from beam_ml.core.batch import Batch

__all__ = ["fold", "spread_out"]

ASKED = 1 << 12
"""Features of a window by which their variance is judged, about."""
TURN = 2.0
"""Times the weight of the rows before at which newer rows' moments take their place."""


def fold(spec: Spec, state: State, partial: Partial, sample: Batch | None, rule: Rule = "search") -> State:
    """Learn a window: the parameters that it touched take their step; sums of gradients, features and labels add.

    After the first window, if several runs learned it, passes over its sample follow (`again`).

    Args:
        spec: the spec.
        state: before.
        partial: the window's.
        sample: rows of the window, weighted to stand for all of them; None: runs are averaged.
        rule: how runs are combined; all but ``search`` are there to be measured against it.

    Raises:
        FloatingPointError: the parameters would not be finite any more.
    """
    if int(partial.runs) == 0:
        return state
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _fold(spec, state, partial, sample, rule)


def _fold(spec: Spec, state: State, partial: Partial, sample: Batch | None, rule: Rule) -> State:
    from beam_ml.kernels.fm import fold as fm_fold

    moves, gathered = moves_of(partial)
    data = None if sample is None else present(sample)
    state = widened(spec, state, holding(spec, [state.rows, moves.rows], [] if data is None else [data]))
    moves = dataclasses.replace(moves, rows=place_of(state.rows, moves.rows))
    data = None if data is None else numbered(state.rows, data)
    runs, stale = int(partial.runs), int(partial.folds) != int(state.folds)
    cold = weight(state) <= 0.0
    label = joined_labels(state.label, partial.label)
    # Runs started from squares that had not faded yet.
    faded, (of_squares, of_weights) = fading(state)[0], state.faded

    mass = float(gathered[-1, 0])
    common = np.zeros(state.theta.shape[0], dtype=bool)
    common[moves.rows] = gathered[:, 0] >= COMMON * mass
    seen, there = moves.rows[:-1], (state.centre[moves.rows[:-1]], state.scale[moves.rows[:-1]])
    # What is new has been learned in a frame of the window's.
    new = there[1] == 0
    if data is not None and new.any() and data.indices.size:
        gathered = gathered.copy()
        known = np.minimum(np.searchsorted(seen, data.indices), seen.size - 1)
        met = seen[known] == data.indices
        gathered[:-1] = tamed(spec, gathered[:-1], mass, new, known[met], data.values[met])
    own = frames(spec, gathered[:-1], mass, *there)
    centre, scale = state.centre.copy(), state.scale.copy()
    # … and where its window's first rows were too few to tell, a constant was learned as an indicator is.
    learned = new & (own[1] == 0) & moves.squares[:-1].any(axis=1)
    own[0][learned], own[1][learned] = 0.0, np.abs(gathered[:-1, 1][learned])
    centre[seen[new]], scale[seen[new]] = own[0][new], own[1][new]
    spread = float(state.spread) or spread_of(spec, held_by(gathered[:-1], mass, scale[seen]))

    tested = None if data is None else Sampled.of(spec, data, (centre, scale, spread), label, common)

    def sampled() -> tuple[int, Callable[[Step], float]]:
        if tested is None:
            return 0, _no_loss
        ways = anchored.directions(moves, tested.rows, state.squares[tested.rows], runs, rule, stale)
        return tested.weight.size, tested.losses(state.theta, ways)

    n, loss = sampled() if searches(runs, rule, stale) else (0, _no_loss)
    # Of numbers a run's steps are so long where little is known (`steps`) that twice their sum overshoots.
    step = choose(loss, runs, n, rule, stale, beyond=spec.task == "binary")
    theta, squares = state.theta.copy(), state.squares * of_squares
    finite = fm_fold.stepped(
        moves.rows, moves.scaled, moves.moved, moves.squares, common[moves.rows], step.length, step.mean, float(faded),
        (runs > 1 or stale) and rule != "sum", runs, theta, squares,
    )  # fmt: skip
    if not finite:
        message = "fm.Spec diverged: a parameter is not finite"
        raise FloatingPointError(message)
    if tested is not None and spec.use_bias and rule == "search":
        corrected = tested.corrected(theta)
        if corrected is not None:
            theta = damp(theta, *corrected)
    sums, before = (scaled_moments(one, of_weights) for one in (state.sums, state.before))
    sums[moves.rows] = added(sums[moves.rows], gathered)
    known = added(before[moves.rows], sums[moves.rows])
    if sums[-1, 0] >= TURN * before[-1, 0]:
        before, sums = sums, np.zeros_like(sums)
        known = before[moves.rows]
    old = (centre[seen], scale[seen])
    now = settled(old, frames(spec, known[:-1], float(known[-1, 0]), *old, state.widest[seen]))
    reframed(theta, squares, seen, old, now)
    centre[seen], scale[seen] = now
    widest = state.widest.copy()
    widest[seen] = np.maximum(widest[seen], now[1])
    wider = spread_of(spec, held_by(gathered[:-1], mass, now[1]), spread)
    if wider != spread:
        spread_out(theta, squares, wider / spread)
    fresh = np.asarray(state.fresh + partial.fresh)
    passes = max(1.0, float((state.mass + partial.mass).sum() / fresh)) if fresh > 0 else 1.0
    weights = np.array([float(partial.fresh), weight(partial)])
    noise = np.stack([heard(*one) for one in zip(state.noise, weights, partial.noise, strict=True)])
    few = seen[:: 1 + seen.size // ASKED]
    prior = adapted(spec, state.prior, theta[few], squares[few], noise[:, 1], passes)
    after = State(
        rows=state.rows, theta=theta, squares=squares, centre=centre, scale=scale, widest=widest,
        spread=np.asarray(wider), sums=sums, before=before, label=label,
        mass=state.mass + partial.mass, fresh=fresh, noise=noise, prior=prior,
        faded=np.ones(2), length=np.where(step.mean, -step.length, step.length),
        folds=np.asarray(state.folds + 1, dtype=np.int64),
    )  # fmt: skip
    if cold and runs > 1 and data is not None and rule == "search":
        return gone_on(spec, after, data)
    return after


def spread_out(theta: np.ndarray, squares: np.ndarray, ratio: float) -> None:
    """Write parameters and Σ gradient² of features for scales that are all larger by a ratio."""
    theta[:-1] *= ratio
    squares[:-1] /= ratio**2


def _no_loss(step: Step) -> float:
    """Return the loss where there is no sample: nothing is known of a step."""
    del step
    return np.inf
