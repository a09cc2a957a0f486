"""How a learner's rows were written by those who gave them: their labels and the names of their features."""

from collections.abc import Mapping
from typing import Any

from beam_ml.core.learner import Learner
from beam_ml.core.spec import Spec
from beam_ml.errors import CorruptArtefact

__all__ = ["names_of", "read", "stored"]


def stored(learner: Learner) -> dict[str, Any]:
    """Return the entries of a header: only what differs from labels of 0 and 1 and features without names."""
    entries = {"labels": learner.labels, "names": learner.names}
    return {name: list(value) for name, value in entries.items() if value is not None}


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
    if "names" in meta:
        found["names"] = names_of(meta["names"], spec.n_features)
    return found


def names_of(value: Any, n_features: int) -> tuple[str, ...]:
    """Return the names of features.

    Raises:
        CorruptArtefact: they are not as many different texts as there are features.
    """
    whole = isinstance(value, list) and all(isinstance(one, str) for one in value)
    if not whole or len(set(value)) != n_features or len(value) != n_features:
        message = f"The artefact must hold {n_features} different texts as names; got {value!r:.80}."
        raise CorruptArtefact(message)
    return tuple(value)
