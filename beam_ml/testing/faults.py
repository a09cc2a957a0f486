"""Faults: each takes an algorithm and returns a broken function, class or record in its place.

They work on any algorithm; `beam_ml.testing.mutations` says which law must notice which.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float64

from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import array_dataclass, array_fields, from_arrays, to_arrays
from beam_ml.core.batch import Batch

__all__ = [
    "Mutate",
    "batch_centred",
    "batch_relative",
    "claims_to_add",
    "compiles_per_length",
    "derive_writes",
    "different_each_time",
    "each_merge_forgets",
    "empties_halve",
    "endless_anchor",
    "fold_forgets",
    "folds_by",
    "foreign_classes",
    "forgets_too_little",
    "gives_another_class",
    "heavier_wins",
    "keeps_batch_memory",
    "lighter_forgotten",
    "measure_ignores_weight",
    "models_mapped",
    "never_forgets",
    "not_importable",
    "one_fingerprint",
    "order_shows",
    "remembers_elsewhere",
    "replaced",
    "right_counts_half",
    "weights_mapped",
    "widens",
    "write",
    "writes_into_batch",
    "writes_into_partial",
]

Mutate = Callable[[Algorithm], Algorithm]


@array_dataclass
class _Foreign:
    """A record that no algorithm keeps."""

    other: Float64[np.ndarray, "q"]  # nothing


def replaced(**functions: Callable[[Algorithm], Any]) -> Mutate:
    """Put a fault in the place of each named function or class."""

    def mutate(algorithm: Algorithm) -> Algorithm:
        return dataclasses.replace(algorithm, **{name: make(algorithm) for name, make in functions.items()})

    return mutate


def empties_halve(algorithm: Algorithm) -> Any:
    """Merging with an empty partial halves the other."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        merged = algorithm.merge(spec, a, b)
        alone = algorithm.weight(a) == 0.0 or algorithm.weight(b) == 0.0
        return algorithm.scale(spec, merged, 0.5) if alone else merged

    return merge


def right_counts_half(algorithm: Algorithm) -> Any:
    """The right side of a merge counts half."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        return algorithm.merge(spec, a, algorithm.scale(spec, b, 0.5))

    return merge


def each_merge_forgets(algorithm: Algorithm) -> Any:
    """Commutative, but the rows merged first are forgotten most."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        return algorithm.scale(spec, algorithm.merge(spec, a, b), 0.5)

    return merge


def heavier_wins(algorithm: Algorithm) -> Any:
    """A commutative, associative merge with an identity, that yet throws rows away."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        return a if algorithm.weight(a) >= algorithm.weight(b) else b

    return merge


def fold_forgets(algorithm: Algorithm) -> Any:
    """Each fold forgets a little, whatever the time."""

    def fold(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
        return algorithm.fold(spec, algorithm.scale(spec, state, 0.99), partial, sample)

    return fold


def folds_by(rule: str) -> Callable[[Algorithm], Any]:
    """Runs are merged by another rule of `beam_ml.algorithms.shared.moves`."""

    def make(algorithm: Algorithm) -> Any:
        own: Any = algorithm.fold

        def fold(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
            return own(spec, state, partial, sample, rule)

        return fold

    return make


def batch_centred(algorithm: Algorithm) -> Any:
    """Rows are centred by their own batch, so that cuts matter."""

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        if len(batch) and batch.X is not None:
            batch = batch.replace(X=np.ascontiguousarray(batch.X - batch.X.mean(axis=0, dtype=batch.X.dtype)))
        return algorithm.accumulate(spec, partial, batch, anchor)

    return accumulate


def lighter_forgotten(algorithm: Algorithm) -> Any:
    """Weight is conserved, but the lighter shard's rows are counted as the heavier's."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        w_a, w_b = algorithm.weight(a), algorithm.weight(b)
        if w_a == 0.0 or w_b == 0.0:
            return algorithm.merge(spec, a, b)
        return algorithm.scale(spec, a if w_a >= w_b else b, (w_a + w_b) / max(w_a, w_b))

    return merge


def order_shows(algorithm: Algorithm) -> Any:
    """The last bits of a merge depend on which side came first."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        ahead = algorithm.weight(a) > algorithm.weight(b) > 0.0
        return algorithm.scale(spec, algorithm.merge(spec, a, b), 1.0 + 2.0**-40 if ahead else 1.0)

    return merge


def forgets_too_little(algorithm: Algorithm) -> Any:
    """Scaling by f scales by √f."""

    def scale(spec: Any, summary: Any, factor: float) -> Any:
        return algorithm.scale(spec, summary, float(np.sqrt(factor)))

    return scale


def never_forgets(algorithm: Algorithm) -> Any:
    """Scaling changes nothing."""
    del algorithm

    def scale(spec: Any, summary: Any, factor: float) -> Any:
        del spec, factor
        return summary

    return scale


def weights_mapped(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Algorithm], Any]:
    """Row weights are changed before they are accumulated."""

    def make(algorithm: Algorithm) -> Any:
        def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
            return algorithm.accumulate(spec, partial, batch.replace(weight=change(batch.weights)), anchor)

        return accumulate

    return make


def writes_into_batch(algorithm: Algorithm) -> Any:
    """Accumulate works in place on the batch."""

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        result = algorithm.accumulate(spec, partial, batch, anchor)
        features = batch.X if batch.X is not None else batch.values
        if features is not None:
            features *= 2
        return result

    return accumulate


def writes_into_partial(algorithm: Algorithm) -> Any:
    """Merge adds into its first argument, as an in-place sum would."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        result = algorithm.merge(spec, a, b)
        for array in to_arrays(a).values():
            if array.dtype.kind == "f" and array.size:
                write(array, array + 1)
        return result

    return merge


