"""Forgetting rows: a partial or state without a part that was merged into it.

Letters: ``d`` features, ``g`` groups of rows kept apart, ``p`` pending rows.

Every sum is one over rows, so the part's is subtracted; centred ones by Chan's rule run backwards
(`beam_ml.algorithms.shared.downdate`). With the rest's mean m_a and δ = m_b − m_a::

    R_a = R − R_b      c_a = c − c_b − δ·(W_a R_b − W_b R_a)/W

For squared loss nothing else ever happened to the rows. For logistic loss the sums are those of a learner that never saw the
part, linearised at the same anchors; a state that was folded has besides what its folds corrected by samples, so there the
part is best left out by merging the others again.
"""

import dataclasses

import numpy as np

from beam_ml.algorithms.linear.newton.learning import identity, weight
from beam_ml.algorithms.linear.newton.spec import Newton
from beam_ml.algorithms.linear.newton.sums import Partial, Sums, groups, no_sums, with_groups
from beam_ml.algorithms.shared.centre import Centre
from beam_ml.algorithms.shared.downdate import check_origin, checked_scatter, parted, rest_of
from beam_ml.errors import RemoveRefused

__all__ = ["remove"]

_SAME_WEIGHT = 1e-9  # of a pending row's weight, by which ageing may round it


def remove(spec: Newton, summary: Partial, part: Partial) -> Partial:
    """Return a partial or state without a part's rows.

    Raises:
        RemoveRefused: the part is not in it, or rows that were pending have since been solved as a block with others.
    """
    if weight(part) == 0.0:
        return summary
    mass = rest_of(summary.mass, part.mass, "weight by class")
    kept = _pending_left(summary, part)
    if not mass.any():
        return identity(spec)
    check_origin(summary.origin, part.origin)
    # A state has forgotten where its rows were linearised, and their slope there.
    apart = float(summary.started) > 0.0
    mine = groups(part) if apart else [one.without_pull() for one in groups(part)]
    sums = [_rest(a, b) for a, b in zip(groups(summary), mine, strict=True)]
    centre, correction = _features(summary, part)
    spread = summary.feature_scatter - part.feature_scatter - np.square(correction)
    start, start_bias, started = _started(summary, part) if apart else (summary.start, summary.start_bias, 0.0)
    early = np.maximum(summary.underdetermined - part.underdetermined, 0.0)
    left = dataclasses.replace(
        summary,
        start=start,
        start_bias=start_bias,
        started=np.asarray(started),
        mass=mass,
        feature_mean=centre.mean,
        feature_scatter=np.maximum(spread, 0.0),
        pending_x=summary.pending_x[kept],
        pending_label=summary.pending_label[kept],
        pending_weight=summary.pending_weight[kept],
        pending_key=summary.pending_key[kept],
        underdetermined=np.asarray(early),
    )
    return with_groups(left, sums)


def _rest(whole: Sums, part: Sums) -> Sums:
    """Return the sums of a group without a part of it."""
    if part.information == 0.0:
        return whole
    if part.information > whole.information * (1.0 + 1e-9):
        message = (
            f"What is removed must have been learned: its curvature {part.information:g} exceeds {whole.information:g}."
        )
        raise RemoveRefused(message)
    w_a = whole.information - part.information
    if w_a <= 4.0 * np.finfo(np.float64).eps * whole.information:
        return no_sums(whole.origin)
    centre, correction = parted(_centre(whole), _centre(part))
    delta = part.mean + (part.origin - whole.origin) - centre.mean
    scatter = whole.scatter - part.scatter - np.outer(correction, correction)
    response = whole.response - part.response
    share_a, share_b = w_a / whole.information, part.information / whole.information
    cross = whole.cross - part.cross - delta * (share_a * part.response - share_b * response)
    moved = part.pull_by + part.pull * (part.origin - whole.origin) if part.pull else part.pull_by
    return Sums(
        whole.origin, w_a, centre.mean, checked_scatter(scatter, whole.scatter, whole.information, whole.mean),
        response, cross, whole.pull - part.pull, whole.pull_by - moved,
    )  # fmt: skip


def _centre(sums: Sums) -> Centre:
    return Centre(sums.origin, np.asarray(sums.information), sums.mean)


def _features(summary: Partial, part: Partial) -> tuple[Centre, np.ndarray]:
    whole, less = (
        Centre(one.origin, np.asarray(one.mass.sum()), one.feature_mean) for one in (summary, part)
    )  # fmt: skip
    return parted(whole, less)


def _started(summary: Partial, part: Partial) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the anchor of the rest: what is left of a mean weighted by the rows linearised there."""
    started = rest_of(summary.started, part.started, "weight linearised at an anchor")
    if started == 0.0:
        return np.zeros_like(summary.start), np.zeros(()), started
    bias = part.start_bias + (summary.origin - part.origin) @ part.start
    start = (summary.started * summary.start - part.started * part.start) / started
    return start, np.asarray((summary.started * summary.start_bias - part.started * bias) / started), started


def _pending_left(summary: Partial, part: Partial) -> np.ndarray:
    """Return which pending rows (p,) of a summary are not the part's; equal rows are told apart by their weights."""
    kept = np.ones(summary.pending_key.size, dtype=bool)
    at = np.searchsorted(summary.pending_key, part.pending_key)
    for i, place in enumerate(at):
        while place < kept.size and summary.pending_key[place] == part.pending_key[i]:
            gap = abs(float(summary.pending_weight[place]) - float(part.pending_weight[i]))
            if kept[place] and gap <= _SAME_WEIGHT * float(part.pending_weight[i]):
                kept[place] = False
                break
            place += 1
        else:
            message = (
                "What is removed must have been learned and still be apart: rows that wait for enough others are solved "
                "as one block with them, and cannot be taken out of it (merge the other windows again)."
            )
            raise RemoveRefused(message)
    return kept
