"""Elements as bytes: the artefact envelope around what the artefact records do not cover."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beam_ml.algorithms import algorithm_of, at_hand
from beam_ml.artefact import records
from beam_ml.artefact.envelope import decode, encode
from beam_ml.beam.wire.elements import Folded, Measured, Slice
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.batch import Origin
from beam_ml.core.gate import Verdict
from beam_ml.core.learner import Learner
from beam_ml.core.model import Model
from beam_ml.core.refresh import Refresh
from beam_ml.core.rejects import Reject
from beam_ml.formats.arrow_bytes import from_stream, to_stream
from beam_ml.formats.block import Block

__all__ = [
    "decode_accumulation",
    "decode_block",
    "decode_folded",
    "decode_measured",
    "decode_optional_learner",
    "decode_refresh",
    "decode_reject",
    "decode_slice",
    "decode_slices",
    "encode_accumulation",
    "encode_block",
    "encode_folded",
    "encode_learner",
    "encode_measured",
    "encode_model",
    "encode_optional_learner",
    "encode_refresh",
    "encode_reject",
    "encode_slice",
    "join_slices",
]

Arrays = dict[str, np.ndarray]


def _origin_out(origin: Origin | None) -> list[str] | None:
    return None if origin is None else [origin.source, origin.partition]


def _origin_in(value: Sequence[str] | None) -> Origin | None:
    return None if value is None else Origin(*value)


def encode_block(block: Block) -> bytes:
    """Return the block as bytes."""
    arrays: Arrays = {"columns": to_stream(block.batch)}
    given = {"position": block.position, "position_end": block.position_end, "recorded": block.recorded}
    arrays |= {f"reject/{i}": _bytes_as_array(encode_reject(one)) for i, one in enumerate(block.rejected)}
    arrays |= {name: value for name, value in given.items() if value is not None}
    meta = {
        "origin": _origin_out(block.origin),
        "span": [block.start, block.stop],
        "rejected": len(block.rejected),
    }
    return encode("block", meta, arrays)


def decode_block(data: bytes) -> Block:
    """Read the bytes of `encode_block`."""
    found = decode(data, "block")
    meta, arrays = found.meta, found.arrays
    rejected = tuple(decode_reject(arrays[f"reject/{i}"].tobytes()) for i in range(meta["rejected"]))
    origin = _origin_in(meta["origin"])
    start, stop = meta["span"]
    position, end = arrays.get("position"), arrays.get("position_end")
    return Block(
        from_stream(arrays["columns"], "block"), origin, position, end, start, stop, rejected, arrays.get("recorded")
    )


def _bytes_as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=np.uint8)


def encode_slice(value: Slice) -> bytes:
    """Return the slice as bytes."""
    return records.encode_batch(value.rows, "slice", late=value.late, set_back=value.set_back)


def decode_slice(data: bytes) -> Slice:
    """Read the bytes of `encode_slice`."""
    return Slice(*records.decode_batch_with(data, "slice", "late", "set_back"))


def join_slices(pieces: Sequence[bytes]) -> bytes:
    """Return slices, each encoded, as the bytes of all; their order is kept."""
    return encode("slices", {"slices": len(pieces)}, {str(i): _bytes_as_array(one) for i, one in enumerate(pieces)})


def decode_slices(data: bytes) -> list[Slice]:
    """Return the slices, in order."""
    found = decode(data, "slices")
    return [decode_slice(found.arrays[str(i)].tobytes()) for i in range(found.meta["slices"])]


def encode_measured(value: Measured) -> bytes:
    """Return the measured as bytes."""
    meta = {"versions": sorted(map(list, value.versions.items()))}
    return encode("measured", meta, {"metrics": _bytes_as_array(records.encode_metrics(value.metrics))})


def decode_measured(data: bytes) -> Measured:
    """Read the bytes of `encode_measured`."""
    found = decode(data, "measured")
    return Measured(
        records.decode_metrics(found.arrays["metrics"].tobytes()), {v: rows for v, rows in found.meta["versions"]}
    )


def encode_reject(value: Reject) -> bytes:
    """Return the reject as bytes."""
    meta = {"origin": _origin_out(value.origin), "reason": value.reason, "detail": list(value.detail)}
    arrays = {"position": value.position}
    if value.position_end is not None:
        arrays["position_end"] = value.position_end
    return encode("reject", meta, arrays)


def decode_reject(data: bytes) -> Reject:
    """Read the bytes of `encode_reject`."""
    found = decode(data, "reject")
    meta, arrays = found.meta, found.arrays
    end, detail = arrays.get("position_end"), tuple(meta["detail"])
    return Reject(meta["reason"], arrays["position"], end, detail, _origin_in(meta["origin"]))


def _numbers_out(values: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """JSON knows no NaN or infinity: they go as text, which `float` reads back."""
    return {
        name: {key: float(value) if math.isfinite(value) else str(float(value)) for key, value in entry.items()}
        for name, entry in values.items()
    }


def _numbers_in(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    return {name: {key: float(value) for key, value in entry.items()} for name, entry in values.items()}


def encode_refresh(value: Refresh) -> bytes:
    """Return the refresh as bytes."""
    models = {f"models/{name}": _bytes_as_array(encode_model(model)) for name, model in value.models.items()}
    progress = {"progress": _bytes_as_array(records.encode_progress(value.progress))}
    meta = {
        "number": value.number,
        "window_end": value.window_end,
        "measured": _numbers_out(value.measured),
        "progressive": _numbers_out(value.progressive),
        "refitted": _numbers_out(value.refitted),
        "champion": value.champion,
        "verdict": [value.verdict.accepted, list(value.verdict.reasons)],
        "discarded": value.discarded,
        "behind": [[versions, rows] for versions, rows in sorted(value.behind.items())],
    }
    return encode("refresh", meta, models | progress)


def decode_refresh(data: bytes) -> Refresh:
    """Read the bytes of `encode_refresh`."""
    found = decode(data, "refresh")
    meta = found.meta
    accepted, reasons = meta["verdict"]
    return Refresh(
        number=meta["number"],
        window_end=meta["window_end"],
        progress=records.decode_progress(found.arrays["progress"].tobytes()),
        measured=_numbers_in(meta["measured"]),
        progressive=_numbers_in(meta["progressive"]),
        refitted=_numbers_in(meta["refitted"]),
        champion=meta["champion"],
        verdict=Verdict(accepted, tuple(reasons)),
        models={
            name.removeprefix("models/"): records.decode_model(value.tobytes(), at_hand)
            for name, value in sorted(found.arrays.items())
            if name.startswith("models/")
        },
        discarded=meta["discarded"],
        behind={versions: rows for versions, rows in meta.get("behind", [])},
    )


def encode_folded(value: Folded) -> bytes:
    """Return the folded as bytes."""
    refreshes = {str(i): _bytes_as_array(encode_refresh(one)) for i, one in enumerate(value.refreshes)}
    learner = {"learner": _bytes_as_array(encode_learner(value.learner))}
    return encode("folded", {"refreshes": len(refreshes)}, refreshes | learner)


def decode_folded(data: bytes) -> Folded:
    """Read the bytes of `encode_folded`."""
    found = decode(data, "folded")
    learner = records.decode_learner(found.arrays["learner"].tobytes(), at_hand)
    return Folded(
        learner, tuple(decode_refresh(found.arrays[str(i)].tobytes()) for i in range(found.meta["refreshes"]))
    )


def encode_accumulation(value: Accumulation) -> bytes:
    """Return the accumulation as bytes."""
    return records.encode_accumulation(algorithm_of(value.spec), value.spec, value)


def decode_accumulation(data: bytes) -> Accumulation:
    """Read the bytes of `encode_accumulation`."""
    return records.decode_accumulation(data, at_hand)[1]


def encode_learner(value: Learner) -> bytes:
    """Return the learner as bytes."""
    return records.encode_learner(algorithm_of(value.spec), value)


def encode_model(value: Model) -> bytes:
    """Return the model as bytes."""
    return records.encode_model(algorithm_of(value.spec), value)


def encode_optional_learner(value: Learner | None) -> bytes:
    """Return the optional learner as bytes."""
    return b"" if value is None else encode_learner(value)


def decode_optional_learner(data: bytes) -> Learner | None:
    """Read the bytes of `encode_optional_learner`."""
    return records.decode_learner(data, at_hand) if data else None
