"""Beam coders over the artefact codec: nothing that travels is pickled.

Importing this module registers one coder a type (found by type hint) and one URN a coder (found by workers).
`install` makes remote workers import it before they decode anything.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam import Pipeline
from apache_beam.coders import Coder, registry
from apache_beam.options.pipeline_options import SetupOptions

from beam_ml.algorithms import algorithm_of, find
from beam_ml.artefact import records
from beam_ml.artefact.envelope import decode, encode
from beam_ml.beam.elements import Folded, Measured, Rejected, Slice
from beam_ml.core.accumulation import Accumulation, size_bytes
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.gate import Verdict
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import Binary, Distortion, Regression
from beam_ml.core.model import Model
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Refresh
from beam_ml.errors import CorruptArtefact
from beam_ml.formats.block import Block, Reject

__all__ = [
    "AccumulationCoder",
    "BatchCoder",
    "BlockCoder",
    "FoldedCoder",
    "LearnerCoder",
    "MeasuredCoder",
    "MetricsCoder",
    "ModelCoder",
    "OptionalLearnerCoder",
    "ProgressCoder",
    "RefreshCoder",
    "RejectedCoder",
    "SliceCoder",
    "install",
]

_URN = "beam_ml:coder:{}:v1"
_OVERHEAD_BYTES = 1024
"""What an element's header comes to, about: sizes given to Beam are estimates."""


def install(pipeline: Pipeline) -> None:
    """Have this pipeline's workers import the coders at their start."""
    setup = pipeline.options.view_as(SetupOptions)
    plugins = list(setup.beam_plugins or [])
    if __name__ not in plugins:
        setup.beam_plugins = [*plugins, __name__]


# --- elements as bytes -----------------------------------------------------------------------------------------------

Arrays = dict[str, np.ndarray]


def _table(batch: pa.RecordBatch) -> np.ndarray:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return np.frombuffer(sink.getvalue(), dtype=np.uint8)


def _untable(data: np.ndarray) -> pa.RecordBatch:
    try:
        with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
            batch = reader.read_next_batch()
            batch.validate(full=True)
            return batch
    except (pa.ArrowException, OSError, StopIteration) as error:
        message = f"The block's columns are no Arrow stream: {error}."
        raise CorruptArtefact(message) from error


def _origin_out(origin: Origin | None) -> list[str] | None:
    return None if origin is None else [origin.source, origin.partition]


def _encode_block(block: Block) -> bytes:
    arrays: Arrays = {"columns": _table(block.batch)}
    given = {"position": block.position, "position_end": block.position_end}
    for i, reject in enumerate(block.rejected):
        given |= {f"reject/{i}/position": reject.position, f"reject/{i}/position_end": reject.position_end}
    arrays |= {name: value for name, value in given.items() if value is not None}
    meta = {
        "origin": _origin_out(block.origin),
        "span": [block.start, block.stop],
        "rejected": [[reject.reason, list(reject.detail)] for reject in block.rejected],
    }
    return encode("block", meta, arrays)


def _decode_block(data: bytes) -> Block:
    found = decode(data, "block")
    meta, arrays = found.meta, found.arrays
    rejected = tuple(
        Reject(reason, arrays[f"reject/{i}/position"], arrays.get(f"reject/{i}/position_end"), tuple(detail))
        for i, (reason, detail) in enumerate(meta["rejected"])
    )
    origin = None if meta["origin"] is None else Origin(*meta["origin"])
    start, stop = meta["span"]
    position, end = arrays.get("position"), arrays.get("position_end")
    return Block(_untable(arrays["columns"]), origin, position, end, start, stop, rejected)


def _bytes_as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def _encode_slice(value: Slice) -> bytes:
    return encode("slice", {"late": value.late}, {"rows": _bytes_as_array(records.encode_batch(value.rows))})


def _decode_slice(data: bytes) -> Slice:
    found = decode(data, "slice")
    return Slice(records.decode_batch(found.arrays["rows"].tobytes()), found.meta["late"])


def _encode_measured(value: Measured) -> bytes:
    meta = {"versions": sorted(map(list, value.versions.items()))}
    return encode("measured", meta, {"metrics": _bytes_as_array(records.encode_metrics(value.metrics))})


