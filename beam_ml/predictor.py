"""`Predictor`: a name in the registry, or a model file → rows in, predictions out, following new versions."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.algorithms import Named, algorithm_of, finder
from beam_ml.artefact.records import decode_model
from beam_ml.core.algorithm import ModelKind, Predictions, check_batch
from beam_ml.core.batch import Batch
from beam_ml.core.model import Model
from beam_ml.core.predicted import Predicted
from beam_ml.core.refresh import model_kind
from beam_ml.core.rejects import Reject
from beam_ml.core.scoring import refuse, score
from beam_ml.errors import InvalidBatch, InvalidValue, UnreadableInput, VersionNotFound
from beam_ml.features import Features
from beam_ml.features.labels import named
from beam_ml.formats.block import Block
from beam_ml.registry import Found, Manifest, Registry

__all__ = ["ModelRef", "Predictor", "Scored", "as_reference", "predictor_of"]

_MODELS = "models/"
_NONE: tuple[Reject, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ModelRef:
    """Which model: plain text, so that it can be sent to workers.

    Attributes:
        where: path of a model file, or path or URL of a registry.
        name: in the registry; None: `where` is a model file.
        model: which of the version's models; None: its champion, else the first by name.
        algorithms: algorithms outside this package that it may be of, as ``module:attribute``.

    >>> ModelRef("s3://models", "fraud", model="l1")
    ModelRef(where='s3://models', name='fraud', model='l1')
    >>> ModelRef("model.safetensors").name is None
    True
    """

    where: str
    name: str | None = None
    model: str | None = None
    algorithms: tuple[str, ...] = dataclasses.field(default=(), repr=False)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The predictions of a block.

    Attributes:
        version: of the model; 0 when it is from no registry.
        predictions: named arrays, one entry for each row that could be predicted; `predicted_class` names the predicted
            label where the model's features list the classes.
        rows: (m,) int64 their row numbers within the block.
        rejected: the other rows by reason; a reject's position is the row number within the block.
    """

    version: int
    predictions: Predictions
    rows: np.ndarray
    rejected: tuple[Reject, ...]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    version: int
    model: Model
    kind: ModelKind
    features: Features | None


def _load(model: Model, version: int) -> _Loaded:
    kind = model_kind(algorithm_of(model.spec), model.model_spec)
    stored = model.facts.get("features")
    return _Loaded(version, model, kind, None if stored is None else Features.parse(stored))


