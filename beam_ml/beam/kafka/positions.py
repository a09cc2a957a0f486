"""Where each partition of a topic is read from: one rule, for rounds and for streams.

A partition is read from the first place that was not counted since it was begun. One that was never read begins where the
job says; one that came into being since the topic was first read is new from its first message on. What retention has
removed unread is refused, or counted as lost.
"""

import dataclasses
import logging
from collections.abc import Mapping

import numpy as np

from beam_ml.beam.job.sources import KafkaSource
from beam_ml.beam.kafka.client import TopicState, source_name
from beam_ml.core import intervals
from beam_ml.core.batch import Origin
from beam_ml.core.cursors import Cursors, TopicCursor
from beam_ml.core.progress import Progress
from beam_ml.errors import RowsLost, SourceError
from beam_ml.formats.messages import PLACES, place

__all__ = [
    "LOST",
    "Position",
    "counted_of",
    "cursor_after",
    "first_read",
    "gap",
    "lost_progress",
    "name_of",
    "positions",
    "refuse_recreated",
]

LOST = "lost to retention"
"""The reason that messages are counted under which were gone before they were read."""

_LAST = 2**63 - 1

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """Where one partition is read from.

    Attributes:
        begun: offset at which it was first read, or now is.
        at: first offset to read now: from there on some places were not counted, and the log still holds it.
        seen: (k, 2) int64 places from there on that were counted before.
        gone: (k, 2) int64 places that retention has removed uncounted.
        lost: how many messages those were at most.
    """

    begun: int
    at: int
    seen: np.ndarray
    gone: np.ndarray
    lost: int


def name_of(source: KafkaSource, state: TopicState, cursors: Cursors) -> str:
    """Return what rows' origins call a topic.

    Args:
        source: settings of the source.
        state: the topic now.
        cursors: of the learner that is resumed.

    Raises:
        SourceError: that learner has read the topic in another cluster.
    """
    name = source_name(source.cluster or state.cluster, source.topic)
    others = [one for one in cursors.topics if one.endswith(f"/{source.topic}")]
    if others and name not in others:
        message = (
            f"job.source must be the cluster that the learner has read, {others[0]}; got {name} (source.cluster names one "
            "that has moved with its offsets; another name in the registry starts afresh)."
        )
        raise SourceError(message)
    return name


def counted_of(covered: Mapping[Origin, np.ndarray], name: str) -> dict[int, np.ndarray]:
    """Return partition → places counted, (k, 2) int64, of a topic.

    Args:
        covered: origin → places scanned.
        name: what rows' origins call the topic.
    """
    return {int(origin.partition): places for origin, places in covered.items() if origin.source == name}


def positions(
    where: str,
    state: TopicState,
    cursor: TopicCursor,
    counted: Mapping[int, np.ndarray],
    start: str = "earliest",
    on_gap: str = "fail",
) -> dict[int, Position]:
    """Return where each partition of a topic is read from.

    Args:
        where: the topic, for messages.
        state: the topic now.
        cursor: what was read of it.
        counted: partition → places counted, (k, 2) int64; of one that was counted beyond a hole, the hole is read.
        start: "earliest" or "latest": where a topic never read begins.
        on_gap: "fail" or "skip": when messages to be read are gone.

    Raises:
        RowsLost: it is another topic of the same name; a partition that was read is not there, or ends before what was
            read; or messages to be read are gone, and `on_gap` is "fail".

    >>> state = TopicState("lkc-1", {0: 5, 1: 0}, {0: 90, 1: 7})
    >>> {p: one.at for p, one in positions("topic t", state, TopicCursor({0: 60}), {}, "latest").items()}
    {0: 60, 1: 0}
    """
    refuse_recreated(where, cursor.id, state.identity)
    missing = sorted((cursor.offsets.keys() | counted.keys()) - state.starts.keys())
    if missing:
        message = f"{where} must still have partitions {missing}, which were read; it does not: was it recreated?"
        raise RowsLost(message)
    found = {}
    for partition, first in sorted(state.starts.items()):
        end, mine = state.ends[partition], counted.get(partition, intervals.EMPTY)
        begun = _begun(cursor, partition, mine, first_read(first, end, start, before=bool(cursor.offsets)))
        at = intervals.first_hole(mine, place(begun)) // PLACES
        gone, lost = gap(f"partition {partition} of {where}", at, first, end, mine, on_gap)
        at = max(at, first)
        seen = intervals.intersection(mine, np.array([[place(at), _LAST]], dtype=np.int64))
        found[partition] = Position(begun, at, seen, gone, lost)
    return found


