"""Vocabularies: the most frequent terms of columns, numbers or texts, with their counts; how many is chosen after training.

The state counts a bounded number of terms per column, each within a stated bound whatever the order of rows and parts
(module `counts`); with a half-life, counts are of recent rows. A batch holds numbers alone: texts come as the numbers that
spell them, by `{ column = "shop", transform = "spell" }` of the features, and a vocabulary of them goes back into features
as `one_hot`. Test-then-train measures the distance of rows to their mean.
"""

import numpy as np

from beam_ml.algorithms.shared.centre import squared_from
from beam_ml.algorithms.vocabulary.counts import accumulate, empty, law, merge, scale, weight
from beam_ml.algorithms.vocabulary.spec import Model, Partial, Spec, Vocabulary
from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm, ModelKind, Predictions
from beam_ml.core.batch import Batch
from beam_ml.core.mixing import mix64
from beam_ml.core.spelling import LONG, read
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = ["VOCABULARY", "Model", "Partial", "Spec", "Vocabulary"]

_MULTIPLIER = np.uint64(3)


def _derive(spec: Spec, model_spec: Vocabulary, state: Partial, sample: Batch | None = None) -> Model:
    if weight(state) <= 0.0:
        message = "vocabulary.Vocabulary needs rows of positive weight; got none yet."
        raise DeriveRefused(message)
    chosen = []
    for j in range(spec.columns):
        frequent = (state.column == j) & (state.count >= model_spec.min_count)
        if spec.text_bytes is not None:
            frequent &= ~(state.term == LONG).all(axis=1)
        mine = np.flatnonzero(frequent)
        term = state.term[mine]
        names = np.array(read(term), dtype=object) if spec.text_bytes is not None else term[:, 0]
        by_name = np.argsort(names, kind="stable")
        chosen.append(mine[by_name[np.argsort(-state.count[mine][by_name], kind="stable")]][: model_spec.size])
    at = np.concatenate(chosen)
    return Model(
        column=state.column[at],
        term=state.term[at],
        count=state.count[at],
        error=state.shrunk,
        spelled=np.asarray(int(spec.text_bytes is not None)),
        mean=state.origin + state.mean,
    )


def _codes(term: np.ndarray) -> np.ndarray:
    """Return 64 bits that stand for each term (n, s), (n,) uint64; of single numbers they are a bijection."""
    bits = np.ascontiguousarray(term + 0.0).view(np.uint64)
    codes = np.zeros(len(bits), np.uint64)
    for k in range(bits.shape[1]):
        codes = mix64(codes * _MULTIPLIER + bits[:, k])
    return codes


def _rows(model: Model, batch: Batch) -> np.ndarray:
    if batch.n_features != model.mean.size:
        message = f"A vocabulary model takes {model.mean.size} features; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    return batch.dense_x


def _predict(model: Model, batch: Batch) -> Predictions:
    """Return ``term`` (n, g) int64: the place of each row's term in the vocabulary of its column; −1: it is not listed."""
    x, s = _rows(model, batch), model.term.shape[1]
    found = np.full((len(x), model.error.size), -1, np.int64)
    for j in range(model.error.size):
        known = model.term[model.column == j]
        if not known.size:
            continue
        asked = x[:, j * s : (j + 1) * s].astype(np.float64)
        codes = _codes(known)
        order = np.argsort(codes, kind="stable")
        at = order[np.minimum(np.searchsorted(codes[order], _codes(asked)), order.size - 1)]
        found[:, j] = np.where((known[at] == asked).all(axis=1), at, -1)
    return {"term": found}


def _measure(model: Model, batch: Batch) -> metrics.Distortion:
    """Measure the squared distance between each row and the mean."""
    return metrics.distortion(squared_from(_rows(model, batch), model.mean), batch.weights)


VOCABULARY = Algorithm(
    name="vocabulary",
    version=1,
    spec=Spec,
    partial=Partial,
    law=law,
    empty=empty,
    accumulate=accumulate,
    merge=merge,
    scale=scale,
    weight=weight,
    models={"vocabulary": ModelKind(Vocabulary, Model, _derive, _predict, _measure)},
)
"""Vocabularies by Misra and Gries: law SKETCH, State is Partial.

>>> import pyarrow as pa
>>> from beam_ml import derive, fit
>>> from beam_ml.features import Features
>>> from beam_ml.formats.block import Block
>>> features = Features(numeric=[{"column": "shop", "transform": "spell", "bytes": 12}])
>>> rows, _ = features.to_batch(Block(pa.record_batch({"shop": ["baker", "mill", "baker", None]})))
>>> learner = fit(Spec(n_features=2, text_bytes=12), [rows])
>>> derive(learner, Vocabulary(size=2)).arrays.one_hot("shop")
{'column': 'shop', 'vocabulary': ['baker', '']}
"""
