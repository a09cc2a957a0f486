"""A running mean, defined outside the package: law EXACT. The smallest whole algorithm."""

from typing import Literal

import numpy as np
from jaxtyping import Float64

from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind, check_batch
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import DeriveRefused, RemoveRefused


class MeanSpec(Spec):
    algorithm: Literal["toy_mean:TOY_MEAN"] = "toy_mean:TOY_MEAN"


class Centre(ModelSpec):
    kind: Literal["centre"] = "centre"


@array_dataclass
class MeanState:
    weight: Float64[np.ndarray, ""]  # Σ weight
    mean: Float64[np.ndarray, "d"]  # feature units


@array_dataclass
class MeanModel:
    mean: Float64[np.ndarray, "d"]  # feature units


def law(spec):
    return Law(LawKind.EXACT, rtol=1e-12)


def empty(spec):
    return MeanState(weight=np.zeros(()), mean=np.zeros(spec.n_features))


def accumulate(spec, partial, batch, anchor):
    check_batch(spec, batch)
    weight = batch.weights
    total = float(weight.sum())
    if total == 0.0:
        return partial
    rows = batch.dense_x.astype(np.float64)
    return merge(spec, partial, MeanState(weight=np.asarray(total), mean=(weight / total) @ rows))


def merge(spec, a, b):
    total = float(a.weight + b.weight)
    if float(a.weight) == 0.0 or float(b.weight) == 0.0:
        return b if float(a.weight) == 0.0 else a
    return MeanState(weight=np.asarray(total), mean=float(a.weight) / total * a.mean + float(b.weight) / total * b.mean)


def remove(spec, summary, part):
    if float(part.weight) == 0.0:
        return summary
    rest = float(summary.weight - part.weight)
    if rest < -1e-9 * float(summary.weight):
        message = "More rows are removed than there are."
        raise RemoveRefused(message)
    if rest <= 1e-12 * float(summary.weight):
        return empty(spec)
    mean = (float(summary.weight) * summary.mean - float(part.weight) * part.mean) / rest
    return MeanState(weight=np.asarray(rest), mean=mean)


def scale(spec, summary, factor):
    return MeanState(weight=np.asarray(summary.weight * factor), mean=summary.mean)


def weight(summary):
    return float(summary.weight)


def derive(spec, model_spec, state, sample):
    if float(state.weight) <= 0.0:
        message = "A mean needs rows; got none yet."
        raise DeriveRefused(message)
    return MeanModel(mean=state.mean)


def predict(model, batch):
    gap = batch.dense_x - model.mean
    return {"distance": np.sqrt(np.einsum("ij,ij->i", gap, gap))}


def measure(model, batch):
    return metrics.distortion(predict(model, batch)["distance"] ** 2, batch.weights)


TOY_MEAN = Algorithm(
    name="toy_mean:TOY_MEAN",
    version=1,
    spec=MeanSpec,
    partial=MeanState,
    law=law,
    empty=empty,
    accumulate=accumulate,
    merge=merge,
    scale=scale,
    weight=weight,
    models={"centre": ModelKind(Centre, MeanModel, derive, predict, measure)},
    remove=remove,
)
