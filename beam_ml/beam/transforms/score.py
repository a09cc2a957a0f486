"""`Score` and `Evaluate`: the served model inside a pipeline."""

import copy
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from apache_beam import DoFn, GroupByKey, ParDo, PTransform
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints import with_output_types

from beam_ml.beam.telemetry import count, timed
from beam_ml.beam.transforms.rows import as_rows, holds_rows, in_blocks, with_columns
from beam_ml.beam.transforms.windowing import globally, many_in_or_out, piped, to_global
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.elements import Measured
from beam_ml.core import metrics
from beam_ml.core.admit import admit
from beam_ml.core.algorithm import Predictions
from beam_ml.core.batch import Batch
from beam_ml.core.labels import BINARY, Labels
from beam_ml.core.predicted import Predicted
from beam_ml.core.rejects import Reject
from beam_ml.core.threads import one_thread
from beam_ml.errors import InvalidBatch
from beam_ml.formats.block import Block
from beam_ml.predictor import ModelRef, Predictor, as_reference, predictor_of

__all__ = ["MODEL_VERSION", "Evaluate", "Score", "ScoredBlocks", "as_columns"]

MODEL_VERSION = "model_version"
"""The column that says which version made a prediction."""


class ScoredBlocks(NamedTuple):
    """The outputs of `Score`.

    Attributes:
        predictions: PCollection of Block; of dict where rows were scored.
        rejected: PCollection of Reject.

    >>> import tempfile, apache_beam as beam
    >>> from beam_ml import Batch, derive, fit, pca, save
    >>> from beam_ml.beam import new_pipeline, run
    >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
    >>> learner = fit(pca.Spec(n_features=1), [Batch.dense([[1.0], [3.0]])])
    >>> save(derive(learner, pca.Components(n_components=1)), path)
    >>> pipeline = new_pipeline()
    >>> predictions, rejected = pipeline | beam.Create([Batch.dense([[5.0]])]) | Score(path)
    >>> _ = predictions | beam.Map(lambda block: print(block.batch.to_pydict()))
    >>> _ = run(pipeline)
    {'projection': [[3.0]], 'model_version': [0]}
    """

    predictions: PCollection
    rejected: PCollection

    def __or__(self, transform: Any) -> Any:
        return piped(self, transform)


class _Following(DoFn):
    """Base: holds the process's predictor and looks for a new version now and then."""

    def __init__(self, reference: ModelRef, refresh_s: float) -> None:
        self._reference, self._refresh_s = reference, refresh_s
        self._of_rows = False

    def of_rows(self, rows: bool) -> "_Following":
        """Return a copy that knows whether blocks are made of rows, which may lack columns."""
        mine = copy.copy(self)
        mine._of_rows = rows
        return mine

    def _whole(self, element: Any, with_label: bool) -> Any:
        """Return a block of rows with all columns that the features need."""
        features = self._predictor.features
        if not self._of_rows or features is None or not isinstance(element, Block):
            return element
        return with_columns(element, features.columns(with_label))

    def setup(self) -> None:
        self._predictor: Predictor = predictor_of(self._reference)
        self._looked = float("-inf")

    def start_bundle(self) -> None:
        if time.monotonic() - self._looked >= self._refresh_s:
            self._predictor.refresh()
            self._looked = time.monotonic()


