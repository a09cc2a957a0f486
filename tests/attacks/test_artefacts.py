"""Artefacts that somebody else wrote, with right digests: refused when they are read, or as good as any other."""

import contextlib
import functools
import random
import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from beam_ml import (
    Batch,
    Learner,
    Model,
    derive,
    distinct,
    fit,
    fm,
    kmeans,
    linear,
    merge,
    pca,
    predict,
    quantile,
    vocabulary,
)
from beam_ml.algorithms import algorithm_of, finder
from beam_ml.artefact import records
from beam_ml.artefact.envelope import decode, encode
from beam_ml.errors import ArtefactError, BeamMLError, CorruptArtefact, DeriveRefused
from tests.attacks.effort import EFFORT

SPECS: Mapping[str, Any] = {
    "newton": (linear.Newton(n_features=3), linear.Classifier()),
    "squared": (linear.Newton(n_features=3, loss="squared"), linear.Regressor()),
    "adagrad": (linear.AdaGrad(n_features=3, loss="logistic"), linear.Classifier()),
    "fm": (fm.Spec(n_features=3, n_factors=2), fm.Classifier()),
    "kmeans": (kmeans.Spec(n_features=3, k_max=4), kmeans.Clusters(k=2)),
    "pca": (pca.Spec(n_features=3), pca.Components(n_components=2)),
    "distinct": (distinct.Spec(n_features=3), distinct.Count()),
    "quantile": (quantile.Spec(n_features=3), quantile.Quantiles()),
    "vocabulary": (vocabulary.Spec(n_features=3), vocabulary.Vocabulary()),
}
VALUES = [
    None,
    True,
    -1,
    7,
    10**9,
    10**40,
    -(2**63),
    1.5,
    1e308,
    "",
    "x",
    "5",
    [],
    {},
    [[1]],
    {"a": {}},
    [None],
    ["x", "y", 1],
]


def rows(seed: int = 1) -> Batch:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3))
    return Batch.dense(x, label=(x[:, 0] > 0).astype(float), time=np.arange(60) * 1_000_000)


@functools.cache
def whole(name: str) -> tuple[Learner, Model]:
    spec, model_spec = SPECS[name]
    learner = fit(spec, [rows()])
    return learner, derive(learner, model_spec)


def encoded(name: str, kind: str, value: Any) -> bytes:
    algorithm = algorithm_of(SPECS[name][0])
    return records.encode_learner(algorithm, value) if kind == "learner" else records.encode_model(algorithm, value)


def data_of(name: str, kind: str) -> bytes:
    return encoded(name, kind, whole(name)[kind == "model"])


