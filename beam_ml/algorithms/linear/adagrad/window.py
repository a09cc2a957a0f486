"""What a fold's steps are taken from, and the sample they are judged by. Letters as in `state`; ``n`` sampled rows."""

import dataclasses

import numpy as np

from beam_ml.algorithms.linear.adagrad.arrays import State
from beam_ml.algorithms.linear.adagrad.refine import (
    Drill,
    Found,
    linear_scores,
    losses_of_scores,
    mean_losses,
    penalties,
)
from beam_ml.algorithms.linear.adagrad.rows import Rows, class_factors
from beam_ml.algorithms.linear.adagrad.shape import Columns, Shape, Sums, lift
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad
from beam_ml.algorithms.linear.adagrad.state import fading
from beam_ml.algorithms.shared import moves as anchored
from beam_ml.algorithms.shared.moves import Moves, Rule, Step

__all__ = ["Line", "Refined", "Tested", "Window", "refined", "search", "unrefined", "untried"]

MANY_RUNS, MANY_COLD_RUNS = 2, 4
"""Runs from which a window's sample is learned from once more, and in the first window."""


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """What a fold's steps are taken from.

    Attributes:
        spec: the spec.
        state: before.
        old: (p,) where each parameter row of the fold is in the state's tables; −1: it does not hold it.
        columns: the live ones.
        before: units at the state.
        shape: units after, with the centres of before.
        kept: (p,) share of θ that is kept.
        moves: the sums over runs, all columns.
        moved: (p,) where each parameter row is among those of the moves; −1: none moved it.
        runs: P.
        rule: how runs are merged.
        stale: whether the runs' anchor is not where the fold starts.
        sums_before: sums over rows before the window.
        sums: the same with it.
    """

    spec: AdaGrad
    state: State
    old: np.ndarray
    columns: Columns
    before: Shape
    shape: Shape
    kept: np.ndarray
    moves: Moves
    moved: np.ndarray
    runs: int
    rule: Rule
    stale: bool
    sums_before: Sums
    sums: Sums

    def line(self, rows: np.ndarray) -> "Line":
        """Return where some parameter rows, the bias last, start from, and the two ways that they may go."""
        columns, state, old = self.columns, self.state, self.old[rows]
        # What faded since the last fold fades the steps to come, not those taken from the anchor before.
        faded = fading(state)
        slack = columns.rows(state.slack, old) if state.slack.size else None
        plain = columns.rows(state.squares, old)
        if faded != 1.0:
            plain /= faded
        before = self.sums_before
        base = plain + before.behind(self.spec, plain[-1], self.before.scale[rows])
        theta = columns.rows(state.theta, old) * self.kept[rows, None]
        start = lift(theta, slack, base, columns, self.before.at(rows), before.total)
        names, at = ("scaled", "moved", "squares"), self.moved[rows]
        mine = Moves(rows, *(columns.rows(getattr(self.moves, name), at) for name in names))
        squares = plain + mine.squares
        squares += self.sums.behind(self.spec, squares[-1], self.shape.scale[rows])
        total, mean = anchored.directions(mine, rows, base, self.runs, self.rule, self.stale)
        return Line(self, rows, start, total, mean, squares)


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """Some parameter rows, the bias last, on their way.

    Attributes:
        window: whose.
        rows: (r,) their numbers.
        start: (r, m) u before the step.
        total: (r, m) the summed direction.
        mean: (r, m) the mean of the moves.
        squares: (r, m) Σ gradient² after it, and what is added to it.
    """

    window: Window
    rows: np.ndarray
    start: np.ndarray
    total: np.ndarray
    mean: np.ndarray
    squares: np.ndarray

    def stepped(self, step: Step) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return u, θ and Σ gradient² (r, m) after a step, and the weight W (m,) it stands for."""
        window, o = self.window, self.window.spec.n_outputs
        columns = window.columns
        if step.mean.any():
            move = np.where(np.repeat(step.mean, o), self.mean, self.total) * np.repeat(step.length, o)
        else:
            move = self.total * np.repeat(step.length, o)
        if step.bias is not None and step.bias_mean is not None:
            at = self.rows == window.before.unit.size - 1
            way = np.where(np.repeat(step.bias_mean, o), self.mean[at], self.total[at])
            move[at] = way * np.repeat(step.bias, o)
        u = self.start + move
        gained = window.sums.total - window.sums_before.total
        counted = window.sums_before.total + np.repeat(step.share(window.runs), o) * gained
        theta = u
        if columns.penalised:
            theta = window.shape.at(self.rows).parameters(u, self.squares, columns, counted)
        return u, theta, self.squares, counted


@dataclasses.dataclass(frozen=True, slots=True)
class Tested:
    """Sampled rows, and the parameter rows that their scores need."""

    spec: AdaGrad
    columns: Columns
    shape: Shape
    data: Rows
    rows: np.ndarray
    weight: np.ndarray

    @staticmethod
    def of(spec: AdaGrad, window: Window, data: Rows, mass: np.ndarray) -> "Tested | None":
        """Return the sample's rows of positive weight, by class factors of the class masses; None if there are none."""
        if data.label.size == 0:
            return None
        rows, data = data.placed(centred=np.flatnonzero(window.shape.centre))
        weight = data.weight
        if spec.task != "regression":
            weight = weight * class_factors(spec, mass)[data.kind]
        return Tested(spec, window.columns, window.shape.at(rows), data, rows, weight)

    def sums(self, theta: np.ndarray) -> np.ndarray:
        """Return Σ weight · loss of every variant (v,), 0 of those that do not learn, with θ (r, v, o) at `rows`."""
        out = np.zeros(self.spec.n_variants)
        out[self.columns.live] = self.losses(self.columns.take(theta)) * self.weight.sum()
        return out

    def losses(self, theta: np.ndarray) -> np.ndarray:
        """Return each live variant's mean loss (l,) with parameters θ (r, m) at `rows`."""
        return mean_losses(self.spec, self.shape, self.data, self.weight, theta)

    def feature_scores(self, theta: np.ndarray) -> np.ndarray:
        """Return the linear scores (n, m), the bias left out, with parameters (r, m) at `rows`."""
        plain = theta.copy()
        plain[-1] = 0.0
        return linear_scores(self.weight.size, self.data, plain, self.shape.centre)

    def scored(self, score: np.ndarray) -> np.ndarray:
        """Return each live variant's mean loss (l,) of linear scores (n, m)."""
        return losses_of_scores(self.spec, self.shape, self.data, self.weight, score)

    def drill(self, sums: Sums) -> Drill:
        """Return the sample, parted in rows to learn from and rows held out."""
        return Drill.of(self.spec, self.columns, self.shape, self.data, self.weight, sums)


