"""A deployment as data: the job and its sources."""

from beam_ml.beam.job.job import Announce, Job, Retention, load_job
from beam_ml.beam.job.sources import FileSource, KafkaSource, PipeSource, Source

__all__ = ["Announce", "FileSource", "Job", "KafkaSource", "PipeSource", "Retention", "Source", "load_job"]
