"""Places that were counted before: noted on blocks of messages, so that decoding leaves them out."""

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from apache_beam import ParDo, PTransform
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.beam.steps import Step
from beam_ml.core import intervals
from beam_ml.formats.block import Block
from beam_ml.formats.messages import with_seen

__all__ = ["NoteSeen", "in_text", "within"]


@with_input_types(Block)
@with_output_types(Block)
class _NoteSeen(Step):
    renewed = ("seen",)

    def __init__(self, seen: str) -> None:
        self._seen = seen

    def setup(self) -> None:
        self._places = {name: np.array(at, dtype=np.int64) for name, at in json.loads(self._seen).items()}

    def process(self, element: Block) -> Iterator[Block]:
        mine = None if element.origin is None else self._places.get(element.origin.partition)
        yield element if mine is None else with_seen(element, mine)


def in_text(seen: Mapping[int, Sequence[Sequence[int]]]) -> str:
    """Return places by partition as the text that is shipped to workers."""
    return json.dumps({str(partition): at for partition, at in seen.items()})


class NoteSeen(PTransform):
    """Blocks of messages → the same, those that hold places seen before with a note of them.

    Args:
        seen: partition → intervals of places.
    """

    def __init__(self, seen: Mapping[int, Sequence[Sequence[int]]]) -> None:
        super().__init__()
        self._fn = _NoteSeen(in_text(seen))

    def expand(self, pcoll: PCollection) -> PCollection:
        """Note on each block which of its places were seen."""
        return pcoll | "Note" >> ParDo(self._fn)


def within(covered: np.ndarray, start: int, stop: int) -> list[list[int]]:
    """Return the places counted before within a stretch of them.

    >>> within(np.array([[0, 5], [8, 20]]), 3, 10)
    [[3, 5], [8, 10]]
    """
    both: list[list[int]] = intervals.intersection(covered, np.array([[start, stop]], dtype=np.int64)).tolist()
    return both
