"""Laws of rows as they are given: any width, with or without a name, in full precision, each by its weight."""

import dataclasses
from typing import Any

import numpy as np

from beam_ml.core import metrics
from beam_ml.core.batch import Batch
from beam_ml.core.figures import LOSSES
from beam_ml.core.spec import Spec
from beam_ml.errors import DeriveRefused, InvalidValue
from beam_ml.testing.strategies import World
from beam_ml.testing.subject import WIDTHS, Subject, digest, require, sample_of

__all__ = ["hashed", "nameless", "precise", "weighed", "widths"]

_WIDTHS = (*WIDTHS, 17)
_ROWS = 300
_FAR = 1e8


def widths(subject: Subject) -> None:
    """Rows of 1, 2, 3, 5 and 17 features are learned from, merged, folded and predicted like those of the spec's width."""
    learned = []
    for width in _WIDTHS:
        try:
            spec = subject.algorithm.spec.parse({**subject.spec.to_dict(), "n_features": width})
        except InvalidValue:
            continue  # the spec says that there are no such rows
        learned.append(width)
        _learn(dataclasses.replace(subject, spec=spec), subject.world(), f"{width} features")
    require(bool(learned), f"the spec takes rows of none of {_WIDTHS} features")


def nameless(subject: Subject) -> None:
    """Rows may come without origin and position: workers get them so, only the sample has names for them."""
    _learn(subject, subject.world(), "without origin and position", named=False)


def _learn(subject: Subject, world: World, what: str, *, named: bool = True) -> None:
    """Learn from two batches on two workers, cold and then from an anchor if there is one, and predict a third."""
    algorithm, spec = subject.algorithm, subject.spec
    state, total = algorithm.init(spec), 0.0
    for window in range(2):
        rows = [_named(world.batch(spec, _ROWS, 10 * window + k, weights="uniform"), named) for k in range(2)]
        anchor = algorithm.anchor(spec, state)
        partials = [subject.accumulate([batch], anchor) for batch in rows]
        state = subject.fold(state, subject.merge(*partials), rows)
        total += sum(float(batch.weights.sum()) for batch in rows)
        subject.same_weight(algorithm.weight(state), total, what)
    test = _named(world.batch(spec, _ROWS, 99), named)
    for kind, model_spec in subject.kinds():
        try:
            model = kind.derive(spec, model_spec, state, sample_of(rows))
        except DeriveRefused:
            continue  # more components than features, no anchor yet
        for name, values in kind.predict(model, test).items():
            require(len(values) == _ROWS and bool(np.isfinite(values).all()), f"{what}: {name} is not finite")


def _named(batch: Batch, named: bool) -> Batch:
    return batch if named else batch.replace(origin=None, position=None, position_end=None)


def weighed(subject: Subject) -> None:
    """A measure counts a row by its weight: weight k as k copies, weight 0 as none."""
    world = subject.world()
    spec = subject.spec
    batch = world.batch(spec, _ROWS)
    state = subject.fold(subject.algorithm.init(spec), subject.accumulate([batch]), [batch])
    rows = world.batch(spec, _ROWS, 1, weights="whole", drift=1.0)
    copied = rows.take(np.repeat(np.arange(_ROWS), rows.weights.astype(np.int64))).replace(weight=None)
    for kind, _, model in subject.models(state, sample_of([batch])):
        found, expected = (_sums(kind.measure(model, one)) for one in (rows, copied))
        for name, value in expected.items():
            near = abs(found.get(name, np.nan) - value) <= 1e-6 * max(1.0, abs(value))
            require(near, f"{name} of weighted rows is {found.get(name)}, of copies {value}")


def _sums(measured: Any) -> dict[str, float]:
    """Return the means and the weight; standard errors and ranks of bins know a row from its copies."""
    return {
        name: value
        for name, value in metrics.compute(measured).items()
        if name in (*LOSSES, "mae", "accuracy", "rows_weight", "recall", "precision")
    }


def precise(subject: Subject) -> None:
    """Features count to the last digit of float64: at 1e8, rounding to float32 changes the partial."""
    batch = subject.world(offset=_FAR).batch(subject.spec, _ROWS)
    if batch.X is not None:
        rounded = batch.replace(X=batch.X.astype(np.float32).astype(np.float64))
    else:
        assert batch.values is not None  # noqa: S101
        rounded = batch.replace(values=batch.values.astype(np.float32).astype(np.float64))
    found, other = subject.accumulate([batch]), subject.accumulate([rounded])
    require(digest(found) != digest(other), "rows and their rounding to float32 have one partial")


def hashed(subject: Subject) -> None:
    """Which rows a bounded sample keeps, and in which order, depends on their places and the seed, and on nothing else."""
    spec = subject.spec
    batch = subject.world().batch(spec, 4 * _ROWS)
    assert batch.position is not None  # noqa: S101
    here = _kept(subject, spec, batch)
    seeded = subject.algorithm.spec.parse({**spec.to_dict(), "seed": (spec.seed + 1) % 2**32})
    require(here != _kept(subject, seeded, batch), "another seed keeps the same rows in the same order")
    elsewhere = batch.replace(position=batch.position[::-1].copy())
    require(here != _kept(subject, spec, elsewhere), "rows in other places are kept in the same order")
    shuffled = batch.take(np.random.default_rng(0).permutation(len(batch)))
    require(here == _kept(subject, spec, shuffled), "another order of arrival keeps other rows, or in another order")


def _kept(subject: Subject, spec: Spec, batch: Batch) -> str:
    return digest(subject.algorithm.accumulate(spec, subject.algorithm.empty(spec), batch, None))