@dataclasses.dataclass(frozen=True, slots=True)
class Refined:
    """What a window's sample adds to a step.

    Attributes:
        found: parameters (r, m) at the sample's rows; None: those of the step.
        again: (l,) variants that were worse than a constant and have started again from it.
        drill: the sample, parted.
        constant: (l,) mean loss of the constant on the rows held out.
    """

    found: Found | None
    again: np.ndarray
    drill: Drill
    constant: np.ndarray

    def lost(self, theta: np.ndarray) -> np.ndarray:
        """Return which variants (l,) are worse than the constant, with parameters (r, m) at the sample's rows."""
        return ~(self.drill.measured(theta) <= self.constant * (1.0 + 1e-9))


def untried(window: Window) -> bool:
    """Return whether the step is one run's own, whole: there is nothing to choose, and nothing to learn once more."""
    return window.runs <= 1 and not window.stale and window.rule == "search"


def search(window: Window, tested: Tested | None, line: Line | None) -> Step:
    """Return the step of a window: each variant's length and direction with the least loss on the sample.

    Penalties are those of the parameters that the sample's rows have: the others' would cost a look at whole tables for
    every length. Without penalties scores are linear in the length, and two tables of scores tell all.

    Args:
        window: whose.
        tested: its sample; None if there is none.
        line: where the sample's parameter rows may go.
    """
    live, runs = window.columns.live.size, window.runs
    longer = anchored.LONG if runs > 1 else ()
    if tested is None or line is None:
        return anchored.choose_step(_no_loss, live, runs, 0, window.rule, window.stale, longer)
    judge = _Judge(window, tested, line)
    return anchored.choose_step(judge, live, runs, tested.weight.size, window.rule, window.stale, longer)


