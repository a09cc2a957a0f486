"""The table of algorithms: one line each. A user's own is named by `module:attribute` instead."""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from beam_ml.core.algorithm import Algorithm
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import InvalidValue

__all__ = ["ALGORITHMS", "algorithm_of", "find", "model_spec_from", "spec_from"]

ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {
        "linear.newton": "beam_ml.algorithms.linear:NEWTON",
        "linear.adagrad": "beam_ml.algorithms.linear:ADAGRAD",
        "fm": "beam_ml.algorithms.fm:FM",
        "kmeans": "beam_ml.algorithms.kmeans:KMEANS",
        "pca": "beam_ml.algorithms.pca:PCA",
        "pca.sketch": "beam_ml.algorithms.pca:PCA_SKETCH",
    }
)
"""Key → ``module:attribute`` of the record; imported when first asked for."""


def find(name: str) -> Algorithm:
    """Return the algorithm by its key in ALGORITHMS or by ``module:attribute``.

    Raises:
        InvalidValue: no such algorithm.
    """
    path = ALGORITHMS.get(name, name)
    module, colon, attribute = path.partition(":")
    if not colon:
        message = f"algorithm must be one of {sorted(ALGORITHMS)} or 'module:attribute'; got {name!r}."
        raise InvalidValue(message)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        message = f"algorithm must name an importable record; got {name!r} ({error})."
        raise InvalidValue(message) from error
    if not isinstance(found, Algorithm):
        message = f"algorithm must name an Algorithm record; {name!r} is a {type(found).__name__}."
        raise InvalidValue(message)
    return found


def algorithm_of(spec: Spec) -> Algorithm:
    """Return the algorithm that a spec names."""
    return find(spec.algorithm)


def spec_from(value: Mapping[str, Any]) -> Spec:
    """Build a Spec from its JSON mapping, which names its algorithm."""
    name = value.get("algorithm")
    if not isinstance(name, str):
        message = f"spec.algorithm must be given as text; got {name!r}."
        raise InvalidValue(message)
    return find(name).spec.parse(dict(value))


def model_spec_from(algorithm: Algorithm, value: Mapping[str, Any]) -> ModelSpec:
    """Build a ModelSpec of this algorithm from its JSON mapping, which names its kind (default: the first)."""
    kind = value.get("kind", next(iter(algorithm.models)))
    if kind not in algorithm.models:
        message = f"model.kind must be one of {sorted(algorithm.models)} for {algorithm.name}; got {kind!r}."
        raise InvalidValue(message)
    return algorithm.models[kind].spec.parse({**value, "kind": kind})
