"""`TrainFn` and `MergeLearners`: plain CombineFns for users' own `CombinePerKey` and `CombineGlobally`."""

from collections.abc import Iterable

from apache_beam import CombineFn
from apache_beam.coders import Coder
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.algorithms import algorithm_of
from beam_ml.beam import coders
from beam_ml.beam.references import check_size, spec_of
from beam_ml.beam.telemetry import count_progress, timed
from beam_ml.core import accumulation as accumulations
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.refresh import Plan, refresh
from beam_ml.core.spec import Spec
from beam_ml.core.threads import one_thread

__all__ = ["MergeLearners", "TrainFn"]

_NO_MODELS = Plan(models={})


@with_input_types(Batch)
@with_output_types(Learner)
class TrainFn(CombineFn):
    """Batches → a learner, folded once: global, windowed, or one a key.

    Rows that may not be learned from are counted in the learner's progress. Use it as ``CombinePerKey(TrainFn(spec))``
    or ``CombineGlobally(TrainFn(spec)).without_defaults()``; a keyed PCollection must be typed
    (``.with_output_types(tuple[str, Batch])``), or Beam pickles the batches on their way.

    Args:
        spec: what to learn; shipped as JSON.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec_json = spec.to_json()

    def create_accumulator(self) -> Accumulation:
        """Give the identity."""
        return accumulations.empty(spec_of(self._spec_json)[1])

    def add_input(self, accumulator: Accumulation, element: Batch) -> Accumulation:
        """Learn from a batch; the accumulator given stays as it is."""
        with timed("accumulate_us"), one_thread():
            return accumulations.add(*spec_of(self._spec_json), accumulator, element)

    def merge_accumulators(self, accumulators: Iterable[Accumulation]) -> Accumulation:
        """Add any number, taken one at a time; none gives the identity."""
        algorithm, spec = spec_of(self._spec_json)
        with timed("merge_us"), one_thread():
            merged = accumulations.merge_all(algorithm, spec, accumulators)
        check_size(spec, accumulations.size_bytes(merged))
        return merged

    def compact(self, accumulator: Accumulation) -> Accumulation:
        """Give it back: an accumulation is compact at any time."""
        return accumulator

    def extract_output(self, accumulator: Accumulation) -> Learner:
        """Fold; may be asked again."""
        algorithm, spec = spec_of(self._spec_json)
        count_progress(accumulator.progress)
        with timed("fold_us"), one_thread():
            learner, _ = refresh(algorithm, learners.new(algorithm, spec), None, accumulator, _NO_MODELS)
        return learner

    def get_accumulator_coder(self) -> Coder:
        """Give the artefact coder."""
        return coders.AccumulationCoder()


@with_input_types(Learner)
@with_output_types(Learner)
class MergeLearners(CombineFn):
    """Learners of one spec → their sum: regions, days. None at all gives None (use ``.without_defaults()``).

    Args:
        allow_overlap: count rows twice that two learners have both scanned, instead of refusing.
    """

    def __init__(self, allow_overlap: bool = False) -> None:
        self._allow_overlap = allow_overlap

    def create_accumulator(self) -> Learner | None:
        """Give the identity: no learner."""
        return None

    def add_input(self, accumulator: Learner | None, element: Learner) -> Learner | None:
        """Add one."""
        return self.merge_accumulators((accumulator, element))

    def merge_accumulators(self, accumulators: Iterable[Learner | None]) -> Learner | None:
        """Add any number, taken one at a time."""
        merged: Learner | None = None
        for one in accumulators:
            if merged is None or one is None:
                merged = one if merged is None else merged
            else:
                with timed("merge_us"), one_thread():
                    algorithm = algorithm_of(merged.spec)
                    merged = learners.merge(algorithm, merged, one, allow_overlap=self._allow_overlap)
        return merged

    def extract_output(self, accumulator: Learner | None) -> Learner | None:
        """Give the sum."""
        return accumulator

    def get_accumulator_coder(self) -> Coder:
        """Give the artefact coder, which knows of no learner, too."""
        return coders.OptionalLearnerCoder()
