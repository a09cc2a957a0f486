"""Compiled kernels: arrays in, arrays out. A module of it is imported, and numba with it, when first used: it costs seconds.

>>> from beam_ml import kernels
>>> kernels.kmeans.nearest.__name__
'beam_ml.kernels.kmeans.nearest'
"""

import importlib
import importlib.util
from typing import Any


def __getattr__(name: str) -> Any:
    """Import a kernel module at its first use."""
    path = f"{__name__}.{name}"
    if name.startswith("__") or importlib.util.find_spec(path) is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return importlib.import_module(path)
