"""Streaming: one unbounded pipeline that trains forever, its state in the engine's checkpoints.

What it resumes from without such state is pinned when the pipeline is built: one version of the registry sets the
offsets to read from, the places counted beyond them, and the learner that the fold begins with.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from apache_beam import Flatten, Pipeline, PTransform
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.runners.runner import PipelineState

from beam_ml.beam.engine import known_errors, new_pipeline, ran_on, refuse_unbounded, streaming_options
from beam_ml.beam.job.job import Job
from beam_ml.beam.job.looking import Looked, look
from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.rounds.driver import Mode, train
from beam_ml.beam.rounds.sizing import sized
from beam_ml.beam.stream.fold import FoldJob, StreamFold
from beam_ml.beam.stream.shards import Shards
from beam_ml.beam.stream.start import Start, begin, pin
from beam_ml.beam.transforms.accumulate import Accumulate
from beam_ml.beam.transforms.batches import SliceByWindow, ToBatches
from beam_ml.beam.transforms.decode import Decode
from beam_ml.beam.transforms.rejects import WriteRejects
from beam_ml.beam.transforms.windowing import TICK_US, many_in_or_out, to_global
from beam_ml.beam.versions.contents import facts_of, payloads_of
from beam_ml.beam.versions.lineage import NONE_CLOSED, publish
from beam_ml.beam.versions.resume import resume
from beam_ml.beam.wire.references import STREAM_REFUSE_BYTES, LiveAnchor
from beam_ml.core.spec import to_us
from beam_ml.errors import EngineRefused, HeadMoved, InvalidValue
from beam_ml.registry import Registry

__all__ = ["Streamed", "build", "close_windows", "kafka_start", "run_stream"]

_LOOK_S = 0.5

_log = logging.getLogger(__name__)


class Streamed(NamedTuple):
    """What `build` returns.

    Attributes:
        published: PCollection of version numbers.
        rejected: PCollection of Reject.
        start: what the pipeline begins with.
    """

    published: PCollection
    rejected: PCollection
    start: Start


class _Read(NamedTuple):
    """Blocks of rows, and the Progress of what is gone unread."""

    blocks: PCollection
    lost: PCollection


class _ReadTopic(PTransform):
    """A job's topic as blocks of rows, from a version's read positions."""

    def __init__(
        self, source: KafkaSource, start: Start, columns: Sequence[str], splits: int, max_leap_us: int | None
    ) -> None:
        super().__init__()
        # Time has reached t where nothing older than t is expected; one tick less, and nothing of t itself is either:
        # so a window may be closed in its last ms.
        settled: dict[str, Any] = {"out_of_orderness": source.out_of_orderness + TICK_US / 1e6}
        settled["max_leap"] = None if max_leap_us is None else max_leap_us / 1e6
        if (
            start.offsets
        ):  # a partition that they do not name came into being since, and is new from its first message on
            settled["start"] = "earliest"
        self._source = KafkaSource.parse(source.to_dict() | settled)
        self._start, self._columns, self._splits = start, columns, splits

    @many_in_or_out
    def expand(self, pbegin: PBegin) -> _Read:
        from beam_ml.beam.kafka.stream.lost import SetLostAside
        from beam_ml.beam.kafka.stream.source import ReadKafkaStream  # loads the client library

        start = self._start
        read = ReadKafkaStream(self._source, start.offsets, start.seen, self._splits, topic=start.topic)
        found = pbegin | "Read" >> read | "Gaps" >> SetLostAside()
        return _Read(found.blocks | Decode(self._source.format, self._source.options, self._columns), found.lost)


def kafka_start(job: Job, registry: Registry) -> Start:
    """Pin the newest version, and where each partition of the job's topic is read from.

    Raises:
        SourceUnavailable, NoInput: the brokers or the topic cannot be reached.
        RowsLost: what is to be read next is gone, or the topic was recreated.
        SourceError: the registry's learner has read this topic in another cluster.
        InvalidValue: the registry's learner is not of this job.
    """
    from beam_ml.beam.kafka import client  # loads the client library
    from beam_ml.beam.kafka.positions import name_of

    source = job.source
    assert isinstance(source, KafkaSource)  # noqa: S101 checked by _check
    consumer = client.consumer(client.Connection.of(source))
    try:
        state = client.topic_state(consumer, source.topic)
    finally:
        consumer.close()
    start, learner = begin(job, registry)
    name = name_of(source, state, learner.cursors)
    return pin(start, learner, name, state, source.start, source.on_gap)


def build(
    pipeline: Pipeline,
    job: Job,
    registry: Registry,
    read: PTransform | None = None,
    start: Start | None = None,
    n_shards: int = 1,
    splits: int = 1,
    anchor_ttl: float = 10.0,
    on_sized: Callable[[Looked], Any] | None = None,
) -> Streamed:
    """Build the pipeline of a job.

    Where the job has columns of categories without buckets and there is no version yet, its topic is looked at, and a
    version without rows is published that says how many places they have: the engine's state has as many from the first
    row on, and a restart, with it or without, must not choose again.

    Args:
        pipeline: to add to.
        job: the deployment; its `refresh` must be a duration.
        registry: where versions go; its place is shipped to the workers.
        read: a root transform that yields blocks of rows; None: the job's topic.
        start: what to begin with, where `read` is given; None: the newest version, and no places.
        n_shards: steps that share the work of merging.
        splits: steps that each read a share of the topic's partitions.
        anchor_ttl: seconds that a worker of a gradient learner keeps an anchor before it looks for a newer one.
        on_sized: called with the job as it is run, before anything is built or published.

    Raises:
        EngineRefused: this runner would never emit anything.
        InvalidValue: `refresh = "round"`, files, or a registry that workers cannot reach.
    """
    _check(job, registry, read)
    job = _sized(job, registry, read, on_sized)
    if start is None:
        start = begin(job, registry)[0] if read is not None else kafka_start(job, registry)
    spec, where = job.algorithm_spec(), registry.objects.where
    columns = job.features.columns()
    if read is None:
        assert isinstance(job.source, KafkaSource)  # noqa: S101 checked above
        read = _ReadTopic(job.source, start, columns, splits, job.windows().max_leap_us)
    found = pipeline | "Source" >> read
    blocks = found.blocks if isinstance(found, _Read) else found
    refuse_unbounded(blocks)
    batches = blocks | "Batches" >> ToBatches(job.features, max_ahead=job.max_ahead_of_record())
    if isinstance(found, _Read):
        lost = to_global(found.lost, "GlobalLost")
        batches = batches._replace(progress=(batches.progress, lost) | "Counted" >> Flatten())
    windows = job.windows()
    looked_for = job.algorithm().anchor_type is not None or job.limits.deviations != "any"
    anchor = LiveAnchor(where, job.name, anchor_ttl) if looked_for else None
    checked: dict[str, Any] = {"limits": job.limits, "names": job.features.names}
    # Late rows are judged by the fold alone: a restored one may not have come as far as the newest version.
    accumulated = (
        batches
        | "Slices" >> SliceByWindow(windows)
        | "Accumulate" >> Accumulate(spec, anchor, refuse_bytes=STREAM_REFUSE_BYTES, **checked)
    )
    assert windows.size_us is not None  # noqa: S101 checked above
    shards = accumulated | "Shards" >> Shards(spec, windows.size_us, n_shards)
    published = shards | "Fold" >> StreamFold(FoldJob.of(job, where, start))
    _ = accumulated.rejected | "Rejects" >> WriteRejects(where, f"{job.name}/rejects/{start.standing.run_id}/")
    return Streamed(published, accumulated.rejected, start)


def _sized(job: Job, registry: Registry, read: PTransform | None, on_sized: Callable[[Looked], Any] | None) -> Job:
    """Return the job with all its buckets; those that a topic has led to stand in a version from then on."""
    unsized = job.features.unsized
    if read is not None and isinstance(job.source, KafkaSource) and registry.head_number(job.name) == 0:
        looked = look(job)  # what is read is not this topic
    else:
        looked = sized(job, registry)
    if on_sized is not None:
        on_sized(looked)
    if unsized and read is None and registry.head_number(job.name) == 0:
        standing, learner = resume(looked.job, registry)
        facts = facts_of(learner, ()) | {"features": looked.job.features.to_dict()}
        publish(registry, job.name, standing, payloads_of(learner, {}), NONE_CLOSED, facts)
    return looked.job


def _check(job: Job, registry: Registry, read: PTransform | None) -> None:
    if job.prepares:
        message = (
            "job.rolling, job.labels and job.predictions must be left out in a stream, which learns rows as they are; "
            "rounds take them (beam-ml train --follow)."
        )
        raise InvalidValue(message)
    if job.refresh == "round":
        message = (
            "job.refresh must be a duration, such as '5s', in a stream: it has no rounds, and the watermark closes its "
            "windows; got 'round'."
        )
        raise InvalidValue(message)
    if to_us(job.refresh) % TICK_US:
        message = f"job.refresh must be whole ms in a stream, the grain of engines' timers; got {job.refresh} s."
        raise InvalidValue(message)
    if read is None and not isinstance(job.source, KafkaSource):
        message = f"job.source must be a Kafka topic in a stream (files are read in rounds); got {job.source.where!r}."
        raise InvalidValue(message)
    if registry.objects.where.startswith("memory:"):
        message = f"registry must be a place that workers reach, a folder or a bucket; got {registry.objects.where!r}."
        raise InvalidValue(message)


def run_stream(
    job: Job,
    registry: Registry,
    options: Sequence[str] = (),
    stopping: Callable[[], bool] = lambda: False,
    on_stop: Callable[[], Any] | None = None,
    **settings: Any,
) -> str:
    """Train in one unbounded pipeline until it is stopped; return the name of the runner that ran.

    Args:
        job: the deployment.
        registry: where versions go.
        options: Beam options; they must name a runner that streams.
        stopping: asked twice a second: True cancels the pipeline.
        on_stop: called in place of cancelling, where the engine can end the job itself (a savepoint).
        settings: of `build`.

    Raises:
        EngineRefused: no runner that streams is named, or the pipeline ended by itself.
        BeamMLError: as a worker raised it.
    """
    pipeline = new_pipeline(streaming_options(options))
    build(pipeline, job, registry, **settings)
    with known_errors():
        result = pipeline.run()
        while not PipelineState.is_terminal(result.state):
            if stopping():
                (on_stop or result.cancel)()
                return ran_on(pipeline.runner, result)
            time.sleep(_LOOK_S)
        result.wait_until_finish()
    message = f"A stream must run until it is stopped; {ran_on(pipeline.runner, result)} says {result.state}."
    raise EngineRefused(message)


def close_windows(job: Job, registry: Registry) -> int:
    """Fold the windows that a stream has left open, once it has ended; return the newest version's number.

    Their rows are read again, up to the end of the topic, as rounds in this process. What comes for them later is late.

    Raises:
        HeadMoved: another trainer publishes under this name.
        SourceError: the topic cannot be read.
        BeamMLError: as a worker raised it.
    """
    try:
        _close(job, registry)
    except HeadMoved as error:
        _log.warning("What the stream published last was still in flight; its windows are closed again: %s", error)
        _close(job, registry)
    return registry.head_number(job.name)


def _close(job: Job, registry: Registry) -> None:
    for one in train(job, registry, Mode("once", close=True)):
        _log.info("%s v%d: %d windows closed.", job.name, one.manifest.number, len(one.refreshes))
