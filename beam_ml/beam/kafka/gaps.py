"""Messages that are gone when a reader resumes: refused, or counted as lost."""

import logging

import numpy as np

from beam_ml.core import intervals
from beam_ml.errors import RowsLost
from beam_ml.formats.messages import PLACES, place

__all__ = ["LOST", "gap", "refuse_recreated"]

LOST = "lost to retention"
"""The reason that messages are counted under which were gone before they were read."""

_log = logging.getLogger(__name__)


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
        RowsLost: something is gone and `on_gap` is "fail"; or the partition ends before `at`.

    >>> places, messages = gap("partition 0 of t", 3, 10, 20, np.zeros((0, 2), dtype=np.int64), "skip")
    >>> messages
    7
    """
    if at > max(end, first):
        message = f"{where} ends at {end}, before offset {at}, which was already read; was it recreated?"
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
