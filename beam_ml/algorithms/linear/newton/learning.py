"""`linear.newton`: linear models by Newton steps that add up.

Letters: ``n`` rows, ``d`` features, ``p`` pending rows.

With an anchor, `accumulate` linearises every row there: one step of iteratively reweighted least squares whose sums
add exactly over rows, shards and anchors. Without one ("cold") rows stay pending until a block of them has at least
4,096 rows and 10(d + 1) of the rarer class; then Newton steps solve the block with everything before it as prior, and
its sums are added. The idea is streaming distributed Bayes (Broderick et al. 2013) with renewable estimation (Luo and
Song 2020). Where the world has moved away from the anchor, the fold learns the window at its solution
(`beam_ml.algorithms.linear.newton.window`): no row's weight is lost, and the model stays that of a batch fit of the rows as
weighted.

Squared loss needs no anchor: its partial is EXACT and State is Partial. Logistic loss is ANCHORED; cold merging puts
pending rows together, exactly and in an order of its own, up to ``pending_bytes``; beyond that it closes blocks, so
only the stated loss bound holds.
"""

import dataclasses

import numpy as np
from jaxtyping import Float64

from beam_ml.algorithms.linear.newton import blocks, window
from beam_ml.algorithms.linear.newton.blocks import Rows, Shape
from beam_ml.algorithms.linear.newton.losses import LOSSES
from beam_ml.algorithms.linear.newton.solve import solve
from beam_ml.algorithms.linear.newton.spec import Newton
from beam_ml.algorithms.linear.newton.sums import (
    Partial,
    Point,
    Sums,
    empty,
    groups,
    join,
    key_order,
    merge_sums,
    moments,
    row_keys,
    with_groups,
)
from beam_ml.algorithms.linear.newton.window import View
from beam_ml.algorithms.shared.origin import smallest_row
from beam_ml.core.algorithm import Law, LawKind, check_batch
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.batch import Batch

__all__ = [
    "Anchor",
    "accumulate",
    "anchor",
    "fold",
    "grown_from",
    "identity",
    "law",
    "merge",
    "merge_states",
    "scale",
    "weight",
]


@array_dataclass
class Anchor:
    """The parameters that workers linearise at: η = intercept + (x − origin)·coefficients.

    >>> from beam_ml import fit, linear
    >>> rows = Batch.dense([[0.0], [1.0], [2.0], [3.0]] * 2000, label=[0.0, 1.0, 0.0, 1.0] * 2000)
    >>> learner = fit(linear.Newton(n_features=1, loss="logistic"), [rows])
    >>> anchor = linear.NEWTON.anchor(learner.spec, learner.state)
    >>> anchor.coefficients.round(1).tolist(), round(float(anchor.intercept), 1), anchor.origin.tolist()
    ([0.9], -1.4, [0.0])
    """

    coefficients: Float64[np.ndarray, "d"]  # per feature unit
    intercept: Float64[np.ndarray, ""]  # η at the origin
    origin: Float64[np.ndarray, "d"]  # feature units


def law(spec: Newton) -> Law:
    """Say what the partial promises: EXACT for squared loss, ANCHORED and homomorphic for the others."""
    if LOSSES[spec.loss].constant:
        return Law(LawKind.EXACT, rtol=1e-9, drift=1.03)
    return Law(LawKind.ANCHORED, rtol=1e-9, homomorphic=True, across_anchors=True, drift=1.08)


def identity(spec: Newton) -> Partial:
    """Return the identity of `merge`, which is also the state before any row."""
    return empty(spec.n_features, 2 if spec.positive_weight == "balanced" else 1, spec.n_label_classes)


def weight(summary: Partial) -> float:
    """Return the rows' total (decayed) weight, pending ones included."""
    return float(summary.mass.sum())


