"""What travels: every element through real bytes, and no pickle in any pipeline's coders."""

import dataclasses
import json

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.coders import registry
from apache_beam.options.pipeline_options import SetupOptions
from apache_beam.portability.api import beam_runner_api_pb2

from beam_ml import Registry, api, formats, pca
from beam_ml.algorithms import find, linear
from beam_ml.beam import (
    Accumulate,
    Evaluate,
    FileRanges,
    Merge,
    MergeLearners,
    Publish,
    ReadParquet,
    ReadRanges,
    Score,
    SliceByWindow,
    ToBatches,
    Train,
    TrainFn,
    WriteParquet,
    engine,
)
from beam_ml.beam.wire import coders
from beam_ml.beam.wire.elements import Folded, Measured, Slice
from beam_ml.core import metrics
from beam_ml.core.accumulation import Accumulation, Accumulator
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch, Origin
from beam_ml.core.gate import Verdict
from beam_ml.core.learner import Learner
from beam_ml.core.metrics import Binary, Distortion, Multiclass, Regression
from beam_ml.core.model import Model
from beam_ml.core.progress import Progress
from beam_ml.core.refresh import Refresh
from beam_ml.core.windows import Windows
from beam_ml.errors import CorruptArtefact
from beam_ml.features import Features
from beam_ml.formats import Block, Reject
from tests.beam.support import MINUTE, Seen, batches, create, make_batch, ran

SPEC = pca.Spec(n_features=3)
FEATURES = Features(numeric=["a", "b", "c"], label="y", time="t")


def accumulation():
    accumulator = Accumulator(find("pca"), SPEC)
    accumulator.add(make_batch(0, 50))
    accumulator.add_progress(Progress.of_range(Origin("s", "0"), 50, 60, {"malformed line": 10}))
    return accumulator.result()


def learner():
    return api.fit(SPEC, batches(80))


def model():
    return api.derive(learner(), pca.Components(n_components=2))


def refresh():
    nan, inf = float("nan"), float("inf")
    return Refresh(
        3, MINUTE, accumulation().progress, {"m": {"mse": 0.5}}, {"m": {"mse": nan, "mae": inf, "low": -inf}}, "m",
        Verdict(False, ("auc is not known yet, must be >= 0.8",)), {"m": model()}, behind={0: 90, 3: 7},
        refitted={"m": {"mse": 0.25, "low": -inf}},
    )  # fmt: skip


def block():
    rejected = (Reject("malformed line", np.array([7, 9]), np.array([9, 10]), ("a", "b")), Reject("x", np.array([11])))
    columns = {"a": [1.0, None, 3.0], "s": ["x", "y", None], "d": pa.array(["u", "v", "u"]).dictionary_encode()}
    position = np.array([0, 2, 4])
    return Block(
        pa.record_batch(columns), Origin("s", "f"), position, position + 2, 0, 12, rejected, np.array([5, 7, 6])
    )


def distortion():
    return metrics.distortion(np.array([1.0, 2.0]), np.ones(2))


ELEMENTS = {
    Block: block,
    Batch: lambda: make_batch(3, 4, label=True),
    Slice: lambda: Slice(make_batch(0, 3), 3, 1),
    Reject: lambda: Reject("late", np.array([4, 5]), np.array([5, 9]), ("x", "y"), Origin("s", "0")),
    Progress: lambda: accumulation().progress,
    Accumulation: accumulation,
    Learner: learner,
    Model: model,
    Refresh: refresh,
    Folded: lambda: Folded(learner(), (refresh(), refresh())),
    Binary: lambda: metrics.binary(np.array([0.2, 0.9]), np.array([0.0, 1.0]), np.ones(2)),
    Multiclass: lambda: metrics.multiclass(np.array([[0.2, 0.5, 0.3]]), np.array([1.0]), np.ones(1)),
    Regression: lambda: metrics.regression(np.array([0.2]), np.array([0.0]), np.ones(1)),
    Distortion: distortion,
    Measured: lambda: Measured(distortion(), {3: 10, 4: 1}),
}


@pytest.mark.parametrize("kind", ELEMENTS, ids=lambda kind: kind.__name__)
def test_an_element_survives_its_coder(kind):
    coder = registry.get_coder(kind)
    value = ELEMENTS[kind]()
    data = coder.encode(value)
    back = coder.decode(data)
    assert type(back) is kind
    if coder.is_deterministic():
        assert coder.encode(back) == data
        assert coder.encode(value) == data
    assert_same(back, value)
    assert 0 < coder.estimate_size(value)


