"""Folding a window into the state of `linear.adagrad`. Letters as in `adagrad`; ``n`` sampled rows."""

import dataclasses

import numpy as np

from beam_ml.algorithms import anchored
from beam_ml.algorithms.anchored import Moves, Rule, Step
from beam_ml.algorithms.linear import adagrad_losses as losses
from beam_ml.algorithms.linear.adagrad import Partial, State, fading, moves_of, sums_of, weight
from beam_ml.algorithms.linear.adagrad_moments import held, joined
from beam_ml.algorithms.linear.adagrad_rows import Rows, class_factors, present
from beam_ml.algorithms.linear.adagrad_shape import Columns, Shape, Sums, lift, shape_of_tables, slack_of
from beam_ml.algorithms.linear.adagrad_spec import AdaGrad
from beam_ml.core.batch import Batch

__all__ = ["DIVERGED", "LEARNS", "LOST", "fold", "linear_scores", "merge_states", "progressive"]

LEARNS, LOST, DIVERGED = 0, 1, 2
_FRESH = 1.0 - 1e-6
_WORST = 1e280  # stands for a loss that is not finite
_GROWTH = 4.0  # how much a scale may grow in one fold before its coefficients are taken for noise of the smaller one
_ROWS_AT_ONCE = 1 << 14  # parameter rows whose penalty is computed together, so that what is on the way fits the cache


def fold(spec: AdaGrad, state: State, partial: Partial, sample: Batch | None, rule: Rule = "search") -> State:
    """Learn a window: each variant takes its step, then the proximal map; sums of gradients and moments add.

    Runs have measured every row before they learned from it. The parameters of before, and their average, are measured
    here on the sample, which they have not learned from. A variant whose parameters are not finite any more is dropped and
    keeps those it had; once the weight of ``halve_at`` rows is seen, the worse half of the others by progressive loss is
    dropped too.

    Args:
        spec: the spec.
        state: before.
        partial: the window's.
        sample: rows of the window, weighted to stand for all of them; None: runs are averaged.
        rule: how runs are put together; all but ``search`` are there to be measured against it.

    Raises:
        FloatingPointError: no variant is finite any more.
    """
    if int(partial.runs) == 0:
        return state
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _fold(spec, state, partial, sample, rule)


