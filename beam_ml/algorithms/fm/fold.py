"""Folding a window into the state of factorization machines. Letters as in `machine`; ``n`` sampled rows."""

import dataclasses
from collections.abc import Callable

import numpy as np

from beam_ml.algorithms import anchored
from beam_ml.algorithms.anchored import Rule, Step
from beam_ml.algorithms.fm.adapt import adapted, heard
from beam_ml.algorithms.fm.frames import FARTHEST, added, frames, reframed, settled, spread_of, tamed
from beam_ml.algorithms.fm.machine import Partial, State, fading, moves_of
from beam_ml.algorithms.fm.rows import Rows, in_frames, joined_labels, label_scale, present
from beam_ml.algorithms.fm.search import COMMON, choose
from beam_ml.algorithms.fm.spec import Spec
from beam_ml.core.batch import Batch

__all__ = ["Sampled", "fold", "linear_scores", "row_losses", "spread_out"]

TURN = 2.0
"""Times the weight of the rows before at which newer rows' moments take their place."""


def fold(spec: Spec, state: State, partial: Partial, sample: Batch | None, rule: Rule = "search") -> State:
    """Learn a window: the parameters that it touched take their step; sums of gradients, features and labels add.

    Args:
        spec: the spec.
        state: before.
        partial: the window's.
        sample: rows of the window, weighted to stand for all of them; None: runs are averaged.
        rule: how runs are put together; all but ``search`` are there to be measured against it.

    Raises:
        FloatingPointError: the parameters would not be finite any more.
    """
    if int(partial.runs) == 0:
        return state
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _fold(spec, state, partial, sample, rule)


