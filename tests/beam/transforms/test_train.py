"""`Train`, `Fold` and `Publish` in a user's own pipeline."""

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing import test_stream
from toy_sgd import SgdSpec

from beam_ml import Registry, api, formats
from beam_ml.algorithms import find, linear, pca
from beam_ml.artefact.records import decode_learner, decode_model
from beam_ml.beam import Accumulate, AnchorRef, Merge, Publish, ReadParquet, SliceByWindow, Train, engine
from beam_ml.beam.wire import coders
from beam_ml.core import learner as learners
from beam_ml.core.accumulation import Accumulator
from beam_ml.core.arrays import close
from beam_ml.core.batch import Batch
from beam_ml.core.gate import Gate
from beam_ml.core.leaps import FAR, SET_BACK
from beam_ml.core.limits import Limits
from beam_ml.core.refresh import Plan, refresh
from beam_ml.core.windows import Windows
from beam_ml.errors import DeriveRefused, EngineRefused, HeadMoved, InvalidValue
from beam_ml.features import Features
from tests.beam.support import MINUTE, RUNNERS, Seen, batches, create, ran

NEWTON = linear.Newton(n_features=3)
MODELS = {"plain": linear.Classifier(), "shrunk": linear.Classifier(l2=0.1)}


def train(tmp_path, start, step, runner="FnApiRunner", publish=None):
    pipeline = beam.Pipeline(runner=RUNNERS[runner]())
    refreshes, learner = Seen(tmp_path / "r", coders.RefreshCoder()), Seen(tmp_path / "l", coders.LearnerCoder())
    out = start(pipeline) | step
    out.refreshes | refreshes.sink("R")
    out.learner | learner.sink("L")
    if publish is not None:
        out | publish
    assert ran(pipeline) == runner
    return sorted(refreshes.values(), key=lambda one: one.number), learner.values()


def rows(n=3000, **kwargs):
    return batches(n, size=70, label=True, **kwargs)