def large():
    """Return elements of some 100 kB."""
    n = 4_096
    rows = make_batch(0, n)
    accumulator = Accumulator(pca.PCA, pca.Spec(n_features=120))
    accumulator.add(Batch.dense(np.random.default_rng(0).normal(size=(8, 120))))
    return [
        Block(pa.record_batch({f"x{i}": np.arange(float(n)) for i in range(4)})),
        rows,
        Slice(rows, 0),
        Reject("late", np.arange(4 * n)),
        accumulator.result(),
    ]


@pytest.mark.parametrize("value", large(), ids=lambda value: type(value).__name__)
def test_a_size_is_about_that_of_the_bytes(value):
    coder = registry.get_coder(type(value))
    size = len(coder.encode(value))
    assert size > 90_000
    assert 0.8 * size < coder.estimate_size(value) < 1.2 * size


def test_columns_that_break_their_type_are_refused():
    ends = pa.py_buffer(np.array([0, 1], dtype=np.int32))
    letters = pa.Array.from_buffers(pa.utf8(), 1, [None, ends, pa.py_buffer(b"\xff")])
    coder = registry.get_coder(Block)
    with pytest.raises(CorruptArtefact, match=r"columns are no Arrow stream: .*UTF8"):
        coder.decode(coder.encode(Block(pa.record_batch({"s": letters}))))


def assert_same(a, b):
    assert type(a) is type(b), (a, b)
    if isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, float):
        assert a == b or (a != a and b != b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name))
    else:
        assert a == b


def test_the_comparison_notices_a_difference():
    with pytest.raises(AssertionError):
        assert_same(make_batch(0, 3), make_batch(1, 3))
    with pytest.raises(AssertionError):
        assert_same(refresh(), dataclasses.replace(refresh(), champion=None))


def test_a_size_costs_no_encoding(monkeypatch):
    coder = coders.BatchCoder()
    batch = make_batch(0, 100)
    wanted = len(coder.encode(batch))
    monkeypatch.setattr(coders.BatchCoder, "write", staticmethod(lambda value: pytest.fail("encoded")))
    assert coder.estimate_size(batch) == pytest.approx(wanted, rel=0.5)
    assert coder.get_impl().estimate_size(batch) == coder.estimate_size(batch)


def test_damaged_bytes_are_a_typed_error():
    coder = coders.BlockCoder()
    data = coder.encode(block())
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        with pytest.raises(CorruptArtefact):
            coder.decode(data[:cut])


def test_a_coder_goes_through_the_pipeline_proto():
    from apache_beam.runners.pipeline_context import PipelineContext

    for kind in ELEMENTS:
        coder = registry.get_coder(kind)
        proto = coder.to_runner_api(PipelineContext())
        assert proto.spec.urn.startswith("beam_ml:coder:")
        assert not proto.spec.payload
        again = coders.Coder.from_runner_api(proto, PipelineContext())
        assert again == coder
        assert hash(again) == hash(coder)


PICKLES = ("beam:coder:pickled_python:v1", "beam:coders:javasdk:0.1")


def pickled(pipeline):
    """Names of PCollections and combines whose coder is not one of Beam's standard ones or ours."""
    proto, _ = pipeline.to_runner_api(return_context=True)
    known = proto.components.coders

    def bad(coder_id):
        coder = known[coder_id]
        standard = coder.spec.urn.startswith(("beam:coder:", "beam_ml:coder:")) and coder.spec.urn not in PICKLES
        return not standard or any(bad(part) for part in coder.component_coder_ids)

    found = [pcoll.unique_name for pcoll in proto.components.pcollections.values() if bad(pcoll.coder_id)]
    for transform in proto.components.transforms.values():
        if transform.spec.urn == "beam:transform:combine_per_key:v1":
            payload = beam_runner_api_pb2.CombinePayload.FromString(transform.spec.payload)
            if bad(payload.accumulator_coder_id):
                found.append(transform.unique_name)
    return found


def write_rows(folder, n=300):
    rng = np.random.default_rng(5)
    columns = {name: rng.normal(size=n) for name in "abc"}
    seconds = pa.array(1_699_999_980 + np.arange(n), pa.timestamp("s"))  # from a full minute on
    batch = pa.record_batch(columns | {"y": (rng.random(n) < 0.3).astype(float), "t": seconds})
    formats.write(str(folder / "rows.parquet"), [batch])


def keyed_batch(batch: Batch) -> tuple[str, Batch]:
    return "key", batch


def keyed_learner(learner: Learner) -> tuple[str, Learner]:
    return "key", learner


