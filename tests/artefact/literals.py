"""Learners, models and accumulations from literal arrays, for golden bytes: no solver has a hand in them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from beam_ml.algorithms import find, spec_from
from beam_ml.core.accumulation import Accumulation, Part
from beam_ml.core.algorithm import Algorithm
from beam_ml.core.arrays import array_fields, axis_lengths
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.cursors import Cursors, FileCursor, FileId, Passes, TopicCursor
from beam_ml.core.decay import AsOf
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import Binary, Distortion, Regression
from beam_ml.core.model import Model
from beam_ml.core.progress import Progress
from beam_ml.core.sample import Sample
from beam_ml.core.spec import Spec

LENGTHS = {
    "d": 2,
    "m": 3,
    "k": 3,
    "c": 2,
    "g": 1,
    "p": 2,
    "b": 4,
    "v": 2,
    "o": 1,
    "q": 2,
    "r": 2,
    "e": 2,
    "i": 3,
    "s": 2,
    "t": 3,
    "n": 2,
    "z": 2,
    "l": 2,
    "h": 1,
}
SPECS: dict[str, dict[str, Any]] = {
    "linear.newton": {"algorithm": "linear.newton", "n_features": 2, "half_life": "14d", "seed": 3},
    "linear.adagrad": {
        "algorithm": "linear.adagrad",
        "n_features": 2,
        "learning_rates": [0.1],
        "l1": [0.01, 0.0],
        "l2": [0.0],
    },
    "fm": {"algorithm": "fm", "n_features": 2, "n_factors": 2},
    "kmeans": {"algorithm": "kmeans", "n_features": 2, "k_max": 3},
    "pca": {"algorithm": "pca", "n_features": 2},
    "pca.sketch": {"algorithm": "pca.sketch", "n_features": 2, "sketch_rows": 1},
    "deepar": {
        "algorithm": "deepar",
        "time_freq": "5H",
        "context_length": 1,
        "prediction_length": 1,
        "max_length": 1,
        "num_cells": 1,
        "num_layers": 1,
    },
    "distinct": {"algorithm": "distinct", "n_features": 2, "precision": 4},
    "quantile": {"algorithm": "quantile", "n_features": 2},
    "target": {"algorithm": "target", "n_features": 2, "buckets": 3},
    "vocabulary": {"algorithm": "vocabulary", "n_features": 2, "text_bytes": 12},
    "ntm": {"algorithm": "ntm", "n_features": 2, "num_topics": 2, "encoder_layers": [1]},
}
MODELS: dict[str, dict[str, Any]] = {
    "linear.newton.classifier": {"kind": "classifier", "l2": 0.5},
    "linear.newton.regressor": {"kind": "regressor"},
    "linear.newton.classifier_with_errors": {"kind": "classifier_with_errors"},
    "linear.newton.regressor_with_errors": {"kind": "regressor_with_errors"},
    "linear.adagrad.variant": {"kind": "variant", "index": 1},
    "linear.adagrad.classifier": {"kind": "classifier"},
    "linear.adagrad.regressor": {"kind": "regressor"},
    "fm.classifier": {"kind": "classifier"},
    "fm.regressor": {"kind": "regressor"},
    "kmeans.clusters": {"kind": "clusters", "k": 3},
    "pca.components": {"kind": "components", "n_components": 2},
    "pca.sketch.components": {"kind": "components", "n_components": 1},
    "deepar.forecast": {"kind": "forecast", "quantiles": [0.5]},
    "distinct.count": {"kind": "count"},
    "quantile.quantiles": {"kind": "quantiles", "q": [0.25, 0.5]},
    "quantile.buckets": {"kind": "buckets", "n": 3},
    "quantile.robust_scale": {"kind": "robust_scale"},
    "target.means": {"kind": "means", "smoothing": 2.0},
    "vocabulary.vocabulary": {"kind": "vocabulary", "size": 3},
    "ntm.topic_weights": {"kind": "topic_weights"},
    "ntm.topics": {"kind": "topics", "top_words": 2},
}
ORIGIN = Origin("files", "2024-01-01.parquet")


def fill(kind: type, lengths: Mapping[str, int] = LENGTHS) -> Any:
    """Return a record whose arrays count up in sevenths (or whole numbers), by field."""
    arrays = {}
    for i, field in enumerate(array_fields(kind)):
        shape = tuple(axis if isinstance(axis, int) else lengths.get(axis) or LENGTHS[axis] for axis in field.axes)
        values = (np.arange(np.prod(shape, dtype=int)) + i + 1.0).reshape(shape)
        if field.name == "counts" and shape == (2,):
            values = np.ones(shape)  # of gathered rows: they add up to the values stored
        if field.name == "loss" and field.dtype.kind == "i":
            values = np.ones(shape)  # the number of a loss that there is
        if field.name == "rows" and field.dtype.kind == "i":
            values = np.arange(3.0 - shape[0], 3.0)  # of the features, and 2, the bias
        if field.name in ("features", "width") and field.dtype.kind == "i":
            values = np.arange(2.0) if shape else np.full(shape, 2.0)  # both features of the specs
        arrays[field.name] = (values / 7.0 if field.dtype.kind == "f" else values).astype(field.dtype)
    return kind(**arrays)


def sample(spec: Spec, sparse: bool = False) -> Sample:
    columns: dict[str, Any] = {"label": [0.0, 1.0], "weight": [1.0, 2.0], "time": [5, 7]}
    if sparse:
        rows = Batch.csr([0, 1, 3], [1, 0, 1], np.array([1.5, 2.5, 3.5], np.float32), 2, **columns)
    else:
        rows = Batch.dense([[0.25, 0.5], [1.25, 1.5]], **columns)
    c = 2 if spec.n_label_classes == 2 else 1
    top = None
    if spec.algorithm == "linear.newton" and not sparse:
        top = Sample(
            rows.take([0]),
            order=np.array([-2.5]),
            identity=np.array([2**63 + 1], dtype=np.uint64),
            kind=np.zeros(1, dtype=np.int32),
            tau=np.array([0.25, np.inf]),
            mass=np.arange(1.0, c + 1.0),
            time=7,
            importance=np.array([33.0]),
        )
    return Sample(
        rows,
        order=np.array([-1.5, 0.5]),
        identity=np.array([2**63 + 1, 17], dtype=np.uint64),
        kind=np.array([0, c - 1], dtype=np.int32),
        tau=np.full(c, np.inf),
        mass=np.arange(1.0, c + 1.0),
        time=7,
        too_wide=1,
        importance=None if top is None else np.array([33.0, 490.5]),
        top=top,
    )


def progress(start: int, stop: int) -> Progress:
    return Progress(
        rows=stop - start,
        weight=float(stop - start),
        bytes=16 * (stop - start),
        time_min=5,
        time_max=7,
        late=1,
        rejected={"label outside {0, 1}": 2},
        covered={ORIGIN: np.array([[start, stop], [stop + 1, stop + 4]])},
        latest={ORIGIN: 7},
        places=stop - start + 3,
    )


def accumulation(algorithm: Algorithm, spec: Spec) -> Accumulation:
    lengths = axis_lengths(algorithm.empty(spec))
    parts = {number: Part(AsOf(fill(algorithm.partial, lengths), 7), progress(number, number + 5)) for number in (0, 9)}
    return Accumulation(spec, parts, Progress.of_range(ORIGIN, 100, 103, {"late": 3}), sample(spec, sparse=True))


def learner(name: str) -> tuple[Algorithm, Learner]:
    spec = spec_from(SPECS[name])
    algorithm = find(name)
    return algorithm, Learner(
        spec=spec,
        dated=AsOf(fill(algorithm.state, axis_lengths(algorithm.init(spec))), 7),
        progress=progress(0, 50),
        sample=sample(spec),
        metrics={"a": fill(Binary), "b": fill(Regression), "c": fill(Distortion)},
        metrics_time=11,
        candidates={"a": '{"kind":"a"}', "b": '{"kind":"b"}', "c": '{"kind":"c"}'},
        champion="a",
        refresh=4,
        last_cold_version=1,
        folded_through=86_400_000_000,
        discarded=1,
        history=({"log_loss": 0.5, "rows": 10.0},),
        cursors=Cursors(
            FileCursor(
                {"/data/a": FileId("/data/a", 1, 2)},
                {"/data/b": (FileId("/data/b", 30, 4), 5)},
                1,
                2,
                {"/data/a": FileId("/data/a", 1, 2)},
                frozenset({"/data/a"}),
            ),
            {"kafka://c/t": TopicCursor({0: 12, 10: 3}, {0: 4}, "c/first")},
            Passes(2, 3, "mse", (0.5, 0.25), (40, 10), 2, 1, "asked to"),
        ),
        pending={172_800_000_000: accumulation(algorithm, spec)},
    )


def model(name: str) -> tuple[Algorithm, Model]:
    algorithm_name, _, kind = name.rpartition(".")
    algorithm = find(algorithm_name)
    chosen = algorithm.models[kind]
    facts = {"refresh": 4, "rows": 50, "features": {"numeric": ["x", "y"]}}
    spec = spec_from(SPECS[algorithm_name])
    return algorithm, Model(spec, chosen.spec.parse(MODELS[name]), fill(chosen.model), facts)
