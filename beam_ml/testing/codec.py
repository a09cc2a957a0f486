"""How the laws turn records into bytes and back."""

import dataclasses
from collections.abc import Callable
from typing import Any

from beam_ml.artefact import envelope
from beam_ml.core.arrays import from_arrays, to_arrays

__all__ = ["ARRAYS", "Codec"]

_KIND = "record"


@dataclasses.dataclass(frozen=True, slots=True)
class Codec:
    """Two functions: record → bytes, and (class, bytes) → record.

    >>> from beam_ml.algorithms.pca import Partial, PCA, Spec
    >>> ARRAYS.decode(Partial, ARRAYS.encode(PCA.empty(Spec(n_features=2)))).mean.tolist()
    [0.0, 0.0]
    >>> Codec(ARRAYS.encode, ARRAYS.decode) == ARRAYS
    True
    """

    encode: Callable[[Any], bytes]
    decode: Callable[[type, bytes], Any]


def _encode(value: Any) -> bytes:
    return envelope.encode(_KIND, {}, to_arrays(value))


def _decode(kind: type, data: bytes) -> Any:
    return from_arrays(kind, envelope.decode(data, _KIND).arrays)


ARRAYS = Codec(_encode, _decode)
"""The arrays of a record in the envelope that artefacts use."""
