"""Rows that stay in memory between a round's pipeline and its trainer, where one process is both.

Rows that go through files are encoded, grouped, written, read and decoded, which costs more than to learn from them. A
worker in the trainer's own process puts them here instead, under the round's id; nothing but the id is shipped. A kill
loses them as it loses everything else of the round: the next start reads the source again.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from beam_ml.beam.wire.elements import Slice

__all__ = ["hand_over", "handing_over"]

_rounds: dict[str, dict[int, list[Slice]]] = {}


@contextmanager
def handing_over(round_id: str) -> Iterator[dict[int, list[Slice]]]:
    """Keep what a round's pipeline hands over until the block ends, well or not.

    Args:
        round_id: of this attempt.

    Yields:
        Slices by window end, µs: filled while the pipeline runs.

    >>> with handing_over("1-a") as rows:
    ...     rows
    {}
    """
    rows: dict[int, list[Slice]] = {}
    _rounds[round_id] = rows
    try:
        yield rows
    finally:
        del _rounds[round_id]


def hand_over(round_id: str, end: int, piece: Slice) -> None:
    """Add a slice to its window.

    Args:
        round_id: of a round whose trainer, in this process, waits for it.
        end: of the window, µs.
        piece: rows that may be learned from.

    Raises:
        KeyError: no trainer of this process waits for this round.
    """
    _rounds[round_id].setdefault(end, []).append(piece)
