"""What an artefact is: its envelope, the one key of its header, the number of its format, the dtypes it holds."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

__all__ = ["DTYPES", "FORMAT", "KEY", "NAMES", "Envelope"]

FORMAT = 1
"""The format that this library writes."""


KEY = "beam_ml"
"""The one metadata key in the safetensors header."""


DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "F64": np.dtype("<f8"),
        "F32": np.dtype("<f4"),
        "I64": np.dtype("<i8"),
        "I32": np.dtype("<i4"),
        "I16": np.dtype("<i2"),
        "I8": np.dtype("i1"),
        "U64": np.dtype("<u8"),
        "U32": np.dtype("<u4"),
        "U16": np.dtype("<u2"),
        "U8": np.dtype("u1"),
        "BOOL": np.dtype("?"),
    }
)


NAMES: Mapping[np.dtype[Any], str] = MappingProxyType({dtype: name for name, dtype in DTYPES.items()})


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """What `decode` returns.

    Attributes:
        kind: what the arrays are: learner, model, accumulation, batch, metrics.
        meta: JSON facts beside the arrays.
        arrays: name → array, C-contiguous, little-endian, read-only.
        library: version of beam_ml that wrote it.
    """

    kind: str
    meta: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    library: str = ""
