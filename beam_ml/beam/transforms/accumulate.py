"""Map side: slices → one accumulation per bundle and window end."""

import json
from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter_ns
from typing import Any, NamedTuple

from apache_beam import DoFn, Flatten, ParDo, PTransform
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import TimestampedValue
from apache_beam.typehints import with_input_types, with_output_types
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp

from beam_ml.beam.steps import Step
from beam_ml.beam.telemetry import count_progress, measure
from beam_ml.beam.transforms.anchors import anchor_of, newest_anchor, newest_seen
from beam_ml.beam.transforms.batches import Slices
from beam_ml.beam.transforms.windowing import TICK_US, globally, many_in_or_out, piped
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.elements import Slice
from beam_ml.beam.wire.references import AnchorRef, LiveAnchor, check_size, spec_of
from beam_ml.core.accumulation import Accumulation, Accumulator, empty, merge_all, size_bytes
from beam_ml.core.admit import admit
from beam_ml.core.algorithm import LawKind
from beam_ml.core.batch import Batch
from beam_ml.core.limits import ABSOLUTE, Limits, Seen
from beam_ml.core.progress import Progress
from beam_ml.core.rejects import Reject
from beam_ml.core.spec import Spec
from beam_ml.core.threads import Lanes, one_thread, threads
from beam_ml.core.windows import ROUND

__all__ = ["Accumulate", "Accumulations", "Count"]

MAX_BUNDLE_BYTES = 64 << 20


class Accumulations(NamedTuple):
    """The outputs of `Accumulate`.

    Attributes:
        accumulations: PCollection of (window end in µs, Accumulation).
        rejected: PCollection of Reject: every row rejected anywhere on the way.

    >>> import apache_beam as beam
    >>> from beam_ml import pca
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline, spec = new_pipeline(), pca.Spec(n_features=1)
    >>> batches = pipeline | beam.Create([Batch.dense([[1.0], [float("nan")], [3.0]])])
    >>> slices = batches | beam.Map(lambda rows: (ROUND, Slice(rows))).with_output_types(tuple[int, Slice])
    >>> accumulations, rejected = slices | Accumulate(spec)
    >>> _ = accumulations | "Rows" >> beam.Map(lambda one: print(one[1].progress.rows, "rows"))
    >>> _ = run(pipeline)
    2 rows
    """

    accumulations: PCollection
    rejected: PCollection

    def __or__(self, transform: Any) -> Any:
        return piped(self, transform)


