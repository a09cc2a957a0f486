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
from beam_ml.beam.kafka.client import TopicState
from beam_ml.beam.kafka.positions import counted_of, lost_progress, positions
from beam_ml.beam.versions.lineage import Standing
from beam_ml.beam.versions.resume import resume
from beam_ml.core import learner as learners
from beam_ml.core.batch import Origin
from beam_ml.core.learner import Learner
from beam_ml.core.spec import canonical_json
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
    state: TopicState,
    begin_at: str = "earliest",
    on_gap: str = "fail",
    counted: Mapping[int, np.ndarray] | None = None,
) -> Start:
    """Add where to read each partition: from the first place that the learner has not scanned.

    Args:
        start: the version.
        learner: of that version.
        source: what rows' origins call the source.
        state: the topic now.
        begin_at: "earliest" or "latest": where a topic never read begins.
        on_gap: "fail" or "skip": when messages that were not read are gone.
        counted: partition → places that were scanned; None: those of the learner.

    Raises:
        RowsLost: see `positions`.

    >>> from beam_ml.algorithms import pca
    >>> learner = learners.new(pca.PCA, pca.Spec(n_features=2))
    >>> pin(Start(Standing("r", 1)), learner, "kafka://c/t", TopicState("c", {0: 5}, {0: 90})).offsets
    {0: 5}
    """
    if counted is None:
        counted = counted_of(learners.scanned(learner).covered, source)
    found = positions(source, state, learner.cursors.topic(source), counted, begin_at, on_gap)
    return dataclasses.replace(
        start,
        source=source,
        topic=state.identity,
        begun={partition: one.begun for partition, one in found.items()},
        offsets={partition: one.at for partition, one in found.items()},
        seen={partition: one.seen.tolist() for partition, one in found.items() if len(one.seen)},
        lost={partition: (one.gone.tolist(), one.lost) for partition, one in found.items() if one.lost},
    )


def initial_learner(start: Start, learner: Learner) -> Learner:
    """Return the learner that the fold begins with: the version's, and what is lost counted."""
    progress = learner.progress
    for partition, (places, messages) in start.lost.items():
        gone = np.array(places, dtype=np.int64).reshape(-1, 2)
        progress = progress.merge(lost_progress(Origin(start.source, str(partition)), gone, messages))
    return learner.replace(progress=progress)
