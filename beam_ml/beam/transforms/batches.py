"""Blocks → batches → slices by window."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from apache_beam import Flatten, ParDo, PTransform
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_ml.beam.steps import Step
from beam_ml.beam.transforms.rows import in_blocks
from beam_ml.beam.transforms.windowing import many_in_or_out, piped, to_global
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.elements import Slice
from beam_ml.beam.wire.references import features_of
from beam_ml.core import intervals
from beam_ml.core.batch import Batch
from beam_ml.core.progress import Progress
from beam_ml.core.rejects import Reject
from beam_ml.core.spec import to_us
from beam_ml.core.windows import Windows, cut
from beam_ml.features import Features
from beam_ml.formats.block import Block

__all__ = ["Batches", "SliceByWindow", "Slices", "ToBatches"]


class Batches(NamedTuple):
    """The outputs of `ToBatches`.

    Attributes:
        batches: PCollection of Batch.
        rejected: PCollection of Reject.
        progress: PCollection of Progress: the rejected rows, and places without any row.

    >>> import apache_beam as beam
    >>> import pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline = new_pipeline()
    >>> blocks = pipeline | beam.Create([Block(pa.record_batch({"amount": [1.0, None, 3.0]}))])
    >>> batches, rejected, progress = blocks | ToBatches(Features(numeric=("amount",)))
    >>> _ = progress | beam.Map(lambda one: print(dict(one.rejected)))
    >>> _ = run(pipeline)
    {'non-finite feature amount': 1}
    """

    batches: PCollection
    rejected: PCollection
    progress: PCollection

    def __or__(self, transform: Any) -> Any:
        return piped(self, transform)


class Slices(NamedTuple):
    """The outputs of `SliceByWindow`.

    Attributes:
        slices: PCollection of (window end in µs, Slice).
        rejected: PCollection of Reject, those of `ToBatches` included.
        progress: PCollection of Progress: everything scanned that is in no slice.

    >>> import apache_beam as beam
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline = new_pipeline()
    >>> batches = pipeline | beam.Create([Batch.dense([[1.0], [2.0]], time=[5_000_000, 30_000_000])])
    >>> slices, rejected, progress = batches | SliceByWindow(Windows.of_seconds(10), folded_through=10_000_000)
    >>> _ = rejected | beam.Map(lambda one: print(len(one), one.reason))
    >>> _ = run(pipeline)
    1 late
    """

    slices: PCollection
    rejected: PCollection
    progress: PCollection

    def __or__(self, transform: Any) -> Any:
        return piped(self, transform)


@with_output_types(Batch, rejected=Reject, progress=Progress)
class _ToBatches(Step):
    def __init__(self, features: str, with_label: bool, max_ahead_us: int | None) -> None:
        self._features, self._with_label, self._max_ahead_us = features, with_label, max_ahead_us

    def process(self, element: Block) -> Iterator[Any]:
        features = features_of(self._features)
        for piece in (element,) if features.rows_at_once is None else element.pieces(features.rows_at_once):
            yield from self._batched(features, piece)

    def _batched(self, features: Features, element: Block) -> Iterator[Any]:
        batch, refused = features.to_batch(element, self._with_label, self._max_ahead_us)
        refused = (*element.rejected, *refused)
        for reject in refused:
            yield TaggedOutput("rejected", reject.of(element.origin))
        counted = _uncarried(element, batch, refused)
        if counted is not None:
            yield TaggedOutput("progress", counted)
        if len(batch):
            yield batch


def _uncarried(block: Block, batch: Batch, refused: tuple[Reject, ...]) -> Progress | None:
    """Count what of a block's span is in no row of its batch; None when the batch carries all of it."""
    located = block.origin is not None and block.position is not None
    if not refused and (not located or (block.position_end is None and len(batch) == block.stop - block.start)):
        return None
    counts: dict[str, int] = {}
    for reject in refused:
        counts[reject.reason] = counts.get(reject.reason, 0) + len(reject)
    left = intervals.EMPTY
    if block.origin is not None and block.position is not None and block.start < block.stop:
        span = np.array([[block.start, block.stop]], dtype=np.int64)
        carried = intervals.EMPTY
        if batch.position is not None:
            carried = intervals.from_positions(batch.position, batch.position_end)
        left = intervals.difference(span, carried)
    return Progress.of_ranges(block.origin, left, counts) if counts or len(left) else None


