"""`TrainFn` and `MergeLearners`: plain CombineFns for users' own `CombinePerKey` and `CombineGlobally`."""

from collections.abc import Iterable, Mapping

from apache_beam import CombineFn
from apache_beam.coders import Coder
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.algorithms import algorithm_of
from beam_ml.beam.telemetry import count_progress, timed
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.references import check_size, spec_of
from beam_ml.core import accumulation as accumulations
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation, Accumulator, Part
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Plan, refresh
from beam_ml.core.sample import Sample
from beam_ml.core.spec import Spec
from beam_ml.core.threads import one_thread

__all__ = ["MergeLearners", "TrainFn"]

_NO_MODELS = Plan(models={})
_PLACES_BYTES = 8
"""About what a partial that grows in place holds per feature, touched or not: where each one's entries are."""


class _Growing:
    """An accumulation that batches are learned into in place.

    To coders, which may meet it at any time, it is the `Accumulation` so far. While that is smaller than the places that
    growing needs, it is rebuilt with every batch: of a wide table there may be many, one per key.
    """

    __slots__ = ("_accumulator", "_so_far", "_spec_json")

    def __init__(self, spec_json: str, start: Accumulation) -> None:
        self._spec_json = spec_json
        self._so_far: Accumulation | None = start
        self._accumulator: Accumulator | None = None

    def add(self, batch: Batch) -> None:
        """Learn from a batch; what `so_far` has given stays as it is."""
        algorithm, spec = spec_of(self._spec_json)
        if self._accumulator is None:
            self._accumulator = Accumulator(algorithm, spec, start=self._so_far)
        self._so_far = None
        self._accumulator.add(batch)
        if self._accumulator.nbytes < _PLACES_BYTES * spec.n_features:
            self._so_far, self._accumulator = self._accumulator.result(), None

    def so_far(self) -> Accumulation:
        """Return the accumulation of everything added so far; more may be added afterwards."""
        if self._so_far is None:
            assert self._accumulator is not None  # noqa: S101
            self._so_far = self._accumulator.result()
        return self._so_far

    @property
    def spec(self) -> Spec:
        return self.so_far().spec

    @property
    def parts(self) -> Mapping[int, Part]:
        return self.so_far().parts

    @property
    def rest(self) -> Progress:
        return self.so_far().rest

    @property
    def sample(self) -> Sample:
        return self.so_far().sample

    @property
    def names(self) -> tuple[str, ...] | None:
        return self.so_far().names


def _so_far(accumulator: Accumulation | _Growing) -> Accumulation:
    return accumulator.so_far() if isinstance(accumulator, _Growing) else accumulator


@with_input_types(Batch)
@with_output_types(Learner)
class TrainFn(CombineFn):
    """Batches → a learner, folded once: global, windowed, or one per key.

    Rows that may not be learned from are counted in the learner's progress. Batches whose features have names must have
    them in one order (`Batch.ordered`); the learner keeps them. Use it as ``CombinePerKey(TrainFn(spec))``
    or ``CombineGlobally(TrainFn(spec)).without_defaults()``; a keyed PCollection must be typed
    (``.with_output_types(tuple[str, Batch])``), or Beam pickles the batches on their way.

    Args:
        spec: what to learn; shipped as JSON.

    >>> from beam_ml import pca
    >>> train = TrainFn(pca.Spec(n_features=1))
    >>> grown = train.add_input(train.create_accumulator(), Batch.dense([[1.0], [2.0]]))
    >>> train.extract_output(train.merge_accumulators([grown, train.create_accumulator()])).progress.rows
    2
    """

    def __init__(self, spec: Spec) -> None:
        self._spec_json = spec.to_json()

    def setup(self) -> None:
        """Import the algorithm: coders take only those at hand."""
        spec_of(self._spec_json)

    def create_accumulator(self) -> Accumulation:
        """Return the identity of merging."""
        return accumulations.empty(spec_of(self._spec_json)[1])

    def add_input(self, accumulator: Accumulation | _Growing, element: Batch) -> _Growing:
        """Learn from a batch in place: what this has given before is changed and given again, all else stays."""
        with timed("accumulate_us"), one_thread():
            growing = accumulator if isinstance(accumulator, _Growing) else _Growing(self._spec_json, accumulator)
            growing.add(element)
        return growing

    def merge_accumulators(self, accumulators: Iterable[Accumulation | _Growing]) -> Accumulation:
        """Merge any number, taken one at a time; none yields the identity, and the arguments stay as they are."""
        algorithm, spec = spec_of(self._spec_json)
        with timed("merge_us"), one_thread():
            merged = accumulations.merge_all(algorithm, spec, map(_so_far, accumulators))
        check_size(spec, accumulations.size_bytes(merged))
        return merged

    def compact(self, accumulator: Accumulation | _Growing) -> Accumulation:
        """Return the accumulation, without the memory that growing in place needs."""
        return _so_far(accumulator)

    def extract_output(self, accumulator: Accumulation | _Growing) -> Learner:
        """Fold; may be asked again."""
        algorithm, spec = spec_of(self._spec_json)
        accumulation = _so_far(accumulator)
        count_progress(accumulation.progress)
        with timed("fold_us"), one_thread():
            learner, _ = refresh(algorithm, learners.new(algorithm, spec), None, accumulation, _NO_MODELS)
        return learner

    def get_accumulator_coder(self) -> Coder:
        """Return the artefact coder."""
        return coders.AccumulationCoder()


@with_input_types(Learner)
@with_output_types(Learner)
class MergeLearners(CombineFn):
    """Learners of one spec → their sum: regions, days. No learner at all yields None (use ``.without_defaults()``).

    Args:
        allow_overlap: count rows twice that two learners have both scanned, instead of refusing.

    >>> from beam_ml import fit, pca
    >>> north, south = (fit(pca.Spec(n_features=1), [Batch.dense([[x], [x + 1.0]])]) for x in (0.0, 5.0))
    >>> MergeLearners().merge_accumulators([north, None, south]).progress.rows
    4
    """

    def __init__(self, allow_overlap: bool = False) -> None:
        self._allow_overlap = allow_overlap

    def create_accumulator(self) -> Learner | None:
        """Return the identity: no learner."""
        return None

    def add_input(self, accumulator: Learner | None, element: Learner) -> Learner | None:
        """Merge one into the sum."""
        return self.merge_accumulators((accumulator, element))

    def merge_accumulators(self, accumulators: Iterable[Learner | None]) -> Learner | None:
        """Merge any number, taken one at a time."""
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
        """Return the merged learner, or None if there was none."""
        return accumulator

    def get_accumulator_coder(self) -> Coder:
        """Return the artefact coder, which knows of no learner, too."""
        return coders.OptionalLearnerCoder()
