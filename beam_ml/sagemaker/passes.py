"""`epochs` and its early stopping, which are no matter of the Spec: how often a job reads its files."""

from collections.abc import Mapping
from typing import Any

from beam_ml.algorithms import algorithm_of
from beam_ml.core.algorithm import LawKind
from beam_ml.core.spec import Spec
from beam_ml.sagemaker.names import Given

__all__ = ["job_settings"]

_EPOCHS, _PATIENCE, _TOLERANCE = "epochs", "early_stopping_patience", "early_stopping_tolerance"


def job_settings(given: Given, spec: Spec) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Return the settings of a job that go with a spec, and a note for each name that has no effect.

    Where epochs are not named, files are read once, whatever the product's default is. Where they are, the product stops
    early by its defaults, and so does the job.

    Args:
        given: what was read, of an algorithm that has epochs.
        spec: what was built from it.
    """
    law = algorithm_of(spec).law(spec)
    named = [name for name in (_EPOCHS, _PATIENCE, _TOLERANCE) if name in given.named]
    if law.kind is not LawKind.ANCHORED or law.across_anchors:
        why = f"{spec.algorithm} takes in all that rows hold in one pass"
        return {}, tuple(f"{name} has no effect: {why}." for name in named)
    passes = given[_EPOCHS] if _EPOCHS in given.named else 1
    if passes == 1:
        return {}, tuple(f"{name} has no effect without epochs above 1." for name in named if name != _EPOCHS)
    if _PATIENCE not in given.values:
        return {"passes": passes}, ()
    return {
        "passes": passes,
        "early_stopping": {"patience": given[_PATIENCE], "tolerance": given[_TOLERANCE]},
    }, ()
