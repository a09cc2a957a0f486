"""Logistic regression that follows change: a posterior, and each window solved where its own solution is. Law ANCHORED.

The partial is the window's exact gradient at the anchor, a sum over rows. A fold minimises
½(b − m)ᵀH(b − m) + n·[L_S(b) + (g/n − ∇L_S(m))ᵀb], L_S the sample's mean loss, by Newton's method with backtracking, and
takes the curvature there (Jordan, Lee and Yang 2018). Parts of it are functions of their own, for faults to take their
place. Features must not lie too far from zero: nothing is centred.
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


class LogisticSpec(Spec):
    algorithm: Literal["toy_newton:TOY_NEWTON"] = "toy_newton:TOY_NEWTON"

    label_rule: ClassVar[Literal["none", "real", "class"]] = "class"
    max_staleness: ClassVar[int | None] = 1

    @property
    def n_label_classes(self):
        return 2


class Plane(ModelSpec):
    kind: Literal["plane"] = "plane"


@array_dataclass
class NewtonState:
    theta: Float64[np.ndarray, "p"]  # coefficients, then the intercept
    precision: Float64[np.ndarray, "p p"]  # of the posterior
    weight: Float64[np.ndarray, ""]  # Σ weight of the rows folded


@array_dataclass
class NewtonPartial:
    gradient: Float64[np.ndarray, "p"]  # Σ weight · (μ − y)·x at the anchor
    weight: Float64[np.ndarray, ""]  # Σ weight


@array_dataclass
class NewtonAnchor:
    theta: Float64[np.ndarray, "p"]  # where the gradient is taken


@array_dataclass
class NewtonModel:
    theta: Float64[np.ndarray, "p"]  # coefficients, then the intercept


def law(spec):
    return Law(LawKind.ANCHORED, rtol=1e-9, homomorphic=True, drift=1.08)


def init(spec):
    p = spec.n_features + 1
    return NewtonState(theta=np.zeros(p), precision=np.zeros((p, p)), weight=np.zeros(()))


def empty(spec):
    return NewtonPartial(gradient=np.zeros(spec.n_features + 1), weight=np.zeros(()))


def design(batch):
    return np.hstack([batch.dense_x.astype(np.float64), np.ones((len(batch), 1))])


def logistic(score):
    return 1.0 / (1.0 + np.exp(-np.clip(score, -700.0, 700.0)))


def gradient(theta, batch):
    x = design(batch)
    return (batch.weights * (logistic(x @ theta) - batch.label)) @ x


def curvature(theta, batch):
    x = design(batch)
    mean = logistic(x @ theta)
    return (x * (batch.weights * mean * (1.0 - mean))[:, None]).T @ x


def loss(theta, batch):
    score = design(batch) @ theta
    return float(batch.weights @ (np.logaddexp(0.0, score) - batch.label * score))


def accumulate(spec, partial, batch, anchor):
    check_batch(spec, batch)
    theta = np.zeros(spec.n_features + 1) if anchor is None else anchor.theta
    return NewtonPartial(
        gradient=partial.gradient + gradient(theta, batch),
        weight=np.asarray(partial.weight + batch.weights.sum()),
    )


def merge(spec, a, b):
    return NewtonPartial(gradient=a.gradient + b.gradient, weight=np.asarray(a.weight + b.weight))


def backtracked(theta, step, decrement, objective):
    length, before = 1.0, objective(theta)
    while length > 1e-8:
        moved = theta - length * step
        if objective(moved) <= before - 1e-4 * length * decrement:
            return moved
        length /= 2.0
    return theta


def solved(prior, precision, shift, sample, step_to=backtracked):
    """The minimum of the prior's quadratic + the sample's loss + shiftᵀb."""
    ridge = 1e-9 * float(sample.weights.sum()) * np.eye(len(prior))

    def objective(b):
        gap = b - prior
        return 0.5 * gap @ (precision + ridge) @ gap + loss(b, sample) + shift @ b

    b = prior
    for _ in range(60):
        down = (precision + ridge) @ (b - prior) + gradient(b, sample) + shift
        step = np.linalg.lstsq(precision + ridge + curvature(b, sample), down, rcond=None)[0]
        if not down @ step > 1e-10 * float(sample.weights.sum()):
            break
        b = step_to(b, step, float(down @ step), objective)
    return b


def fold(spec, state, partial, sample, solve=solved):
    if float(partial.weight) == 0.0 or sample is None:
        return state
    sample = sample.replace(weight=sample.weights * (float(partial.weight) / sample.weights.sum()))
    shift = partial.gradient - gradient(state.theta, sample)
    theta = solve(state.theta, state.precision, shift, sample)
    plain = solve(state.theta, state.precision, np.zeros_like(shift), sample)
    if not loss(theta, sample) <= 1.02 * loss(plain, sample):
        theta = plain  # a far row outside of the sample: its gradient is known, its curvature is not
    return NewtonState(
        theta=theta,
        precision=state.precision + curvature(theta, sample),
        weight=np.asarray(state.weight + partial.weight),
    )


def anchor(spec, state):
    return None if float(state.weight) == 0.0 else NewtonAnchor(theta=state.theta)


def scale(spec, summary, factor):
    weight = np.asarray(summary.weight * factor)
    if isinstance(summary, NewtonState):
        return NewtonState(theta=summary.theta, precision=summary.precision * factor, weight=weight)
    return NewtonPartial(gradient=summary.gradient * factor, weight=weight)


def weight(summary):
    return float(summary.weight)


def merge_states(spec, a, b, sample_a=None, sample_b=None):
    total = np.asarray(a.weight + b.weight)
    samples = [one for one in (sample_a, sample_b) if one is not None]
    if len(samples) < 2:
        heavier = a if a.weight >= b.weight else b
        return NewtonState(theta=heavier.theta, precision=a.precision + b.precision, weight=total)
    joint = Batch.concat(samples)
    theta = solved(np.zeros(spec.n_features + 1), np.zeros_like(a.precision), np.zeros(spec.n_features + 1), joint)
    return NewtonState(theta=theta, precision=curvature(theta, joint), weight=total)


def derive(spec, model_spec, state, sample):
    if float(state.weight) <= 0.0:
        message = "A plane needs rows; got none yet."
        raise DeriveRefused(message)
    return NewtonModel(theta=state.theta)


def predict(model, batch):
    return {"score": logistic(design(batch) @ model.theta)}


def measure(model, batch):
    return metrics.binary(predict(model, batch)["score"], batch.label, batch.weights)


TOY_NEWTON = Algorithm(
    name="toy_newton:TOY_NEWTON",
    version=1,
    spec=LogisticSpec,
    state=NewtonState,
    partial=NewtonPartial,
    law=law,
    init=init,
    empty=empty,
    accumulate=accumulate,
    merge=merge,
    fold=fold,
    scale=scale,
    weight=weight,
    models={"plane": ModelKind(Plane, NewtonModel, derive, predict, measure)},
    anchor_type=NewtonAnchor,
    anchor=anchor,
    merge_states=merge_states,
)
