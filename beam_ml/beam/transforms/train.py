"""`Train`: the composite for users' own bounded pipelines; and `Fold`, its last step."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from apache_beam import DoFn, FlatMap, GroupByKey, Map, ParDo, PTransform
from apache_beam.pvalue import PCollection
from apache_beam.typehints import with_output_types

from beam_ml.algorithms import algorithm_of
from beam_ml.beam.engine import refuse_streaming
from beam_ml.beam.transforms.accumulate import Accumulate, Accumulations
from beam_ml.beam.transforms.batches import Batches, SliceByWindow, ToBatches
from beam_ml.beam.transforms.merge import Merge
from beam_ml.beam.transforms.windowing import many_in_or_out, piped, under_one_key
from beam_ml.beam.versions.contents import check_names, model_facts
from beam_ml.beam.versions.life import folded, take_in
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.elements import Folded
from beam_ml.beam.wire.references import AnchorRef, learner_of, plan_json, plan_of, spec_of
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.champions import check_gate, reached
from beam_ml.core.gate import Gate
from beam_ml.core.leaps import leap_us
from beam_ml.core.learner import Learner
from beam_ml.core.limits import ABSOLUTE, Limits, Seen
from beam_ml.core.model import Model
from beam_ml.core.refresh import Plan, Refresh, fold_open, model_kind
from beam_ml.core.spec import ModelSpec, Spec, parse_duration_s
from beam_ml.core.windows import Windows
from beam_ml.errors import InvalidValue
from beam_ml.features import Features

__all__ = ["Fold", "Train", "Trained"]


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
        """Gather all windows in one place, and fold them in order."""
        coders.install(pcoll.pipeline, self._algorithm)
        return under_one_key(pcoll) | GroupByKey() | "InOrder" >> ParDo(self._fn)


def _refreshes(element: Folded) -> tuple[Refresh, ...]:
    return element.refreshes


def _learner(element: Folded) -> Learner:
    return element.learner


class Train(PTransform):
    """Blocks (with `features`), batches, or `Batches` → `Trained`: one Refresh per window of a bounded input.

    Each fold measures the previous models on the window's rows before it learns from them. An unbounded input is
    refused: run it in rounds, or as a stream (`beam_ml.beam.stream`).

    Batches whose features have names are put into the order of `start`'s names; without those, all must have them in one
    order (`Batch.ordered`), whatever bundle they come in.

    Args:
        spec: what to learn.
        models: candidate name → model spec, derived at each fold.
        refresh: length of the event-time windows (seconds or "1d"), or "round": all of the input is one window.
        gate: rules for serving, as in "auc >= 0.8".
        features: which columns of the blocks become what; None: the input is batches.
        start: the stored learner to resume from; its parameters are the workers' anchor.
        allowed_lateness: seconds that a row may lie behind the last window that `start` has folded.
        max_ahead: seconds that an event may be dated past now; None: any.
        max_leap: seconds that few rows (1 % of a batch) may be dated ahead of all others; None: the longest of a day, three
            windows, and a half-life.
        fanout: shards per window that are merged in parallel first.
        limits: how large values may be; `Limits()` also goes by what was seen.

    >>> import apache_beam as beam
    >>> from beam_ml import Batch, linear
    >>> from beam_ml.beam import new_pipeline, run
    >>> pipeline = new_pipeline()
    >>> day_us = 86_400_000_000
    >>> rows = Batch.dense([[0.0], [1.0], [2.0]], label=[1.0, 3.0, 5.0], time=[0, 0, day_us])
    >>> spec, models = linear.Newton(n_features=1, loss="squared"), {"plain": linear.Regressor()}
    >>> out = pipeline | beam.Create([rows]) | Train(spec, models, refresh="1d", gate=["mse <= 1"])
    >>> folds = out.refreshes | beam.combiners.ToList()
    >>> _ = folds | beam.Map(lambda found: print([(one.verdict.accepted, sorted(one.models)) for one in found]))
    >>> _ = run(pipeline)
    [(False, ['plain']), (True, ['plain'])]
    """

    def __init__(
        self,
        spec: Spec,
        models: Mapping[str, ModelSpec] | None = None,
        refresh: float | str | Literal["round"] = "round",
        gate: Sequence[str] = (),
        features: Features | None = None,
        start: AnchorRef | None = None,
        allowed_lateness: float = 0.0,
        max_ahead: float | None = None,
        max_leap: float | None = None,
        fanout: int = 1,
        limits: Limits = ABSOLUTE,
    ) -> None:
        super().__init__()
        size = None if refresh == "round" else parse_duration_s(refresh)
        if size is not None and not (isinstance(size, (int, float)) and size > 0):
            message = f"Train.refresh must be a duration > 0, such as '1d', or 'round'; got {refresh!r}."
            raise InvalidValue(message)
        windows = Windows.of_seconds(size, allowed_lateness, max_ahead)
        self._windows = dataclasses.replace(windows, max_leap_us=leap_us(max_leap, windows.size_us, spec.half_life))
        self._spec, self._features, self._start, self._fanout = spec, features, start, fanout
        self._limits = limits
        self._fold = Fold(spec, models, gate, size is not None, start, features)

    @many_in_or_out
    def expand(self, pcoll: PCollection | Batches) -> Trained:
        """Chain the steps from blocks to the last fold."""
        refuse_streaming(pcoll.batches if isinstance(pcoll, Batches) else pcoll)
        batches = pcoll if self._features is None else pcoll | ToBatches(self._features)
        begun = None if self._start is None else learner_of(self._start, self._spec)
        if begun is not None and self._start is not None and self._features is not None:
            check_names(begun, self._features, "Train.features", f"{self._start.name} v{self._start.version}")
        through = None if begun is None else begun.folded_through
        newest = None if begun is None else learners.scanned(begun).time_max
        order = None if begun is None else begun.names
        names = () if self._features is None else self._features.names
        judged = begun is not None and self._limits.deviations != "any"
        seen = Seen.of(begun.sample.estimate(self._spec), len(names)) if judged and begun is not None else None
        accumulated: Accumulations = (
            batches
            | SliceByWindow(self._windows, through, newest=newest)
            | Accumulate(self._spec, self._start, limits=self._limits, names=names, order=order, seen=seen)
        )
        one = accumulated | Merge(self._spec, self._fanout) | self._fold
        refreshes = one | "Refreshes" >> FlatMap(_refreshes).with_output_types(Refresh)
        learner = one | "Learner" >> Map(_learner).with_output_types(Learner)
        return Trained(refreshes, learner, accumulated.rejected, one)
