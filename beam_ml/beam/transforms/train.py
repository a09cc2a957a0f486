"""`Train`: the composite for users' own bounded pipelines; `Fold` and `Publish`, its last steps."""

import dataclasses
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from apache_beam import DoFn, FlatMap, GroupByKey, Map, ParDo, PTransform
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_input_types, with_output_types

from beam_ml.algorithms import algorithm_of
from beam_ml.beam.engine import refuse_streaming
from beam_ml.beam.transforms.accumulate import Accumulate, Accumulations, Merge
from beam_ml.beam.transforms.batches import Batches, SliceByWindow, ToBatches
from beam_ml.beam.transforms.windowing import many_in_or_out, piped
from beam_ml.beam.versions.contents import facts_of, model_facts, payloads_of
from beam_ml.beam.versions.life import folded, take_in
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.elements import Folded
from beam_ml.beam.wire.references import AnchorRef, learner_of, plan_json, plan_of, spec_of
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.champions import check_gate, reached
from beam_ml.core.gate import Gate, Verdict
from beam_ml.core.leaps import leap_us
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.core.refresh import Plan, Refresh, fold_open, model_kind
from beam_ml.core.spec import ModelSpec, Spec, parse_duration_s
from beam_ml.core.windows import Windows
from beam_ml.errors import InvalidValue
from beam_ml.features import Features
from beam_ml.registry import Manifest, Registry, new_round_id

__all__ = ["Fold", "Publish", "Train", "Trained"]

_ONE = b"job"


class Trained(NamedTuple):
    """The outputs of `Train`.

    Attributes:
        refreshes: PCollection of Refresh, one per fold; their `models` are `Model` records.
        learner: PCollection of the one Learner after the last fold; none when nothing was scanned.
        rejected: PCollection of Reject.
        folded: PCollection of the one Folded, learner with refreshes, for `Publish`.

    >>> import apache_beam as beam
    >>> from beam_ml import Batch, pca
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline = new_pipeline()
    >>> out = pipeline | beam.Create([Batch.dense([[1.0], [3.0]])]) | Train(pca.Spec(n_features=1))
    >>> _ = out.learner | beam.Map(print)
    >>> _ = run(pipeline)
    Learner(pca, refresh 1, 2 rows)
    """

    refreshes: PCollection
    learner: PCollection
    rejected: PCollection
    folded: PCollection

    def __or__(self, transform: Any) -> Any:
        return piped(self, transform)


def _checked(spec: Spec, models: Mapping[str, ModelSpec], gate: Sequence[str]) -> Plan:
    for one in models.values():
        model_kind(algorithm_of(spec), one)
    plan = Plan(dict(models), Gate(tuple(gate)))
    check_gate(algorithm_of(spec), spec, plan.models, plan.gate)
    return plan


@with_input_types(tuple[int, Accumulation])
@with_output_types(tuple[bytes, tuple[int, Accumulation]])
class _Together(DoFn):
    def process(self, element: tuple[int, Accumulation]) -> Iterator[tuple[bytes, tuple[int, Accumulation]]]:
        yield _ONE, element


@with_output_types(Folded)
class _Fold(DoFn):
    def __init__(self, spec: str, plan: str, by_time: bool, start: AnchorRef | None, features: str | None) -> None:
        self._spec_json, self._plan_json, self._by_time = spec, plan, by_time
        self._start, self._features = start, features

    def setup(self) -> None:
        self._algorithm, self._spec = spec_of(self._spec_json)
        self._plan = plan_of(self._algorithm, self._plan_json)

    def process(self, element: tuple[bytes, Iterable[tuple[int, Accumulation]]]) -> Iterator[Folded]:
        algorithm = self._algorithm
        learner = learners.new(algorithm, self._spec) if self._start is None else learner_of(self._start, self._spec)
        learner = take_in(algorithm, learner, element[1], self._by_time)
        learner, refreshes = folded(
            learner, fold_open(algorithm, learner, self._plan, published=True), self._with_models
        )
        yield Folded(learner, tuple(one for one, _ in refreshes))

    def _with_models(self, learner: Learner, one: Refresh) -> Refresh:
        facts = model_facts(learner, one, None if self._features is None else json.loads(self._features))
        models = {
            name: Model(self._spec, mine, arrays, facts | reached(self._algorithm, learner, mine, arrays))
            for name, arrays in one.models.items()
            for mine in (self._plan.models[name],)
        }
        return dataclasses.replace(one, models=models)


class Fold(PTransform):
    """(window end, Accumulation), one per window end → one `Folded`: every window is folded, in order of time.

    Args:
        spec: what is learned.
        models: candidate name → model spec, derived at each fold.
        gate: rules for serving.
        by_time: window ends are event times; False: all is one window, `ROUND`.
        start: the stored learner to resume from; None: a new one.
        features: what made the batches; stored in the models.

    >>> import apache_beam as beam
    >>> from beam_ml import Batch, pca
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline, spec = new_pipeline(), pca.Spec(n_features=1)
    >>> batches = pipeline | beam.Create([Batch.dense([[1.0], [3.0]], time=[0, 0]), Batch.dense([[5.0]], time=[9_000_000])])
    >>> merged = batches | SliceByWindow(Windows.of_seconds(1)) | Accumulate(spec) | Merge(spec)
    >>> _ = merged | Fold(spec) | beam.Map(lambda one: print(one.learner, len(one.refreshes)))
    >>> _ = run(pipeline)
    Learner(pca, refresh 2, 3 rows) 2
    """

    def __init__(
        self,
        spec: Spec,
        models: Mapping[str, ModelSpec] | None = None,
        gate: Sequence[str] = (),
        by_time: bool = True,
        start: AnchorRef | None = None,
        features: Features | None = None,
    ) -> None:
        super().__init__()
        self._algorithm = spec.algorithm
        shipped = None if features is None else features.to_json()
        self._fn = _Fold(spec.to_json(), plan_json(_checked(spec, models or {}, gate)), by_time, start, shipped)

    def expand(self, pcoll: PCollection) -> PCollection:
