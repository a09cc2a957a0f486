"""What a command says of a run over files: rejects as counters by reason, and figures as a row that a file holds."""

import json

import pyarrow as pa
from apache_beam import Map, PTransform
from apache_beam.pvalue import PCollection

from beam_ml.beam.telemetry import count
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.elements import Measured
from beam_ml.core import metrics
from beam_ml.core.rejects import Reject
from beam_ml.formats.block import Block

__all__ = ["FIGURES", "REJECTED", "CountRejects", "Figures"]

REJECTED = "score rejected: "
"""How the names of the counters begin; the reason follows."""
FIGURES = "found"
"""The column that holds the figures as JSON."""


def _count(element: Reject) -> None:
    count(REJECTED + element.reason, len(element))


def _as_block(measured: Measured) -> Block:
    found = {"metrics": metrics.compute(measured.metrics), "versions": measured.versions}
    return Block(pa.record_batch({FIGURES: [json.dumps(found)]}))


class CountRejects(PTransform):
    """PCollection of Reject → Beam counters, one per reason."""

    def expand(self, pcoll: PCollection) -> PCollection:
        """Count the rows of each reject."""
        return pcoll | Map(_count)


class Figures(PTransform):
    """PCollection of Measured → blocks of one row of JSON, which any worker can write to a file."""

    def expand(self, pcoll: PCollection) -> PCollection:
        """Compute the metrics of each."""
        coders.install(pcoll.pipeline)
        return pcoll | Map(_as_block).with_output_types(Block)