def _decode_measured(data: bytes) -> Measured:
    found = decode(data, "measured")
    return Measured(
        records.decode_metrics(found.arrays["metrics"].tobytes()), {v: rows for v, rows in found.meta["versions"]}
    )


def _encode_rejected(value: Rejected) -> bytes:
    meta = {
        "origin": [value.source, value.partition],
        "reason": value.reason,
        "count": value.count,
        "detail": list(value.detail),
    }
    return encode("rejected", meta, {"position": value.position})


def _decode_rejected(data: bytes) -> Rejected:
    found = decode(data, "rejected")
    meta = found.meta
    source, partition = meta["origin"]
    return Rejected(source, partition, meta["reason"], found.arrays["position"], meta["count"], tuple(meta["detail"]))


def _numbers_out(values: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """JSON knows no NaN or infinity: they go as text, which `float` reads back."""
    return {
        name: {key: float(value) if math.isfinite(value) else str(float(value)) for key, value in entry.items()}
        for name, entry in values.items()
    }


def _numbers_in(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {name: {key: float(value) for key, value in entry.items()} for name, entry in values.items()}


def _encode_refresh(value: Refresh) -> bytes:
    models = {f"models/{name}": _bytes_as_array(_encode_model(model)) for name, model in value.models.items()}
    progress = {"progress": _bytes_as_array(records.encode_progress(value.progress))}
    meta = {
        "number": value.number,
        "window_end": value.window_end,
        "measured": _numbers_out(value.measured),
        "progressive": _numbers_out(value.progressive),
        "champion": value.champion,
        "verdict": [value.verdict.accepted, list(value.verdict.reasons)],
        "discarded": value.discarded,
    }
    return encode("refresh", meta, models | progress)


def _decode_refresh(data: bytes) -> Refresh:
    found = decode(data, "refresh")
    meta = found.meta
    accepted, reasons = meta["verdict"]
    return Refresh(
        number=meta["number"],
        window_end=meta["window_end"],
        progress=records.decode_progress(found.arrays["progress"].tobytes()),
        measured=_numbers_in(meta["measured"]),
        progressive=_numbers_in(meta["progressive"]),
        champion=meta["champion"],
        verdict=Verdict(accepted, tuple(reasons)),
        models={
            name.removeprefix("models/"): records.decode_model(value.tobytes(), find)
            for name, value in sorted(found.arrays.items())
            if name.startswith("models/")
        },
        discarded=meta["discarded"],
    )


def _encode_folded(value: Folded) -> bytes:
    refreshes = {str(i): _bytes_as_array(_encode_refresh(one)) for i, one in enumerate(value.refreshes)}
    learner = {"learner": _bytes_as_array(_encode_learner(value.learner))}
    return encode("folded", {"refreshes": len(refreshes)}, refreshes | learner)


def _decode_folded(data: bytes) -> Folded:
    found = decode(data, "folded")
    learner = records.decode_learner(found.arrays["learner"].tobytes(), find)
    return Folded(
        learner, tuple(_decode_refresh(found.arrays[str(i)].tobytes()) for i in range(found.meta["refreshes"]))
    )


def _encode_accumulation(value: Accumulation) -> bytes:
    return records.encode_accumulation(algorithm_of(value.spec), value.spec, value)


def _decode_accumulation(data: bytes) -> Accumulation:
    return records.decode_accumulation(data, find)[1]


def _encode_learner(value: Learner) -> bytes:
    return records.encode_learner(algorithm_of(value.spec), value)


def _encode_model(value: Model) -> bytes:
    return records.encode_model(algorithm_of(value.spec), value)


# --- coders ----------------------------------------------------------------------------------------------------------


class _ArtefactCoder(Coder):
    """Base of the coders: a name, two functions, and a size that costs no encoding (Beam asks for it often)."""

    name = ""
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]
    deterministic = True

    def encode(self, value: Any) -> bytes:
        """Give the element as bytes."""
        return type(self).write(value)

    def decode(self, encoded: bytes) -> Any:
        """Give the element back."""
        return type(self).read(encoded)

    def is_deterministic(self) -> bool:
        """Tell whether equal elements give equal bytes."""
        return self.deterministic

    def estimate_size(self, value: Any) -> int:
        """Give about the number of bytes."""
        return self.held(value) + _OVERHEAD_BYTES

    def held(self, value: Any) -> int:
        """Give the bytes of the arrays held."""
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

    name, write, read, deterministic = "block", staticmethod(_encode_block), staticmethod(_decode_block), False

    def held(self, value: Block) -> int:
        """Give the bytes of the columns."""
        return int(value.batch.nbytes)


class BatchCoder(_ArtefactCoder):
    """A batch artefact."""

    name, write, read = "batch", staticmethod(records.encode_batch), staticmethod(records.decode_batch)

    def held(self, value: Batch) -> int:
        """Give the bytes of the arrays."""
        return value.nbytes


class SliceCoder(_ArtefactCoder):
    """A batch artefact within."""

    name, write, read = "slice", staticmethod(_encode_slice), staticmethod(_decode_slice)

    def held(self, value: Slice) -> int:
        """Give the bytes of the rows."""
        return value.rows.nbytes


class RejectedCoder(_ArtefactCoder):
    """Places as an array, everything else in the header."""

    name, write, read = "rejected", staticmethod(_encode_rejected), staticmethod(_decode_rejected)

    def held(self, value: Rejected) -> int:
        """Give the bytes of the places."""
        return int(value.position.nbytes)


class ProgressCoder(_ArtefactCoder):
    """A progress artefact."""

    name, write, read = "progress", staticmethod(records.encode_progress), staticmethod(records.decode_progress)


class AccumulationCoder(_ArtefactCoder):
    """An accumulation artefact; its header holds the spec."""

    name, write, read = "accumulation", staticmethod(_encode_accumulation), staticmethod(_decode_accumulation)

    def held(self, value: Accumulation) -> int:
        """Give the bytes of partials and sample."""
        return size_bytes(value)


class LearnerCoder(_ArtefactCoder):
    """A learner artefact: what the registry stores, too."""

    name, write = "learner", staticmethod(_encode_learner)
    read = staticmethod(functools.partial(records.decode_learner, find=find))


def _encode_optional_learner(value: Learner | None) -> bytes:
    return b"" if value is None else _encode_learner(value)


def _decode_optional_learner(data: bytes) -> Learner | None:
    return records.decode_learner(data, find) if data else None


class OptionalLearnerCoder(_ArtefactCoder):
    """A learner artefact, or no bytes for no learner."""

    name = "optional_learner"
    write, read = staticmethod(_encode_optional_learner), staticmethod(_decode_optional_learner)


class ModelCoder(_ArtefactCoder):
    """A model artefact: what the registry stores, too."""

    name, write = "model", staticmethod(_encode_model)
    read = staticmethod(functools.partial(records.decode_model, find=find))


class RefreshCoder(_ArtefactCoder):
    """Figures in the header, models and progress as artefacts within; `Refresh.models` must hold `Model` records."""

    name, write, read = "refresh", staticmethod(_encode_refresh), staticmethod(_decode_refresh)


class FoldedCoder(_ArtefactCoder):
    """A learner artefact and refreshes within."""

    name, write, read = "folded", staticmethod(_encode_folded), staticmethod(_decode_folded)


class MetricsCoder(_ArtefactCoder):
    """A metrics artefact."""

    name, write, read = "metrics", staticmethod(records.encode_metrics), staticmethod(records.decode_metrics)


class MeasuredCoder(_ArtefactCoder):
    """A metrics artefact within."""

    name, write, read = "measured", staticmethod(_encode_measured), staticmethod(_decode_measured)


_CODERS: tuple[tuple[type[_ArtefactCoder], tuple[Any, ...]], ...] = (
    (BlockCoder, (Block,)),
    (BatchCoder, (Batch,)),
    (SliceCoder, (Slice,)),
    (RejectedCoder, (Rejected,)),
    (ProgressCoder, (Progress,)),
    (AccumulationCoder, (Accumulation,)),
    (LearnerCoder, (Learner,)),
    (OptionalLearnerCoder, ()),
    (ModelCoder, (Model,)),
    (RefreshCoder, (Refresh,)),
    (FoldedCoder, (Folded,)),
    (MetricsCoder, (Binary, Regression, Distortion)),
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
