"""Laws of good conduct: pure, deterministic, of stable shape, storable, resumable, small to ship, compiled once."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from beam_ml.algorithms import find, spec_from
from beam_ml.core import learner
from beam_ml.core.algorithm import ByMerge
from beam_ml.core.arrays import array_fields, identical
from beam_ml.core.batch import Batch
from beam_ml.errors import MergeRefused
from beam_ml.testing.subject import Scenario, Subject, arrays_of, difference, digest, require, sample_of

__all__ = [
    "codec",
    "determinism",
    "fingerprint",
    "overwritten",
    "owned",
    "ownership",
    "purity",
    "recompilation",
    "resume",
    "ships_small",
    "stability",
]

_SPEC_BYTES = 4096


def purity(subject: Subject) -> None:
    """No function changes a byte of any argument."""
    algorithm, spec = subject.algorithm, subject.spec

    def untouched(what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        held = [value for value in arguments if isinstance(value, Batch) or hasattr(value, "__array_fields__")]
        before = digest(*held)
        result = call(*arguments)
        require(digest(*held) == before, f"{what} changed an argument")
        return result

    def check(case: Scenario) -> None:
        partial = algorithm.empty(spec)
        other = subject.accumulate(case.batches[:1], case.anchor)
        for batch in case.batches:
            partial = untouched("accumulate", algorithm.accumulate, spec, partial, owned(batch), case.anchor)
        merged = untouched("merge", algorithm.merge, spec, partial, other)
        untouched("merge", algorithm.merge, spec, other, partial)
        state = untouched("fold", algorithm.fold, spec, case.state, merged, sample_of(case.batches))
        untouched("scale", algorithm.scale, spec, merged, 0.5)
        untouched("scale", algorithm.scale, spec, state, 0.5)
        untouched("anchor", algorithm.anchor, spec, state)
        untouched("weight", algorithm.weight, state)
        if algorithm.remove is not None:
            untouched("remove", algorithm.remove, spec, merged, other)
        if algorithm.merge_states is not None:
            untouched("merge_states", algorithm.merge_states, spec, state, case.state)

    subject.examine(subject.scenarios(count=3), check)


def ownership(subject: Subject) -> None:
    """What accumulate and fold return keeps no reference to a batch's memory."""
    algorithm, spec = subject.algorithm, subject.spec

    def check(case: Scenario) -> None:
        partial = algorithm.empty(spec)
        for batch in map(owned, case.batches):
            partial = algorithm.accumulate(spec, partial, batch, case.anchor)
            before = digest(partial)
            overwritten(batch)
            require(digest(partial) == before, "a partial changed when its batch's memory was overwritten")
        sample = sample_of(case.batches)
        sample = None if sample is None else owned(sample)
        state = algorithm.fold(spec, case.state, partial, sample)
        before = digest(state)
        if sample is not None:
            overwritten(sample)
        require(digest(state) == before, "a state changed when its sample's memory was overwritten")

    subject.examine(subject.scenarios(count=2), check)


def owned(batch: Batch) -> Batch:
    """Return a copy whose arrays are its own, and writable."""
    return batch.replace(**{name: np.array(array, copy=True) for name, array in arrays_of(batch)})


def overwritten(batch: Batch) -> None:
    """Fill a batch's memory with something else."""
    for _, array in arrays_of(batch):
        array[...] = 77


def determinism(subject: Subject) -> None:
    """Equal arguments yield equal bytes, from init to derive."""
    algorithm, spec = subject.algorithm, subject.spec

    def once(case: Scenario) -> list[Any]:
        partial = subject.accumulate(case.batches, case.anchor)
        merged = subject.merge(partial, subject.accumulate(case.batches[1:], case.anchor))
        state = subject.fold(case.state, merged, case.batches)
        models = [model for _, _, model in subject.models(state, sample_of(case.batches))]
        return [algorithm.init(spec), algorithm.empty(spec), partial, merged, state, *models]

    def check(case: Scenario) -> None:
        names = ["init", "empty", "accumulate", "merge", "fold"]
        for i, (first, second) in enumerate(zip(once(case), once(case), strict=True)):
            name = names[i] if i < len(names) else "derive"
            require(
                identical(first, second), f"{name} returned other bytes the second time: {difference(first, second)}"
            )

    subject.examine(subject.scenarios(count=2), check)


