"""What retention removed unread, as it travels in a stream: a block of no rows whose span covers it, with the count noted.

One reject an unread message would be millions of them, so the count goes as a number. `ToBatches` counts the span of such
a block as scanned; `SetLostAside` before it counts the messages as rejected too.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from apache_beam import DoFn, ParDo, PTransform
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_ml.beam import coders
from beam_ml.beam.expanding import many_in_or_out
from beam_ml.beam.gaps import LOST
from beam_ml.beam.kafka.client import messages_block
from beam_ml.core.progress import Progress
from beam_ml.formats.block import Block

__all__ = ["Found", "SetLostAside", "lost_block", "lost_messages"]

_NOTED = b"beam_ml.lost"


class Found(NamedTuple):
    """What `SetLostAside` gives.

    Attributes:
        blocks: PCollection of Block: those with messages.
        lost: PCollection of Progress: what is gone, as rejected rows and the places they had.
    """

    blocks: PCollection
    lost: PCollection


def lost_block(source: str, partition: int, start: int, stop: int, messages: int) -> Block:
    """Give the block that stands for messages which are gone.

    Args:
        source: names the topic, as in the origins of other blocks.
        partition: its number.
        start: first place that they had.
        stop: behind the last one.
        messages: how many they were at most.

    >>> lost_messages(lost_block("kafka://lkc-1/payments", 0, 5 << 20, 1_000_005 << 20, 1_000_000))
    1000000
    """
    block = messages_block(source, partition, [], 0, 0)
    noted = block.batch.replace_schema_metadata({_NOTED: str(messages).encode()})
    return block.replace(batch=noted, start=start, stop=stop)


def lost_messages(block: Block) -> int:
    """Give how many messages a block stands for that are gone: 0 for all other blocks."""
    return int((block.batch.schema.metadata or {}).get(_NOTED, 0))


@with_output_types(Block, lost=Progress)
class _SetLostAside(DoFn):
    def process(self, element: Block) -> Iterator[Any]:
        gone = lost_messages(element)
        if not gone:
            yield element
            return
        assert element.origin is not None  # noqa: S101 `lost_block` gives it
        lost = Progress.of_range(element.origin, element.start, element.stop, {LOST: gone})
        yield TaggedOutput("lost", lost)


class SetLostAside(PTransform):
    """Raw blocks of a stream → `Found`: the blocks that hold messages, and the count of those that are gone."""

    @many_in_or_out
    def expand(self, pcoll: PCollection) -> Found:
        """Build the step."""
        coders.install(pcoll.pipeline)
        out = pcoll | ParDo(_SetLostAside()).with_outputs("lost", main="blocks")
        return Found(out.blocks, out.lost)
