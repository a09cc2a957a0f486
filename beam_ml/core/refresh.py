"""`refresh`: one fold seen from outside: evaluate → fold → derive → champion → gate. Pure.

The models of the refresh before are measured on the new window's sample before it is learned from (test-then-train,
Dawid's prequential principle 1984), so every metric is about rows the model had not seen.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any

from beam_ml.core import decay, metrics, prior, rejects
from beam_ml.core.accumulation import Accumulation, same_names
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.batch import Batch
from beam_ml.core.champions import LOSSES, champion, judged, of_models, progressive, remembered
from beam_ml.core.decay import AsOf
from beam_ml.core.folding import STALE, Together, fold_parts, fresh_parts, thinning
from beam_ml.core.gate import HISTORY, OPEN, Gate, Verdict
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.core.sample import Sample
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.core.windows import ROUND
from beam_ml.errors import DeriveRefused, TrainingFailed

__all__ = [
    "FOLD_REASONS",
    "LOSSES",
    "Plan",
    "Refresh",
    "derive_all",
    "fold_open",
    "fold_window",
    "measure_all",
    "model_kind",
    "refresh",
]

_DISCARDED = "fold discarded"
FOLD_REASONS = (STALE, _DISCARDED)
"""Why rows are rejected that their workers had learned from."""

_log = logging.getLogger(__name__)
_MOST_DISCARDED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The models that a job derives at each refresh, and the gate to serving them.

    Attributes:
        models: candidate name → model spec.
        gate: rules for serving.
    """

    models: Mapping[str, ModelSpec]
    gate: Gate = OPEN


