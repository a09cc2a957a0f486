"""Where training resumes: the newest readable version, if it is this job's."""

from typing import NamedTuple

from beam_ml.algorithms import finder
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job.job import Job
from beam_ml.core import learner as learners
from beam_ml.core.learner import Learner
from beam_ml.core.spec import canonical_json
from beam_ml.errors import InvalidValue
from beam_ml.registry import Manifest, Registry

__all__ = ["Resumed", "resume"]


class Resumed(NamedTuple):
    """The state that a trainer begins with.

    Attributes:
        manifest: of the version it resumes from; None: from nothing.
        learner: that version's, or a new one.
        head: the newest number; above the manifest's where damaged versions were stepped over.
        epoch: of this start: one above that of the newest version.
    """

    manifest: Manifest | None
    learner: Learner
    head: int
    epoch: int


def resume(job: Job, registry: Registry) -> Resumed:
    """Read the newest readable version.

    Raises:
        InvalidValue: its learner has another spec, or was trained on other features.
    """
    spec = job.algorithm_spec()
    found = registry.latest(job.name)
    if found is None:
        return Resumed(None, learners.new(job.algorithm(), spec), 0, 1)
    manifest, learner = found.manifest, decode_learner(found.data, finder([spec.algorithm]))
    where = f"{job.name} v{manifest.number} in the registry"
    if learner.spec.fingerprint != spec.fingerprint:
        message = (
            f"job.spec must be that of {where}, {learner.spec.to_json()}; got {spec.to_json()} (another name starts "
            "afresh)."
        )
        raise InvalidValue(message)
    trained_on = manifest.extra.get("features")
    if trained_on is not None and trained_on != job.features.to_dict():
        message = (
            f"job.features must be those that {where} was trained on, {canonical_json(trained_on)}; got "
            f"{job.features.to_json()} (another name starts afresh)."
        )
        raise InvalidValue(message)
    epoch = manifest.epoch if found.head == manifest.number else _newest_epoch(registry, job.name)
    return Resumed(manifest, learner, found.head, 1 + max(manifest.epoch, epoch))


def _newest_epoch(registry: Registry, name: str) -> int:
    """Return the epoch of the newest manifest that is readable: its learner may be damaged."""
    return next((manifest.epoch for manifest in registry.manifests(name)), 0)
