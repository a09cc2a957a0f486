"""Merging two learners' states of `linear.adagrad`. Letters as in `state`; ``r`` parameter rows of the joint sample.

Sums add exactly; parameters do not. Two learners of one world are best averaged, of two worlds perhaps neither is of use:
which it is, their own samples say, each weighted to stand for all its rows. Of either one's parameters, their means in
several shares and the mean by each coordinate's Σ gradient², every variant takes what has the least loss on both samples
together; then a few passes over those continue from there, as far as held-out rows say, or from a constant if that is
better. So no merged variant is worse on the joint sample than the better of the two, or than a constant. Without samples
the coordinates' means are taken, which are only good between learners of one world.
"""

import numpy as np

from beam_ml.algorithms.linear.adagrad.arrays import State
from beam_ml.algorithms.linear.adagrad.known import Known, widened
from beam_ml.algorithms.linear.adagrad.moments import joined
from beam_ml.algorithms.linear.adagrad.refine import Drill, Found, mean_losses
from beam_ml.algorithms.linear.adagrad.rows import Rows, class_factors, present
from beam_ml.algorithms.linear.adagrad.shape import Columns, Shape, Sums, kept_moments, lift, shape_of_tables
from beam_ml.algorithms.linear.adagrad.spec import AdaGrad
from beam_ml.algorithms.linear.adagrad.state import sums_of, weight
from beam_ml.core.batch import Batch

__all__ = ["merge_states", "shift", "shifted"]

_SHARES = (1.0, 0.0, 0.5, 0.25, 0.75)
_WORST = 1e280


def shifted(theta: np.ndarray, before: Shape, after: Shape) -> np.ndarray:
    """Return a copy of θ (p, v, o) whose bias follows the means, so that every score stays as it is."""
    out = theta.copy()
    shift(out, before, after)
    return out


def shift(theta: np.ndarray, before: Shape, after: Shape) -> None:
    """Move the bias of θ (p, v, o) in place as the means move, so that every score stays as it is."""
    gap = after.centre - before.centre
    if gap.any():
        theta[-1] += np.tensordot(gap, theta[:-1], axes=1)
    theta[-1] -= after.label_centre - before.label_centre


def merge_states(
    spec: AdaGrad, a: State, b: State, sample_a: Batch | None = None, sample_b: Batch | None = None
) -> State:
    """Merge two learners' states.

    A variant learns on if it does in both, or in either where there is none of the kind; its age is the elder's.

    Args:
        spec: of both.
        a: one.
        b: the other.
        sample_a: rows of the first, weighted to stand for all of them.
        sample_b: rows of the second.
    """
    if weight(a) <= 0.0 or weight(b) <= 0.0:
        return b if weight(a) <= 0.0 else a
    rows = None
    if sample_a is not None and sample_b is not None and len(sample_a) and len(sample_b):
        rows = present(spec, _together(sample_a, sample_b))
    known = Known.of(spec, (a.rows, b.rows), () if rows is None else (rows,))
    a, b = widened(spec, a, known.rows), widened(spec, b, known.rows)
    everything = np.arange(known.rows.size)
    mass = weight(a) + weight(b)
    moments = kept_moments(spec, joined(a.moments, b.moments), mass)
    sums = sums_of(a).plus(sums_of(b))
    after = shape_of_tables(spec, moments, everything, mass, sums.pace)
    homes = [shape_of_tables(spec, one.moments, everything, weight(one)) for one in (a, b)]
    squares = a.squares + b.squares
    share = np.divide(a.squares, squares, out=np.full_like(squares, 0.5), where=squares > 0)
    thetas = [shifted(one.theta, home, after) for one, home in zip((a, b), homes, strict=True)]
    averages = [shifted(one.average, home, after) for one, home in zip((a, b), homes, strict=True) if spec.averaging]
    both = np.maximum(a.status, b.status)
    status = both if (both == 0).any() else np.minimum(a.status, b.status)
    average_loss = a.average_loss + b.average_loss
    loss = a.loss + b.loss
    theta = share * thetas[0] + (1.0 - share) * thetas[1]
    average = share * averages[0] + (1.0 - share) * averages[1] if spec.averaging else a.average
    if rows is not None:
        columns = Columns.of(spec, status)
        joint = _Joint(spec, columns, after, known.numbered(rows), a.mass + b.mass, sums)
        if joint.data.label.size:
            theta, chosen = joint.chosen(thetas, theta, squares)
            if spec.averaging:
                average = joint.averaged(averages, average, theta, chosen)
                same = (average == theta).all(axis=(0, 2))
                average_loss = np.where(same, np.maximum(average_loss, loss), average_loss)
    slack = a.slack
    if slack.size:
        slack = np.where(theta == 0, share * a.slack + (1.0 - share) * b.slack, 0.0)
    return State(
        rows=known.rows, theta=theta, slack=slack, average=average, squares=squares,
        faded=np.ones(()), total=np.asarray(a.total + b.total), stepped=np.asarray(a.stepped + b.stepped),
        stepped_squares=np.asarray(a.stepped_squares + b.stepped_squares), norm=np.asarray(a.norm + b.norm),
        mass=a.mass + b.mass, moments=moments, run_loss=np.minimum(a.run_loss + b.run_loss, _WORST),
        run_weight=np.asarray(a.run_weight + b.run_weight), loss=loss, average_loss=average_loss,
        loss_weight=np.asarray(a.loss_weight + b.loss_weight), status=status,
        length=np.zeros_like(a.length), folds=np.maximum(a.folds, b.folds), seen=np.asarray(a.seen + b.seen),
    )  # fmt: skip


