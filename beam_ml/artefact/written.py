"""How rows were written by those who gave them: their labels, and what their features are."""

from collections.abc import Mapping
from typing import Any

from beam_ml.core.learner import Learner
from beam_ml.core.spec import Spec
from beam_ml.errors import CorruptArtefact

__all__ = ["names_of", "names_stored", "read", "stored"]


def stored(learner: Learner) -> dict[str, Any]:
    """Return the entries of a header: only what differs from labels of 0 and 1 and features without names and settings."""
    labels = {} if learner.labels is None else {"labels": list(learner.labels)}
    features = {} if learner.features is None else {"features": dict(learner.features)}
    return labels | features | names_stored(learner.names)


def read(spec: Spec, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the learner's fields.

    Raises:
        CorruptArtefact: an entry is not what `stored` writes.
    """
    found: dict[str, Any] = {}
    if "labels" in meta:
        labels = meta["labels"]
        if not isinstance(labels, list) or len(labels) != 2 or not all(type(one) in (int, float) for one in labels):
            message = f"The artefact must hold two numbers as labels; got {labels!r}."
            raise CorruptArtefact(message)
        found["labels"] = (float(labels[0]), float(labels[1]))
    if "features" in meta:
        if not isinstance(meta["features"], dict):
            message = f"The artefact must hold settings as features; got {meta['features']!r:.80}."
            raise CorruptArtefact(message)
        found["features"] = meta["features"]
    found["names"] = names_of(meta, spec.n_features)
    return found


def names_stored(names: tuple[str, ...] | None) -> dict[str, Any]:
    """Return the entry of a header for the names of features: none where they are unknown."""
    return {} if names is None else {"names": list(names)}


def names_of(meta: Mapping[str, Any], n_features: int) -> tuple[str, ...] | None:
    """Return the names of features; None: they are unknown.

    Raises:
        CorruptArtefact: they are not as many different texts as there are features.
    """
    if "names" not in meta:
        return None
    value = meta["names"]
    whole = isinstance(value, list) and all(isinstance(one, str) for one in value)
    if not whole or len(set(value)) != n_features or len(value) != n_features:
        message = f"The artefact must hold {n_features} different texts as names; got {value!r:.80}."
        raise CorruptArtefact(message)
    return tuple(value)
