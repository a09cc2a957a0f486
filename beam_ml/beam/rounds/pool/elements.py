"""What goes between the trainer and a process of its pool, as the head and buffers of a message; nothing is pickled."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from beam_ml.beam.wire.codec import decode_accumulation, encode_accumulation
from beam_ml.beam.wire.elements import Slice
from beam_ml.beam.wire.references import AnchorRef
from beam_ml.core.accumulation import Accumulation
from beam_ml.core.batch import ROW_COLUMNS, Batch, Origin

__all__ = ["from_message", "to_message", "values_in", "values_out"]

_ARRAYS = ("X", "indptr", "indices", "values", *ROW_COLUMNS)


def values_out(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a round's values (`pipeline.round_values`) as JSON values."""
    anchor = values["anchor_ref"]
    return {**values, "anchor_ref": None if anchor is None else dataclasses.asdict(anchor)}


def values_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Read what `values_out` returns."""
    anchor = values["anchor_ref"]
    return {**values, "anchor_ref": None if anchor is None else AnchorRef(**anchor)}


def to_message(end: int, piece: Slice | Accumulation) -> tuple[dict[str, Any], list[bytes | np.ndarray]]:
    """Return rows, or an accumulation, of a window end as head and buffers; the arrays of rows are not copied."""
    if isinstance(piece, Accumulation):
        return {"kind": "accumulation", "end": end}, [encode_accumulation(piece)]
    rows = piece.rows
    arrays = {name: getattr(rows, name) for name in _ARRAYS}
    kept = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
    origin = None if rows.origin is None else [rows.origin.source, rows.origin.partition]
    meta = {"n_features": rows.n_features, "origin": origin, "names": rows.names}
    shapes = [[name, array.dtype.str, array.shape] for name, array in kept.items()]
    facts = {"late": piece.late, "set_back": piece.set_back, "rows": meta, "arrays": shapes}
    return {"kind": "rows", "end": end, **facts}, [*kept.values()]


def from_message(head: Mapping[str, Any], buffers: Sequence[np.ndarray]) -> tuple[int, Slice | Accumulation]:
    """Read what `to_message` returns.

    >>> from beam_ml import Batch
    >>> head, [rows] = to_message(10, Slice(Batch.dense([[1.0], [2.0]])))
    >>> end, piece = from_message(head, [rows.reshape(-1).view(np.uint8)])
    >>> end, piece.rows.X.tolist()
    (10, [[1.0], [2.0]])
    """
    if head["kind"] == "accumulation":
        return head["end"], decode_accumulation(buffers[0].tobytes())
    arrays: dict[str, Any] = dict.fromkeys(_ARRAYS)
    arrays |= {
        name: data.view(dtype).reshape(shape) if math.prod(shape) else np.empty(shape, dtype)
        for (name, dtype, shape), data in zip(head["arrays"], buffers, strict=True)
    }
    meta = head["rows"]
    facts: dict[str, Any] = {
        "n_features": meta["n_features"],
        "origin": None if meta["origin"] is None else Origin(*meta["origin"]),
        "names": None if meta["names"] is None else tuple(meta["names"]),
    }
    return head["end"], Slice(Batch(**arrays, **facts), head["late"], head["set_back"])
