"""Laws of change: a learner follows a world that changes, and says what it rejects.

The prior of a window is the best constant for all rows so far as they are weighted (by age and by class): the classes'
shares, the label's mean, the rows' mean. Losses are those of other rows as they are in that window. A model must be no
worse than the prior, but for rounding of 3 %, from the second window after a change on: one window a learner may need to
learn of it. Where an algorithm declares `Law.drift`, its loss is in every window within that factor of a linear model
fitted from scratch to the same weighted rows.

Models are derived with the defaults of each kind: what is judged is what the learner chooses.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from beam_ml.core import learner as learners
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.errors import MergeRefused
from beam_ml.testing.drifts import library
from beam_ml.testing.drifts.drift import Drift
from beam_ml.testing.drifts.follow import Stage, follow, losses, standing
from beam_ml.testing.drifts.reference import constant, loss_of, refit
from beam_ml.testing.drifts.rows import Regime
from beam_ml.testing.subject import Subject, require

__all__ = ["FOLLOWS", "LABELLED", "OF_NUMBERS", "check_drift", "learns", "merged_regions"]

_SLACK = 0.03  # of the prior's loss: what an estimate from a window's rows may miss
_LEAST = 0.01  # nats, or of the noise's variance: where the prior itself loses next to nothing
_GAP = 0.5
_ROUNDING = 1e-3
_APART = (0.0, 5.0, 20.0)


def check_drift(subject: Subject, drift: Drift) -> None:
    """Drive a learner through one drift and hold it to its prior and, if declared, to the refit.

    Args:
        subject: the algorithm and spec.
        drift: what changes.

    Raises:
        AssertionError: rows are lost, a state is not finite, or a model is worse than it may be; it says in which window.
    """
    for stage in follow(subject, drift):
        where = f"{drift}, window {stage.window.number}"
        lost = stage.done.discarded
        require(lost is None, f"{where}: the fold was discarded: {lost}")
        _hold(subject, stage, where)


def _hold(subject: Subject, stage: Stage, where: str, *, refit_too: bool = True) -> float:
    """Hold the models of a stage to the prior and the refit; return the prior's loss."""
    stands = standing(stage)
    if stands is None:
        return math.inf
    rows, held_out = stands
    total, found = stage.weight, subject.algorithm.weight(stage.learner.state)
    require(
        abs(found - total) <= _ROUNDING * total, f"{where}: the state's weight is {found:.6g}, its rows' {total:.6g}"
    )
    prior = loss_of(stage.task, constant(stage.task, rows)(held_out), held_out)
    for name, loss in losses(subject, stage.learner, held_out).items():
        if stage.window.judged:
            _no_worse(loss, prior, f"{where}: {name}: the loss is {loss:.4g}, that of the best constant {prior:.4g}")
        if refit_too:
            _within(subject, stage, loss, rows, held_out, f"{where}: {name}")
    return prior


def _no_worse(loss: float, than: float, message: str) -> None:
    require(math.isfinite(loss) and loss <= than * (1.0 + _SLACK) + _LEAST, message)


def _within(subject: Subject, stage: Stage, loss: float, rows: Batch, held_out: Batch, where: str) -> None:
    factor = subject.law.drift
    if factor is None or stage.task.target == "none":
        return
    refitted = loss_of(stage.task, refit(stage.task, rows)(held_out), held_out)
    most = factor * refitted
    require(
        math.isfinite(loss) and loss <= most + 1e-9,
        f"{where}: the loss is {loss:.4g}, that of a refit {refitted:.4g}, {loss / max(refitted, 1e-300):.3f} times; "
        f"at most {factor} times is declared",
    )


def _follows(drifts: Callable[[], Iterable[Drift]]) -> Callable[[Subject], None]:
    def law(subject: Subject) -> None:
        broken = []
        for drift in drifts():
            try:
                check_drift(subject, drift)
            except AssertionError as error:
                broken.append(str(error))
                if not subject.shrink:
                    break
        require(not broken, "; ".join(broken))

    law.__doc__ = drifts.__doc__
    return law


