"""Reduce side: the accumulations of a window end → one."""

import struct
import zlib
from collections.abc import Iterable, Iterator

from apache_beam import CombineFn, CombinePerKey, ParDo, PTransform
from apache_beam.coders import Coder
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.beam.engine import refuse_streaming
from beam_ml.beam.steps import Step
from beam_ml.beam.telemetry import timed
from beam_ml.beam.transforms.accumulate import Accumulations
from beam_ml.beam.transforms.windowing import many_in_or_out
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.references import check_size, spec_of
from beam_ml.core.accumulation import Accumulation, empty, merge, merge_all, size_bytes
from beam_ml.core.spec import Spec
from beam_ml.core.threads import one_thread
from beam_ml.errors import InvalidValue

__all__ = ["Merge", "MergeFn", "shard_of"]

_KEY = struct.Struct(">qI")


@with_input_types(Accumulation)
@with_output_types(Accumulation)
class MergeFn(CombineFn):
    """Adds accumulations of one spec; pure, and an accumulation at every stage.

    Args:
        spec: of all of them; shipped as JSON.

    >>> from beam_ml import Batch, pca
    >>> from beam_ml.core.accumulation import Accumulator
    >>> fn = MergeFn(pca.Spec(n_features=1))
    >>> accumulator = Accumulator(*spec_of(pca.Spec(n_features=1).to_json()))
    >>> _ = accumulator.add(Batch.dense([[1.0], [3.0]]))
    >>> fn.merge_accumulators([fn.create_accumulator(), accumulator.result()]).progress.rows
    2
    """

    def __init__(self, spec: Spec) -> None:
        self._spec_json = spec.to_json()

    def setup(self) -> None:
        """Import the algorithm: coders take only those at hand."""
        spec_of(self._spec_json)

    def create_accumulator(self) -> Accumulation:
        """Return the identity of merging."""
        return empty(spec_of(self._spec_json)[1])

    def add_input(self, accumulator: Accumulation, element: Accumulation) -> Accumulation:
        """Merge one into the sum."""
        with timed("merge_us"), one_thread():
            return merge(*spec_of(self._spec_json), accumulator, element)

    def merge_accumulators(self, accumulators: Iterable[Accumulation]) -> Accumulation:
        """Merge any number, taken one at a time."""
        algorithm, spec = spec_of(self._spec_json)
        with timed("merge_us"), one_thread():
            merged = merge_all(algorithm, spec, accumulators)
        check_size(spec, size_bytes(merged))
        return merged

    def extract_output(self, accumulator: Accumulation) -> Accumulation:
        """Return the merged accumulation."""
        return accumulator

    def get_accumulator_coder(self) -> Coder:
        """Return the artefact coder."""
        return coders.AccumulationCoder()


def shard_of(accumulation: Accumulation, n_shards: int) -> int:
    """Return the shard of an accumulation: it follows from the rows' places, so a rerun shares out alike."""
    if n_shards == 1:
        return 0
    covered = accumulation.progress.covered
    first = [f"{o.source}\0{o.partition}\0{int(r[0, 0])}" for o, r in sorted(covered.items())[:1]]
    return zlib.crc32("".join(first).encode()) % n_shards


@with_input_types(tuple[int, Accumulation])
@with_output_types(tuple[bytes, Accumulation])
class _ToShards(Step):
    """Keys by window end and shard."""

    def __init__(self, fanout: int) -> None:
        self._fanout = fanout

    def process(self, element: tuple[int, Accumulation]) -> Iterator[tuple[bytes, Accumulation]]:
        end, accumulation = element
        yield _KEY.pack(end, shard_of(accumulation, self._fanout)), accumulation


@with_input_types(tuple[bytes, Accumulation])
@with_output_types(tuple[bytes, Accumulation])
class _ToWindows(Step):
    def process(self, element: tuple[bytes, Accumulation]) -> Iterator[tuple[bytes, Accumulation]]:
        end, _ = _KEY.unpack(element[0])
        yield _KEY.pack(end, 0), element[1]


@with_input_types(tuple[bytes, Accumulation])
@with_output_types(tuple[int, Accumulation])
class _ToEnds(Step):
    def process(self, element: tuple[bytes, Accumulation]) -> Iterator[tuple[int, Accumulation]]:
        yield _KEY.unpack(element[0])[0], element[1]


class Merge(PTransform):
    """`Accumulations`, or a PCollection of (window end, Accumulation) → one (window end, Accumulation) a window end.

    Args:
        spec: of all of them.
        fanout: shards per window end that are merged in parallel first; 1: none.

    >>> import apache_beam as beam
    >>> from beam_ml import Batch, pca
    >>> from beam_ml.beam import Accumulate, SliceByWindow, new_pipeline, run
    >>> from beam_ml.core.windows import ROUND, Windows
    >>> pipeline, spec = new_pipeline(), pca.Spec(n_features=1)
    >>> batches = pipeline | beam.Create([Batch.dense([[1.0], [3.0]]), Batch.dense([[5.0]])])
    >>> merged = batches | SliceByWindow(Windows(None)) | Accumulate(spec) | Merge(spec, fanout=2)
    >>> _ = merged | beam.Map(lambda one: print(one[0] == ROUND, one[1].progress.rows, "rows"))
    >>> _ = run(pipeline)
    True 3 rows
    """

    def __init__(self, spec: Spec, fanout: int = 1) -> None:
        super().__init__()
        if fanout < 1:
            message = f"Merge.fanout must be >= 1; got {fanout}."
            raise InvalidValue(message)
        self._spec, self._fanout = spec, fanout

    @many_in_or_out
    def expand(self, pcoll: PCollection | Accumulations) -> PCollection:
        """Key by window end and shard, and combine: the shards first, where there are several."""
        accumulations = pcoll.accumulations if isinstance(pcoll, Accumulations) else pcoll
        refuse_streaming(accumulations)
        coders.install(accumulations.pipeline, self._spec.algorithm)
        keyed = accumulations | "Shards" >> ParDo(_ToShards(self._fanout))
        if self._fanout > 1:
            keyed = keyed | "MergeShards" >> CombinePerKey(MergeFn(self._spec)) | "Windows" >> ParDo(_ToWindows())
        return keyed | "MergeWindows" >> CombinePerKey(MergeFn(self._spec)) | "Ends" >> ParDo(_ToEnds())
