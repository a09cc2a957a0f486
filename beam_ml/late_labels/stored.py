"""The bytes of a join's state: one artefact, so that a trainer stores it with the learner in one version."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from beam_ml.artefact.envelope import Envelope, decode, encode
from beam_ml.artefact.guard import guarded
from beam_ml.core.batch import Origin
from beam_ml.errors import CorruptArtefact, MergeRefused
from beam_ml.formats.arrow_bytes import from_stream, to_stream
from beam_ml.kernels.late_labels.resolve import AHEAD, DROPPED, FRESH
from beam_ml.late_labels.spec import LateLabels
from beam_ml.late_labels.state import NO_ORIGIN, Items, State

__all__ = ["KIND", "from_bytes", "to_bytes"]

KIND = "late_labels"
_ARRAYS = {"time": np.int64, "status": np.uint8, "label": np.float64, "place": np.int64, "origin": np.int32}


def to_bytes(spec: LateLabels, state: State) -> bytes:
    """Return a state as bytes; equal states have equal bytes.

    >>> spec = LateLabels(id="tx", time="at", label="fraud", reported="at", maturity="1h")
    >>> from_bytes(spec, to_bytes(spec, State.empty(3)))
    State(shard 3, 0 rows, 0 reports)
    """
    arrays: dict[str, np.ndarray] = {}
    for name, items in (("rows", state.rows), ("reports", state.reports)):
        arrays |= {f"{name}/{one}": getattr(items, one) for one in _ARRAYS}
        arrays[f"{name}/id"] = to_stream(pa.record_batch({"id": items.id}))
    if state.columns is not None:
        arrays["columns"] = to_stream(state.columns)
    meta = {
        "spec": spec.shape,
        "shard": state.shard,
        "clock": state.clock,
        "released": state.released,
        "counts": dict(state.counts),
        "origins": [[one.source, one.partition] for one in state.origins],
    }
    return encode(KIND, meta, arrays)


def from_bytes(spec: LateLabels, data: bytes) -> State:
    """Return the state of bytes.

    Raises:
        CorruptArtefact: they are damaged, or their arrays do not fit together.
        UnsupportedVersion, WrongKind: they are of another format, or no such state.
        MergeRefused: they are of a join of another spec.
    """
    envelope = decode(data, KIND)
    if envelope.meta.get("spec") != spec.shape:
        message = f"A join resumes from a state of its own spec, {spec.shape}; got one of {envelope.meta.get('spec')}."
        raise MergeRefused(message)
    return guarded(_read, envelope)


def _read(envelope: Envelope) -> State:
    meta, arrays = envelope.meta, envelope.arrays
    origins = tuple(Origin(_text(source), _text(partition)) for source, partition in meta["origins"])
    rows = _items(arrays, "rows", len(origins), FRESH, DROPPED)
    reports = _items(arrays, "reports", len(origins), FRESH, AHEAD)
    columns = from_stream(arrays["columns"], "state") if "columns" in arrays else None
    if (0 if columns is None else columns.num_rows) != len(rows):
        _refuse(f"columns must have {len(rows)} rows; got {0 if columns is None else columns.num_rows}")
    if list(origins) != sorted(set(origins)):
        _refuse("origins must rise")
    counts = Counter({_text(name): _whole(n) for name, n in meta["counts"].items()})
    clock = meta["clock"]
    if not isinstance(clock, int) or isinstance(clock, bool) or abs(clock) > 1 << 62:
        _refuse(f"clock must be a whole number of µs; got {clock!r}")
    return State(_whole(meta["shard"]), clock, _whole(meta["released"]), counts, rows, columns, reports, origins)


def _items(arrays: Any, name: str, n_origins: int, least: int, most: int) -> Items:
    ids = from_stream(arrays[f"{name}/id"], "state")
    if ids.schema.names != ["id"] or ids.column(0).type != pa.large_string() or ids.column(0).null_count:
        _refuse(f"{name}/id must be one column of large_string without nulls; got {ids.schema}")
    values = {one: arrays[f"{name}/{one}"] for one in _ARRAYS}
    for one, array in values.items():
        if array.dtype != _ARRAYS[one] or array.shape != (ids.num_rows,):
            _refuse(f"{name}/{one} must be {np.dtype(_ARRAYS[one])} of {ids.num_rows}; got {array.dtype} {array.shape}")
    for one, low, high in (("status", least, most), ("origin", NO_ORIGIN, n_origins - 1), ("time", -(2**54), 2**54)):
        if values[one].size and not (low <= values[one].min() and values[one].max() <= high):
            _refuse(f"{name}/{one} must lie in [{low}, {high}]")
    return Items(ids.column(0), **values)


def _refuse(what: str) -> None:
    message = f"The state's {what}."
    raise CorruptArtefact(message)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        _refuse(f"names must be texts; got {value!r}")
    return str(value)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _refuse(f"numbers must be whole and >= 0; got {value!r}")
    return int(value)
