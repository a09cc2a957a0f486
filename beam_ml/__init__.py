"""Streaming machine learning as Apache Beam operators.

Each algorithm keeps a mergeable training state of bounded size; models are derived from it, without the data.
"""

import importlib
from typing import TYPE_CHECKING, Any

from beam_ml.api import derive, fit, load, merge, predict, save
from beam_ml.artefact.envelope import library_version
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.limits import Limits
from beam_ml.core.model import Model
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.registry import Registry

if TYPE_CHECKING:
    from beam_ml import sagemaker
    from beam_ml.algorithms import deepar, distinct, fm, kmeans, linear, ntm, pca, quantile, target, vocabulary
    from beam_ml.ledger import Ledger

__all__ = [
    "Batch",
    "Learner",
    "Ledger",
    "Limits",
    "Model",
    "ModelSpec",
    "Registry",
    "Spec",
    "__version__",
    "deepar",
    "derive",
    "distinct",
    "fit",
    "fm",
    "kmeans",
    "linear",
    "load",
    "merge",
    "ntm",
    "pca",
    "predict",
    "quantile",
    "sagemaker",
    "save",
    "target",
    "vocabulary",
]

__version__ = library_version()

if not TYPE_CHECKING:
    _AT_FIRST_USE = {
        "Ledger": "beam_ml.ledger:Ledger",
        "deepar": "beam_ml.algorithms.deepar",
        "distinct": "beam_ml.algorithms.distinct",
        "fm": "beam_ml.algorithms.fm",
        "kmeans": "beam_ml.algorithms.kmeans",
        "linear": "beam_ml.algorithms.linear",
        "ntm": "beam_ml.algorithms.ntm",
        "pca": "beam_ml.algorithms.pca",
        "quantile": "beam_ml.algorithms.quantile",
        "sagemaker": "beam_ml.sagemaker",
        "target": "beam_ml.algorithms.target",
        "vocabulary": "beam_ml.algorithms.vocabulary",
    }

    def __getattr__(name: str) -> Any:
        """Import an algorithm's package, or the ledger, at its first use: none costs those who use another."""
        if name in _AT_FIRST_USE:
            module, _, attribute = _AT_FIRST_USE[name].partition(":")
            found = importlib.import_module(module)
            return getattr(found, attribute) if attribute else found
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
