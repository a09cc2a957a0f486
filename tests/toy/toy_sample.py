"""The nearest of a bounded sample of rows: law GATHERED. The partial is the rows themselves, the smallest hashes of them.

Weights are kept in units of 2⁻²⁰ rows, so that their sums are exact and merging is free of order to the last bit.
"""

import zlib
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64, UInt64
from pydantic import Field

from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind, check_batch
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import DeriveRefused

UNIT = 2.0**-20


class SampleSpec(Spec):
    algorithm: Literal["toy_sample:TOY_SAMPLE"] = "toy_sample:TOY_SAMPLE"
    capacity: Annotated[int, Field(ge=1)] = 100


class Nearest(ModelSpec):
    kind: Literal["nearest"] = "nearest"


@array_dataclass
class SamplePartial:
    key: UInt64[np.ndarray, "m"]  # hash of the row's position, rising
    rows: Float64[np.ndarray, "m d"]  # feature units
    weight: Float64[np.ndarray, ""]  # Σ weight of all rows, kept or thinned


@array_dataclass
class SampleState:
    key: UInt64[np.ndarray, "m"]  # hash of the row's position, rising
    centres: Float64[np.ndarray, "m d"]  # a sample of all rows folded, feature units
    weight: Float64[np.ndarray, ""]  # Σ weight of all folded rows


@array_dataclass
class SampleModel:
    centres: Float64[np.ndarray, "m d"]  # feature units


def law(spec):
    return Law(LawKind.GATHERED, rtol=1e-4)


def init(spec):
    return SampleState(key=np.zeros(0, np.uint64), centres=np.zeros((0, spec.n_features)), weight=np.zeros(()))


def empty(spec):
    return SamplePartial(key=np.zeros(0, np.uint64), rows=np.zeros((0, spec.n_features)), weight=np.zeros(()))


def hashed(seed, position):
    """The finaliser of splitmix64, a bijection: distinct positions have distinct keys."""
    z = position.astype(np.uint64) + np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def places(batch):
    """Where the rows came from; without a name they are told apart by what is in them."""
    if batch.position is not None:
        return batch.position
    return np.array([zlib.crc32(row.tobytes()) for row in batch.dense_x])


def accumulate(spec, partial, batch, anchor):
    check_batch(spec, batch)
    present = batch.weights > 0
    if not present.any():
        return partial
    key = hashed(spec.seed, places(batch)[present])
    order = np.argsort(key)[: spec.capacity]
    units = np.round(batch.weights / UNIT) * UNIT
    rows = batch.dense_x[present].astype(np.float64)
    added = SamplePartial(key=key[order], rows=rows[order], weight=np.asarray(units.sum()))
    return merge(spec, partial, added)


def merge(spec, a, b):
    key = np.concatenate([a.key, b.key])
    order = np.argsort(key, kind="stable")[: spec.capacity]
    return SamplePartial(
        key=key[order], rows=np.concatenate([a.rows, b.rows])[order], weight=np.asarray(a.weight + b.weight)
    )


def fold(spec, state, partial, sample):
    if float(partial.weight) == 0.0:
        return state
    held = SamplePartial(key=state.key, rows=state.centres, weight=state.weight)
    both = merge(spec, held, partial)
    return SampleState(key=both.key, centres=both.rows, weight=both.weight)


def scale(spec, summary, factor):
    weight = np.asarray(summary.weight * factor)
    if isinstance(summary, SampleState):
        return SampleState(key=summary.key, centres=summary.centres, weight=weight)
    return SamplePartial(key=summary.key, rows=summary.rows, weight=weight)


def weight(summary):
    return float(summary.weight)


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
    partial=SamplePartial,
    law=law,
    init=init,
    empty=empty,
    accumulate=accumulate,
    merge=merge,
    fold=fold,
    scale=scale,
    weight=weight,
    models={"nearest": ModelKind(Nearest, SampleModel, derive, predict, measure)},
)
