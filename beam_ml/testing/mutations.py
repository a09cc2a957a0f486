"""Deliberately broken algorithms, each of which must fail its law: proof that the laws can fail.

Every mutation works on any algorithm, by `dataclasses.replace` of one of its functions or classes.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float64

from beam_ml.core.algorithm import Algorithm, Law
from beam_ml.core.arrays import array_dataclass, array_fields, from_arrays, to_arrays
from beam_ml.core.batch import Batch
from beam_ml.testing.laws import applies

__all__ = ["MUTATIONS", "Mutation", "mutations_for"]

Mutate = Callable[[Algorithm], Algorithm]


@array_dataclass
class _Foreign:
    """A record that no algorithm keeps."""

    other: Float64[np.ndarray, "q"]  # nothing


def _replaced(**functions: Callable[[Algorithm], Any]) -> Mutate:
    def mutate(algorithm: Algorithm) -> Algorithm:
        return dataclasses.replace(algorithm, **{name: make(algorithm) for name, make in functions.items()})

    return mutate


def _empties_halve(algorithm: Algorithm) -> Any:
    """Merging with an empty partial halves the other."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        merged = algorithm.merge(spec, a, b)
        alone = algorithm.weight(a) == 0.0 or algorithm.weight(b) == 0.0
        return algorithm.scale(spec, merged, 0.5) if alone else merged

    return merge


def _right_counts_half(algorithm: Algorithm) -> Any:
    def merge(spec: Any, a: Any, b: Any) -> Any:
        return algorithm.merge(spec, a, algorithm.scale(spec, b, 0.5))

    return merge


def _each_merge_forgets(algorithm: Algorithm) -> Any:
    """Commutative, but the rows merged first are forgotten most."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        return algorithm.scale(spec, algorithm.merge(spec, a, b), 0.5)

    return merge


def _heavier_wins(algorithm: Algorithm) -> Any:
    """A commutative, associative merge with an identity, that yet throws rows away."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        return a if algorithm.weight(a) >= algorithm.weight(b) else b

    return merge


def _batch_centred(algorithm: Algorithm) -> Any:
    """Rows are centred by their own batch, so that cuts matter."""

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        if len(batch) and batch.X is not None:
            batch = batch.replace(X=np.ascontiguousarray(batch.X - batch.X.mean(axis=0, dtype=batch.X.dtype)))
        return algorithm.accumulate(spec, partial, batch, anchor)

    return accumulate


def _lighter_forgotten(algorithm: Algorithm) -> Any:
    """Weight is conserved, but the lighter shard's rows are counted as the heavier's."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        w_a, w_b = algorithm.weight(a), algorithm.weight(b)
        if w_a == 0.0 or w_b == 0.0:
            return algorithm.merge(spec, a, b)
        return algorithm.scale(spec, a if w_a >= w_b else b, (w_a + w_b) / max(w_a, w_b))

    return merge


def _order_shows(algorithm: Algorithm) -> Any:
    """The last bits of a merge depend on which side came first."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        ahead = algorithm.weight(a) > algorithm.weight(b) > 0.0
        return algorithm.scale(spec, algorithm.merge(spec, a, b), 1.0 + 2.0**-40 if ahead else 1.0)

    return merge


def _forgets_too_little(algorithm: Algorithm) -> Any:
    def scale(spec: Any, summary: Any, factor: float) -> Any:
        return algorithm.scale(spec, summary, float(np.sqrt(factor)))

    return scale


def _never_forgets(algorithm: Algorithm) -> Any:
    del algorithm

    def scale(spec: Any, summary: Any, factor: float) -> Any:
        del spec, factor
        return summary

    return scale


def _weights_mapped(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Algorithm], Any]:
    def make(algorithm: Algorithm) -> Any:
        def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
            return algorithm.accumulate(spec, partial, batch.replace(weight=change(batch.weights)), anchor)

        return accumulate

    return make


def _writes_into_batch(algorithm: Algorithm) -> Any:
    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        result = algorithm.accumulate(spec, partial, batch, anchor)
        features = batch.X if batch.X is not None else batch.values
        if features is not None:
            features *= 2
        return result

    return accumulate


