"""What a stream cannot do, refused before it is built."""

from apache_beam import PTransform

from beam_ml.beam.job.job import Job
from beam_ml.beam.job.sources import KafkaSource, Source
from beam_ml.beam.transforms.windowing import TICK_US
from beam_ml.core.spec import to_us
from beam_ml.errors import InvalidValue
from beam_ml.registry import Registry

__all__ = ["check"]


def check(job: Job, registry: Registry, read: PTransform | None) -> None:
    """Refuse a job that no stream can do.

    Args:
        job: the deployment.
        registry: where versions go.
        read: what reads the rows in place of the job's topic; None: nothing.

    Raises:
        InvalidValue: one sentence, with the setting.
    """
    if job.refresh == "round":
        message = (
            "job.refresh must be a duration, such as '5s', in a stream: it has no rounds, and the watermark closes its "
            "windows; got 'round'."
        )
        raise InvalidValue(message)
    if to_us(job.refresh) % TICK_US:
        message = f"job.refresh must be whole ms in a stream, the grain of engines' timers; got {job.refresh} s."
        raise InvalidValue(message)
    if read is None:
        _check_topic("source", job.source)
        if job.labels is not None:
            _check_topic("labels.source", job.labels.source)
    if job.prepares:
        _check_raw(job, read)
    if registry.objects.where.startswith("memory:"):
        message = f"registry must be a place that workers reach, a folder or a bucket; got {registry.objects.where!r}."
        raise InvalidValue(message)


def _check_topic(where: str, source: Source) -> None:
    if not isinstance(source, KafkaSource):
        message = f"job.{where} must be a Kafka topic in a stream (files are read in rounds); got {source.where!r}."
        raise InvalidValue(message)


def _check_raw(job: Job, read: PTransform | None) -> None:
    """Refuse what is not to be had with raw rows."""
    sources = [("source", job.source)] + ([] if job.labels is None else [("labels.source", job.labels.source)])
    for where, source in sources:
        if isinstance(source, KafkaSource) and source.on_gap == "skip":
            message = (
                f"job.{where}.on_gap must be 'fail' in a stream with rolling features, late labels or predictions, whose "
                "windows would then lack rows; got 'skip' (rounds skip: beam-ml train --follow)."
            )
            raise InvalidValue(message)
    if job.predictions is not None and job.predictions.topic is None and read is None:
        message = (
            "job.predictions.topic must be given in a stream, a Kafka topic for a message per row; got predictions.path "
            "alone, which rounds write to (beam-ml train --follow)."
        )
        raise InvalidValue(message)
