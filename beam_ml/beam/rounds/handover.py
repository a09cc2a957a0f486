"""What stays in memory between a round's pipeline and its trainer, where one process is both.

Rows that go through files are encoded, grouped, written, read and decoded, which costs more than to learn from them. A
worker in the trainer's own process puts them here instead, and what it accumulates, under the round's id; nothing but the id
is shipped. A kill loses them as it loses everything else of the round: the next start reads the source again.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from beam_ml.beam.wire.elements import Slice
from beam_ml.core.accumulation import Accumulation

__all__ = ["Handed", "Take", "hand_over", "handing_over", "taking"]

Take = Callable[[int, Slice | Accumulation], None]
"""What takes the rows, or the accumulation, of a window end, µs."""

_takers: dict[str, Take] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Handed:
    """What a round's pipeline has handed over, by window end, µs.

    Attributes:
        rows: that may be learned from, as they came.
        accumulations: one for each window.
    """

    rows: dict[int, list[Slice]] = dataclasses.field(default_factory=dict)
    accumulations: dict[int, Accumulation] = dataclasses.field(default_factory=dict)


@contextmanager
def taking(key: str, take: Take) -> Iterator[None]:
    """Have a function take what a pipeline of this process hands over under a key, until the block ends, well or not.

    >>> from beam_ml import Batch
    >>> with taking("1-a", lambda end, piece: print(end, len(piece.rows))):
    ...     hand_over("1-a", 10, Slice(Batch.dense([[1.0], [2.0]])))
    10 2
    """
    _takers[key] = take
    try:
        yield
    finally:
        del _takers[key]


@contextmanager
def handing_over(round_id: str) -> Iterator[Handed]:
    """Keep what a round's pipeline hands over until the block ends, well or not.

    Args:
        round_id: of this attempt.

    Yields:
        What was handed over: filled while the pipeline runs.

    >>> with handing_over("1-a") as handed:
    ...     handed
    Handed(rows={}, accumulations={})
    """
    handed = Handed()

    def take(end: int, piece: Slice | Accumulation) -> None:
        if isinstance(piece, Slice):
            handed.rows.setdefault(end, []).append(piece)
        else:
            handed.accumulations[end] = piece

    with taking(round_id, take):
        yield handed


def hand_over(key: str, end: int, piece: Slice | Accumulation) -> None:
    """Hand over what belongs to a window.

    Args:
        key: of a round whose trainer, in this process, waits for it.
        end: of the window, µs.
        piece: rows that may be learned from, or what was accumulated.

    Raises:
        KeyError: no trainer of this process waits for it.
    """
    _takers[key](end, piece)
