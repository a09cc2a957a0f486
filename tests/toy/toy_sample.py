"""The nearest of a bounded sample of rows: law GATHERED. The state is a sample of all rows, those that come first by their clocks."""

from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from beam_ml.core import gathered, metrics
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.gathered import Gathered, GatheredSpec
from beam_ml.core.spec import ModelSpec
from beam_ml.errors import DeriveRefused


class SampleSpec(GatheredSpec):
    algorithm: Literal["toy_sample:TOY_SAMPLE"] = "toy_sample:TOY_SAMPLE"
    gather_bytes: Annotated[int, Field(ge=1024)] = 8192
    capacity: Annotated[int, Field(ge=1)] = 100


class Nearest(ModelSpec):
    kind: Literal["nearest"] = "nearest"


@array_dataclass
class SampleState:
    order: Float64[np.ndarray, "m"]  # log of the row's clock, rising
    centres: Float64[np.ndarray, "m d"]  # a sample of all rows folded, feature units
    weight: Float64[np.ndarray, ""]  # Σ weight of all folded rows


@array_dataclass
class SampleModel:
    centres: Float64[np.ndarray, "m d"]  # feature units


def law(spec):
    return Law(LawKind.GATHERED, rtol=1e-6)


def init(spec):
    return SampleState(order=np.zeros(0), centres=np.zeros((0, spec.n_features)), weight=np.zeros(()))


def fold(spec, state, partial, sample):
    if partial.mass.size == 0:
        return state
    kept, fresh = gathered.rows(spec, partial), np.zeros((len(partial.order), spec.n_features))
    if kept is not None:
        fresh[np.repeat(np.arange(len(kept)), np.diff(kept.indptr)), kept.indices] = kept.values
    order = np.concatenate([state.order, partial.order])
    place = np.argsort(order, kind="stable")[: spec.capacity]
    return SampleState(
        order=order[place],
        centres=np.concatenate([state.centres, fresh])[place],
        weight=np.asarray(state.weight + gathered.weight(partial)),
    )


def scale(spec, summary, factor):
    if isinstance(summary, Gathered):
        return gathered.scale(spec, summary, factor)
    return SampleState(order=summary.order, centres=summary.centres, weight=np.asarray(summary.weight * factor))


def weight(summary):
    return gathered.weight(summary) if isinstance(summary, Gathered) else float(summary.weight)


def derive(spec, model_spec, state, sample):
    if len(state.centres) == 0:
        message = "A nearest row needs rows; got none yet."
        raise DeriveRefused(message)
    return SampleModel(centres=state.centres)


def predict(model, batch):
    gaps = batch.dense_x[:, None, :].astype(np.float64) - model.centres[None, :, :]
    return {"distance": np.sqrt(np.einsum("nmd,nmd->nm", gaps, gaps).min(axis=1, initial=np.inf))}


def measure(model, batch):
    return metrics.distortion(predict(model, batch)["distance"] ** 2, batch.weights)


TOY_SAMPLE = Algorithm(
    name="toy_sample:TOY_SAMPLE",
    version=1,
    spec=SampleSpec,
    state=SampleState,
    partial=Gathered,
    law=law,
    init=init,
    empty=gathered.empty,
    accumulate=gathered.accumulate,
    merge=gathered.merge,
    fold=fold,
    scale=scale,
    weight=weight,
    grow=gathered.grow,
    models={"nearest": ModelKind(Nearest, SampleModel, derive, predict, measure)},
)
