"""Learning once more from a window's sample where runs alone do badly. Letters as in `state`; ``r`` parameter rows.

Three quarters of the sample are learned from, in a few passes; the fourth quarter says after how many of them each variant
does best, none included: it is in no pass, so the choice is honest. Two things call for it. Several runs from one anchor:
each has seen fewer rows, and their sum is less than one run over all. And a world that has moved so far that what was
learned is worse than a constant: AdaGrad's steps are too short by then to come back, so a variant starts again from that
constant.
"""

import dataclasses

import numpy as np

from beam_ml.algorithms.linear.adagrad import losses
from beam_ml.algorithms.linear.adagrad.rows import Rows
from beam_ml.algorithms.linear.adagrad.shape import Columns, Shape, Sums
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad

__all__ = ["Drill", "Found", "linear_scores", "losses_of_scores", "mean_losses", "penalties"]

_PASSES = (1, 2, 4, 8)
_HELD_OUT = 4  # every so many-th row of the sample


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What was tried last, by variant.

    Attributes:
        u: (r, m) parameters before the proximal map.
        theta: (r, m) parameters.
        squares: (r, m) Σ gradient² of the passes alone.
        loss: (l,) mean loss of each live variant on the rows held out.
    """

    u: np.ndarray
    theta: np.ndarray
    squares: np.ndarray
    loss: np.ndarray

    def where(self, chosen: np.ndarray, other: "Found", outputs: int) -> "Found":
        """Return this one's variants where `chosen` (l,) says so, the other's elsewhere."""
        mine = np.repeat(chosen, outputs)
        u, theta, squares = (np.where(mine, getattr(self, n), getattr(other, n)) for n in ("u", "theta", "squares"))
        return Found(u, theta, squares, np.where(chosen, self.loss, other.loss))


@dataclasses.dataclass(frozen=True, slots=True)
class Drill:
    """A sample, parted in rows to learn from and rows held out.

    Attributes:
        spec: the spec.
        columns: the live ones.
        shape: units at the sample's parameter rows.
        train: placed rows to learn from.
        weight: (n,) of those, averaging what a row weighs to runs.
        held: placed rows held out.
        held_weight: of those.
        total: Σ row weight so far, which penalties go by.
    """

    spec: AdaGrad
    columns: Columns
    shape: Shape
    train: Rows
    weight: np.ndarray
    held: Rows
    held_weight: np.ndarray
    total: float

    @staticmethod
    def of(spec: AdaGrad, columns: Columns, shape: Shape, data: Rows, weight: np.ndarray, sums: Sums) -> "Drill":
        """Part placed rows, whose weights with class factors stand for all rows of a window."""
        held = np.arange(weight.size) % _HELD_OUT == _HELD_OUT - 1
        typical = sums.stepped_squares / sums.stepped if sums.stepped > 0.0 else 1.0
        # Samples come class by class: one after the other, steps would follow each to its end.
        index = np.random.default_rng(spec.seed).permutation(np.flatnonzero(~held))
        mine = weight[index]
        return Drill(
            spec, columns, shape, data.chosen(index), mine * (typical * mine.size / mine.sum()),
            data.chosen(np.flatnonzero(held)), weight[held], sums.total,
        )  # fmt: skip

    def measured(self, theta: np.ndarray) -> np.ndarray:
        """Return each live variant's mean loss (l,) on the rows held out, penalties of θ (r, m) included."""
        found = mean_losses(self.spec, self.shape, self.held, self.held_weight, theta)
        return found + penalties(self.shape, self.columns, theta) if self.columns.penalised else found

    def start(self, u: np.ndarray, theta: np.ndarray) -> Found:
        """Return the start itself, for no pass at all."""
        return Found(u, theta, np.zeros_like(u), self.measured(theta))

    def best(self, found: Found, base: np.ndarray) -> Found:
        """Return the best of no pass, one, two, four and eight over the rows to learn from.

        Args:
            found: where to start.
            base: (r, m) Σ gradient² there, and what stands behind it.
        """
        best, u, squares, done = found, found.u.copy(), np.zeros_like(found.u), 0
        better = np.ones(self.columns.live.size, dtype=bool)
        for count in _PASSES:
            for _ in range(count - done):
                self.train.learn(self.spec, self.shape, self.columns, self.weight, self.total, base, squares, u)
            done = count
            theta = (
                u.copy()
                if not self.columns.penalised
                else self.shape.parameters(u, base + squares, self.columns, self.total)
            )
            now = Found(u.copy(), theta, squares.copy(), self.measured(theta))
            better = now.loss < best.loss
            best = now.where(better, best, self.spec.n_outputs)
            if not better.any():
                break
        return best

    def constant(self, r: int) -> Found:
        """Return parameters (r, m) that score every row alike: as the label's mean, median or likeliest class does."""
        theta = np.zeros((r, self.columns.rate.size))
        if self.spec.use_bias:
            theta[-1] = np.tile(self._level(), self.columns.live.size)
        return Found(theta, theta.copy(), np.zeros_like(theta), self.constant_loss())

    def constant_loss(self) -> np.ndarray:
        """Return each live variant's mean loss (l,) on the rows held out with the parameters of `constant`."""
        level = self._level() if self.spec.use_bias else np.zeros(self.spec.n_outputs)
        score = np.tile(level, (self.held_weight.size, self.columns.live.size))
        return losses_of_scores(self.spec, self.shape, self.held, self.held_weight, score)

    def _level(self) -> np.ndarray:
        """Return the scores (o,) of the constant."""
        spec, label, weight = self.spec, self.train.label, self.weight
        if spec.task == "regression":
            order = np.argsort(label, kind="stable")
            share = spec.quantile if spec.loss == "quantile" else 0.5
            at = np.searchsorted(np.cumsum(weight[order]), share * weight.sum())
            smooth = spec.loss in ("squared", "huber", "eps_insensitive_squared")
            level = np.average(label, weights=weight) if smooth else label[order[min(int(at), label.size - 1)]]
            return np.array([level - self.shape.label_centre])
        # Half a row of each class, so that a class that the sample lacks is not impossible.
        mass = np.bincount(label.astype(np.int64), weights=weight, minlength=spec.n_classes)
        mass += 0.5 * weight.mean()
        if spec.loss == "hinge":
            side = np.where(np.arange(mass.size) == np.argmax(mass), 0.5, -0.5) * spec.margin
            return side if spec.task == "multiclass" else np.array([2.0 * side[1]])
        odds = np.log(mass / mass.sum())
        return odds if spec.task == "multiclass" else np.array([odds[1] - odds[0]])


