"""`Layout`: the named arrays of a network as one flat vector, and back; of numpy or of JAX, neither of which it needs."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["Layout"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Names and shapes in order; hashable, so that a compiled function may be kept by it.

    >>> layout = Layout((("weight", (2, 3)), ("bias", (3,))))
    >>> layout.size
    9
    >>> layout.arrays(np.arange(9.0))["bias"].tolist()
    [6.0, 7.0, 8.0]
    >>> layout.vector(layout.arrays(np.arange(9.0))).tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        """The length of the vector."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def arrays(self, vector: Any) -> dict[str, Any]:
        """Return the arrays of a vector (p,), of numpy or of JAX."""
        sizes = [math.prod(shape) for _, shape in self.shapes]
        ends = itertools.accumulate(sizes)
        return {
            name: vector[end - size : end].reshape(shape)
            for (name, shape), size, end in zip(self.shapes, sizes, ends, strict=True)
        }

    def vector(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the vector (p,), float32, of arrays by name."""
        parts = [np.asarray(arrays[name], np.float32).reshape(-1) for name, _ in self.shapes]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)
