import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float64

from beam_ml import derive, fit, linear, predict
from beam_ml.algorithms import find, spec_from
from beam_ml.artefact import records
from beam_ml.artefact.envelope import decode, encode
from beam_ml.artefact.reading import Reader
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import empty
from beam_ml.core.arrays import array_dataclass, identical
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.figures import KINDS
from beam_ml.core.progress import Progress
from beam_ml.core.windows import ROUND
from beam_ml.errors import ArtefactError, CorruptArtefact, UnsupportedVersion, WrongKind
from tests.artefact import literals

LEARNER = records.encode_learner(*literals.learner("pca"))


def test_a_learner_comes_back_whole() -> None:
    _, before = literals.learner("linear.newton")
    after = records.decode_learner(records.encode_learner(find("linear.newton"), before), find)
    assert identical(after.state, before.state)
    assert after.spec == before.spec
    for name in ("metrics_time", "champion", "refresh", "folded_through", "discarded", "history", "cursors"):
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


def test_names_of_features_travel_with_a_batch() -> None:
    batch = Batch.dense([[1.0, 2.0]]).replace(names=("b", "a"))
    assert records.decode_batch(records.encode_batch(batch)).names == ("b", "a")
    assert records.decode_batch(records.encode_batch(Batch.dense([[1.0]]))).names is None
    whole = decode(records.encode_batch(batch), "batch")
    for names in (["a"], ["a", "a"], ["a", 1], "ab", None):
        data = encode("batch", {**whole.meta, "names": names}, dict(whole.arrays))
        with pytest.raises(CorruptArtefact, match="must hold 2 different texts as names"):
            records.decode_batch(data)


def test_fortran_and_strided_arrays_are_stored_right() -> None:
    X = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    after = records.decode_batch(records.encode_batch(Batch(X[::2], None, None, None, 3)))
    assert after.dense_x.tolist() == [[0.0, 1.0, 2.0], [6.0, 7.0, 8.0]]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_metrics(kind: type) -> None:
    before = literals.fill(kind)
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
        {"history": [1]},
        {"history": [{"rows": "many"}]},
        {"time": "x"},
        {"refresh": "a"},
        {"cold": None},
        {"candidates": 5},
        {"cursors": 5},
        {"spec": {"algorithm": "pca", "n_features": 9}},
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


def test_the_window_of_a_round_comes_back() -> None:
    algorithm, before = literals.learner("pca")
    before = before.replace(
        pending={ROUND: literals.accumulation(algorithm, before.spec), 0: before.pending[172_800_000_000]}
    )
    after = records.decode_learner(records.encode_learner(algorithm, before), find)
    assert list(after.pending) == [ROUND, 0]
    assert after.pending[ROUND].progress.summary() == before.pending[ROUND].progress.summary()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("progress/covered/0", np.arange(3)),
        ("progress/covered/0", np.ones((1, 2))),
        ("progress/covered/0", np.array([[0, 5, 9]])),
        ("progress/covered/0", np.array([[5, 5]])),
        ("progress/covered/0", np.array([[0, 5], [3, 9]])),
        ("progress/covered/0", np.array([[7, 9], [0, 3]])),
        ("sample/order", np.zeros(1)),
        ("sample/order", np.zeros(2, np.float32)),
        ("sample/identity", np.zeros(2, np.int32)),
        ("sample/kind", np.zeros(2)),
        ("sample/kind", np.array([0, 1], np.int32)),
        ("sample/kind", np.array([-1, 0], np.int32)),
        ("sample/tau", np.zeros(7)),
        ("sample/tau", np.zeros((1, 1))),
        ("sample/mass", np.zeros(0)),
        ("sample/rows/X", np.zeros((2, 3))),
        ("sample/rows/X", np.zeros((3, 2))),
        ("sample/rows/X", np.zeros(2)),
        ("pending/172800000000/sample/order", np.zeros(1)),
        ("pending/172800000000/parts/9/progress/covered/0", np.zeros(1, np.int64)),
        ("pending/172800000000/rest/covered/0", np.zeros((1, 2))),
    ],
)
def test_samples_and_places_that_do_not_fit(name: str, array: np.ndarray) -> None:
    whole = decode(LEARNER)
    assert name in whole.arrays
    with pytest.raises(CorruptArtefact):
        records.decode_learner(encode("learner", whole.meta, {**whole.arrays, name: array}), find)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rows", "7"),
        ("rows", -1),
        ("rows", True),
        ("time_max", "noon"),
        ("weight", "heavy"),
        ("places", None),
        ("rejected", {"late": "many"}),
        ("latest", [["files", "a", "x"]]),
        ("covered", [["files", 5]]),
        ("covered", [["files"]]),
    ],
)
def test_counts_that_are_none(field: str, value: Any) -> None:
    meta = decode(LEARNER).meta
    with pytest.raises(CorruptArtefact):
        records.decode_learner(changed(progress={**meta["progress"], field: value}), find)


