"""How many places a job's columns of categories have: as its first version says, else by a look at its files or topic."""

from beam_ml.beam.job.job import Job
from beam_ml.beam.job.looking import Looked, asks, category_columns, look
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.versions.sized import as_trained
from beam_ml.registry import Registry

__all__ = ["looked_at", "sized"]


def sized(job: Job, registry: Registry) -> Looked:
    """Return the job with all its buckets, as they stay from its first version on.

    Args:
        job: the deployment.
        registry: whose newest readable version decides where there is one.

    Raises:
        CorruptArtefact: there are versions, and none of them is readable.
        NoInput, SourceUnavailable, SourceRefused: there is none, and its topic cannot be looked at.
    """
    if not job.features.unsized:
        return Looked(job)
    found = registry.latest(job.name)
    return looked_at(job) if found is None else Looked(as_trained(job, found.manifest))


def looked_at(job: Job) -> Looked:
    """Return the job with the places that a look at its files or topic gives its columns.

    Raises:
        NoInput, SourceUnavailable, SourceRefused: its topic cannot be looked at.
    """
    if not isinstance(job.source, KafkaSource) or not asks(job):
        return look(job)
    from beam_ml.beam.kafka.looking import some_rows  # loads the client library, which jobs over files need not have

    return look(job, some_rows(job.source, category_columns(job)))
