"""Where training resumes: the newest readable version, if it is this job's."""

from beam_ml.algorithms import finder
from beam_ml.artefact.records import decode_learner
from beam_ml.beam.job.job import Job
from beam_ml.beam.versions.contents import PREPARED, check_names
from beam_ml.beam.versions.lineage import Standing, begin
from beam_ml.beam.versions.sized import as_trained, features_of
from beam_ml.core import learner as learners
from beam_ml.core.labels import rule
from beam_ml.core.learner import Learner
from beam_ml.core.spec import canonical_json
from beam_ml.errors import InvalidValue
from beam_ml.registry import Registry

__all__ = ["resume"]


def resume(job: Job, registry: Registry) -> tuple[Standing, Learner]:
    """Read the newest readable version; return the standing of a new submission, and the learner that it begins with.

    A job's columns of categories without buckets have those of the version, and 65,536 where there is none.

    Raises:
        InvalidValue: its learner has another spec, or was trained on other features or labels.
        CorruptArtefact: there are versions, and none of them is readable.
    """
    found = registry.latest(job.name, beside=[PREPARED])
    if found is None:
        return begin(registry, job.name, None, 0), learners.new(job.algorithm(), job.algorithm_spec())
    job = as_trained(job, found.manifest)
    spec = job.algorithm_spec()
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
    check_names(learner, job.features, "job.features", where)
    trained_on = manifest.extra.get("features")
    if trained_on is not None and features_of(trained_on) != job.features:
        message = (
            f"job.features must be those that {where} was trained on, {canonical_json(trained_on)}; got "
            f"{job.features.to_json()} (another name starts afresh)."
        )
        raise InvalidValue(message)
    return begin(registry, job.name, manifest, found.head), learner