@with_input_types(tuple[int, Slice])
@with_output_types(tuple[int, Accumulation], rejected=Reject)
class _Accumulate(Step):
    """Keeps an accumulator per window end and thread for a bundle; over `max_bytes`, the largest leaves early."""

    renewed = ("anchor_ref", "before")

    def __init__(
        self,
        spec: str,
        anchor: AnchorRef | LiveAnchor | None,
        max_bytes: int,
        refuse_bytes: int | None,
        limits: Limits = ABSOLUTE,
        names: tuple[str, ...] = (),
        order: tuple[str, ...] | None = None,
        before: str = "",
    ) -> None:
        self._spec_json, self._anchor_ref, self._max_bytes = spec, anchor, max_bytes
        self._refuse_bytes = refuse_bytes
        self._limits_json, self._names, self._before = limits.to_json(), names, before
        self._order = order

    def setup(self) -> None:
        self._algorithm, self._spec = spec_of(self._spec_json)
        self._limits = Limits.parse(json.loads(self._limits_json))
        law = self._algorithm.law(self._spec)
        beside = threads() - 1  # this one cuts batches; decoding, ahead of it, has what is left
        # Parts that do not simply add are not made more: a worker's threads would be so many shards.
        self._beside = beside if law.kind is not LawKind.ANCHORED or law.across_anchors else min(beside, 1)

    def start_bundle(self) -> None:
        self._open: dict[int, list[Accumulator]] = {}
        self._bytes: dict[tuple[int, int], int] = {}  # of a window in a lane
        self._held: dict[int, int] = {}  # of a window
        self._held_in_all = 0
        self._lanes, self._lane = Lanes(self._beside), 0
        self._oldest = MAX_TIMESTAMP
        reference, spec = self._anchor_ref, self._spec_json
        if isinstance(reference, LiveAnchor):
            self._number, self._anchor = newest_anchor(reference, spec)
            judged = self._limits.deviations != "any"
            self._seen = newest_seen(reference, spec, len(self._names)) if judged else None
        else:
            self._number, self._anchor = anchor_of(reference, spec)
            self._seen = Seen.from_json(self._before) if self._before else None

    def process(self, element: tuple[int, Slice], timestamp: Any = DoFn.TimestampParam) -> Iterator[Any]:
        end, piece = element
        rows = piece.rows.ordered(self._order)
        self._oldest = min(self._oldest, timestamp)
        if end not in self._open:
            made = (
                Accumulator(self._algorithm, self._spec, self._number, self._anchor) for _ in range(self._lanes.number)
            )
            self._open[end] = list(made)
        with one_thread():
            good, refused, adjusted = admit(self._spec, rows, self._limits, self._seen, self._names, piece.set_back)
        counted = [Progress(adjusted=adjusted)] if adjusted else []
        for reason, places in refused.items():
            bad = rows.take(places)
            counted.append(Progress.of_rejected(bad, reason))
            yield TaggedOutput("rejected", Reject.of_batch(bad, reason))
        lane, self._lane = self._lane, (self._lane + 1) % self._lanes.number
        late = min(piece.late, len(good))
        self._note(lane, self._lanes.begin(lane, _added, self._open[end][lane], end, good, late, counted))
        while self._held_in_all > self._max_bytes:
            largest = max(self._held, key=self._held.__getitem__)
            yield TimestampedValue(self._close(largest), _before_end(largest, self._oldest))

    def finish_bundle(self) -> Iterator[Any]:
        for end in sorted(self._open):
            yield globally(self._close(end), _before_end(end, self._oldest))
        self._lanes.end()

    def _note(self, lane: int, done: Iterable[tuple[int, int, int]]) -> None:
        """Take note of what a lane's accumulators hold now, by results of its calls."""
        for end, size, taken_us in done:
            more = size - self._bytes.get((end, lane), 0)
            self._bytes[end, lane] = size
            self._held[end] = self._held.get(end, 0) + more
            self._held_in_all += more
            measure("accumulate_us", taken_us)

    def _close(self, end: int) -> tuple[int, Accumulation]:
        for lane in range(self._lanes.number):
            self._note(lane, self._lanes.drain(lane))
            self._bytes.pop((end, lane), None)
        self._held_in_all -= self._held.pop(end, 0)
        with one_thread():
            result = merge_all(self._algorithm, self._spec, (one.result() for one in self._open.pop(end)))
        size = size_bytes(result)
        check_size(self._spec, size, self._refuse_bytes)
        measure("accumulation_bytes", size)
        count_progress(result.progress)
        return end, result


def _added(
    accumulator: Accumulator, end: int, rows: Batch, late: int, counted: Sequence[Progress]
) -> tuple[int, int, int]:
    """Add rows; return the window, the bytes that the accumulator holds then, and the µs it took."""
    begun = perf_counter_ns()
    with one_thread():
        for one in counted:
            accumulator.add_progress(one)
        accumulator.add_admitted(rows, late)
    return end, accumulator.nbytes, (perf_counter_ns() - begun) // 1000


def _before_end(end: int, oldest: Timestamp) -> Timestamp:
    """Return the timestamp of an accumulation: its oldest element's, but before the last ms of its window.

    An engine's time cannot pass what is on its way, so the window's timer waits for it.
    """
    return oldest if end == ROUND else min(oldest, Timestamp(micros=end - 2 * TICK_US))


