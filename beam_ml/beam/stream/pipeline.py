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
from beam_ml.beam.job.sources import KafkaSource, Source
from beam_ml.beam.kafka.client import TopicState
from beam_ml.beam.rounds.driver import Mode, train
from beam_ml.beam.rounds.prepare.kept import PAYLOAD, encode_kept, nothing_kept
from beam_ml.beam.rounds.prepare.preparer import refuse_prepared
from beam_ml.beam.rounds.sizing import sized
from beam_ml.beam.stream.checking import check
from beam_ml.beam.stream.fold import FoldJob, StreamFold
from beam_ml.beam.stream.predict import Predict
from beam_ml.beam.stream.prepare import PreparedRows, PrepareRows, delay_us, every_us
from beam_ml.beam.stream.raw_start import RawStart, pin_raw, unplaced
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
from beam_ml.errors import EngineRefused, HeadMoved
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
        featured: where raw rows are prepared and predicted, PCollection of Block: rows as they are to be scored.
    """

    published: PCollection
    rejected: PCollection
    start: Start
    featured: PCollection | None = None


class _Read(NamedTuple):
    """Blocks of rows, and the Progress of what is gone unread."""

    blocks: PCollection
    lost: PCollection


class _ReadTopic(PTransform):
    """A topic as blocks of rows, from a version's read positions."""

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
    from beam_ml.beam.kafka.positions import name_of  # loads the client library

    state, source = _state_of(job.source), job.source
    assert isinstance(source, KafkaSource)  # noqa: S101 checked by `check`
    start, learner = begin(job, registry)
    refuse_prepared(job, registry, start.standing.version)
    name = name_of(source, state, learner.cursors)
    return pin(start, learner, name, state, source.start, source.on_gap)


def raw_start(job: Job, registry: Registry) -> RawStart:
    """Pin the newest version, and where each partition of the topics of raw rows and their reports is read from.

    Raises:
        SourceUnavailable, NoInput: the brokers or a topic cannot be reached.
        RowsLost: what is to be read next is gone, or a topic was recreated.
        SourceError: the registry's learner has read the topic in another cluster.
        InvalidValue: the registry's learner is not of this job.
    """
    rows, reports = _state_of(job.source), None if job.labels is None else _state_of(job.labels.source)
    return pin_raw(job, registry, *begin(job, registry), rows, reports)


