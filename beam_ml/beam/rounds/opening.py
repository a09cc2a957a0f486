"""The sources of a job, opened for rounds."""

from collections.abc import Callable, Mapping
from typing import Any

from beam_ml.beam.job.job import Job
from beam_ml.beam.job.sources import FileSource, KafkaSource, PipeSource, Source
from beam_ml.beam.rounds.file_plan import FilePlan
from beam_ml.beam.rounds.files import FileRounds
from beam_ml.beam.rounds.pipes import PipeRounds
from beam_ml.beam.rounds.source import RoundPlan, RoundSource

__all__ = ["opened", "plan_from"]


def opened(source: Source, job: Job, follow: bool, stopping: Callable[[], bool]) -> RoundSource:
    """Return a source of a job as one trainer sees it.

    Args:
        source: the job's, or that of its reports.
        job: the deployment.
        follow: wait for more.
        stopping: asked while brokers do not answer.
    """
    if isinstance(source, FileSource):
        return FileRounds(source, follow, job.passes)
    if isinstance(source, PipeSource):
        return PipeRounds(source, f"{job.name} {job.registry}", follow, job.passes, stopping)
    from beam_ml.beam.rounds.topic import KafkaRounds  # loads the client library, which jobs over files need not have

    return KafkaRounds(source, None if job.refresh == "round" else job.refresh, follow, stopping)


def plan_from(source: Source, value: Mapping[str, Any]) -> RoundPlan:
    """Return a plan, as another process of this machine reads it, of its JSON (`RoundPlan.to_dict`).

    Args:
        source: the job's.
        value: see above.
    """
    if isinstance(source, FileSource):
        return FilePlan.from_dict(source, value)
    from beam_ml.beam.rounds.topic_plan import KafkaPlan  # see above

    assert isinstance(source, KafkaSource)  # noqa: S101 a pipe's plan stays whole
    return KafkaPlan.from_dict(source, value)
