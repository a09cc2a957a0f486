"""The law of repetition: same rows, spec, seed and batches, same model, to the last bit."""

import dataclasses

from beam_ml import api
from beam_ml.algorithms import find
from beam_ml.core.arrays import identical
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import derive_all
from beam_ml.testing.drifts.drift import Drift
from beam_ml.testing.drifts.follow import drifting, follow, taken
from beam_ml.testing.drifts.rows import Regime, task_of
from beam_ml.testing.subject import Subject, difference, digest, require

__all__ = ["same_model"]

# More rows than a sample holds, so that which ones it holds shows; one change, so that what it holds decides.
_DRIFT = Drift("", (Regime(5_000), Regime(1_500, shift=2.0), Regime(1_500, shift=2.0, level=1.0)), half_life=2.0)


def same_model(subject: Subject) -> None:
    """Two runs over the same batches yield the same state, sample and models, bit for bit: by windows, and by `fit`.

    `fit` is called where the record is the one that the spec names; its rows come without origin and position, as in a
    notebook.
    """
    # A copy of the subject: what one run has learned must not be mistaken for what another has.
    runs = [list(follow(dataclasses.replace(subject), _DRIFT))[-1].learner for _ in range(2)]
    _same(subject, runs, "windows of equal rows")
    if find(subject.spec.algorithm) is not subject.algorithm:
        return
    spec = drifting(subject, _DRIFT)
    windows = [taken(subject, spec, one) for one in _DRIFT.windows(task_of(spec), sparse=subject.sparse)]
    pieces = [piece for window in windows for piece in _cut(window.batch.replace(origin=None, position=None))]
    _same(subject, [api.fit(spec, pieces) for _ in range(2)], "fit of equal batches")


def _cut(rows: Batch) -> list[Batch]:
    return [rows.take(slice(start, start + 700)) for start in range(0, len(rows), 700)]


def _same(subject: Subject, runs: list[Learner], what: str) -> None:
    first, second = runs
    gap = difference(first.state, second.state)
    require(identical(first.state, second.state), f"{what}: another state the second time: {gap}")
    samples = [learner.sample.estimate(learner.spec) for learner in runs]
    require(digest(samples[0]) == digest(samples[1]), f"{what}: another sample of the rows the second time")
    specs = {f"{i} {spec.kind}": spec for i, (_, spec) in enumerate(subject.kinds())}
    models = [derive_all(subject.algorithm, learner, specs) for learner in runs]
    for name, model in models[0].items():
        gap = difference(model, models[1][name])
        require(identical(model, models[1][name]), f"{what}: another model {name} the second time: {gap}")
