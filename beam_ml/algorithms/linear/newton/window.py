"""Learning a window where its solution is, from sums that were linearised at an anchor.

Letters: ``n`` sampled rows, ``d`` features, ``g`` groups of rows kept apart.

At the anchor b_a the window's sums are one Newton step, exact for all its rows; the state's sums are a parabola around its
own solution. Where inputs moved, the share of positives jumped or a slope turned, that step is wrong in length and in
direction: the curvature at b_a is not the curvature at the solution. Two samples tell how the loss bends on the way, the
window's and the learner's own. As long as curvatures change by less than a factor of 4, they correct the sums::

    ∇L(b) = H(b − b_a) + ∇L(b_a) + Σ s (μ(η) − μ_a − w_a(η − η_a))(1, x)        H' = H + Σ s (w(η) − w_a)(1, x)(1, x)ᵀ

Beyond that the solution is found on the samples, their slope shifted to the exact one of all rows (the surrogate likelihood
of Jordan, Lee and Yang 2018)::

    b* = argmin Σ s ℓ(η(b), y) − shift·b        shift = (P, Q) − Σ s (y − μ_a)(1, x)

and curvature and natural parameter are taken at b*. Either way every row counts at its full weight.
"""

import dataclasses
from collections.abc import Sequence
from functools import reduce

import numpy as np
from scipy.linalg import lapack

from beam_ml.algorithms.linear.newton import blocks
from beam_ml.algorithms.linear.newton.blocks import Rows, Shape
from beam_ml.algorithms.linear.newton.losses import LOSSES
from beam_ml.algorithms.linear.newton.solve import column_scale, inverse_or_zero, solve
from beam_ml.algorithms.linear.newton.spec import Newton
from beam_ml.algorithms.linear.newton.sums import VARIANCE_FLOOR, Point, Sums, linear_score, merge_sums, no_sums
from beam_ml.algorithms.linear.newton.thin import secant, thin_columns, usual_rows

__all__ = ["View", "learned"]

_NEGLIGIBLE = 1e-6  # nats of the posterior that are not worth a correction
_ALIKE = 4.0  # factor by which curvatures may differ for one to be a correction of the other
_MAX_CORRECTIONS = 8
_RIDGE = 0.01  # of a sampled row's weight, around the posterior's mode, where there is one
_SETTLED = 1e-4  # squared length of the last step, per parameter, in nats


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """Rows as a fold sees them: all of them by their sums, some of them as they are.

    Attributes:
        sums: by group, linearised at `anchor`, with their slope there.
        anchor: where.
        rows: n sampled rows, weighted to stand for all.
        shape: origin, means, deviations and class masses of all rows.
    """

    sums: list[Sums]
    anchor: Point
    rows: Rows
    shape: Shape


