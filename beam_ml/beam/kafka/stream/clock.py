"""How far time has advanced in a topic that never ends, from what was read of each partition. All times in µs.

A partition counts while it has unread messages, or has had new ones within `idle_timeout_us`: no later message of it is
expected to be older than its newest record, less the slack. One that is idle at its end is set aside, so that it
holds back no window. When all are idle, time is taken to advance at the pace of the clock from the newest record: the
last window of a live topic closes, and a replay of old records is not jumped to today.
"""

import dataclasses
from collections.abc import Mapping

__all__ = ["PartitionClock", "partition_watermarks", "topic_watermark"]


@dataclasses.dataclass(frozen=True, slots=True)
class PartitionClock:
    """The clock of one partition.

    Attributes:
        newest: largest record time read; None before the first.
        since: wall clock when the last new message was read, or when the partition was first looked at.
        at_end: nothing is there to be read; False where that is not known.
    """

    newest: int | None
    since: int
    at_end: bool

    def read(self, newest: int | None, now: int) -> "PartitionClock":
        """Return the clock after new messages were read.

        Args:
            newest: their largest record time; None: they have none. Times past `now` are cut to it: a producer whose
                clock is fast must not close windows that others still fill.
            now: wall clock.
        """
        times = [time for time in (self.newest, None if newest is None else min(newest, now)) if time is not None]
        return PartitionClock(max(times, default=None), now, False)

    def idle(self, now: int, idle_timeout_us: int) -> bool:
        """Return whether the partition has been idle at its end for so long that it is set aside."""
        return self.at_end and now - self.since >= idle_timeout_us


def partition_watermarks(
    clocks: Mapping[int, PartitionClock], now: int, out_of_orderness_us: int, idle_timeout_us: int
) -> dict[int, int | None]:
    """Return the watermark of each partition that counts; None before its time is known.

    Args:
        clocks: what is known of each partition.
        now: wall clock.
        out_of_orderness_us: how far behind the newest record of its partition a record may still come.
        idle_timeout_us: how long a partition may be idle at its end before it is set aside.

    >>> busy, silent = PartitionClock(50, 90, False), PartitionClock(30, 60, True)
    >>> partition_watermarks({0: busy, 1: silent}, 95, 5, 10)
    {0: 45}
    """
    return {
        partition: None if clock.newest is None else clock.newest - out_of_orderness_us
        for partition, clock in clocks.items()
        if not clock.idle(now, idle_timeout_us)
    }


def topic_watermark(
    clocks: Mapping[int, PartitionClock], now: int, out_of_orderness_us: int, idle_timeout_us: int
) -> int | None:
    """Return the time before which no more records are expected of any partition; None if that is not known yet.

    It may fall when a partition that was set aside wakes up: whoever shows it holds on to the largest.

    >>> topic_watermark({0: PartitionClock(50, 60, True)}, 75, 5, 10)
    60
    """
    counting = partition_watermarks(clocks, now, out_of_orderness_us, idle_timeout_us)
    if counting:
        times = [time for time in counting.values() if time is not None]
        return min(times) if len(times) == len(counting) else None
    read = [clock for clock in clocks.values() if clock.newest is not None]
    if not read:
        return None
    # From the last message on, whichever partition it was in.
    elapsed = now - max(clock.since for clock in read)
    return max(clock.newest for clock in read if clock.newest is not None) + max(0, elapsed) - out_of_orderness_us
