"""What a reader of stored arrays and facts insists on: each part as its record and its spec say."""

import bisect
import copy
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import numpy as np

from beam_ml.core.arrays import axis_lengths, from_arrays, nbytes
from beam_ml.core.batch import Origin
from beam_ml.core.spec import Spec
from beam_ml.errors import CorruptArtefact, InvalidValue

__all__ = [
    "Reader",
    "finite",
    "lengths_of",
    "number_of",
    "origin_of",
    "ranges_of",
    "refuse",
    "text_of",
    "time_of",
    "weight_of",
    "whole",
]

T = TypeVar("T")
_ANY: Mapping[str, int] = {}
_NARROW = 512
"""Features of which arrays are built without asking whether the artefact holds as many."""


class Reader:
    """The arrays under one path; a missing one is a typed error.

    Args:
        arrays: of the whole artefact. A learner may hold many windows, so each is found by name, without a look at all.

    Attributes:
        held: the bytes of all arrays of the artefact.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays, self._path = arrays, ""
        self._names = sorted(arrays)
        self.held = sum(array.nbytes for array in arrays.values())

    def at(self, name: str) -> "Reader":
        """Return the arrays under a longer path."""
        longer = copy.copy(self)
        longer._path = f"{self._path}{name}/"
        return longer

    def get(self, name: str) -> np.ndarray | None:
        """Return an array; None: it is not there."""
        return self._arrays.get(self._path + name)

    def __getitem__(self, name: str) -> np.ndarray:
        array = self.get(name)
        if array is None:
            message = f"The artefact lacks the array {self._path + name}."
            raise CorruptArtefact(message)
        return array

    def record(self, kind: type[T], lengths: Mapping[str, int] = _ANY) -> T:
        """Return a record; an axis of one of these letters must have that length, unless that is 0: then it may grow."""
        first = bisect.bisect_left(self._names, self._path)
        behind = (self._names[i] for i in range(first, len(self._names)))
        mine = itertools.takewhile(lambda name: name.startswith(self._path), behind)
        value = from_arrays(kind, {name.removeprefix(self._path): self._arrays[name] for name in mine})
        for axis, length in axis_lengths(value).items():
            if lengths.get(axis, 0) not in (0, length):
                refuse(f"{kind.__name__} of axes {axis} = {lengths[axis]}, as its spec says; got {length}")
        return value


def lengths_of(build: Callable[[Spec], object], spec: Spec, held: int) -> dict[str, int]:
    """Return the lengths of the axes of what a spec builds.

    A forged width may ask for more memory than any machine has. So ever wider specs are built first, each twice as wide as
    the one before: the artefact is refused at the first of which more would be built than it holds.

    Args:
        build: spec → record; its axes that are not 0 are those of the record stored.
        spec: of the artefact.
        held: bytes of the artefact's arrays.
    """
    width = _NARROW
    while width < spec.n_features:
        least = _built_bytes(build, spec, width)
        if least > held:
            refuse(
                f"the arrays of {spec.n_features:,} features, as its spec says, of at least {least:,} bytes; got {held:,}"
            )
        width *= 2
    try:
        return axis_lengths(build(spec))
    except MemoryError as error:
        message = f"The artefact must hold a spec whose arrays fit into memory; {error}"
        raise CorruptArtefact(message) from error


def _built_bytes(build: Callable[[Spec], object], spec: Spec, width: int) -> int:
    """Return how many bytes a spec would build if its rows were so wide; 0 where there is no such spec."""
    try:
        narrow = type(spec).parse(spec.to_dict() | {"n_features": width})
    except InvalidValue:
        return 0
    return nbytes(build(narrow))


def refuse(what: str) -> NoReturn:
    """Say what an artefact must hold."""
    message = f"The artefact must hold {what}."
    raise CorruptArtefact(message)


def whole(meta: Mapping[str, Any], name: str) -> int:
    """Return a count."""
    value = meta[name]
    if not _is_int64(value) or value < 0:
        refuse(f"a number of 0 or more, below 2⁶³, as {name}; got {value!r}")
    return int(value)


def weight_of(meta: Mapping[str, Any], name: str) -> float:
    """Return a sum of weights."""
    value = finite(meta[name], name)
    if value < 0:
        refuse(f"a number of 0 or more as {name}; got {value!r}")
    return value


def finite(value: Any, what: str) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        refuse(f"a finite number as {what}; got {value!r}")
    return float(value)


def text_of(meta: Mapping[str, Any], name: str) -> str | None:
    """Return a text, or None."""
    value = meta[name]
    if value is not None and not isinstance(value, str):
        refuse(f"text or none as {name}; got {value!r}")
    return value


def time_of(value: Any) -> int | None:
    """Return an event time, µs, or None."""
    if value == -(1 << 63):
        refuse("event times that numpy does not take for missing; got −2⁶³")
    return None if value is None else number_of(value, "event time in µs")


def number_of(value: Any, what: str) -> int:
    """Return a whole number of 64 bits."""
    if not _is_int64(value):
        refuse(f"a whole number of 64 bits as {what}; got {value!r}")
    return int(value)


def _is_int64(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63


def origin_of(source: Any, partition: Any) -> Origin:
    """Return an origin."""
    if not (isinstance(source, str) and isinstance(partition, str)):
        refuse(f"origins of two texts; got {source!r}, {partition!r}")
    return Origin(source, partition)


def ranges_of(arrays: "Reader", name: str) -> np.ndarray:
    """Read an interval set: sorted, disjoint, none empty."""
    ranges = arrays[name]
    if ranges.dtype != np.int64 or ranges.ndim != 2 or ranges.shape[1:] != (2,):
        refuse(f"int64 ranges (k, 2) as {name}; got {ranges.dtype} {ranges.shape}")
    bounds = ranges.reshape(-1)
    if np.any(bounds[1:] <= bounds[:-1]):
        refuse(f"rising ranges that do not touch as {name}")
    return ranges
