"""What a job's algorithm takes of its features: whether these are of its kind, and which of its settings they decide."""

from collections.abc import Mapping
from typing import Any

from beam_ml.algorithms import find
from beam_ml.features import Features
from beam_ml.features.labels import Label

__all__ = ["check_kinds", "settings_of"]


def settings_of(features: Features, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec's settings, those that the features decide added where they are not given.

    The width is that of the features; if these are sparse so are its rows; classes are as many as the label lists; words are
    as long, and as many, as the features spell.

    >>> settings_of(Features(words=[{"column": "line", "most": 50}]), {"algorithm": "vocabulary"})
    {'words': 50, 'text_bytes': 24, 'n_features': 250, 'algorithm': 'vocabulary'}
    """
    given = {"n_features": features.n_features, **spec}
    name, label = given.get("algorithm"), features.label
    if isinstance(label, Label) and label.classes is not None and given.get("task") == "multiclass":
        given = {"n_classes": len(label.classes), **given}
    if not isinstance(name, str):
        return given
    known = find(name).spec
    if features.is_sparse and "sparse" in known.model_fields:
        given = {"sparse": True, **given}
    if features.words and known.takes_words:
        given = {"words": features.words[0].most, "text_bytes": features.words[0].bytes, **given}
    return given


def check_kinds(features: Features, name: Any) -> None:
    """Refuse features that the algorithm of this name cannot learn from.

    Raises:
        ValueError: they are sparse, or words, and it takes none; or words beside something else; or columns, and it takes
            series.
    """
    if not isinstance(name, str):
        return
    known = find(name).spec
    if known.feature_rule == "series" and features.matrix is None:
        message = (
            f"spec.algorithm must learn from columns; got {name!r}, whose rows are series (beam_ml.fit takes them)"
        )
        raise ValueError(message)
    if features.words:
        _check_words(features, name, known.takes_words)
        return
    if not features.is_sparse or known.takes_sparse:
        return
    if features.matrix is not None:
        message = f"features.matrix.sparse must be false with {name}, which takes dense rows alone; got true"
        raise ValueError(message)
    hashed = [one.column for one in features.hashed]
    if hashed and features.sparse is None:
        message = (
            f"features.hashed must be left out with {name}, which learns from numbers alone; got {hashed} "
            "(linear.adagrad and fm take categories; one_hot makes few of them numbers)"
        )
        raise ValueError(message)
    fields = [field.name for field in features.fields]
    message = (
        f"features.sparse must be false with {name}, which takes dense rows alone; {fields} make them sparse "
        "unless it is given"
    )
    raise ValueError(message)


def _check_words(features: Features, name: str, taken: bool) -> None:
    columns = [one.column for one in features.words]
    if not taken:
        message = (
            f"features.words must be left out with {name}, which does not learn which words there are; got {columns} "
            "(features.text counts them)"
        )
        raise ValueError(message)
    if len(features.fields) > len(features.words) or features.numeric:
        message = f"features must name nothing beside words = {columns}, all of which are counted alike"
        raise ValueError(message)
    sizes = {(one.bytes, one.most) for one in features.words}
    if len(sizes) > 1:
        message = f"features.words must have the same bytes and most each; got {sorted(sizes)}"
        raise ValueError(message)
