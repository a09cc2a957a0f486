"""Beam coders over the artefact codec: nothing that travels is pickled.

Importing this module registers one coder per type (found by type hint) and one URN per coder (found by workers).
`install` makes remote workers import it before they decode anything.
"""

import functools
from collections.abc import Callable
from typing import Any

from apache_beam import Pipeline
from apache_beam.coders import Coder, registry
from apache_beam.options.pipeline_options import SetupOptions

from beam_ml.algorithms import ALGORITHMS, at_hand
from beam_ml.artefact import records
from beam_ml.beam.wire import codec
from beam_ml.beam.wire.elements import Folded, Later, Measured, Slice
from beam_ml.core.accumulation import Accumulation, size_bytes
from beam_ml.core.batch import Batch
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import Binary, Distortion, Multiclass, Regression
from beam_ml.core.model import Model
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Refresh
from beam_ml.core.rejects import Reject
from beam_ml.formats.block import Block

__all__ = [
    "AccumulationCoder",
    "BatchCoder",
    "BlockCoder",
    "FoldedCoder",
    "LaterCoder",
    "LearnerCoder",
    "MeasuredCoder",
    "MetricsCoder",
    "ModelCoder",
    "OptionalLearnerCoder",
    "ProgressCoder",
    "RefreshCoder",
    "RejectCoder",
    "SliceCoder",
    "install",
]

_URN = "beam_ml:coder:{}:v1"
_OVERHEAD_BYTES = 1024
"""About the size of an element's header: sizes reported to Beam are estimates."""


def install(pipeline: Pipeline, algorithm: str | None = None) -> None:
    """Have this pipeline's workers import the coders at their start, and the module of an algorithm outside the package.

    An element cannot have one imported: coders take the algorithms that a worker has at hand.
    """
    setup = pipeline.options.view_as(SetupOptions)
    plugins = list(setup.beam_plugins or [])
    modules = [] if algorithm is None or algorithm in ALGORITHMS else [algorithm.partition(":")[0]]
    missing = [module for module in (__name__, *modules) if module not in plugins]
    if missing:
        setup.beam_plugins = [*plugins, *missing]


class _ArtefactCoder(Coder):
    """Base of the coders: a name, two functions, and a size that costs no encoding (Beam asks for it often)."""

    name = ""
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]
    deterministic = True

    def encode(self, value: Any) -> bytes:
        """Return the element as bytes."""
        return type(self).write(value)

    def decode(self, encoded: bytes) -> Any:
        """Return the element."""
        return type(self).read(encoded)

    def is_deterministic(self) -> bool:
        """Return whether equal elements yield equal bytes."""
        return self.deterministic

    def estimate_size(self, value: Any) -> int:
        """Return about the number of bytes."""
        return self.held(value) + _OVERHEAD_BYTES

    def held(self, value: Any) -> int:
        """Return the bytes of the arrays held."""
        return 0

    def to_runner_api_parameter(self, context: Any) -> tuple[str, None, list[Coder]]:
        """Name the coder; there is nothing else to say."""
        return _URN.format(self.name), None, []

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class BlockCoder(_ArtefactCoder):
    """Columns as an Arrow IPC stream. Equal columns may lie differently in memory, so it is not deterministic."""

    name, write, read, deterministic = (
        "block",
        staticmethod(codec.encode_block),
        staticmethod(codec.decode_block),
        False,
    )

    def held(self, value: Block) -> int:
        """Return the bytes of the columns."""
        return int(value.batch.nbytes)


class BatchCoder(_ArtefactCoder):
    """A batch artefact."""

    name, write, read = "batch", staticmethod(records.encode_batch), staticmethod(records.decode_batch)

    def held(self, value: Batch) -> int:
        """Return the bytes of the arrays."""
        return value.nbytes


