"""Which candidate is the best so far, by metrics of rows that it had not seen, and what the gate learns of it."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

from beam_ml.core import decay, figures, metrics
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.figures import KINDS, LOSSES, of_window
from beam_ml.core.gate import Gate
from beam_ml.core.learner import Learner, metrics_at
from beam_ml.core.measures import Binary, Distortion, Multiclass, Regression
from beam_ml.core.spec import ModelSpec, Spec, canonical_json
from beam_ml.errors import InvalidValue

__all__ = ["LOSSES", "champion", "check_gate", "judged", "of_models", "progressive", "reached", "remembered"]


def of_models(learner: Learner, models: Mapping[str, ModelSpec]) -> Learner:
    """Leave out the metrics of models that are no longer derived, so that a model nobody serves is not judged."""
    wanted = {name: canonical_json(spec.to_dict()) for name, spec in sorted(models.items())}
    kept = {name for name in learner.metrics if name in wanted and learner.candidates.get(name) == wanted[name]}
    return learner.replace(
        metrics={name: value for name, value in learner.metrics.items() if name in kept},
        candidates=wanted,
        champion=learner.champion if learner.champion in kept else None,
    )


def progressive(
    learner: Learner, window_end: int | None, accumulation: Accumulation, measured: Mapping[str, metrics.Metrics]
) -> tuple[dict[str, metrics.Metrics], int | None]:
    """Add a window's metrics to those so far, both aged to the newest time known; return that time too."""
    rows_time = accumulation.sample.time
    newest = window_end if window_end is not None else accumulation.progress.time_max
    time = decay.later(decay.later(learner.metrics_time, newest), rows_time)
    age = 0 if time is None or rows_time is None else time - rows_time
    factor = decay.factor(learner.spec.half_life, age)
    total = {name: value for name, value in metrics_at(learner, time).items() if metrics.finite(value)}
    for name, value in measured.items():
        # One row of 1e200 makes a sum infinite, which no forgetting heals: such a window is not counted.
        if metrics.finite(value):
            aged = value if factor == 1.0 else metrics.scale(value, factor)
            total[name] = metrics.merge(total[name], aged) if name in total else aged
    return total, time


def champion(values: Mapping[str, Mapping[str, float]], before: str | None) -> str | None:
    """Return the candidate with the smallest progressive loss; the one before wins ties."""
    losses = {
        name: next(entry[loss] for loss in LOSSES if loss in entry)
        for name, entry in values.items()
        if any(loss in entry for loss in LOSSES)
    }
    if not losses:
        return before
    best = min(losses.values())
    if before in losses and losses[before] <= best:
        return before
    return min(name for name, loss in losses.items() if loss <= best)


def judged(progressive: Mapping[str, float], window: Mapping[str, float], rows: int) -> dict[str, float]:
    """Return what rules can be about: metrics over all windows, those of the newest one, and the rows learned from."""
    mine = {of_window(name): value for name, value in window.items()}
    return {**progressive, **mine, "rows": float(rows)}


def remembered(now: Mapping[str, float]) -> dict[str, float]:
    """Return what of the judged figures later refreshes look back at: not their standard errors."""
    return {name: value for name, value in now.items() if not name.removesuffix(figures.WINDOW).endswith("_se")}


def reached(algorithm: Algorithm, learner: Learner, model_spec: ModelSpec, model: Any) -> dict[str, dict[str, float]]:
    """Return the figures of a model whose threshold was chosen by a rule, on the rows it was chosen by, for its facts.

    Precision and recall, each with its standard error: from the learner's sample, which stands for all rows learned from.
    """
    rule = getattr(model_spec, "threshold", None)
    rows = None if rule is None or isinstance(rule, int | float) else learner.sample.ranked(learner.spec)
    if rows is None:
        return {}
    found = metrics.compute(algorithm.models[model_spec.kind].measure(model, rows))
    wanted = ("precision", "precision_se", "recall", "recall_se")
    return {"reached": {name: found[name] for name in wanted if name in found}}


def _kinds(algorithm: Algorithm, spec: Spec, models: Sequence[ModelSpec]) -> list[type]:
    """Return the records that the models are measured by: what `measure` declares, as far as the labels leave open."""
    by_label = {"none": Distortion, "real": Regression, "class": Binary if spec.n_label_classes == 2 else Multiclass}
    expected = by_label[spec.label_target]
    found: list[type] = []
    for one in models:
        declared = get_type_hints(algorithm.models[one.kind].measure).get("return")
        known = [kind for kind in (get_args(declared) or (declared,)) if kind in KINDS]
        found += [expected] if expected in known or not known else known
    return found


def check_gate(algorithm: Algorithm, spec: Spec, models: Mapping[str, ModelSpec], gate: Gate) -> None:
    """Refuse rules about metrics that none of the models has.

    Raises:
        InvalidValue: one sentence, with those that they have.
    """
    if not models:
        return
    known = {*figures.names(_kinds(algorithm, spec, list(models.values()))), "rows"}
    known |= {f"{name}_se" for name in figures.with_error(known)}
    for rule, metric in zip(gate.about(), gate.metrics, strict=True):
        if metric not in known:
            plain = ", ".join(sorted(name for name in known if not name.endswith("_se")))
            message = f"gate must be about metrics that models of {algorithm.name} have ({plain}); got {rule!r}."
            raise InvalidValue(message)