def _fold(spec: Spec, state: State, partial: Partial, sample: Batch | None, rule: Rule) -> State:
    moves, gathered = moves_of(partial)
    runs, stale = int(partial.runs), int(partial.folds) != int(state.folds)
    label = joined_labels(state.label, partial.label)
    # Runs started from squares that had not faded yet.
    faded = fading(state)[0]

    def ways(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return anchored.directions(moves, rows, state.squares[rows] / faded, runs, rule, stale)

    mass = float(gathered[-1, 0])
    common = np.zeros(state.theta.shape[0], dtype=bool)
    common[moves.rows] = gathered[:, 0] >= COMMON * mass
    seen, there = moves.rows[:-1], (state.centre[moves.rows[:-1]], state.scale[moves.rows[:-1]])
    # What is new has been learned in a frame of the window's.
    new = there[1] == 0
    data = None if sample is None else present(sample)
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
    spread = float(state.spread) or spread_of(spec, gathered[:-1], mass, scale[seen])
    tested = None if data is None else Sampled.of(spec, data, (centre, scale, spread), label, common)
    n = 0 if tested is None else tested.weight.size
    loss = _no_loss if tested is None else tested.losses(state.theta, ways(tested.rows))
    step = choose(loss, runs, n, rule, stale)
    theta, squares = state.theta.copy(), state.squares.copy()
    moved = _stepped(theta[moves.rows], ways(moves.rows), step, common[moves.rows])
    if not (np.isfinite(moved).all() and np.isfinite(moves.squares).all()):
        message = "fm.Spec diverged: a parameter is not finite"
        raise FloatingPointError(message)
    theta[moves.rows] = moved
    squares[moves.rows] += moves.squares
    sums, before = state.sums.copy(), state.before
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
    wider = spread_of(spec, gathered[:-1], mass, now[1], spread)
    if wider != spread:
        spread_out(theta, squares, wider / spread)
    fresh = np.asarray(state.fresh + partial.fresh)
    passes = max(1.0, float((state.mass + partial.mass).sum() / fresh)) if fresh > 0 else 1.0
    noise = heard(state.noise, float(partial.fresh), float(partial.noise))
    prior = adapted(spec, state.prior, theta[seen], squares[seen], float(noise[1]), passes)
    return State(
        theta=theta, squares=squares, centre=centre, scale=scale, widest=widest, spread=np.asarray(wider), sums=sums,
        before=before, label=label, mass=state.mass + partial.mass, fresh=fresh, noise=noise, prior=prior,
        faded=np.ones(2), length=np.where(step.mean, -step.length, step.length),
        folds=np.asarray(state.folds + 1, dtype=np.int64),
    )  # fmt: skip


def _stepped(theta: np.ndarray, ways: tuple[np.ndarray, np.ndarray], step: Step, common: np.ndarray) -> np.ndarray:
    """Give parameters (r, m), the bias last, after a step along the summed direction or the mean of the moves.

    Args:
        theta: (r, m) before.
        ways: the summed direction and the mean of the moves, (r, m) each.
        step: lengths and directions (g,).
        common: (r,) bool: whether the feature is.
    """
    after = theta.copy()
    features = np.arange(theta.shape[0] - 1)
    for band, of_band in enumerate((features[common[:-1]], features[~common[:-1]])):
        for part, group in ((np.s_[:1], 1 + 2 * band), (np.s_[1:], 2 + 2 * band)):
            after[of_band, part] += step.length[group] * ways[int(step.mean[group])][of_band, part]
    after[-1] += step.length[0] * ways[int(step.mean[0])][-1]
    return after


def spread_out(theta: np.ndarray, squares: np.ndarray, ratio: float) -> None:
    """Write parameters and Σ gradient² of features for scales that are all larger by a ratio."""
    theta[:-1] *= ratio
    squares[:-1] /= ratio**2


def _no_loss(step: Step) -> float:
    """Give the loss where there is no sample: nothing is known of a step."""
    del step
    return np.inf


@dataclasses.dataclass(frozen=True, slots=True)
class Sampled:
    """Sampled rows in their features' frames, and the parameter rows that they touch.

    Attributes:
        spec: the spec.
        indptr, place, values: CSR rows, columns numbered by `rows`.
        label: (n,) normalised.
        weight: (n,).
        rows: (r,) parameter rows, the bias last.
        met: (r,) weight of the sampled rows that have each feature over ρ²: how often its penalty counts.
        common: (r,) bool: whether the feature is.
    """

    spec: Spec
    indptr: np.ndarray
    place: np.ndarray
    values: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    rows: np.ndarray
    met: np.ndarray
    common: np.ndarray

    @staticmethod
    def of(
        spec: Spec,
        data: Rows,
        frame: tuple[np.ndarray, np.ndarray, float],
        label: np.ndarray,
        common: np.ndarray,
    ) -> "Sampled | None":
        """Return the rows in a frame (centre, scale, ρ) and in units of the label's moments; None: there are none."""
        if data.label.size == 0:
            return None
        level, unit = label_scale(label)
        centre, scale, spread = frame
        rows, place = data.placed(spec.n_features, np.flatnonzero(centre))
        far = FARTHEST if spec.normalize else np.inf
        bounds, place, values = in_frames(data.indptr, place, data.values, centre[rows[:-1]], scale[rows[:-1]], far)
        framed = bounds, place, values / spread
        each = np.repeat(data.weight, np.diff(bounds)) / spread**2
        met = np.bincount(place, weights=each, minlength=rows.size).astype(np.float64)
        met[-1] = data.weight.sum()
        return Sampled(spec, *framed, (data.label - level) / unit, data.weight, rows, met, common[rows])

    def scores(self, theta: np.ndarray) -> np.ndarray:
        """Return η (n,) with the parameters (r, m) of the touched rows."""
        return linear_scores(self.indptr, self.place, self.values, float(theta[-1, 0]), theta[:-1, 0], theta[:-1, 1:])

    def losses(self, theta: np.ndarray, ways: tuple[np.ndarray, np.ndarray]) -> Callable[[Step], float]:
        """Return what tells a step's mean loss, penalties included.

        Args:
            theta: (p, m) before.
            ways: the summed direction and the mean of the moves (r, m), at `rows`.
        """
        spec = self.spec
        before = theta[self.rows]
        met = self.met[:-1]
        total = float(self.weight.sum())

        def loss(step: Step) -> float:
            after = _stepped(before, ways, step, self.common)
            bias, linear, factors = float(after[-1, 0]), after[:-1, 0], after[:-1, 1:]
            score = self.scores(after)
            found = float(self.weight @ row_losses(spec, score, self.label))
            if spec.linear_wd:
                found += 0.5 * spec.linear_wd * float(met @ np.square(linear))
            if spec.factors_wd:
                found += 0.5 * spec.factors_wd * float(met @ np.einsum("rk,rk->r", factors, factors))
            return found / total + 0.5 * spec.bias_wd * bias**2

        return loss


def row_losses(spec: Spec, score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Give each row's loss (n,): ``log(1 + e^η) − yη`` or ``½(η − y)²``."""
    if spec.task == "regression":
        return np.asarray(0.5 * np.square(score - label))
    return np.asarray(np.maximum(score, 0.0) - label * score + np.log1p(np.exp(-np.abs(score))))


def linear_scores(
    indptr: np.ndarray,
    place: np.ndarray,
    values: np.ndarray,
    intercept: float,
    linear: np.ndarray,
    factors: np.ndarray,
) -> np.ndarray:
    """Give η (n,) of CSR rows whose values lie at `place` among the parameters linear (r,) and factors (r, k)."""
    from beam_ml.kernels import fm

    out = np.empty(indptr.size - 1)
    fm.scores(indptr, place, values, intercept, np.ascontiguousarray(linear), np.ascontiguousarray(factors), out)
    return out