def learned(
    spec: Newton, state: list[Sums], before: View | None, views: Sequence[View], mass: np.ndarray
) -> list[Sums]:
    """Return the sums, by group, of a state and of rows not yet learned from.

    All sums are added, which is exact for all rows near the anchors. What they leave out further away is measured on the
    samples: slope and curvature at the solution less those that the sums say. Where curvatures change by more than a factor
    of 4, it is no correction any more, and the samples alone say how the loss bends between anchor and solution.

    Args:
        spec: the spec.
        state: the sums so far.
        before: the same as a view, at its own solution; None: they are a parabola wherever the solution is.
        views: at least one.
        mass: (c,) class masses of all, which "balanced" uses.
    """
    prior = state if before is None else [no_sums(one.origin) for one in state]
    seen = [_Seen.of(spec, one, mass) for one in (views if before is None else (before, *views))]
    made = [reduce(merge_sums, group).without_pull() for group in zip(prior, *(one.near for one in seen), strict=True)]
    step = solve(blocks.combine(spec, made, mass))
    near = _corrected(spec, made, seen, mass, step) if step.is_finite else None
    if near is not None:
        return near
    fresh = _at_solution(spec, blocks.combine(spec, prior, mass), seen, mass, step)
    return [merge_sums(a, b) for a, b in zip(prior, fresh, strict=True)]


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    """A view, and what its sample lacks.

    Attributes:
        view: the view.
        weight: (n,) of the sampled rows, class factors applied.
        near: by group, the view's sums, stiffened where the sample cannot vouch for a column.
        stiff: (d,) curvature of such columns by all rows; 0 in all others.
        usual: (n,) whether a row carries none of such columns: what few rows say of them is left to the sums.
    """

    view: View
    weight: np.ndarray
    near: list[Sums]
    stiff: np.ndarray
    usual: np.ndarray

    @staticmethod
    def of(spec: Newton, view: View, mass: np.ndarray) -> "_Seen":
        weight = blocks.effective_weight(view.rows.label, view.rows.weight, blocks.positive_factor(spec, mass))
        thin = thin_columns(view.shape, view.rows, weight)
        full = blocks.combine(spec, view.sums, mass)
        known = np.diagonal(full.scatter) * thin
        stiff = np.maximum(secant(view.shape, full, float(weight.sum())) * thin, known)
        near = [_sprung(one, stiff - known, view.anchor) if k == 0 else one for k, one in enumerate(view.sums)]
        return _Seen(view, weight, near, stiff, usual_rows(view.shape, view.rows, weight, thin))

    def slope_left_out(self, spec: Newton, at: Point) -> tuple[float, np.ndarray]:
        """Return what linearising leaves out of the slope at a point, by intercept and coefficients around its origin."""
        loss, rows = LOSSES[spec.loss], self.view.rows
        before, after = linear_score(rows.x, self.view.anchor), linear_score(rows.x, at)
        mu = loss.mean(before)
        w = np.maximum(loss.variance(mu), VARIANCE_FLOOR)
        slope = self.usual * self.weight * (loss.mean(after) - mu - w * (after - before))
        return float(slope.sum()), slope @ np.subtract(rows.x, at.origin, dtype=np.float64)

    def bends(self, spec: Newton, at: Point) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return by how much the curvature of rows at a point exceeds that at the anchor: weights and features by group."""
        loss, rows = LOSSES[spec.loss], self.view.rows
        w, fresh = (
            np.maximum(loss.variance(loss.mean(linear_score(rows.x, one))), VARIANCE_FLOOR)
            for one in (self.view.anchor, at)
        )
        bend = self.usual * (fresh - w)
        if len(self.near) == 1:
            return [(self.weight * bend, rows.x)]
        # Groups are kept apart at their own weights; the class factor comes when they are combined.
        kinds = [(rows.label >= 0.5) == bool(k) for k in (0, 1)]
        return [((rows.weight * bend)[kind], rows.x[kind]) for kind in kinds]


def _corrected(
    spec: Newton, made: list[Sums], seen: Sequence[_Seen], mass: np.ndarray, step: Point
) -> list[Sums] | None:
    """Correct sums for what they leave out between the anchors and their solution; None where that is too much.

    The remainder of a view's slope, ``Σ s (μ(η) − μ_a − w_a(η − η_a))(1, x)``, and of its curvature,
    ``Σ s (w(η) − w_a)(1, x)(1, x)ᵀ``, have little noise even on a small sample, as they are small themselves.
    """
    at, settled = step, _SETTLED * (step.coefficients.size + 1.0)
    total = blocks.combine(spec, made, mass)
    for k in range(_MAX_CORRECTIONS):
        left_out = [one.slope_left_out(spec, at) for one in seen]
        bias, by = sum(one[0] for one in left_out), np.sum([one[1] for one in left_out], axis=0)
        if k == 0 and _nats(total, bias, by) <= _NEGLIGIBLE:
            return made
        # The next fold uses the curvature at the very point where this one ends.
        grown = _grown(spec, made, seen, at)
        if grown is None:
            return None
        best = blocks.combine(spec, grown, mass)
        # The slope of the sums' parabola at this point, and what it leaves out.
        fallen = _slope(total, at)
        bias, by = bias + fallen[0], by + fallen[1]
        if _nats(best, bias, by) <= 0.5 * settled:
            return [_resting(grown[0], best, at), *grown[1:]]
        move = solve(dataclasses.replace(best, response=-bias, cross=-(by - best.mean * bias)))
        at = Point(at.coefficients + move.coefficients, at.intercept + move.at(at.origin).intercept, at.origin)
        if not at.is_finite:
            return None
    return None


def _grown(spec: Newton, made: list[Sums], seen: Sequence[_Seen], at: Point) -> list[Sums] | None:
    """Return the sums with the curvature at a point; None where it is not alike."""
    grown = made
    for one in seen:
        grown = [_bent(sums, bend) for sums, bend in zip(grown, one.bends(spec, at), strict=True)]
    return grown if all(_alike(a, b) for a, b in zip(made, grown, strict=True)) else None


def _slope(sums: Sums, at: Point) -> tuple[float, np.ndarray]:
    """Return the slope of the sums' parabola at a point, by intercept and by coefficients around their origin."""
    centred = sums.scatter @ at.coefficients - sums.cross
    at_mean = at.at(sums.origin).intercept + float(sums.mean @ at.coefficients)
    bias = sums.information * at_mean - sums.response
    return bias, centred + sums.mean * bias


