"""Several passes over bounded data: what each of them counts, which algorithms allow them, when to stop.

Progress stays exact: rows of a later pass come from a source of their own, "files, pass 2", so that each pass counts each
place once, whatever is repeated within it shows, and learners that share rows are still detected by the first pass. The
sample holds a row once however often it is read.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from beam_ml.core.algorithm import Algorithm, LawKind
from beam_ml.core.batch import Origin
from beam_ml.core.gate import RISING
from beam_ml.core.spec import Settings, Spec
from beam_ml.errors import InvalidValue

__all__ = ["EarlyStopping", "check_passes", "first_pass", "in_pass", "stalled"]

_PASS = re.compile(r", pass [0-9]+$")

_WHY = {
    LawKind.EXACT: "one pass is exact, and another would count each row again",
    LawKind.SKETCH: "one pass takes in every row, and another would count each again",
    LawKind.ANCHORED: "it adds up what rows hold in one pass, and another would count each row again",
    LawKind.GATHERED: "each fold goes over its gathered rows as often as the spec says",
}


class EarlyStopping(Settings):
    """When passes end early: the loss of the last `patience` passes was no better than before, within the tolerance."""

    called: ClassVar[str] = "early_stopping"

    patience: Annotated[int, Field(ge=1, description="passes without an improvement")] = 3
    tolerance: Annotated[float, Field(ge=0, description="share of the best so far that an improvement must reach")] = (
        0.001
    )
    metric: Annotated[str | None, Field(description="None: the loss by which the champion is chosen")] = None


def in_pass(source: str, number: int) -> str:
    """Return what rows' origins call a source in a pass, 1 the first.

    >>> in_pass("files", 1), in_pass("files", 2)
    ('files', 'files, pass 2')
    """
    return source if number == 1 else f"{source}, pass {number}"


def first_pass(origin: Origin) -> Origin:
    """Return the origin that a row had in the first pass.

    >>> first_pass(Origin("files, pass 2", "a.csv"))
    Origin(source='files', partition='a.csv')
    """
    source = _PASS.sub("", origin.source)
    return origin if source == origin.source else dataclasses.replace(origin, source=source)


def check_passes(algorithm: Algorithm, spec: Spec, passes: int, called: str = "passes") -> None:
    """Refuse more than one pass where a second one would add nothing new.

    Raises:
        InvalidValue: a number below 1; or above where the law is not that of a gradient learner.
    """
    law = algorithm.law(spec)
    if passes < 1:
        message = f"{called} must be >= 1; got {passes}."
        raise InvalidValue(message)
    if passes > 1 and (law.kind is not LawKind.ANCHORED or law.across_anchors):
        message = f"{called} must be 1 with {algorithm.name}: {_WHY[law.kind]}; got {passes}."
        raise InvalidValue(message)


def stalled(values: Sequence[float], settings: EarlyStopping, metric: str) -> bool:
    """Return whether the last `patience` values brought no improvement.

    Args:
        values: one per pass, in order.
        settings: patience and tolerance.
        metric: which it is: some are better when larger.

    >>> stalled([0.5, 0.4, 0.3999], EarlyStopping(patience=1), "log_loss")
    True
    >>> stalled([0.5, 0.6, 0.7], EarlyStopping(patience=1), "auc")
    False
    """
    sign = -1.0 if metric in RISING else 1.0
    best: float | None = None
    idle = 0
    for value in values:
        if best is None or sign * (best - value) > settings.tolerance * abs(best):
            best, idle = value, 0
        else:
            idle += 1
    return idle >= settings.patience


def measured_by(measured: Mapping[str, float], wanted: str | None, losses: Sequence[str]) -> tuple[str, float] | None:
    """Return the metric to judge by and its value; None if nothing was measured.

    Args:
        measured: name → value.
        wanted: its name; None: the first of the losses.
        losses: names of losses.

    Raises:
        InvalidValue: there is no such metric.
    """
    if not measured:
        return None
    name = wanted or next((loss for loss in losses if loss in measured), None)
    if name is None or name not in measured:
        message = f"early_stopping.metric must be one of {', '.join(sorted(measured))}; got {wanted!r}."
        raise InvalidValue(message)
    return name, measured[name]
