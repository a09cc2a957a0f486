"""The table of algorithms: one line each. A user's own is named by `module:attribute` instead.

Importing a module runs it, so who names it matters. `find` takes what the caller names: a spec, a job. What stored bytes
name goes through `finder`, and what travels between a pipeline's steps through `at_hand`; neither imports on the word of the
bytes.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from beam_ml.core.algorithm import Algorithm
from beam_ml.core.importing import attribute_of, is_path
from beam_ml.core.meant import did_you_mean
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import InvalidValue, MissingAlgorithm

__all__ = [
    "ALGORITHMS",
    "VARIABLE",
    "Named",
    "algorithm_of",
    "at_hand",
    "find",
    "finder",
    "model_spec_from",
    "spec_from",
]

VARIABLE = "BEAM_ML_ALGORITHMS"
"""Environment variable: algorithms that the process takes from stored bytes, ``module:attribute``, parted by commas."""

Named = Iterable[str | Algorithm]
"""Algorithms that a caller names: by ``module:attribute`` or as the record itself."""

ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {
        "linear.newton": "beam_ml.algorithms.linear:NEWTON",
        "linear.adagrad": "beam_ml.algorithms.linear:ADAGRAD",
        "fm": "beam_ml.algorithms.fm:FM",
        "kmeans": "beam_ml.algorithms.kmeans:KMEANS",
        "pca": "beam_ml.algorithms.pca:PCA",
        "pca.sketch": "beam_ml.algorithms.pca:PCA_SKETCH",
        "deepar": "beam_ml.algorithms.deepar:DEEPAR",
        "distinct": "beam_ml.algorithms.distinct:DISTINCT",
        "quantile": "beam_ml.algorithms.quantile:QUANTILE",
        "target": "beam_ml.algorithms.target:TARGET",
        "vocabulary": "beam_ml.algorithms.vocabulary:VOCABULARY",
        "ntm": "beam_ml.algorithms.ntm:NTM",
    }
)
"""Key → ``module:attribute`` of the record; imported when first asked for."""


def find(name: str) -> Algorithm:
    """Return the algorithm that the caller names, by its key in ALGORITHMS or by ``module:attribute``, which is imported.

    For names from stored bytes use `finder`.

    Raises:
        InvalidValue: no such algorithm.
    """
    path = ALGORITHMS.get(name, name)
    if ":" not in path:
        message = f"algorithm must be one of {sorted(ALGORITHMS)} or 'module:attribute'; got {name!r}."
        message += did_you_mean(name, ALGORITHMS)
        raise InvalidValue(message)
    found = attribute_of("algorithm", path)
    if not isinstance(found, Algorithm):
        message = f"algorithm must name an Algorithm record; {name!r} is a {type(found).__name__}."
        raise InvalidValue(message)
    return found


def finder(algorithms: Named = ()) -> Callable[[str], Algorithm]:
    """Return a function from the name that stored bytes give to the algorithm.

    It takes those in ALGORITHMS, those that the caller names, and those that the environment variable BEAM_ML_ALGORITHMS
    names; of any other nothing is imported.

    Args:
        algorithms: ``module:attribute`` or records.

    >>> finder()("pca").name
    'pca'
    >>> finder()("unittest.__main__:x")
    Traceback (most recent call last):
        ...
    beam_ml.errors.MissingAlgorithm: The artefact is of the algorithm 'unittest.__main__:x', which is not built in and was \
not named: nothing was imported. Where you trust it, name it: algorithms=['unittest.__main__:x'], or \
BEAM_ML_ALGORITHMS=unittest.__main__:x.
    """
    algorithms = (algorithms,) if isinstance(algorithms, str | Algorithm) else tuple(algorithms)
    records = {one.name: one for one in algorithms if isinstance(one, Algorithm)}
    names = {one for one in algorithms if isinstance(one, str)}

    def taken(name: str) -> Algorithm:
        if name in records:
            return records[name]
        if name in ALGORITHMS or name in names or name in _allowed() or not _is_foreign(name):
            return find(name)
        raise _refusal(name)

    return taken


def at_hand(name: str) -> Algorithm:
    """Return the algorithm that an element between a pipeline's steps names: one that this process has imported already.

    Raises:
        MissingAlgorithm: it is not built in, not named by BEAM_ML_ALGORITHMS, and its module is not imported here.
    """
    if name in ALGORITHMS or name in _allowed() or not _is_foreign(name):
        return find(name)
    module, _, attribute = name.partition(":")
    # Not `getattr`: a module's own __getattr__ is code.
    record = getattr(sys.modules.get(module), "__dict__", {}).get(attribute)
    if isinstance(record, Algorithm):
        return record
    raise _refusal(name)


def _allowed() -> set[str]:
    return {one.strip() for one in os.environ.get(VARIABLE, "").split(",")} - {""}


def _is_foreign(name: Any) -> bool:
    return isinstance(name, str) and is_path(name)


def _refusal(name: str) -> MissingAlgorithm:
    return MissingAlgorithm(
        f"The artefact is of the algorithm {name!r}, which is not built in and was not named: nothing was imported. Where "
        f"you trust it, name it: algorithms=[{name!r}], or {VARIABLE}={name}."
    )


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
    if not isinstance(kind, str) or kind not in algorithm.models:
        message = f"model.kind must be one of {sorted(algorithm.models)} for {algorithm.name}; got {kind!r}."
        message += did_you_mean(kind, algorithm.models)
        raise InvalidValue(message)
    return algorithm.models[kind].spec.parse({**value, "kind": kind})
