"""Streaming machine learning as Apache Beam operators.

Each algorithm keeps a mergeable training state of bounded size; models are derived from it, without the data.
"""

import importlib
from typing import TYPE_CHECKING, Any

from beam_ml.algorithms import fm, kmeans, linear, pca
from beam_ml.api import derive, fit, load, merge, predict, save
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.registry import Registry

if TYPE_CHECKING:
    from beam_ml import sagemaker

__all__ = [
    "Batch",
    "Learner",
    "Model",
    "ModelSpec",
    "Registry",
    "Spec",
    "derive",
    "fit",
    "fm",
    "kmeans",
    "linear",
    "load",
    "merge",
    "pca",
    "predict",
    "sagemaker",
    "save",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import `beam_ml.sagemaker` at its first use."""
        if name == "sagemaker":
            return importlib.import_module("beam_ml.sagemaker")
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
