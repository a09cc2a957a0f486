"""What Beam's functions ship instead of objects: JSON, settled once a process."""

import dataclasses
import functools
import json
import logging
from typing import Any

from beam_ml.algorithms import find, spec_from
from beam_ml.artefact.records import decode_learner
from beam_ml.core.accumulation import COLD
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.learner import Learner
from beam_ml.core.spec import Spec
from beam_ml.errors import InvalidValue, MergeRefused
from beam_ml.features import Features
from beam_ml.registry import Registry

__all__ = ["REFUSE_BYTES", "WARN_BYTES", "AnchorRef", "anchor_of", "check_size", "features_of", "learner_of", "spec_of"]

WARN_BYTES = 16 << 20
REFUSE_BYTES = 256 << 20

_log = logging.getLogger(__name__)
_SIZES = ("k_max", "components", "n_factors", "pending_bytes", "gather_bytes", "n_features")
"""Spec fields that the bytes of a partial grow with, the cheapest to give up first."""


@dataclasses.dataclass(frozen=True, slots=True)
class AnchorRef:
    """The learner that workers start from: a version in a registry.

    Attributes:
        registry: path or URL; what it needs besides comes from the worker's environment.
        name: the job's.
        version: number.
        digest: the learner's, if known: tells one registry from another made anew in its place.
    """

    registry: str
    name: str
    version: int
    digest: str = ""


@functools.lru_cache(maxsize=64)
def spec_of(text: str) -> tuple[Algorithm, Spec]:
    """Give the algorithm and spec of a spec's JSON."""
    spec = spec_from(json.loads(text))
    return find(spec.algorithm), spec


@functools.lru_cache(maxsize=64)
def features_of(text: str) -> Features:
    """Give the features of their JSON."""
    return Features.parse(json.loads(text))


def learner_of(reference: AnchorRef, spec: Spec) -> Learner:
    """Read a stored learner of this spec.

    Raises:
        MergeRefused: it has another spec.
        RegistryError, ArtefactError: it cannot be read.
    """
    registry = Registry(reference.registry, create=False)
    learner = decode_learner(registry.read(reference.name, reference.version), find)
    if learner.spec != spec:
        message = (
            f"A job goes on from a learner of its own spec, {spec.to_json()}; "
            f"{reference.name} v{reference.version} has {learner.spec.to_json()}."
        )
        raise MergeRefused(message)
    return learner


@functools.lru_cache(maxsize=8)
def anchor_of(reference: AnchorRef | None, spec_json: str) -> tuple[int, Any]:
    """Give the refresh number and the anchor of a stored learner; it is read once a process.

    Raises:
        MergeRefused: that learner has another spec.
        RegistryError, ArtefactError: it cannot be read.
    """
    algorithm, spec = spec_of(spec_json)
    if reference is None or algorithm.anchor_type is None:
        return COLD, None
    learner = learner_of(reference, spec)
    return learner.refresh, algorithm.anchor(spec, learner.state)


def check_size(spec: Spec, size: int) -> None:
    """Warn of an accumulation that engines will be slow with; refuse one that they cannot carry.

    Raises:
        InvalidValue: more than 256 MiB.
    """
    if size <= WARN_BYTES:
        return
    fields = {name: getattr(spec, name) for name in _SIZES if name in type(spec).model_fields}
    given = ", ".join(f"{name} {value}" for name, value in fields.items())
    if size > REFUSE_BYTES:
        message = (
            f"An accumulation of {spec.algorithm} must be at most {REFUSE_BYTES >> 20} MiB; got {size >> 20} MiB with "
            f"{given}: lower {next(iter(fields))}."
        )
        raise InvalidValue(message)
    _log.warning("An accumulation of %s has %d MiB with %s: workers exchange that.", spec.algorithm, size >> 20, given)
