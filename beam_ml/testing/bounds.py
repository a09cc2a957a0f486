"""Laws of size and of sketches: what merges stays small, and a sketch knows rows by their weight, however it came."""

import statistics

import numpy as np

from beam_ml.core.algorithm import LawKind
from beam_ml.core.arrays import nbytes
from beam_ml.core.batch import Batch
from beam_ml.testing.drifts.reference import dense
from beam_ml.testing.subject import Subject, over, require, warm

__all__ = ["bounded", "copies", "forgotten"]

_SHARD_ROWS = 200
_MERGES = 64
_GROWTH = 1.25
_SEEDS = 5
_ROWS = 1_600
_HEAVY = 9.0
_AGED = 1.0 / 64.0
_APART = 6.0


def bounded(subject: Subject) -> None:
    """The partial of twice as many shards is no larger: 128 merges yield at most 1.25 times the bytes of 64."""
    world = subject.world()
    anchored = subject.law.kind is LawKind.ANCHORED
    anchor = subject.algorithm.anchor(subject.spec, warm(subject, world)) if anchored else None
    shards = (subject.accumulate([world.batch(subject.spec, _SHARD_ROWS, seed)], anchor) for seed in range(2 * _MERGES))
    merged = next(shards)
    sizes = [nbytes(merged := subject.merge(merged, shard)) for shard in shards]
    before, after = sizes[_MERGES - 1], sizes[-1]
    require(after <= _GROWTH * before, f"{before} bytes after {_MERGES} merges, {after} after {len(sizes)}")


def copies(subject: Subject) -> None:
    """Rows of weight 9 yield a model as good as nine copies of each, within the bound; weights go with the place."""
    spec = subject.spec
    excess = []
    for seed in range(_SEEDS):
        rows = subject.world(seed=seed).batch(spec, _ROWS)
        heavy = _upper_half(rows)
        weighted = rows.replace(weight=np.where(heavy, _HEAVY, 1.0))
        repeated = rows.take(np.repeat(np.arange(_ROWS), np.where(heavy, int(_HEAVY), 1)))
        found, expected = (subject.loss(subject.accumulate([one]), weighted) for one in (weighted, repeated))
        excess.append(over(found, expected))
    _within(subject, excess, "rows of weight 9 against nine copies")


def forgotten(subject: Subject) -> None:
    """Scaled to a sixty-fourth and merged with new rows far away, old rows count for what they weigh, within the bound."""
    spec = subject.spec
    excess = []
    for seed in range(_SEEDS):
        world = subject.world(seed=seed)
        old, new = world.batch(spec, _ROWS), world.batch(spec, _ROWS, 1, drift=_APART)
        aged = old.replace(weight=old.weights * _AGED)
        rows = Batch.concat([aged, new])
        scaled = subject.algorithm.scale(spec, subject.accumulate([old]), _AGED)
        merged = subject.merge(scaled, subject.accumulate([new]))
        found, expected = (subject.loss(one, rows) for one in (merged, subject.accumulate([aged, new])))
        excess.append(over(found, expected))
        subject.same_weight(
            subject.algorithm.weight(merged), float(rows.weights.sum()), "old rows scaled, new ones added"
        )
    _within(subject, excess, "old rows scaled, new ones added")


def _upper_half(rows: Batch) -> np.ndarray:
    place = dense(rows)[:, 0]
    upper: np.ndarray = place > np.median(place)
    return upper


def _within(subject: Subject, excess: list[float], what: str) -> None:
    found, bound = statistics.median(excess), subject.law.bound
    require(found <= bound, f"{what}: the loss exceeds by {found:.4f}, the bound is {bound}")
