"""Learners, models, accumulations and batches as artefacts: the arrays by path, everything else in the JSON header."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_ml.artefact import written
from beam_ml.artefact.cursors import cursors_from_json, cursors_to_json
from beam_ml.artefact.envelope import Envelope, decode, encode
from beam_ml.artefact.guard import Find, found, guarded
from beam_ml.artefact.reading import (
    Reader,
    finite,
    lengths_of,
    number_of,
    origin_of,
    ranges_of,
    refuse,
    text_of,
    time_of,
    weight_of,
    whole,
)
from beam_ml.core.accumulation import Accumulation, Part
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import to_arrays
from beam_ml.core.batch import ROW_COLUMNS, Batch
from beam_ml.core.clocks import classes
from beam_ml.core.decay import AsOf
from beam_ml.core.figures import KINDS
from beam_ml.core.held import Held
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import Metrics
from beam_ml.core.model import Model
from beam_ml.core.progress import Progress
from beam_ml.core.sample import Sample
from beam_ml.core.spec import ModelSpec, Spec
from beam_ml.errors import UnsupportedVersion

__all__ = [
    "decode_accumulation",
    "decode_batch",
    "decode_batch_with",
    "decode_learner",
    "decode_metrics",
    "decode_model",
    "decode_progress",
    "encode_accumulation",
    "encode_batch",
    "encode_learner",
    "encode_metrics",
    "encode_model",
    "encode_progress",
]

Arrays = dict[str, np.ndarray]
_METRICS: Mapping[str, type] = {kind.name: record for record, kind in KINDS.items()}
_SAMPLE: Mapping[str, tuple[np.dtype[Any], bool]] = {
    "order": (np.dtype(np.float64), False),
    "identity": (np.dtype(np.uint64), False),
    "kind": (np.dtype(np.int32), False),
    "tau": (np.dtype(np.float64), True),
    "mass": (np.dtype(np.float64), True),
}
"""Name → dtype, and whether there is one per class (else one per row)."""


def _put(into: Arrays, path: str, arrays: Mapping[str, np.ndarray]) -> None:
    into.update({path + name: array for name, array in arrays.items()})


# --- the parts -------------------------------------------------------------------------------------------------------


def _batch_out(batch: Batch, path: str, into: Arrays) -> dict[str, Any]:
    for name in ("X", "indptr", "indices", "values", *ROW_COLUMNS):
        array = getattr(batch, name)
        if array is not None:
            into[path + name] = array
    origin = batch.origin
    meta = {"n_features": batch.n_features, "origin": None if origin is None else [origin.source, origin.partition]}
    return meta | written.names_stored(batch.names)


def _batch_in(meta: Mapping[str, Any], arrays: Reader) -> Batch:
    origin = None if meta["origin"] is None else origin_of(*meta["origin"])
    columns: dict[str, Any] = {name: arrays.get(name) for name in ROW_COLUMNS}
    if arrays.get("X") is not None:
        rows = Batch.dense(arrays["X"], origin=origin, **columns, time_unit="us")
        return rows.replace(names=written.names_of(meta, rows.n_features))
    sparse = arrays["indptr"], arrays["indices"], arrays["values"], whole(meta, "n_features")
    return Batch.csr(*sparse, origin=origin, **columns, time_unit="us")


def _progress_out(progress: Progress, path: str, into: Arrays) -> dict[str, Any]:
    covered = []
    for i, (origin, ranges) in enumerate(sorted(progress.covered.items())):
        covered.append([origin.source, origin.partition])
        into[f"{path}covered/{i}"] = ranges
    newest = [[o.source, o.partition, time] for o, time in sorted(progress.latest.items())]
    return {**progress.summary(), "places": progress.places, "covered": covered, "latest": newest}


def _progress_in(meta: Mapping[str, Any], arrays: Reader) -> Progress:
    covered = {origin_of(*origin): ranges_of(arrays, f"covered/{i}") for i, origin in enumerate(meta["covered"])}
    return Progress(
        rows=whole(meta, "rows"),
        weight=weight_of(meta, "weight"),
        bytes=whole(meta, "bytes"),
        time_min=time_of(meta["time_min"]),
        time_max=time_of(meta["time_max"]),
        late=whole(meta, "late"),
        rejected={str(reason): whole(meta["rejected"], reason) for reason in meta["rejected"]},
        adjusted={str(what): whole(meta["adjusted"], what) for what in meta.get("adjusted", ())},
        covered=covered,
        latest={
            origin_of(source, partition): number_of(time, "latest time") for source, partition, time in meta["latest"]
        },
        places=whole(meta, "places"),
    )


def _sample_out(sample: Sample, path: str, into: Arrays) -> dict[str, Any]:
    _put(into, path, {name: getattr(sample, name) for name in _SAMPLE})
    if sample.importance is not None:
        into[path + "importance"] = sample.importance
    rows = None if sample.rows is None else _batch_out(sample.rows, path + "rows/", into)
    top = {} if sample.top is None else {"top": _sample_out(sample.top, path + "top/", into)}
    return {"rows": rows, "time": sample.time, "too_wide": sample.too_wide} | top


def _are_labels(spec: Spec, labels: np.ndarray | None) -> bool:
    if labels is None or not np.isfinite(labels).all():
        return False
    known = (labels >= 0) & (labels < spec.n_label_classes) & (labels == np.rint(labels))
    return spec.label_rule == "real" or bool(known.all())


def _sample_in(spec: Spec, meta: Mapping[str, Any], arrays: Reader) -> Sample:
    rows = None if meta["rows"] is None else _batch_in(meta["rows"], arrays.at("rows"))
    n, c = 0 if rows is None else len(rows), classes(spec)
    columns: dict[str, Any] = {name: arrays[name] for name in _SAMPLE} | {"importance": arrays.get("importance")}
    for name, (dtype, by_class) in _SAMPLE.items():
        array, length = columns[name], c if by_class else n
        if array.dtype != dtype or array.shape != (length,):
            refuse(f"a sample's {name} as {dtype} ({length},); got {array.dtype} {array.shape}")
    if rows is not None and rows.n_features != spec.n_features:
        refuse(f"a sample of {spec.n_features} features; got {rows.n_features}")
    if rows is not None and spec.label_rule != "none" and not _are_labels(spec, rows.label):
        refuse(f"a sample's labels as {spec.algorithm} learns from: {spec.label_rule}")
    if n and not 0 <= int(columns["kind"].min()) <= int(columns["kind"].max()) < c:
        refuse(f"a sample's kind in [0, {c})")
    if c > 1 and rows is not None and rows.label is not None and np.any(columns["kind"] != rows.label):
        refuse("a sample whose kinds are the labels of its rows")
    weights = columns["importance"]
    if weights is not None and (weights.dtype != np.float64 or weights.shape != (n,) or np.any(weights < 1.0)):
        refuse(f"a sample's importance as float64 ({n},) of at least 1; got {weights.dtype} {weights.shape}")
    columns["top"] = _sample_in(spec, meta["top"], arrays.at("top")) if "top" in meta else None
    return Sample(rows, **columns, time=time_of(meta["time"]), too_wide=whole(meta, "too_wide"))


def _accumulation_out(value: Accumulation, path: str, into: Arrays) -> dict[str, Any]:
    parts = []
    for number, part in sorted(value.parts.items()):
        at = f"{path}parts/{number}/"
        _put(into, at + "partial/", to_arrays(part.dated.summary))
        progress = _progress_out(part.progress, at + "progress/", into)
        parts.append({"anchor": number, "time": part.dated.time, "progress": progress})
    return {
        "parts": parts,
        "rest": _progress_out(value.rest, path + "rest/", into),
        "sample": _sample_out(value.sample, path + "sample/", into),
        **written.names_stored(value.names),
    }


def _accumulation_in(algorithm: Algorithm, spec: Spec, meta: Mapping[str, Any], arrays: Reader) -> Accumulation:
    parts: dict[int, Part] = {}
    # Rows that were all rejected are counted without any part: there are no arrays then, however wide the spec.
    lengths = lengths_of(algorithm.empty, spec, arrays.held) if meta["parts"] else {}
    for part in meta["parts"]:
        at = arrays.at(f"parts/{part['anchor']}")
        dated = AsOf(at.at("partial").record(algorithm.partial, lengths), time_of(part["time"]))
        parts[number_of(part["anchor"], "anchor")] = Part(dated, _progress_in(part["progress"], at.at("progress")))
    rest = _progress_in(meta["rest"], arrays.at("rest"))
    sample = _sample_in(spec, meta["sample"], arrays.at("sample"))
    return Accumulation(spec, parts, rest, sample, written.names_of(meta, spec.n_features))


def _metrics_out(value: Metrics, path: str, into: Arrays) -> str:
    _put(into, path, to_arrays(value))
    return KINDS[type(value)].name


def _metrics_in(name: str, arrays: Reader) -> Metrics:
    value: Metrics = arrays.record(_METRICS[name])
    return value


def _spec_meta(algorithm: Algorithm, spec: Spec) -> dict[str, Any]:
    return {
        "algorithm": algorithm.name,
        "algorithm_version": algorithm.version,
        "spec": spec.to_dict(),
        "fingerprint": spec.fingerprint,
    }


def _spec_in(find: Find, meta: Mapping[str, Any]) -> tuple[Algorithm, Spec]:
    algorithm = found(find, meta["algorithm"])
    if meta["algorithm_version"] != algorithm.version:
        message = (
            f"{algorithm.name} artefacts of version {algorithm.version} can be read; got {meta['algorithm_version']}."
        )
        raise UnsupportedVersion(message)
    spec = algorithm.spec.parse(meta["spec"])
    if spec.algorithm != algorithm.name:
        refuse(f"a spec of {algorithm.name}, as its header says; got one of {spec.algorithm}")
    return algorithm, spec


def _candidate(text: Any) -> str:
    """Return the JSON of a model spec, as it is stored."""
    if not isinstance(text, str) or not isinstance(json.loads(text)["kind"], str):
        refuse(f"candidates as JSON of model specs; got {text!r}")
    return text


def encode_learner(algorithm: Algorithm, learner: Learner) -> bytes:
    """Return a learner as bytes; equal learners yield equal bytes."""
    arrays: Arrays = {}
    _put(arrays, "state/", to_arrays(learner.state))
    meta = {
        **_spec_meta(algorithm, learner.spec),
        "time": learner.dated.time,
        "progress": _progress_out(learner.progress, "progress/", arrays),
        "sample": _sample_out(learner.sample, "sample/", arrays),
        "metrics": {n: _metrics_out(v, f"metrics/{n}/", arrays) for n, v in sorted(learner.metrics.items())},
        "metrics_time": learner.metrics_time,
        "candidates": dict(sorted(learner.candidates.items())),
        "champion": learner.champion,
        "refresh": learner.refresh,
        **({"shared": learner.coalesced} if learner.coalesced else {}),
        "cold": learner.last_cold_version,
        "folded_through": learner.folded_through,
        "discarded": learner.discarded,
        "history": [dict(entry) for entry in learner.history],
        **written.stored(learner),
        "cursors": cursors_to_json(learner.cursors),
        "pending": [
            {"end": end, "accumulation": _accumulation_out(value, f"pending/{end}/", arrays)}
            for end, value in sorted(learner.pending.items())
        ],
    }
    return encode("learner", meta, arrays)


def _state_in(algorithm: Algorithm, spec: Spec, arrays: Reader, lengths: Mapping[str, int]) -> Any:
    state = arrays.record(algorithm.state, lengths)
    if algorithm.features_held is not None:
        algorithm.features_held(spec, state)  # which refuses another spec's
    return state


def decode_learner(data: bytes, find: Find) -> Learner:
    """Return the learner.

    Args:
        data: the artefact.
        find: name → algorithm, of those that the caller takes (`beam_ml.algorithms.finder`).

    Raises:
        ArtefactError: damaged bytes, another kind, an unknown version, an algorithm that the caller does not take.
    """

    def read(envelope: Envelope) -> Learner:
        meta, arrays = envelope.meta, Reader(envelope.arrays)
        algorithm, spec = _spec_in(find, meta)
        lengths = lengths_of(algorithm.init, spec, arrays.held)
        return Learner(
            spec=spec,
            dated=AsOf(_state_in(algorithm, spec, arrays.at("state"), lengths), time_of(meta["time"])),
            progress=_progress_in(meta["progress"], arrays.at("progress")),
            sample=_sample_in(spec, meta["sample"], arrays.at("sample")),
            metrics={n: _metrics_in(kind, arrays.at(f"metrics/{n}")) for n, kind in meta["metrics"].items()},
            metrics_time=time_of(meta["metrics_time"]),
            candidates={name: _candidate(text) for name, text in meta["candidates"].items()},
            champion=text_of(meta, "champion"),
            refresh=whole(meta, "refresh"),
            coalesced=whole(meta, "shared") if "shared" in meta else 0,
            last_cold_version=whole(meta, "cold"),
            folded_through=None
            if meta["folded_through"] is None
            else number_of(meta["folded_through"], "folded_through"),
            discarded=whole(meta, "discarded"),
            history=tuple({name: finite(value, name) for name, value in entry.items()} for entry in meta["history"]),
            cursors=cursors_from_json(meta["cursors"]),
            pending={
                number_of(window["end"], "window end"): _accumulation_in(
                    algorithm, spec, window["accumulation"], arrays.at(f"pending/{window['end']}")
                )
                for window in meta["pending"]
            },
            **written.read(spec, meta),
        )

    return guarded(read, decode(data, "learner"))


def encode_model(algorithm: Algorithm, model: Model) -> bytes:
    """Return a model as bytes."""
    meta = {**_spec_meta(algorithm, model.spec), "model_spec": model.model_spec.to_dict(), "facts": dict(model.facts)}
    return encode("model", meta, to_arrays(model.arrays))


def _facts(spec: Spec, facts: Any) -> dict[str, Any]:
    """Return what is known about a model, after a look at what predictions use."""
    if not isinstance(facts, dict):
        refuse(f"facts as an object; got {facts!r:.80}")
    written.read(spec, {name: facts[name] for name in ("labels", "names") if facts.get(name) is not None})
    return facts


def decode_model(data: bytes, find: Find) -> Model:
    """Return the model; raises ArtefactError as `decode_learner` does."""

    def read(envelope: Envelope) -> Model:
        algorithm, spec = _spec_in(find, envelope.meta)
        kind = algorithm.models[envelope.meta["model_spec"]["kind"]]
        chosen: ModelSpec = kind.spec.parse(envelope.meta["model_spec"])
        arrays = Reader(envelope.arrays).record(kind.model, {"d": spec.n_features})
        if isinstance(arrays, Held) and int(arrays.width) != spec.n_features:
            refuse(f"a model of {spec.n_features} features, as its spec says; got {int(arrays.width)}")
        return Model(spec, chosen, arrays, _facts(spec, envelope.meta["facts"]))

    return guarded(read, decode(data, "model"))


def encode_accumulation(algorithm: Algorithm, spec: Spec, value: Accumulation) -> bytes:
    """Return an accumulation as bytes."""
    arrays: Arrays = {}
    meta = {**_spec_meta(algorithm, spec), "accumulation": _accumulation_out(value, "", arrays)}
    return encode("accumulation", meta, arrays)


def decode_accumulation(data: bytes, find: Find) -> tuple[Spec, Accumulation]:
    """Return the accumulation and its spec; raises ArtefactError as `decode_learner` does."""

    def read(envelope: Envelope) -> tuple[Spec, Accumulation]:
        algorithm, spec = _spec_in(find, envelope.meta)
        return spec, _accumulation_in(algorithm, spec, envelope.meta["accumulation"], Reader(envelope.arrays))

    return guarded(read, decode(data, "accumulation"))


def encode_batch(batch: Batch, kind: str = "batch", **facts: Any) -> bytes:
    """Return a batch as bytes; `facts` about it go into the same header, under another kind."""
    arrays: Arrays = {}
    return encode(kind, {**_batch_out(batch, "", arrays), **facts}, arrays)


def decode_batch(data: bytes) -> Batch:
    """Return the batch; raises ArtefactError as `decode_learner` does."""
    return decode_batch_with(data, "batch")[0]


def decode_batch_with(data: bytes, kind: str, *facts: str) -> tuple[Any, ...]:
    """Return the batch and the named facts about it; raises ArtefactError as `decode_learner` does."""
    read = lambda e: (_batch_in(e.meta, Reader(e.arrays)), *(e.meta[name] for name in facts))  # noqa: E731
    return guarded(read, decode(data, kind))


def encode_metrics(value: Metrics) -> bytes:
    """Return metrics as bytes."""
    arrays: Arrays = {}
    return encode("metrics", {"metrics": _metrics_out(value, "", arrays)}, arrays)


def decode_metrics(data: bytes) -> Metrics:
    """Return the metrics; raises ArtefactError as `decode_learner` does."""
    return guarded(lambda e: _metrics_in(e.meta["metrics"], Reader(e.arrays)), decode(data, "metrics"))


def encode_progress(value: Progress) -> bytes:
    """Return a progress as bytes."""
    arrays: Arrays = {}
    return encode("progress", {"progress": _progress_out(value, "", arrays)}, arrays)


def decode_progress(data: bytes) -> Progress:
    """Return the progress; raises ArtefactError as `decode_learner` does."""
    return guarded(lambda e: _progress_in(e.meta["progress"], Reader(e.arrays)), decode(data, "progress"))