def stability(subject: Subject) -> None:
    """Each function returns the class that the record names; axes keep their length (those empty at first may grow)."""
    algorithm, spec = subject.algorithm, subject.spec
    fixed = {
        algorithm.partial: _axes(algorithm.empty(spec)),
        algorithm.state: _axes(algorithm.init(spec)),
    }

    def expect(value: Any, kind: type | None, what: str) -> None:
        require(kind is not None and type(value) is kind, f"{what} returned a {type(value).__name__}, not {kind}")
        for name, length in _axes(value).items():
            start = fixed[type(value)].get(name, 0) if type(value) in fixed else 0
            require(start in (0, length), f"{what}: axis {name} was {start} and became {length}")

    def check(case: Scenario) -> None:
        expect(algorithm.init(spec), algorithm.state, "init")
        expect(algorithm.empty(spec), algorithm.partial, "empty")
        partial = algorithm.empty(spec)
        for batch in case.batches:
            partial = algorithm.accumulate(spec, partial, batch, case.anchor)
            expect(partial, algorithm.partial, "accumulate")
        expect(subject.merge(partial, partial), algorithm.partial, "merge")
        expect(algorithm.scale(spec, partial, 0.5), algorithm.partial, "scale of a partial")
        state = subject.fold(case.state, partial, case.batches)
        expect(state, algorithm.state, "fold")
        expect(algorithm.scale(spec, state, 0.5), algorithm.state, "scale of a state")
        anchor = algorithm.anchor(spec, state)
        if anchor is not None:
            expect(anchor, algorithm.anchor_type, "anchor")
        for kind, _, model in subject.models(state, sample_of(case.batches)):
            expect(model, kind.model, "derive")

    subject.examine(subject.scenarios(), check)


def _axes(value: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for field in array_fields(value):
        for axis, length in zip(field.axes, getattr(value, field.name).shape, strict=True):
            if isinstance(axis, str):
                found[axis] = length
    return found


def codec(subject: Subject) -> None:
    """Stored and read back, every record is the same to the bit, and its bytes are always the same."""
    algorithm = subject.algorithm
    encode, decode = subject.stored.encode, subject.stored.decode

    def check(case: Scenario) -> None:
        partial = subject.accumulate(case.batches, case.anchor)
        state = subject.fold(case.state, partial, case.batches)
        records = [(algorithm.partial, partial), (algorithm.state, state)]
        if case.anchor is not None and algorithm.anchor_type is not None:
            records.append((algorithm.anchor_type, case.anchor))
        records += [(kind.model, model) for kind, _, model in subject.models(state, sample_of(case.batches))]
        for kind, record in records:
            data = encode(record)
            back = decode(kind, data)
            require(type(back) is type(record), f"read back as {type(back).__name__}, not {type(record).__name__}")
            require(identical(back, record), f"read back: {difference(back, record)}")
            require(encode(back) == data, f"a stored {kind.__name__} has other bytes when stored again")

    subject.examine(subject.scenarios(), check)


def resume(subject: Subject) -> None:
    """Saved and loaded between two folds, training continues exactly as if it had not been interrupted."""
    algorithm, spec = subject.algorithm, subject.spec

    def through_bytes(kind: type, value: Any) -> Any:
        return subject.stored.decode(kind, subject.stored.encode(value))

    def check(case: Scenario) -> None:
        first, second = case.batches
        state = subject.fold(case.state, subject.accumulate([first], case.anchor), [first])
        loaded = through_bytes(algorithm.state, state)
        partial = subject.accumulate([second], algorithm.anchor(spec, state))
        again = through_bytes(algorithm.partial, subject.accumulate([second], algorithm.anchor(spec, loaded)))
        straight, resumed = subject.fold(state, partial, [second]), subject.fold(loaded, again, [second])
        require(identical(straight, resumed), f"after resuming: {difference(straight, resumed)}")

    subject.examine(subject.scenarios(count=2), check)


def fingerprint(subject: Subject) -> None:
    """Learners of another spec are refused at merge; equal settings have one fingerprint."""
    algorithm = subject.algorithm
    settings = subject.spec.to_dict()
    same = algorithm.spec.parse(settings)
    foreign = algorithm.spec.parse({**settings, "seed": (subject.spec.seed + 1) % 2**32})
    mine = algorithm.spec.parse(dict(reversed(settings.items())))
    require(same.fingerprint == mine.fingerprint, "equal settings have one fingerprint")
    require(same.fingerprint != foreign.fingerprint, "another seed is another fingerprint")
    try:
        learner.merge(algorithm, learner.new(algorithm, same), learner.new(algorithm, foreign))
    except MergeRefused:
        return
    require(False, "a learner of another spec was merged")


def ships_small(subject: Subject) -> None:
    """The spec's JSON alone names the algorithm and its settings, in under 4 KiB; functions are importable by name."""
    algorithm, spec = subject.algorithm, subject.spec
    text = spec.to_json()
    require(
        len(text.encode()) < _SPEC_BYTES, f"the spec's JSON has {len(text.encode())} bytes, not under {_SPEC_BYTES}"
    )
    require(spec.algorithm == algorithm.name, f"the spec names {spec.algorithm!r}, the record {algorithm.name!r}")
    require(find(algorithm.name).name == algorithm.name, f"{algorithm.name!r} is not found by its name")
    require(spec_from(spec.to_dict()) == spec, "the spec's JSON reads as another spec")
    for name, function in _functions(subject):
        try:
            found: Any = importlib.import_module(function.__module__)
            for part in function.__qualname__.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError):
            found = None
        require(found is function, f"{name} cannot be imported as {function.__module__}.{function.__qualname__}")