@with_input_types(Progress)
@with_output_types(tuple[int, Accumulation])
class _Count(Step):
    """Sums what reached no slice into one accumulation per bundle, under `ROUND`."""

    def __init__(self, spec: str) -> None:
        self._spec_json = spec

    def start_bundle(self) -> None:
        self._sum: Progress | None = None
        self._oldest = MAX_TIMESTAMP

    def process(self, element: Progress, timestamp: Any = DoFn.TimestampParam) -> None:
        self._oldest = min(self._oldest, timestamp)
        self._sum = element if self._sum is None else self._sum.merge(element)

    def finish_bundle(self) -> Iterator[Any]:
        if self._sum is not None:
            count_progress(self._sum)
            nothing = empty(spec_of(self._spec_json)[1])
            yield globally((ROUND, Accumulation(nothing.spec, {}, self._sum, nothing.sample)), self._oldest)


class Count(PTransform):
    """PCollection of Progress → accumulations that hold nothing else, under the window end `ROUND`.

    Args:
        spec: of the accumulations; as JSON.
    """

    def __init__(self, spec: str) -> None:
        super().__init__()
        self._spec_json = spec

    def expand(self, pcoll: PCollection) -> PCollection:
        """Sum the progress of each bundle."""
        return pcoll | ParDo(_Count(self._spec_json))


class Accumulate(PTransform):
    """`Slices`, or a PCollection of (window end, Slice) → `Accumulations`.

    What is scanned but belongs to no window is passed on as Progress only, under the window end `ROUND`: every place
    that was read is in exactly one accumulation.

    Args:
        spec: what to learn; shipped as JSON.
        anchor: the stored learner whose parameters the workers start from, or always the newest; None: cold.
        max_bundle_bytes: what a bundle's accumulators may hold before the largest is sent on.
        refuse_bytes: an accumulation larger than this fails; None: 256 MiB.
        limits: how large values may be; shipped as JSON.
        names: of the first features, for reasons.
        order: names of all features, where they are known: batches whose features have names are put into that order.
        seen: what earlier windows held, which limits go by.

    >>> import apache_beam as beam
    >>> from beam_ml import pca
    >>> from beam_ml.beam import SliceByWindow, new_pipeline, run
    >>> from beam_ml.core.windows import Windows
    >>> pipeline, spec = new_pipeline(), pca.Spec(n_features=1)
    >>> slices = pipeline | beam.Create([Batch.dense([[1.0], [float("nan")], [3.0]])]) | SliceByWindow(Windows(None))
    >>> out = slices | Accumulate(spec)
    >>> _ = out.rejected | beam.Map(lambda one: print(len(one), one.reason))
    >>> _ = run(pipeline)
    1 non-finite feature
    """

    def __init__(
        self,
        spec: Spec,
        anchor: AnchorRef | LiveAnchor | None = None,
        max_bundle_bytes: int = MAX_BUNDLE_BYTES,
        refuse_bytes: int | None = None,
        limits: Limits = ABSOLUTE,
        names: Sequence[str] = (),
        order: tuple[str, ...] | None = None,
        seen: Seen | None = None,
    ) -> None:
        super().__init__()
        self._spec, self._algorithm = spec.to_json(), spec.algorithm
        before = "" if seen is None else seen.to_json()
        self._fn = _Accumulate(self._spec, anchor, max_bundle_bytes, refuse_bytes, limits, tuple(names), order, before)

    @many_in_or_out
    def expand(self, pcoll: PCollection | Slices) -> Accumulations:
        """Admit and learn rows where they lie, and count what is in no slice."""
        slices = pcoll.slices if isinstance(pcoll, Slices) else pcoll
        coders.install(slices.pipeline, self._algorithm)
        out = slices | "Rows" >> ParDo(self._fn).with_outputs("rejected", main="accumulations")
        accumulations, rejected = out.accumulations, out.rejected
        if isinstance(pcoll, Slices):
            counted = pcoll.progress | "Count" >> Count(self._spec)
            accumulations = (accumulations, counted) | "All" >> Flatten()
            rejected = (pcoll.rejected, rejected) | "Rejected" >> Flatten()
        return Accumulations(accumulations, rejected)