def test_a_sample_by_importance_is_read_back_and_checked() -> None:
    algorithm, one = literals.learner("linear.newton")
    back = records.decode_learner(records.encode_learner(algorithm, one), find)
    assert back.sample.top is not None
    assert one.sample.top is not None
    assert back.sample.importance.tolist() == [33.0, 490.5]
    assert back.sample.top.importance.tolist() == [33.0]
    assert back.sample.top.tau.tolist() == [0.25, np.inf]
    assert back.sample.top.rows.dense_x.tolist() == one.sample.top.rows.dense_x.tolist()
    for wrong in (np.array([0.5, 2.0]), np.array([2.0]), np.array([2, 3])):
        spoilt = one.replace(sample=dataclasses.replace(one.sample, importance=wrong))
        with pytest.raises(CorruptArtefact, match=r"importance as float64 \(2,\) of at least 1"):
            records.decode_learner(records.encode_learner(algorithm, spoilt), find)


def test_a_model_of_sparse_rows_is_stored_by_the_features_it_holds() -> None:
    """Of half a million places five were ever used: what is stored goes by those, and comes back to the bit."""
    d, rng = 500_000, np.random.default_rng(3)
    columns = np.array([0, 7, 4_000, 300_000, d - 1])
    picked = np.sort(columns[rng.permuted(np.tile(np.arange(5), (400, 1)), axis=1)[:, :2]], axis=1)
    rows = Batch.csr(np.arange(401) * 2, picked.ravel(), np.ones(800), d, label=(picked[:, 0] == 0).astype(float))
    model = derive(fit(linear.AdaGrad(n_features=d, sparse=True), [rows]), "classifier")
    data = records.encode_model(find("linear.adagrad"), model)
    after = records.decode_model(data, find)
    assert len(data) < 10_000
    assert identical(after.arrays, model.arrays)
    assert set(after.arrays.features.tolist()) <= set(columns.tolist())
    wide = np.zeros(d)
    wide[after.arrays.features] = after.arrays.coefficients[:, 0]
    assert np.array_equal(after.coefficients.values, wide)
    before, stored = predict(model, rows), predict(after, rows)
    assert all(before[name].tobytes() == stored[name].tobytes() for name in before)
    assert after.coefficients["x0"] == wide[0] != 0.0
    score = 1 / (1 + np.exp(-(wide[picked].sum(axis=1) + float(after.coefficients.intercept))))
    np.testing.assert_allclose(stored["score"], score, rtol=1e-12)
    lone = Batch.csr([0, 1], [5], [1.0], d)
    np.testing.assert_allclose(predict(after, lone)["score"], 1 / (1 + np.exp(-after.coefficients.intercept)))


@pytest.mark.parametrize(
    "given", [*literals.SPECS.values(), *({"algorithm": "pca.sketch", "sketch_rows": rows} for rows in (300, 400, 600))]
)
def test_a_wide_learner_of_no_rows_and_rows_that_were_all_rejected_come_back(given: dict[str, Any]) -> None:
    """Neither holds more than a spec of so many features says: a learner its first state, rejected rows no part at all.

    What a spec builds may grow faster while it is narrow: a sketch has no more rows than features.
    """
    # Columns of series follow from their lengths.
    wide = {"max_length": 1_100, "n_features": None} if given["algorithm"] == "deepar" else {"n_features": 1_100}
    spec = spec_from({name: value for name, value in (given | wide).items() if value is not None})
    assert spec.n_features >= 1_100
    algorithm = find(spec.algorithm)
    fresh = learners.new(algorithm, spec)
    assert identical(records.decode_learner(records.encode_learner(algorithm, fresh), find).state, fresh.state)
    rejected = dataclasses.replace(empty(spec), rest=Progress(rejected={"missing label": 3}))
    _, after = records.decode_accumulation(records.encode_accumulation(algorithm, spec, rejected), find)
    assert (after.parts, after.rest.rejected) == ({}, {"missing label": 3})


@array_dataclass
class Mean:
    mean: Float64[np.ndarray, "d"]  # feature units


class Counting(dict[str, np.ndarray]):
    """Arrays by name; counts the walks over all of them."""

    walks = 0

    def __iter__(self) -> Any:
        self.walks += 1
        return super().__iter__()

    def items(self) -> Any:
        self.walks += 1
        return super().items()

    def values(self) -> Any:
        self.walks += 1
        return super().values()


def test_many_windows_are_read_without_a_look_at_all_arrays_for_each() -> None:
    arrays = Counting({f"pending/{end}/state/mean": np.full(3, float(end)) for end in range(50)})
    arrays["pending/1/state-of-another-name"] = np.zeros(1)
    reader = Reader(arrays)
    assert reader.held == 50 * 24 + 8
    begun = arrays.walks
    for end in range(50):
        assert reader.at(f"pending/{end}").at("state").record(Mean).mean.tolist() == [end] * 3
    assert arrays.walks == begun
    arrays["pending/7/state/other"] = np.zeros(1)
    with pytest.raises(CorruptArtefact, match="must have the arrays"):
        Reader(arrays).at("pending/7/state").record(Mean)