def write(array: np.ndarray, values: np.ndarray) -> None:
    """Write through a read-only view, as compiled code does that ignores the flag."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    owner.flags.writeable = True
    array.flags.writeable = True
    array[...] = values
    array.flags.writeable = False


def keeps_batch_memory(algorithm: Algorithm) -> Any:
    """The first array of the partial becomes a view of the batch's features."""

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        result = algorithm.accumulate(spec, partial, batch, anchor)
        features = batch.X if batch.X is not None else batch.values
        if features is None:
            return result
        arrays = to_arrays(result)
        for name, array in arrays.items():
            if array.dtype == features.dtype and 0 < array.size <= features.size:
                shared = features.reshape(-1)[: array.size].reshape(array.shape)
                return from_arrays(type(result), {**arrays, name: shared})
        return result

    return accumulate


def different_each_time(algorithm: Algorithm) -> Any:
    """Each call's result differs in its last digits, as with an unseeded generator."""
    calls = itertools.count(1)

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        result = algorithm.accumulate(spec, partial, batch, anchor)
        return algorithm.scale(spec, result, 1.0 + 2.0**-30 * next(calls))

    return accumulate


def widens(algorithm: Algorithm) -> Any:
    """Every merge doubles each axis."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        merged = algorithm.merge(spec, a, b)
        arrays = to_arrays(merged)
        for field in array_fields(merged):
            arrays[field.name] = np.tile(arrays[field.name], [2] * len(field.axes))
        return from_arrays(type(merged), arrays)

    return merge


def gives_another_class(algorithm: Algorithm) -> Any:
    """Fold returns a record of a foreign class."""

    def fold(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
        return _Foreign(other=np.zeros(len(to_arrays(algorithm.fold(spec, state, partial, sample)))))

    return fold


def remembers_elsewhere(algorithm: Algorithm) -> Any:
    """Part of the state lives beside its arrays and is lost when stored."""

    def fold(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
        if algorithm.weight(state) > 0.0 and not hasattr(state, "_memory"):
            return state
        folded = algorithm.fold(spec, state, partial, sample)
        object.__setattr__(folded, "_memory", True)
        return folded

    return fold


def one_fingerprint(algorithm: Algorithm) -> Any:
    """Every spec has the same fingerprint."""
    return type("Loose", (algorithm.spec,), {"fingerprint": property(lambda self: "0" * 64)})


def not_importable(algorithm: Algorithm) -> Any:
    """The function is a lambda."""
    return lambda spec, a, b: algorithm.merge(spec, a, b)


class _Kernel:
    """A compiled function that specialises on the number of rows, as a careless kernel does."""

    def __init__(self) -> None:
        self.signatures: list[int] = []

    def py_func(self, n: int) -> int:
        return n

    def __call__(self, n: int) -> int:
        if n not in self.signatures:
            self.signatures.append(n)
        return self.py_func(n)


def compiles_per_length(algorithm: Algorithm) -> Any:
    """Every batch length compiles again."""
    kernel = _Kernel()

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        kernel(len(batch))
        return algorithm.accumulate(spec, partial, batch, anchor)

    return accumulate


def models_mapped(change: Callable[[Any], Any]) -> Mutate:
    """Put a faulty kind of model in the place of each."""

    def mutate(algorithm: Algorithm) -> Algorithm:
        return dataclasses.replace(algorithm, models={name: change(kind) for name, kind in algorithm.models.items()})

    return mutate


def derive_writes(kind: Any) -> Any:
    """Derive works in place on the state's arrays."""

    def derive(spec: Any, model_spec: Any, state: Any, sample: Any) -> Any:
        model = kind.derive(spec, model_spec, state, sample)
        for array in to_arrays(state).values():
            if array.dtype.kind == "f" and array.size:
                write(array, array * 2 + 1)
        return model

    return dataclasses.replace(kind, derive=derive)


def batch_relative(kind: Any) -> Any:
    """Predictions are relative to the first row of the batch."""

    def predict(model: Any, batch: Batch) -> Any:
        return {
            name: values - values[:1] if values.dtype.kind == "f" else np.arange(len(values), dtype=values.dtype)
            for name, values in kind.predict(model, batch).items()
        }

    return dataclasses.replace(kind, predict=predict)


def measure_ignores_weight(kind: Any) -> Any:
    """A measure weighs the rows of a batch relative to each other."""

    def measure(model: Any, batch: Batch) -> Any:
        total = float(batch.weights.sum())
        return kind.measure(model, batch.replace(weight=batch.weights / total if total > 0 else batch.weights))

    return dataclasses.replace(kind, measure=measure)


def foreign_classes(algorithm: Algorithm) -> Algorithm:
    """The record names other classes than its functions return."""
    return dataclasses.replace(algorithm, state=_Foreign, partial=_Foreign)


def endless_anchor(algorithm: Algorithm) -> Algorithm:
    """Parts of any anchor are accepted, although they do not add."""
    spec = type("Endless", (algorithm.spec,), {"anchor_staleness": property(lambda self: None)})
    return dataclasses.replace(algorithm, spec=spec)


def claims_to_add(algorithm: Algorithm) -> Algorithm:
    """The law claims that partials of different anchors add."""
    return dataclasses.replace(
        algorithm, law=lambda spec: dataclasses.replace(algorithm.law(spec), across_anchors=True)
    )