def _no_loss(step: Step) -> np.ndarray:
    """Return the losses where there is no sample: nothing is known of a step."""
    return np.full(step.length.size, np.inf)


class _Judge:
    """Each live variant's loss (l,) on the sample after a step, penalties included."""

    def __init__(self, window: Window, tested: Tested, line: Line) -> None:
        self._window, self._tested, self._line = window, tested, line
        self._kept: tuple[bytes, np.ndarray, np.ndarray] | None = None
        self._ways: list[np.ndarray] = []

    def __call__(self, step: Step) -> np.ndarray:
        score, penalty = self._features(step)
        o, line = self._window.spec.n_outputs, self._line
        length, mean = step.length, step.mean
        if step.bias is not None and step.bias_mean is not None:
            length, mean = step.bias, step.bias_mean
        bias = line.start[-1] + np.where(np.repeat(mean, o), line.mean[-1], line.total[-1]) * np.repeat(length, o)
        return self._tested.scored(score + bias) + penalty

    def _features(self, step: Step) -> tuple[np.ndarray, np.ndarray]:
        """Return scores (n, m) without the bias, and penalties (l,); kept while biases are tried."""
        key = step.length.tobytes() + step.mean.tobytes()
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, *self._found(step))
        return self._kept[1], self._kept[2]

    def _found(self, step: Step) -> tuple[np.ndarray, np.ndarray]:
        window, tested, line, o = self._window, self._tested, self._line, self._window.spec.n_outputs
        if not window.columns.penalised:
            if not self._ways:
                self._ways = [tested.feature_scores(way) for way in (line.start, line.total, line.mean)]
            start, total, mean = self._ways
            way = np.where(np.repeat(step.mean, o), mean, total) * np.repeat(step.length, o)
            return start + way, np.zeros(window.columns.live.size)
        theta = line.stepped(Step(step.length, step.mean))[1]
        return tested.feature_scores(theta), penalties(window.shape.at(line.rows), window.columns, theta)


def unrefined(window: Window, tested: Tested, theta: np.ndarray) -> Refined | None:
    """Return what the sample says of the parameters (r, m) at its rows after an untried step.

    None: a variant is worse than a constant, and must start again.
    """
    drill = tested.drill(window.sums)
    loss, constant = drill.measured(theta), drill.constant_loss()
    lost = ~(loss <= constant * (1.0 + 1e-9)) & np.isfinite(loss)
    return None if lost.any() else Refined(None, lost, drill, constant)


def refined(window: Window, tested: Tested, line: Line, step: Step) -> Refined:
    """Return the parameters at the sample's rows after a step and what the sample adds.

    With several runs, passes over the sample continue from where the step leads, as far as held-out rows say. A variant
    that is still worse than a constant on those starts again from the constant.
    """
    spec, outputs = window.spec, window.spec.n_outputs
    drill = tested.drill(window.sums)
    u, theta, squares, _ = line.stepped(step)
    best = drill.start(u, theta)
    cold = int(window.state.folds) == 0
    if window.runs >= (MANY_COLD_RUNS if cold else MANY_RUNS):
        # Many cold runs are far from where one would have ended: steps as long as if the sample came first help there.
        share = drill.weight.sum() / max(window.sums.stepped - window.sums_before.stepped, 1e-300)
        for base in (squares, squares * min(share, 1.0)) if cold else (squares,):
            further = drill.best(drill.start(u, theta), base)
            best = further.where(further.loss < best.loss, best, outputs)
    constant = drill.constant(u.shape[0])
    # One that is not finite any more is dropped, not taught.
    lost = ~(best.loss <= constant.loss * (1.0 + 1e-9)) & np.isfinite(best.loss)
    if lost.any():
        first = Sums(stepped=float(drill.weight.sum()), stepped_squares=float(drill.weight @ drill.weight))
        behind = first.behind(spec, first.unlearned(spec, u.shape[1]), drill.shape.scale)
        best = drill.best(constant, behind).where(lost, best, outputs)
    return Refined(best, lost, drill, constant.loss)
