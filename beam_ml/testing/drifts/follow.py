"""Drive a learner through a drift on the path that jobs take: admission and sample, anchors, merge, `refresh`."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np

from beam_ml.core import learner as learners
from beam_ml.core import metrics
from beam_ml.core.accumulation import Accumulation, Accumulator, merge_all
from beam_ml.core.admit import admit
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import array_fields
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import LOSSES, Plan, Refresh, derive_all, model_kind, refresh
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import InvalidValue
from beam_ml.testing.drifts.drift import WINDOW_S, Drift, Window
from beam_ml.testing.drifts.rows import Task, task_of, window_end
from beam_ml.testing.subject import Subject, require

__all__ = ["Stage", "accumulated", "defaults", "drifting", "follow", "losses", "standing", "taken"]

_NO_MODELS = Plan(models={})


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A learner after some windows.

    Attributes:
        window: the last one.
        spec: of the learner.
        task: what the rows are.
        learner: after its fold.
        done: what the fold did.
        seen: every row that was learned from, with its weight as it came.
        given: how many rows came.
    """

    window: Window
    spec: Spec
    task: Task
    learner: Learner
    done: Refresh
    seen: tuple[Batch, ...]
    given: int

    @property
    def rows(self) -> Batch | None:
        """All rows seen, weighted by age; None where nothing has weight."""
        parts = [batch for batch in self.seen if len(batch)]
        if not parts:
            return None
        rows = Batch.concat(parts)
        if self.spec.half_life is not None and rows.time is not None:
            age_us = rows.time.max() - rows.time
            rows = rows.replace(weight=rows.weights * np.exp2(-age_us * (1e-6 / self.spec.half_life)))
        return rows if float(rows.weights.sum()) > 0.0 else None

    @property
    def weight(self) -> float:
        """The weight of all rows seen, by age."""
        rows = self.rows
        return 0.0 if rows is None else float(rows.weights.sum())


def drifting(subject: Subject, drift: Drift) -> Spec:
    """Return the subject's spec with the half-life and the width of a drift."""
    changes = {} if drift.n_features is None else {"n_features": drift.n_features}
    half_life = None if drift.half_life is None else drift.half_life * WINDOW_S
    return subject.algorithm.spec.parse({**subject.spec.to_dict(), **changes, "half_life": half_life})


def defaults(subject: Subject) -> dict[str, ModelSpec]:
    """Return the models that the drifts judge: each kind that was given, with its defaults where it has any.

    What a user chose beside them (one variant of many, a penalty) is not the learner's choice.
    """
    found: dict[str, ModelSpec] = {}
    for kind, given in subject.kinds():
        name = given.kind
        try:
            found[name] = kind.spec.parse({"kind": name})
        except InvalidValue:
            found.setdefault(name, given)
    return found


def follow(subject: Subject, drift: Drift) -> Iterator[Stage]:
    """Learn window by window; yield the stage after each."""
    for number in range(len(drift.regimes)):
        stage = _stage(subject, dataclasses.replace(drift, text="", changes=(), regimes=drift.regimes[: number + 1]))
        window = dataclasses.replace(stage.window, judged=number not in drift.changes)
        yield dataclasses.replace(stage, window=window)


def taken(subject: Subject, spec: Spec, window: Window) -> Window:
    """Return a window's rows as the algorithm takes them."""
    if subject.rows is None:
        return window
    batch, held_out = subject.rows(spec, window.batch), subject.rows(spec, window.held_out)
    return dataclasses.replace(window, batch=batch, held_out=held_out)