def _begun(cursor: TopicCursor, partition: int, counted: np.ndarray, fresh: int) -> int:
    """Return the offset at which a partition was first read, or `fresh`, where it now is."""
    if partition in cursor.begun:
        return cursor.begun[partition]
    # Rounds read a partition through from where they began, and record a position even of one that was empty then.
    known = [int(counted[0, 0]) // PLACES] if len(counted) else []
    if partition in cursor.offsets:
        known.append(cursor.offsets[partition])
    elif cursor.offsets or not known:  # it is new: what a stream counted of it first need not be its first message
        known.append(fresh)
    return min(known)


def first_read(first: int, end: int, start: str, before: bool) -> int:
    """Return where a partition that was never read begins.

    Args:
        first: first offset that the log still holds.
        end: offset behind the last message.
        start: "earliest" or "latest", as the job says.
        before: whether the topic was read before: then the partition has come since, and is new from its first message on.

    >>> first_read(3, 20, "latest", before=False), first_read(3, 20, "latest", before=True)
    (20, 3)
    """
    return first if before or start == "earliest" else end


def cursor_after(begun: Mapping[int, int], counted: Mapping[int, np.ndarray], id: str) -> TopicCursor:
    """Return what a stream has read: where a reader that does not know the places counted resumes, the first hole's message.

    Args:
        begun: partition → offset at which it was first read; one that it does not name came while the stream ran, and is new
            from offset 0: what was gone by then counts as read (`stream.reader`).
        counted: partition → places counted, (k, 2) int64.
        id: ids of cluster and topic, `cluster/topic`; empty if unknown.

    >>> cursor_after({0: 4}, {1: np.array([[0, 3 << 20], [5 << 20, 6 << 20]])}, "").offsets
    {0: 4, 1: 3}
    """
    offsets = {
        partition: intervals.first_hole(counted.get(partition, intervals.EMPTY), place(begun.get(partition, 0)))
        // PLACES
        for partition in sorted(begun.keys() | counted.keys())
    }
    return TopicCursor(offsets, dict(begun), id)


def lost_progress(origin: Origin, gone: np.ndarray, lost: int) -> Progress:
    """Return lost messages as rejected rows, and the places that they had as scanned."""
    return Progress.of_ranges(origin, gone, {LOST: lost})


def refuse_recreated(where: str, known: str, now: str) -> None:
    """Refuse a topic of the name of one that was deleted: it may be long enough for its offsets to look right.

    Args:
        where: the topic, for messages.
        known: ids of cluster and topic when it was read, `cluster/topic`; empty if unknown.
        now: the same now. A topic that has moved to another cluster has another id there, and is accepted.

    Raises:
        RowsLost: it is another topic of the same cluster.

    >>> refuse_recreated("topic t", "lkc-1/first", "lkc-1/first")
    """
    (cluster, _, was), (here, _, became) = known.rpartition("/"), now.rpartition("/")
    if known and now and cluster == here and was != became:
        message = (
            f"{where} must be the one that was read, of id {was}; it was deleted and recreated, with id {became} (another "
            "name in the registry starts afresh)."
        )
        raise RowsLost(message)


def gap(where: str, at: int, first: int, end: int, counted: np.ndarray, on_gap: str) -> tuple[np.ndarray, int]:
    """Return what is gone of a partition between the offset to resume from and the first one still there.

    Args:
        where: the partition, for messages.
        at: offset to resume from.
        first: first offset that the log still holds.
        end: offset behind the last message.
        counted: places that were counted before.
        on_gap: "fail" or "skip".

    Returns:
        (places, messages): the places gone without having been counted, and how many messages those were at most.

    Raises:
        RowsLost: something is gone and `on_gap` is "fail"; or the partition ends before what was read of it.

    >>> places, messages = gap("partition 0 of t", 3, 10, 20, np.zeros((0, 2), dtype=np.int64), "skip")
    >>> messages
    7
    """
    read = max(at, -(-int(counted[-1, 1]) // PLACES)) if len(counted) else at
    if read > max(end, first):
        message = f"{where} ends at {end}, before offset {read}, which was already read; was it recreated?"
        raise RowsLost(message)
    if at >= first:
        return intervals.EMPTY, 0
    gone = intervals.difference(np.array([[place(at), place(first)]], dtype=np.int64), counted)
    messages = sum(-(-int(stop) // PLACES) - int(start) // PLACES for start, stop in gone)
    if messages and on_gap == "fail":
        message = (
            f"{where} must still hold offset {at}, where reading resumes; it begins at {first}: retention has removed "
            f"{messages:,} messages unread (source.on_gap = 'skip' counts them as lost and continues)."
        )
        raise RowsLost(message)
    if messages:
        _log.error("%s: retention has removed %d messages unread, offsets %d to %d.", where, messages, at, first - 1)
    return gone, messages