def merge(spec: Newton, a: Partial, b: Partial) -> Partial:
    """Merge two partials (or states) of one spec."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _within_cap(spec, join(a, b))


def scale(spec: Newton, summary: Partial, factor: float) -> Partial:
    """Weigh all rows by a factor: forgetting. Parameters do not move, the rows behind them count less."""
    if factor == 1.0:
        return summary
    if weight(summary) * factor == 0.0:
        return identity(spec)
    scaled = dataclasses.replace(
        summary,
        mass=summary.mass * factor,
        feature_scatter=summary.feature_scatter * factor,
        pending_weight=summary.pending_weight * factor,
        started=np.asarray(summary.started * factor),
        underdetermined=np.asarray(summary.underdetermined * factor),
    )
    return with_groups(scaled, [one.scaled(factor) for one in groups(summary)])


def anchor(spec: Newton, state: Partial) -> Anchor | None:
    """Return the parameters to linearise at; None for squared loss, or before a block has closed."""
    point = None if LOSSES[spec.loss].constant else solution(spec, state)
    if point is None:
        return None
    return Anchor(point.coefficients, np.asarray(point.intercept), point.origin)


def grown_from(spec: Newton, state: Partial) -> Anchor | None:
    """Return the anchor that a partial's rows were linearised at; of several, their mean weighted by rows."""
    point = _anchor_of(state)
    return None if point is None else Anchor(point.coefficients, np.asarray(point.intercept), point.origin)


def settle(spec: Newton, partial: Partial, anchor: Anchor) -> Partial:
    """Linearise a partial's pending rows at an anchor, as if it had been there before them."""
    rows = pending_rows(partial)
    if rows.label.size == 0:
        return partial
    with np.errstate(over="ignore", invalid="ignore"):
        point = Point(anchor.coefficients, float(anchor.intercept), anchor.origin).at(partial.origin)
        sums = [merge_sums(a, b) for a, b in zip(groups(partial), blocks.at_point(spec, point, rows), strict=True)]
        started = float(partial.started) + float(rows.weight.sum())
        share = float(rows.weight.sum()) / started if started > 0.0 else 0.0
        left = dataclasses.replace(
            _without_pending(partial),
            start=partial.start + share * (point.coefficients - partial.start),
            start_bias=np.asarray(partial.start_bias + share * (point.intercept - partial.start_bias)),
            started=np.asarray(started),
        )
        return with_groups(left, sums)


def solution(spec: Newton, state: Partial) -> Point | None:
    """Solve for the parameters that the sums determine (pending rows aside); None without sums."""
    total = blocks.combine(spec, groups(state), state.mass)
    if total.information == 0.0:
        return None
    return solve(total).at(state.origin)


def accumulate(spec: Newton, partial: Partial, batch: Batch, anchor: Anchor | None = None) -> Partial:
    """Add a batch's rows: to the sums at the anchor, or cold to the pending rows and blocks."""
    check_batch(spec, batch)
    rows = present(batch)
    if rows.label.size == 0:
        return partial
    with np.errstate(over="ignore", invalid="ignore"):
        fresh = _described(spec, rows)
        if LOSSES[spec.loss].constant:
            sums = blocks.squared_sums(fresh.origin, rows)
            variance = np.diagonal(sums.scatter).copy()
            fresh = dataclasses.replace(fresh, feature_mean=sums.mean, feature_scatter=variance)
            return join(partial, with_groups(fresh, [sums]))
        mean, scatter = moments(rows.x, fresh.origin, rows.weight)
        fresh = dataclasses.replace(fresh, feature_mean=mean, feature_scatter=scatter)
        if anchor is not None:
            point = Point(anchor.coefficients, float(anchor.intercept), anchor.origin).at(fresh.origin)
            started = np.asarray(rows.weight.sum())
            fresh = dataclasses.replace(
                fresh, start=point.coefficients, start_bias=np.asarray(point.intercept), started=started
            )
            return join(partial, with_groups(fresh, blocks.at_point(spec, point, rows)))
        if blocks.is_full([partial.pending_label, rows.label], spec.n_features):
            # Nothing of the batch need be copied: all of it goes into the block.
            return _without_pending(_closed(spec, join(partial, fresh), [pending_rows(partial), rows]))
        return _within_cap(spec, join(partial, _pending(fresh, rows)))


