"""What Beam's functions ship instead of objects: JSON, settled once per process."""

import dataclasses
import functools
import hashlib
import json
import logging

from beam_ml.algorithms import find, finder, model_spec_from, spec_from
from beam_ml.artefact.records import decode_learner
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.gate import Gate
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import Plan
from beam_ml.core.spec import Spec
from beam_ml.errors import InvalidValue, MergeRefused, VersionNotFound
from beam_ml.features import Features
from beam_ml.registry import Registry

__all__ = [
    "REFUSE_BYTES",
    "STREAM_REFUSE_BYTES",
    "WARN_BYTES",
    "AnchorRef",
    "LiveAnchor",
    "check_size",
    "check_spec",
    "features_of",
    "learner_of",
    "plan_json",
    "plan_of",
    "spec_of",
]

WARN_BYTES = 16 << 20
REFUSE_BYTES = 256 << 20
STREAM_REFUSE_BYTES = 64 << 20
"""In an unbounded pipeline accumulations are state, which engines write again and again."""

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
        digest: the learner's, if known: distinguishes a registry from one recreated in its place.

    >>> import tempfile
    >>> from beam_ml import Batch, fit, pca
    >>> from beam_ml.algorithms import algorithm_of
    >>> from beam_ml.artefact.records import encode_learner
    >>> spec, where = pca.Spec(n_features=1), tempfile.mkdtemp()
    >>> learner = fit(spec, [Batch.dense([[1.0], [3.0]])])
    >>> payloads = {"learner": encode_learner(algorithm_of(spec), learner)}
    >>> published = Registry(where).publish("shape", payloads, parent=None, round_id="1-a")
    >>> learner_of(AnchorRef(where, "shape", published.number), spec)
    Learner(pca, refresh 1, 2 rows)
    """

    registry: str
    name: str
    version: int
    digest: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class LiveAnchor:
    """The newest learner under a name, looked for again and again: what workers of an unbounded pipeline start from.

    Attributes:
        registry: path or URL; what it needs besides comes from the worker's environment.
        name: the job's.
        ttl_s: how long a worker keeps what it has before it looks again.
    """

    registry: str
    name: str
    ttl_s: float = 10.0


@functools.lru_cache(maxsize=64)
def spec_of(text: str) -> tuple[Algorithm, Spec]:
    """Return the algorithm and spec of a spec's JSON."""
    spec = spec_from(json.loads(text))
    return find(spec.algorithm), spec


@functools.lru_cache(maxsize=64)
def features_of(text: str) -> Features:
    """Return the features of their JSON."""
    return Features.parse(json.loads(text))


def learner_of(reference: AnchorRef, spec: Spec) -> Learner:
    """Read a stored learner of this spec.

    Raises:
        MergeRefused: it has another spec.
        VersionNotFound: it is another one than was meant, or there is none.
        RegistryError, ArtefactError: it cannot be read.
    """
    registry, where = Registry(reference.registry, create=False), f"{reference.name} v{reference.version}"
    data = registry.read(reference.name, reference.version)
    if reference.digest and hashlib.sha256(data).hexdigest() != reference.digest:
        message = f"{where} must be the learner of digest {reference.digest[:12]}; the registry was recreated since."
        raise VersionNotFound(message)
    learner = decode_learner(data, finder([spec.algorithm]))
    check_spec(learner, spec, where)
    return learner


def check_spec(learner: Learner, spec: Spec, where: str) -> None:
    """Refuse the learner that lies somewhere when it is not of a job's spec.

    Raises:
        MergeRefused: it has another one.
    """
    if learner.spec != spec:
        message = (
            f"A job resumes from a learner of its own spec, {spec.to_json()}; {where} has {learner.spec.to_json()}."
        )
        raise MergeRefused(message)


def check_size(spec: Spec, size: int, refuse_bytes: int | None = None) -> None:
    """Warn of an accumulation that engines will be slow with; refuse one that they cannot carry.

    Raises:
        InvalidValue: more than `refuse_bytes`, 256 MiB where none are given.
    """
    refuse_bytes = REFUSE_BYTES if refuse_bytes is None else refuse_bytes
    if size <= WARN_BYTES:
        return
    fields = {name: getattr(spec, name) for name in _SIZES if name in type(spec).model_fields}
    given = ", ".join(f"{name} {value}" for name, value in fields.items())
    if size > refuse_bytes:
        message = (
            f"An accumulation of {spec.algorithm} must be at most {refuse_bytes >> 20} MiB; got {size >> 20} MiB with "
            f"{given}: lower {next(iter(fields))}."
        )
        raise InvalidValue(message)
    _log.warning(
        "An accumulation of %s has %d MiB with %s: workers exchange that much.", spec.algorithm, size >> 20, given
    )


def plan_json(plan: Plan) -> str:
    """Return model specs and gate as they are shipped."""
    return json.dumps({"models": {name: one.to_dict() for name, one in plan.models.items()}, "gate": plan.gate.rules})


def plan_of(algorithm: Algorithm, text: str) -> Plan:
    """Read the JSON of `plan_json`."""
    given = json.loads(text)
    models = {name: model_spec_from(algorithm, value) for name, value in given["models"].items()}
    return Plan(models, Gate(tuple(given["gate"])))
