"""Amazon SageMaker's hyperparameters, by their names and as text, turned into a Spec and a ModelSpec.

Each algorithm has a table with one row per name (`TABLES`). A name is mapped to fields; or accepted with a note, where it
controls something that is not needed here; or refused with the reason, where what it asks for cannot be had. ``auto``
leaves the choice to this library. Names that the containers log of their own engine (`_kvstore`, `force_dense` …) are
accepted with a note, for every algorithm, so that a logged configuration can be passed as it is.
Unknown names are refused, as SageMaker refuses them.

>>> found = hyperparameters("kmeans", {"feature_dim": "30", "k": "8", "epochs": "3"})
>>> found.spec.k_max, found.model.k
(8, 8)
>>> found.notes
('epochs has no effect: a coreset takes in every row once, and further passes would add nothing new.',)
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from beam_ml.core.meant import did_you_mean
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import InvalidValue
from beam_ml.sagemaker import deepar, factorization_machines, kmeans, linear_learner, ntm, pca
from beam_ml.sagemaker.logged import with_logged
from beam_ml.sagemaker.names import Given, Name, read
from beam_ml.sagemaker.passes import job_settings

__all__ = ["TABLES", "Found", "Name", "hyperparameters"]

TABLES: Mapping[str, tuple[Name, ...]] = MappingProxyType(
    {
        "linear-learner": linear_learner.TABLE,
        "factorization-machines": factorization_machines.TABLE,
        "kmeans": kmeans.TABLE,
        "pca": pca.TABLE,
        "ntm": ntm.TABLE,
        "forecasting-deepar": deepar.TABLE,
    }
)
"""Algorithm, as SageMaker names its image → its hyperparameters."""

_BUILD: Mapping[str, Callable[[Given], tuple[Spec, ModelSpec]]] = MappingProxyType(
    {
        "linear-learner": linear_learner.build,
        "factorization-machines": factorization_machines.build,
        "kmeans": kmeans.build,
        "pca": pca.build,
        "ntm": ntm.build,
        "forecasting-deepar": deepar.build,
    }
)


_WITH_PASSES = ("linear-learner", "factorization-machines")
"""Algorithms whose table maps epochs to passes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What hyperparameters translate to.

    Attributes:
        spec: what to learn.
        model: which model to derive.
        notes: one sentence for each name that was given and has no effect.
        job: settings of a `beam_ml.beam.job.Job` besides: how often files are read, and when that ends early.
    """

    spec: Spec
    model: ModelSpec
    notes: tuple[str, ...]
    job: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def hyperparameters(algorithm: str, given: Mapping[str, str]) -> Found:
    """Turn SageMaker's hyperparameters into a Spec and a ModelSpec.

    Args:
        algorithm: ``linear-learner``, ``factorization-machines``, ``kmeans``, ``pca``, ``ntm`` or ``forecasting-deepar``.
        given: name → value, as text; numbers and truth values are read as their text.

    Returns:
        Spec, ModelSpec and notes.

    Raises:
        InvalidValue: an unknown algorithm or name, a value out of range, or one that cannot be honoured: one sentence
            that names it and the reason.

    >>> found = hyperparameters("linear-learner", {"predictor_type": "regressor", "feature_dim": "20", "wd": "0.01"})
    >>> found.spec.called, found.model.l2
    ('linear.Newton', 0.01)
    """
    if algorithm not in TABLES:
        known = ", ".join(TABLES)
        message = f"algorithm must be one of {known}; got {algorithm!r}.{did_you_mean(algorithm, TABLES)}"
        raise InvalidValue(message)
    found = read(algorithm, with_logged(TABLES[algorithm]), given)
    spec, model = _BUILD[algorithm](found)
    job, idle = job_settings(found, spec) if algorithm in _WITH_PASSES else ({}, ())
    return Found(spec, model, (*found.notes, *idle), job)