class ToBatches(PTransform):
    """Blocks, or rows that are dicts, `beam.Row`s or named tuples → `Batches`.

    Bad rows leave on `.rejected` with reason and place. They are counted in `.progress`, as are places without any row.

    Args:
        features: which columns become what; shipped as JSON.
        with_label: False leaves the label column alone: for scoring.
        max_ahead: seconds that an event may be dated past the time its message was recorded; None: any.

    >>> import apache_beam as beam
    >>> import pyarrow as pa
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline = new_pipeline()
    >>> rows = pa.record_batch({"amount": [1.0, None, 3.0], "fraud": [0, 1, 1]})
    >>> out = pipeline | beam.Create([Block(rows)]) | ToBatches(Features(numeric=("amount",), label="fraud"))
    >>> _ = out.batches | beam.Map(lambda batch: print(batch.X.tolist(), batch.label.tolist()))
    >>> _ = run(pipeline)
    [[1.0], [3.0]] [0.0, 1.0]
    """

    def __init__(self, features: Features, with_label: bool = True, max_ahead: float | None = None) -> None:
        super().__init__()
        self._features, self._with_label = features.to_json(), with_label
        self._columns, self._roles = features.columns(with_label), features.roles
        self._max_ahead_us = None if max_ahead is None else to_us(max_ahead)

    @many_in_or_out
    def expand(self, pcoll: PCollection) -> Batches:
        """Compute the features of each block."""
        coders.install(pcoll.pipeline)
        blocks = pcoll if pcoll.element_type is Block else in_blocks(pcoll, self._columns, self._roles)
        out = blocks | ParDo(_ToBatches(self._features, self._with_label, self._max_ahead_us)).with_outputs(
            "rejected", "progress", main="batches"
        )
        return Batches(out.batches, out.rejected, out.progress)


@with_output_types(tuple[int, Slice], rejected=Reject, progress=Progress)
class _SliceByWindow(Step):
    renewed = ("folded_through", "newest")

    def __init__(
        self, windows: dict[str, Any], folded_through: int | None, now_us: int | None, newest: int | None
    ) -> None:
        self._windows, self._folded_through, self._now_us = windows, folded_through, now_us
        self._newest = newest

    def setup(self) -> None:
        self._rule = Windows(**self._windows)

    def process(self, element: Batch) -> Iterator[Any]:
        now_us = time.time_ns() // 1000 if self._now_us is None else self._now_us
        found = cut(element, self._rule, self._folded_through, now_us, self._newest)
        for reason, rows in found.rejected.items():
            yield TaggedOutput("rejected", Reject.of_batch(rows, reason))
            yield TaggedOutput("progress", Progress.of_rejected(rows, reason))
        pieces = [(end, rows, late) for end, slices in found.windows.items() for rows, late in slices]
        for left, (end, rows, late) in enumerate(pieces, start=1 - len(pieces)):
            yield end, Slice(rows, late, 0 if left else found.set_back)


class SliceByWindow(PTransform):
    """`Batches`, or a PCollection of Batch → `Slices`, each batch cut at the bounds of the job's event-time windows.

    Beam's own windows play no part: whatever they were, the result is in the global window.

    Args:
        windows: the job's.
        folded_through: end of the last folded window, µs; rows before it are late.
        now_us: the clock that `max_ahead_us` is measured from; None: the worker's.
        newest: newest event time of what was learned before, µs: `max_leap_us` is measured from it, too.

    >>> import apache_beam as beam
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline = new_pipeline()
    >>> batches = pipeline | beam.Create([Batch.dense([[1.0], [2.0], [3.0]], time=[1_000_000, 4_000_000, 30_000_000])])
    >>> out = batches | SliceByWindow(Windows.of_seconds(10))
    >>> counted = out.slices | beam.MapTuple(lambda end, piece: (end, len(piece.rows))) | beam.combiners.ToList()
    >>> _ = counted | beam.Map(lambda found: print(sorted(found)))
    >>> _ = run(pipeline)
    [(10000000, 2), (40000000, 1)]
    """

    def __init__(
        self,
        windows: Windows,
        folded_through: int | None = None,
        now_us: int | None = None,
        newest: int | None = None,
    ) -> None:
        super().__init__()
        self._arguments = (dataclasses.asdict(windows), folded_through, now_us, newest)

    @many_in_or_out
    def expand(self, pcoll: PCollection | Batches) -> Slices:
        """Cut each batch, in the global window."""
        batches = pcoll.batches if isinstance(pcoll, Batches) else pcoll
        coders.install(batches.pipeline)
        out = to_global(batches) | ParDo(_SliceByWindow(*self._arguments)).with_outputs(
            "rejected", "progress", main="slices"
        )
        rejected, progress = out.rejected, out.progress
        if isinstance(pcoll, Batches):
            rejected = (to_global(pcoll.rejected, "GlobalRejected"), rejected) | "Rejected" >> Flatten()
            progress = (to_global(pcoll.progress, "GlobalProgress"), progress) | "Progress" >> Flatten()
        return Slices(out.slices, rejected, progress)