def _together(a: Batch, b: Batch) -> Batch:
    """Return both samples in an order that is the same whichever learner comes first."""
    keys = [
        (float(one.weights.sum()), len(one), 0.0 if one.label is None else float(one.label.sum())) for one in (a, b)
    ]
    parts = [a, b] if keys[0] <= keys[1] else [b, a]
    return Batch.concat([part.replace(origin=None, position=None, position_end=None) for part in parts])


class _Joint:
    """The joint sample, and what is chosen by it."""

    def __init__(self, spec: AdaGrad, columns: Columns, shape: Shape, data: Rows, mass: np.ndarray, sums: Sums) -> None:
        self.rows, self.data = data.placed(centred=np.flatnonzero(shape.centre))
        self.weight = self.data.weight
        if spec.task != "regression":
            self.weight = self.weight * class_factors(spec, mass)[self.data.kind]
        self.spec, self.columns, self.shape, self.sums = spec, columns, shape.at(self.rows), sums

    def losses(self, theta: np.ndarray) -> np.ndarray:
        """Return each live variant's mean loss (l,) with parameters (r, m)."""
        return mean_losses(self.spec, self.shape, self.data, self.weight, theta)

    def chosen(
        self, thetas: list[np.ndarray], by_row: np.ndarray, squares: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return parameters (p, v, o), and by variant (v,) which of the candidates they began with."""
        spec, columns, o = self.spec, self.columns, self.spec.n_outputs
        tried = [by_row, *(t * thetas[0] + (1.0 - t) * thetas[1] for t in _SHARES)]
        found = np.stack([self.losses(columns.rows(one, self.rows)) for one in tried])
        which = np.zeros(spec.n_variants, dtype=np.int64)
        which[columns.live] = np.argmin(found, axis=0)
        theta = by_row.copy()
        for i, one in enumerate(tried):
            theta[:, which == i] = one[:, which == i]
        # Passes over the sample, from there or from a constant.
        drill = Drill.of(spec, columns, self.shape, self.data, self.weight, self.sums)
        base = columns.rows(squares, self.rows)
        base = base + self.sums.behind(spec, base[-1], self.shape.scale)
        here = columns.rows(theta, self.rows)
        start = drill.start(lift(here, None, base, columns, self.shape, self.sums.total), here)
        best = drill.best(start, base)
        constant = drill.constant(self.rows.size)
        first = Sums(stepped=float(drill.weight.sum()), stepped_squares=float(drill.weight @ drill.weight))
        restart = first.behind(spec, first.unlearned(spec, base.shape[1]), self.shape.scale)
        fresh = drill.best(constant, restart)
        again = (fresh.loss < best.loss) & (self.losses(constant.theta) < found.min(axis=0))
        best = fresh.where(again, best, o)
        better = self.losses(best.theta) < found.min(axis=0)
        kept = Found(start.u, here, start.squares, start.loss)
        best = best.where(better, kept, o)
        theta[:, columns.live[again & better]] = 0.0
        theta[np.ix_(self.rows, columns.live)] = columns.put(best.theta)[:, columns.live]
        which[columns.live[better]] = -1
        return theta, which

    def averaged(
        self, averages: list[np.ndarray], by_row: np.ndarray, theta: np.ndarray, which: np.ndarray
    ) -> np.ndarray:
        """Return means of parameters, merged as the parameters were; those that are worse than these are these."""
        out = by_row.copy()
        for i, t in enumerate(_SHARES, start=1):
            out[:, which == i] = (t * averages[0] + (1.0 - t) * averages[1])[:, which == i]
        worse = self.losses(self.columns.rows(out, self.rows)) > self.losses(self.columns.rows(theta, self.rows))
        gone = np.union1d(self.columns.live[worse], np.flatnonzero(which < 0))
        out[:, gone] = theta[:, gone]
        return out
