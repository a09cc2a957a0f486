"""Where a stream begins: everything taken from one version, so that an engine that loses its state starts there again.

The offsets to read from, the places beyond them that were counted already, and the learner that the fold begins with
belong together: a message whose rows span windows may be half counted, and its other half must be read again.
"""

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence

import numpy as np

from beam_ml.beam.job.job import Job
from beam_ml.beam.kafka.gaps import LOST, gap, refuse_recreated
from beam_ml.beam.versions.lineage import Standing
from beam_ml.beam.versions.resume import resume
from beam_ml.core import intervals
from beam_ml.core import learner as learners
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import TopicCursor
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.core.spec import canonical_json
from beam_ml.errors import RowsLost
from beam_ml.formats.messages import PLACES, place
from beam_ml.registry import Registry

__all__ = ["Start", "begin", "initial_learner", "pin"]

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """The start of one submission of a stream; plain values, which travel as JSON.

    Attributes:
        standing: of the submission: which version it resumes from.
        source: what rows' origins call the source; empty: the source keeps no places.
        topic: ids of cluster and topic; empty if unknown.
        begun: partition → offset at which it was first read.
        offsets: partition → first offset to read now.
        seen: partition → places from there on that were counted before, as [start, stop) pairs.
        lost: partition → (places, messages) that retention has removed unread, to be counted as rejected.
    """

    standing: Standing
    source: str = ""
    topic: str = ""
    begun: Mapping[int, int] = dataclasses.field(default_factory=dict)
    offsets: Mapping[int, int] = dataclasses.field(default_factory=dict)
    seen: Mapping[int, Sequence[Sequence[int]]] = dataclasses.field(default_factory=dict)
    lost: Mapping[int, tuple[Sequence[Sequence[int]], int]] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """Return the JSON that ships with the pipeline."""
        return canonical_json(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> "Start":
        """Read the JSON of `to_json`."""
        given = json.loads(text)
        for name in ("begun", "offsets", "seen", "lost"):
            given[name] = {int(partition): value for partition, value in given[name].items()}
        return Start(**{**given, "standing": Standing.from_dict(given["standing"])})


def begin(job: Job, registry: Registry) -> tuple[Start, Learner]:
    """Pin the newest readable version; return it without a source, and its learner.

    Raises:
        InvalidValue: the registry's learner has another spec, or was trained on other features.
    """
    standing, learner = resume(job, registry)
    return Start(standing), learner


def pin(
    start: Start,
    learner: Learner,
    source: str,
    partitions: Mapping[int, tuple[int, int]],
    begin_at: str = "earliest",
    on_gap: str = "fail",
    topic: str = "",
) -> Start:
    """Add where to read each partition: from the first place that the learner has not scanned.

    Args:
        start: the version.
        learner: of that version.
        source: what rows' origins call the source.
        partitions: partition → first offset that is there, offset behind the last.
        begin_at: "earliest" or "latest": where a partition never read begins.
        on_gap: "fail" or "skip": when messages that were not read are gone.
        topic: ids of cluster and topic now; empty if unknown.

    Raises:
        RowsLost: messages to be read next are gone, and `on_gap` is "fail"; a partition ends before them, or is not there;
            or the topic is another one of the same name.

    >>> pin(Start(Standing("r", 1)), learners.new(*_pca()), "kafka://c/t", {0: (5, 90)}).offsets
    {0: 5}
    """
    covered, cursor = learners.scanned(learner).covered, learner.cursors.topic(source)
    refuse_recreated(source, cursor.id, topic)
    read = {*cursor.offsets, *(int(origin.partition) for origin in covered if origin.source == source)}
    missing = sorted(read - partitions.keys())
    if missing:
        message = f"{source} must still have partitions {missing}, which were read; it does not: was it recreated?"
        raise RowsLost(message)
    begun: dict[int, int] = {}
    offsets: dict[int, int] = {}
    seen: dict[int, list[list[int]]] = {}
    lost: dict[int, tuple[list[list[int]], int]] = {}
    for partition, (first, end) in sorted(partitions.items()):
        mine = covered.get(Origin(source, str(partition)), intervals.EMPTY)
        fresh = first if begin_at == "earliest" else end
        begun[partition] = _begun(cursor, partition, mine, first, fresh)
        at = intervals.first_hole(mine, place(begun[partition])) // PLACES
        where = f"partition {partition} of {source}"
        gone, messages = gap(where, at, first, end, mine, on_gap)
        if messages:
            lost[partition] = (gone.tolist(), messages)
        at = max(at, first)
        offsets[partition] = at
        beyond = intervals.intersection(mine, np.array([[place(at), 2**63 - 1]], dtype=np.int64))
        if len(beyond):
            seen[partition] = beyond.tolist()
    return dataclasses.replace(start, source=source, topic=topic, begun=begun, offsets=offsets, seen=seen, lost=lost)


def _begun(cursor: TopicCursor, partition: int, mine: np.ndarray, first: int, fresh: int) -> int:
    """Return the offset at which a partition was first read, or now is."""
    if partition in cursor.begun:
        return cursor.begun[partition]
    # Rounds read a partition through from where they began, and record a position even of one that was empty then.
    known = [int(mine[0, 0]) // PLACES] if len(mine) else []
    if partition in cursor.offsets:
        known.append(cursor.offsets[partition])
    elif cursor.offsets:  # it came into being since, and is new from its first message on
        known.append(first)
    return min(known, default=fresh)


def initial_learner(start: Start, learner: Learner) -> Learner:
    """Return the learner that the fold begins with: the version's, and what is lost counted."""
    progress = learner.progress
    for partition, (places, messages) in start.lost.items():
        gone = np.array(places, dtype=np.int64).reshape(-1, 2)
        progress = progress.merge(Progress.of_ranges(Origin(start.source, str(partition)), gone, {LOST: messages}))
    return learner.replace(progress=progress)


def _pca() -> tuple[object, object]:
    from beam_ml.algorithms import pca

    return pca.PCA, pca.Spec(n_features=2)
