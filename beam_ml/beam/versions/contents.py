"""What one published version holds, whoever publishes it: the rounds driver or a user's pipeline."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from beam_ml.algorithms import algorithm_of
from beam_ml.artefact.cursors import summary_of
from beam_ml.artefact.records import encode_learner, encode_model
from beam_ml.beam.versions.lineage import NONE_CLOSED
from beam_ml.core.champions import reached
from beam_ml.core.gate import Verdict
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.core.refresh import Refresh
from beam_ml.core.spec import ModelSpec
from beam_ml.errors import InvalidValue
from beam_ml.features import Features

__all__ = ["PREPARED", "check_names", "facts_of", "model_facts", "models_of", "payloads_of", "verdict_of"]

PREPARED = "prepared"
"""The name, among a version's files, of what a trainer keeps of raw rows between rounds."""


def payloads_of(learner: Learner, models: Mapping[str, Model]) -> dict[str, bytes]:
    """Return a version's files: the learner and its models."""
    algorithm = algorithm_of(learner.spec)
    payloads = {"learner": encode_learner(algorithm, learner)}
    payloads |= {f"models/{name}": encode_model(algorithm, model) for name, model in models.items()}
    return payloads


def facts_of(learner: Learner, refreshes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a version's manifest says of its learner."""
    return {
        "spec": learner.spec.to_dict(),
        "fingerprint": learner.spec.fingerprint,
        "progress": learner.progress.summary(),
        "open_windows": len(learner.pending),
        "champion": learner.champion,
        "refreshes": [dict(one) for one in refreshes],
        "next": summary_of(learner.cursors),
    }


def model_facts(learner: Learner, refresh: Refresh | None, features: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a stored model says of itself: how far it was trained, and which columns make its batches."""
    facts: dict[str, Any] = {
        "refresh": learner.refresh if refresh is None else refresh.number,
        "rows": learner.progress.rows,
        "trained_through": learner.progress.time_max,
    }
    if features is None:
        return facts if learner.names is None else facts | {"names": list(learner.names)}
    made = Features.parse(dict(features)).sized()
    return (
        facts
        | {"features": made.to_dict()}
        | ({"names": list(made.names)} if made.names and not made.is_sparse else {})
    )


def check_names(learner: Learner, features: Features, field: str, where: str) -> None:
    """Refuse features in another order than a learner has them, where it knows their names.

    Args:
        learner: to resume from.
        features: what makes the rows.
        field: the setting that says so, for the message.
        where: the learner lies, for the message.

    Raises:
        InvalidValue: they are others, or in another order.
    """
    if learner.names is not None and learner.names != features.names:
        message = (
            f"{field}.numeric must be the features that {where} learned, in their order, {list(learner.names)[:8]}; got "
            f"{list(features.names)[:8]} (another name starts afresh)."
        )
        raise InvalidValue(message)


def models_of(
    learner: Learner, specs: Mapping[str, ModelSpec], models: Mapping[str, Any], features: Mapping[str, Any] | None
) -> dict[str, Model]:
    """Return what was derived from a learner as models to store."""
    facts, algorithm = model_facts(learner, None, features), algorithm_of(learner.spec)
    return {
        name: Model(learner.spec, specs[name], arrays, facts | reached(algorithm, learner, specs[name], arrays))
        for name, arrays in models.items()
    }


def verdict_of(refreshes: Sequence[Refresh], models: Mapping[str, Any], before: Verdict) -> Verdict:
    """Return the verdict of a version: its last refresh's; without one, that of the version before."""
    if not models:
        return Verdict(False, ("no rows to derive a model from yet",)) if refreshes else NONE_CLOSED
    return refreshes[-1].verdict if refreshes else before
