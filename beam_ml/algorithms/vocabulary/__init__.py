"""Vocabularies: the most frequent terms of columns, numbers or texts, with their counts; how many is chosen after training.

The state counts a bounded number of terms per column, each within a stated bound whatever the order of rows and parts
(module `counts`); with a half-life, counts are of recent rows. A batch holds numbers alone: texts come as the numbers that
spell them, by `{ column = "shop", transform = "spell" }` of the features, and a vocabulary of them goes back into features
as `one_hot`. Of texts, `Features.words` spells all the words, and their vocabulary goes back as `text`. Test-then-train
measures the distance of rows to their mean.
"""

import numpy as np

from beam_ml.algorithms.shared.centre import squared_from
from beam_ml.algorithms.shared.sparse import canonical
from beam_ml.algorithms.vocabulary.counts import accumulate, codes_of, empty, law, merge, scale, weight
from beam_ml.algorithms.vocabulary.spans import spans_of
from beam_ml.algorithms.vocabulary.spec import Model, Partial, Spec, Vocabulary
from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm, ModelKind, Predictions
from beam_ml.core.batch import Batch
from beam_ml.core.spelling import LONG, read
from beam_ml.errors import DeriveRefused, InvalidBatch

__all__ = ["VOCABULARY", "Model", "Partial", "Spec", "Vocabulary"]


def _derive(spec: Spec, model_spec: Vocabulary, state: Partial, sample: Batch | None = None) -> Model:
    if weight(state) <= 0.0:
        message = "vocabulary.Vocabulary needs rows of positive weight; got none yet."
        raise DeriveRefused(message)
    chosen = []
    for j in range(spec.columns):
        frequent = (state.column == j) & (state.count >= model_spec.min_count)
        if model_spec.max_share is not None:
            frequent &= state.count <= model_spec.max_share * weight(state)
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


def _checked(model: Model, batch: Batch) -> Batch:
    if batch.n_features != model.mean.size:
        message = f"A vocabulary model takes {model.mean.size} features; got a batch of {batch.n_features}."
        raise InvalidBatch(message)
    return batch


def _places(known: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return where among the known terms (v, s) each asked one (n, s) is, (n,) int64; −1: it is not."""
    if not known.size:
        return np.full(len(asked), -1, np.int64)
    codes = codes_of(known)
    order = np.argsort(codes, kind="stable")
    at = order[np.minimum(np.searchsorted(codes[order], codes_of(asked)), order.size - 1)]
    return np.where((known[at] == asked).all(axis=1), at, -1)


def _predict(model: Model, batch: Batch) -> Predictions:
    """Return ``term`` (n, g) int64: the place of each row's term in the vocabulary of its column; −1: it is not listed.

    Of words, return ``listed`` (n, g): which share of the row's words is listed, each as often as it comes; 1 without any.
    """
    rows, s, g = _checked(model, batch), model.term.shape[1], model.error.size
    if model.words:
        found = spans_of(rows, s)
        column, total = found.span // model.words, np.zeros((2, len(rows), g))
        for j in range(g):
            mine = column == j
            listed = _places(model.term[model.column == j], found.term[mine]) >= 0
            for k, count in enumerate((found.times[mine] * listed, found.times[mine])):
                total[k, :, j] = np.bincount(found.row[mine], weights=count, minlength=len(rows))
        return {"listed": np.divide(total[0], total[1], out=np.ones((len(rows), g)), where=total[1] > 0.0)}
    x = rows.dense_x
    asked = [x[:, j * s : (j + 1) * s].astype(np.float64) for j in range(g)]
    return {"term": np.stack([_places(model.term[model.column == j], asked[j]) for j in range(g)], axis=1)}


def _measure(model: Model, batch: Batch) -> metrics.Distortion:
    """Measure the squared distance between each row and the mean."""
    rows = _checked(model, batch)
    if not model.words:
        return metrics.distortion(squared_from(rows.dense_x, model.mean), rows.weights)
    indptr, indices, values = canonical(rows)
    row = np.repeat(np.arange(len(rows)), np.diff(indptr))
    # Of a feature that is not stored, the distance is the mean's: (x − m)² − m² is what a stored one adds to Σ m².
    more = values * (values - 2.0 * model.mean[indices])
    squared = np.bincount(row, weights=more, minlength=len(rows)) + float(model.mean @ model.mean)
    return metrics.distortion(np.maximum(squared, 0.0), rows.weights)


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
