"""How often each word comes, from counts: law EXACT, measured by perplexity."""

from typing import Literal

import numpy as np
from jaxtyping import Float64

from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind, check_batch
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import DeriveRefused


class UnigramSpec(Spec):
    algorithm: Literal["toy_unigram:TOY_UNIGRAM"] = "toy_unigram:TOY_UNIGRAM"
    feature_rule = "count"


class Shares(ModelSpec):
    kind: Literal["shares"] = "shares"


@array_dataclass
class Counts:
    weight: Float64[np.ndarray, ""]  # Σ weight
    counts: Float64[np.ndarray, "d"]  # Σ weight · count


@array_dataclass
class SharesModel:
    share: Float64[np.ndarray, "d"]  # of all counts


def law(spec):
    return Law(LawKind.EXACT, rtol=1e-12)


def empty(spec):
    return Counts(weight=np.zeros(()), counts=np.zeros(spec.n_features))


def accumulate(spec, partial, batch, anchor):
    check_batch(spec, batch)
    rows = batch.dense_x.astype(np.float64)
    assert (rows >= 0).all()
    weight = batch.weights
    return merge(spec, partial, Counts(weight=np.asarray(weight.sum()), counts=weight @ rows))


def merge(spec, a, b):
    return Counts(weight=np.asarray(a.weight + b.weight), counts=a.counts + b.counts)


def scale(spec, summary, factor):
    return Counts(weight=np.asarray(summary.weight * factor), counts=summary.counts * factor)


def weight(summary):
    return float(summary.weight)


def derive(spec, model_spec, state, sample):
    if float(state.weight) == 0.0:
        message = "Shares need rows; got none yet."
        raise DeriveRefused(message)
    counts = state.counts + 1e-12 * max(float(state.counts.max()), 1.0)
    return SharesModel(share=counts / counts.sum())


def predict(model, batch):
    rows = batch.dense_x.astype(np.float64)
    return {"nll": -(rows * np.log(model.share)).sum(axis=1), "tokens": rows.sum(axis=1)}


def measure(model, batch):
    found = predict(model, batch)
    return metrics.likelihood(found["nll"], found["tokens"], batch.weights)


TOY_UNIGRAM = Algorithm(
    name="toy_unigram:TOY_UNIGRAM",
    version=1,
    spec=UnigramSpec,
    partial=Counts,
    law=law,
    empty=empty,
    accumulate=accumulate,
    merge=merge,
    scale=scale,
    weight=weight,
    models={"shares": ModelKind(Shares, SharesModel, derive, predict, measure)},
)