def _functions(subject: Subject) -> Iterator[tuple[str, Any]]:
    algorithm = subject.algorithm
    for name in (
        "law",
        "init",
        "empty",
        "accumulate",
        "merge",
        "fold",
        "scale",
        "weight",
        "anchor",
        "merge_states",
        "grow",
        "grown_from",
        "settle",
        "remove",
    ):
        function = getattr(algorithm, name)
        if function is not None and not isinstance(function, ByMerge):
            yield name, function
    for kind_name, kind in algorithm.models.items():
        for name in ("derive", "predict", "measure"):
            yield f"models[{kind_name!r}].{name}", getattr(kind, name)


def recompilation(subject: Subject) -> None:
    """A second, ragged batch compiles nothing: kernels do not specialise on the number of rows."""
    algorithm, spec = subject.algorithm, subject.spec
    world = subject.world()

    def run(sizes: tuple[int, ...], seed: int, weights: str) -> None:
        state = algorithm.init(spec)
        parts = [world.batch(spec, n, seed + n, weights=weights) for n in sizes]
        anchor = algorithm.anchor(spec, state)
        merged = subject.merge(subject.accumulate(parts, anchor), subject.accumulate(parts[:1], anchor))
        state = subject.fold(state, algorithm.scale(spec, merged, 0.5), parts)
        for kind, _, model in subject.models(state, sample_of(parts)):
            for part in parts:
                kind.predict(model, part)
                kind.measure(model, part)

    for weights in ("none", "uniform"):
        run((6_000, 256), 0, weights)
        before = _compiled(subject)
        run((5_000, 37, 1, 129, 0), 100, weights)
        after = _compiled(subject)
        grown = sorted(name for name, count in after.items() if count > before.get(name, 0))
        require(not grown, f"a second, ragged batch compiled {', '.join(grown)}")


def _compiled(subject: Subject) -> dict[str, int]:
    """Count the specialisations of every compiled function in reach: beam_ml.kernels, and the record's own modules."""
    functions = [inspect.unwrap(function) for _, function in _functions(subject)]
    own = {function.__module__ for function in functions}
    modules = [name for name in sys.modules if name.startswith("beam_ml.kernels") or name in own]
    held = [(module, name, value) for module in modules for name, value in vars(sys.modules[module]).items()]
    for function in functions:
        captured = inspect.getclosurevars(function).nonlocals if inspect.isfunction(function) else {}
        held += [(function.__module__, name, value) for name, value in captured.items()]
    found: dict[str, int] = {}
    for module, name, value in held:
        if isinstance(value, type):
            continue
        if hasattr(value, "signatures") and hasattr(value, "py_func"):  # numba
            found[f"{module}.{name}"] = len(value.signatures)
        elif callable(getattr(value, "_cache_size", None)):  # jax
            found[f"{module}.{name}"] = int(value._cache_size())
    return found
