"""What one published version holds, whoever publishes it: the rounds driver or a user's pipeline."""

from collections.abc import Iterable, Mapping
from typing import Any

from beam_ml.algorithms import algorithm_of
from beam_ml.artefact.records import encode_learner, encode_model
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.core.refresh import Refresh

__all__ = ["facts_of", "model_facts", "payloads_of"]


def payloads_of(learner: Learner, models: Mapping[str, Model]) -> dict[str, bytes]:
    """Give a version's files: the learner and its models."""
    algorithm = algorithm_of(learner.spec)
    payloads = {"learner": encode_learner(algorithm, learner)}
    payloads |= {f"models/{name}": encode_model(algorithm, model) for name, model in models.items()}
    return payloads


def facts_of(learner: Learner, refreshes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Give what a version's manifest says of its learner."""
    return {
        "spec": learner.spec.to_dict(),
        "fingerprint": learner.spec.fingerprint,
        "progress": learner.progress.summary(),
        "open_windows": len(learner.pending),
        "champion": learner.champion,
        "refreshes": [dict(one) for one in refreshes],
    }


def model_facts(learner: Learner, refresh: Refresh | None, features: Mapping[str, Any] | None) -> dict[str, Any]:
    """Give what a stored model says of itself: how far it was trained, and which columns make its batches."""
    facts: dict[str, Any] = {
        "refresh": learner.refresh if refresh is None else refresh.number,
        "rows": learner.progress.rows,
        "trained_through": learner.progress.time_max,
    }
    return facts if features is None else facts | {"features": dict(features)}
