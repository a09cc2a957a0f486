"""Messages that retention removed unread travel in a stream as a block of no rows that has their span and their count.

One reject per unread message would be millions of them, so only their count travels. `SetLostAside` counts the messages
as rejected, and their places as scanned. One gap is one block: a reader that is stopped behind it has counted all of it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from apache_beam import DoFn, ParDo, PTransform
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_ml.beam.kafka.poll import messages_block
from beam_ml.beam.kafka.positions import lost_progress
from beam_ml.beam.kafka.records import Messages
from beam_ml.beam.transforms.windowing import many_in_or_out
from beam_ml.beam.wire import coders
from beam_ml.core import intervals
from beam_ml.core.progress import Progress
from beam_ml.formats.block import Block
from beam_ml.formats.messages import seen_before, with_seen

__all__ = ["Found", "SetLostAside", "lost_block", "lost_messages"]

_NOTED = b"beam_ml.lost"


class Found(NamedTuple):
    """The outputs of `SetLostAside`.

    Attributes:
        blocks: PCollection of Block: those with messages.
        lost: PCollection of Progress: what is gone, as rejected rows and the places they had.
    """

    blocks: PCollection
    lost: PCollection


def lost_block(source: str, partition: int, places: np.ndarray, messages: int) -> Block:
    """Return the block that represents lost messages.

    Args:
        source: names the topic, as in the origins of other blocks.
        partition: its number.
        places: that they had, (k, 2) int64 intervals, k > 0; between them lie those that were counted before.
        messages: how many they were at most.

    >>> places = np.array([[5 << 20, 1_000_005 << 20]])
    >>> lost_messages(lost_block("kafka://lkc-1/payments", 0, places, 1_000_000))
    1000000
    """
    span = places[:1, 0].tolist() + places[-1:, 1].tolist()
    block = messages_block(source, partition, Messages(), 0, 0).replace(start=span[0], stop=span[1])
    block = with_seen(block, intervals.difference(np.array([span], dtype=np.int64), places))
    noted = {**(block.batch.schema.metadata or {}), _NOTED: str(messages).encode()}
    return block.replace(batch=block.batch.replace_schema_metadata(noted))


def lost_messages(block: Block) -> int:
    """Return how many lost messages a block represents: 0 for all other blocks."""
    return int((block.batch.schema.metadata or {}).get(_NOTED, 0))


@with_output_types(Block, lost=Progress)
class _SetLostAside(DoFn):
    def process(self, element: Block) -> Iterator[Any]:
        gone = lost_messages(element)
        if not gone:
            yield element
            return
        assert element.origin is not None  # noqa: S101 `lost_block` sets it
        places, seen = np.array([[element.start, element.stop]], dtype=np.int64), seen_before(element)
        if seen is not None:
            places = intervals.difference(places, seen)
        yield TaggedOutput("lost", lost_progress(element.origin, places, gone))


class SetLostAside(PTransform):
    """Raw blocks of a stream → `Found`: the blocks that hold messages, and the count of those that are gone."""

    @many_in_or_out
    def expand(self, pcoll: PCollection) -> Found:
        """Part the blocks that stand for lost messages from the others."""
        coders.install(pcoll.pipeline)
        out = pcoll | ParDo(_SetLostAside()).with_outputs("lost", main="blocks")
        return Found(out.blocks, out.lost)
