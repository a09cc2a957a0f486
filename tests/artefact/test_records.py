import json
from typing import Any

import literals
import numpy as np
import pytest

from beam_ml.algorithms import find
from beam_ml.artefact import records
from beam_ml.artefact.envelope import decode, encode
from beam_ml.core.arrays import identical
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.metrics import Regression
from beam_ml.errors import ArtefactError, CorruptArtefact, UnsupportedVersion, WrongKind

LEARNER = records.encode_learner(*literals.learner("pca"))


def test_a_learner_comes_back_whole() -> None:
    _, before = literals.learner("linear.newton")
    after = records.decode_learner(records.encode_learner(find("linear.newton"), before), find)
    assert identical(after.state, before.state)
    assert after.spec == before.spec
    for name in ("metrics_time", "champion", "refresh", "folded_through", "discarded", "history", "next"):
        assert getattr(after, name) == getattr(before, name)
    assert after.progress.summary() == before.progress.summary()
    assert after.progress.latest == before.progress.latest
    assert after.progress.covered[literals.ORIGIN].tolist() == [[0, 50], [51, 54]]
    assert all(identical(after.metrics[name], before.metrics[name]) for name in "abc")
    mine, theirs = (one.pending[172_800_000_000] for one in (after, before))
    assert list(mine.parts) == list(theirs.parts) == [0, 9]
    assert identical(mine.parts[9].dated.summary, theirs.parts[9].dated.summary)
    assert mine.parts[9].dated.time == 7
    assert mine.sample.rows is not None
    assert mine.sample.rows.indices is not None
    assert mine.sample.rows.indices.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "batch",
    [
        Batch.dense(np.zeros((0, 3), np.float32)),
        Batch.dense([[1.0]], label=[np.nan], weight=[2.0], time=[-5], origin=Origin("s", "p"), position=[2**60]),
        Batch.csr([0, 2], [0, 3], [1.0, 2.0], 4, position=[10], position_end=[25], origin=Origin("a", "b")),
    ],
)
def test_batches(batch: Batch) -> None:
    after = records.decode_batch(records.encode_batch(batch))
    assert after.origin == batch.origin
    assert after.n_features == batch.n_features
    for name in ("X", "indptr", "indices", "values", "label", "weight", "time", "position", "position_end"):
        mine, theirs = getattr(after, name), getattr(batch, name)
        assert (mine is None) == (theirs is None)
        assert mine is None or (mine.dtype == theirs.dtype and mine.tobytes() == theirs.tobytes())


def test_fortran_and_strided_arrays_are_stored_right() -> None:
    X = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    after = records.decode_batch(records.encode_batch(Batch(X[::2], None, None, None, 3)))
    assert after.dense_x.tolist() == [[0.0, 1.0, 2.0], [6.0, 7.0, 8.0]]


def test_metrics() -> None:
    before = literals.fill(Regression)
    assert identical(records.decode_metrics(records.encode_metrics(before)), before)


def test_foreign_kinds() -> None:
    with pytest.raises(WrongKind):
        records.decode_model(LEARNER, find)
    with pytest.raises(WrongKind):
        records.decode_learner(records.encode_model(*literals.model("pca.components")), find)


def changed(**meta: Any) -> bytes:
    whole = decode(LEARNER)
    return encode("learner", {**whole.meta, **meta}, whole.arrays)


def test_an_algorithm_version_that_is_not_known() -> None:
    with pytest.raises(UnsupportedVersion, match="pca artefacts of version 1 can be read; got 99"):
        records.decode_learner(changed(algorithm_version=99), find)


@pytest.mark.parametrize(
    "meta",
    [
        {"algorithm": "no.such"},
        {"algorithm": 5},
        {"algorithm": "kmeans"},
        {"algorithm": "os:system"},
        {"spec": {"n_features": "many"}},
        {"spec": None},
        {"progress": {}},
        {"progress": 5},
        {"sample": None},
        {"metrics": {"a": "unheard"}},
        {"metrics": {"zzz": "binary"}},
        {"pending": [{"end": 5}]},
        {"pending": [{"end": "x", "accumulation": {}}]},
        {"history": 7},
    ],
)
def test_headers_that_do_not_fit(meta: dict[str, Any]) -> None:
    with pytest.raises(ArtefactError):
        records.decode_learner(changed(**meta), find)


@pytest.mark.parametrize("change", ["drop", "dtype", "shape", "surplus"])
def test_arrays_that_do_not_fit(change: str) -> None:
    whole = decode(LEARNER)
    arrays = dict(whole.arrays)
    if change == "drop":
        del arrays["state/mean"]
    elif change == "dtype":
        arrays["state/mean"] = arrays["state/mean"].astype(np.float32)
    elif change == "shape":
        arrays["state/mean"] = np.zeros(3)
    else:
        arrays["state/extra"] = np.zeros(1)
    with pytest.raises(CorruptArtefact):
        records.decode_learner(encode("learner", whole.meta, arrays), find)


def test_bits_flipped_in_a_learner_are_always_noticed() -> None:
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(LEARNER), 300):
        damaged = bytearray(LEARNER)
        damaged[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ArtefactError):
            records.decode_learner(bytes(damaged), find)


def test_the_header_is_json_anyone_can_read() -> None:
    length = int.from_bytes(LEARNER[:8], "little")
    header = json.loads(LEARNER[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["beam_ml"])
    assert facts["kind"] == "learner"
    assert facts["meta"]["spec"]["algorithm"] == "pca"