def _writes_into_partial(algorithm: Algorithm) -> Any:
    """Merge adds into its first argument, as an in-place sum would."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        result = algorithm.merge(spec, a, b)
        for array in to_arrays(a).values():
            if array.dtype.kind == "f" and array.size:
                _write(array, array + 1)
        return result

    return merge


def _write(array: np.ndarray, values: np.ndarray) -> None:
    """Write through a read-only view, as compiled code does that ignores the flag."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    owner.flags.writeable = True
    array.flags.writeable = True
    array[...] = values
    array.flags.writeable = False


def _keeps_batch_memory(algorithm: Algorithm) -> Any:
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


def _different_each_time(algorithm: Algorithm) -> Any:
    """Each call's result differs in its last digits, as with an unseeded generator."""
    calls = itertools.count(1)

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        result = algorithm.accumulate(spec, partial, batch, anchor)
        return algorithm.scale(spec, result, 1.0 + 2.0**-30 * next(calls))

    return accumulate


def _widens(algorithm: Algorithm) -> Any:
    """Every merge doubles each axis."""

    def merge(spec: Any, a: Any, b: Any) -> Any:
        merged = algorithm.merge(spec, a, b)
        arrays = to_arrays(merged)
        for field in array_fields(merged):
            arrays[field.name] = np.tile(arrays[field.name], [2] * len(field.axes))
        return from_arrays(type(merged), arrays)

    return merge


