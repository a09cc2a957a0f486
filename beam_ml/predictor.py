"""`Predictor`: a name in the registry, or a model file → rows in, predictions out, following new versions."""

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.algorithms import Named, algorithm_of, finder
from beam_ml.artefact.records import decode_model
from beam_ml.core.algorithm import ModelKind, Predictions
from beam_ml.core.batch import Batch
from beam_ml.core.model import Model
from beam_ml.core.refresh import model_kind
from beam_ml.core.rejects import Reject
from beam_ml.core.scoring import refuse, score
from beam_ml.errors import InvalidBatch, InvalidValue, UnreadableInput, VersionNotFound
from beam_ml.features import Features
from beam_ml.formats.block import Block
from beam_ml.registry import Found, Manifest, Registry

__all__ = ["ModelRef", "Predictor", "Scored", "predictor_of"]

_MODELS = "models/"
_NONE: tuple[Reject, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ModelRef:
    """Which model: plain text, so that it can be sent to workers.

    Attributes:
        where: path of a model file, or path or URL of a registry.
        name: in the registry; None: `where` is a model file.
        model: which of the version's models; None: its champion, else the first by name.
        algorithms: algorithms outside this package that it may be of, as ``module:attribute``.