@functools.lru_cache(maxsize=64)
def _stage(subject: Subject, drift: Drift) -> Stage:
    """Return the stage after the last window; drifts that begin alike share the stages before."""
    algorithm, spec = subject.algorithm, drifting(subject, drift)
    last = len(drift.regimes) - 1
    before = _stage(subject, dataclasses.replace(drift, regimes=drift.regimes[:last])) if last else None
    window = taken(subject, spec, drift.window(last, task_of(spec), sparse=subject.sparse))
    learner = learners.new(algorithm, spec) if before is None else before.learner
    total = accumulated(algorithm, learner, window.batch, drift.shards, drift.regimes[last].batch_rows)
    good = admit(spec, window.batch).rows
    learner, done = refresh(algorithm, learner, window_end(window.number), total, _NO_MODELS)
    for field in array_fields(learner.state):
        value = getattr(learner.state, field.name)
        finite = value.dtype.kind != "f" or bool(np.isfinite(value).all())
        require(finite, f"{field.name} of the state is not finite")
    seen = () if before is None else before.seen
    if done.discarded is None:
        seen = (*seen, good)
    given = len(window.batch) + (0 if before is None else before.given)
    counted = learner.progress.rows + sum(learner.progress.rejected.values())
    require(counted == given, f"{given} rows came, {counted} are counted as learned from or rejected with a reason")
    return Stage(window, spec, drift.task(task_of(subject.spec)), learner, done, seen, given)


def accumulated(algorithm: Algorithm, learner: Learner, rows: Batch, n_shards: int, batch_rows: int) -> Accumulation:
    """Return what some workers make of rows, each of a run of them, all from the learner's anchor."""
    anchor = algorithm.anchor(learner.spec, learner.state)
    cuts = [k * len(rows) // n_shards for k in range(n_shards + 1)]
    parts = []
    for begin, end in itertools.pairwise(cuts):
        worker = Accumulator(algorithm, learner.spec, learner.version, anchor)
        for start in range(begin, end, batch_rows):
            worker.add(rows.take(slice(start, min(start + batch_rows, end))))
        parts.append(worker.result())
    return merge_all(algorithm, learner.spec, parts)


def losses(subject: Subject, learner: Learner, held_out: Batch) -> dict[str, float]:
    """Return the loss of each default model on rows; infinite where it is not a number."""
    specs = defaults(subject)
    models = derive_all(subject.algorithm, learner, specs)
    found = {}
    for name, model in models.items():
        values = metrics.compute(model_kind(subject.algorithm, specs[name]).measure(model, held_out))
        found[name] = next((values[loss] for loss in LOSSES if loss in values), float("inf"))
    return found


def standing(stage: Stage) -> tuple[Batch, Batch] | None:
    """Return the rows so far as they are weighted, and the rows held out; None where nothing has weight.

    Rows are weighted by age, and by class as a spec says that names `positive_weight`, `class_weights` or
    `balance_multiclass_weights`: what a learner is asked to minimise is what it is judged by.
    """
    spec, rows = stage.spec, stage.rows
    if rows is None:
        return None
    held_out = stage.window.held_out
    if stage.task.target != "class" or rows.label is None:
        return rows, held_out
    factors = _class_factors(spec, np.bincount(rows.label.astype(np.intp), rows.weights, stage.task.n_classes))
    return _by_class(rows, factors), _by_class(held_out, factors)


def _class_factors(spec: Spec, mass: np.ndarray) -> np.ndarray:
    factors = np.ones(mass.size)
    positive = getattr(spec, "positive_weight", 1.0)
    if positive == "balanced":
        factors[1] = mass[0] / mass[1] if mass.min() > 0.0 else 1.0
    else:
        factors[1] = positive
    by_class = getattr(spec, "class_weights", ())
    if by_class:
        return np.asarray(by_class, dtype=np.float64)
    if getattr(spec, "balance_multiclass_weights", False):
        return np.divide(mass.sum(), mass, out=np.zeros_like(mass), where=mass > 0.0)
    return factors


def _by_class(batch: Batch, factors: np.ndarray) -> Batch:
    assert batch.label is not None  # noqa: S101
    return batch.replace(weight=batch.weights * factors[batch.label.astype(np.intp)])