class SliceCoder(_ArtefactCoder):
    """A batch artefact within."""

    name, write, read = "slice", staticmethod(codec.encode_slice), staticmethod(codec.decode_slice)

    def held(self, value: Slice) -> int:
        """Return the bytes of the rows."""
        return value.rows.nbytes


class RejectCoder(_ArtefactCoder):
    """Places as an array, everything else in the header."""

    name, write, read = "reject", staticmethod(codec.encode_reject), staticmethod(codec.decode_reject)

    def held(self, value: Reject) -> int:
        """Return the bytes of the places."""
        return int(value.position.nbytes)


class ProgressCoder(_ArtefactCoder):
    """A progress artefact."""

    name, write, read = "progress", staticmethod(records.encode_progress), staticmethod(records.decode_progress)


class AccumulationCoder(_ArtefactCoder):
    """An accumulation artefact; its header holds the spec."""

    name, write, read = "accumulation", staticmethod(codec.encode_accumulation), staticmethod(codec.decode_accumulation)

    def held(self, value: Accumulation) -> int:
        """Return the bytes of partials and sample."""
        return size_bytes(value)


class LearnerCoder(_ArtefactCoder):
    """A learner artefact: what the registry stores, too."""

    name, write = "learner", staticmethod(codec.encode_learner)
    read = staticmethod(functools.partial(records.decode_learner, find=at_hand))


class OptionalLearnerCoder(_ArtefactCoder):
    """A learner artefact, or no bytes for no learner."""

    name = "optional_learner"
    write, read = staticmethod(codec.encode_optional_learner), staticmethod(codec.decode_optional_learner)


class ModelCoder(_ArtefactCoder):
    """A model artefact: what the registry stores, too."""

    name, write = "model", staticmethod(codec.encode_model)
    read = staticmethod(functools.partial(records.decode_model, find=at_hand))


class RefreshCoder(_ArtefactCoder):
    """Figures in the header, models and progress as artefacts within; `Refresh.models` must hold `Model` records."""

    name, write, read = "refresh", staticmethod(codec.encode_refresh), staticmethod(codec.decode_refresh)


class FoldedCoder(_ArtefactCoder):
    """A learner artefact and refreshes within."""

    name, write, read = "folded", staticmethod(codec.encode_folded), staticmethod(codec.decode_folded)


class LaterCoder(_ArtefactCoder):
    """Bytes as they are, asked for when a bundle ends."""

    name, deterministic = "later", False
    write, read = staticmethod(lambda value: value.data), staticmethod(Later.of)


class MetricsCoder(_ArtefactCoder):
    """A metrics artefact."""

    name, write, read = "metrics", staticmethod(records.encode_metrics), staticmethod(records.decode_metrics)


class MeasuredCoder(_ArtefactCoder):
    """A metrics artefact within."""

    name, write, read = "measured", staticmethod(codec.encode_measured), staticmethod(codec.decode_measured)


_CODERS: tuple[tuple[type[_ArtefactCoder], tuple[Any, ...]], ...] = (
    (BlockCoder, (Block,)),
    (BatchCoder, (Batch,)),
    (SliceCoder, (Slice,)),
    (RejectCoder, (Reject,)),
    (ProgressCoder, (Progress,)),
    (AccumulationCoder, (Accumulation,)),
    (LearnerCoder, (Learner,)),
    (OptionalLearnerCoder, ()),
    (ModelCoder, (Model,)),
    (RefreshCoder, (Refresh,)),
    (FoldedCoder, (Folded,)),
    (LaterCoder, (Later,)),
    (MetricsCoder, (Binary, Multiclass, Regression, Distortion)),
    (MeasuredCoder, (Measured,)),
)


def _register() -> None:
    for coder, kinds in _CODERS:
        Coder.register_urn(_URN.format(coder.name), None, _maker(coder))
        for kind in kinds:
            registry.register_coder(kind, coder)


def _maker(coder: type[_ArtefactCoder]) -> Callable[..., _ArtefactCoder]:
    return lambda payload, components, context: coder()


_register()