class Predictor:
    """Predicts rows with the served version of a model; `refresh` goes over to a new one.

    Args:
        where: registry, its path or URL; or, without `name`, the path of a model file.
        name: in the registry.
        model: which of the version's models; None: its champion, else the first by name.
        algorithms: algorithms outside this package that it may be of, as ``module:attribute`` or as their records.

    Raises:
        VersionNotFound: nothing is served under that name, or the version has no such model.
        ArtefactError: the model cannot be read.

    >>> import tempfile, pathlib
    >>> from beam_ml import Batch, derive, fit, pca, save
    >>> learner = fit(pca.Spec(n_features=2), [Batch.dense([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])])
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> save(derive(learner, pca.Components(n_components=1)), path)
    >>> Predictor(path).predict(Batch.dense([[1.0, 1.0]]))["projection"].shape
    (1, 1)
    """

    def __init__(
        self,
        where: Registry | str | Path,
        name: str | None = None,
        model: str | None = None,
        algorithms: Named = (),
    ) -> None:
        self._name, self._wanted, self._find = name, model, finder(algorithms)
        self._registry: Registry | None = None
        if isinstance(where, Registry):
            self._registry = where
        elif name is not None:
            self._registry = Registry(where, create=False)
        if self._registry is not None and name is None:
            message = "Predictor.name must be given with a registry."
            raise InvalidValue(message)
        self._now = self._from_file(Path(str(where))) if self._registry is None else self._newest(None)

    @property
    def version(self) -> int:
        """The version in use; 0 for a model file."""
        return self._now.version

    @property
    def model(self) -> Model:
        """The model in use."""
        return self._now.model

    @property
    def kind(self) -> ModelKind:
        """The kind of the model in use."""
        return self._now.kind

    @property
    def features(self) -> Features | None:
        """What makes batches of raw records; None: the model was stored without."""
        return self._now.features

    def refresh(self) -> bool:
        """Switch to the served version; return whether it is another one. A model file never changes."""
        if self._registry is None:
            return False
        before, self._now = self._now, self._newest(self._now)
        return self._now is not before

    def predict(self, rows: Block | pa.RecordBatch | Batch) -> Predicted:
        """Predict every row: named arrays, one entry per row; `Predicted.to_pandas` makes a frame of them.

        Raises:
            InvalidBatch: a row that cannot be predicted (`score` sets those aside), or a batch of another width.
            MissingColumn: the features name a column that is not there.
        """
        scored = self.score(rows)
        if scored.rejected:
            first = scored.rejected[0]
            raise refuse(first.reason, int(first.position[0]))
        return Predicted(scored.predictions)

    def score(self, rows: Block | pa.RecordBatch | Batch) -> Scored:
        """Predict the rows that can be, and say which cannot and why.

        Raises:
            InvalidBatch: a batch of another width; raw records for a model stored without features.
            MissingColumn: the features name a column that is not there.
        """
        now = self._now
        batch, rejected = (rows, _NONE) if isinstance(rows, Batch) else _featurised(now, rows)
        check_batch(now.model.spec, batch)
        batch = batch.ordered(now.model.names)
        good = np.ones(len(batch) + sum(map(len, rejected)), dtype=bool)
        for reject in rejected:
            good[reject.position] = False
        places = np.flatnonzero(good)
        predictions, rows, unusable = score(now.kind, now.model.arrays, batch)
        rejected += tuple(Reject(reason, places[gone]) for reason, gone in unusable.items())
        predictions = named(None if now.features is None else now.features.label, predictions)
        return Scored(now.version, predictions, places[rows], rejected)

    def _newest(self, before: _Loaded | None) -> _Loaded:
        assert self._registry is not None  # noqa: S101
        assert self._name is not None  # noqa: S101
        served = self._registry.served(self._name)
        if served is None:
            message = f"{self._name} has no accepted version to serve."
            raise VersionNotFound(message)
        if before is not None and before.version == served.number:
            return before
        found: Found | None = self._registry.serving(self._name, _payload(served, self._wanted))
        if found is None:
            message = f"{self._name} has no accepted version to serve."
            raise VersionNotFound(message)
        if before is not None and before.version == found.manifest.number:
            return before
        return _load(decode_model(found.data, self._find), found.manifest.number)

    def _from_file(self, path: Path) -> _Loaded:
        try:
            data = path.read_bytes()
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}."
            raise UnreadableInput(message) from error
        return _load(decode_model(data, self._find), 0)


def _payload(manifest: Manifest, wanted: str | None) -> str:
    """Name the file of the wanted model, of the champion, or of the first."""
    models = sorted(file.removeprefix(_MODELS) for file in manifest.files if file.startswith(_MODELS))
    if wanted is None:
        wanted = manifest.champion if manifest.champion in models else next(iter(models), None)
    if wanted not in models:
        message = f"{manifest.name} v{manifest.number} has the models {models}; got {wanted!r}."
        raise VersionNotFound(message)
    return f"{_MODELS}{wanted}"


def _featurised(now: _Loaded, rows: Block | pa.RecordBatch) -> tuple[Batch, tuple[Reject, ...]]:
    if now.features is None:
        message = "This model was stored without features; it predicts batches, not raw records."
        raise InvalidBatch(message)
    block = rows.replace(position=None, position_end=None) if isinstance(rows, Block) else Block(rows)
    batch, rejected = now.features.to_batch(block, with_label=False)
    return batch, rejected


@functools.lru_cache(maxsize=8)
def predictor_of(reference: ModelRef) -> Predictor:
    """Return this process's one predictor for a reference."""
    return Predictor(reference.where, reference.name, reference.model, reference.algorithms)


def as_reference(
    model: Any, name: str | None = None, which: str | None = None, algorithms: Iterable[str] = ()
) -> ModelRef:
    """Return the reference of a path, a URL or a reference."""
    named = (algorithms,) if isinstance(algorithms, str) else tuple(algorithms)
    return model if isinstance(model, ModelRef) else ModelRef(str(model), name, which, named)