def decoded(data: bytes, kind: str) -> Any:
    return (records.decode_learner if kind == "learner" else records.decode_model)(data, finder())


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values in a header."""
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(leaf for key, one in inner for leaf in leaves(one, (*path, key)))]


def exchanged(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = dict(value) if isinstance(value, Mapping) else list(value)
    copy[path[0]] = exchanged(copy[path[0]], path[1:], by)
    return copy


def odd(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """Return an array of another shape or type, or with other values."""
    kind = rng.randrange(6)
    if kind == 0:
        return np.concatenate([array.reshape(-1), array.reshape(-1)])
    if kind == 1:
        return array.reshape(-1)[: array.size // 2]
    if kind == 2:
        with np.errstate(invalid="ignore"):
            return array.astype(np.int64 if array.dtype.kind == "f" else np.float64)
    if kind == 3:
        return array[None]
    if kind == 4 and array.ndim:
        return np.concatenate([array, array[:1]])
    return np.full_like(array, rng.choice([7, 0, 1, 100]))


def used(value: Learner | Model, spec: Any, model_spec: Any) -> None:
    if isinstance(value, Model):
        found = predict(value, rows())
        assert all(len(one) == 60 for one in found.values())
        return
    derive(value, model_spec)
    fit(spec, [rows(2)], learner=value)
    merge(value, fit(spec, [rows(3)]))


@pytest.mark.parametrize("kind", ["learner", "model"])
@pytest.mark.parametrize("name", SPECS)
def test_changed_bytes_are_refused(name: str, kind: str) -> None:
    rng, data = random.Random(f"{name} {kind}"), data_of(name, kind)
    for _ in range(135 * EFFORT):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(200 if rng.random() < 0.3 else len(data))
            changed[at] = rng.choice([0, 255, changed[at] ^ 1 << rng.randrange(8), rng.randrange(256)])
        if rng.random() < 0.1:
            changed = changed[: rng.randrange(len(data))]
        if changed != data:
            value = None
            with contextlib.suppress(ArtefactError):
                value = decoded(bytes(changed), kind)
            # Another spelling of the same JSON, 1E-05 for 1e-05, is the same artefact.
            assert value is None or encoded(name, kind, value) == data


@pytest.mark.parametrize("kind", ["learner", "model"])
@pytest.mark.parametrize("name", SPECS)
def test_any_signed_content_is_an_artefact_or_refused(name: str, kind: str) -> None:
    rng, before = random.Random(f"{kind} {name}"), decode(data_of(name, kind))
    paths = leaves(before.meta)
    for _ in range(85 * EFFORT):
        meta, arrays = before.meta, dict(before.arrays)
        for _ in range(rng.choice([1, 2, 3])):
            if rng.random() < 0.5:
                which = rng.choice(sorted(arrays))
                arrays[which] = odd(rng, arrays[which])
            else:
                with contextlib.suppress(KeyError, IndexError, TypeError, AttributeError):  # its place has gone
                    meta = exchanged(meta, rng.choice(paths[1:]), rng.choice(VALUES))
        with contextlib.suppress(ArtefactError):
            decoded(encode(kind, meta, arrays), kind)


@pytest.mark.parametrize("kind", ["learner", "model"])
@pytest.mark.parametrize("name", SPECS)
def test_forged_content_fails_when_it_is_read(name: str, kind: str) -> None:
    rng = random.Random(f"{name} {kind}")
    before = decode(data_of(name, kind))
    paths = leaves(before.meta)
    spec, model_spec = SPECS[name]
    for _ in range((12 if kind == "learner" else 40) * EFFORT):
        meta, arrays = before.meta, dict(before.arrays)
        if rng.random() < 0.5:
            meta = exchanged(meta, rng.choice(paths[1:]), rng.choice(VALUES))
        else:
            which = rng.choice(sorted(arrays))
            arrays[which] = odd(rng, arrays[which])
        data = encode(kind, meta, arrays)
        try:
            value = decoded(data, kind)
        except ArtefactError:
            continue
        try:
            used(value, spec, model_spec)
        except BeamMLError as error:
            assert not isinstance(error, ArtefactError)  # noqa: PT017


@pytest.mark.parametrize("name", ["newton", "squared", "adagrad", "fm"])
@pytest.mark.parametrize("loss", [7_000, -1])
def test_a_loss_that_there_is_not(name: str, loss: int) -> None:
    before = decode(data_of(name, "model"))
    data = encode("model", before.meta, {**before.arrays, "loss": np.int64(loss)})
    with pytest.raises(CorruptArtefact, match=f"loss must be one of .*; got {loss}"):
        decoded(data, "model")


CASES = [(name, kind) for name in SPECS for kind in ("learner", "model") if (name, kind) != ("fm", "learner")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_arrays_of_another_width_than_the_spec_says(name: str, kind: str) -> None:
    before = decode(data_of(name, kind))
    wider = {**before.meta["spec"], "n_features": 4}
    with pytest.raises(CorruptArtefact, match=r"as its spec says; got \d|features; got 3"):
        decoded(encode(kind, {**before.meta, "spec": wider}, before.arrays), kind)


@pytest.mark.parametrize("name", ["adagrad", "fm"])
@pytest.mark.parametrize(
    "features", [[0, 1, 3], [0, 2, 1], [0, 1, 1], [-1, 1, 2], [0, 1], [0, 1, 2, 3], [0, 1, 2**62], [[0], [1], [2]]]
)
def test_features_held_that_cannot_be(name: str, features: Any) -> None:
    before = decode(data_of(name, "model"))
    forged = {**before.arrays, "features": np.array(features)}
    assert before.arrays["features"].tolist() == [0, 1, 2]
    with pytest.raises(CorruptArtefact):
        decoded(encode("model", before.meta, forged), "model")


@pytest.mark.parametrize("name", ["adagrad", "fm"])
@pytest.mark.parametrize("last", [[2, 4], [2, 2], [1, 3], [3, 2], [2, 2**40], [-1, 3]])
def test_parameter_rows_that_cannot_be(name: str, last: list[int]) -> None:
    before = decode(data_of(name, "learner"))
    assert before.arrays["state/rows"].tolist() == [0, 1, 2, 3]
    forged = {**before.arrays, "state/rows": np.array([0, 1, *last])}
    with pytest.raises(CorruptArtefact, match=r"State\.rows must"):
        decoded(encode("learner", before.meta, forged), "learner")


@pytest.mark.parametrize("name", ["adagrad", "fm"])
@pytest.mark.parametrize("width", [-1, 0, 2, 4, 10**8, 2**62])
def test_a_width_that_a_model_claims(name: str, width: int) -> None:
    before = decode(data_of(name, "model"))
    with pytest.raises(CorruptArtefact):
        decoded(encode("model", before.meta, {**before.arrays, "width": np.int64(width)}), "model")


@pytest.mark.parametrize("name", ["adagrad", "fm"])
def test_a_model_of_a_width_that_would_fill_memory_costs_what_it_holds(name: str) -> None:
    before = decode(data_of(name, "model"))
    width = 10**7
    spec = {**before.meta["spec"], "n_features": width}
    data = encode("model", {**before.meta, "spec": spec}, {**before.arrays, "width": np.int64(width)})
    tracemalloc.start()
    try:
        model = decoded(data, "model")
        found = predict(model, Batch.csr([0, 2], [1, width - 1], [1.0, 1.0], width))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.isfinite(found["score"]).all()
    assert most < 5_000_000


@pytest.mark.parametrize(
    ("name", "width"), [("adagrad", 10**6), ("adagrad", 10**7), ("newton", 2_000), ("pca", 10**6), ("pca", 10**8)]
)
def test_a_width_that_would_fill_memory(name: str, width: int) -> None:
    """It is refused by the file's bytes, before arrays of that width are made."""
    before = decode(data_of(name, "learner"))
    data = encode("learner", {**before.meta, "spec": {**before.meta["spec"], "n_features": width}}, before.arrays)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptArtefact, match=f"must hold the arrays of {width:,} features, as its spec says"):
            decoded(data, "learner")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 20_000_000


