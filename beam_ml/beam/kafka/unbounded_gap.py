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
from beam_ml.beam.kafka.client import messages_block
from beam_ml.core.progress import Progress
from beam_ml.formats.block import Block

__all__ = ["LOST", "Found", "SetLostAside", "lost_block", "lost_messages"]

LOST = "lost to retention"
"""The reason that they are counted under."""

_NOTED = b"beam_ml.lost"


class Found(NamedTuple):
    """What `SetLostAside` gives.

    Attributes:
        blocks: PCollection of Block: those with messages.
        lost: PCollection of Progress: what is gone, as rejected rows and the places they had.
    """

    blocks: PCollection
    lost: PCollection


def lost_block(source: str, partition: int, start: int, stop: int) -> Block:
    """Give the block that stands for the messages at offsets [start, stop), which are gone.

    >>> lost_messages(lost_block("kafka://lkc-1/payments", 0, 5, 1_000_005))
    1000000
    """
    block = messages_block(source, partition, [], start, stop)
    return block.replace(batch=block.batch.replace_schema_metadata({_NOTED: str(stop - start).encode()}))


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