@dataclasses.dataclass(frozen=True, slots=True)
class Refresh:
    """The result of one fold.

    Attributes:
        number: 1, 2, 3 …
        window_end: end of the window, µs since the epoch; None when windows are rounds.
        progress: the window's rows.
        measured: candidate → metrics of the previous model on this window's rows.
        progressive: candidate → metrics over all windows so far, decayed.
        champion: candidate with the best progressive loss.
        verdict: the gate's.
        models: candidate → model derived after the fold; empty when it was discarded.
        discarded: why the fold was dropped, if it was.
        refitted: the candidate that would be served → metrics of its model from `models` on this window's rows, from which
            it has learned; empty where no prior is minded.
        behind: published versions between a part's anchor and the fold → rows that came with it, the ones dropped too;
            empty where an anchor may be of any age.
    """

    number: int
    window_end: int | None
    progress: Progress
    measured: Mapping[str, Mapping[str, float]]
    progressive: Mapping[str, Mapping[str, float]]
    champion: str | None
    verdict: Verdict
    models: Mapping[str, Any]
    discarded: str | None = None
    behind: Mapping[int, int] = dataclasses.field(default_factory=dict)
    refitted: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the models as plain JSON values."""
        return {
            "number": self.number,
            "window_end": self.window_end,
            "progress": self.progress.summary(),
            "measured": {name: dict(values) for name, values in self.measured.items()},
            "progressive": {name: dict(values) for name, values in self.progressive.items()},
            "refitted": {name: dict(values) for name, values in self.refitted.items()},
            "champion": self.champion,
            "accepted": self.verdict.accepted,
            "reasons": list(self.verdict.reasons),
            "discarded": self.discarded,
            "behind": {str(versions): rows for versions, rows in sorted(self.behind.items())},
        }


def model_kind(algorithm: Algorithm, model_spec: ModelSpec) -> Any:
    """Return the ModelKind a model spec belongs to.

    Raises:
        DeriveRefused: it belongs to another algorithm, or is no model spec.
    """
    if not isinstance(model_spec, ModelSpec):
        kinds = ", ".join(sorted(kind.spec.__name__ for kind in algorithm.models.values()))
        message = f"{algorithm.name} derives a model from a model spec ({kinds}); got {model_spec!r}."
        raise DeriveRefused(message)
    kind = algorithm.models.get(model_spec.kind)
    if kind is None or not isinstance(model_spec, kind.spec):
        message = (
            f"{algorithm.name} derives {', '.join(sorted(algorithm.models))}; got {type(model_spec).__name__}, whose kind "
            f"is {model_spec.kind!r}."
        )
        raise DeriveRefused(message)
    return kind


def derive_all(algorithm: Algorithm, learner: Learner, models: Mapping[str, ModelSpec]) -> dict[str, Any]:
    """Derive every candidate from a learner; none if it has seen no rows of positive weight."""
    if learner.progress.rows == 0 or algorithm.weight(learner.state) <= 0:
        return {}
    sample = learner.sample.ranked(learner.spec)
    return {
        name: model_kind(algorithm, spec).derive(learner.spec, spec, learner.state, sample)
        for name, spec in models.items()
    }


def measure_all(
    algorithm: Algorithm, models: Mapping[str, Any], specs: Mapping[str, ModelSpec], rows: Batch | None
) -> dict[str, metrics.Metrics]:
    """Measure models on weighted rows."""
    if rows is None:
        return {}
    return {name: model_kind(algorithm, specs[name]).measure(model, rows) for name, model in models.items()}


def refresh(
    algorithm: Algorithm,
    learner: Learner,
    window_end: int | None,
    accumulation: Accumulation,
    plan: Plan,
    previous: Mapping[str, Any] | None = None,
) -> tuple[Learner, Refresh]:
    """Fold one closed window and report the result; the learner is then a new version.

    Args:
        algorithm: the record.
        learner: before the fold; `pending` and `next` are left alone.
        window_end: end of the window, µs; None when windows are rounds.
        accumulation: the window's rows.
        plan: what to derive and the gate.
        previous: the models of the refresh before (derived again from the learner when not given).

    Returns:
        The learner after the fold and the Refresh.

    Raises:
        TrainingFailed: the third fold in a row would leave a non-finite state.
    """
    after, done, _ = fold_window(algorithm, learner, window_end, accumulation, plan, previous)
    return after, done


def fold_open(
    algorithm: Algorithm,
    learner: Learner,
    plan: Plan,
    through: float = float("inf"),
    previous: Mapping[str, Any] | None = None,
    published: bool = False,
) -> Iterator[tuple[Learner, Refresh]]:
    """Fold a learner's open windows, in order of time; yields after each.

    Windows that go into one version mostly hold parts of one anchor. Where parts of different anchors do not add
    (`Spec.max_staleness`), those of one still do, so each fold starts again from the learner as given, with the parts of
    its own window and of those before it. One after the other, each would cover the way from that anchor again.

    Args:
        algorithm: the record.
        learner: with the windows in `pending`.
        plan: what to derive and the gate.
        through: fold the windows that end at or before this time (the watermark); the others stay open.
        previous: the models of the previous refresh, if available.
        published: all that is folded here goes into one version; False: each fold is one.

    Raises:
        TrainingFailed: see `refresh`.
    """
    together: Together | None = None
    for end in sorted(learner.pending):
        if end > through:
            return
        accumulation = learner.pending[end]
        learner = learner.replace(pending={at: value for at, value in learner.pending.items() if at != end})
        closed = None if end == ROUND else end
        learner, one, folded = fold_window(algorithm, learner, closed, accumulation, plan, previous, together)
        previous, together = one.models, folded if published else None
        yield learner, one


def fold_window(
    algorithm: Algorithm,
    learner: Learner,
    window_end: int | None,
    accumulation: Accumulation,
    plan: Plan,
    previous: Mapping[str, Any] | None = None,
    together: Together | None = None,
    base: AsOf | None = None,
) -> tuple[Learner, Refresh, Together]:
    """Fold a window into the version after the learner's, or into the one that others have gone into already.

    Args:
        algorithm: the record.
        learner: before the fold; it stays as it is where the fold is discarded.
        window_end: end of the window, µs; None when windows are rounds.
        accumulation: the window's rows.
        plan: what to derive and the gate.
        previous: the models of the previous refresh, if available.
        together: the parts that are in the version already, where they are folded together from one anchor.
        base: what the parts are folded onto; None: the learner's state.

    Returns:
        The learner after the fold, the Refresh, and what has gone into the version now.
    """
    spec = learner.spec
    learner = of_models(learner, plan.models)
    models = derive_all(algorithm, learner, plan.models) if previous is None else previous
    models = {name: model for name, model in models.items() if name in plan.models}
    sampled = accumulation.sample.estimate(spec)
    ranked = accumulation.sample.ranked(spec)
    measured = measure_all(algorithm, models, plan.models, ranked)

    version = learner.version if together is None else together.version
    parts, dropped, behind = fresh_parts(algorithm, learner, accumulation, version)
    rows = reduce(Progress.merge, (part.progress for part in parts.values()), Progress())
    begun = together
    if begun is None or spec.anchor_staleness is None:
        begun = Together(version, learner.dated if base is None else base, {}, Sample.empty(spec))
    joined = begun.add(algorithm, spec, parts, accumulation.sample)
    samples = [joined.sample.estimate(spec) if begun.parts else sampled]
    if algorithm.looks_back:
        samples.append(learner.sample.estimate(spec))
    state, failure = fold_parts(algorithm, spec, joined, samples)
    if failure is not None:
        if learner.discarded + 1 >= _MOST_DISCARDED:
            message = f"{_MOST_DISCARDED} folds in a row left a non-finite state; the last: {failure}."
            raise TrainingFailed(message)
        rows = rows.as_rejected(_DISCARDED)
    warning = rejects.warning(spec, rows.merge(accumulation.rest), accumulation.sample)
    if warning is not None and failure is None:
        _log.warning("%s", warning)
    if failure is None:
        rows = rows.merge(thinning(algorithm, parts.values()))
    seen = rows.merge(dropped).merge(accumulation.rest)

    total, time = progressive(learner, window_end, accumulation, measured)
    values, found = _computed(total), _computed(measured)
    best = champion(values, learner.champion)

    folded = learner.replace(
        dated=learner.dated if failure is not None else state,
        progress=learner.progress.merge(seen),
        sample=learner.sample if failure is not None else learner.sample.merge(accumulation.sample, spec),
        metrics=dict(sorted(total.items())),
        metrics_time=time,
        champion=best,
        refresh=learner.refresh + 1,
        names=same_names(learner.names, accumulation.names),
        coalesced=learner.coalesced + (together is not None),
        folded_through=decay.later(learner.folded_through, window_end),
        discarded=learner.discarded + 1 if failure is not None else 0,
    )
    if spec.anchor_staleness is not None and algorithm.anchor(spec, folded.state) is None:
        folded = folded.replace(last_cold_version=version + 1)
    derived = models if failure is not None else derive_all(algorithm, folded, plan.models)
    served = best if best in derived else next(iter(sorted(derived)), None)
    refitted = _refitted(algorithm, plan, spec, derived, served, ranked)
    now = judged(values.get(best or "", {}), found.get(best or "", {}), folded.progress.rows)
    reasons = [*plan.gate.judge(now, learner.history).reasons]
    before = prior.gap(spec, found.get(served or "", {}))
    if plan.gate.minds_prior:
        after = prior.gap(spec, refitted.get(served or "", {}))
        why = prior.reason(before, after, bool(learner.history and prior.BEHIND in learner.history[-1]))
        reasons += [] if why is None else [why]
    if failure is not None:
        reasons.insert(0, f"fold discarded: {failure}")
    entry = remembered(now) | ({prior.BEHIND: 1.0} if before is not None and before.behind else {})
    folded = folded.replace(history=(*learner.history, entry)[-HISTORY:])
    done = Refresh(
        number=folded.refresh,
        window_end=window_end,
        progress=seen,
        measured=found,
        progressive=values,
        champion=best,
        verdict=Verdict(not reasons, tuple(reasons)),
        models=derived,
        discarded=failure,
        behind=behind,
        refitted=refitted,
    )
    return folded, done, begun if failure is not None else joined


def _computed(measured: Mapping[str, metrics.Metrics]) -> dict[str, dict[str, float]]:
    return {name: metrics.compute(value) for name, value in sorted(measured.items())}


def _refitted(
    algorithm: Algorithm,
    plan: Plan,
    spec: Spec,
    derived: Mapping[str, Any],
    served: str | None,
    rows: Batch | None,
) -> dict[str, dict[str, float]]:
    """Measure the model that would be served on the rows that it has just learned from, where a prior is available."""
    if served is None or not plan.gate.minds_prior or spec.label_target == "none":
        return {}
    return _computed(measure_all(algorithm, {served: derived[served]}, plan.models, rows))