class _Served(PTransform):
    """Base: a transform whose workers follow one model."""

    _step: ClassVar[type[_Following]]

    def __init__(
        self,
        model: ModelRef | str | Path,
        name: str | None = None,
        which: str | None = None,
        refresh_s: float = 60.0,
        algorithms: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self._fn = self._step(as_reference(model, name, which, algorithms), refresh_s)


def as_columns(predictions: Predictions, version: int, n: int) -> dict[str, pa.Array]:
    """Return predictions of n rows as columns, with the version that made them.

    >>> as_columns({"score": np.array([0.5])}, 3, 1)["model_version"].to_pylist()
    [3]
    """
    columns: dict[str, pa.Array] = Predicted(predictions).columns()
    return columns | {MODEL_VERSION: pa.array(np.full(n, version, dtype=np.int64))}


def _placed(reject: Reject, block: Block | Batch) -> Reject:
    """Turn row numbers within the element into places, where those are known."""
    if block.position is None:
        return reject
    end = None if block.position_end is None else block.position_end[reject.position]
    return Reject(reject.reason, block.position[reject.position], end, reject.detail)


def _check(name: str, element: Any) -> None:
    """Refuse what is neither a block nor a batch."""
    if not isinstance(element, Block | Batch):
        message = (
            f"{name} takes blocks, batches, and rows that their PCollection declares, as Map(…).with_output_types(dict) "
            f"does; got {type(element).__name__}."
        )
        raise InvalidBatch(message)


@with_output_types(Block, rejected=Reject)
class _Score(_Following):
    def process(self, element: Block | Batch) -> Iterator[Any]:
        _check("Score", element)
        element = self._whole(element, with_label=False)
        with timed("predict_us"):
            scored = self._predictor.score(element)
        n = int(scored.rows.size)
        count("predicted", n)
        columns = as_columns(scored.predictions, scored.version, n)
        for reject in scored.rejected:
            yield TaggedOutput("rejected", _placed(reject, element).of(element.origin))
        position, end = (
            None if place is None else place[scored.rows] for place in (element.position, element.position_end)
        )
        if isinstance(element, Batch):
            yield Block(pa.record_batch(columns), element.origin, position, end)
            return
        for reject in element.rejected:
            yield TaggedOutput("rejected", reject.of(element.origin))
        kept = element.batch if n == len(element) else element.batch.take(pa.array(scored.rows))
        given = {name: kept.column(name) for name in kept.schema.names if name not in columns}
        yield element.replace(batch=pa.record_batch(given | columns), position=position, position_end=end, rejected=())


class Score(_Served):
    """Blocks (for a model that was stored with features) or batches → `ScoredBlocks`.

    Rows that are dicts, `beam.Row`s or named tuples (by the declared type of their PCollection) are scored as blocks are,
    and `predictions` are then dicts.

    A block keeps its columns and gains the predictions, under SageMaker's names, and `model_version`; a batch yields the
    predictions alone. An array per row (`projection`) is a list column. `beam.Map(print)` shows a block's first rows with
    their places, `Block.to_dicts` returns all of them.

    Args:
        model: a `ModelRef`, the path of a model file, or, with `name`, the path or URL of a registry.
        name: in the registry.
        which: of the version's models; None: its champion.
        refresh_s: how often a worker looks for a newly served version.
        algorithms: algorithms outside this package that it may be of, as ``module:attribute``.

    >>> import tempfile, apache_beam as beam
    >>> from beam_ml import Batch, derive, fit, linear, save
    >>> from beam_ml.beam import new_pipeline, run
    >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
    >>> rows = Batch.dense([[0.0], [1.0], [2.0]], label=[1.0, 3.0, 5.0])
    >>> save(derive(fit(linear.Newton(n_features=1, loss="squared"), [rows]), linear.Regressor()), path)
    >>> pipeline = new_pipeline()
    >>> out = pipeline | beam.Create([Batch.dense([[10.0]])]) | Score(path)
    >>> _ = out.predictions | beam.Map(print)
    >>> _ = run(pipeline)  # doctest: +ELLIPSIS
    Block of 1 rows
      row 0: score=2..., model_version=0
    """

    _step = _Score

    @many_in_or_out
    def expand(self, pcoll: PCollection) -> ScoredBlocks:
        """Predict with the worker's predictor, and set aside what it cannot."""
        coders.install(pcoll.pipeline)
        rows = holds_rows(pcoll)
        step = ParDo(self._fn.of_rows(rows)).with_outputs("rejected", main="predictions")
        out = (in_blocks(pcoll) if rows else pcoll) | step
        return ScoredBlocks(as_rows(out.predictions) if rows else out.predictions, out.rejected)


@with_output_types(tuple[bytes, Measured])
class _Measure(_Following):
    """Sums metrics into one `Measured` per bundle."""

    def start_bundle(self) -> None:
        super().start_bundle()
        self._sum: Measured | None = None

    def process(self, element: Block | Batch) -> None:
        now = self._predictor
        _check("Evaluate", element)
        element = self._whole(element, with_label=True)
        if isinstance(element, Batch):
            batch = element
        elif now.features is None:
            message = "This model was stored without features; it is evaluated on batches, not raw records."
            raise InvalidBatch(message)
        else:
            batch, _ = now.features.to_batch(element)
        model = now.model
        written = Labels(model.spec, model.labels or BINARY)
        good = admit(model.spec, written.coded(batch.ordered(model.names))).rows
        if len(good):
            with timed("predict_us"), one_thread():
                found = now.kind.measure(model.arrays, good)
            self._sum = _joined(self._sum, Measured(found, {now.version: len(good)}))

    def finish_bundle(self) -> Iterator[Any]:
        if self._sum is not None:
            yield globally((b"", self._sum))


def _joined(a: Measured | None, b: Measured) -> Measured:
    if a is None:
        return b
    versions = dict(a.versions)
    for version, rows in b.versions.items():
        versions[version] = versions.get(version, 0) + rows
    return Measured(metrics.merge(a.metrics, b.metrics), versions)


@with_output_types(Measured)
class _Join(DoFn):
    def process(self, element: tuple[bytes, Iterable[Measured]]) -> Iterator[Measured]:
        total: Measured | None = None
        for one in element[1]:
            total = _joined(total, one)
        if total is not None:
            yield total


class Evaluate(_Served):
    """Labelled blocks, batches or rows → one `Measured`: mergeable sums of how the model does on all of them.

    Rows are what `Score` takes as such. Those that a learner would reject are left out. Labels are the numbers that were
    learned from (−1 and 1, say). The input is taken as a whole, whatever its windows.

    Args:
        model, name, which, refresh_s, algorithms: as `Score` takes them.

    >>> import tempfile, apache_beam as beam
    >>> from beam_ml import Batch, derive, fit, linear, save
    >>> from beam_ml.beam import new_pipeline, run
    >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
    >>> rows = Batch.dense([[0.0], [1.0], [2.0]], label=[1.0, 3.0, 5.0])
    >>> save(derive(fit(linear.Newton(n_features=1, loss="squared"), [rows]), linear.Regressor()), path)
    >>> pipeline = new_pipeline()
    >>> measured = pipeline | beam.Create([Batch.dense([[10.0], [20.0]], label=[21.0, 43.0])]) | Evaluate(path)
    >>> _ = measured | beam.Map(lambda one: print(round(metrics.compute(one.metrics)["mse"], 6), dict(one.versions)))
    >>> _ = run(pipeline)
    2.0 {0: 2}
    """

    _step = _Measure

    def expand(self, pcoll: PCollection) -> PCollection:
        """Measure each bundle, and merge the bundles' sums in one place."""
        coders.install(pcoll.pipeline)
        rows = holds_rows(pcoll)
        given = in_blocks(pcoll) if rows else pcoll
        return to_global(given) | ParDo(self._fn.of_rows(rows)) | GroupByKey() | "Join" >> ParDo(_Join())