def mean_losses(spec: AdaGrad, shape: Shape, data: Rows, weight: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return each live variant's mean loss (l,) on placed rows with parameters θ (r, m); not finite: +∞."""
    return losses_of_scores(spec, shape, data, weight, linear_scores(weight.size, data, theta, shape.centre))


def losses_of_scores(spec: AdaGrad, shape: Shape, data: Rows, weight: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return each live variant's mean loss (l,) on rows with linear scores (n, m); not finite: +∞."""
    each = losses.row_losses(
        losses.code_of(spec), (score + shape.label_centre).reshape(weight.size, -1, spec.n_outputs), data.label,
        losses.shape_of(spec), 1.0 / shape.label_unit,
    )  # fmt: skip
    found = (weight @ each) / weight.sum()
    return np.where(np.isfinite(found), found, np.inf)


def penalties(shape: Shape, columns: Columns, theta: np.ndarray) -> np.ndarray:
    """Return each live variant's penalty (l,) of parameters θ (r, m), the bias last."""
    found: np.ndarray = shape.penalty(theta, columns).reshape(columns.live.size, -1).sum(axis=1)
    return found


def linear_scores(n: int, data: Rows, theta: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the linear scores (n, m) of placed rows with parameters θ (r, m), the bias last."""
    from beam_ml.kernels.adagrad import run as kernels

    if data.x is not None:
        return np.asarray(np.subtract(data.x, centre, dtype=np.float64) @ theta[:-1] + theta[-1])
    out = np.empty((n, theta.shape[1]))
    kernels.sparse_scores(*data.around(centre), np.ascontiguousarray(theta), out)
    return out