def fold(spec: Newton, state: Partial, partial: Partial, sample: Batch | None, past: Batch | None = None) -> Partial:
    """Learn a window at its full weight: by its sums where one step from its anchor is good enough, else at its solution.

    See `beam_ml.algorithms.linear.newton.window`. Pending rows are solved as a block once there are enough of them, or any
    posterior to go by.

    Args:
        spec: the spec.
        state: before.
        partial: the window's.
        sample: rows of the window, weighted to stand for all of them; None: one step is taken unseen.
        past: rows weighted to stand for all that the state has learned; None: its parabola stands for them everywhere.
    """
    if LOSSES[spec.loss].constant or weight(partial) == 0.0:
        return join(state, partial)
    with np.errstate(over="ignore", invalid="ignore"):
        total = _without_anchor(join(state, partial))
        fresh = None if sample is None else _view(partial, _anchor_of(partial), sample)
        if fresh is not None:
            before = None if past is None else _view(state, solution(spec, state), past)
            total = with_groups(total, window.learned(spec, groups(state), before, [fresh], total.mass))
        if total.pending_key.size and total.information.sum() > 0:
            return _closed_pending(spec, total)
        return _settled(spec, total)


def merge_states(
    spec: Newton, a: Partial, b: Partial, sample_a: Batch | None = None, sample_b: Batch | None = None
) -> Partial:
    """Merge two learners' states; where they lie far apart, their sums are taken again at the joint samples' optimum.

    Each state's sums are a parabola around its own parameters, which is false far from them.

    Args:
        spec: the spec.
        a: one.
        b: the other.
        sample_a: rows weighted to stand for all that `a` has learned.
        sample_b: the same of `b`; without either, the sums are added as they are.
    """
    total = merge(spec, a, b)
    if LOSSES[spec.loss].constant or sample_a is None or sample_b is None:
        return total
    with np.errstate(over="ignore", invalid="ignore"):
        views = [_view(one, solution(spec, one), rows) for one, rows in ((a, sample_a), (b, sample_b))]
        if views[0] is None or views[1] is None:
            return total
        both = [view for view in views if view is not None]
        return with_groups(total, window.learned(spec, groups(identity(spec)), None, both, total.mass))


def _anchor_of(partial: Partial) -> Point | None:
    if float(partial.started) == 0.0:
        return None
    return Point(partial.start, float(partial.start_bias), partial.origin)


def _without_anchor(state: Partial) -> Partial:
    """Forget where rows were linearised: a state has many anchors behind it."""
    sums = [one.without_pull() for one in groups(state)]
    zero = np.zeros(())
    return dataclasses.replace(
        with_groups(state, sums), start=np.zeros_like(state.start), start_bias=zero, started=zero
    )  # fmt: skip


def _view(summary: Partial, anchor: Point | None, sample: Batch) -> View | None:
    """Return the summed rows of a partial or state beside sampled ones; None where there are none of either."""
    if anchor is None or not anchor.is_finite or summary.information.sum() == 0.0:
        return None
    rows = present(sample)
    kind = (rows.label >= 0.5).astype(np.intp)
    waiting = (summary.pending_label >= 0.5).astype(np.intp)
    mass = np.maximum(summary.mass - np.bincount(waiting, weights=summary.pending_weight, minlength=2), 0.0)
    seen = np.bincount(kind, weights=rows.weight, minlength=2)
    factor = np.divide(mass, seen, out=np.zeros(2), where=seen > 0)
    kept = factor[kind] > 0
    if not kept.any():
        return None
    rows = Rows(rows.x[kept], rows.label[kept], (rows.weight * factor[kind])[kept])
    return View(groups(summary), anchor, rows, _shape(summary))


