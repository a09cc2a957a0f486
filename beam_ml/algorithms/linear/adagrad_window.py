"""What a fold's steps are taken from, and the sample they are judged by. Letters as in `adagrad`; ``n`` sampled rows."""

import dataclasses

import numpy as np

from beam_ml.algorithms import anchored
from beam_ml.algorithms.anchored import Moves, Rule, Step
from beam_ml.algorithms.linear.adagrad import State, fading
from beam_ml.algorithms.linear.adagrad_refine import Drill, Found, mean_losses
from beam_ml.algorithms.linear.adagrad_rows import Rows, class_factors, present
from beam_ml.algorithms.linear.adagrad_shape import Columns, Shape, Sums, lift
from beam_ml.algorithms.linear.adagrad_spec import AdaGrad
from beam_ml.core.batch import Batch

__all__ = ["MANY_RUNS", "Refined", "Tested", "Window", "refined"]

MANY_RUNS = 4
"""Runs from which a window's sample is learned from once more."""
_ROWS_AT_ONCE = 1 << 14  # parameter rows whose penalty is computed together, so that what is on the way fits the cache


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
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
    def of(spec: AdaGrad, window: Window, sample: Batch, mass: np.ndarray) -> "Tested | None":
        """Return the sample's rows of positive weight, by class factors of the class masses; None: there is none."""
        data = present(spec, sample)
        if data.label.size == 0:
            return None
        rows, data = data.placed()
        weight = data.weight
        if spec.task != "regression":
            weight = weight * class_factors(spec, mass)[data.kind]
        return Tested(spec, window.columns, window.shape, data, rows, weight)

    def sums(self, theta: np.ndarray) -> np.ndarray:
        """Give Σ weight · loss of every variant (v,), 0 of those that do not learn, with θ (r, v, o) at `rows`."""
        out = np.zeros(self.spec.n_variants)
        out[self.columns.live] = self.losses(self.columns.take(theta)) * self.weight.sum()
        return out

    def losses(self, theta: np.ndarray) -> np.ndarray:
        """Give each live variant's mean loss (l,) with parameters θ (r, m) at `rows`."""
        return mean_losses(self.spec, self.shape, self.data, self.weight, theta)

    def drill(self, sums: Sums) -> Drill:
        """Return the sample parted for learning from it."""
        return Drill.of(self.spec, self.columns, self.shape.at(self.rows), self.data, self.weight, sums)


@dataclasses.dataclass(frozen=True, slots=True)
class Refined:
    """What a window's sample adds to a step.

    Attributes:
        found: parameters (r, m) at the sample's rows.
        again: (l,) variants that were worse than a constant and have started again from it.
        drill: the sample, parted.
        constant: (l,) mean loss of the constant on the rows held out.
    """

    found: Found
    again: np.ndarray
    drill: Drill
    constant: np.ndarray

    def lost(self, theta: np.ndarray) -> np.ndarray:
        """Tell which variants (l,) are worse than the constant, with parameters (r, m) at the sample's rows."""
        return ~(self.drill.measured(theta) <= self.constant * (1.0 + 1e-9))


def refined(window: Window, tested: Tested, step: Step) -> Refined:
    """Return the parameters at the sample's rows after a step and what the sample adds.

    With many runs, passes over the sample go on from where the step leads, as far as rows held out say. A variant that is
    still worse than a constant on those starts again from the constant.
    """
    spec, outputs = window.spec, window.spec.n_outputs
    drill = tested.drill(window.sums)
    u, theta, squares, _ = window.stepped(tested.rows, step)
    best = drill.start(u, theta)
    if window.runs >= MANY_RUNS:
        share = drill.weight.sum() / max(window.sums.stepped - window.sums_before.stepped, 1e-300)
        for base in (squares, squares * min(share, 1.0)):
            further = drill.best(drill.start(u, theta), base)
            best = further.where(further.loss < best.loss, best, outputs)
    constant = drill.constant(u.shape[0])
    lost = ~(best.loss <= constant.loss * (1.0 + 1e-9))
    if lost.any():
        first = Sums(stepped=drill.weight.size, stepped_squares=float(drill.weight @ drill.weight))
        behind = first.behind(spec, first.unlearned(spec, u.shape[1]), drill.shape.scale)
        best = drill.best(constant, behind).where(lost, best, outputs)
    return Refined(best, lost, drill, constant.loss)