def directly(values, size_us, models, gate=()):
    """The same folds without Beam."""
    algorithm = find("linear.newton")
    learner, found = learners.new(algorithm, NEWTON), []
    ends = sorted({int(end) for batch in values for end in (batch.time // size_us + 1) * size_us})
    for end in ends:
        accumulator = Accumulator(algorithm, NEWTON)
        for batch in values:
            accumulator.add(batch.take((batch.time >= end - size_us) & (batch.time < end)))
        learner, one = refresh(algorithm, learner, end, accumulator.result(), Plan(models, Gate(gate)))
        found.append(one)
    return learner, found


@pytest.mark.parametrize("runner", RUNNERS)
def test_one_refresh_a_window_as_without_beam(tmp_path, runner):
    values = rows()
    gate = ("rows >= 1_000",)
    step = Train(NEWTON, MODELS, refresh="10m", gate=gate, fanout=2)
    found, (learner,) = train(tmp_path, lambda p: create(p, values), step, runner)
    wanted, direct = directly(values, 10 * MINUTE, MODELS, gate)
    assert [one.number for one in found] == [1, 2, 3, 4, 5]
    assert [one.window_end for one in found] == [10 * MINUTE * (i + 1) for i in range(5)]
    assert [one.progress.rows for one in found] == [600] * 5
    assert [one.verdict.accepted for one in found] == [False, True, True, True, True]
    for mine, other in zip(found, direct, strict=True):
        assert mine.measured.keys() == other.measured.keys()
        for name, values_of in mine.measured.items():
            assert values_of == pytest.approx(other.measured[name], rel=1e-6)
        for name, model in mine.models.items():
            assert close(model.arrays, other.models[name], rtol=1e-6)
            assert model.model_spec == MODELS[name]
            assert model.facts["rows"] == 600 * mine.number
    assert close(learner.state, wanted.state, rtol=1e-6)
    assert learner.progress.summary() == wanted.progress.summary()
    assert found[-1].progressive["plain"]["auc"] > 0.8
    assert not learner.pending


@pytest.mark.parametrize(("leap", "rejected"), [(None, {FAR: 1}), (9e9, {})])
def test_one_row_dated_far_ahead_gets_no_window(tmp_path, leap, rejected):
    """Windows are folded in order of time: one of the year 2200 would be the last, and age what comes after it."""
    values = rows(140)
    values[0].time[9] = 7_258_118_400_000_000
    _, (learner,) = train(tmp_path, lambda p: create(p, values), Train(NEWTON, refresh="10m", max_leap=leap))
    assert learner.progress.rejected == rejected
    assert (learner.folded_through < 7_258_118_400_000_000) == bool(rejected)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_row_set_back_and_then_rejected_is_no_adjusted_one(tmp_path, value):
    values = rows(140)
    values[-1].time[-1] = 7_258_118_400_000_000
    values[-1].X[-1, 0] = value
    _, (learner,) = train(tmp_path, lambda p: create(p, values), Train(NEWTON, refresh="10m"))
    assert sum(learner.progress.rejected.values()) == (value != 0.0)
    assert learner.progress.adjusted == ({} if learner.progress.rejected else {SET_BACK: 1})


@pytest.mark.parametrize(("far_values", "counted"), [("reject", (1, 0)), ("clip", (0, 1))])
def test_limits_hold_as_in_fit(tmp_path, far_values, counted):
    values, limits = rows(2_000), Limits(far_values=far_values)
    values[0].X[9, 0] = 1e10
    _, (learner,) = train(tmp_path, lambda p: create(p, values), Train(NEWTON, limits=limits))
    wanted = api.fit(NEWTON, values, limits=limits)
    assert (learner.progress.rejected, learner.progress.adjusted) == (
        wanted.progress.rejected,
        wanted.progress.adjusted,
    )
    assert tuple(sum(one.values()) for one in (learner.progress.rejected, learner.progress.adjusted)) == counted
    assert close(learner.state, wanted.state, rtol=1e-6)


def test_a_round_is_one_refresh(tmp_path):
    found, (learner,) = train(tmp_path, lambda p: create(p, rows(500)), Train(NEWTON, MODELS))
    assert [one.window_end for one in found] == [None]
    assert learner.progress.rows == 500


def test_nothing_in_nothing_out(tmp_path):
    found, learner = train(tmp_path, lambda p: create(p, []), Train(NEWTON, MODELS, refresh="1d"))
    assert (found, learner) == ([], [])


def test_from_files_to_a_registry_and_on_from_there(tmp_path):
    features = Features(numeric=["a", "b"], label="y", time={"column": "t", "unit": "us"})
    spec = linear.Newton(n_features=2)
    rng = np.random.default_rng(3)
    for day in range(2):
        a, b = rng.normal(size=(2, 400))
        t = np.arange(400) * 1_000_000 + day * 400_000_000
        y = (a + rng.normal(size=400) > 0).astype(float)
        y[7] = np.nan
        a[9] = np.inf
        formats.write(str(tmp_path / f"{day}.parquet"), [pa.record_batch({"a": a, "b": b, "y": y, "t": t})])
    where = str(tmp_path / "registry")
    registry = Registry(where)
    step = Train(spec, MODELS, refresh="100s", features=features)
    found, (first,) = train(
        tmp_path / "1", lambda p: p | ReadParquet(str(tmp_path / "0.parquet")), step, publish=Publish(where, "job")
    )
    assert len(found) == 4
    assert dict(first.progress.rejected) == {"missing label": 1, "non-finite feature a": 1}
    manifest = registry.served("job")
    assert (manifest.number, manifest.verdict.accepted, manifest.champion) == (1, True, first.champion)
    assert len(manifest.refreshes) == 4
    model = decode_model(registry.read("job", 1, "models/plain"), find)
    assert Features.parse(model.facts["features"]) == features

    start = AnchorRef(where, "job", 1)
    step = Train(spec, MODELS, refresh="100s", features=features, start=start)
    found, (second,) = train(
        tmp_path / "2",
        lambda p: p | ReadParquet(str(tmp_path / "1.parquet")),
        step,
        publish=Publish(where, "job", start),
    )
    assert [one.number for one in found] == [5, 6, 7, 8]
    assert second.progress.rows == 2 * 398
    assert [(one.parent, one.epoch) for one in map(registry.manifest, ["job"] * 2, [1, 2])] == [(None, 1), (1, 2)]
    assert decode_learner(registry.read("job", 2), find).progress.rows == 2 * 398

    with pytest.raises(HeadMoved):
        train(
            tmp_path / "3",
            lambda p: p | ReadParquet(str(tmp_path / "1.parquet")),
            Train(spec, MODELS, refresh="100s", features=features, start=start),
            publish=Publish(where, "job", start),
        )
    assert registry.head_number("job") == 2


def test_named_features_are_put_into_the_order_of_the_start(tmp_path):
    where, names = str(tmp_path / "registry"), ("a", "b", "c")
    first, second = ([one.replace(names=names) for one in rows(400, source=source)] for source in ("s", "t"))
    turned = [one.ordered(("c", "a", "b")) for one in second]
    train(tmp_path / "1", lambda p: create(p, first), Train(NEWTON, MODELS), publish=Publish(where, "job"))
    assert decode_model(Registry(where).read("job", 1, "models/plain"), find).names == names
    step = Train(NEWTON, MODELS, start=AnchorRef(where, "job", 1))
    _, (straight,) = train(tmp_path / "2", lambda p: create(p, second), step)
    step = Train(NEWTON, MODELS, start=AnchorRef(where, "job", 1))
    _, (ordered,) = train(tmp_path / "3", lambda p: create(p, turned), step)
    assert ordered.names == names
    assert close(ordered.state, straight.state, rtol=1e-12)
    step = Train(NEWTON, MODELS, features=Features(numeric=["b", "a", "c"]), start=AnchorRef(where, "job", 1))
    with pytest.raises(
        InvalidValue, match=r"Train\.features\.numeric must be the features that job v1 learned, in their"
    ):
        create(beam.Pipeline(), second) | step
    with pytest.raises(Exception, match="features are the same in order"):
        train(tmp_path / "4", lambda p: create(p, [*first, *turned]), Train(NEWTON, MODELS))


def test_a_gated_model_is_stored_and_not_served(tmp_path):
    where = str(tmp_path / "registry")
    step = Train(NEWTON, MODELS, gate=("auc >= 0.99",))
    train(tmp_path, lambda p: create(p, rows(200)), step, publish=Publish(where, "job"))
    assert Registry(where).served("job") is None
    assert "auc" in Registry(where).manifest("job", 1).verdict.reasons[0]


def test_an_unbounded_input_is_refused():
    pipeline = beam.Pipeline(runner=RUNNERS["BundleBasedDirectRunner"]())
    stream = test_stream.TestStream(coder=beam.coders.VarIntCoder()).advance_watermark_to_infinity()
    made = pipeline | stream | beam.Map(lambda i: i).with_output_types(Batch)
    with pytest.raises(EngineRefused, match=r"need a bounded input; got the unbounded .* rounds"):
        made | Train(NEWTON)
    with pytest.raises(EngineRefused, match="need a bounded input"):
        made | SliceByWindow(Windows(None)) | Accumulate(NEWTON) | Merge(NEWTON)
    from apache_beam.transforms.periodicsequence import PeriodicImpulse

    pipeline = engine.new_pipeline(["--runner=DirectRunner"])
    with pytest.raises(EngineRefused, match="DirectRunner never emits"):
        pipeline | PeriodicImpulse() | Train(NEWTON)


def test_bad_settings_are_refused_where_they_are_given():
    with pytest.raises(InvalidValue, match=r"Train\.refresh must be a duration > 0.*got 'soon'"):
        Train(NEWTON, refresh="soon")
    with pytest.raises(InvalidValue, match="gate must be rules"):
        Train(NEWTON, gate=("better",))
    with pytest.raises(DeriveRefused, match="derives"):
        Train(NEWTON, {"m": pca.Components(n_components=1)})


def test_fit_and_train_agree_for_an_exact_law(tmp_path):
    spec = pca.Spec(n_features=3)
    _, (learner,) = train(tmp_path, lambda p: create(p, batches(600)), Train(spec, refresh="2m"))
    assert close(learner.state, api.fit(spec, batches(600)).state, rtol=1e-9)


def test_windows_that_go_into_one_version_are_none_of_them_too_stale(tmp_path):
    """Of the toy's anchors one version old may be folded; all five windows are grown from none."""
    step = Train(SgdSpec(n_features=3), {}, refresh="10m")
    found, (learner,) = train(tmp_path, lambda p: create(p, rows()), step)
    assert [one.progress.rejected for one in found] == [{}] * 5
    assert [one.behind for one in found] == [{0: 600}] * 5
    assert (learner.progress.rows, learner.refresh, learner.version) == (3000, 5, 1)