def settle_all(spec: Newton, state: Partial) -> tuple[Partial, Point]:
    """Solve all pending rows as one block, however few: the state with them, and the mode with the block's helpers."""
    prior = blocks.combine(spec, groups(state), state.mass)
    sums, mode = blocks.close_block(spec, prior, [pending_rows(state)], _shape(state))
    return _without_pending(_added(state, sums)), mode


def present(batch: Batch) -> Rows:
    """Return the rows of positive weight; a zero-weight row must not become the origin."""
    x, weight = batch.dense_x, batch.weights
    label = np.zeros(len(batch)) if batch.label is None else batch.label
    if batch.weight is not None and not (weight > 0).all():
        kept = weight > 0
        x, label, weight = x[kept], label[kept], weight[kept]
    return Rows(x, label, weight)


def _described(spec: Newton, rows: Rows) -> Partial:
    """Return a partial that holds the rows' origin and masses only."""
    c = spec.n_label_classes
    kind = (rows.label >= 0.5).astype(np.intp) if c == 2 else np.zeros(rows.label.size, dtype=np.intp)
    mass = np.bincount(kind, weights=rows.weight, minlength=c).astype(np.float64)
    return dataclasses.replace(identity(spec), origin=smallest_row(rows.x), mass=mass)


def _pending(described: Partial, rows: Rows) -> Partial:
    """Add copies of the rows, in canonical order, as pending."""
    x = rows.x.astype(np.float64)
    key = row_keys(x, rows.label)
    order = key_order(key, rows.weight)
    return dataclasses.replace(
        described, pending_x=x[order], pending_label=rows.label[order], pending_weight=rows.weight[order],
        pending_key=key[order],
    )  # fmt: skip


def pending_rows(partial: Partial) -> Rows:
    return Rows(partial.pending_x, partial.pending_label, partial.pending_weight)


def _settled(spec: Newton, partial: Partial) -> Partial:
    """Close the pending rows as a block if there are enough of them."""
    if blocks.is_full([partial.pending_label], spec.n_features):
        return _closed_pending(spec, partial)
    return partial


def _within_cap(spec: Newton, partial: Partial) -> Partial:
    """Close the pending rows when they outgrow the buffer; flag them when they are too few for it."""
    row_bytes = 8 * (spec.n_features + 3)
    if partial.pending_key.size * row_bytes <= spec.pending_bytes:
        return partial
    if not blocks.is_full([partial.pending_label], spec.n_features):
        early = np.asarray(partial.underdetermined + partial.pending_weight.sum())
        partial = dataclasses.replace(partial, underdetermined=early)
    return _closed_pending(spec, partial)


def _closed_pending(spec: Newton, partial: Partial) -> Partial:
    return _without_pending(_closed(spec, partial, [pending_rows(partial)]))


def _closed(spec: Newton, partial: Partial, chunks: list[Rows]) -> Partial:
    """Add the sums of rows solved as a block, whose origin, mass and moments the partial already holds."""
    prior = blocks.combine(spec, groups(partial), partial.mass)
    chunks = [chunk for chunk in chunks if chunk.label.size]
    return _added(partial, blocks.close_block(spec, prior, chunks, _shape(partial))[0])


def _shape(partial: Partial) -> Shape:
    deviation = np.sqrt(partial.feature_scatter / weight(partial))
    return Shape(partial.origin, partial.feature_mean, deviation, partial.mass)


def _added(partial: Partial, sums: list[Sums]) -> Partial:
    return with_groups(partial, [merge_sums(a, b) for a, b in zip(groups(partial), sums, strict=True)])


def _without_pending(partial: Partial) -> Partial:
    none = np.zeros(0)
    return dataclasses.replace(
        partial, pending_x=np.zeros((0, partial.origin.size)), pending_label=none, pending_weight=none,
        pending_key=none.astype(np.uint64),
    )  # fmt: skip