def test_variants_of_which_none_learns() -> None:
    before = decode(data_of("adagrad", "learner"))
    forged = {**before.arrays, "state/status": np.full_like(before.arrays["state/status"], 7)}
    with pytest.raises(DeriveRefused, match="a variant that learns"):
        used(decoded(encode("learner", before.meta, forged), "learner"), *SPECS["adagrad"])


def test_a_bias_that_claims_a_centre() -> None:
    before = decode(data_of("fm", "learner"))
    forged = {**before.arrays, "state/centre": np.full(4, 100.0)}
    used(decoded(encode("learner", before.meta, forged), "learner"), *SPECS["fm"])


def test_centres_that_all_weigh_nothing() -> None:
    before = decode(data_of("kmeans", "learner"))
    weightless = {**before.arrays, "state/weight": np.zeros_like(before.arrays["state/weight"])}
    learner = decoded(encode("learner", before.meta, weightless), "learner")
    with pytest.raises(DeriveRefused, match="needs rows of positive weight"):
        derive(learner, kmeans.Clusters(k=2))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("champion", 5),
        ("candidates", {"a": "no json"}),
        ("candidates", {"a": "[1]"}),
        ("candidates", {"a": 7}),
        ("candidates", {"a": "[" * 100_000}),
        ("history", [{"auc": "nan"}]),
        ("time", 10**40),
        ("metrics_time", 1.5),
        ("folded_through", 10**40),
        ("refresh", 2**63),
    ],
)
def test_facts_of_another_kind(field: str, value: Any) -> None:
    before = decode(data_of("newton", "learner"))
    with pytest.raises(CorruptArtefact):
        decoded(encode("learner", {**before.meta, field: value}, before.arrays), "learner")


@pytest.mark.parametrize("weight", ["nan", -1.0, True, None])
def test_a_weight_that_is_none(weight: Any) -> None:
    before = decode(data_of("newton", "learner"))
    meta = {**before.meta, "progress": {**before.meta["progress"], "weight": weight}}
    with pytest.raises(CorruptArtefact):
        decoded(encode("learner", meta, before.arrays), "learner")


@pytest.mark.parametrize("origin", [[1, 2], ["a"], 7])
def test_rows_of_an_origin_that_is_none(origin: Any) -> None:
    before = decode(data_of("newton", "learner"))
    sample = before.meta["sample"]
    meta = {**before.meta, "sample": {**sample, "rows": {**sample["rows"], "origin": origin}}}
    with pytest.raises(CorruptArtefact):
        decoded(encode("learner", meta, before.arrays), "learner")
