"""Where training resumes: the newest readable version, if it is this job's."""

from beam_ml.algorithms import finder
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job.job import Job
from beam_ml.beam.versions.lineage import Standing, begin
from beam_ml.core import learner as learners
from beam_ml.core.labels import rule
from beam_ml.core.learner import Learner
from beam_ml.core.spec import canonical_json
from beam_ml.errors import InvalidValue
from beam_ml.features import Features
from beam_ml.registry import Registry

__all__ = ["resume"]


def resume(job: Job, registry: Registry) -> tuple[Standing, Learner]:
    """Read the newest readable version; return the standing of a new submission, and the learner that it begins with.

    Raises:
        InvalidValue: its learner has another spec, or was trained on other features.
        CorruptArtefact: there are versions, and none of them is readable.
    """
    spec = job.algorithm_spec()
    found = registry.latest(job.name)
    if found is None:
        return begin(registry, job.name, None, 0), learners.new(job.algorithm(), spec)
    manifest, learner = found.manifest, decode_learner(found.data, finder([spec.algorithm]))
    where = f"{job.name} v{manifest.number} in the registry"
    if learner.spec.fingerprint != spec.fingerprint:
        message = (
            f"job.spec must be that of {where}, {learner.spec.to_json()}; got {spec.to_json()} (another name starts "
            "afresh)."
        )
        raise InvalidValue(message)
    if learner.labels is not None:
        message = (
            f"job.features.label must be written as {where} learned it, {rule(learner.labels)}, which a job does not: its "
            "labels are 0 and 1 (another name starts afresh)."
        )
        raise InvalidValue(message)
    trained_on = manifest.extra.get("features")
    # Settings that a later release added are missing there: parsed, they have their defaults.
    if trained_on is not None and Features.parse(trained_on) != job.features:
        message = (
            f"job.features must be those that {where} was trained on, {canonical_json(trained_on)}; got "
            f"{job.features.to_json()} (another name starts afresh)."
        )
        raise InvalidValue(message)
    return begin(registry, job.name, manifest, found.head), learner
