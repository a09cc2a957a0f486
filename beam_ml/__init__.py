"""Streaming machine learning as Apache Beam operators.

Each algorithm keeps a mergeable training state of bounded size; models are derived from it, without the data.
"""

from beam_ml.algorithms import kmeans, linear, pca
from beam_ml.api import derive, fit, load, merge, predict, save
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.registry import Registry

__all__ = [
    "Batch",
    "Learner",
    "Model",
    "ModelSpec",
    "Registry",
    "Spec",
    "derive",
    "fit",
    "kmeans",
    "linear",
    "load",
    "merge",
    "pca",
    "predict",
    "save",
]