def _gives_another_class(algorithm: Algorithm) -> Any:
    def fold(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
        return _Foreign(other=np.zeros(len(to_arrays(algorithm.fold(spec, state, partial, sample)))))

    return fold


def _remembers_elsewhere(algorithm: Algorithm) -> Any:
    """Part of the state lives beside its arrays and is lost when stored."""

    def fold(spec: Any, state: Any, partial: Any, sample: Any) -> Any:
        if algorithm.weight(state) > 0.0 and not hasattr(state, "_memory"):
            return state
        folded = algorithm.fold(spec, state, partial, sample)
        object.__setattr__(folded, "_memory", True)
        return folded

    return fold


def _one_fingerprint(algorithm: Algorithm) -> Any:
    """Every spec has the same fingerprint."""
    return type("Loose", (algorithm.spec,), {"fingerprint": property(lambda self: "0" * 64)})


def _not_importable(algorithm: Algorithm) -> Any:
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


def _compiles_per_length(algorithm: Algorithm) -> Any:
    kernel = _Kernel()

    def accumulate(spec: Any, partial: Any, batch: Batch, anchor: Any) -> Any:
        kernel(len(batch))
        return algorithm.accumulate(spec, partial, batch, anchor)

    return accumulate


def _models_mapped(change: Callable[[Any], Any]) -> Mutate:
    def mutate(algorithm: Algorithm) -> Algorithm:
        return dataclasses.replace(algorithm, models={name: change(kind) for name, kind in algorithm.models.items()})

    return mutate


def _derive_writes(kind: Any) -> Any:
    """Derive works in place on the state's arrays."""

    def derive(spec: Any, model_spec: Any, state: Any, sample: Any) -> Any:
        model = kind.derive(spec, model_spec, state, sample)
        for array in to_arrays(state).values():
            if array.dtype.kind == "f" and array.size:
                _write(array, array * 2 + 1)
        return model

    return dataclasses.replace(kind, derive=derive)


def _batch_relative(kind: Any) -> Any:
    """Predictions are relative to the first row of the batch."""

    def predict(model: Any, batch: Batch) -> Any:
        return {
            name: values - values[:1] if values.dtype.kind == "f" else np.arange(len(values), dtype=values.dtype)
            for name, values in kind.predict(model, batch).items()
        }

    return dataclasses.replace(kind, predict=predict)


def _measure_ignores_weight(kind: Any) -> Any:
    """A measure weighs the rows of a batch relative to each other."""

    def measure(model: Any, batch: Batch) -> Any:
        total = float(batch.weights.sum())
        return kind.measure(model, batch.replace(weight=batch.weights / total if total > 0 else batch.weights))

    return dataclasses.replace(kind, measure=measure)


def _foreign_classes(algorithm: Algorithm) -> Algorithm:
    """The record names other classes than its functions give."""
    return dataclasses.replace(algorithm, state=_Foreign, partial=_Foreign)


def _endless_anchor(algorithm: Algorithm) -> Algorithm:
    """Parts of any anchor are accepted, although they do not add."""
    spec = type("Endless", (algorithm.spec,), {"anchor_staleness": property(lambda self: None)})
    return dataclasses.replace(algorithm, spec=spec)


def _claims_to_add(algorithm: Algorithm) -> Algorithm:
    """The law claims that partials of different anchors add."""
    return dataclasses.replace(
        algorithm, law=lambda spec: dataclasses.replace(algorithm.law(spec), across_anchors=True)
    )


def _always(law: Law) -> bool:
    return law is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Mutation:
    """One way to break an algorithm.

    Attributes:
        law: the law that must notice.
        text: what is broken.
        mutate: gives the broken algorithm.
        breaks: whether this breaks an algorithm of such a law at all.
    """

    law: str
    text: str
    mutate: Mutate
    breaks: Callable[[Law], bool] = _always


def mutations_for(law: Law) -> Iterator[Mutation]:
    """Give the mutations that break an algorithm of this law, for every law of `beam_ml.testing.laws` it declares."""
    return (m for m in MUTATIONS if applies(m.law, law) and m.breaks(law))


MUTATIONS: tuple[Mutation, ...] = (
    Mutation("identity", "merging with an empty one halves", _replaced(merge=_empties_halve)),
    Mutation("commutative", "the right side counts half", _replaced(merge=_right_counts_half)),
    Mutation("associative", "every merge halves", _replaced(merge=_each_merge_forgets)),
    Mutation("conservation", "the heavier side wins", _replaced(merge=_heavier_wins)),
    Mutation("conservation", "rows count half", _replaced(accumulate=_weights_mapped(lambda w: w * 0.5))),
    Mutation("homomorphism", "rows are centred by batch", _replaced(accumulate=_batch_centred)),
    Mutation("sketch bound", "the lighter side is forgotten", _replaced(merge=_lighter_forgotten)),
    Mutation("order-free", "the last bits show the order", _replaced(merge=_order_shows)),
    Mutation("anchors", "any anchor is accepted", _endless_anchor, lambda law: not law.across_anchors),
    Mutation("anchors", "claims to add across anchors", _claims_to_add, lambda law: not law.across_anchors),
    Mutation(
        "anchors", "the lighter side is forgotten", _replaced(merge=_lighter_forgotten), lambda law: law.across_anchors
    ),
    Mutation("decay", "forgets too little", _replaced(scale=_forgets_too_little)),
    Mutation("decay", "never forgets", _replaced(scale=_never_forgets)),
    Mutation(
        "zero weight",
        "weight 0 counts as 1",
        _replaced(accumulate=_weights_mapped(lambda w: np.where(w > 0, w, 1.0))),
    ),
    Mutation("integer weight", "weights are squared", _replaced(accumulate=_weights_mapped(np.square))),
    Mutation("purity", "accumulate writes into the batch", _replaced(accumulate=_writes_into_batch)),
    Mutation("purity", "merge adds in place", _replaced(merge=_writes_into_partial)),
    Mutation("ownership", "a partial keeps the batch's memory", _replaced(accumulate=_keeps_batch_memory)),
    Mutation("determinism", "every call differs", _replaced(accumulate=_different_each_time)),
    Mutation("stability", "merge doubles the axes", _replaced(merge=_widens)),
    Mutation("stability", "fold gives another class", _replaced(fold=_gives_another_class)),
    Mutation("codec", "the record names other classes", _foreign_classes),
    Mutation("resume", "memory beside the arrays", _replaced(fold=_remembers_elsewhere)),
    Mutation("fingerprint", "one fingerprint for all", _replaced(spec=_one_fingerprint)),
    Mutation("ships small", "merge is a lambda", _replaced(merge=_not_importable)),
    Mutation("no recompilation", "compiles per length", _replaced(accumulate=_compiles_per_length)),
    Mutation("derive is pure", "derive works in place", _models_mapped(_derive_writes)),
    Mutation("predictions", "relative to the batch", _models_mapped(_batch_relative)),
    Mutation("predictions", "measures relative to the batch", _models_mapped(_measure_ignores_weight)),
)
"""Every way of breaking an algorithm; each law has at least one."""