def _state_of(source: Source) -> TopicState:
    from beam_ml.beam.kafka import client  # loads the client library

    assert isinstance(source, KafkaSource)  # noqa: S101 checked by `check`
    consumer = client.consumer(client.Connection.of(source))
    try:
        return client.topic_state(consumer, source.topic)
    finally:
        consumer.close()


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
    reports: PTransform | None = None,
    release_every: float | None = None,
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
        start: what to begin with, where `read` is given and rows are learned as they are; None: the newest version, and no
            places.
        n_shards: steps that share the work of merging.
        splits: steps that each read a share of the topic's partitions.
        anchor_ttl: seconds that a worker of a gradient learner keeps an anchor before it looks for a newer one.
        on_sized: called with the job as it is run, before anything is built or published.
        reports: what reads the reports of late labels in place of their topic.
        release_every: seconds of event time whose raw rows are released together, a part of `refresh`; None: one, or a
            window. It changes no value.

    Raises:
        EngineRefused: this runner would never emit anything.
        InvalidValue: see `checking.check`; or windows are no multiple of `release_every`.
    """
    check(job, registry, read)
    job = _sized(job, registry, read, on_sized)
    spec, where, windows = job.algorithm_spec(), registry.objects.where, job.windows()
    assert windows.size_us is not None  # noqa: S101 checked above
    delay, lost = 0, None
    prepared: PreparedRows | None = None
    if job.prepares:
        begun = raw_start(job, registry) if read is None else unplaced(job, registry, *begin(job, registry))
        start, delay = begun.rows, delay_us(job)
        prepared = _prepared(pipeline, job, where, begun, read, reports, splits, every_us(job, release_every))
        blocks = prepared.learned
    else:
        if start is None:
            start = begin(job, registry)[0] if read is not None else kafka_start(job, registry)
        found = _rows_of(pipeline, job, start, read, splits)
        blocks, lost = (found.blocks, found.lost) if isinstance(found, _Read) else (found, None)
    batches = blocks | "Batches" >> ToBatches(job.features, max_ahead=job.max_ahead_of_record())
    if lost is not None:
        lost = to_global(lost, "GlobalLost")
        batches = batches._replace(progress=(batches.progress, lost) | "Counted" >> Flatten())
    looked_for = job.algorithm().anchor_type is not None or job.limits.deviations != "any"
    anchor = LiveAnchor(where, job.name, anchor_ttl) if looked_for else None
    checked: dict[str, Any] = {"limits": job.limits, "names": job.features.names}
    # Late rows are judged by the fold alone: a restored one may not have come as far as the newest version.
    accumulated = (
        batches
        | "Slices" >> SliceByWindow(windows)
        | "Accumulate" >> Accumulate(spec, anchor, refuse_bytes=STREAM_REFUSE_BYTES, **checked)
    )
    shards = accumulated | "Shards" >> Shards(spec, windows.size_us, n_shards, delay)
    marks = None if prepared is None else prepared.marks
    published = shards | "Fold" >> StreamFold(FoldJob.of(job, where, start, delay), marks)
    _ = accumulated.rejected | "Rejects" >> WriteRejects(where, f"{job.name}/rejects/{start.standing.run_id}/")
    return Streamed(published, accumulated.rejected, start, None if prepared is None else prepared.featured)


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
        payloads = payloads_of(learner, {})
        if job.prepares:
            facts[PAYLOAD] = {"waiting": 0, "labels": {}}
            payloads[PAYLOAD] = encode_kept(looked.job, nothing_kept(looked.job))
        publish(registry, job.name, standing, payloads, NONE_CLOSED, facts)
    return looked.job


def _rows_of(pipeline: Pipeline, job: Job, start: Start, read: PTransform | None, splits: int) -> "_Read | PCollection":
    """Return the blocks of the job's own topic, or of what reads in its place."""
    if read is None:
        assert isinstance(job.source, KafkaSource)  # noqa: S101 checked by `check`
        read = _ReadTopic(job.source, start, job.raw_columns, splits, job.windows().max_leap_us)
    found: _Read | PCollection = pipeline | "Source" >> read
    refuse_unbounded(found.blocks if isinstance(found, _Read) else found)
    return found


def _prepared(
    pipeline: Pipeline,
    job: Job,
    where: str,
    begun: RawStart,
    read: PTransform | None,
    reports: PTransform | None,
    splits: int,
    every: int,
) -> PreparedRows:
    """Prepare raw rows: those to be learned, those to be scored, and marks; predictions go out."""
    rows = _rows_of(pipeline, job, begun.rows, read, splits)
    found: list[_Read | PCollection] = [rows]
    if job.labels is not None:
        if reports is None:
            assert isinstance(job.labels.source, KafkaSource)  # noqa: S101 checked by `check`
            assert begun.reports is not None  # noqa: S101 there are labels
            leap = job.windows().max_leap_us
            reports = _ReadTopic(job.labels.source, begun.reports, job.labels.columns, 1, leap)
        found.append(pipeline | "Reports" >> reports)
    # Nothing is lost: a gap ends a stream of raw rows.
    blocks = tuple(one.blocks if isinstance(one, _Read) else one for one in found)
    prepared: PreparedRows = blocks | "Rows" >> PrepareRows(job, where, begun, every)
    if job.predictions is not None and job.predictions.topic is not None:
        _ = prepared.featured | "Predict" >> Predict(job, where)
    return prepared


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