def _nats(sums: Sums, bias: float, by: np.ndarray) -> float:
    """Return by how much the loss falls along a slope (bias, by) around the sums' origin under their curvature."""
    move = solve(dataclasses.replace(sums, response=bias, cross=by - sums.mean * bias))
    found = 0.5 * (bias * move.at(sums.origin).intercept + float(by @ move.coefficients))
    return found if np.isfinite(found) else np.inf


def _bent(sums: Sums, bend: tuple[np.ndarray, np.ndarray]) -> Sums:
    """Add curvature Σ v(x − o)(x − o)ᵀ of rows with weights v of either sign; mean and total weight follow.

    Around the mean of before, so that little is lost to rounding: S + Σ v z zᵀ − W' u uᵀ with u = Σ v z / W'.
    """
    v, x = bend
    if sums.information == 0.0 or v.size == 0:
        return sums
    z = np.subtract(x, sums.origin + sums.mean, dtype=np.float64)
    total = sums.information + float(v.sum())
    if total <= 0.0:
        return dataclasses.replace(sums, information=-1.0)
    first = v @ z
    u = first / total
    scatter = sums.scatter + (z * v[:, None]).T @ z
    scatter -= np.outer(first, u)
    return dataclasses.replace(sums, information=total, mean=sums.mean + u, scatter=scatter)


def _alike(a: Sums, b: Sums) -> bool:
    """Return whether curvatures are within a factor of 4 of each other in every direction."""
    if a.information == 0.0:
        return True
    if not a.information / _ALIKE < b.information < a.information * _ALIKE:
        return False
    inverse = inverse_or_zero(column_scale(a))
    used = inverse > 0
    by = np.outer(inverse[used], inverse[used])
    first, second = (one.scatter[np.ix_(used, used)] * by for one in (a, b))
    noise = 1e-9 * np.eye(first.shape[0])
    return all(_is_positive(_ALIKE * one - other + noise) for one, other in ((first, second), (second, first)))


def _is_positive(matrix: np.ndarray) -> bool:
    return matrix.shape[0] == 0 or (bool(np.isfinite(matrix).all()) and not lapack.dpotrf(matrix, lower=1)[1])


def _sprung(sums: Sums, spring: np.ndarray, anchor: Point) -> Sums:
    """Add a curvature (d,) around the anchor's coefficients."""
    if not spring.any() or sums.information == 0.0:
        return sums
    scatter = sums.scatter + np.diag(spring)
    return dataclasses.replace(sums, scatter=scatter, cross=sums.cross + spring * anchor.coefficients)


def _leant(sums: Sums, bias: float, by: np.ndarray) -> Sums:
    """Add a slope by intercept and coefficients (d,), around the sums' origin."""
    if sums.information == 0.0:
        return sums
    return dataclasses.replace(sums, response=sums.response + bias, cross=sums.cross + by - sums.mean * bias)


