"""Faults of partials that grow in place; as `beam_ml.testing.faults`."""

from collections.abc import Callable
from typing import Any

from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import nbytes, to_arrays
from beam_ml.core.batch import Batch
from beam_ml.testing.faults import write

__all__ = ["grows"]


class _Chain:
    """A partial that grows by `accumulate`, with a fault: rows count half, or what was given is written into."""

    def __init__(self, algorithm: Algorithm, spec: Any, partial: Any, anchor: Any, shares: bool) -> None:
        self._algorithm, self._spec, self._anchor, self._shares = algorithm, spec, anchor, shares
        self._partial = partial

    def add(self, batch: Batch) -> None:
        if self._shares:
            for array in to_arrays(self._partial).values():
                if array.dtype.kind == "f" and array.size:
                    write(array, array + 1)
        else:
            batch = batch.replace(weight=batch.weights * 0.5)
        self._partial = self._algorithm.accumulate(self._spec, self._partial, batch, self._anchor)

    def scale(self, factor: float) -> None:
        self._partial = self._algorithm.scale(self._spec, self._partial, factor)

    def partial(self) -> Any:
        return self._partial

    @property
    def nbytes(self) -> int:
        return nbytes(self._partial)


def grows(shares: bool) -> Callable[[Algorithm], Any]:
    """Workers' partials grow wrongly: rows count half, or what was given before changes."""

    def make(algorithm: Algorithm) -> Any:
        def grow(spec: Any, partial: Any, anchor: Any) -> Any:
            return _Chain(algorithm, spec, partial, anchor, shares)

        return grow

    return make
