"""How the laws turn records into bytes and back."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.numpy

from beam_ml.core.arrays import from_arrays, to_arrays

__all__ = ["ARRAYS", "Codec"]


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """Two functions: record → bytes, and (class, bytes) → record."""

    encode: Callable[[Any], bytes]
    decode: Callable[[type, bytes], Any]


def _encode(value: Any) -> bytes:
    # The library stores strided arrays wrongly; require() copies those and, unlike ascontiguousarray, keeps zero axes.
    arrays = {name: np.require(array, requirements="C") for name, array in to_arrays(value).items()}
    return bytes(safetensors.numpy.save(arrays))


def _decode(kind: type, data: bytes) -> Any:
    return from_arrays(kind, safetensors.numpy.load(data))


ARRAYS = Codec(_encode, _decode)
"""The arrays of a record as safetensors, with nothing around them."""
