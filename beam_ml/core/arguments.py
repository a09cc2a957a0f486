"""What a notebook hands to `fit`, `derive` and `predict`: taken where it is unambiguous, else one sentence."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from beam_ml.core.algorithm import Algorithm, ModelKind
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import InvalidValue

__all__ = ["batches", "bounded", "learner", "model", "model_spec", "spec"]

_BATCHES, _MODEL_SPEC = "fit.batches", "derive.model_spec"


def _refuse(argument: str, rule: str, value: object) -> InvalidValue:
    if isinstance(value, type):
        found = f"the class {value.__name__}"
    elif isinstance(value, str | int | float | None):
        found = f"{value!r:.60}"
    else:
        shape = getattr(value, "shape", None)
        found = type(value).__name__ + (f" of shape {shape}" if isinstance(shape, tuple) else "")
    return InvalidValue(f"{argument} must be {rule}; got {found}.")


def spec(argument: str, value: object) -> Spec:
    """Return the spec; refuse anything else."""
    if not isinstance(value, Spec):
        raise _refuse(argument, "a spec, such as linear.Newton(n_features=3)", value)
    return value


def learner(argument: str, value: object) -> Learner:
    """Return the learner; refuse anything else."""
    if not isinstance(value, Learner):
        raise _refuse(argument, "a learner, as fit returns it", value)
    return value


def model(argument: str, value: object, kinds: Sequence[str] = ()) -> Model:
    """Return the model; refuse anything else. Of a learner, say how to derive one, if its kinds are given."""
    if isinstance(value, Learner):
        raise _refuse(argument, f"a model: derive(learner, {kinds[0]!r}) makes one" if kinds else "a model", value)
    if not isinstance(value, Model):
        raise _refuse(argument, "a model, as derive returns it", value)
    return value


def model_spec(algorithm: Algorithm, value: Any) -> ModelSpec:
    """Return a model spec: itself, or that of a kind or class with its defaults."""
    if isinstance(value, type) and issubclass(value, ModelSpec):
        return value.parse({})
    if isinstance(value, str):
        if value not in algorithm.models:
            raise _refuse(_MODEL_SPEC, f"one of {', '.join(map(repr, algorithm.models))} or a model spec", value)
        made: ModelSpec = algorithm.models[value].spec()
        return made
    if not isinstance(value, ModelSpec):
        names = ", ".join(sorted(kind.spec.__name__ for kind in algorithm.models.values()))
        raise _refuse(_MODEL_SPEC, f"a model spec ({names}) of {algorithm.name}", value)
    return value


def bounded(kind: ModelKind, argument: str, level: object) -> ModelKind:
    """Return the kind of a model, its predictions with bounds of the score at a level; None: as it is.

    Raises:
        InvalidValue: the level is not between 0 and 1, or the model's errors are not known.
    """
    if level is None:
        return kind
    bounds = kind.bounded
    if isinstance(level, bool) or not isinstance(level, float | int) or not 0.0 < level < 1.0:
        raise _refuse(argument, "between 0 and 1, such as 0.95", level)
    if bounds is None:
        message = (
            f"{argument} must be asked of a model whose errors are known, such as linear.ClassifierWithErrors or "
            f"linear.RegressorWithErrors; got {kind.spec.called or kind.spec.__name__}."
        )
        raise InvalidValue(message)
    return dataclasses.replace(kind, predict=lambda model, batch: bounds(model, batch, float(level)))


def batches(spec: Spec, value: Any) -> Iterable[Batch]:
    """Return batches: themselves, one alone, or rows of features where the spec asks for no label.

    Raises:
        InvalidValue: something else, at once or, in an iterator, when it is reached.
    """
    labelled = "" if spec.label_target == "none" else ", label=y"
    rule = f"batches, as Batch.dense(X{labelled}) makes them"
    if isinstance(value, Batch):
        return [value]
    if _are_rows(value):
        if spec.label_target != "none":
            raise _refuse(_BATCHES, rule, value)
        return [Batch.of(value)]
    if isinstance(value, str | bytes | dict | np.ndarray) or not isinstance(value, Iterable):
        raise _refuse(_BATCHES, rule, value)
    if isinstance(value, Sequence):
        return list(_each(spec, value, rule))
    return _each(spec, value, rule) if iter(value) is value else _Again(spec, value, rule)


class _Again:
    """Batches that can be gone through several times."""

    def __init__(self, spec: Spec, given: Iterable[Any], rule: str) -> None:
        self._spec, self._given, self._rule = spec, given, rule

    def __iter__(self) -> Iterator[Batch]:
        return _each(self._spec, self._given, self._rule)


def _each(spec: Spec, given: Iterable[Any], rule: str) -> Iterator[Batch]:
    for one in given:
        if isinstance(one, Batch):
            yield one
        elif _are_rows(one) and spec.label_target == "none":
            yield Batch.of(one)
        else:
            raise _refuse(_BATCHES, rule, one)


def _are_rows(value: object) -> bool:
    """Return whether a value is rows of features: an array of two axes, a frame or a sparse matrix."""
    if isinstance(value, np.ndarray):
        return value.ndim == 2
    return any(hasattr(value, name) for name in ("__arrow_c_stream__", "__arrow_c_array__", "tocsr"))
