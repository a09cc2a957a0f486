"""Local descent from an anchor: law ANCHORED, an anchor may lie one refresh behind.

Every batch moves a shard's own run by one damped least-squares step, of one row: the normalised least-mean-squares step;
fold adds the weighted mean of the runs. Merging closes the runs: their sum stays, and rows accumulated afterwards start
again from the anchor. States that merge take whichever of some parameters does best on both samples.
"""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float64

from beam_ml.core import metrics
from beam_ml.core.algorithm import Algorithm, Law, LawKind, ModelKind, check_batch
from beam_ml.core.arrays import array_dataclass
from beam_ml.core.batch import Batch
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import DeriveRefused


class SgdSpec(Spec):
    algorithm: Literal["toy_sgd:TOY_SGD"] = "toy_sgd:TOY_SGD"
    rate: float = 0.9

    label_rule: ClassVar[Literal["none", "real", "class"]] = "real"
    max_staleness: ClassVar[int | None] = 1


class Line(ModelSpec):
    kind: Literal["line"] = "line"


@array_dataclass
class SgdState:
    theta: Float64[np.ndarray, "p"]  # coefficients, then the bias
    weight: Float64[np.ndarray, ""]  # Σ weight of the rows folded


@array_dataclass
class SgdPartial:
    moved: Float64[np.ndarray, "p"]  # Σ over closed runs of weight · (θ − anchor)
    weight: Float64[np.ndarray, ""]  # Σ weight, all runs
    run: Float64[np.ndarray, "p"]  # θ − anchor of the open run
    run_weight: Float64[np.ndarray, ""]  # Σ weight of the open run


@array_dataclass
class SgdAnchor:
    theta: Float64[np.ndarray, "p"]  # where every run starts


@array_dataclass
class SgdModel:
    theta: Float64[np.ndarray, "p"]  # coefficients, then the bias


def law(spec):
    return Law(LawKind.ANCHORED, rtol=1e-9)


def init(spec):
    return SgdState(theta=np.zeros(spec.n_features + 1), weight=np.zeros(()))


def empty(spec):
    p = spec.n_features + 1
    return SgdPartial(moved=np.zeros(p), weight=np.zeros(()), run=np.zeros(p), run_weight=np.zeros(()))


def with_bias(x):
    return np.hstack([x.astype(np.float64), np.ones((len(x), 1))])


def accumulate(spec, partial, batch, anchor):
    check_batch(spec, batch)
    weight = batch.weights
    total = float(weight.sum())
    if total == 0.0:
        return partial
    theta = partial.run if anchor is None else anchor.theta + partial.run
    step = spec.rate * least_squares(batch.take(weight > 0), theta)
    return SgdPartial(
        moved=partial.moved,
        weight=np.asarray(partial.weight + total),
        run=partial.run + step,
        run_weight=np.asarray(partial.run_weight + total),
    )


def least_squares(rows, theta):
    """The step to the rows' least squares, damped as by one row of length 1 in each direction."""
    x, root = with_bias(rows.dense_x), np.sqrt(rows.weights)
    p = theta.size
    design = np.vstack([x * root[:, None], np.eye(p)])
    return np.linalg.lstsq(design, np.append((rows.label - x @ theta) * root, np.zeros(p)), rcond=None)[0]


def closed(partial):
    return partial.moved + partial.run_weight * partial.run


def merge(spec, a, b):
    if float(a.weight) == 0.0 or float(b.weight) == 0.0:
        return b if float(a.weight) == 0.0 else a
    return SgdPartial(
        moved=closed(a) + closed(b),
        weight=np.asarray(a.weight + b.weight),
        run=np.zeros_like(a.run),
        run_weight=np.zeros(()),
    )


def fold(spec, state, partial, sample):
    total = float(partial.weight)
    if total == 0.0:
        return state
    return SgdState(theta=state.theta + closed(partial) / total, weight=np.asarray(state.weight + total))


def anchor(spec, state):
    return None if float(state.weight) == 0.0 else SgdAnchor(theta=state.theta)


def scale(spec, summary, factor):
    if isinstance(summary, SgdState):
        return SgdState(theta=summary.theta, weight=np.asarray(summary.weight * factor))
    return SgdPartial(
        moved=summary.moved * factor,
        weight=np.asarray(summary.weight * factor),
        run=summary.run,
        run_weight=np.asarray(summary.run_weight * factor),
    )


def weight(summary):
    return float(summary.weight)


def merge_states(spec, a, b, sample_a=None, sample_b=None):
    total = float(a.weight + b.weight)
    if total == 0.0:
        return a
    theta = (float(a.weight) * a.theta + float(b.weight) * b.theta) / total
    samples = [one for one in (sample_a, sample_b) if one is not None]
    if samples:
        joint = Batch.concat(samples)
        choices = [theta, a.theta, b.theta, theta + least_squares(joint, theta)]
        theta = min(choices, key=lambda one: float(joint.weights @ (with_bias(joint.dense_x) @ one - joint.label) ** 2))
    return SgdState(theta=theta, weight=np.asarray(total))


def derive(spec, model_spec, state, sample):
    if float(state.weight) <= 0.0:
        message = "A line needs rows; got none yet."
        raise DeriveRefused(message)
    return SgdModel(theta=state.theta)


def predict(model, batch):
    return {"score": with_bias(batch.dense_x) @ model.theta}


def measure(model, batch):
    return metrics.regression(predict(model, batch)["score"], batch.label, batch.weights)


TOY_SGD = Algorithm(
    name="toy_sgd:TOY_SGD",
    version=1,
    spec=SgdSpec,
    state=SgdState,
    partial=SgdPartial,
    law=law,
    init=init,
    empty=empty,
    accumulate=accumulate,
    merge=merge,
    fold=fold,
    scale=scale,
    weight=weight,
    models={"line": ModelKind(Line, SgdModel, derive, predict, measure)},
    anchor_type=SgdAnchor,
    anchor=anchor,
    merge_states=merge_states,
)