def _at_solution(spec: Newton, prior: Sums, seen: Sequence[_Seen], mass: np.ndarray, step: Point) -> list[Sums]:
    """Linearise the sampled rows again where they, the shift of their slope and the prior are at their optimum."""
    loss, factor, origin = LOSSES[spec.loss], blocks.positive_factor(spec, mass), step.origin
    chunks = [one.view.rows for one in seen]
    sampled = [blocks.at_point(spec, one.view.anchor.at(origin), one.view.rows) for one in seen]
    shifts = _shifts(seen, sampled, origin)
    # What the sampled rows lack of the curvature of columns for which they cannot vouch.
    springs = [
        np.maximum(one.stiff - np.diagonal(blocks.combine(spec, some, mass).scatter) * (one.stiff > 0.0), 0.0)
        for one, some in zip(seen, sampled, strict=True)
    ]
    scales = (1.0, factor)[: len(shifts)]
    bias = sum(scale * one[0] for scale, one in zip(scales, shifts, strict=True))
    by = np.sum([scale * one[1] for scale, one in zip(scales, shifts, strict=True)], axis=0)
    weight = np.array([one.weight.sum() for one in chunks])
    unit = float(weight.sum()) / sum(one.label.size for one in chunks)
    variance = (weight / weight.sum()) @ np.array([np.square(one.view.shape.scale) for one in seen])
    flat = blocks.flat_fit(chunks, factor, unit, origin)
    # Without a prior the first view is what there was before.
    mode = solve(prior).at(origin) if prior.information > 0 else seen[0].view.anchor.at(origin)
    if not mode.is_finite:
        mode = flat
    ridge = _RIDGE * unit * variance

    def sums_at(at: Point) -> tuple[list[Sums], Sums]:
        by_group = zip(*(blocks.at_point(spec, at, one) for one in chunks), strict=True)
        made = [_leant(reduce(merge_sums, group), *shift) for group, shift in zip(by_group, shifts, strict=True)]
        for one, spring in zip(seen, springs, strict=True):
            made[0] = _sprung(made[0], spring, one.view.anchor)
        total = merge_sums(prior, blocks.combine(spec, made, mass))
        return made, dataclasses.replace(
            total, scatter=total.scatter + np.diag(ridge), cross=total.cross + ridge * mode.coefficients
        )

    def value(at: Point) -> float:
        found = 0.5 * blocks.distance(prior, mode, at) - float(bias) * at.intercept - float(by @ at.coefficients)
        found += 0.5 * float(ridge @ np.square(at.coefficients - mode.coefficients))
        for one, spring in zip(seen, springs, strict=True):
            found += float(blocks.row_loss(loss, at, one.view.rows) @ one.weight)
            found += 0.5 * float(spring @ np.square(at.coefficients - one.view.anchor.coefficients))
        return found if np.isfinite(found) else np.inf

    start = min((one for one in (mode, step, flat) if one.is_finite), key=value)
    _, found = blocks.descend(sums_at, value, start, flat, lambda _: _SETTLED * (origin.size + 1.0))
    made = sums_at(found)[0]
    made[0] = _resting(made[0], merge_sums(prior, blocks.combine(spec, made, mass)), found)
    return [one.without_pull() for one in made]


def _resting(sums: Sums, total: Sums, point: Point) -> Sums:
    """Take off the slope that is left of a total at a point, in one of its groups, so that its mode is there."""
    bias, by = _slope(total, point)
    return _leant(sums, bias, by + (total.origin - sums.origin) * bias)


def _shifts(seen: Sequence[_Seen], sampled: Sequence[list[Sums]], origin: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Return by group what the slope of all rows at their anchors exceeds the sample's by, around an origin."""
    shifts = []
    for g in range(len(sampled[0])):
        bias, by = 0.0, np.zeros(origin.size)
        for one, part in zip(seen, sampled, strict=True):
            full, some = one.view.sums[g], part[g]
            bias += full.pull - some.pull
            by += full.pull_by + full.pull * (full.origin - origin) - some.pull_by
        shifts.append((bias, by))
    return shifts
