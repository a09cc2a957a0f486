"""Raw messages → rows: where the format comes in, downstream of the read, in parallel."""

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from apache_beam import ParDo, PTransform
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.beam.steps import Step
from beam_ml.beam.wire import coders
from beam_ml.core.spec import canonical_json
from beam_ml.formats import messages
from beam_ml.formats.block import Block
from beam_ml.formats.messages import Decoder

__all__ = ["Decode"]


@functools.lru_cache(maxsize=32)
def _decoder(format: str, options: str) -> Decoder:
    """Build a format's decoder once per process: it may parse schemas, or ask a registry for them."""
    return messages.decoder(format, json.loads(options))


@with_input_types(Block)
@with_output_types(Block)
class _Decode(Step):
    def __init__(self, format: str, options: str, columns: tuple[str, ...] | None) -> None:
        self._format, self._options, self._columns = format, options, columns

    def process(self, element: Block) -> Iterator[Block]:
        yield from messages.to_blocks(element, _decoder(self._format, self._options), self._columns)


class Decode(PTransform):
    """Blocks of raw messages → blocks of rows; what cannot be decoded is in their `rejected`.

    Args:
        format: `json`, `avro`, `csv`, `recordio`, `libsvm`, or one's own as 'module:attribute' (`formats.messages.decoder`);
            the decoder is shared by a process's threads.
        options: the format's own, as plain JSON values; they travel in the pipeline.
        columns: what to decode; None: all.

    >>> import apache_beam as beam
    >>> import numpy as np
    >>> import pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> from beam_ml.formats.messages import place
    >>> pipeline = new_pipeline()
    >>> messages = {"key": [None, None], "value": [b'{"amount": 3.5}', b'{"amount":'], "timestamp": [1_000, 2_000]}
    >>> raw = Block(pa.record_batch(messages), position=np.array([place(0), place(1)]))
    >>> rows = pipeline | beam.Create([raw]) | Decode("json", columns=["amount"])
    >>> _ = rows | beam.Map(lambda block: print(block.batch.to_pydict(), [one.reason for one in block.rejected]))
    >>> _ = run(pipeline)
    {'amount': [3.5]} ['malformed message']
    """

    def __init__(
        self, format: str, options: Mapping[str, Any] | None = None, columns: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        wanted = None if columns is None else tuple(columns)
        self._fn = _Decode(format, canonical_json(dict(options or {})), wanted)

    def expand(self, pcoll: PCollection) -> PCollection:
        """Decode each block where it arrives."""
        coders.install(pcoll.pipeline)
        return pcoll | "Decode" >> ParDo(self._fn)