def everything(pipeline, folder, where):
    """One pipeline with every transform of the package."""
    spec = linear.Newton(n_features=3)
    ranges = [r for file in formats.list_files(str(folder)) for r in formats.ranges(file, 100)]
    out = (
        pipeline
        | FileRanges(ranges)
        | ReadRanges(FEATURES.columns())
        | ToBatches(FEATURES)
        | SliceByWindow(Windows(MINUTE))
        | Accumulate(spec)
    )
    out | Merge(spec, fanout=3)
    blocks = pipeline | ReadParquet(str(folder))
    trained = blocks | Train(spec, {"m": linear.Classifier()}, refresh="1m", features=FEATURES)
    trained | Publish(where, "job")
    batched = blocks | "B" >> ToBatches(FEATURES)
    batched.batches | "KB" >> beam.Map(keyed_batch) | "T" >> beam.CombinePerKey(TrainFn(spec))
    trained.learner | "KL" >> beam.Map(keyed_learner) | "M" >> beam.CombinePerKey(MergeLearners())
    path = str(folder.parent / "model.safetensors")
    scored = blocks | Score(path)
    scored.predictions | WriteParquet(str(folder.parent / "scored"))
    blocks | Evaluate(path)


def test_no_coder_of_any_transform_pickles(tmp_path):
    (tmp_path / "in").mkdir()
    write_rows(tmp_path / "in")
    pipeline = engine.new_pipeline()
    everything(pipeline, tmp_path / "in", str(tmp_path / "registry"))
    assert pickled(pipeline) == []


def test_combine_globally_pickles_nothing_but_its_key_none():
    pipeline = engine.new_pipeline()
    create(pipeline, [make_batch(0, 3)]) | beam.CombineGlobally(TrainFn(SPEC)).without_defaults()
    proto, _ = pipeline.to_runner_api(return_context=True)
    known = proto.components.coders
    found = [pcoll for pcoll in proto.components.pcollections.values() if pcoll.unique_name in pickled(pipeline)]
    assert found
    for pcoll in found:
        key, value = known[pcoll.coder_id].component_coder_ids
        assert known[key].spec.urn in PICKLES
        while known[value].component_coder_ids:
            (value,) = known[value].component_coder_ids
        assert known[value].spec.urn.startswith("beam_ml:coder:")


def test_the_walk_finds_a_pickling_coder(tmp_path):
    pipeline = engine.new_pipeline()
    create(pipeline, [make_batch(0, 3)]) | "Untyped" >> beam.Map(lambda batch: batch).with_output_types(object)
    assert [name for name in pickled(pipeline) if "Untyped" in name]


def test_workers_import_the_coders(tmp_path):
    pipeline = beam.Pipeline()
    create(pipeline, [make_batch(0, 3)]) | SliceByWindow(Windows(None))
    assert pipeline.options.view_as(SetupOptions).beam_plugins == ["beam_ml.beam.wire.coders"]


def test_functions_ship_small_and_without_arrays(tmp_path):
    (tmp_path / "in").mkdir()
    write_rows(tmp_path / "in")
    pipeline = engine.new_pipeline()
    everything(pipeline, tmp_path / "in", str(tmp_path / "registry"))
    proto, _ = pipeline.to_runner_api(return_context=True)
    for transform in proto.components.transforms.values():
        assert len(transform.spec.payload) < 20_000, transform.unique_name


@pytest.mark.slow
def test_other_processes_decode_what_travels(tmp_path, monkeypatch):
    """Workers that have imported nothing yet: the coders reach them as a plugin."""
    (tmp_path / "in").mkdir()
    write_rows(tmp_path / "in")
    Registry(str(tmp_path / "registry"))
    options = ["--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    pipeline = engine.new_pipeline(options)
    trained = pipeline | ReadParquet(str(tmp_path / "in")) | Train(SPEC, features=FEATURES, refresh="1m", fanout=2)
    trained.folded | WriteFolded(str(tmp_path / "rows.json"))
    assert ran(pipeline) == "FnApiRunner"
    assert json.loads((tmp_path / "rows.json").read_text()) == [300, 5]


class WriteFolded(beam.PTransform):
    def __init__(self, path):
        super().__init__()
        self._path = path

    def expand(self, pcoll):
        path = self._path

        def write(folded: Folded) -> int:
            from pathlib import Path

            Path(path).write_text(json.dumps([folded.learner.progress.rows, len(folded.refreshes)]))
            return 0

        return pcoll | beam.Map(write)


def test_a_learner_in_a_pipeline_equals_the_one_outside(tmp_path):
    pipeline = engine.new_pipeline()
    seen = Seen(tmp_path, coders.LearnerCoder())
    (create(pipeline, batches(200)) | Train(SPEC)).learner | seen.sink()
    ran(pipeline)
    assert close(seen.one().state, api.fit(SPEC, batches(200)).state, rtol=1e-9)
