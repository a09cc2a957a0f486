"""`linear.newton`: linear models by Newton steps that add up.

Letters: ``n`` rows, ``d`` features, ``p`` pending rows.

With an anchor, `accumulate` linearises every row there: one step of iteratively reweighted least squares whose sums
add exactly over rows, shards and anchors. Without one ("cold") rows stay pending until a block of them has at least
4,096 rows and 10(d + 1) of the rarer class; then Newton steps solve the block with everything before it as prior, and
its sums are added. The idea is streaming distributed Bayes (Broderick et al. 2013) with renewable estimation (Luo and
Song 2020).

Squared loss needs no anchor: its partial is EXACT and State is Partial. Logistic loss is ANCHORED; cold merging puts
pending rows together, exactly and in an order of its own, up to ``pending_bytes``; beyond that it closes blocks, so
only the stated loss bound holds.
"""

import dataclasses

import numpy as np
from jaxtyping import Float64

from beam_ml.algorithms.linear import blocks
from beam_ml.algorithms.linear.blocks import Rows, Shape
from beam_ml.algorithms.linear.losses import LOSSES
from beam_ml.algorithms.linear.solve import solve
from beam_ml.algorithms.linear.spec import Newton
from beam_ml.algorithms.linear.sums import (
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
from beam_ml.core.algorithm import Law, LawKind, check_batch
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.batch import Batch
from beam_ml.core.rows import smallest_row

__all__ = ["Anchor", "accumulate", "anchor", "fold", "identity", "law", "merge", "scale", "weight"]

_FRACTIONS = (1.0, 0.5, 0.25, 0.125, 0.0625, 0.0)
_STANDARD_ERRORS = 2.0
_LARGEST_RISE = 0.01


@array_dataclass
class Anchor:
    """The parameters that workers linearise at: η = intercept + (x − origin)·coefficients."""

    coefficients: Float64[np.ndarray, "d"]  # per feature unit
    intercept: Float64[np.ndarray, ""]  # η at the origin
    origin: Float64[np.ndarray, "d"]  # feature units


def law(spec: Newton) -> Law:
    """Say what the partial promises: EXACT for squared loss, ANCHORED and homomorphic for the others."""
    if LOSSES[spec.loss].constant:
        return Law(LawKind.EXACT, rtol=1e-9)
    return Law(LawKind.ANCHORED, rtol=1e-9, homomorphic=True, across_anchors=True)


def identity(spec: Newton) -> Partial:
    """Give the identity of `merge`, which is also the state before any row."""
    return empty(spec.n_features, 2 if spec.positive_weight == "balanced" else 1, spec.n_label_classes)


def weight(summary: Partial) -> float:
    """Give the rows' total (decayed) weight, pending and damped ones included."""
    return float(summary.mass.sum())


def merge(spec: Newton, a: Partial, b: Partial) -> Partial:
    """Add two partials (or states) of one spec."""
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
        damped=np.asarray(summary.damped * factor),
        underdetermined=np.asarray(summary.underdetermined * factor),
    )
    return with_groups(scaled, [one.scaled(factor) for one in groups(summary)])


def anchor(spec: Newton, state: Partial) -> Anchor | None:
    """Give the parameters to linearise at; None for squared loss, or before a block has closed."""
    point = None if LOSSES[spec.loss].constant else solution(spec, state)
    if point is None:
        return None
    return Anchor(point.coefficients, np.asarray(point.intercept), point.origin)


def solution(spec: Newton, state: Partial) -> Point | None:
    """Solve for the parameters that the sums give (pending rows aside); None without sums."""
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
            return join(partial, with_groups(fresh, blocks.at_point(spec, point, rows)))
        if blocks.is_full([partial.pending_label, rows.label], spec.n_features):
            # Nothing of the batch need be copied: all of it goes into the block.
            return _without_pending(_closed(spec, join(partial, fresh), [pending_rows(partial), rows]))
        return _within_cap(spec, join(partial, _pending(fresh, rows)))


def fold(spec: Newton, state: Partial, partial: Partial, sample: Batch | None) -> Partial:
    """Learn a window: its sums are added, scaled by the largest fraction at which the sample's loss does not rise.

    Fractions are 1, ½ … 1/16 and 0; a rise counts when it is over two standard errors of the sample's mean loss
    difference, or over 1 % of the loss: smaller ones are the sample's noise. What a fraction leaves out is counted in
    ``damped``. Pending rows are solved as a block once there are enough of them, or any posterior to go by.

    Args:
        spec: the spec.
        state: before.
        partial: the window's.
        sample: rows of the window, weighted to stand for all of them; None: nothing is damped.
    """
    if LOSSES[spec.loss].constant or weight(partial) == 0.0:
        return join(state, partial)
    with np.errstate(over="ignore", invalid="ignore"):
        fraction = _fraction(spec, state, partial, sample)
        if fraction < 1.0:
            in_sums = weight(partial) - float(partial.pending_weight.sum())
            partial = with_groups(partial, [one.scaled(fraction) for one in groups(partial)])
            partial = dataclasses.replace(partial, damped=np.asarray(partial.damped + (1.0 - fraction) * in_sums))
        total = join(state, partial)
        if total.pending_key.size and total.information.sum() > 0:
            return _closed_pending(spec, total)
        return _settled(spec, total)


def _fraction(spec: Newton, state: Partial, partial: Partial, sample: Batch | None) -> float:
    before = solution(spec, state)
    if before is None or sample is None or partial.information.sum() == 0.0:
        return 1.0
    rows = present(sample)
    if rows.label.size == 0:
        return 1.0
    loss = LOSSES[spec.loss]
    mass = state.mass + partial.mass
    s = blocks.effective_weight(rows.label, rows.weight, blocks.positive_factor(spec, mass))
    share = s / s.sum()
    old = blocks.row_loss(loss, before, rows)
    mine, fresh = groups(state), groups(partial)
    for fraction in _FRACTIONS[:-1]:
        sums = [merge_sums(a, b.scaled(fraction)) for a, b in zip(mine, fresh, strict=True)]
        after = solve(blocks.combine(spec, sums, mass))
        rise = blocks.row_loss(loss, after, rows) - old
        mean = float(share @ rise)
        error = float(np.sqrt(np.sum((share * (rise - mean)) ** 2)))
        if mean <= min(_STANDARD_ERRORS * error, _LARGEST_RISE * float(share @ old)):
            return fraction
    return 0.0


def settle_all(spec: Newton, state: Partial) -> tuple[Partial, Point]:
    """Solve all pending rows as one block, however few: the state with them, and the mode with the block's helpers."""
    prior = blocks.combine(spec, groups(state), state.mass)
    sums, mode = blocks.close_block(spec, prior, [pending_rows(state)], _shape(state))
    return _without_pending(_added(state, sums)), mode


def present(batch: Batch) -> Rows:
    """Give the rows of positive weight; a zero-weight row must not become the origin."""
    x, weight = batch.dense_x, batch.weights
    label = np.zeros(len(batch)) if batch.label is None else batch.label
    if batch.weight is not None and not (weight > 0).all():
        kept = weight > 0
        x, label, weight = x[kept], label[kept], weight[kept]
    return Rows(x, label, weight)


def _described(spec: Newton, rows: Rows) -> Partial:
    """Give a partial that holds the rows' origin and masses only."""
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