def learns(subject: Subject) -> None:
    """Of one fold alone, a model gains at least half of what a refit gains on the best constant."""
    for drift in library.one_fold():
        for stage in follow(subject, drift):
            stands = standing(stage)
            assert stands is not None  # noqa: S101
            rows, held_out = stands
            task = stage.task
            prior, refitted = (loss_of(task, fit(task, rows)(held_out), held_out) for fit in (constant, refit))
            most = prior - _GAP * (prior - refitted)
            found = losses(subject, stage.learner, held_out)
            require(bool(found), f"{drift}: no model can be derived")
            for name, loss in found.items():
                message = (
                    f"{drift}: {name}: the loss is {loss:.4g}, at most {most:.4g} is half of the way from {prior:.4g}"
                )
                require(math.isfinite(loss) and loss <= most, f"{message} to {refitted:.4g}")
                _within(subject, stage, loss, rows, held_out, f"{drift}: {name}")


def merged_regions(subject: Subject) -> None:
    """Two learners grown apart, merged, are no worse than the prior in either region, nor than the better one on both.

    Regions lie 0, 5 and 20 deviations apart. A merge may be refused (MergeRefused) where they lie apart.
    """
    here = _region(subject, 0.0, 0)
    for shift in _APART:
        there = _region(subject, shift, 1)
        where = f"regions {shift:g} deviations apart"
        try:
            both = learners.merge(subject.algorithm, here.learner, there.learner)
        except MergeRefused as error:
            require(shift > 0.0, f"{where}: the merge is refused: {error}")
            continue
        aside = [stage.window.held_out for stage in (here, there)]
        seen = (*here.seen, *there.seen)
        for region, held_out in (("first", aside[0]), ("second", aside[1]), ("both", Batch.concat(aside))):
            window = dataclasses.replace(here.window, held_out=held_out, judged=True)
            merged = dataclasses.replace(here, window=window, seen=seen, learner=both)
            prior = _hold(subject, merged, f"{where}, {region}", refit_too=region == "both")
            if region == "both":
                _better(subject, merged, (here.learner, there.learner), where, prior)


def _better(subject: Subject, merged: Stage, alone: tuple[Learner, Learner], where: str, prior: float) -> None:
    stands = standing(merged)
    assert stands is not None  # noqa: S101
    found = [losses(subject, one, stands[1]) for one in alone]
    for name, loss in losses(subject, merged.learner, stands[1]).items():
        better = min(prior, *(one.get(name, math.inf) for one in found))
        _no_worse(loss, better, f"{where}: {name}: merged, the loss is {loss:.4g}, the better alone has {better:.4g}")


def _region(subject: Subject, shift: float, stream: int) -> Stage:
    """Return a learner of two windows of one region; all regions have one rule, in deviations from their own mean."""
    regime = Regime(1_000, shift=shift)
    drift = Drift("", (dataclasses.replace(regime, rows=4_500), regime), stream=stream)
    return list(follow(subject, drift))[-1]


FOLLOWS: Mapping[str, Callable[[Subject], None]] = MappingProxyType(
    {
        "follows moving inputs": _follows(library.moving),
        "follows a jump of the ratio": _follows(library.ratio_jumps),
        "follows turning slopes": _follows(library.turning),
        "follows a feature that awakes": _follows(library.awakening),
        "unit rows": _follows(library.unit_rows),
        "far outlier": _follows(library.outliers),
        "one fold": learns,
        "cold shards": _follows(library.cold_shards),
        "merged regions": merged_regions,
        "one label only": _follows(library.one_class),
        "windows of one row": _follows(library.one_row),
        "odd weights": _follows(library.weightless),
        "missing for a day": _follows(library.missing_day),
    }
)
"""Name → law of change."""

LABELLED = frozenset(
    {"follows a jump of the ratio", "follows turning slopes", "unit rows", "one fold", "one label only"}
)
"""The laws that are about labels."""
OF_NUMBERS = frozenset({"unit rows"})
"""The laws that are about the size of features: categories have none."""