@dataclasses.dataclass(frozen=True, slots=True)
class _Window:
    """What a fold's steps are taken from: the state, its live columns, the share of θ kept, and the sums over runs."""

    spec: AdaGrad
    state: State
    columns: Columns
    before: Shape
    shape: Shape
    kept: np.ndarray
    moves: Moves
    runs: int
    rule: Rule
    stale: bool
    sums_before: Sums
    sums: Sums

    def stepped(self, rows: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Give u, θ and Σ gradient² (r, m) at some parameter rows after a step, and the weight W (m,) it stands for."""
        columns, o, state = self.columns, self.spec.n_outputs, self.state
        # What faded since the last fold fades the steps to come, not those taken from the anchor before.
        faded = fading(state)
        slack = columns.rows(state.slack, rows) if state.slack.size else None
        plain = columns.rows(state.squares, rows) / faded
        before = self.sums_before
        base = plain + before.behind(self.spec, plain[-1], self.before.scale[rows])
        theta = columns.rows(state.theta, rows) * self.kept[rows, None]
        start = lift(theta, slack, base, columns, self.before.at(rows), before.total)
        squares = plain + anchored.at_rows(self.moves.rows, self.moves.squares, rows)
        behind = self.sums.behind(self.spec, squares[-1], self.shape.scale[rows])
        total, mean = anchored.directions(self.moves, rows, base, self.runs, self.rule, self.stale)
        move = np.where(np.repeat(step.mean, o), mean, total) * np.repeat(step.length, o)
        if step.bias is not None and step.bias_mean is not None:
            at = rows == self.spec.n_features
            move[at] = np.where(np.repeat(step.bias_mean, o), mean[at], total[at]) * np.repeat(step.bias, o)
        u = start + move
        squares += behind
        gained = self.sums.total - before.total
        counted = before.total + np.repeat(step.share(self.runs), o) * gained
        theta = self.shape.at(rows).parameters(u, squares, columns, counted) if columns.penalised else u
        return u, theta, squares, counted

    def penalty(self, rows: np.ndarray, step: Step) -> np.ndarray:
        """Give the penalty of each live variant (l,) after a step, of rising parameter rows that end with the bias."""
        found = np.zeros(self.columns.rate.size)
        for begin in range(0, rows.size - 1, _ROWS_AT_ONCE):
            some = np.append(rows[begin : min(begin + _ROWS_AT_ONCE, rows.size - 1)], rows[-1])
            found += self.shape.at(some).penalty(self.stepped(some, step)[1], self.columns)
        by_variant: np.ndarray = found.reshape(self.columns.live.size, -1).sum(axis=1)
        return by_variant


def _fold(spec: AdaGrad, state: State, partial: Partial, sample: Batch | None, rule: Rule) -> State:
    p = spec.n_features + 1
    everything = np.arange(p)
    columns = Columns.of(spec, state.status)
    cold = weight(state) <= 0.0
    gathered = np.zeros_like(state.moments)
    gathered[partial.moment_rows] = partial.moments
    moments = held(joined(state.moments, gathered))
    faded = fading(state)
    first = sums_of(state).plus(Sums(), 1.0 / faded)
    sums_after = first.plus(sums_of(partial))
    after = shape_of_tables(spec, moments, everything, sums_after.pace)
    # Where the moves' bias is at.
    before = shape_of_tables(spec, gathered if cold else state.moments, everything, first.pace)
    kept = _kept(before, after)
    sums = moves_of(partial)
    moves = Moves(sums.rows, *(columns.take(getattr(sums, name)) for name in ("scaled", "moved", "squares")))
    window = _Window(
        spec, state, columns, before, dataclasses.replace(after, centre=before.centre, label_centre=before.label_centre),
        kept, moves, int(partial.runs), rule, int(partial.folds) != int(state.folds), first, sums_after,
    )  # fmt: skip
    tested = None if sample is None else _Tested.of(spec, window, sample, state.mass + partial.mass)
    loss, average_loss, loss_weight = state.loss, state.average_loss, float(state.loss_weight)
    # Rows of a later pass have been learned from: nothing is measured on them.
    unseen = float(partial.loss_weight) >= _FRESH * float(partial.total)
    if tested is not None and not cold and unseen:
        loss = loss + tested.sums(state.theta[tested.rows])
        if spec.averaging:
            average_loss = average_loss + tested.sums(_averaged(state, tested.rows))
        loss_weight += float(tested.weight.sum())

    # Without penalties only rows that moved change. With them all do, but those that never moved are 0.
    known = anchored.union(np.flatnonzero(state.squares.any(axis=(1, 2))), moves.rows)
    touched = known if columns.penalised else moves.rows

    penalties: dict[bytes, np.ndarray] = {}  # by the features' step: the bias has none

    def judged(step: Step) -> np.ndarray:
        assert tested is not None  # noqa: S101
        loss = tested.losses(window.stepped(tested.rows, step)[1])
        if not columns.penalised:
            return loss
        key = step.length.tobytes() + step.mean.tobytes()
        if key not in penalties:
            penalties[key] = window.penalty(touched, step)
        return loss + penalties[key]

    n = 0 if tested is None else tested.weight.size
    step = anchored.choose_step(judged, columns.live.size, int(partial.runs), n, rule, window.stale)
    u, theta, squares, counted = window.stepped(touched, step)
    learned = np.isfinite(theta).all(axis=0) & np.isfinite(squares).all(axis=0)
    finite = learned.reshape(columns.live.size, -1).all(axis=1)
    if not finite.any():
        message = "every variant of linear.AdaGrad diverged"
        raise FloatingPointError(message)
    grown = state.squares.copy()
    grown[touched] += columns.put(anchored.at_rows(moves.rows, moves.squares, touched))
    status = state.status.copy()
    status[columns.live[~finite]] = DIVERGED
    good = np.zeros(spec.n_variants, dtype=bool)
    good[columns.live[finite]] = True
    new_theta = _shifted(_replaced(state.theta, touched, columns.put(theta), good), before, after)
    average = state.average
    if spec.averaging:
        average = _shifted(average * kept[:, None, None], before, after)
        # Weights in proportion to the rows seen so far: with w new rows after N, 2w/(N + 2w) is for the newest.
        fresh = 2.0 * float(partial.total)
        share = fresh / (float(state.total) + fresh) if fresh > 0.0 else 0.0
        average[known] += np.where(good[:, None], share * (new_theta[known] - average[known]), 0.0)
    length = state.length.copy()
    length[columns.live] = np.where(step.mean, -step.length, step.length)
    slack = state.slack
    if slack.size:
        slack = _replaced(slack, touched, columns.put(slack_of(u, squares, columns, window.shape, counted)), good)
        slack[new_theta != 0] = 0.0
    loss = np.where(np.isfinite(loss), loss, state.loss)
    average_loss = np.where(np.isfinite(average_loss), average_loss, state.average_loss)
    run_loss = np.minimum(state.run_loss + np.nan_to_num(partial.loss, nan=_WORST, posinf=_WORST), _WORST)
    folds = int(state.folds) + 1
    seen = float(state.seen) + weight(partial)
    for _ in [at for at in spec.halve_at if float(state.seen) < at <= seen]:
        status = _halved(status, progressive(spec, run_loss, loss, average_loss))
    return State(
        theta=new_theta, slack=slack, average=average, squares=np.where(good[:, None], grown, state.squares),
        faded=np.ones(()), total=np.asarray(state.total + partial.total),
        stepped=np.asarray(state.stepped + partial.stepped),
        stepped_squares=np.asarray(state.stepped_squares + partial.stepped_squares),
        norm=np.asarray(state.norm + partial.norm), mass=state.mass + partial.mass,
        moments=moments, run_loss=run_loss, run_weight=np.asarray(state.run_weight + partial.loss_weight),
        loss=loss, average_loss=average_loss,
        loss_weight=np.asarray(loss_weight), status=status, length=length,
        folds=np.asarray(folds, dtype=np.int64), seen=np.asarray(seen),
    )  # fmt: skip


def _replaced(values: np.ndarray, rows: np.ndarray, fresh: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Give a copy of values (p, v, o) with `fresh` at some rows of the variants that are good."""
    out = values.copy()
    out[rows] = np.where(good[:, None], fresh, out[rows])
    return out


def _kept(before: Shape, after: Shape) -> np.ndarray:
    """Give the share of θ (p,) that is kept: all, but for features whose scale has grown more than fourfold.

    What was learned of a feature that hardly moved, z of 10⁻⁹, is a coefficient of 10⁹, and it stands for nothing but
    noise where z is 0.1: so much past the bound as the square of the scale grows, it shrinks (Ross, Mineiro and Langford
    2013 do so at every growth).
    """
    then, now = before.inverse_unit / before.label_unit, after.inverse_unit / after.label_unit
    share = np.divide(_GROWTH * then, now, out=np.ones_like(now), where=(then > 0) & (now > 0))
    kept: np.ndarray = np.square(np.minimum(share, 1.0))
    return kept


def _shifted(theta: np.ndarray, before: Shape, after: Shape) -> np.ndarray:
    """Give a copy of θ (p, v, o) whose bias follows the means, so that every score stays as it is."""
    out = theta.copy()
    out[-1] += np.tensordot(after.centre - before.centre, theta[:-1], axes=1) - (
        after.label_centre - before.label_centre
    )
    return out


def _averaged(state: State, rows: np.ndarray) -> np.ndarray:
    """Give the average (r, v, o) at some parameter rows; a coefficient that L1 holds at 0 is 0 there too."""
    average = state.average[rows]
    return np.where(state.theta[rows] == 0.0, 0.0, average) if state.slack.size else average


def progressive(spec: AdaGrad, run_loss: np.ndarray, loss: np.ndarray, average_loss: np.ndarray) -> np.ndarray:
    """Return each variant's Σ weight · loss (v,) on rows that it had not learned from.

    Runs measure every row before they learn from it, and folds a sample of every window, with the parameters before it:
    the last ones, or their average, whichever is better so far.
    """
    found: np.ndarray = run_loss + (np.minimum(loss, average_loss) if spec.averaging else loss)
    return found


def _halved(status: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Drop the worse half of the variants that learn; the earlier one wins ties."""
    live = np.flatnonzero(status == LEARNS)
    order = live[np.argsort(loss[live], kind="stable")]
    out = status.copy()
    out[order[(live.size + 1) // 2 :]] = LOST
    return out


@dataclasses.dataclass(frozen=True, slots=True)
class _Tested:
    """Sampled rows, and the parameter rows that their scores need."""

    spec: AdaGrad
    columns: Columns
    shape: Shape
    data: Rows
    rows: np.ndarray
    weight: np.ndarray

    @staticmethod
    def of(spec: AdaGrad, window: _Window, sample: Batch, mass: np.ndarray) -> "_Tested | None":
        data = present(spec, sample)
        if data.label.size == 0:
            return None
        rows, data = data.placed()
        weight = data.weight
        if spec.task != "regression":
            weight = weight * class_factors(spec, mass)[data.kind]
        return _Tested(spec, window.columns, window.shape, data, rows, weight)

    def sums(self, theta: np.ndarray) -> np.ndarray:
        """Give Σ weight · loss of every variant (v,), 0 of those that do not learn, with θ (r, v, o) at `rows`."""
        out = np.zeros(self.spec.n_variants)
        out[self.columns.live] = self.losses(self.columns.take(theta)) * self.weight.sum()
        return out

    def losses(self, theta: np.ndarray) -> np.ndarray:
        """Give each live variant's mean loss (l,) with parameters θ (r, m) at `rows`."""
        score = linear_scores(self.weight.size, self.data, theta, self.shape.centre) + self.shape.label_centre
        score = score.reshape(self.weight.size, -1, self.spec.n_outputs)
        code, shape = losses.code_of(self.spec), losses.shape_of(self.spec)
        each = losses.row_losses(code, score, self.data.label, shape, 1.0 / self.shape.label_unit)
        found: np.ndarray = (self.weight @ each) / self.weight.sum()
        return found


def linear_scores(n: int, data: Rows, theta: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Give the linear scores (n, m) of placed rows with parameters θ (r, m), the bias last."""
    from beam_ml.kernels import adagrad as kernels

    if data.x is not None:
        return np.asarray(np.subtract(data.x, centre, dtype=np.float64) @ theta[:-1] + theta[-1])
    out = np.empty((n, theta.shape[1]))
    kernels.sparse_scores(data.indptr, data.place, data.values, np.ascontiguousarray(theta), out)
    return out


def merge_states(
    spec: AdaGrad, a: State, b: State, sample_a: Batch | None = None, sample_b: Batch | None = None
) -> State:
    """Add two learners' states: parameters by their mean weighted by Σ gradient², which is approximate; sums add.

    A variant learns on if it does in both, or in either where there is none of the kind; its age is the elder's.
    """
    if weight(a) <= 0.0 or weight(b) <= 0.0:
        return b if weight(a) <= 0.0 else a
    everything = np.arange(spec.n_features + 1)
    moments = held(joined(a.moments, b.moments))
    after = shape_of_tables(spec, moments, everything)
    homes = [shape_of_tables(spec, one.moments, everything) for one in (a, b)]
    thetas = [_shifted(one.theta, home, after) for one, home in zip((a, b), homes, strict=True)]
    squares = a.squares + b.squares
    share = np.divide(a.squares, squares, out=np.full_like(squares, 0.5), where=squares > 0)
    theta, slack = share * thetas[0] + (1.0 - share) * thetas[1], a.slack
    if slack.size:
        slack = np.where(theta == 0, share * a.slack + (1.0 - share) * b.slack, 0.0)
    average = a.average
    if spec.averaging:
        first, second = (_shifted(one.average, home, after) for one, home in zip((a, b), homes, strict=True))
        average = share * first + (1.0 - share) * second
    both = np.maximum(a.status, b.status)
    status = both if (both == LEARNS).any() else np.minimum(a.status, b.status)
    return State(
        theta=theta, slack=slack, average=average, squares=squares,
        faded=np.ones(()), total=np.asarray(a.total + b.total),
        stepped=np.asarray(a.stepped + b.stepped), stepped_squares=np.asarray(a.stepped_squares + b.stepped_squares),
        norm=np.asarray(a.norm + b.norm), mass=a.mass + b.mass, moments=moments,
        run_loss=np.minimum(a.run_loss + b.run_loss, _WORST), run_weight=np.asarray(a.run_weight + b.run_weight),
        loss=a.loss + b.loss, average_loss=a.average_loss + b.average_loss,
        loss_weight=np.asarray(a.loss_weight + b.loss_weight), status=status,
        length=np.zeros_like(a.length), folds=np.maximum(a.folds, b.folds), seen=np.asarray(a.seen + b.seen),
    )  # fmt: skip
